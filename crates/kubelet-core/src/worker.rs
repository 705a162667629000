//! The life of one pod on this node, as a value: one per uid, driven by [`step`].
//!
//! Kubernetes kubelet, `pod_workers.go` (LIFE-30..37). Once termination has begun it never goes
//! back, and the grace period only shrinks.
//!
//! ```text
//!              Kill, deletionTimestamp,                NothingRuns                ResourcesReleased
//!              terminal phase, orphan
//! Syncing ───────────────────────────────► Terminating ───────────► Terminated ───────────────────► Finished
//!    ▲ │                                     ▲ │  shorter grace:       volumes, cgroup               the owner
//!    └─┘ Changed: sync again                 └─┘  kill again                                        forgets it
//! ```
//!
//! A uid that appears again while it terminates is remembered and started afresh, by a new worker,
//! when this one has finished (SRC-42). Nothing here survives a restart of the kubelet: the next one
//! starts from its sources and from what the runtime has.

mod static_starts;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use thiserror::Error;

use crate::spec;

pub use static_starts::StaticStarts;

/// Grace in seconds of a pod that only the runtime knows (SRC-44).
pub const ORPHAN_GRACE_SECONDS: i64 = 1;

/// Why a pod ends (LIFE-31).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TerminationCause {
    /// Its source no longer has it.
    Removed,
    /// It has a deletion timestamp.
    Deleted,
    /// Its phase is Succeeded or Failed.
    Completed,
    /// The node is under pressure or needs the room; the status says why.
    Evicted,
    /// The node shuts down.
    NodeShutdown,
    /// Only the runtime has it.
    Orphaned,
}

/// Where a pod stands.
#[derive(Debug, Clone, PartialEq)]
pub enum PodWork {
    /// It shall run: each pass reads, decides and applies.
    Syncing {
        /// The newest version.
        pod: Arc<Pod>,
    },
    /// It is being stopped: each pass kills what may still run.
    Terminating(Termination),
    /// Nothing of it runs: each pass releases volumes and cgroup.
    Terminated(Termination),
    /// Nothing is left to do. The owner drops it.
    Finished {
        /// Why it ended.
        cause: TerminationCause,
    },
}

/// What is known about a pod that ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Termination {
    /// The newest version; `None` for what only the runtime has.
    pub pod: Option<Arc<Pod>>,
    /// Why it ends: the first cause.
    pub cause: TerminationCause,
    /// Seconds the containers get. It only shrinks (LIFE-32).
    pub grace_seconds: i64,
    /// Since when.
    pub since: Timestamp,
    /// The same uid appeared again meanwhile (SRC-42).
    pub restart: Option<Arc<Pod>>,
}

/// What happens to a pod.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkerEvent {
    /// A source has it, and did not before.
    Appeared(Arc<Pod>),
    /// A source has another version of it, or its status changed at the API.
    Changed(Arc<Pod>),
    /// Something wants it to end.
    Kill {
        /// Why.
        cause: TerminationCause,
        /// Seconds to use instead of the pod's own grace.
        grace_override: Option<i64>,
    },
    /// A sync computed a terminal phase.
    BecameTerminal,
    /// The runtime was read: no container and no sandbox of the pod may run any more.
    NothingRuns,
    /// Volumes are unmounted and the pod's cgroup is gone.
    ResourcesReleased,
}

/// What the owner of a worker does next, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkerEffect {
    /// Abandon the running pass: it works towards something else.
    CancelPass,
    /// Make a pass that brings the pod to run.
    Sync,
    /// Stop liveness and startup probes; readiness goes on (LIFE-33).
    StopProbes,
    /// Kill the pod, and look whether something still runs.
    KillPod {
        /// Seconds for the containers.
        grace_seconds: i64,
    },
    /// Forget all probes of the pod.
    RemoveProbes,
    /// Publish the status with the containers' final states (LIFE-33).
    PublishFinalStatus,
    /// Unmount volumes, remove the cgroup and the pod's directory (LIFE-34).
    ReleaseResources,
    /// The pod is over: wake whoever waits for it, forget the worker.
    Forget,
    /// Start a new worker with this pod (SRC-42).
    StartAnew(Arc<Pod>),
    /// The event makes no sense here. Nothing changed; log it.
    Refuse(Refusal),
}

/// An event that does not fit the state: a fault of the caller, harmless to the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Asked to go on with a termination that has not begun.
    #[error("the pod is not terminating")]
    NotTerminating,
    /// Asked to release resources of a pod that may still run.
    #[error("containers of the pod may still run")]
    MayStillRun,
    /// The worker is over.
    #[error("the worker has finished")]
    Finished,
}

impl PodWork {
    /// A worker for a pod that a source has. A pod that is already to end starts by terminating.
    pub fn start(pod: Arc<Pod>, now: Timestamp) -> (Self, Vec<WorkerEffect>) {
        step(
            Self::Syncing {
                pod: Arc::clone(&pod),
            },
            WorkerEvent::Changed(pod),
            now,
        )
    }

    /// A worker for a pod that only the runtime has (SRC-44).
    pub fn start_orphan(now: Timestamp) -> (Self, Vec<WorkerEffect>) {
        let cause = TerminationCause::Orphaned;
        terminate(None, cause, Some(ORPHAN_GRACE_SECONDS), now, Vec::new())
    }

    /// Whether containers may be started in this state.
    pub fn may_start_containers(&self) -> bool {
        matches!(self, Self::Syncing { .. })
    }

    /// Whether termination was asked for (LIFE-30).
    pub fn is_terminating(&self) -> bool {
        !matches!(self, Self::Syncing { .. })
    }

    /// Whether all containers of the pod are known to have ended.
    pub fn is_terminated(&self) -> bool {
        matches!(self, Self::Terminated(_) | Self::Finished { .. })
    }

    /// The newest version of the pod, where known.
    pub fn pod(&self) -> Option<&Arc<Pod>> {
        match self {
            Self::Syncing { pod } => Some(pod),
            Self::Terminating(termination) | Self::Terminated(termination) => {
                termination.pod.as_ref()
            }
            Self::Finished { .. } => None,
        }
    }
}

/// The one function that moves a pod along.
pub fn step(state: PodWork, event: WorkerEvent, now: Timestamp) -> (PodWork, Vec<WorkerEffect>) {
    match state {
        PodWork::Syncing { pod } => step_syncing(pod, event, now),
        PodWork::Terminating(termination) => step_terminating(termination, event),
        PodWork::Terminated(termination) => step_terminated(termination, event),
        PodWork::Finished { cause } => {
            let effect = match event {
                WorkerEvent::Appeared(pod) => WorkerEffect::StartAnew(pod),
                _ => WorkerEffect::Refuse(Refusal::Finished),
            };
            (PodWork::Finished { cause }, vec![effect])
        }
    }
}

fn step_syncing(pod: Arc<Pod>, event: WorkerEvent, now: Timestamp) -> (PodWork, Vec<WorkerEffect>) {
    let cancel = vec![WorkerEffect::CancelPass];
    match event {
        WorkerEvent::Appeared(newer) | WorkerEvent::Changed(newer) => match end_in_spec(&newer) {
            Some(cause) => terminate(Some(newer), cause, None, now, cancel),
            None => (PodWork::Syncing { pod: newer }, vec![WorkerEffect::Sync]),
        },
        WorkerEvent::Kill {
            cause,
            grace_override,
        } => terminate(Some(pod), cause, grace_override, now, cancel),
        WorkerEvent::BecameTerminal => terminate(
            Some(pod),
            TerminationCause::Completed,
            None,
            now,
            Vec::new(),
        ),
        WorkerEvent::NothingRuns | WorkerEvent::ResourcesReleased => {
            let refuse = WorkerEffect::Refuse(Refusal::NotTerminating);
            (PodWork::Syncing { pod }, vec![refuse])
        }
    }
}

fn step_terminating(
    mut termination: Termination,
    event: WorkerEvent,
) -> (PodWork, Vec<WorkerEffect>) {
    let before = termination.grace_seconds;
    match event {
        WorkerEvent::Appeared(pod) => {
            termination.restart = Some(pod);
            (PodWork::Terminating(termination), Vec::new())
        }
        WorkerEvent::Changed(pod) => {
            if termination.restart.is_some() {
                // The new life of the uid changed; this one ends as it is.
                termination.restart = Some(pod);
                return (PodWork::Terminating(termination), Vec::new());
            }
            termination.grace_seconds = effective_grace(Some(before), Some(&pod), None);
            termination.pod = Some(pod);
            kill_again_if_shorter(termination, before)
        }
        WorkerEvent::Kill { grace_override, .. } => {
            termination.restart = None;
            termination.grace_seconds =
                effective_grace(Some(before), termination.pod.as_deref(), grace_override);
            kill_again_if_shorter(termination, before)
        }
        WorkerEvent::BecameTerminal => (PodWork::Terminating(termination), Vec::new()),
        WorkerEvent::NothingRuns => (
            PodWork::Terminated(termination),
            vec![
                WorkerEffect::RemoveProbes,
                WorkerEffect::PublishFinalStatus,
                WorkerEffect::ReleaseResources,
            ],
        ),
        WorkerEvent::ResourcesReleased => {
            let refuse = WorkerEffect::Refuse(Refusal::MayStillRun);
            (PodWork::Terminating(termination), vec![refuse])
        }
    }
}

fn step_terminated(
    mut termination: Termination,
    event: WorkerEvent,
) -> (PodWork, Vec<WorkerEffect>) {
    match event {
        WorkerEvent::Appeared(pod) => termination.restart = Some(pod),
        WorkerEvent::Changed(pod) if termination.restart.is_some() => {
            termination.restart = Some(pod);
        }
        WorkerEvent::Changed(pod) => termination.pod = Some(pod),
        WorkerEvent::Kill { .. } => termination.restart = None,
        WorkerEvent::BecameTerminal | WorkerEvent::NothingRuns => {}
        WorkerEvent::ResourcesReleased => {
            let mut effects = vec![WorkerEffect::Forget];
            effects.extend(termination.restart.map(WorkerEffect::StartAnew));
            return (
                PodWork::Finished {
                    cause: termination.cause,
                },
                effects,
            );
        }
    }
    (PodWork::Terminated(termination), Vec::new())
}

fn terminate(
    pod: Option<Arc<Pod>>,
    cause: TerminationCause,
    grace_override: Option<i64>,
    now: Timestamp,
    mut effects: Vec<WorkerEffect>,
) -> (PodWork, Vec<WorkerEffect>) {
    let grace_seconds = effective_grace(None, pod.as_deref(), grace_override);
    effects.push(WorkerEffect::StopProbes);
    effects.push(WorkerEffect::KillPod { grace_seconds });
    let termination = Termination {
        pod,
        cause,
        grace_seconds,
        since: now,
        restart: None,
    };
    (PodWork::Terminating(termination), effects)
}

fn kill_again_if_shorter(termination: Termination, before: i64) -> (PodWork, Vec<WorkerEffect>) {
    let grace_seconds = termination.grace_seconds;
    let effects = if grace_seconds < before {
        vec![
            WorkerEffect::CancelPass,
            WorkerEffect::KillPod { grace_seconds },
        ]
    } else {
        Vec::new()
    };
    (PodWork::Terminating(termination), effects)
}

/// Whether the pod itself says that it ends (LIFE-31).
fn end_in_spec(pod: &Pod) -> Option<TerminationCause> {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    if pod.metadata.deletion_timestamp.is_some() {
        Some(TerminationCause::Deleted)
    } else if spec::is_terminal_phase(phase) {
        Some(TerminationCause::Completed)
    } else {
        None
    }
}

/// Seconds of grace (LIFE-32): the smallest of what was decided before, the deletion's grace and
/// the override; the pod's own when none of them is given; at least 1.
pub fn effective_grace(before: Option<i64>, pod: Option<&Pod>, grace_override: Option<i64>) -> i64 {
    let deletion = pod.and_then(|pod| pod.metadata.deletion_grace_period_seconds);
    let own = || {
        pod.and_then(|pod| pod.spec.as_ref())
            .and_then(|spec| spec.termination_grace_period_seconds)
    };
    before
        .into_iter()
        .chain(deletion)
        .chain(grace_override)
        .min()
        .or_else(own)
        .unwrap_or(ORPHAN_GRACE_SECONDS)
        .max(1)
}

/// How long an eviction or preemption waits for the kill to end (LIFE-35): the larger of 10 s and
/// one and a half times the grace.
pub fn blocking_kill_deadline(grace_seconds: i64) -> Duration {
    let grace = Duration::from_secs(u64::try_from(grace_seconds).unwrap_or(0));
    Duration::from_secs(10).max(grace.saturating_mul(3) / 2)
}

#[cfg(test)]
mod tests;
