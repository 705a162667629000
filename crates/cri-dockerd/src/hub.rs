//! Keeps the state cache true and tells those who wait.
//!
//! ```text
//!             negotiate, info,          list + inspects
//!  Down ────▶ open event stream ────▶ Syncing ────▶ Fresh
//!   ▲   back-off, or its socket appears   │            │
//!   └─────────────────────────────────────┴────────────┘ stream lost, or a call failed
//! ```
//!
//! Owner task: [`Hub::run`]. Inputs: Docker's events, and the results of our own calls through
//! [`Operation`]. Outputs: the cache (read through [`Hub`]), [`Health`], CRI events. While Docker
//! is quiet nothing is sent to it. Nothing survives a restart; all is read again.
//!
//! Reads are answered from memory while `Fresh`. While `Syncing` they wait; while `Down` they fail. A
//! container that Docker can't tell of is doubted by itself (see `doubt`).

mod connection;
mod doubt;
mod error;
mod follow;
mod operation;
mod retry;
mod show;
mod stamp;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cri_api::v1;
use daemon::Spawner;
use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, broadcast, oneshot, watch};

use crate::cgroup::CgroupDriver;
use crate::engine::model::SystemInfo;
use crate::engine::{ApiVersion, Engine, EngineError};
use crate::identity;
use crate::lock::lock;
use crate::network::Networks;
use crate::network_kind::Kind;
use crate::oom::PodKills;
use crate::paths::PathView;
use crate::state::{self, Cache, Life, Record, Ticket};

use doubt::Doubts;
use operation::Busy;

pub(crate) use error::HubError;
pub(crate) use operation::Operation;

/// Inspects under way at once: Docker serves more, but shares its locks with the starts.
const INSPECTS: usize = 8;
/// Events a subscriber may lag behind before it is cut off.
const EVENT_QUEUE: usize = 1024;
/// How long a read waits for a sync before it fails.
const SYNC_WAIT: Duration = Duration::from_secs(30);
/// How long Docker may take to answer a new connection before it is taken to be going down.
const DOOR_WAIT: Duration = Duration::from_secs(2);
/// How long an ended container is kept back for its log to be written (DEC-10).
const DRAIN_WAIT: Duration = Duration::from_secs(2);

/// What is known of the engine since the last connect.
#[derive(Debug, Clone)]
pub(crate) struct EngineFacts {
    /// Engine version.
    pub(crate) version: String,
    /// Negotiated API.
    pub(crate) api: ApiVersion,
    /// Cgroup driver, or what is wrong with it.
    pub(crate) cgroup_driver: Result<CgroupDriver, String>,
    /// `GET /info`.
    pub(crate) info: Arc<SystemInfo>,
}

/// Whether the cache can be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Health {
    /// First contact, or reading everything in again.
    Syncing,
    /// The cache is what Docker has.
    Fresh,
    /// Docker can't be reached; the reason as text.
    Down(String),
}

/// A container's log, as Docker and the CRI name it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogOf<'a> {
    /// Where the CRI wants it.
    pub(crate) path: &'a str,
    /// Docker's own file in the engine's view; empty when it has none.
    pub(crate) docker: &'a str,
    /// The container has a terminal.
    pub(crate) tty: bool,
    /// The container has not ended.
    pub(crate) running: bool,
    /// Nanoseconds since 1970 by Docker's clock: nothing it says is older.
    pub(crate) created_at: i64,
}

/// The logs of containers, as the hub needs them.
pub(crate) trait ContainerLogs: std::fmt::Debug + Send + Sync {
    /// A container runs or has run: its log is to be copied. Called again and again.
    fn started(&self, id: &str, log: LogOf<'_>);
    /// Waits until the log of an ended container is complete.
    fn drained<'a>(&'a self, id: &'a str) -> BoxFuture<'a, ()>;
    /// A container is gone.
    fn removed(&self, id: &str);
}

/// What a container's image calls itself (STS-07).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageNames {
    image: Option<String>,
    image_ref: String,
}

/// Whether a container is kept back for its log. One that ended before we saw it is not: when
/// everything is read in all answers would wait for it.
fn awaits_log(before: Option<&Life>, now: &Life, reading_in: bool) -> bool {
    let ended = |life: &Life| matches!(life, Life::Exited { .. });
    ended(now) && before.map_or(!reading_in, |before| !ended(before))
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Hub {
    engine: Engine,
    networks: Arc<Networks>,
    logs: Arc<dyn ContainerLogs>,
    paths: Arc<dyn PathView>,
    memory: PodKills,
    spawner: Spawner,
    cache: Mutex<Cache>,
    /// Held from a change of the cache until all have been told of it; taken before the cache's.
    telling: Mutex<()>,
    /// Set at each connect; read by whoever talks to the engine.
    facts: Mutex<Option<EngineFacts>>,
    images: Mutex<HashMap<String, Arc<ImageNames>>>,
    /// Counts image events and connects; whoever caches image facts compares it.
    image_generation: watch::Sender<u64>,
    health: watch::Sender<Health>,
    /// Counts changes of the cache, for those who wait for one.
    revision: watch::Sender<u64>,
    events: broadcast::Sender<Arc<v1::ContainerEventResponse>>,
    execs: Mutex<HashMap<String, oneshot::Sender<i64>>>,
    /// Ids and names of containers that a call of ours works on.
    busy: Mutex<HashMap<String, Busy>>,
    /// When each container was last started, as events tell.
    starts: Mutex<HashMap<String, Instant>>,
    /// Those that Docker was asked to kill, by us or by others.
    killed: Mutex<HashSet<String>>,
    /// Ids waiting for an inspect.
    pending: Mutex<HashSet<String>>,
    inspects: Semaphore,
    doubts: Mutex<Doubts>,
    /// Docker's clock is ours: event times can be compared.
    same_clock: bool,
}

/// A question under way; ends with it, however it ends.
struct OpenTicket<'a> {
    hub: &'a Hub,
    ticket: Ticket,
}

impl Drop for OpenTicket<'_> {
    fn drop(&mut self) {
        lock(&self.hub.cache).close(self.ticket);
    }
}

impl Hub {
    /// A hub that knows nothing yet; `same_clock` says that Docker runs on this machine.
    pub(crate) fn new(
        engine: Engine,
        networks: Arc<Networks>,
        logs: Arc<dyn ContainerLogs>,
        paths: Arc<dyn PathView>,
        memory: PodKills,
        spawner: Spawner,
        same_clock: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            engine,
            networks,
            logs,
            paths,
            memory,
            spawner,
            cache: Mutex::default(),
            telling: Mutex::default(),
            facts: Mutex::default(),
            images: Mutex::default(),
            image_generation: watch::Sender::new(0),
            health: watch::Sender::new(Health::Syncing),
            revision: watch::Sender::new(0),
            events: broadcast::Sender::new(EVENT_QUEUE),
            execs: Mutex::default(),
            busy: Mutex::default(),
            starts: Mutex::default(),
            killed: Mutex::default(),
            pending: Mutex::default(),
            inspects: Semaphore::new(INSPECTS),
            doubts: Mutex::default(),
            same_clock,
        })
    }

    /// The present health.
    pub(crate) fn health(&self) -> Health {
        self.health.borrow().clone()
    }

    /// What is known of the engine.
    ///
    /// # Errors
    /// [`HubError::Unavailable`] before the first contact.
    pub(crate) async fn facts(&self) -> Result<EngineFacts, HubError> {
        if lock(&self.facts).is_none() {
            self.fresh().await?;
        }
        self.known_facts()
            .ok_or_else(|| HubError::Unavailable("docker has not been reached yet".to_owned()))
    }

    /// As [`Hub::facts`], without waiting.
    pub(crate) fn known_facts(&self) -> Option<EngineFacts> {
        lock(&self.facts).clone()
    }

    /// Waits until the cache can be trusted. Cancel-safe.
    ///
    /// # Errors
    /// [`HubError::Unavailable`] while Docker is down, or when a sync takes longer than 30 s.
    pub(crate) async fn fresh(&self) -> Result<(), HubError> {
        let mut health = self.health.subscribe();
        let settled = health.wait_for(|health| *health != Health::Syncing);
        let settled = match tokio::time::timeout(SYNC_WAIT, settled).await {
            Ok(Ok(health)) => health.clone(),
            // The sender lives in self.
            Ok(Err(_)) => unreachable!("the hub outlives its watchers"),
            Err(_) => {
                let text = "docker: reading the state of all containers takes too long";
                return Err(HubError::Unavailable(text.to_owned()));
            }
        };
        match settled {
            Health::Down(why) => Err(HubError::Unavailable(why)),
            Health::Fresh | Health::Syncing => Ok(()),
        }
    }

    /// Waits, however long, until Docker is there and the cache can be trusted. Cancel-safe.
    pub(crate) async fn back(&self) {
        let mut health = self.health.subscribe();
        // The sender lives in self.
        let _ = health.wait_for(|health| *health == Health::Fresh).await;
    }

    /// All records that `filter` takes, newest first. Doubted ones are as Docker's list has them.
    ///
    /// # Errors
    /// As [`Hub::fresh`], or as that list.
    pub(crate) async fn list(
        &self,
        filter: impl Fn(&Record) -> bool,
    ) -> Result<Vec<Arc<Record>>, HubError> {
        self.fresh().await?;
        let doubted = self.doubted().await;
        let sketches = if doubted.is_empty() {
            Vec::new()
        } else {
            self.sketch(&doubted).await?
        };
        let mut all = lock(&self.cache).all();
        if !doubted.is_empty() {
            all = state::with_sketches(all, &doubted, sketches);
        }
        all.retain(|record| filter(record));
        Ok(all)
    }

    /// The record of an id or an unambiguous beginning of one.
    ///
    /// # Errors
    /// As [`Hub::fresh`], and while Docker can't tell of that container.
    pub(crate) async fn find(&self, id: &str) -> Result<Option<Arc<Record>>, HubError> {
        self.fresh().await?;
        let known = self.one(id)?;
        self.certain(known.as_ref().map_or(id, |record| &record.id))
            .await?;
        self.one(id)
    }

    /// As [`Hub::find`] for calls that end a container: also of one that Docker can't tell of, which
    /// may be in any state then.
    ///
    /// # Errors
    /// As [`Hub::fresh`].
    pub(crate) async fn find_to_end(&self, id: &str) -> Result<Option<Arc<Record>>, HubError> {
        self.fresh().await?;
        let known = self.one(id)?;
        let unknown = self
            .certain(known.as_ref().map_or(id, |record| &record.id))
            .await;
        match (self.known(id), unknown) {
            (None, Err(error)) => Err(error),
            (known, _) => Ok(known),
        }
    }

    /// As [`Hub::find`] from what is in memory now, fresh or not.
    pub(crate) fn known(&self, id: &str) -> Option<Arc<Record>> {
        self.one(id).ok().flatten()
    }

    fn one(&self, id: &str) -> Result<Option<Arc<Record>>, HubError> {
        let found = lock(&self.cache).find(id);
        found.map_err(|_| HubError::Several(id.to_owned()))
    }

    /// Containers of a sandbox, oldest first, from memory.
    pub(crate) fn containers_of(&self, sandbox: &str) -> Vec<Arc<Record>> {
        lock(&self.cache).containers_of(sandbox)
    }

    /// Rises with every image event and every reconnect: facts about images taken at a lower
    /// number may be wrong.
    pub(crate) fn image_generation(&self) -> u64 {
        *self.image_generation.borrow()
    }

    /// A queue of CRI events from now on (UNI-02).
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<v1::ContainerEventResponse>> {
        self.events.subscribe()
    }

    /// The exit code of an exec, when Docker says that it died. To be called before the exec is
    /// started. The sender is dropped when the event stream is lost: then ask Docker.
    pub(crate) fn exec_exit(&self, exec_id: &str) -> oneshot::Receiver<i64> {
        let (sender, receiver) = oneshot::channel();
        let mut execs = lock(&self.execs);
        execs.retain(|_, sender| !sender.is_closed());
        execs.insert(exec_id.to_owned(), sender);
        receiver
    }

    /// Waits until an id is gone from Docker. Cancel-safe.
    pub(crate) async fn gone(&self, id: &str) {
        let mut revision = self.revision.subscribe();
        while lock(&self.cache).get(id).is_some() {
            if revision.changed().await.is_err() {
                return;
            }
        }
    }

    /// Asks Docker about one container and takes the answer in; `None` when it is gone or not ours.
    ///
    /// # Errors
    /// As the inspect.
    pub(crate) async fn refresh(&self, id: &str) -> Result<Option<Arc<Record>>, EngineError> {
        let open = OpenTicket {
            ticket: lock(&self.cache).open(Instant::now()),
            hub: self,
        };
        let inspect = match self.engine.inspect_container(id).await {
            Ok(inspect) => inspect,
            Err(error) if error.is_not_found() => {
                self.change(|cache| cache.remove(open.ticket, id));
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let Some(mut record) = Record::from_inspect(&inspect) else {
            return Ok(None);
        };
        self.check_door(&record).await?;
        if record
            .sandbox()
            .is_some_and(|facts| facts.kind == Kind::Cni)
        {
            let before = self.known(&record.id);
            let ips = self.networks.addresses(&record, before.as_deref());
            record.set_ips(ips.await);
        }
        if record.container().is_some() {
            self.load_image_names(&record.image_id).await;
            let before = self.known(&record.id);
            identity::note(&mut record, before.as_deref(), &inspect.config.user).await;
            let driver = self
                .known_facts()
                .and_then(|facts| facts.cgroup_driver.ok());
            let asked = lock(&self.killed).contains(&record.id);
            self.memory
                .note(&mut record, before.as_deref(), driver, asked)
                .await;
        }
        self.follow_log(&record).await;
        let id = record.id.clone();
        self.change(|cache| cache.put(open.ticket, record));
        let known = lock(&self.cache).get(&id);
        if known.is_none() {
            // It was removed meanwhile, and with it the log that was handed over just now.
            self.logs.removed(&id);
        }
        Ok(known)
    }

    /// A container that ended unasked may be the first of all: a Docker that goes down ends them one
    /// after another and would start, and end, whatever the kubelet has started in their place. So a
    /// death is told only by a Docker that takes new connections.
    ///
    /// # Errors
    /// [`EngineError::GoingDown`]; nothing is answered from memory then until Docker is back.
    async fn check_door(&self, record: &Record) -> Result<(), EngineError> {
        let before = lock(&self.cache).get(&record.id);
        let died = matches!(record.life, Life::Exited { .. })
            && before.is_some_and(|before| before.life.is_running());
        if !died || self.health() != Health::Fresh || lock(&self.busy).contains_key(&record.id) {
            return Ok(());
        }
        match self.engine.knock(DOOR_WAIT).await {
            Ok(_) => Ok(()),
            Err(source) => {
                self.distrust();
                let source = Box::new(source);
                Err(EngineError::GoingDown { source })
            }
        }
    }

    /// Hands the log to the pump, and keeps an ended container back until its log is complete.
    async fn follow_log(&self, record: &Record) {
        let Some(facts) = record.container() else {
            return;
        };
        if facts.log_path.is_empty() || record.life == Life::Created {
            return;
        }
        let ended = matches!(record.life, Life::Exited { .. });
        self.logs.started(
            &record.id,
            LogOf {
                path: &facts.log_path,
                docker: &facts.docker_log,
                tty: facts.tty,
                running: !ended,
                created_at: record.created_at,
            },
        );
        let before = lock(&self.cache).get(&record.id);
        let reading_in = self.health() == Health::Syncing;
        if awaits_log(before.as_deref().map(|b| &b.life), &record.life, reading_in)
            && tokio::time::timeout(DRAIN_WAIT, self.logs.drained(&record.id))
                .await
                .is_err()
        {
            tracing::warn!(
                container.id = record.id,
                "the log of an ended container is not complete yet"
            );
        }
    }

    /// Notes that Docker is asked to kill a container: that it dies of it is no news.
    pub(crate) fn kills(&self, id: &str) {
        lock(&self.killed).insert(id.to_owned());
    }

    /// Notes that Docker removed a container at our request.
    pub(crate) fn removed(&self, id: &str) {
        lock(&self.killed).remove(id);
        self.change(|cache| {
            let ticket = cache.open(Instant::now());
            let change = cache.remove(ticket, id);
            cache.close(ticket);
            change
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_end_while_we_watch_waits_for_its_log() {
        let running = Life::Running {
            started_at: 1,
            pid: 1,
        };
        let exited = Life::Exited {
            started_at: 1,
            finished_at: 2,
            exit_code: 0,
            reason: "Completed",
            message: String::new(),
        };
        for reading_in in [false, true] {
            for before in [&Life::Created, &running] {
                assert!(awaits_log(Some(before), &exited, reading_in));
            }
            assert!(!awaits_log(Some(&exited), &exited, reading_in));
            assert!(!awaits_log(Some(&running), &running, reading_in));
        }
        // Made and ended between two looks, and ended before the first.
        assert!(awaits_log(None, &exited, false));
        assert!(!awaits_log(None, &exited, true));
    }
}
