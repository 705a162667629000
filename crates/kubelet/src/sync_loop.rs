//! Brings the workers in line with what the sources want and what the runtime has.
//!
//! Each new pod is asked about once at the [`gate`], and a pod that was refused is shown and never
//! run (ADM-01). A pod that was taken still waits for those that make room for it, and for those that
//! end and hold a port or directory of it. What it was given it keeps, whatever its manifest says later
//! ([`allocations`]).
//!
//! Owner task: [`SyncLoop::run`]. Inputs: the newest set of each source, workers that ended or whose
//! pod did, news of pods that have no worker. Outputs: workers started, told and stopped. Each round decides over the
//! whole picture ([`plan_workers`]), so no event can be missed or come in a wrong order. Nothing
//! survives a restart but what pods were given: pods of before are found in the runtime by their labels.

mod allocations;
mod gate;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use daemon::{ErrorChain, TaskGroup};
use k8s_openapi::api::core::v1::Pod;
use kubelet_core::{
    actions::removal_grace_seconds,
    admission::{NodeInfo, must_wait_for},
    ids::{PodKey, PodUid},
    manifest::ignored_fields,
    pod_set::{Desire, Step, Task, View, plan_workers},
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::{
    allocations::{Allocations, Saved},
    gate::Gate,
};
use crate::{
    clock,
    pod_workers::{News, PodContext, PodWorker, Wanted},
    runtime::observe,
    sources::{SourceSet, any_changed},
};

/// News of workers that may wait to be noticed; a further one waits for room.
const NEWS_QUEUE: usize = 64;
/// What pods get that no source asks for any more, in seconds (SRC-44).
const ORPHAN_GRACE_SECONDS: i64 = 1;
/// How long workers get at shutdown to drop what they are at.
const WORKER_SHUTDOWN: Duration = Duration::from_secs(1);
/// Before what pods were given is written down again, after that failed.
const SAVE_RETRY: Duration = Duration::from_mins(1);
/// Before the runtime is listed again after it failed to answer.
const LIST_RETRY: Duration = Duration::from_secs(1);

/// The loop.
#[derive(Debug)]
pub(crate) struct SyncLoop {
    context: Arc<PodContext>,
    sources: Vec<watch::Receiver<SourceSet>>,
    workers: BTreeMap<PodUid, Worker>,
    gate: Gate,
    /// Uids of which more than one source has a pod.
    doubles: BTreeSet<PodUid>,
    /// `None` before the first round, and with the gate `InPlacePodVerticalScaling` off.
    allocations: Option<Allocations>,
    tasks: TaskGroup,
}

/// What all sources together ask for.
struct Desired {
    pods: BTreeMap<PodUid, Arc<Pod>>,
    /// Every source has spoken (SRC-45).
    ready: bool,
}

#[derive(Debug)]
struct Worker {
    key: PodKey,
    wanted: watch::Sender<Wanted>,
    task: Task,
}

impl SyncLoop {
    /// A loop over these sources. With none, pods that run are left alone.
    pub(crate) fn new(
        context: Arc<PodContext>,
        node: NodeInfo,
        sources: Vec<watch::Receiver<SourceSet>>,
        shutdown: &CancellationToken,
    ) -> Self {
        let tasks = TaskGroup::under("pod workers", shutdown);
        Self {
            context,
            sources,
            workers: BTreeMap::new(),
            gate: Gate::new(node),
            doubles: BTreeSet::new(),
            allocations: None,
            tasks,
        }
    }

    /// Works until the token is cancelled. Pods go on running without us.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let failure = tokio::select! {
            biased;
            // cancel-safe: a token.
            () = shutdown.cancelled() => None,
            // cancel-safe: dropped for good.
            failure = self.work() => Some(failure),
        };
        if let Err(error) = self.tasks.shutdown(WORKER_SHUTDOWN).await {
            tracing::warn!(error = %ErrorChain(&error), "pod workers");
        }
        if let Some(failure) = failure {
            // A worker that panicked left its pod without supervision: this process has to end and
            // be started again (DEC-46). The panic is this task's own.
            panic!("{}", ErrorChain(&failure));
        }
    }

    async fn work(&mut self) -> daemon::TaskError {
        let (news_sender, mut news) = mpsc::channel(NEWS_QUEUE);
        let context = self.context.clone();
        let mut orphans = BTreeMap::new();
        let mut list = true;
        if context.node.gates.in_place_resize {
            let file = context.dirs.allocations();
            let counted = context.metrics.resizes.clone();
            self.allocations = Some(Allocations::load(file, counted).await);
        }
        loop {
            if list {
                match self.read_orphans().await {
                    Some(found) => orphans = found,
                    None => continue,
                }
                list = false;
            }
            let mut desired = self.desired();
            for (uid, key) in self.show(&desired.pods) {
                // It was refused, or had to wait: what an earlier process made for it goes with it.
                if !self.workers.contains_key(&uid) {
                    orphans.insert(uid, key);
                }
            }
            if let Some(allocations) = &mut self.allocations {
                allocations.apply(&mut desired.pods, clock::now());
                if desired.ready {
                    allocations.forget_others();
                }
            }
            let adopted: BTreeSet<PodUid> = orphans
                .keys()
                .filter(|uid| !self.workers.contains_key(*uid))
                .cloned()
                .collect();
            self.gate.ask(&desired.pods, &adopted, &context).await;
            if let Some(allocations) = &mut self.allocations {
                allocations.keep(|uid| self.gate.is_taken(uid));
            }
            self.reconcile(&desired, &orphans, &news_sender);
            let saved = match &mut self.allocations {
                Some(allocations) => allocations.save().await,
                None => Saved::Whole,
            };
            let sources = &mut self.sources;
            let tasks = &self.tasks;
            tokio::select! {
                biased;
                // cancel-safe: all of them; watches keep their value, the queue its entries.
                failure = tasks.failed() => return failure,
                () = any_changed(sources) => {}
                first = news.recv() => {
                    let mut next = first;
                    while let Some(told) = next {
                        self.note(told, &mut orphans);
                        next = news.try_recv().ok();
                    }
                }
                () = context.wakes.unknown_pod() => list = true,
                () = tokio::time::sleep(SAVE_RETRY), if saved == Saved::Failed => {}
            }
        }
    }

    /// What a worker tells of itself.
    fn note(&mut self, news: News, orphans: &mut BTreeMap<PodUid, PodKey>) {
        match news {
            News::Over(uid) => {
                if let Some(worker) = self.workers.get_mut(&uid) {
                    worker.task = worker.task.over();
                }
            }
            News::Ended(uid) => {
                self.workers.remove(&uid);
                self.context.wakes.forget(&uid);
                orphans.remove(&uid);
            }
        }
    }

    /// The pods that the runtime has; waits for it as long as it is away.
    async fn read_orphans(&self) -> Option<BTreeMap<PodUid, PodKey>> {
        let mut health = self.context.health.clone();
        health.up().await;
        match observe::read_pod_names(&self.context.runtime).await {
            Ok(pods) => Some(pods),
            Err(error) => {
                tracing::error!(error = %ErrorChain(&error), "list the pods of the runtime");
                self.context.health.doubt();
                tokio::time::sleep(LIST_RETRY).await;
                None
            }
        }
    }

    /// Of two sources that have a pod of one uid the later one is believed, which is told once.
    fn desired(&mut self) -> Desired {
        let sets: Vec<SourceSet> = self
            .sources
            .iter_mut()
            .map(|source| source.borrow_and_update().clone())
            .collect();
        let mut pods: BTreeMap<PodUid, Arc<Pod>> = BTreeMap::new();
        let mut doubles = BTreeSet::new();
        for pod in sets.iter().flatten().flat_map(|set| set.iter()) {
            let uid = PodUid::of(pod);
            if let Some(other) = pods.insert(uid.clone(), pod.clone()) {
                if !self.doubles.contains(&uid) {
                    tracing::warn!(pod.uid = %uid, used = %PodKey::of(pod), ignored = %PodKey::of(&other),
                        "two sources have a pod of the same metadata.uid");
                }
                doubles.insert(uid);
            }
        }
        self.doubles = doubles;
        Desired {
            ready: !sets.is_empty() && sets.iter().all(Option::is_some),
            pods,
        }
    }

    fn reconcile(
        &mut self,
        Desired {
            pods: desired,
            ready,
        }: &Desired,
        runtime_pods: &BTreeMap<PodUid, PodKey>,
        news: &mpsc::Sender<News>,
    ) {
        let ending = self.ending(desired);
        let view = View {
            desired: desired
                .iter()
                .map(|(uid, pod)| {
                    let desire = self.desire(uid, pod, &ending);
                    (uid.clone(), (PodKey::of(pod), desire))
                })
                .collect(),
            workers: self
                .workers
                .iter()
                .map(|(uid, worker)| (uid.clone(), (worker.key.clone(), worker.task)))
                .collect(),
            runtime: runtime_pods,
            sources_ready: *ready,
        };
        for step in plan_workers(&view) {
            match step {
                Step::Stop(uid) => self.stop(&uid),
                Step::Start(uid) => {
                    if let Some(pod) = desired.get(&uid) {
                        say_what_is_not_acted_on(pod);
                        let wanted = self.to_run(&uid, pod);
                        self.start(uid, wanted, Task::Run, news);
                    }
                }
                Step::StopOrphan(uid, key) => {
                    tracing::info!(pod = %key, pod.uid = %uid, "stopping a pod that no source asks for");
                    self.context.metrics.orphaned_runtime_pods.inc();
                    let grace_override = Some(ORPHAN_GRACE_SECONDS);
                    let wanted = Wanted::Stop {
                        pod: None,
                        key,
                        grace_override,
                    };
                    self.start(uid, wanted, Task::Stop, news);
                }
            }
        }
        for (uid, pod) in desired {
            let waits_for = self.waits_for(uid, pod, runtime_pods, &ending);
            self.context.statuses.set_waits_for(uid, waits_for.as_ref());
            if let Some(worker) = self.workers.get(uid)
                && !worker.task.is_ending()
            {
                worker.wanted.send_if_modified(|wanted| match wanted {
                    Wanted::Run { pod: old, .. } if !Arc::ptr_eq(old, pod) => {
                        *wanted = self.to_run(uid, pod);
                        true
                    }
                    Wanted::Run { .. } | Wanted::Stop { .. } => false,
                });
            }
        }
    }

    /// The pods that hold what they have and are to go, as far as their manifests are known.
    fn ending(&self, desired: &BTreeMap<PodUid, Arc<Pod>>) -> Vec<Arc<Pod>> {
        self.workers
            .iter()
            .filter(|(uid, worker)| {
                let wanted = desired.contains_key(*uid) && self.gate.is_taken(uid);
                worker.task == Task::Stop || (worker.task != Task::Remove && !wanted)
            })
            .filter_map(|(_, worker)| match &*worker.wanted.borrow() {
                Wanted::Stop { pod, .. } => pod.clone(),
                Wanted::Run { pod, .. } => Some(pod.clone()),
            })
            .collect()
    }

    fn desire(&self, uid: &PodUid, pod: &Pod, ending: &[Arc<Pod>]) -> Desire {
        if !self.gate.is_taken(uid) {
            return Desire::Refused;
        }
        let waits = self
            .gate
            .after(uid)
            .any(|victim| self.workers.contains_key(victim));
        let clashes =
            || !self.workers.contains_key(uid) && ending.iter().any(|old| must_wait_for(pod, old));
        if waits || clashes() {
            Desire::Wait
        } else {
            Desire::Run
        }
    }

    /// The pod that has to end before this one is started.
    fn waits_for(
        &self,
        uid: &PodUid,
        pod: &Pod,
        runtime_pods: &BTreeMap<PodUid, PodKey>,
        ending: &[Arc<Pod>],
    ) -> Option<(PodUid, PodKey)> {
        if self.workers.contains_key(uid) || !self.gate.is_taken(uid) {
            return None;
        }
        let key = PodKey::of(pod);
        let workers = || self.workers.iter().map(|(uid, worker)| (uid, &worker.key));
        let is_over = |other: &PodUid| {
            let worker = self.workers.get(other);
            worker.is_some_and(|worker| matches!(worker.task, Task::Over | Task::Remove))
        };
        let namesake = workers()
            .chain(runtime_pods)
            .find(|(other, name)| **name == key && *other != uid && !is_over(other));
        let victim = || workers().find(|(other, _)| self.gate.after(uid).any(|one| one == *other));
        let clash = || ending.iter().find(|old| must_wait_for(pod, old));
        namesake
            .or_else(victim)
            .map(|(uid, key)| (uid.clone(), key.clone()))
            .or_else(|| clash().map(|old| (PodUid::of(old), PodKey::of(old))))
    }

    /// What `/pods` lists is what the sources ask for, from the moment they do (SRC-43). The answer is
    /// what they do not ask for any more.
    fn show(&self, desired: &BTreeMap<PodUid, Arc<Pod>>) -> Vec<(PodUid, PodKey)> {
        let statuses = &self.context.statuses;
        let mut gone: Vec<_> = statuses
            .desired()
            .iter()
            .map(|entry| (PodUid::of(&entry.pod), PodKey::of(&entry.pod)))
            .collect();
        gone.retain(|(uid, _)| !desired.contains_key(uid));
        for (uid, _) in &gone {
            statuses.remove_desired(uid);
        }
        for pod in desired.values() {
            statuses.set_desired(pod);
        }
        let label = ["true"];
        let count = i64::try_from(desired.len()).unwrap_or(i64::MAX);
        self.context
            .metrics
            .desired_pods
            .with_label_values(&label)
            .set(count);
        gone
    }

    fn to_run(&self, uid: &PodUid, pod: &Arc<Pod>) -> Wanted {
        let allocations = self.allocations.as_ref();
        Wanted::Run {
            pod: pod.clone(),
            resize: allocations.and_then(|allocations| allocations.pending(uid)),
        }
    }

    fn stop(&mut self, uid: &PodUid) {
        let Some(worker) = self.workers.get_mut(uid) else {
            return;
        };
        worker.task = Task::Stop;
        let key = worker.key.clone();
        worker.wanted.send_modify(|wanted| {
            if let Wanted::Run { pod, .. } = wanted {
                *wanted = Wanted::Stop {
                    pod: Some(pod.clone()),
                    key,
                    grace_override: Some(removal_grace_seconds(pod)),
                };
            }
        });
    }

    fn start(&mut self, uid: PodUid, wanted: Wanted, task: Task, news: &mpsc::Sender<News>) {
        let worker = Box::new(PodWorker::new(uid.clone(), &wanted, self.context.clone()));
        let key = worker.key().clone();
        let (sender, receiver) = watch::channel(wanted);
        let token = self.tasks.token().clone();
        let (news, gone) = (news.clone(), News::Ended(uid.clone()));
        self.tasks.spawn_job(format!("pod {key}"), async move {
            worker.run(receiver, &news, token.clone()).await;
            tokio::select! {
                biased;
                // cancel-safe: a token.
                () = token.cancelled() => {}
                // cancel-safe: at shutdown nobody needs to know any more.
                _ = news.send(gone) => {}
            }
        });
        self.workers.insert(
            uid,
            Worker {
                key,
                wanted: sender,
                task,
            },
        );
    }
}

/// Once for each pod and process.
fn say_what_is_not_acted_on(pod: &Pod) {
    let fields = ignored_fields(pod);
    if !fields.is_empty() {
        tracing::warn!(pod = %PodKey::of(pod), fields = %fields.join(" "),
            "the manifest sets fields that this version does not act on");
    }
}

#[cfg(test)]
mod histories;
#[cfg(test)]
mod tests;
