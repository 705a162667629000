//! Stopping containers and pods: grace and order (CTR-40..42).

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::{ActionsInput, ContainerKill, KillReason, PodKill, PreStop};
use crate::ids::{ContainerId, ContainerName};
use crate::observed::{ObservedContainer, ObservedPod, SandboxState};
use crate::spec::{self, ContainerKind};

/// The least a container gets between the polite and the final signal, in seconds (CTR-40).
pub const MIN_STOP_SECONDS: i64 = 2;

/// Seconds from the decision to the final signal (CTR-40): the deletion's grace, else the failed
/// probe's own, else the pod's. Without a pod, what the container was made with.
pub fn container_grace_seconds(
    pod: &Pod,
    container: Option<&Container>,
    observed: &ObservedContainer,
    reason: KillReason,
) -> i64 {
    if let Some(seconds) = pod.metadata.deletion_grace_period_seconds {
        return seconds;
    }
    let probe = match reason {
        KillReason::LivenessProbe => container.and_then(|c| c.liveness_probe.as_ref()),
        KillReason::StartupProbe => container.and_then(|c| c.startup_probe.as_ref()),
        _ => None,
    };
    let pod_grace = || {
        pod.spec
            .as_ref()
            .and_then(|spec| spec.termination_grace_period_seconds)
    };
    probe
        .and_then(|probe| probe.termination_grace_period_seconds)
        .or_else(pod_grace)
        .or(observed.grace_seconds)
        .unwrap_or(MIN_STOP_SECONDS)
}

/// Seconds that a pod gets whose manifest is gone: the deletion's, else its own, a second at least so that a hook
/// is run (LIFE-32). Source of behaviour: Kubernetes kubelet, `calculateEffectiveGracePeriod`.
pub fn removal_grace_seconds(pod: &Pod) -> i64 {
    let deletion = pod.metadata.deletion_grace_period_seconds;
    deletion
        .filter(|seconds| *seconds != 0)
        .or(spec::spec(pod).termination_grace_period_seconds)
        .unwrap_or_default()
        .max(1)
}

/// Timeout of `StopContainer` after `spent_seconds` of the grace went to `preStop` and to waiting
/// for others (CTR-40).
pub fn stop_timeout_seconds(grace_seconds: i64, spent_seconds: i64) -> i64 {
    grace_seconds
        .saturating_sub(spent_seconds.max(0))
        .max(MIN_STOP_SECONDS)
}

pub(super) fn container_kill(
    input: &ActionsInput<'_>,
    observed: &ObservedContainer,
    container: Option<&Container>,
    reason: KillReason,
    message: String,
) -> ContainerKill {
    kill(
        input.pod,
        input.observed,
        observed,
        container,
        reason,
        message,
    )
}

fn kill(
    pod: &Pod,
    pod_observed: &ObservedPod,
    observed: &ObservedContainer,
    container: Option<&Container>,
    reason: KillReason,
    message: String,
) -> ContainerKill {
    ContainerKill {
        id: observed.id.clone(),
        name: observed.name.clone(),
        reason,
        message,
        grace_seconds: container_grace_seconds(pod, container, observed, reason),
        pre_stop: pre_stop(container, observed, pod_observed),
        after: Vec::new(),
    }
}

/// The hook of the specification, or, where the pod is known by its containers alone, the one that the
/// container was made with (CTR-43).
fn pre_stop(
    container: Option<&Container>,
    observed: &ObservedContainer,
    pod: &ObservedPod,
) -> Option<Box<PreStop>> {
    let (handler, ports) = match container {
        Some(container) => {
            let handler = container.lifecycle.as_ref()?.pre_stop.clone()?;
            (handler, container.ports.clone().unwrap_or_default())
        }
        None => (observed.pre_stop.clone()?, observed.ports.clone()),
    };
    Some(Box::new(PreStop {
        handler,
        ports,
        ip: pod.ips().first().copied(),
    }))
}

/// Stops a container whose `postStart` failed (CTR-44): with its own `preStop` and the pod's grace.
/// `ip` is the pod's first address.
pub fn plan_post_start_kill(
    pod: &Pod,
    container: &Container,
    id: ContainerId,
    ip: Option<IpAddr>,
) -> ContainerKill {
    let handler = container
        .lifecycle
        .as_ref()
        .and_then(|lifecycle| lifecycle.pre_stop.clone());
    let spec = spec::spec(pod);
    let grace = pod.metadata.deletion_grace_period_seconds;
    ContainerKill {
        id,
        name: ContainerName::from(container.name.as_str()),
        reason: KillReason::PostStartHook,
        message: "FailedPostStartHook".to_owned(),
        grace_seconds: grace
            .or(spec.termination_grace_period_seconds)
            .unwrap_or(MIN_STOP_SECONDS),
        pre_stop: handler.map(|handler| {
            let ports = container.ports.clone().unwrap_or_default();
            Box::new(PreStop { handler, ports, ip })
        }),
        after: Vec::new(),
    }
}

/// Stops all of a pod that may run (CTR-42): regular containers at once, then sidecars in reverse
/// order, then every ready sandbox. `grace_override` replaces each container's grace. Without a
/// pod (a runtime-only orphan, SRC-44) grace comes from the containers' annotations. Differs: so do its
/// preStop hooks (CTR-43); upstream 1.34 runs none of an orphan's.
pub fn plan_pod_kill(
    pod: Option<&Pod>,
    observed: &ObservedPod,
    grace_override: Option<i64>,
) -> PodKill {
    let unknown = Pod::default();
    let known = pod.unwrap_or(&unknown);
    let live: Vec<_> = observed
        .containers
        .iter()
        .filter(|container| container.is_live())
        .collect();
    let mut containers: Vec<_> = live
        .iter()
        .map(|&live_one| {
            let found = spec::find_container(known, &live_one.name);
            let container = found.as_ref().map(|(_, container)| container.as_ref());
            let message = format!("Stopping container {}", live_one.name);
            let reason = KillReason::PodStops;
            let mut kill = kill(known, observed, live_one, container, reason, message);
            if pod.is_none() {
                kill.grace_seconds = live_one
                    .deletion_grace_seconds
                    .or(live_one.grace_seconds)
                    .unwrap_or(MIN_STOP_SECONDS);
            }
            kill.grace_seconds = grace_override.unwrap_or(kill.grace_seconds);
            kill.after = predecessors(known, &live_one.name, &live);
            kill
        })
        .collect();
    // The order of the list is for the reader; `after` is what counts.
    containers
        .sort_by(|a, b| (a.after.len(), &a.name, &a.id).cmp(&(b.after.len(), &b.name, &b.id)));
    let sandboxes = observed
        .sandboxes
        .iter()
        .filter(|sandbox| sandbox.state == SandboxState::Ready)
        .map(|sandbox| sandbox.id.clone())
        .collect();
    PodKill {
        containers,
        sandboxes,
    }
}

/// Who ends before a sidecar: every live regular container and every live later sidecar.
fn predecessors(
    pod: &Pod,
    name: &ContainerName,
    live: &[&ObservedContainer],
) -> Vec<ContainerName> {
    let init = spec::init_containers(pod);
    let Some(position) = init.iter().position(|c| c.name == name.as_str()) else {
        return Vec::new();
    };
    if spec::init_kind(&init[position]) != ContainerKind::Sidecar {
        return Vec::new();
    }
    let later_sidecars = init[position + 1..]
        .iter()
        .filter(|later| spec::is_sidecar(later));
    spec::containers(pod)
        .iter()
        .chain(later_sidecars)
        .map(|container| ContainerName::from(container.name.as_str()))
        .filter(|name| live.iter().any(|container| container.name == *name))
        .collect()
}
