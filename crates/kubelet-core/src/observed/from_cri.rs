//! From CRI messages to what the decisions read.
//!
//! Tolerant: times that were never set arrive as 0 (containerd) or as far negative numbers (upstream
//! cri-dockerd writes Go's zero time), `image_id`, `user`, `resources` and the sandbox's namespaces
//! are absent in older runtimes. What the kubelet cannot do without (CRI-02) is an [`ObserveError`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use cri_api::v1;
use jiff::Timestamp;

use super::{
    ANNOTATION_DELETION_GRACE, ANNOTATION_GRACE, ANNOTATION_HASH, ANNOTATION_MESSAGE_PATH,
    ANNOTATION_MESSAGE_POLICY, ANNOTATION_PORTS, ANNOTATION_PRE_STOP, ANNOTATION_RESTART_COUNT,
    ContainerState, LABEL_CONTAINER_NAME, LABEL_POD_NAME, LABEL_POD_NAMESPACE, LABEL_POD_UID,
    NetworkMode, ObserveError, ObservedContainer, ObservedPod, ObservedResources, ObservedSandbox,
    ObservedUser, SandboxState,
};
use crate::{
    ids::{ContainerId, ContainerName, PodKey, PodUid, SandboxId},
    spec,
};

/// Nanoseconds of the epoch as a time; `None` for 0 and for what lies before 1970.
pub fn time_from_nanos(nanos: i64) -> Option<Timestamp> {
    (nanos > 0)
        .then(|| Timestamp::from_nanosecond(i128::from(nanos)).ok())
        .flatten()
}

/// Nanoseconds of the epoch as a time, whatever they are: 0 and Go's zero time are shown as upstream shows them
/// (Kubernetes kubelet, `toKubeContainerStatus`).
fn time_as_told(nanos: i64) -> Option<Timestamp> {
    Timestamp::from_nanosecond(i128::from(nanos)).ok()
}

/// The pod that labels name; `None` for sandboxes and containers that are not a pod's (CRI-05).
pub fn pod_of_labels(labels: &BTreeMap<String, String>) -> Option<(PodUid, PodKey)> {
    let uid = labels.get(LABEL_POD_UID).filter(|uid| !uid.is_empty())?;
    let text = |key: &str| labels.get(key).cloned().unwrap_or_default();
    let key = PodKey::new(text(LABEL_POD_NAMESPACE), text(LABEL_POD_NAME));
    Some((PodUid::from(uid.as_str()), key))
}

impl ContainerState {
    fn from_cri(state: i32) -> Self {
        match v1::ContainerState::try_from(state) {
            Ok(v1::ContainerState::ContainerCreated) => Self::Created,
            Ok(v1::ContainerState::ContainerRunning) => Self::Running,
            Ok(v1::ContainerState::ContainerExited) => Self::Exited,
            Ok(v1::ContainerState::ContainerUnknown) | Err(_) => Self::Unknown,
        }
    }
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
        container.started_at = time_as_told(status.started_at);
    }
    if state == ContainerState::Exited {
        container.finished_at = time_as_told(status.finished_at);
        container.exit_code = status.exit_code;
        container.reason.clone_from(&status.reason);
        container.message.clone_from(&status.message);
    }
    let message_path = spec::absolute_path(&container.termination_message_path);
    container.termination_message_host_path = status
        .mounts
        .iter()
        .find(|mount| {
            !container.termination_message_path.is_empty() && mount.container_path == message_path
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
    container.stop_signal = stop_signal(status.stop_signal());
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
        stop_signal: None,
    })
}

/// `SIGRTMINPLUS1` of the CRI is `SIGRTMIN+1` of the API (CTR-46).
fn stop_signal(signal: v1::Signal) -> Option<String> {
    let name = signal.as_str_name();
    let name = name.replace("PLUS", "+").replace("MINUS", "-");
    (signal != v1::Signal::RuntimeDefault).then_some(name)
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
