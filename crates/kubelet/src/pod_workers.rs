//! One worker per pod: reads what the runtime has, decides, does, publishes, and waits for news.
//!
//! ```text
//!            Wanted::Run                      Wanted::Stop
//!  start ──▶ syncing ⟲ (news, timers) ──────────────▶ terminating ──▶ cleaning up ──▶ end
//!               │                                        │  nothing runs any more      │
//!               └─ finished: idle until told otherwise   └─ failed step: again later ──┘
//! ```
//!
//! Owner task: [`PodWorker::run`]. Inputs: the newest [`Wanted`] on a `watch`, a bell for news from
//! the runtime, timers. Outputs: CRI calls, files of the pod, the status store, [`News`] of ends. `Wanted::Stop` is
//! final: the sync loop starts a new worker if the pod is wanted again after this one has ended.
//! Nothing that a decision needs is kept in memory over a restart: every pass reads the runtime
//! anew; what is lost is the growth of delays, as upstream loses it. How a pod ended is on record
//! beside its files.

mod exits;
mod finished;
mod hooks;
mod kill;
mod mounts;
mod sandbox;
mod start;
mod sync;
mod terminate;

pub(crate) use exits::remove_dangling_links;
pub(crate) use finished::is_on_record;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use daemon::Tidy;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use kubelet_core::{
    actions::History,
    backoff::BackoffPolicy,
    downward::Allocatable,
    ids::{ContainerId, PodKey, PodUid},
    moment::Moment,
    resources::PodCgroupSettings,
    spec::RestartRules,
    status::IpFamily,
    status::Verdict,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock,
    control_plane::ControlPlane,
    events::{EventType, Events, ObjectRef},
    images::ImagePuller,
    jitter,
    lifecycle::Hooks,
    metrics::Metrics,
    node::cgroups::PodCgroups,
    pod_dirs::PodDirs,
    probes::Probes,
    runtime::{client::CriClient, health::HealthView, wakes::Wakes},
    status_store::StatusStore,
    volumes::{SeenHostPaths, Volumes},
};

/// After a pass that failed (LIFE-04), before the jitter.
const RETRY_AFTER_ERROR: Duration = Duration::from_secs(10);
/// After a pass that waits for the runtime's network (LIFE-04), before the jitter.
const RETRY_AFTER_NETWORK: Duration = Duration::from_secs(1);
/// Waits are stretched by up to this share (LIFE-03, LIFE-04).
const JITTER: f64 = 0.5;

/// What the sync loop wants of a worker.
#[derive(Debug, Clone)]
pub(crate) enum Wanted {
    /// The pod shall run.
    Run {
        /// With what it was given.
        pod: Arc<Pod>,
        /// What tells that it asks for something else.
        resize: Option<PodCondition>,
    },
    /// The pod shall end; final.
    Stop {
        /// The pod, unless only the runtime knows of it (SRC-44).
        pod: Option<Arc<Pod>>,
        /// Its name.
        key: PodKey,
        /// Replaces each container's grace, in seconds.
        grace_override: Option<i64>,
    },
}

impl Wanted {
    fn is_stop(&self) -> bool {
        matches!(self, Self::Stop { .. })
    }

    fn key(&self) -> PodKey {
        match self {
            Self::Run { pod, .. } => PodKey::of(pod),
            Self::Stop { key, .. } => key.clone(),
        }
    }
}

/// What a worker tells the sync loop of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// The pod has ended for good and holds nothing any more; the worker stays for its record, or for what cannot
    /// be removed yet.
    Over(PodUid),
    /// The pod is gone, and the worker with it.
    Ended(PodUid),
}

/// Everything a worker works with.
#[derive(Debug)]
pub(crate) struct PodContext {
    pub(crate) runtime: CriClient,
    /// How containers are named in statuses: `docker` in `docker://id` (STAT-07).
    pub(crate) runtime_name: String,
    pub(crate) health: HealthView,
    pub(crate) wakes: Arc<Wakes>,
    pub(crate) images: ImagePuller,
    pub(crate) probes: Probes,
    pub(crate) hooks: Hooks,
    pub(crate) volumes: Volumes,
    pub(crate) dirs: PodDirs,
    pub(crate) cgroups: PodCgroups,
    pub(crate) events: Events,
    pub(crate) control_plane: Arc<dyn ControlPlane>,
    pub(crate) statuses: Arc<StatusStore>,
    pub(crate) metrics: Metrics,
    pub(crate) tidy: Arc<Tidy>,
    pub(crate) node: NodeFacts,
}

/// The node's own addresses (SPEC-31).
pub(crate) trait HostIps: std::fmt::Debug + Send + Sync {
    /// Those of now, primary first; none where there are none, or none yet. Blocks.
    fn find(&self) -> Vec<IpAddr>;
}

/// What a pod's translation needs to know about the node.
#[derive(Debug, Clone)]
pub(crate) struct NodeFacts {
    pub(crate) facts: kubelet_core::translate::NodeFacts,
    /// `clusterDNS`.
    pub(crate) cluster_dns: Vec<IpAddr>,
    /// `--node-ip`, primary first; `::` stands for its family.
    pub(crate) ips: Vec<IpAddr>,
    /// `status.hostIP`.
    pub(crate) host_ips: Arc<dyn HostIps>,
    /// What the node has for pods.
    pub(crate) allocatable: Allocatable,
    /// Gate `EnvFiles` (SPEC-33).
    pub(crate) env_files: bool,
    /// How pods' cgroups are sized.
    pub(crate) pod_cgroups: PodCgroupSettings,
    pub(crate) resolv_conf: Option<PathBuf>,
    pub(crate) logs_directory: PathBuf,
    pub(crate) log_links_directory: PathBuf,
    pub(crate) sync_frequency: Duration,
    pub(crate) gates: Gates,
    pub(crate) restart_backoff: BackoffPolicy,
}

impl NodeFacts {
    /// The family of a pod's first address: that of the node's first (STAT-20).
    pub(crate) fn primary_family(&self) -> IpFamily {
        self.ips
            .first()
            .copied()
            .map_or_else(IpFamily::default, IpFamily::of)
    }
}

/// Feature gates that change what becomes of containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Gates {
    /// `ContainerRestartRules` (CTR-36).
    pub(crate) restart_rules: RestartRules,
    /// `ContainerStopSignals` (CTR-46).
    pub(crate) stop_signals: bool,
    /// `InPlacePodVerticalScaling`: what pods were given is kept and shown, and resizes are told of (CTR-52).
    pub(crate) in_place_resize: bool,
    /// `SupplementalGroupsPolicy`: `Strict` is admitted, and who a container runs as is shown (STAT-07).
    pub(crate) supplemental_groups: bool,
}

/// How a pass ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// All is as wanted; look again when told, or at this time.
    Settled(Option<Timestamp>),
    /// Something failed; look again after this wait.
    Retry(Duration),
    /// The runtime is away; look again when it is back.
    RuntimeDown,
    /// The pod is gone: the worker ends.
    Finished,
}

/// One pod's worker.
#[derive(Debug)]
pub(crate) struct PodWorker {
    uid: PodUid,
    key: PodKey,
    context: Arc<PodContext>,
    history: History,
    /// The last published status: a terminal phase and the start time are kept from it.
    status: Option<PodStatus>,
    /// Termination messages by container, read once when it ended.
    messages: BTreeMap<ContainerId, String>,
    /// A pass is stopping something.
    killing: watch::Sender<bool>,
    /// Containers whose log is linked under `/var/log/containers`.
    linked: BTreeSet<ContainerId>,
    /// The pod as the last pass had it.
    last: Option<Arc<Pod>>,
    /// What tells of a resize that is not made.
    resize: Option<PodCondition>,
    /// Waits that an event has told of already.
    told_waits: BTreeMap<String, Timestamp>,
    seen_host_paths: SeenHostPaths,
    /// Passes since the last good one that failed for a volume (VOL-01).
    mount_failures: u32,
    first_seen: Instant,
    started: bool,
    /// What has been done about the pod's end.
    end: finished::End,
    /// The pod is to go, and nothing of it is left but dead containers and files.
    holds_nothing: bool,
    /// The kubelet's own judgement, which makes the pod Failed.
    verdict: Option<Verdict>,
}

impl PodWorker {
    /// A worker for one pod.
    pub(crate) fn new(uid: PodUid, wanted: &Wanted, context: Arc<PodContext>) -> Self {
        let history = History::new(context.node.restart_backoff);
        Self {
            uid,
            key: wanted.key(),
            context,
            history,
            status: None,
            messages: BTreeMap::new(),
            killing: watch::Sender::new(false),
            linked: BTreeSet::new(),
            last: None,
            resize: None,
            told_waits: BTreeMap::new(),
            seen_host_paths: SeenHostPaths::default(),
            mount_failures: 0,
            first_seen: Instant::now(),
            started: false,
            end: finished::End::default(),
            holds_nothing: false,
            verdict: None,
        }
    }

    /// The pod's name.
    pub(crate) fn key(&self) -> &PodKey {
        &self.key
    }

    /// Works until the pod is gone or the token is cancelled; then containers stay as they are.
    ///
    /// Boxed, since a future holds what it is given twice, and each pod of the node has one.
    #[tracing::instrument(name = "pod", skip_all, fields(pod = %self.key, pod.uid = %self.uid))]
    pub(crate) async fn run(
        mut self: Box<Self>,
        mut wanted: watch::Receiver<Wanted>,
        news: &mpsc::Sender<News>,
        shutdown: CancellationToken,
    ) {
        let (mut told, mut told_of_rest) = (false, false);
        let bell = self.context.wakes.register(&self.uid);
        let mut health = self.context.health.clone();
        loop {
            let current = wanted.borrow_and_update().clone();
            let timer = self
                .context
                .metrics
                .pod_worker_duration
                .with_label_values(&[if current.is_stop() { "kill" } else { "sync" }]);
            let began = Instant::now();
            let outcome = match current {
                Wanted::Run { pod, resize } => {
                    self.resize = resize;
                    // A receiver of its own: waiting marks what it sees as seen, and an edit that comes during the
                    // pass is for the next one.
                    let (mut stop, mut killing) = (wanted.clone(), self.killing.subscribe());
                    // What is being stopped has its signal and its hook already: that is not begun anew (CTR-43).
                    let stop = async {
                        let _ = stop.wait_for(Wanted::is_stop).await;
                        let _ = killing.wait_for(|killing| !killing).await;
                    };
                    tokio::select! {
                        biased;
                        // cancel-safe: a token.
                        () = shutdown.cancelled() => return,
                        // cancel-safe: the next pass reads everything anew, and what a dropped
                        // call had begun the runtime ends by itself.
                        () = stop => continue,
                        outcome = self.sync(&pod) => outcome,
                    }
                }
                Wanted::Stop {
                    pod,
                    grace_override,
                    ..
                } => {
                    tokio::select! {
                        biased;
                        // cancel-safe: a token.
                        () = shutdown.cancelled() => return,
                        // cancel-safe: as above. A grace may shrink while it runs (LIFE-32).
                        () = shorter(&mut wanted, grace_override) => continue,
                        // cancel-safe: as above; stopping goes on in the runtime.
                        outcome = self.terminate(pod.as_ref(), grace_override) => outcome,
                    }
                }
            };
            timer.observe(began.elapsed().as_secs_f64());
            let wake_at = match outcome {
                Outcome::Finished => break,
                Outcome::Settled(at) => {
                    let resync = jittered(self.context.node.sync_frequency);
                    at.map_or(resync, |at| until(at).min(resync))
                }
                Outcome::Retry(after) => jittered(after),
                Outcome::RuntimeDown => {
                    self.context.health.doubt();
                    tokio::select! {
                        biased;
                        // cancel-safe: a token.
                        () = shutdown.cancelled() => return,
                        // cancel-safe: a watch. The short wait lets the verdict change first.
                        () = async {
                            tokio::time::sleep(Duration::from_millis(100)).await;
                            health.up().await;
                        } => continue,
                    }
                }
            };
            if self.end == finished::End::Settled && !told {
                // It fails where the sync loop is gone, which the wait below notices too.
                told = news.send(News::Over(self.uid.clone())).await.is_ok();
            }
            if self.holds_nothing && !told_of_rest {
                told_of_rest = news.send(News::Over(self.uid.clone())).await.is_ok();
            }
            tokio::select! {
                biased;
                // cancel-safe: a token.
                () = shutdown.cancelled() => return,
                // cancel-safe: the value stays in the watch. Its end means the sync loop's.
                changed = wanted.changed() => if changed.is_err() { return },
                // cancel-safe: a permit stays for the next wait.
                () = bell.notified() => {}
                // cancel-safe: a timer.
                () = tokio::time::sleep(wake_at) => {}
            }
        }
        self.context.probes.remove(&self.uid);
        self.context.statuses.remove_observed(&self.uid);
        self.context.tidy.worked();
    }

    /// Now, on the clock of the pod's history.
    fn moment(&self) -> Moment {
        self.first_seen.elapsed()
    }

    fn event(&self, pod: &Pod, kind: EventType, reason: &str, message: &str) {
        self.context
            .events
            .record(&ObjectRef::pod(pod), kind, reason, message);
    }

    fn container_event(
        &self,
        pod: &Pod,
        container: &str,
        kind: EventType,
        reason: &str,
        message: &str,
    ) {
        let object = ObjectRef::container(pod, container);
        self.context.events.record(&object, kind, reason, message);
    }
}

/// Stretched by up to half (LIFE-03, LIFE-04), so that pods do not all wake at once.
fn jittered(wait: Duration) -> Duration {
    jitter::stretched(wait, JITTER)
}

/// Waits until the pod is to end within less time than so far; forever when the sync loop is gone.
async fn shorter(wanted: &mut watch::Receiver<Wanted>, current: Option<i64>) {
    let shrunk = |wanted: &Wanted| match wanted {
        Wanted::Stop { grace_override, .. } => {
            grace_override.is_some_and(|new| current.is_none_or(|current| new < current))
        }
        Wanted::Run { .. } => false,
    };
    if wanted.wait_for(shrunk).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn until(at: Timestamp) -> Duration {
    at.duration_since(clock::now())
        .try_into()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn stop(grace_override: Option<i64>) -> Wanted {
        Wanted::Stop {
            pod: None,
            key: PodKey::new("default", "a"),
            grace_override,
        }
    }

    #[tokio::test]
    async fn life_32_only_a_shorter_grace_interrupts_an_end() {
        let interrupted = |current: Option<i64>, new: Option<i64>| {
            let (_sender, mut receiver) = watch::channel(stop(new));
            shorter(&mut receiver, current).now_or_never().is_some()
        };
        assert!(interrupted(None, Some(5)));
        assert!(interrupted(Some(6), Some(5)));
        assert!(!interrupted(Some(5), Some(5)));
        assert!(!interrupted(Some(5), Some(6)));
        assert!(!interrupted(Some(5), None));
    }

    /// Futures grow unseen, and each pod has one of these for as long as it lives.
    #[test]
    fn a_pod_that_rests_takes_little_room() {
        fn room<F: Future>(
            _: impl FnOnce(
                Box<PodWorker>,
                watch::Receiver<Wanted>,
                &'static mpsc::Sender<News>,
                CancellationToken,
            ) -> F,
        ) -> usize {
            size_of::<PodWorker>() + size_of::<F>()
        }
        let room = room(PodWorker::run);
        assert!(room <= 3072, "{room} bytes");
    }
}
