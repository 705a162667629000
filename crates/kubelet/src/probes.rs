//! Probes of all pods: asked in time, and what they say told to whom it concerns (kubelet 3.6).
//!
//! ```text
//!  pod worker ──look──▶ machines (kubelet-core) ──due──▶ one task asks ──end──▶ status store, worker
//! ```
//!
//! Owner task: [`Prober::run`], which holds every question on its way, on one thread; there is no task or
//! thread per probe. [`Probes`] is the door for the pod workers: they show what runs after each pass and read
//! results. A result that changes `ready` or `started` is shown in the pod's status at once, even while
//! its worker is at something long, and wakes the worker. Nothing survives a restart, as upstream.

mod ask;
mod grpc;
mod limits;
mod series;
mod verdict;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use k8s_openapi::api::core::v1::{Container, Pod};
use kubelet_core::{
    actions::ProbeResults,
    ids::{ContainerId, PodUid},
    observed::{ContainerState, ObservedPod},
    probes::{Answer, ContainerProbes, Moment, ProbeKind, Target},
    spec,
    status::container_id_text,
};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    events::{EventType, Events, ObjectRef},
    jitter,
    runtime::{client::CriClient, wakes::Wakes},
    status_store::StatusStore,
};

use ask::Question;
use limits::Limits;
pub(crate) use series::ProbeSeries;
use verdict::Verdict;

/// First questions of pods that come together lie apart by this at most.
const STAGGER: Duration = Duration::from_secs(1);
/// Answers over HTTP are looked for so long after the questions: by then most containers have
/// answered, and one wake-up serves them all.
const REST: Duration = Duration::from_millis(5);

/// What the prober works with.
#[derive(Debug)]
pub(crate) struct ProbesConfig {
    pub(crate) runtime: CriClient,
    /// How containers are named in statuses (STAT-07).
    pub(crate) runtime_name: String,
    pub(crate) events: Events,
    pub(crate) statuses: Arc<StatusStore>,
    pub(crate) wakes: Arc<Wakes>,
    pub(crate) series: ProbeSeries,
    /// Major and minor, for `User-Agent`: `1.34`.
    pub(crate) version: String,
}

/// The pod workers' door to the probes. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Probes {
    shared: Arc<Shared>,
}

/// The task behind [`Probes`].
#[derive(Debug)]
pub(crate) struct Prober {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Arc<ProbesConfig>,
    began: Instant,
    limits: Limits,
    state: Mutex<State>,
    /// Rung when something is due earlier than it was.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    pods: BTreeMap<PodUid, PodProbes>,
    /// When to look at which container next; an entry may be out of date.
    queue: BinaryHeap<Reverse<(Moment, u64)>>,
    /// The pod and the container's name behind each number in the queue.
    places: BTreeMap<u64, (PodUid, String)>,
    next_place: u64,
}

#[derive(Debug)]
struct PodProbes {
    pod: Arc<Pod>,
    ip: String,
    /// Each apart: the map makes room for eleven at once, and most pods have one.
    containers: BTreeMap<String, Box<Entry>>,
}

#[derive(Debug)]
struct Entry {
    place: u64,
    container: Arc<Container>,
    probes: ContainerProbes,
    /// The earliest entry in the queue that will look here.
    queued: Option<Moment>,
}

/// What a question was about.
#[derive(Debug)]
struct Asked {
    uid: PodUid,
    /// As it was then.
    container: Arc<Container>,
    id: ContainerId,
    kind: ProbeKind,
    verdict: Verdict,
    took: Duration,
}

impl Probes {
    /// The door, and the task to run behind it.
    pub(crate) fn new(config: ProbesConfig) -> (Self, Prober) {
        let shared = Arc::new(Shared {
            config: Arc::new(config),
            began: Instant::now(),
            limits: Limits::default(),
            state: Mutex::default(),
            changed: Notify::new(),
        });
        let door = Self {
            shared: Arc::clone(&shared),
        };
        (door, Prober { shared })
    }

    /// Takes note of what runs of a pod. Call it after each look at the pod, the first time before
    /// anything of it is started: the ticks of its probes count from there.
    pub(crate) fn look(&self, pod: &Arc<Pod>, observed: &ObservedPod, ip: Option<&str>) {
        if !has_probes(pod) {
            return;
        }
        let now = self.shared.now();
        let uid = PodUid::of(pod);
        let mut state = self.shared.lock();
        let state = &mut *state;
        let known = state.pods.entry(uid.clone()).or_insert_with(|| PodProbes {
            pod: pod.clone(),
            ip: String::new(),
            containers: BTreeMap::new(),
        });
        known.pod.clone_from(pod);
        ip.unwrap_or_default().clone_into(&mut known.ip);
        let first_tick = |period: Duration| {
            let spread = if now < period {
                period
            } else {
                period.min(STAGGER)
            };
            now + spread.mul_f64(jitter::unit())
        };
        let State { places, .. } = state;
        known.containers.retain(|name, entry| {
            let stays = probed_containers(pod).any(|container| container.name == *name);
            if !stays {
                places.remove(&entry.place);
            }
            stays
        });
        for container in probed_containers(pod) {
            let name = container.name.as_str();
            match known.containers.get_mut(name) {
                None => {
                    let Some(probes) = ContainerProbes::new(container, first_tick) else {
                        continue;
                    };
                    let place = state.next_place;
                    state.next_place += 1;
                    places.insert(place, (uid.clone(), name.to_owned()));
                    let entry = Entry {
                        place,
                        container: Arc::new(container.clone()),
                        probes,
                        queued: None,
                    };
                    known.containers.insert(name.to_owned(), Box::new(entry));
                }
                Some(entry) if *entry.container != *container => {
                    entry.probes.edit(&entry.container, container, first_tick);
                    entry.container = Arc::new(container.clone());
                }
                Some(_) => {}
            }
            if let Some(entry) = known.containers.get_mut(name) {
                entry.probes.look(target(observed, name, now), now);
                if entry.enqueue(&mut state.queue) {
                    self.shared.changed.notify_one();
                }
            }
        }
    }

    /// The pod ends: of its regular containers readiness alone is asked from now on, of sidecars all, as
    /// upstream (PROBE-06).
    ///
    /// Differs (PROBE-06): while a pod whose file is gone ends, its readiness and the probes of its sidecars are asked
    /// on; upstream forgets the status of such a pod some seconds after its file, and asks nothing any more.
    pub(crate) fn stop_liveness_and_startup(&self, uid: &PodUid) {
        let mut state = self.shared.lock();
        let Some(PodProbes {
            pod, containers, ..
        }) = state.pods.get_mut(uid)
        else {
            return;
        };
        for container in spec::containers(pod) {
            if let Some(entry) = containers.get_mut(&container.name) {
                entry.probes.stop_liveness_and_startup();
            }
        }
    }

    /// Nothing of the pod runs any more.
    pub(crate) fn remove(&self, uid: &PodUid) {
        let mut state = self.shared.lock();
        if let Some(pod) = state.pods.remove(uid) {
            for (name, entry) in &pod.containers {
                state.places.remove(&entry.place);
                self.shared.config.series.forget(&pod.pod, name);
            }
        }
    }

    /// What the probes of the pod's containers say.
    pub(crate) fn results(&self, uid: &PodUid) -> BTreeMap<ContainerId, ProbeResults> {
        self.shared
            .lock()
            .pods
            .get(uid)
            .into_iter()
            .flat_map(|pod| pod.containers.values())
            .filter_map(|entry| entry.probes.results())
            .map(|(id, results)| (id.clone(), results))
            .collect()
    }
}

impl Entry {
    /// Sees to it that somebody looks here in time; tells whether that is news.
    fn enqueue(&mut self, queue: &mut BinaryHeap<Reverse<(Moment, u64)>>) -> bool {
        let Some(due) = self.probes.due() else {
            return false;
        };
        if self.queued.is_some_and(|queued| queued <= due) {
            return false;
        }
        self.queued = Some(due);
        queue.push(Reverse((due, self.place)));
        true
    }
}

impl Prober {
    /// Asks until the token is cancelled; questions on their way are dropped then.
    ///
    /// From the first probe on it works on a thread of its own: many short connections on one poller,
    /// with nobody to be woken at each of them, cost half as much as on the workers' runtime.
    ///
    /// # Errors
    /// When the system has no more threads or files.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> std::io::Result<()> {
        tokio::select! {
            biased;
            // cancel-safe: a token.
            () = shutdown.cancelled() => return Ok(()),
            // cancel-safe: what is due is looked up anew.
            () = self.shared.changed.notified() => {}
        }
        daemon::blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(1)
                .build()?;
            // A task of its own, not the future that is blocked on: to wake that one costs a write
            // to the poller and a look at it more, once a probe.
            runtime
                .block_on(runtime.spawn(self.ask(shutdown)))
                .map_err(std::io::Error::other)
        })
        .await
    }

    async fn ask(self, shutdown: CancellationToken) {
        let mut asking: FuturesUnordered<BoxFuture<'static, Asked>> = FuturesUnordered::new();
        // One timer, moved only when another moment is the next: each setting may cost a write to
        // the poller.
        let mut alarm = pin!(tokio::time::sleep_until(self.shared.began));
        loop {
            let (questions, next) = self.shared.take_due();
            asking.extend(questions);
            let next = next.map(|moment| self.shared.began + moment);
            let next = next.into_iter().chain(self.shared.limits.first()).min();
            if let Some(moment) = next.filter(|moment| *moment != alarm.deadline()) {
                alarm.as_mut().reset(moment);
            }
            tokio::select! {
                biased;
                // cancel-safe: a token.
                () = shutdown.cancelled() => return,
                // cancel-safe: a question that has not ended stays.
                Some(asked) = asking.next() => self.shared.finish(&asked),
                // cancel-safe: a permit stays for the next wait.
                () = self.shared.changed.notified() => {}
                // cancel-safe: as the one before.
                () = self.shared.limits.earlier() => {}
                // cancel-safe: a timer that stays.
                () = &mut alarm, if next.is_some() => self.shared.limits.strike(Instant::now()),
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Moment {
        self.began.elapsed()
    }

    /// The questions to ask now, and when to look again.
    fn take_due(&self) -> (Vec<BoxFuture<'static, Asked>>, Option<Moment>) {
        let now = self.now();
        let mut questions = Vec::new();
        let mut state = self.lock();
        let State {
            pods,
            queue,
            places,
            ..
        } = &mut *state;
        while let Some(Reverse((at, place))) = queue.peek().copied() {
            if at > now {
                return (questions, Some(at));
            }
            queue.pop();
            let Some((uid, name)) = places.get(&place) else {
                continue;
            };
            let Some(pod) = pods.get_mut(uid) else {
                continue;
            };
            let ip = &pod.ip;
            let Some(entry) = pod.containers.get_mut(name) else {
                continue;
            };
            entry.queued = None;
            for (kind, id) in entry.probes.due_now(now) {
                entry.probes.begin(kind, now);
                let question = Question {
                    config: Arc::clone(&self.config),
                    limits: self.limits.clone(),
                    container: Arc::clone(&entry.container),
                    kind,
                    id,
                    pod_ip: ip.clone(),
                    answers_from: self.began + now + REST,
                };
                let uid = uid.clone();
                let asked = async move {
                    let start = Instant::now();
                    let verdict = question.ask().await;
                    Asked {
                        uid,
                        container: question.container,
                        id: question.id,
                        kind,
                        verdict,
                        took: start.elapsed(),
                    }
                };
                questions.push(asked.boxed());
            }
            entry.enqueue(queue);
        }
        (questions, None)
    }

    /// Takes an answer in and tells those whom it concerns.
    fn finish(&self, asked: &Asked) {
        let now = self.now();
        let mut state = self.lock();
        let State { pods, queue, .. } = &mut *state;
        // The pod, or the container's place in it, may be gone by now.
        let Some(pod) = pods.get_mut(&asked.uid) else {
            return;
        };
        let name = &asked.container.name;
        let Some(entry) = pod.containers.get_mut(name) else {
            return;
        };
        if asked.kind.of(&entry.container) != asked.kind.of(&asked.container) {
            // Another probe is asked now.
            return;
        }
        let answer = match asked.verdict {
            Verdict::Success | Verdict::Warning(_) => Answer::Good,
            Verdict::Failure(_) => Answer::Bad,
            Verdict::Unasked { .. } | Verdict::Gone => Answer::None,
        };
        let current = entry
            .probes
            .results()
            .is_some_and(|(id, _)| *id == asked.id);
        let changed = entry.probes.end(asked.kind, &asked.id, answer, now);
        entry.enqueue(queue);
        let results = entry.probes.results().map(|(_, results)| results);
        let pod = pod.pod.clone();
        drop(state);
        if current {
            self.tell(&pod, asked);
        }
        if let (true, Some(results)) = (changed, results) {
            tracing::debug!(container = %name, container.id = %asked.id,
                pod.uid = %asked.uid, probe = asked.kind.as_str(), results = ?results,
                "probe has another result");
            let id = container_id_text(&self.config.runtime_name, &asked.id);
            self.config
                .statuses
                .apply_probe_results(&asked.uid, &id, results, crate::clock::now());
            self.config.wakes.wake(&asked.uid);
        }
    }

    /// Events (PROBE-08) and series (PROBE-15).
    fn tell(&self, pod: &Pod, asked: &Asked) {
        self.config.series.count(pod, asked);
        let kind = asked.kind.as_str();
        let (reason, message) = match &asked.verdict {
            Verdict::Success | Verdict::Gone => return,
            Verdict::Warning(text) => ("ProbeWarning", format!("{kind} probe warning: {text}")),
            Verdict::Failure(text) => ("Unhealthy", format!("{kind} probe failed: {text}")),
            Verdict::Unasked { state, error } => (
                "Unhealthy",
                format!("{kind} probe errored and resulted in {state} state: {error}"),
            ),
        };
        let object = ObjectRef::container(pod, &asked.container.name);
        self.config
            .events
            .record(&object, EventType::Warning, reason, &message);
    }
}

/// Regular containers and sidecars (PROBE-02).
fn probed_containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let sidecars = spec::init_containers(pod)
        .iter()
        .filter(|init| spec::is_sidecar(init));
    spec::containers(pod)
        .iter()
        .chain(sidecars)
        .filter(|container| {
            ProbeKind::ALL
                .iter()
                .any(|kind| kind.of(container).is_some())
        })
}

fn has_probes(pod: &Pod) -> bool {
    probed_containers(pod).next().is_some()
}

/// The container as its probes see it.
fn target(observed: &ObservedPod, name: &str, now: Moment) -> Option<Target> {
    let latest = observed.latest(name)?;
    let running_since = (latest.state == ContainerState::Running).then(|| {
        let ran: Duration = latest
            .started_at
            .and_then(|at| crate::clock::now().duration_since(at).try_into().ok())
            .unwrap_or_default();
        now.saturating_sub(ran)
    });
    Some(Target {
        id: latest.id.clone(),
        running_since,
    })
}

#[cfg(test)]
mod tests;
