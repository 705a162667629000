//! What the runtime has, as the decisions read it: built from CRI messages and nothing else, so
//! that a restarted kubelet knows what the old one knew (TOP-08, CRI-05).
//!
//! The conversions are tolerant: times that were never set arrive as 0 (containerd) or as far
//! negative numbers (upstream cri-dockerd writes Go's zero time), `image_id`, `user`, `resources`
//! and the sandbox's namespaces are absent in older runtimes. What the kubelet cannot do without
//! (CRI-02) is an [`ObserveError`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use cri_api::v1;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerPort, LifecycleHandler};
use thiserror::Error;

use crate::ids::{ContainerId, ContainerName, PodKey, PodUid, SandboxId};

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

    fn from_cri(state: i32) -> Self {
        match v1::ContainerState::try_from(state) {
            Ok(v1::ContainerState::ContainerCreated) => Self::Created,
            Ok(v1::ContainerState::ContainerRunning) => Self::Running,
            Ok(v1::ContainerState::ContainerExited) => Self::Exited,
            Ok(v1::ContainerState::ContainerUnknown) | Err(_) => Self::Unknown,
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
    /// When it was started, unless only created.
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
    pub fn new(
        uid: PodUid,
        mut sandboxes: Vec<ObservedSandbox>,
        mut containers: Vec<ObservedContainer>,
    ) -> Self {
        containers.retain(|container| container.pod_uid == uid);
        // Times of equal second are told apart by what only grows, then by id for determinism.
        sandboxes.sort_by(|a, b| {
            (b.created_at, b.attempt, &b.id).cmp(&(a.created_at, a.attempt, &a.id))
        });
        containers.sort_by(|a, b| {
            (b.created_at, b.restart_count, &b.id).cmp(&(a.created_at, a.restart_count, &a.id))
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

/// Nanoseconds of the epoch as a time; `None` for 0 and for what lies before 1970.
pub fn time_from_nanos(nanos: i64) -> Option<Timestamp> {
    (nanos > 0)
        .then(|| Timestamp::from_nanosecond(i128::from(nanos)).ok())
        .flatten()
}

/// The pod that labels name; `None` for sandboxes and containers that are not a pod's (CRI-05).
pub fn pod_of_labels(labels: &BTreeMap<String, String>) -> Option<(PodUid, PodKey)> {
    let uid = labels.get(LABEL_POD_UID).filter(|uid| !uid.is_empty())?;
    let text = |key: &str| labels.get(key).cloned().unwrap_or_default();
    let key = PodKey::new(text(LABEL_POD_NAMESPACE), text(LABEL_POD_NAME));
    Some((PodUid::from(uid.as_str()), key))
}

/// A sandbox from `PodSandboxStatus`.
///
/// # Errors
/// Without id or metadata.
pub fn sandbox_from_status(status: &v1::PodSandboxStatus) -> Result<ObservedSandbox, ObserveError> {
    let mut sandbox = sandbox(
        &status.id,
        status.metadata.as_ref(),
        status.state,
        status.created_at,
        &status.runtime_handler,
    )?;
    sandbox.network_mode = status
        .linux
        .as_ref()
        .and_then(|linux| linux.namespaces.as_ref())
        .and_then(|namespaces| namespaces.options.as_ref())
        .map(|options| {
            if options.network == v1::NamespaceMode::Node as i32 {
                NetworkMode::Node
            } else {
                NetworkMode::Pod
            }
        });
    sandbox.ips = status.network.as_ref().map(ips);
    Ok(sandbox)
}

/// A sandbox from `ListPodSandbox`: without network, which only the status tells.
///
/// # Errors
/// Without id or metadata.
pub fn sandbox_from_item(item: &v1::PodSandbox) -> Result<ObservedSandbox, ObserveError> {
    sandbox(
        &item.id,
        item.metadata.as_ref(),
        item.state,
        item.created_at,
        &item.runtime_handler,
    )
}

fn sandbox(
    id: &str,
    metadata: Option<&v1::PodSandboxMetadata>,
    state: i32,
    created_at: i64,
    runtime_handler: &str,
) -> Result<ObservedSandbox, ObserveError> {
    if id.is_empty() {
        return Err(ObserveError::SandboxWithoutId);
    }
    let metadata = metadata.ok_or_else(|| ObserveError::NoMetadata { id: id.to_owned() })?;
    Ok(ObservedSandbox {
        id: SandboxId::from(id),
        attempt: metadata.attempt,
        state: if state == v1::PodSandboxState::SandboxReady as i32 {
            SandboxState::Ready
        } else {
            SandboxState::NotReady
        },
        created_at: time_from_nanos(created_at),
        network_mode: None,
        ips: None,
        runtime_handler: runtime_handler.to_owned(),
    })
}

/// The addresses of a sandbox; none at all if any of them is not an address, as upstream does.
fn ips(network: &v1::PodSandboxNetworkStatus) -> Vec<IpAddr> {
    let additional = network.additional_ips.iter().map(|ip| ip.ip.as_str());
    std::iter::once(network.ip.as_str())
        .filter(|ip| !ip.is_empty())
        .chain(additional)
        .map(str::parse::<IpAddr>)
        .collect::<Result<_, _>>()
        .unwrap_or_default()
}

/// A container from `ContainerStatus`; the sandbox's id comes from the list item.
///
/// # Errors
/// Without id or metadata.
pub fn container_from_status(
    status: &v1::ContainerStatus,
    sandbox_id: Option<SandboxId>,
) -> Result<ObservedContainer, ObserveError> {
    let state = ContainerState::from_cri(status.state);
    let mut container = container(
        &status.id,
        status.metadata.as_ref(),
        state,
        status.created_at,
        &status.labels,
        &status.annotations,
    )?;
    container.sandbox_id = sandbox_id;
    container.image = status
        .image
        .as_ref()
        .map(|image| image.image.clone())
        .unwrap_or_default();
    container.image_ref.clone_from(&status.image_ref);
    container.image_id = image_id(&status.image_id, &status.image_ref);
    container.log_path.clone_from(&status.log_path);
    if state != ContainerState::Created {
        container.started_at = time_from_nanos(status.started_at);
    }
    if state == ContainerState::Exited {
        container.finished_at = time_from_nanos(status.finished_at);
        container.exit_code = status.exit_code;
        container.reason.clone_from(&status.reason);
        container.message.clone_from(&status.message);
    }
    container.termination_message_host_path = status
        .mounts
        .iter()
        .find(|mount| {
            !container.termination_message_path.is_empty()
                && mount.container_path == container.termination_message_path
        })
        .map(|mount| mount.host_path.clone());
    container.user = status
        .user
        .as_ref()
        .and_then(|user| user.linux.as_ref())
        .map(|linux| ObservedUser {
            uid: linux.uid,
            gid: linux.gid,
            supplemental_groups: linux.supplemental_groups.clone(),
        });
    container.resources = status
        .resources
        .as_ref()
        .and_then(|resources| resources.linux.as_ref())
        .map(resources);
    Ok(container)
}

/// A container from `ListContainers`: enough to see states and to stop it, without times, exit
/// code and paths.
///
/// # Errors
/// Without id or metadata.
pub fn container_from_item(item: &v1::Container) -> Result<ObservedContainer, ObserveError> {
    let mut container = container(
        &item.id,
        item.metadata.as_ref(),
        ContainerState::from_cri(item.state),
        item.created_at,
        &item.labels,
        &item.annotations,
    )?;
    if !item.pod_sandbox_id.is_empty() {
        container.sandbox_id = Some(SandboxId::from(item.pod_sandbox_id.as_str()));
    }
    container.image = item
        .image
        .as_ref()
        .map(|image| image.image.clone())
        .unwrap_or_default();
    container.image_ref.clone_from(&item.image_ref);
    container.image_id = image_id(&item.image_id, &item.image_ref);
    Ok(container)
}

fn container(
    id: &str,
    metadata: Option<&v1::ContainerMetadata>,
    state: ContainerState,
    created_at: i64,
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
) -> Result<ObservedContainer, ObserveError> {
    if id.is_empty() {
        return Err(ObserveError::ContainerWithoutId);
    }
    let metadata = metadata.ok_or_else(|| ObserveError::NoMetadata { id: id.to_owned() })?;
    let text = |key: &str| annotations.get(key).cloned().unwrap_or_default();
    let number = |key: &str| {
        annotations
            .get(key)
            .and_then(|text| text.parse::<i64>().ok())
    };
    let name = labels.get(LABEL_CONTAINER_NAME).unwrap_or(&metadata.name);
    Ok(ObservedContainer {
        id: ContainerId::from(id),
        sandbox_id: None,
        pod_uid: PodUid::new(labels.get(LABEL_POD_UID).cloned().unwrap_or_default()),
        name: ContainerName::from(name.as_str()),
        restart_count: annotations
            .get(ANNOTATION_RESTART_COUNT)
            .and_then(|text| text.parse().ok())
            .unwrap_or(metadata.attempt),
        hash: annotations
            .get(ANNOTATION_HASH)
            .and_then(|text| u64::from_str_radix(text, 16).ok())
            .unwrap_or(0),
        state,
        created_at: time_from_nanos(created_at),
        started_at: None,
        finished_at: None,
        exit_code: 0,
        reason: String::new(),
        message: String::new(),
        image: String::new(),
        image_ref: String::new(),
        image_id: String::new(),
        log_path: String::new(),
        termination_message_path: text(ANNOTATION_MESSAGE_PATH),
        termination_message_policy: text(ANNOTATION_MESSAGE_POLICY),
        termination_message_host_path: None,
        grace_seconds: number(ANNOTATION_GRACE),
        deletion_grace_seconds: number(ANNOTATION_DELETION_GRACE),
        pre_stop: annotations
            .get(ANNOTATION_PRE_STOP)
            .and_then(|json| serde_json::from_str(json).ok()),
        ports: annotations
            .get(ANNOTATION_PORTS)
            .and_then(|json| serde_json::from_str(json).ok())
            .unwrap_or_default(),
        user: None,
        resources: None,
    })
}

/// Runtimes before CRI 1.30 only know the reference.
fn image_id(image_id: &str, image_ref: &str) -> String {
    if image_id.is_empty() {
        image_ref.to_owned()
    } else {
        image_id.to_owned()
    }
}

/// Quota, shares and limit of the runtime, as numbers of the API; what is unset stays `None`.
fn resources(linux: &v1::LinuxContainerResources) -> ObservedResources {
    let positive = |number: i64| (number > 0).then_some(number);
    ObservedResources {
        cpu_limit_millicores: positive(linux.cpu_period)
            .and_then(|period| positive(linux.cpu_quota.saturating_mul(1000) / period)),
        // Rounded up: the way from millicores to shares rounded down.
        cpu_request_millicores: positive(linux.cpu_shares)
            .map(|shares| shares.saturating_mul(1000).saturating_add(1023) / 1024),
        memory_limit_bytes: positive(linux.memory_limit_in_bytes),
    }
}

/// One pod as the runtime's lists show it, known to us or not.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RuntimePod {
    /// Namespace and name, by its labels.
    pub key: PodKey,
    /// Its sandboxes and containers, as far as the lists tell.
    pub observed: ObservedPod,
}

/// Groups the answers of `ListPodSandbox` and `ListContainers` by pod (LIFE-21, CRI-05). Items
/// without a pod's labels are not the kubelet's and are left out; malformed ones are returned.
pub fn group_by_pod(
    sandboxes: &[v1::PodSandbox],
    containers: &[v1::Container],
) -> (BTreeMap<PodUid, RuntimePod>, Vec<ObserveError>) {
    type Parts = (PodKey, Vec<ObservedSandbox>, Vec<ObservedContainer>);
    let mut pods: BTreeMap<PodUid, Parts> = BTreeMap::new();
    let mut errors = Vec::new();
    for item in sandboxes {
        let Some((uid, key)) = pod_of_labels(&item.labels) else {
            continue;
        };
        match sandbox_from_item(item) {
            Ok(sandbox) => {
                let pod = pods.entry(uid).or_default();
                pod.0 = key;
                pod.1.push(sandbox);
            }
            Err(error) => errors.push(error),
        }
    }
    for item in containers {
        let Some((uid, key)) = pod_of_labels(&item.labels) else {
            continue;
        };
        match container_from_item(item) {
            Ok(container) => {
                let pod = pods.entry(uid).or_default();
                pod.0 = key;
                pod.2.push(container);
            }
            Err(error) => errors.push(error),
        }
    }
    let pods = pods
        .into_iter()
        .map(|(uid, (key, sandboxes, containers))| {
            let observed = ObservedPod::new(uid.clone(), sandboxes, containers);
            (uid, RuntimePod { key, observed })
        })
        .collect();
    (pods, errors)
}

#[cfg(test)]
mod tests;
