//! What a test asks the fake to do differently, and what it was asked.

use std::{collections::BTreeMap, fmt, sync::Arc, time::SystemTime};

use cri_api::{Code, v1};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::objects::{FakeContainer, FakeSandbox};

/// The calls of both services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the protocol's names")]
pub enum Call {
    Version,
    RunPodSandbox,
    StopPodSandbox,
    RemovePodSandbox,
    PodSandboxStatus,
    ListPodSandbox,
    CreateContainer,
    StartContainer,
    StopContainer,
    RemoveContainer,
    ListContainers,
    ContainerStatus,
    UpdateContainerResources,
    ReopenContainerLog,
    ExecSync,
    Exec,
    Attach,
    PortForward,
    ContainerStats,
    ListContainerStats,
    PodSandboxStats,
    ListPodSandboxStats,
    UpdateRuntimeConfig,
    Status,
    CheckpointContainer,
    GetContainerEvents,
    ListMetricDescriptors,
    ListPodSandboxMetrics,
    RuntimeConfig,
    UpdatePodSandboxResources,
    ListImages,
    ImageStatus,
    PullImage,
    RemoveImage,
    ImageFsInfo,
}

/// A call that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRecord {
    /// Which.
    pub call: Call,
    /// The id or name of what it was about; empty for calls about everything.
    pub object: String,
    /// When it came.
    pub at: SystemTime,
}

/// What a container does when it is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStop {
    /// It exits at once with this code.
    Exit(i32),
    /// It runs on until the grace period is over and is killed then (137).
    Ignore,
}

#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) times: usize,
    pub(super) code: Code,
    pub(super) message: String,
}

type Look = dyn Fn(&[&FakeSandbox], &[&FakeContainer]) + Send + Sync;

/// Somebody who sees every state.
#[derive(Clone)]
pub(super) struct Watch(pub(super) Arc<Look>);

impl Watch {
    pub(super) fn look(&self, sandboxes: &[&FakeSandbox], containers: &[&FakeContainer]) {
        (self.0)(sandboxes, containers);
    }
}

type Exec = Arc<dyn Fn(&v1::ExecSyncRequest) -> v1::ExecSyncResponse + Send + Sync>;

#[derive(Default)]
pub(super) struct Script {
    pub(super) calls: Vec<CallRecord>,
    pub(super) failures: BTreeMap<Call, Failure>,
    pub(super) holds: BTreeMap<Call, CancellationToken>,
    pub(super) pulls: BTreeMap<String, (Code, String)>,
    pub(super) exits: BTreeMap<String, i32>,
    pub(super) stops: BTreeMap<String, OnStop>,
    pub(super) exec: Option<Exec>,
    pub(super) lost_answers: BTreeMap<Call, usize>,
    pub(super) watch: Option<Watch>,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script")
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}

impl Script {
    /// Whether the answer to a call that was done gets lost.
    pub(super) fn loses_answer(&mut self, call: Call) -> bool {
        let Some(times) = self.lost_answers.get_mut(&call) else {
            return false;
        };
        *times -= 1;
        if *times == 0 {
            self.lost_answers.remove(&call);
        }
        true
    }

    /// The failure that a call meets now, if any.
    pub(super) fn take_failure(&mut self, call: Call) -> Option<Failure> {
        let failure = self.failures.get_mut(&call)?;
        let now = failure.clone();
        failure.times = failure.times.saturating_sub(1);
        if failure.times == 0 {
            self.failures.remove(&call);
        }
        Some(now)
    }
}

/// Keeps calls waiting until it is dropped.
#[derive(Debug)]
#[must_use = "dropping it lets the calls go on"]
pub struct Held {
    token: CancellationToken,
    _guard: DropGuard,
}

impl Held {
    pub(super) fn new() -> Self {
        let token = CancellationToken::new();
        Self {
            _guard: token.clone().drop_guard(),
            token,
        }
    }

    pub(super) fn gate(&self) -> CancellationToken {
        self.token.clone()
    }
}
