//! From a pod to what CRI is told: sandbox and container configurations (kubelet sections 3.8, 4.3,
//! 4.4).
//!
//! Everything that is not in the pod is an argument: addresses, host paths of volumes, the image's
//! user, the node's facts. The caller makes the files and directories that are named here.

mod container;
mod sandbox;
mod security;

use std::{fmt, path::PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod};
use thiserror::Error;

use crate::{
    env::EnvError,
    hostname::{HostnameError, HostnameOverride},
    ids::pod_in_message,
    resources::ContainerResourceSettings,
};

pub use container::{
    ContainerInput, MountPath, MountSource, OwnMounts, container_config, stop_signal,
};
pub use sandbox::{SandboxInput, sandbox_config};
pub use security::ImageUser;

/// What a translation needs to know about the node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeFacts {
    /// Resource settings.
    pub resources: ContainerResourceSettings,
    /// `clusterDomain`.
    pub cluster_domain: String,
    /// Gate `HostnameOverride`.
    pub hostname_override: HostnameOverride,
    /// Whether a pod without seccomp profile gets the runtime's (`seccompDefault`).
    pub seccomp_default: bool,
    /// Root of Localhost seccomp profiles: `<root>/seccomp` (SPEC-47).
    pub seccomp_root: PathBuf,
    /// Paths masked by `procMount: Default` beside the fixed ones: `thermal_throttle` of each CPU
    /// that has it (SPEC-50).
    pub extra_masked_paths: Vec<String>,
    /// Root of pod logs.
    pub logs_directory: PathBuf,
    /// Whether the runtime can make mounts recursively read-only.
    pub recursive_read_only: bool,
    /// Whether the runtime can follow `supplementalGroupsPolicy: Strict`.
    pub supplemental_groups_policy: bool,
    /// Whether the machine runs SELinux; without it no label is to be changed (CRI-53).
    pub selinux: bool,
}

/// Whose container it is, as upstream's messages end: `(pod: "name_ns(uid)", container: name)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pod: String,
    container: String,
}

impl Subject {
    fn of(pod: &Pod, container: &Container) -> Self {
        Self {
            pod: pod_in_message(pod),
            container: container.name.clone(),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "(pod: {:?}, container: {})", self.pod, self.container)
    }
}

/// The pod cannot be told to the runtime: `CreateContainerConfigError`, or the sandbox's event.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TranslateError {
    /// The hostname cannot be.
    #[error(transparent)]
    Hostname(#[from] HostnameError),
    /// A variable has no value.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// `runAsNonRoot` and user 0 by the image (SPEC-41).
    #[error("container has runAsNonRoot and image will run as root {0}")]
    ImageRunsAsRoot(Subject),
    /// `runAsNonRoot` and a user name whose number only the image knows (SPEC-41).
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({0}), cannot verify user is \
         non-root {1}"
    )]
    ImageUserUnknown(String, Subject),
    /// `runAsNonRoot` and a number that no user has (SPEC-41).
    #[error(
        "container has runAsNonRoot and image has an invalid user id ({0}). (Must be 1-({max})): must be \
         between 0 and {max}, inclusive {1}",
        max = i32::MAX
    )]
    ImageUserInvalid(i64, Subject),
    /// `runAsNonRoot` and `runAsUser: 0` (SPEC-41).
    #[error("container's runAsUser breaks non-root policy {0}")]
    RunsAsRoot(Subject),
    /// `hostUsers: false`.
    #[error("can't set `spec.hostUsers: false`, runtime does not support user namespaces")]
    UserNamespaces,
    /// `recursiveReadOnly: Enabled` and a runtime that cannot.
    #[error(
        "failed to resolve recursive read-only mode: volume {0:?} requested recursive read-only mode, \
         but it is not supported by the runtime"
    )]
    RecursiveReadOnly(String),
    /// `supplementalGroupsPolicy: Strict` and a runtime that cannot.
    #[error("supplementalGroupsPolicy Strict is not supported by the runtime")]
    SupplementalGroupsPolicy,
    /// A seccomp profile without its file's name (SPEC-47).
    #[error("localhostProfile must be set if seccompProfile type is Localhost.")]
    SeccompProfile,
    /// A command that no message to the runtime can hold once its variables are in it.
    #[error(
        "command and args take more than {} bytes with their variables",
        crate::env::MAX_BYTES
    )]
    CommandTooLong,
    /// A field that is not acted on yet: refused by name rather than dropped.
    #[error("{0} is not supported yet")]
    NotSupported(String),
}

#[cfg(test)]
mod tests;
