//! Init containers and sidecars (CTR-30..33).
//!
//! Kubernetes kubelet, `computeInitContainerActions`: how far the pod has come is read from the
//! runtime alone, from the last init container backwards, since earlier ones may have been removed.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Container;
use k8s_openapi::api::core::v1::Pod;

use super::kill::container_kill;
use super::{ActionsInput, ContainerKill, ContainerRemoval, KillReason, ProbeResult, StartReason};
use crate::hash::container_hash;
use crate::observed::{ContainerState, ObservedContainer, ObservedPod};
use crate::spec::{self, RestartPolicy, RestartRules};

/// What to do about init containers.
#[derive(Debug, Default)]
pub(super) struct InitPlan {
    /// Regular containers may run.
    pub(super) initialized: bool,
    /// An init container failed for good: the pod is over (CTR-31).
    pub(super) failed: bool,
    /// Containers to stop.
    pub(super) kill: Vec<ContainerKill>,
    /// Places of the containers to start, in order.
    pub(super) start: Vec<(usize, StartReason)>,
}

pub(super) fn plan_init(input: &ActionsInput<'_>) -> InitPlan {
    let ActionsInput { pod, observed, .. } = *input;
    let init = spec::init_containers(pod);
    if init.is_empty() {
        return InitPlan {
            initialized: true,
            ..Default::default()
        };
    }
    let mut plan = InitPlan {
        initialized: regular_containers_exist(pod, observed),
        ..Default::default()
    };
    // Whether the one that is looked at has been passed before.
    let mut passed = plan.initialized;
    for (index, container) in init.iter().enumerate().rev() {
        let sidecar = spec::is_sidecar(container);
        let Some(latest) = observed.latest(&container.name) else {
            if passed && sidecar {
                plan.start.push((index, StartReason::Missing));
            }
            continue;
        };
        if passed && !sidecar {
            continue;
        }
        if sidecar {
            plan.sidecar(input, index, container, latest, passed);
        } else {
            plan.regular(input, index, container, latest);
            if plan.failed {
                return InitPlan {
                    failed: true,
                    ..Default::default()
                };
            }
        }
        passed = true;
    }
    if !passed {
        plan.start.push((0, StartReason::Missing));
    }
    if pod.metadata.deletion_timestamp.is_some() {
        plan.start.clear();
    }
    // One place may be named twice: by itself and as the next one of its predecessor.
    plan.start.reverse();
    plan.start.dedup_by_key(|(index, _)| *index);
    plan
}

impl InitPlan {
    /// A plain init container that no later one has passed.
    fn regular(
        &mut self,
        input: &ActionsInput<'_>,
        index: usize,
        container: &Container,
        latest: &ObservedContainer,
    ) {
        match latest.state {
            ContainerState::Running => {}
            ContainerState::Created => self.start.push((index, StartReason::OnlyCreated)),
            ContainerState::Exited if latest.exit_code == 0 && !oom_killed(latest) => {
                self.passed_on(input.pod, index);
            }
            ContainerState::Exited => {
                if restarts_init(input, container, Some(latest.exit_code)) {
                    self.start.push((index, StartReason::Exited));
                } else {
                    self.failed = true;
                }
            }
            ContainerState::Unknown => {
                if restarts_init(input, container, None) {
                    self.kill_unknown(input, container, latest);
                    self.start.push((index, StartReason::Unknown));
                } else {
                    self.failed = true;
                }
            }
        }
    }

    /// A sidecar, during initialisation or after it.
    fn sidecar(
        &mut self,
        input: &ActionsInput<'_>,
        index: usize,
        container: &Container,
        latest: &ObservedContainer,
        passed: bool,
    ) {
        match latest.state {
            ContainerState::Running => {
                self.running_sidecar(input, index, container, latest, passed);
            }
            ContainerState::Created => self.start.push((index, StartReason::OnlyCreated)),
            ContainerState::Exited => self.start.push((index, StartReason::Exited)),
            ContainerState::Unknown => {
                self.kill_unknown(input, container, latest);
                self.start.push((index, StartReason::Unknown));
            }
        }
    }

    fn running_sidecar(
        &mut self,
        input: &ActionsInput<'_>,
        index: usize,
        container: &Container,
        latest: &ObservedContainer,
        passed: bool,
    ) {
        let ActionsInput { pod, history, .. } = *input;
        let name = &container.name;
        let probes = history.probes_of(&latest.id);
        if container.startup_probe.is_some() {
            match probes.startup {
                Some(ProbeResult::Success) => {}
                Some(ProbeResult::Failure) => {
                    let message = format!("Init container {name} failed startup probe");
                    self.replace(
                        input,
                        index,
                        container,
                        latest,
                        KillReason::StartupProbe,
                        message,
                    );
                    return;
                }
                Some(ProbeResult::Unknown) | None => return,
            }
        }
        // Started: the next may go on (CTR-32), unless it has before.
        if index + 1 == spec::init_containers(pod).len() || !passed {
            self.passed_on(pod, index);
        }
        if container_hash(container) != latest.hash {
            let message = format!("Init container {name} definition changed");
            self.replace(
                input,
                index,
                container,
                latest,
                KillReason::DefinitionChanged,
                message,
            );
        } else if container.liveness_probe.is_some()
            && probes.liveness == Some(ProbeResult::Failure)
        {
            let message = format!("Init container {name} failed liveness probe");
            self.replace(
                input,
                index,
                container,
                latest,
                KillReason::LivenessProbe,
                message,
            );
        }
    }

    /// The container at `index` has done its part: the next starts, or the pod is initialised.
    fn passed_on(&mut self, pod: &Pod, index: usize) {
        if index + 1 == spec::init_containers(pod).len() {
            self.initialized = true;
        } else {
            self.start.push((index + 1, StartReason::Missing));
        }
    }

    fn kill_unknown(
        &mut self,
        input: &ActionsInput<'_>,
        container: &Container,
        latest: &ObservedContainer,
    ) {
        let message = format!(
            "Init container is in \"{}\" state, try killing it before restart",
            latest.state.as_str()
        );
        let reason = KillReason::UnknownState;
        self.kill.push(container_kill(
            input,
            latest,
            Some(container),
            reason,
            message,
        ));
    }

    fn replace(
        &mut self,
        input: &ActionsInput<'_>,
        index: usize,
        container: &Container,
        latest: &ObservedContainer,
        reason: KillReason,
        message: String,
    ) {
        self.kill.push(container_kill(
            input,
            latest,
            Some(container),
            reason,
            message,
        ));
        self.start.push((index, StartReason::Replaced));
    }
}

/// CTR-31. `exit_code` is `None` when nobody knows it.
fn restarts_init(input: &ActionsInput<'_>, container: &Container, exit_code: Option<i32>) -> bool {
    let ActionsInput { pod, rules, .. } = *input;
    if pod.metadata.deletion_timestamp.is_some() {
        return true;
    }
    if rules == RestartRules::Enabled {
        if let Some(exit_code) = exit_code {
            return spec::restarts_after_exit(pod, container, rules, exit_code);
        }
        if let Some(policy) = container.restart_policy.as_deref() {
            return policy != "Never";
        }
    }
    spec::restart_policy(pod) != RestartPolicy::Never
}

/// Killed for memory counts as failed whatever the code says (Kubernetes kubelet,
/// `isInitContainerFailed`).
fn oom_killed(container: &ObservedContainer) -> bool {
    container.reason == crate::reasons::TerminatedReason::OomKilled.as_str()
}

/// Regular containers that are created or run prove that initialisation is over. Ended ones do not:
/// they may be of an earlier sandbox. Differs: upstream takes one that was only created in an earlier
/// sandbox for a proof too, and would start regular containers beside the first init container.
fn regular_containers_exist(pod: &Pod, observed: &ObservedPod) -> bool {
    let here = |container: &ObservedContainer| {
        let active = observed.active_sandbox().map(|sandbox| &sandbox.id);
        container
            .sandbox_id
            .as_ref()
            .is_none_or(|id| Some(id) == active)
    };
    spec::containers(pod).iter().any(|container| {
        observed
            .latest(&container.name)
            .is_some_and(|latest| match latest.state {
                ContainerState::Running => true,
                ContainerState::Created => here(latest),
                ContainerState::Exited | ContainerState::Unknown => false,
            })
    })
}

/// Ended init containers beyond the newest `keep` of each name (CTR-02). With 0, those of any state:
/// the pod begins anew (CTR-04).
pub(super) fn dead_init_containers(
    pod: &Pod,
    observed: &ObservedPod,
    keep: usize,
) -> Vec<ContainerRemoval> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut dead = Vec::new();
    for container in &observed.containers {
        let name = container.name.as_str();
        let is_init = spec::init_containers(pod)
            .iter()
            .any(|init| init.name == name);
        let ended = matches!(
            container.state,
            ContainerState::Exited | ContainerState::Unknown
        );
        if !is_init || !(ended || keep == 0) {
            continue;
        }
        let count = seen.entry(name).or_default();
        *count += 1;
        if *count > keep {
            let (id, name) = (container.id.clone(), container.name.clone());
            dead.push(ContainerRemoval { id, name });
        }
    }
    dead
}
