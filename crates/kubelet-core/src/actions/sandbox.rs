//! Whether the pod needs another sandbox (CTR-03).

use k8s_openapi::api::core::v1::Pod;

use super::plan::{SandboxCreate, SandboxReason};
use crate::observed::{NetworkMode, ObservedPod, SandboxState};
use crate::spec;

/// The sandbox to create, if the one that stands can't be used (Kubernetes kubelet,
/// `PodSandboxChanged`). What the runtime does not report is not held against the sandbox.
pub fn sandbox_needed(pod: &Pod, observed: &ObservedPod) -> Option<SandboxCreate> {
    let Some(newest) = observed.sandboxes.first() else {
        return Some(SandboxCreate {
            attempt: 0,
            reason: SandboxReason::Missing,
        });
    };
    let ready = observed
        .sandboxes
        .iter()
        .filter(|sandbox| sandbox.state == SandboxState::Ready)
        .count();
    let host_network = spec::is_host_network(pod);
    let wanted = if host_network {
        NetworkMode::Node
    } else {
        NetworkMode::Pod
    };
    let reason = if ready > 1 {
        SandboxReason::SeveralReady
    } else if newest.state != SandboxState::Ready {
        SandboxReason::NotReady
    } else if newest.network_mode.is_some_and(|mode| mode != wanted) {
        SandboxReason::NetworkModeChanged
    } else if !host_network && newest.ips.as_ref().is_some_and(Vec::is_empty) {
        SandboxReason::NoAddress
    } else {
        return None;
    };
    // The clock of the runtime may have jumped: the largest number counts, not the newest.
    let last = observed
        .sandboxes
        .iter()
        .map(|sandbox| sandbox.attempt)
        .max()
        .unwrap_or(0);
    Some(SandboxCreate {
        attempt: last.saturating_add(1),
        reason,
    })
}
