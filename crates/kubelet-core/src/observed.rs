//! What the runtime has, as the decisions read it: built from CRI messages and nothing else, so
//! that a restarted kubelet knows what the old one knew (TOP-08, CRI-05).

mod from_cri;

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerPort, LifecycleHandler};
use thiserror::Error;

use crate::ids::{ContainerId, ContainerName, PodUid, SandboxId};

pub use from_cri::{
    RuntimePod, container_from_item, container_from_status, group_by_pod, pod_of_labels,
    sandbox_from_item, sandbox_from_status, time_from_nanos,
};

/// Label with the pod's name (CRI-35).
pub const LABEL_POD_NAME: &str = "io.kubernetes.pod.name";
/// Label with the pod's namespace (CRI-35).
pub const LABEL_POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Label with the pod's uid (CRI-35).
pub const LABEL_POD_UID: &str = "io.kubernetes.pod.uid";
/// Label with the container's name (CRI-55).
pub const LABEL_CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Annotation with the container's hash (CTR-20).
pub const ANNOTATION_HASH: &str = "io.kubernetes.container.hash";
/// Annotation with the restart count (CRI-56).
pub const ANNOTATION_RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
/// Annotation with `terminationMessagePath` (CRI-56).
pub const ANNOTATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
/// Annotation with `terminationMessagePolicy` (CRI-56).
pub const ANNOTATION_MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// Annotation with the pod's grace period in seconds (CRI-56).
pub const ANNOTATION_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
/// Annotation with the deletion's grace period in seconds (CRI-56).
pub const ANNOTATION_DELETION_GRACE: &str = "io.kubernetes.pod.deletionGracePeriod";
/// Annotation with the `preStop` handler as JSON (CTR-43).
pub const ANNOTATION_PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
/// Annotation with the container's ports as JSON (CRI-56).
pub const ANNOTATION_PORTS: &str = "io.kubernetes.container.ports";

/// A message of the runtime that misses what the kubelet needs (CRI-02).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ObserveError {
    /// A sandbox without id.
    #[error("the runtime reported a pod sandbox without id")]
    SandboxWithoutId,
    /// A container without id.
    #[error("the runtime reported a container without id")]
    ContainerWithoutId,
    /// The reply carries no status.
    #[error("the runtime's answer carries no status")]
    NoStatus,
    /// The metadata with name and attempt is missing.
    #[error("pod sandbox or container {id} has no metadata")]
    NoMetadata {
        /// The id of the sandbox or container.
        id: String,
    },
}

/// State of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxState {
    /// Its processes and network stand.
    Ready,
    /// Stopped or broken.
    NotReady,
}

/// Whose network a sandbox uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkMode {
    /// Its own.
    Pod,
    /// The node's.
    Node,
}

/// One sandbox of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedSandbox {
    /// The runtime's id.
    pub id: SandboxId,
    /// 0 for the first, one more for each re-creation (CRI-30).
    pub attempt: u32,
    /// Its state.
    pub state: SandboxState,
    /// When it was created; `None` when the runtime does not say.
    pub created_at: Option<Timestamp>,
    /// Its network; `None` when the runtime does not say.
    pub network_mode: Option<NetworkMode>,
    /// The addresses, primary first. `None` when the runtime reports no network at all, which is
    /// not the same as a network without address (CTR-03).
    pub ips: Option<Vec<IpAddr>>,
    /// The runtime handler it runs under.
    pub runtime_handler: String,
}

/// State of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    /// Created, never started.
    Created,
    /// Running.
    Running,
    /// Ended.
    Exited,
    /// The runtime can't tell.
    Unknown,
}

impl ContainerState {
    /// The word upstream uses in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Exited => "exited",
            Self::Unknown => "unknown",
        }
    }
}

/// User of a container's first process, where the runtime reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedUser {
    /// User id.
    pub uid: i64,
    /// Group id.
    pub gid: i64,
    /// Supplemental groups.
    pub supplemental_groups: Vec<i64>,
}

/// Limits that the runtime reports for a running container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ObservedResources {
    /// CPU limit in thousandths of a core.
    pub cpu_limit_millicores: Option<i64>,
    /// CPU request in thousandths of a core.
    pub cpu_request_millicores: Option<i64>,
    /// Memory limit in bytes.
    pub memory_limit_bytes: Option<i64>,
}

/// One container of a pod, running or not.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedContainer {
    /// The runtime's id.
    pub id: ContainerId,
    /// The sandbox it lives in; only list items tell.
    pub sandbox_id: Option<SandboxId>,
    /// The pod it belongs to, by its label.
    pub pod_uid: PodUid,
    /// Its name, by its label, else by its metadata.
    pub name: ContainerName,
    /// How often its name was restarted before it: annotation, else `metadata.attempt`.
    pub restart_count: u32,
    /// The hash it was made with (CTR-20); 0 when not recorded.
    pub hash: u64,
    /// Its state.
    pub state: ContainerState,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// When it was started, as the runtime says it, unless only created.
    pub started_at: Option<Timestamp>,
    /// When it ended, when ended.
    pub finished_at: Option<Timestamp>,
    /// The exit code; 0 unless ended.
    pub exit_code: i32,
    /// The runtime's reason for the end.
    pub reason: String,
    /// The runtime's message about the end; [`crate::termination`] adds the container's own.
    pub message: String,
    /// The image as the runtime names it.
    pub image: String,
    /// Digest or id of the image (`imageID` in the API).
    pub image_ref: String,
    /// Id of the image: `image_id`, or the reference in runtimes before CRI 1.30.
    pub image_id: String,
    /// Absolute path of the log file; empty when unknown.
    pub log_path: String,
    /// `terminationMessagePath` it was made with.
    pub termination_message_path: String,
    /// `terminationMessagePolicy` it was made with.
    pub termination_message_policy: String,
    /// Where the runtime mounts from the file at `termination_message_path`, as it reports it.
    pub termination_message_host_path: Option<String>,
    /// Pod grace period in seconds it was made with.
    pub grace_seconds: Option<i64>,
    /// Deletion grace period in seconds it was made with.
    pub deletion_grace_seconds: Option<i64>,
    /// The `preStop` it was made with (CTR-43).
    pub pre_stop: Option<LifecycleHandler>,
    /// The ports it was made with; named ports in `preStop` refer to them.
    pub ports: Vec<ContainerPort>,
    /// Its user, where known.
    pub user: Option<ObservedUser>,
    /// Its limits, where known.
    pub resources: Option<ObservedResources>,
    /// The signal that ends it, by the API's name, where the runtime tells.
    pub stop_signal: Option<String>,
}

/// All that the runtime has of one pod. Made by [`ObservedPod::new`], which orders the parts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ObservedPod {
    /// The pod's uid.
    pub uid: PodUid,
    /// The sandboxes, newest first.
    pub sandboxes: Vec<ObservedSandbox>,
    /// The containers, newest first.
    pub containers: Vec<ObservedContainer>,
}

impl ObservedPod {
    /// Orders sandboxes and containers newest first. Containers of other pods are left out, so
    /// that nothing done from here on can touch them.
    ///
    /// Differs: the newest is the one with the highest attempt; upstream goes by the time of creation,
    /// and after its clock was set back takes the older container for the newest.
    pub fn new(
        uid: PodUid,
        mut sandboxes: Vec<ObservedSandbox>,
        mut containers: Vec<ObservedContainer>,
    ) -> Self {
        containers.retain(|container| container.pod_uid == uid);
        // By what only grows: the clock that dates them may have been set back between two of them.
        sandboxes.sort_by(|a, b| {
            (b.attempt, b.created_at, &b.id).cmp(&(a.attempt, a.created_at, &a.id))
        });
        containers.sort_by(|a, b| {
            (b.restart_count, b.created_at, &b.id).cmp(&(a.restart_count, a.created_at, &a.id))
        });
        Self {
            uid,
            sandboxes,
            containers,
        }
    }

    /// The newest container of that name.
    pub fn latest(&self, name: &str) -> Option<&ObservedContainer> {
        self.containers
            .iter()
            .find(|container| container.name.as_str() == name)
    }

    /// The newest container of that name that has ended.
    pub fn latest_exited(&self, name: &str) -> Option<&ObservedContainer> {
        self.containers.iter().find(|container| {
            container.name.as_str() == name && container.state == ContainerState::Exited
        })
    }

    /// When the newest ended container of that name ended, as far as the runtime knows: one that lost that time
    /// does not save the next start from waiting.
    pub fn latest_end(&self, name: &str) -> Option<Timestamp> {
        let exited = self.latest_exited(name)?;
        let times = [exited.finished_at, exited.started_at, exited.created_at];
        let mut known = times.into_iter().flatten();
        known.find(|time| *time > Timestamp::UNIX_EPOCH)
    }

    /// The newest sandbox, if it is ready.
    pub fn active_sandbox(&self) -> Option<&ObservedSandbox> {
        self.sandboxes
            .first()
            .filter(|sandbox| sandbox.state == SandboxState::Ready)
    }

    /// Addresses of the active sandbox, primary first (STAT-20).
    pub fn ips(&self) -> &[IpAddr] {
        self.active_sandbox()
            .and_then(|sandbox| sandbox.ips.as_deref())
            .unwrap_or(&[])
    }

    /// Whether a process of the pod may still run: a container that runs or is of unknown state,
    /// or a ready sandbox. Volumes and cgroups wait for this to be false (LIFE-33, LIFE-34).
    ///
    /// Differs (CTR-11): upstream takes a container of unknown state for one that has ended.
    pub fn may_be_running(&self) -> bool {
        self.has_live_containers()
            || self
                .sandboxes
                .iter()
                .any(|sandbox| sandbox.state == SandboxState::Ready)
    }

    /// Whether a container runs or is of unknown state.
    pub fn has_live_containers(&self) -> bool {
        self.containers.iter().any(ObservedContainer::is_live)
    }
}

impl ObservedContainer {
    /// Running, or perhaps running.
    pub fn is_live(&self) -> bool {
        matches!(
            self.state,
            ContainerState::Running | ContainerState::Unknown
        )
    }
}

#[cfg(test)]
mod tests;
