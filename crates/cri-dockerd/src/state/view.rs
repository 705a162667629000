//! Records as the CRI shows them.

use std::sync::Arc;

use cri_api::v1::{self, ContainerState, PodSandboxState};

use super::{Life, Record};
use crate::labels;

/// Digits of Docker's ids.
pub(crate) const WHOLE_ID: usize = 64;

/// The handler that the CRI knows for Docker's runtime. The default one is the empty handler.
fn container_state(life: &Life) -> ContainerState {
    match life {
        Life::Created => ContainerState::ContainerCreated,
        Life::Running { .. } => ContainerState::ContainerRunning,
        Life::Exited { .. } => ContainerState::ContainerExited,
    }
}

fn sandbox_state(life: &Life) -> PodSandboxState {
    if life.is_running() {
        PodSandboxState::SandboxReady
    } else {
        PodSandboxState::SandboxNotready
    }
}

fn image_spec(image: &str) -> v1::ImageSpec {
    v1::ImageSpec {
        image: image.to_owned(),
        ..v1::ImageSpec::default()
    }
}

/// The filter of ListContainers takes this record. Ids match by prefix, as Docker's filter does.
pub(crate) fn matches_container(record: &Record, filter: Option<&v1::ContainerFilter>) -> bool {
    let Some(facts) = record.container() else {
        return false;
    };
    let Some(filter) = filter else {
        return true;
    };
    let state = i32::from(container_state(&record.life));
    record.id.starts_with(&filter.id)
        && filter
            .state
            .as_ref()
            .is_none_or(|wanted| wanted.state == state)
        && (filter.pod_sandbox_id.is_empty() || filter.pod_sandbox_id == facts.sandbox_id)
        && labels::matches(&filter.label_selector, &record.labels)
}

/// The id of the pod that all of these are of; `None` when they are of several, or there are none.
pub(crate) fn only_pod(records: &[Arc<Record>]) -> Option<&str> {
    let id = records.first()?.pod_id();
    records
        .iter()
        .all(|record| record.pod_id() == id)
        .then_some(id)
}

/// The filter of ListPodSandbox takes this record.
pub(crate) fn matches_sandbox(record: &Record, filter: Option<&v1::PodSandboxFilter>) -> bool {
    if record.sandbox().is_none() {
        return false;
    }
    let Some(filter) = filter else {
        return true;
    };
    let state = i32::from(sandbox_state(&record.life));
    record.id.starts_with(&filter.id)
        && filter
            .state
            .as_ref()
            .is_none_or(|wanted| wanted.state == state)
        && labels::matches(&filter.label_selector, &record.labels)
}

/// An item of ListPodSandbox (SBX-60, SBX-61).
pub(crate) fn sandbox_item(record: &Record) -> v1::PodSandbox {
    v1::PodSandbox {
        id: record.id.clone(),
        metadata: Some(record.name.sandbox_metadata()),
        state: sandbox_state(&record.life).into(),
        created_at: record.created_at,
        labels: record.labels.clone(),
        annotations: record.annotations.clone(),
        runtime_handler: record
            .sandbox()
            .map(|facts| facts.handler.clone())
            .unwrap_or_default(),
    }
}

/// An item of ListContainers (CTR-31); `None` for sandboxes.
pub(crate) fn container_item(record: &Record) -> Option<v1::Container> {
    Some(v1::Container {
        id: record.id.clone(),
        pod_sandbox_id: record.container()?.sandbox_id.clone(),
        metadata: Some(record.name.container_metadata()),
        image: Some(image_spec(&record.image)),
        image_ref: record.image_id.clone(),
        state: container_state(&record.life).into(),
        created_at: record.created_at,
        labels: record.labels.clone(),
        annotations: record.annotations.clone(),
        image_id: record.image_id.clone(),
    })
}

/// PodSandboxStatus's main part (SBX-50..52); `None` for containers. A pod on the node's network has
/// no addresses of its own.
pub(crate) fn sandbox_status(record: &Record) -> Option<v1::PodSandboxStatus> {
    let facts = record.sandbox()?;
    let on_host = facts.network == v1::NamespaceMode::Node;
    let own = facts.ips.iter().filter(|_| !on_host);
    let mut ips = own.map(ToString::to_string);
    Some(v1::PodSandboxStatus {
        id: record.id.clone(),
        metadata: Some(record.name.sandbox_metadata()),
        state: sandbox_state(&record.life).into(),
        created_at: record.created_at,
        network: Some(v1::PodSandboxNetworkStatus {
            ip: ips.next().unwrap_or_default(),
            additional_ips: ips.map(|ip| v1::PodIp { ip }).collect(),
        }),
        linux: Some(v1::LinuxPodSandboxStatus {
            namespaces: Some(v1::Namespace {
                options: Some(v1::NamespaceOption {
                    network: facts.network.into(),
                    pid: facts.pid.into(),
                    ipc: facts.ipc.into(),
                    ..v1::NamespaceOption::default()
                }),
            }),
        }),
        labels: record.labels.clone(),
        annotations: record.annotations.clone(),
        runtime_handler: facts.handler.clone(),
    })
}

/// ContainerStatus's main part (STS-01..13); `None` for sandboxes. `image` and `image_ref` are what
/// the image itself says, when it is still there (STS-07).
pub(crate) fn container_status(
    record: &Record,
    image: Option<(String, String)>,
) -> Option<v1::ContainerStatus> {
    let facts = record.container()?;
    let (image, image_ref) =
        image.unwrap_or_else(|| (record.image.clone(), record.image_id.clone()));
    let mut status = v1::ContainerStatus {
        id: record.id.clone(),
        metadata: Some(record.name.container_metadata()),
        state: container_state(&record.life).into(),
        created_at: record.created_at,
        image: Some(image_spec(&image)),
        image_ref,
        image_id: record.image_id.clone(),
        labels: record.labels.clone(),
        annotations: record.annotations.clone(),
        mounts: facts.mounts.clone(),
        log_path: facts.log_path.clone(),
        resources: Some(v1::ContainerResources {
            linux: Some(facts.resources.clone()),
            windows: None,
        }),
        stop_signal: facts.stop_signal,
        user: facts
            .user
            .clone()
            .map(|user| v1::ContainerUser { linux: Some(user) }),
        ..v1::ContainerStatus::default()
    };
    match &record.life {
        Life::Created => {}
        Life::Running { started_at, .. } => status.started_at = *started_at,
        Life::Exited {
            started_at,
            finished_at,
            exit_code,
            reason,
            message,
        } => {
            status.started_at = *started_at;
            status.finished_at = *finished_at;
            status.exit_code = *exit_code;
            (*reason).clone_into(&mut status.reason);
            status.message.clone_from(message);
        }
    }
    Some(status)
}

/// One item of GetContainerEvents (UNI-02).
pub(crate) fn event(
    kind: v1::ContainerEventType,
    id: &str,
    now: i64,
    pod: Option<v1::PodSandboxStatus>,
    containers: Vec<v1::ContainerStatus>,
) -> v1::ContainerEventResponse {
    v1::ContainerEventResponse {
        container_id: id.to_owned(),
        container_event_type: kind.into(),
        created_at: now,
        pod_sandbox_status: pod,
        containers_statuses: containers,
    }
}
