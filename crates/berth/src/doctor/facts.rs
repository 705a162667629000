//! What the doctor knows about the machine. Plain data.

use std::{net::SocketAddr, path::PathBuf};

use kubelet_config::{CgroupDriver, Severity};
use node_os::proc::KernelVersion;

/// Everything that is judged.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// What the kubelet is told; else what is wrong with it.
    pub(crate) node: Result<Node, String>,
    /// Effective user id 0.
    pub(crate) is_root: bool,
    /// CAP_SYS_RESOURCE; `None` when it can't be told.
    pub(crate) sys_resource: Option<bool>,
    /// The kernel.
    pub(crate) kernel: Option<KernelVersion>,
    /// `None` on the host itself.
    pub(crate) container: Option<Container>,
    /// `None` when no Docker is wanted.
    pub(crate) docker: Option<Docker>,
    /// The cgroup file systems, or why they can't be told.
    pub(crate) cgroups: Result<Cgroups, String>,
    /// Swap devices in use.
    pub(crate) swaps: Vec<PathBuf>,
    /// `fs.inotify.max_user_instances` and `max_user_watches`.
    pub(crate) inotify: Option<(u64, u64)>,
    /// Other kubelets.
    pub(crate) kubelets: Vec<Kubelet>,
}

/// What the kubelet is told, as far as it matters here, and what was found where it points.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// What it will warn about itself.
    pub(crate) notes: Vec<(Severity, String)>,
    /// Refuse swap.
    pub(crate) fail_swap_on: bool,
    /// Refuse cgroup v1.
    pub(crate) fail_cgroup_v1: bool,
    /// Make cgroups for pods.
    pub(crate) pod_cgroups: bool,
    /// Who makes cgroups.
    pub(crate) cgroup_driver: CgroupDriver,
    /// A configuration file was given, so what is open was asked for.
    pub(crate) has_file: bool,
    /// The ports it will listen on.
    pub(crate) ports: Vec<Port>,
    /// Manifests.
    pub(crate) manifests: Manifests,
    /// Directories it writes to.
    pub(crate) directories: Vec<Directory>,
    /// Path of the CRI socket.
    pub(crate) cri_socket: PathBuf,
}

/// A port that the kubelet will listen on.
#[derive(Debug, Clone)]
pub(crate) struct Port {
    /// Where.
    pub(crate) address: SocketAddr,
    /// The configuration field, and the flag.
    pub(crate) field: &'static str,
    /// Who listens there now.
    pub(crate) holder: Option<Holder>,
}

/// A process, as far as it can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// `None` when its descriptors can't be seen (another pid namespace, no root).
    pub(crate) process: Option<(u32, String)>,
}

/// A kubelet that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kubelet {
    /// Its pid.
    pub(crate) pid: u32,
    /// Its program.
    pub(crate) program: String,
    /// Its root directory is ours.
    pub(crate) shares_root: bool,
}

/// Where we are when it isn't the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    /// Pids are the host's.
    pub(crate) host_pids: bool,
    /// Docker's directory, where it can't be seen from here.
    pub(crate) hidden_docker: Option<PathBuf>,
    /// Paths that must be volumes for Docker to see them, and are not.
    pub(crate) not_mounted: Vec<PathBuf>,
}

/// Docker Engine.
#[derive(Debug, Clone)]
pub(crate) struct Docker {
    /// As given.
    pub(crate) endpoint: String,
    /// What it answers.
    pub(crate) state: DockerState,
}

/// What Docker answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DockerState {
    /// No such socket.
    Absent,
    /// The socket is there and nobody listens.
    Dead,
    /// We may not connect.
    Denied,
    /// Something else is wrong.
    Broken(String),
    /// It lives.
    Alive {
        /// Its version.
        version: String,
        /// Its newest API.
        api: String,
        /// `cgroupfs` or `systemd`, when told.
        cgroup_driver: String,
        /// Where it keeps containers, when told.
        root_dir: PathBuf,
    },
}

/// The cgroup file systems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cgroups {
    /// Version 2.
    pub(crate) is_v2: bool,
    /// Controllers that a node needs and that are not there.
    pub(crate) missing: Vec<&'static str>,
    /// Mount points that can't be written to.
    pub(crate) read_only: Vec<PathBuf>,
}

/// What lies at `staticPodPath`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Manifests {
    /// None configured.
    None,
    /// It can't be read.
    Unreadable {
        /// The path.
        path: PathBuf,
        /// It does not exist.
        missing: bool,
        /// Why.
        why: String,
    },
    /// It was read.
    Read {
        /// The path.
        path: PathBuf,
        /// Manifests that may run.
        good: usize,
        /// Files that may not, with the first reason.
        refused: Vec<(String, String)>,
        /// Components of a control plane among them.
        control_plane: Vec<String>,
    },
}

/// A directory to write to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directory {
    /// What it is for: the flag or field.
    pub(crate) field: &'static str,
    /// The path.
    pub(crate) path: PathBuf,
    /// The file system can't be written to.
    pub(crate) read_only: bool,
    /// Something else than a directory is in its place.
    pub(crate) occupied: bool,
    /// Free and all bytes, when told.
    pub(crate) space: Option<(u64, u64)>,
    /// Free and all inodes, when told and limited.
    pub(crate) inodes: Option<(u64, u64)>,
}
