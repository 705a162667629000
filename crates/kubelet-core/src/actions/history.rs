//! What happened before, as far as decisions ask for it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::ContainerStart;
use crate::backoff::{Backoffs, CrashKey, Wait};
use crate::ids::{ContainerId, ContainerName};
use crate::moment::Moment;
use crate::observed::{ContainerState, ObservedContainer, ObservedPod};
use crate::reasons::WaitingReason;

/// Outcome of a probe so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeResult {
    /// The success threshold was reached.
    Success,
    /// The failure threshold was reached.
    Failure,
    /// Too early to say.
    Unknown,
}

/// Latest results of a container's probes; `None` where the probe has no result yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProbeResults {
    /// Startup probe.
    pub startup: Option<ProbeResult>,
    /// Liveness probe.
    pub liveness: Option<ProbeResult>,
    /// Readiness probe.
    pub readiness: Option<ProbeResult>,
}

/// The latest failure to start a container: pull, create, start or `postStart` (CTR-23).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartFailure {
    /// `waiting.reason` of the container.
    pub reason: WaitingReason,
    /// `waiting.message` of the container.
    pub message: String,
    /// No new try before this; `None` allows one at once.
    pub retry_at: Option<Moment>,
    /// The container that was made and did not start, where one was.
    pub made: Option<MadeContainer>,
}

/// A container that was made and did not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MadeContainer {
    /// Its restart count.
    pub attempt: u32,
    /// When its start had failed.
    pub failed_at: Moment,
}

/// What is shown for a short time only is shown so long: upstream looks again at its next relist.
const SHOWN_AT_LEAST: Duration = Duration::from_secs(1);

impl StartFailure {
    /// When the next try is due as far as this failure goes.
    ///
    /// To most runtimes a container that could not be started has ended: its back-off counts as that of one that ran
    /// (CTR-22). Where the runtime leaves it as it was made, nothing else would slow the tries.
    fn due(&self, name: &str, observed: &ObservedPod) -> Option<Moment> {
        let made = self.made.filter(|made| {
            observed.latest(name).is_some_and(|latest| {
                latest.state == ContainerState::Exited && latest.restart_count >= made.attempt
            })
        });
        match made {
            Some(made) => Some(made.failed_at.saturating_add(SHOWN_AT_LEAST)),
            None => self.retry_at,
        }
    }
}

/// What a container's next start waits for, and how long still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartWait<'a> {
    /// Its latest start failed a short time ago: it is tried again then.
    Failure(&'a StartFailure, Duration),
    /// Its back-off (CTR-22).
    CrashLoop(Wait),
}

/// What happened before, as far as it is not in the runtime. Its moments are those of one clock, the caller's.
///
/// Differs (CTR-20): it ends with the pod; upstream's back-off of a crashing container lasts when the manifest
/// is taken away and put back within minutes.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// Probe results by container instance.
    pub probes: BTreeMap<ContainerId, ProbeResults>,
    /// Latest start failure by container name; removed by the caller after a success.
    pub start_failures: BTreeMap<ContainerName, StartFailure>,
    /// Containers that wait for their back-off, and from when on they are shown so: until they are started, though the
    /// wait may be over before. Source of behaviour: Kubernetes kubelet, `ReasonCache`, which is read once more only
    /// when the pod is looked at again.
    pub crash_waits: BTreeMap<ContainerName, Moment>,
    /// No sandbox is created before this, after a failure to create one (CTR-05).
    pub sandbox_retry_at: Option<Moment>,
    /// Restart count that follows from the log files on disk (CTR-21), for names of which the
    /// runtime has no container.
    pub next_restart_by_logs: BTreeMap<ContainerName, u32>,
    /// Delays of restarts.
    pub crash_backoff: Backoffs<CrashKey>,
}

impl History {
    /// Nothing happened yet.
    pub fn new(policy: crate::backoff::BackoffPolicy) -> Self {
        Self {
            probes: BTreeMap::new(),
            start_failures: BTreeMap::new(),
            crash_waits: BTreeMap::new(),
            sandbox_retry_at: None,
            next_restart_by_logs: BTreeMap::new(),
            crash_backoff: Backoffs::new(policy),
        }
    }

    /// Results of one container.
    pub fn probes_of(&self, id: &ContainerId) -> ProbeResults {
        self.probes.get(id).copied().unwrap_or_default()
    }

    /// A start has failed.
    pub fn note_failure(&mut self, container: ContainerName, failure: StartFailure) {
        self.crash_waits.remove(&container);
        self.start_failures.insert(container, failure);
    }

    /// A start has succeeded.
    pub fn note_success(&mut self, container: &ContainerName) {
        self.crash_waits.remove(container);
        self.start_failures.remove(container);
    }

    /// Whether its latest start failed after the container ran: its `postStart` hook did, and it was stopped.
    pub fn hook_failed(&self, name: &ContainerName) -> bool {
        let failure = self.start_failures.get(name);
        failure.is_some_and(|failure| failure.reason == WaitingReason::PostStartHookError)
    }

    /// The pod was edited in place: what failed before may go well now, so nothing waits for it. The
    /// delays of crashes and image pulls have keys that change with what they are about.
    pub fn pod_changed(&mut self) {
        self.sandbox_retry_at = None;
        for failure in self.start_failures.values_mut() {
            failure.retry_at = None;
            failure.made = None;
        }
    }

    /// What the container's next start waits for, if it does not go ahead: a failed start (CTR-23), or its
    /// back-off.
    pub fn start_wait(
        &self,
        pod: &Pod,
        container: &Container,
        observed: &ObservedPod,
        now: Timestamp,
        moment: Moment,
    ) -> Option<StartWait<'_>> {
        let name = container.name.as_str();
        // What runs had been started after that failure.
        let runs = |latest: &ObservedContainer| latest.state == ContainerState::Running;
        if !observed.latest(name).is_some_and(runs)
            && let Some(failure) = self.start_failures.get(name)
            && let Some(due) = failure.due(name, observed).filter(|due| *due > moment)
        {
            return Some(StartWait::Failure(failure, due.saturating_sub(moment)));
        }
        let key = CrashKey::new(pod, container);
        let ended_at = observed.latest_end(name)?;
        let wait = self.crash_backoff.wait_since(&key, ended_at, now)?;
        Some(StartWait::CrashLoop(wait))
    }

    /// A container was found to wait for its back-off until then. How it ended, or why it did not start, is shown
    /// for `look_again` more; the back-off at least for a second.
    pub fn note_crash_wait(
        &mut self,
        name: ContainerName,
        left: Duration,
        look_again: Duration,
        moment: Moment,
    ) {
        let from = moment.saturating_add(look_again.min(left.saturating_sub(SHOWN_AT_LEAST)));
        self.crash_waits.entry(name).or_insert(from);
    }

    /// Whether the container is shown as waiting for its back-off.
    pub fn shows_crash_wait(&self, name: &str, moment: Moment) -> bool {
        self.crash_waits
            .get(name)
            .is_some_and(|from| *from <= moment)
    }

    /// How long until a container is shown as waiting for its back-off that is not yet.
    pub fn next_shown(&self, moment: Moment) -> Option<Duration> {
        let ahead = self.crash_waits.values().filter(|from| **from > moment);
        ahead.map(|from| from.saturating_sub(moment)).min()
    }

    /// Notes a start that [`super::compute_pod_actions`] planned; call it when the start is tried.
    pub fn note_start(&mut self, start: &ContainerStart, now: Timestamp) {
        if let Some((key, ended_at)) = &start.after_exit {
            self.crash_backoff
                .fail(key.clone(), *ended_at, now, Duration::ZERO);
        }
    }
}
