//! Reads the machine. Changes nothing; what can't be told is left out or said.

use std::{
    fs,
    io::ErrorKind,
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use daemon::ErrorChain;
use kubelet_config::{LogLine, Settings, Severity};
use node_os::{
    cgroups::{Hierarchies, Version},
    host_view::{Whereabouts, host_root, whereabouts},
    mountinfo::{self, MountInfo, mount_of},
    proc::{self, Capability, Proc},
    statfs,
};

use super::{
    facts::{Cgroups, Container, Directory, Docker, DockerState, Facts, Manifests, Node, Port},
    holders::Holders,
    sockets::{self, Listener},
};
use crate::{docker, manifests};

/// Inode of the first pid namespace's file (`PROC_PID_INIT_INO` of the kernel).
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;
/// Controllers that limits of pods are written to.
const CONTROLLERS: [&str; 2] = ["cpu", "memory"];

/// What the doctor was asked about.
#[derive(Debug)]
pub(super) struct Asked {
    /// The node, or why there is none.
    pub(super) settings: Result<Box<Settings>, String>,
    /// Docker's socket; empty for no Docker.
    pub(super) docker_endpoint: String,
    /// Directory of cri-dockerd.
    pub(super) cri_dockerd_root: PathBuf,
}

/// Everything there is to know.
pub(super) fn facts(asked: &Asked) -> Facts {
    let mounts = mountinfo::read_own().unwrap_or_default();
    let settings = asked.settings.as_deref();
    let root = settings
        .ok()
        .map(|settings| settings.paths.root_dir.as_path());
    let holders = Holders::sweep(root);
    let proc = Proc::new();
    let docker = (!asked.docker_endpoint.is_empty()).then(|| docker(&asked.docker_endpoint));
    Facts {
        node: settings
            .map(|settings| node(settings, &asked.cri_dockerd_root, &mounts, &holders))
            .map_err(Clone::clone),
        is_root: crate::tool::is_root(),
        sys_resource: proc
            .own_capabilities()
            .ok()
            .map(|capabilities| capabilities.has(Capability::SysResource)),
        kernel: proc::kernel_version(),
        container: container(&mounts, settings.ok(), docker.as_ref()),
        docker,
        cgroups: cgroups(&mounts),
        swaps: proc
            .swaps()
            .unwrap_or_default()
            .into_iter()
            .map(|swap| swap.path)
            .collect(),
        inotify: inotify(&proc),
        kubelets: holders.kubelets(),
    }
}

fn node(
    settings: &Settings,
    cri_dockerd_root: &Path,
    mounts: &[MountInfo],
    holders: &Holders,
) -> Node {
    let endpoint = &settings.runtime.endpoint;
    let listeners = listeners();
    let port = |address: Option<SocketAddr>, field| {
        address.map(|address| Port {
            address,
            field,
            holder: listeners
                .iter()
                .find(|listener| sockets::clash(address, listener.address))
                .map(|listener| holders.of_socket(listener.inode)),
        })
    };
    let ports = [
        port(settings.servers.health, "healthzPort"),
        port(settings.servers.read_only, "readOnlyPort"),
    ];
    let directories = [
        ("--root-dir", settings.paths.root_dir.as_path()),
        ("podLogsDir", &settings.paths.pod_logs_dir),
        ("--cri-dockerd-root-directory", cri_dockerd_root),
    ];
    Node {
        notes: settings.warnings().iter().map(note).collect(),
        fail_swap_on: settings.node.fail_swap_on,
        fail_cgroup_v1: settings.node.fail_cgroup_v1,
        pod_cgroups: settings.cgroups.per_qos,
        cgroup_driver: settings.cgroups.driver,
        // The legacy start says so itself (DEC-34).
        has_file: !settings
            .warnings()
            .iter()
            .any(|line| line.severity == Severity::Error),
        ports: ports.into_iter().flatten().collect(),
        manifests: manifests_at(settings),
        directories: directories
            .into_iter()
            .map(|(field, path)| directory(field, path, mounts))
            .collect(),
        cri_socket: endpoint.strip_prefix("unix://").unwrap_or(endpoint).into(),
    }
}

/// A line of the log as a sentence: `message (name: value, ...)`.
fn note(line: &LogLine) -> (Severity, String) {
    let fields: Vec<String> = line
        .fields
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    let text = if fields.is_empty() {
        line.message.clone()
    } else {
        format!("{} ({})", line.message, fields.join(", "))
    };
    (line.severity, text)
}

fn listeners() -> Vec<Listener> {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| sockets::listeners(&table))
        .collect()
}

fn manifests_at(settings: &Settings) -> Manifests {
    let Some(path) = settings.sources.static_pod_path.clone() else {
        return if settings.sources.static_pod_url.is_some() {
            Manifests::Read {
                path: "staticPodURL".into(),
                good: 0,
                refused: Vec::new(),
                control_plane: Vec::new(),
            }
        } else {
            Manifests::None
        };
    };
    let files = match manifests::files(&path) {
        Ok(files) => files,
        Err(error) => {
            let missing = error.kind() == ErrorKind::NotFound;
            return Manifests::Unreadable {
                path,
                missing,
                why: error.to_string(),
            };
        }
    };
    let name = settings.node_name(&proc::hostname()).unwrap_or_default();
    let (mut good, mut refused, mut control_plane) = (0, Vec::new(), Vec::new());
    for file in files {
        match manifests::load(&file, &name) {
            Ok(loaded) => {
                good += 1;
                let labels = loaded.pod.metadata.labels.unwrap_or_default();
                if labels
                    .get("tier")
                    .is_some_and(|tier| tier == "control-plane")
                {
                    control_plane.extend(labels.get("component").cloned());
                }
            }
            Err(error) => {
                let why = error.lines().into_iter().next().unwrap_or_default();
                refused.push((file.display().to_string(), why));
            }
        }
    }
    Manifests::Read {
        path,
        good,
        refused,
        control_plane,
    }
}

fn directory(field: &'static str, path: &Path, mounts: &[MountInfo]) -> Directory {
    // What does not exist yet is made where its nearest parent is.
    let existing = path
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    let real = fs::canonicalize(existing).unwrap_or_else(|_| existing.to_owned());
    let usage = statfs::usage(&real).ok();
    Directory {
        field,
        path: path.to_owned(),
        read_only: mount_of(mounts, &real).is_some_and(is_read_only),
        occupied: !real.is_dir(),
        space: usage
            .as_ref()
            .map(|usage| (usage.available_bytes, usage.capacity_bytes)),
        inodes: usage
            .filter(|usage| usage.inodes > 0)
            .map(|usage| (usage.inodes_free, usage.inodes)),
    }
}

fn is_read_only(mount: &MountInfo) -> bool {
    mount
        .options
        .iter()
        .chain(&mount.super_options)
        .any(|option| option == "ro")
}

fn container(
    mounts: &[MountInfo],
    settings: Option<&Settings>,
    docker: Option<&Docker>,
) -> Option<Container> {
    if whereabouts(mounts) == Whereabouts::Host {
        return None;
    }
    let host_pids = fs::metadata("/proc/self/ns/pid")
        .is_ok_and(|metadata| metadata.ino() == FIRST_PID_NAMESPACE);
    let on_own_root = |path: &Path| {
        mount_of(mounts, path).is_none_or(|mount| mount.mount_point == Path::new("/"))
    };
    let paths = settings.map(|settings| {
        [
            settings.paths.root_dir.clone(),
            settings.paths.pod_logs_dir.clone(),
        ]
    });
    let not_mounted = paths
        .into_iter()
        .flatten()
        .filter(|path| on_own_root(path))
        .collect();
    // What is not mounted here is seen through the host's first process (DEC-13).
    let host = host_root();
    let is_seen = |path: &Path| {
        let on_host = host.as_ref().zip(path.strip_prefix("/").ok());
        path.is_dir() || on_host.is_some_and(|(host, rest)| host.join(rest).is_dir())
    };
    let hidden_docker = match docker.map(|docker| &docker.state) {
        Some(DockerState::Alive { root_dir, .. }) if root_dir.is_absolute() => {
            (!is_seen(&root_dir.join("containers"))).then(|| root_dir.clone())
        }
        _ => None,
    };
    Some(Container {
        host_pids,
        hidden_docker,
        not_mounted,
    })
}

fn docker(endpoint: &str) -> Docker {
    Docker {
        endpoint: endpoint.to_owned(),
        state: docker_state(endpoint),
    }
}

fn docker_state(endpoint: &str) -> DockerState {
    let asked = docker::Docker::at(endpoint).and_then(|docker| {
        docker.ping()?;
        Ok((docker.version()?, docker.info().unwrap_or_default()))
    });
    match asked {
        Ok((version, info)) => DockerState::Alive {
            version: version.version,
            api: version.api_version,
            cgroup_driver: info.cgroup_driver,
            root_dir: info.docker_root_dir.into(),
        },
        Err(error) => match error.connect_error().map(std::io::Error::kind) {
            Some(ErrorKind::NotFound) => DockerState::Absent,
            Some(ErrorKind::ConnectionRefused) => DockerState::Dead,
            Some(ErrorKind::PermissionDenied) => DockerState::Denied,
            _ => DockerState::Broken(ErrorChain(&error).to_string()),
        },
    }
}

fn cgroups(mounts: &[MountInfo]) -> Result<Cgroups, String> {
    let hierarchies =
        Hierarchies::detect(mounts).map_err(|error| ErrorChain(&error).to_string())?;
    let is_v2 = hierarchies.version() == Version::V2;
    let listed = |root: &Path, name: &str| {
        let file = root.join("cgroup.controllers");
        fs::read_to_string(file).is_ok_and(|text| text.split_whitespace().any(|word| word == name))
    };
    let is_there = |name: &str| {
        hierarchies
            .controller(name)
            .is_some_and(|root| !is_v2 || listed(root, name))
    };
    let missing = CONTROLLERS
        .into_iter()
        .filter(|name| !is_there(name))
        .collect();
    let mut read_only: Vec<PathBuf> = CONTROLLERS
        .into_iter()
        .filter_map(|name| mount_of(mounts, hierarchies.controller(name)?))
        .filter(|mount| is_read_only(mount))
        .map(|mount| mount.mount_point.clone())
        .collect();
    read_only.dedup();
    Ok(Cgroups {
        is_v2,
        missing,
        read_only,
    })
}

fn inotify(proc: &Proc) -> Option<(u64, u64)> {
    let number = |name: &str| proc.sysctl(name).ok()?.parse().ok();
    Some((
        number("fs.inotify.max_user_instances")?,
        number("fs.inotify.max_user_watches")?,
    ))
}
