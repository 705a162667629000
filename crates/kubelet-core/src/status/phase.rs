//! The pod's phase (STAT-01).

use k8s_openapi::api::core::v1::{Container, ContainerStatus, PodStatus};

use super::{PodEnd, StatusInput, current_end, is_running, is_waiting, last_end};
use crate::observed::ObservedPod;
use crate::spec::{self, RestartPolicy, RestartRules};

/// Kubernetes kubelet, `getPhase`.
pub(super) fn compute_phase(input: &StatusInput<'_>, status: &PodStatus) -> &'static str {
    let StatusInput {
        pod,
        observed,
        rules,
        ..
    } = *input;
    let policy = spec::restart_policy(pod);
    let init = count_init(input, status);
    let regular = count_regular(input, status);
    let sidecars = count_sidecars(input, status);

    let init_failed = match rules {
        RestartRules::Enabled => init.failed_for_good > 0,
        RestartRules::Disabled => init.failed > 0 && policy == RestartPolicy::Never,
    };
    if init_failed {
        return "Failed";
    }
    let running = regular.running + sidecars.running;
    let waiting = regular.waiting + sidecars.waiting;
    let unknown = regular.unknown + sidecars.unknown;
    let sidecars_hold_back = sidecars.pending > 0 && !regular_container_active(input, observed);
    // Differs: a pod that is over has ended, also where somebody removed its init containers, and where
    // it lost its sandbox before all its containers were started; upstream shows it as Pending for good.
    let over = input.end == PodEnd::Over && running == 0;
    let has_ended = over && regular.stopped == spec::containers(pod).len();
    if over && !has_ended {
        return "Failed";
    }
    if !has_ended && (init.pending > 0 || sidecars_hold_back || waiting > 0) {
        return "Pending";
    }
    if running > 0 && unknown == 0 {
        return "Running";
    }
    if running > 0 || regular.stopped == 0 || unknown > 0 {
        return "Pending";
    }
    let succeeded = regular.stopped == regular.succeeded;
    let by_success = if succeeded { "Succeeded" } else { "Failed" };
    if input.end == PodEnd::Over && !spec::is_static(pod) {
        return by_success;
    }
    if rules == RestartRules::Enabled {
        return if regular.stopped == regular.stopped_for_good {
            by_success
        } else {
            "Running"
        };
    }
    match policy {
        RestartPolicy::Always => "Running",
        RestartPolicy::OnFailure if !succeeded => "Running",
        RestartPolicy::OnFailure | RestartPolicy::Never => by_success,
    }
}

#[derive(Default)]
struct Counts {
    pending: usize,
    failed: usize,
    failed_for_good: usize,
    running: usize,
    waiting: usize,
    unknown: usize,
    stopped: usize,
    stopped_for_good: usize,
    succeeded: usize,
}

fn count_init(input: &StatusInput<'_>, status: &PodStatus) -> Counts {
    let mut counts = Counts::default();
    let plain = spec::init_containers(input.pod)
        .iter()
        .filter(|init| !spec::is_sidecar(init));
    for container in plain {
        let found = find(status.init_container_statuses.as_deref(), container);
        // A container that waits counts by its last end.
        let end = found.and_then(|found| {
            current_end(found).or_else(|| last_end(found).filter(|_| is_waiting(found)))
        });
        match end {
            None => counts.pending += 1,
            Some(end) if end.exit_code != 0 => {
                counts.failed += 1;
                if !restarts(input, container, end.exit_code) {
                    counts.failed_for_good += 1;
                }
            }
            Some(_) => {}
        }
    }
    counts
}

fn count_sidecars(input: &StatusInput<'_>, status: &PodStatus) -> Counts {
    let mut counts = Counts::default();
    for container in spec::init_containers(input.pod)
        .iter()
        .filter(|init| spec::is_sidecar(init))
    {
        let Some(found) = find(status.init_container_statuses.as_deref(), container) else {
            counts.unknown += 1;
            continue;
        };
        if is_running(found) {
            counts.running += 1;
            if found.started != Some(true) {
                counts.pending += 1;
            }
        } else if is_waiting(found) {
            if last_end(found).is_none() {
                counts.pending += 1;
                counts.waiting += 1;
            }
        } else if current_end(found).is_none() {
            counts.pending += 1;
            counts.unknown += 1;
        }
    }
    counts
}

fn count_regular(input: &StatusInput<'_>, status: &PodStatus) -> Counts {
    let mut counts = Counts::default();
    for container in spec::containers(input.pod) {
        let Some(found) = find(status.container_statuses.as_deref(), container) else {
            counts.unknown += 1;
            continue;
        };
        let end = current_end(found).or_else(|| last_end(found).filter(|_| is_waiting(found)));
        if is_running(found) {
            counts.running += 1;
        } else if let Some(end) = end {
            counts.stopped += 1;
            if !restarts(input, container, end.exit_code) {
                counts.stopped_for_good += 1;
            }
            if current_end(found).is_some() && end.exit_code == 0 {
                counts.succeeded += 1;
            }
        } else if is_waiting(found) {
            counts.waiting += 1;
        } else {
            counts.unknown += 1;
        }
    }
    counts
}

fn restarts(input: &StatusInput<'_>, container: &Container, exit_code: i32) -> bool {
    spec::restarts_after_exit(input.pod, container, input.rules, exit_code)
}

fn find<'a>(
    statuses: Option<&'a [ContainerStatus]>,
    container: &Container,
) -> Option<&'a ContainerStatus> {
    statuses?
        .iter()
        .find(|status| status.name == container.name)
}

/// Whether the active sandbox holds a regular container: then initialisation is over, and a
/// restarting sidecar does not make the pod Pending again.
fn regular_container_active(input: &StatusInput<'_>, observed: &ObservedPod) -> bool {
    let Some(active) = observed.active_sandbox() else {
        return false;
    };
    observed.containers.iter().any(|container| {
        container
            .sandbox_id
            .as_ref()
            .is_none_or(|id| *id == active.id)
            && spec::containers(input.pod)
                .iter()
                .any(|c| c.name == container.name.as_str())
    })
}
