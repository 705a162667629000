//! Reads what the runtime has of one pod, each time anew (style 2.5: observed state is never
//! remembered).

use std::collections::{BTreeMap, BTreeSet};

use cri_api::v1;
use kubelet_core::{
    ids::{PodKey, PodUid, SandboxId},
    observed::{self, ObserveError, ObservedPod, SandboxState},
};

use super::client::{CriClient, CriError};

/// The runtime's state of a pod could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// A call failed.
    #[error("{0}")]
    Call(#[from] CriError),
    /// An answer makes no sense.
    #[error("{0}")]
    Answer(#[from] ObserveError),
}

/// Everything the runtime has of the pod. What vanishes between the calls is left out.
///
/// # Errors
/// When a call fails; half a picture is never returned.
pub(crate) async fn read_pod(runtime: &CriClient, uid: &PodUid) -> Result<ObservedPod, ReadError> {
    let listed_sandboxes = runtime.list_pod_sandboxes(Some(uid.as_str())).await?;
    let listed_containers = runtime.list_containers(Some(uid.as_str())).await?;
    let mut sandboxes = Vec::with_capacity(listed_sandboxes.len());
    for item in &listed_sandboxes {
        let mut sandbox = observed::sandbox_from_item(item)?;
        if sandbox.state == SandboxState::Ready {
            match runtime.pod_sandbox_status(&item.id).await {
                Ok(answer) => {
                    if let Some(status) = &answer.status {
                        sandbox = observed::sandbox_from_status(status)?;
                    }
                }
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error.into()),
            }
        }
        sandboxes.push(sandbox);
    }
    let mut containers = Vec::with_capacity(listed_containers.len());
    for item in &listed_containers {
        match runtime.container_status(&item.id).await {
            Ok(status) => {
                let sandbox = SandboxId::from(item.pod_sandbox_id.as_str());
                containers.push(observed::container_from_status(&status, Some(sandbox))?);
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(ObservedPod::new(uid.clone(), sandboxes, containers))
}

/// The pods that the runtime knows of, by their labels (CRI-05).
///
/// # Errors
/// When a call fails.
pub(crate) async fn read_pod_names(
    runtime: &CriClient,
) -> Result<BTreeMap<PodUid, PodKey>, CriError> {
    let sandboxes = runtime.list_pod_sandboxes(None).await?;
    let containers = runtime.list_containers(None).await?;
    Ok(sandboxes
        .iter()
        .map(|sandbox| &sandbox.labels)
        .chain(containers.iter().map(|container| &container.labels))
        .filter_map(observed::pod_of_labels)
        .collect())
}

/// Sandboxes that the runtime remembers and the engine below it has lost: nothing says whose they were
/// (SBX-62).
///
/// # Errors
/// When the call fails.
pub(crate) async fn read_lost_sandboxes(
    runtime: &CriClient,
) -> Result<BTreeSet<SandboxId>, CriError> {
    let sandboxes = runtime.list_pod_sandboxes(None).await?;
    let is_lost = |sandbox: &&v1::PodSandbox| {
        let nobodys = sandbox.metadata.as_ref().is_none_or(|of| of.uid.is_empty());
        nobodys
            && sandbox.labels.is_empty()
            && sandbox.state == v1::PodSandboxState::SandboxNotready as i32
    };
    let lost = sandboxes.iter().filter(is_lost);
    Ok(lost
        .map(|sandbox| SandboxId::from(sandbox.id.as_str()))
        .collect())
}
