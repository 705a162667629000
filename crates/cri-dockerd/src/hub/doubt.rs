//! Containers that Docker can't tell of: one whose inspect fails or hangs is distrusted by itself, and
//! all others go on being served.
//!
//! ```text
//!            look fails                    look succeeds, nothing happened since it began
//! trusted ──────────────▶ doubted: unknown ──────────────────────────────────────▶ trusted
//!    │  outcome unknown        ▲    │ look again, pause 100 ms .. 5 s
//!    └──▶ doubted: looked at ──┘────┘
//! ```
//!
//! While a doubted container is looked at for the first time its readers wait; while it is unknown they
//! are told [`HubError::Unavailable`]. Lists have it all the same, from Docker's own list, which waits for
//! no container (DKR-16). Calls that change it go through to Docker.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::ErrorChain;

use super::error::HubError;
use super::{Hub, OpenTicket};
use crate::engine::{EngineError, ListContainers};
use crate::lock::lock;
use crate::state::Record;

/// How long one look may take while nobody but its reader waits: Docker answers in milliseconds, unless
/// it works on the container.
pub(super) const LOOK: Duration = Duration::from_secs(10);
/// How long a look may take that others wait for.
pub(super) const SHORT_LOOK: Duration = Duration::from_secs(3);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// Why it is unknown; `None` while it is looked at for the first time.
    why: Option<String>,
    /// Something happened since the look under way began.
    again: bool,
}

/// Doubted containers by id.
pub(super) type Doubts = BTreeMap<String, Doubt>;

impl Hub {
    /// A container is not to be answered from memory before Docker has been asked again: `why`, if that
    /// has just failed.
    pub(super) fn doubt(self: &Arc<Self>, id: &str, why: Option<&EngineError>) {
        let why = why.map(|why| ErrorChain(why).to_string());
        let is_new = {
            let mut doubts = lock(&self.doubts);
            match doubts.entry(id.to_owned()) {
                Entry::Occupied(mut entry) => {
                    entry.get_mut().again = true;
                    false
                }
                Entry::Vacant(entry) => {
                    entry.insert(Doubt { why, again: false });
                    true
                }
            }
        };
        if !is_new {
            return;
        }
        self.revision.send_modify(|revision| *revision += 1);
        let (hub, id) = (Arc::clone(self), id.to_owned());
        let token = self.spawner.token().clone();
        self.spawner.spawn_job("doubt", async move {
            tokio::select! {
                biased;
                // cancel-safe: the process ends, and a look changes nothing.
                () = token.cancelled() => {}
                () = hub.settle(&id) => {}
            }
        });
    }

    /// Looks at a doubted container until that succeeds.
    async fn settle(self: &Arc<Self>, id: &str) {
        let (mut limit, mut pause) = (SHORT_LOOK, FIRST_PAUSE);
        loop {
            if let Some(doubt) = lock(&self.doubts).get_mut(id) {
                doubt.again = false;
            }
            let looked = self.refresh_within(id, limit).await;
            let Err(error) = looked else {
                let mut doubts = lock(&self.doubts);
                if doubts.get(id).is_some_and(|doubt| doubt.again) {
                    continue;
                }
                doubts.remove(id);
                drop(doubts);
                self.revision.send_modify(|revision| *revision += 1);
                return;
            };
            let why = ErrorChain(&error).to_string();
            tracing::debug!(
                container.id = id,
                error = why,
                "docker can't tell of a container"
            );
            if let Some(doubt) = lock(&self.doubts).get_mut(id) {
                doubt.why = Some(why);
            }
            self.sketch(&[id.to_owned()]).await.ok();
            self.revision.send_modify(|revision| *revision += 1);
            tokio::time::sleep(pause).await;
            if error.is_lost() {
                // Looked at once all is read in again; whoever asks meanwhile waits for that.
                self.back().await;
                if let Some(doubt) = lock(&self.doubts).get_mut(id) {
                    doubt.why = None;
                }
                pause = FIRST_PAUSE;
            } else {
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            limit = LOOK;
        }
    }

    /// As [`Hub::refresh`], within a limit of its own.
    pub(super) async fn refresh_within(
        self: &Arc<Self>,
        id: &str,
        limit: Duration,
    ) -> Result<Option<Arc<Record>>, EngineError> {
        match tokio::time::timeout(limit, self.refresh(id)).await {
            Ok(done) => done,
            Err(_) => Err(EngineError::Timeout {
                call: format!("GET /containers/{id}/json"),
                limit,
            }),
        }
    }

    /// Whether a container is doubted.
    pub(crate) fn is_doubted(&self, id: &str) -> bool {
        lock(&self.doubts).contains_key(id)
    }

    /// The doubted containers, none of them being looked at for the first time any more. Waits for at
    /// most the limit of such a look. Cancel-safe.
    pub(super) async fn doubted(&self) -> Vec<String> {
        let mut revision = self.revision.subscribe();
        loop {
            {
                let doubts = lock(&self.doubts);
                if doubts.values().all(|doubt| doubt.why.is_some()) {
                    return doubts.keys().cloned().collect();
                }
            }
            // The sender lives in self.
            let _ = revision.changed().await;
        }
    }

    /// Waits while a container is looked at for the first time. Cancel-safe.
    ///
    /// # Errors
    /// [`HubError::Unavailable`] when Docker can't tell of it.
    pub(crate) async fn certain(&self, id: &str) -> Result<(), HubError> {
        let mut revision = self.revision.subscribe();
        loop {
            match lock(&self.doubts).get(id).map(|doubt| doubt.why.clone()) {
                None => return Ok(()),
                Some(Some(why)) => {
                    let text = format!("docker can't tell the state of container {id:?}: {why}");
                    return Err(HubError::Unavailable(text));
                }
                Some(None) => {}
            }
            // The sender lives in self.
            let _ = revision.changed().await;
        }
    }

    /// Containers as Docker's list has them; what was not known at all is, so far, from now on.
    ///
    /// # Errors
    /// As the list.
    pub(super) async fn sketch(&self, ids: &[String]) -> Result<Vec<Record>, EngineError> {
        let open = OpenTicket {
            ticket: lock(&self.cache).open(Instant::now()),
            hub: self,
        };
        let query = ListContainers {
            all: true,
            ids: ids.to_vec(),
            ..ListContainers::default()
        };
        let listed = self.engine.containers(&query).await?;
        let records: Vec<Record> = listed.iter().filter_map(Record::from_summary).collect();
        for record in &records {
            self.change(|cache| {
                let is_new = cache.get(&record.id).is_none();
                is_new
                    .then(|| cache.put(open.ticket, record.clone()))
                    .flatten()
            });
        }
        Ok(records)
    }
}
