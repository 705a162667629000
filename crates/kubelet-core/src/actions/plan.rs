//! The plan as data: what to stop, remove, create, start and wait for.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerPort, LifecycleHandler};

use crate::backoff::CrashKey;
use crate::ids::{ContainerId, ContainerName, SandboxId};
use crate::reasons::WaitingReason;
use crate::spec::ContainerKind;

/// Why a sandbox is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxReason {
    /// There is none.
    Missing,
    /// More than one is ready.
    SeveralReady,
    /// The newest is not ready.
    NotReady,
    /// The pod's network changed between its own and the node's.
    NetworkModeChanged,
    /// It has no address.
    NoAddress,
}

impl SandboxReason {
    /// Whether a sandbox stood before: event `SandboxChanged` (CTR-03).
    pub fn is_replacement(self) -> bool {
        !matches!(self, Self::Missing | Self::NetworkModeChanged)
    }
}

/// Why a container is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillReason {
    /// The whole pod is stopped.
    PodStops,
    /// Name or image changed (CTR-12).
    DefinitionChanged,
    /// Liveness probe failed (CTR-13).
    LivenessProbe,
    /// Startup probe failed (CTR-14).
    StartupProbe,
    /// State unknown: it may still run (CTR-11).
    UnknownState,
    /// The pod no longer has a container of that name.
    NotInPod,
    /// A newer container of the same name is there.
    Superseded,
    /// Its `postStart` failed (CTR-44).
    PostStartHook,
}

/// A `preStop` hook with what it needs to run: the pod may be known by its containers alone (CTR-43).
#[derive(Debug, Clone, PartialEq)]
pub struct PreStop {
    /// What to run.
    pub handler: LifecycleHandler,
    /// The container's ports, which the handler may name.
    pub ports: Vec<ContainerPort>,
    /// The pod's first address.
    pub ip: Option<IpAddr>,
}

/// A container to stop.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerKill {
    /// The runtime's id.
    pub id: ContainerId,
    /// Its name.
    pub name: ContainerName,
    /// Why.
    pub reason: KillReason,
    /// Text of the event `Killing` (CTR-41).
    pub message: String,
    /// Seconds for `preStop` and the signal together (CTR-40); see [`super::stop_timeout_seconds`].
    pub grace_seconds: i64,
    /// What is to run before the signal, if anything.
    pub pre_stop: Option<Box<PreStop>>,
    /// Names that end before this one is signalled, as long as the grace lasts (CTR-42). Its
    /// `preStop` does not wait.
    pub after: Vec<ContainerName>,
}

/// Stopping a whole pod: containers at once (in order where they say so), then the sandboxes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PodKill {
    /// Containers to stop.
    pub containers: Vec<ContainerKill>,
    /// Sandboxes to stop afterwards, newest first.
    pub sandboxes: Vec<SandboxId>,
}

impl PodKill {
    /// Whether nothing is left to stop.
    pub fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.sandboxes.is_empty()
    }
}

/// A sandbox to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxCreate {
    /// The attempt number; it only grows.
    pub attempt: u32,
    /// Why.
    pub reason: SandboxReason,
}

/// Why a container is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartReason {
    /// It never ran.
    Missing,
    /// It ended and its policy says again.
    Exited,
    /// It was created and never started (CTR-11).
    OnlyCreated,
    /// It is stopped by this plan and shall run again.
    Replaced,
    /// It is of unknown state and is stopped by this plan (CTR-11).
    Unknown,
}

/// What a failing start means for the rest of the plan (CTR-02).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStartFailure {
    /// Go on with the next.
    Continue,
    /// Start nothing more: the next containers rely on this one.
    Abort,
}

/// A container to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerStart {
    /// Its name.
    pub name: ContainerName,
    /// What it is to the pod.
    pub kind: ContainerKind,
    /// Its place in its list in the specification.
    pub index: usize,
    /// The restart count it gets (CTR-21).
    pub attempt: u32,
    /// Why.
    pub reason: StartReason,
    /// The instance before it ended then: [`super::History::note_start`] grows the delay from it.
    pub after_exit: Option<(CrashKey, Timestamp)>,
    /// What follows if it fails.
    pub on_failure: OnStartFailure,
}

/// A container that shall run, but not yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerWait {
    /// Its name.
    pub name: ContainerName,
    /// What it is to the pod.
    pub kind: ContainerKind,
    /// `waiting.reason`.
    pub reason: WaitingReason,
    /// `waiting.message`.
    pub message: String,
    /// When to try again.
    pub until: Timestamp,
}

/// A dead container to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRemoval {
    /// The runtime's id.
    pub id: ContainerId,
    /// Its name.
    pub name: ContainerName,
}

/// The plan. Empty parts mean nothing to do there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PodActions {
    /// Stop everything (then [`Self::kill`] is empty).
    pub kill_pod: PodKill,
    /// Stop single containers.
    pub kill: Vec<ContainerKill>,
    /// Remove dead init containers: all of them before a new sandbox, else all but the newest of
    /// each name.
    pub remove: Vec<ContainerRemoval>,
    /// Create a sandbox.
    pub create_sandbox: Option<SandboxCreate>,
    /// The sandbox that stands and is kept; `None` when one is created or none is needed.
    pub sandbox: Option<SandboxId>,
    /// Start these, in this order.
    pub start: Vec<ContainerStart>,
    /// These wait.
    pub wait: Vec<ContainerWait>,
    /// Nothing of the pod shall run any more (CTR-06): once [`Self::kill_pod`] is done it is over.
    pub done: bool,
    /// When to plan again although nothing happens.
    pub retry_at: Option<Timestamp>,
}

impl PodActions {
    /// Whether it asks for the same work as another plan, whatever waits and until when.
    pub fn asks_the_same(&self, other: &Self) -> bool {
        // All fields are named: a new one has to be thought of.
        let Self {
            kill_pod,
            kill,
            remove,
            create_sandbox,
            sandbox,
            start,
            wait: _,
            done,
            retry_at: _,
        } = other;
        self.kill_pod == *kill_pod
            && self.kill == *kill
            && self.remove == *remove
            && self.create_sandbox == *create_sandbox
            && self.sandbox == *sandbox
            && self.start == *start
            && self.done == *done
    }

    /// Whether there is nothing to do now.
    pub fn is_empty(&self) -> bool {
        self.kill_pod.is_empty()
            && self.kill.is_empty()
            && self.remove.is_empty()
            && self.create_sandbox.is_none()
            && self.start.is_empty()
    }
}
