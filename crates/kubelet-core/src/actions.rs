//! What to do next for one pod, from what is wanted, what is there and what happened before.
//!
//! Kubernetes kubelet, `computePodActions` and `SyncPod` (CTR-01..36), as one pure function. The
//! caller applies the plan in the order of its parts:
//!
//! ```text
//! kill_pod ─or─ kill      stop what must not run           (removals before additions)
//! remove                  dead init containers
//! create_sandbox          unless one stands
//! start                   one after the other, each waits for its postStart
//! wait, retry_at          nothing to do now; look again then
//! ```
//!
//! If stopping fails the caller starts nothing, reads the state again and plans again. Applying the
//! plan and planning again gives an empty plan.

mod history;
mod init;
mod kill;
mod plan;
mod regular;
mod sandbox;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::backoff::{CrashKey, crash_loop_message, later};
use crate::ids::ContainerName;
use crate::moment::Moment;
use crate::observed::{ContainerState, ObservedContainer, ObservedPod};
use crate::reasons::WaitingReason;
use crate::spec::{self, ContainerKind, RestartPolicy, RestartRules};

pub use history::{History, MadeContainer, ProbeResult, ProbeResults, StartFailure, StartWait};
pub use kill::{
    MIN_STOP_SECONDS, container_grace_seconds, plan_pod_kill, plan_post_start_kill,
    removal_grace_seconds, stop_timeout_seconds,
};
pub use plan::{
    ContainerKill, ContainerRemoval, ContainerStart, ContainerWait, KillReason, OnStartFailure,
    PodActions, PodKill, PreStop, SandboxCreate, SandboxReason, StartReason,
};
use regular::Decision;
pub use regular::should_restart;
pub use sandbox::sandbox_needed;

/// All that [`compute_pod_actions`] looks at.
#[derive(Debug, Clone, Copy)]
pub struct ActionsInput<'a> {
    /// The pod as it is wanted.
    pub pod: &'a Pod,
    /// What the runtime has of it.
    pub observed: &'a ObservedPod,
    /// What happened before.
    pub history: &'a History,
    /// Gate `ContainerRestartRules`.
    pub rules: RestartRules,
    /// The time.
    pub now: Timestamp,
    /// The same on the clock of [`History`].
    pub moment: Moment,
}

/// Decides what to do for a pod that shall run. A pod that is to end is stopped by
/// [`plan_pod_kill`] instead.
pub fn compute_pod_actions(input: &ActionsInput<'_>) -> PodActions {
    let mut actions = match sandbox_needed(input.pod, input.observed) {
        Some(needed) => plan_with_new_sandbox(input, needed),
        None => plan_in_sandbox(input),
    };
    let waits = actions.wait.iter().map(|wait| wait.until);
    actions.retry_at = actions.retry_at.into_iter().chain(waits).min();
    actions
}

/// Stops what is left of a pod that has ended for good: nothing of it starts again, whatever the runtime
/// still has of it (STAT-02, CTR-06).
pub fn plan_end(pod: &Pod, observed: &ObservedPod) -> PodActions {
    PodActions {
        kill_pod: plan_pod_kill(Some(pod), observed, None),
        done: true,
        ..Default::default()
    }
}

/// CTR-03, CTR-04: all that runs is stopped, then a sandbox is created if something will run in it.
fn plan_with_new_sandbox(input: &ActionsInput<'_>, needed: SandboxCreate) -> PodActions {
    let ActionsInput {
        pod,
        observed,
        history,
        now,
        moment,
        ..
    } = *input;
    let finished = plan_end(pod, observed);

    // Differs: to upstream a container that was only made has had its chance too, and the pod stays
    // Pending for good.
    let never = spec::restart_policy(pod) == RestartPolicy::Never;
    let ran = |container: &ObservedContainer| container.state != ContainerState::Created;
    // Differs: a manifest with a `deletionTimestamp` is a pod that is over, and Failed; upstream leaves it
    // Pending, and starts nothing of it either.
    if pod.metadata.deletion_timestamp.is_some()
        || (never && needed.attempt != 0 && observed.containers.iter().any(ran))
    {
        return finished;
    }
    let start: Vec<_> = spec::containers(pod)
        .iter()
        .enumerate()
        .filter(|(_, container)| !(runs_once(input, container) && succeeded(observed, container)))
        .collect();
    if start.is_empty() && any_regular_created(pod, observed) {
        return finished;
    }

    let mut plan = Plan::new(input);
    plan.actions.kill_pod = finished.kill_pod;
    plan.actions.remove = init::dead_init_containers(pod, observed, 0);
    if let Some(retry_at) = history.sandbox_retry_at.filter(|at| *at > moment) {
        plan.actions.retry_at = Some(later(now, retry_at.saturating_sub(moment)));
        return plan.actions;
    }
    plan.actions.create_sandbox = Some(needed);
    if let Some(first) = spec::init_containers(pod).first() {
        plan.start(spec::init_kind(first), 0, first, StartReason::Missing);
    } else {
        for (index, container) in start {
            let reason = match observed.latest(&container.name).map(|latest| latest.state) {
                None => StartReason::Missing,
                Some(ContainerState::Exited) => StartReason::Exited,
                Some(ContainerState::Created) => StartReason::OnlyCreated,
                Some(ContainerState::Running) => StartReason::Replaced,
                Some(ContainerState::Unknown) => StartReason::Unknown,
            };
            plan.start(ContainerKind::Regular, index, container, reason);
        }
    }
    plan.actions
}

/// CTR-10..15, CTR-30..35: the sandbox stands; each container is looked at.
fn plan_in_sandbox(input: &ActionsInput<'_>) -> PodActions {
    let ActionsInput { pod, observed, .. } = *input;
    let mut plan = Plan::new(input);
    if regular::all_done(input) {
        return plan.finish_pod();
    }
    plan.actions.sandbox = observed.active_sandbox().map(|sandbox| sandbox.id.clone());
    plan.kill_strangers();

    for (index, ephemeral) in spec::ephemeral_containers(pod).iter().enumerate() {
        if observed.latest(&ephemeral.name).is_none() {
            let container = spec::ephemeral_as_container(ephemeral);
            plan.start(
                ContainerKind::Ephemeral,
                index,
                &container,
                StartReason::Missing,
            );
        }
    }

    let init = init::plan_init(input);
    if init.failed {
        return plan.finish_pod();
    }
    let mut keep = 0;
    let mut regular = Vec::new();
    if init.initialized {
        for (index, container) in spec::containers(pod).iter().enumerate() {
            match regular::decide(input, container) {
                Decision::Keep => keep += 1,
                Decision::Leave => {}
                Decision::Start(reason) => regular.push((index, container, reason)),
                Decision::Kill(kill, start) => {
                    plan.actions.kill.push(kill);
                    if let Some(reason) = start {
                        regular.push((index, container, reason));
                    }
                }
            }
        }
        if keep == 0 && regular.is_empty() {
            // Sidecars would keep the pod alive for nothing (CTR-34).
            return plan.finish_pod();
        }
    }
    plan.actions.kill.extend(init.kill);
    plan.actions.remove = init::dead_init_containers(pod, observed, 1);
    let mut blocked = false;
    for (index, reason) in init.start {
        let container = &spec::init_containers(pod)[index];
        let kind = spec::init_kind(container);
        let started = plan.start(kind, index, container, reason);
        if !started && kind == ContainerKind::Init {
            // The next ones rely on it (CTR-30).
            blocked = true;
            break;
        }
    }
    if !blocked {
        for (index, container, reason) in regular {
            plan.start(ContainerKind::Regular, index, container, reason);
        }
    }
    plan.actions
}

/// Whether the container is not run again once it succeeded.
fn runs_once(input: &ActionsInput<'_>, container: &Container) -> bool {
    match container
        .restart_policy
        .as_deref()
        .filter(|_| input.rules == RestartRules::Enabled)
    {
        Some(policy) => policy == "OnFailure",
        None => spec::restart_policy(input.pod) == RestartPolicy::OnFailure,
    }
}

fn succeeded(observed: &ObservedPod, container: &Container) -> bool {
    observed
        .latest(&container.name)
        .is_some_and(|latest| latest.state == ContainerState::Exited && latest.exit_code == 0)
}

fn any_regular_created(pod: &Pod, observed: &ObservedPod) -> bool {
    spec::containers(pod).iter().any(|container| {
        observed
            .latest(&container.name)
            .is_some_and(|latest| latest.state != ContainerState::Unknown)
    })
}

/// The plan as it grows.
struct Plan<'a> {
    input: &'a ActionsInput<'a>,
    actions: PodActions,
}

impl<'a> Plan<'a> {
    fn new(input: &'a ActionsInput<'a>) -> Self {
        Self {
            input,
            actions: PodActions::default(),
        }
    }

    /// Starts the container, or lets it wait: for its restart delay (CTR-22) or for the retry after
    /// a failed start. Tells whether it is started.
    fn start(
        &mut self,
        kind: ContainerKind,
        index: usize,
        container: &Container,
        reason: StartReason,
    ) -> bool {
        let ActionsInput {
            pod,
            observed,
            history,
            now,
            moment,
            ..
        } = *self.input;
        let name = ContainerName::from(container.name.as_str());
        if let Some(wait) = history.start_wait(pod, container, observed, now, moment) {
            let (reason, message, until) = match wait {
                StartWait::Failure(failure, left) => {
                    (failure.reason, failure.message.clone(), later(now, left))
                }
                StartWait::CrashLoop(wait) => {
                    let message = crash_loop_message(pod, &container.name, wait.delay);
                    (WaitingReason::CrashLoopBackOff, message, wait.until)
                }
            };
            self.actions.wait.push(ContainerWait {
                name,
                kind,
                reason,
                message,
                until,
            });
            return false;
        }
        let key = CrashKey::new(pod, container);
        let ended_at = observed.latest_end(&container.name);
        let on_failure = match kind {
            ContainerKind::Init => OnStartFailure::Abort,
            _ => OnStartFailure::Continue,
        };
        self.actions.start.push(ContainerStart {
            attempt: next_attempt(observed, history, &name),
            name,
            kind,
            index,
            reason,
            after_exit: ended_at.map(|ended_at| (key, ended_at)),
            on_failure,
        });
        true
    }

    /// Stops containers whose name the pod no longer has, and all but the newest of one name.
    /// Differs: upstream leaves both running. An API pod's containers can't change; a static pod
    /// with its own uid can be edited (SRC-41).
    fn kill_strangers(&mut self) {
        let ActionsInput { pod, observed, .. } = *self.input;
        for container in &observed.containers {
            let name = &container.name;
            let (reason, message) = if spec::find_container(pod, name).is_none() {
                (
                    KillReason::NotInPod,
                    format!("Container {name} is no longer in the pod"),
                )
            } else if observed
                .latest(name.as_str())
                .is_some_and(|latest| latest.id != container.id)
            {
                (
                    KillReason::Superseded,
                    format!("Container {name} runs twice, stopping the older"),
                )
            } else {
                continue;
            };
            if container.state == ContainerState::Running {
                self.actions.kill.push(kill::container_kill(
                    self.input, container, None, reason, message,
                ));
            }
        }
    }

    /// CTR-06: nothing shall run any more.
    fn finish_pod(self) -> PodActions {
        plan_end(self.input.pod, self.input.observed)
    }
}

/// CTR-21: one more than any instance of that name that the runtime has, and no less than what log
/// files and memory say: what was removed with its sandbox counts, too.
fn next_attempt(observed: &ObservedPod, history: &History, name: &ContainerName) -> u32 {
    let known = history.next_restart_by_logs.get(name).copied();
    observed
        .containers
        .iter()
        .filter(|container| container.name == *name)
        .map(|container| container.restart_count.saturating_add(1))
        .chain(known)
        .max()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
