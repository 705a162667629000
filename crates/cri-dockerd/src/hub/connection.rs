//! The owner task: connect, read everything in, follow the events, begin again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use daemon::ErrorChain;
use futures_util::{TryStreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use super::doubt::SHORT_LOOK;
use super::retry::Retry;
use super::{EngineFacts, Health, Hub, INSPECTS, OpenTicket};
use crate::cgroup::CgroupDriver;
use crate::engine::{EngineError, ListContainers};
use crate::labels;
use crate::lock::lock;
use crate::paths::PathError;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("failed to get docker version")]
    Connect(#[source] EngineError),
    #[error("can't translate paths for docker")]
    Paths(#[source] PathError),
    #[error("the event stream of docker broke")]
    Events(#[source] EngineError),
    #[error("docker closed its event stream")]
    Closed,
    #[error("can't read the state of docker's containers")]
    Sync(#[source] EngineError),
    #[error("the answer to a call was lost, or an inspect failed")]
    Distrusted,
}

impl Lost {
    /// Nobody listens where Docker should.
    fn is_unheard(&self) -> bool {
        matches!(self, Self::Connect(EngineError::Connect { .. }))
    }
}

impl Hub {
    /// Keeps the connection until `token` is cancelled.
    pub(crate) async fn run(self: Arc<Self>, token: CancellationToken) {
        let mut retry = Retry::new(self.engine.socket());
        loop {
            let lost = tokio::select! {
                biased;
                // cancel-safe: ending drops the connection, which Docker notices.
                () = token.cancelled() => return,
                lost = self.session(&mut retry) => lost,
            };
            let why = format!("docker: {}", ErrorChain(&lost));
            // Said once per change, not per try.
            if self.health() != Health::Down(why.clone()) {
                tracing::warn!(reason = why, "docker is not available, trying again");
            }
            self.health.send_replace(Health::Down(why));
            // Whoever waits for an exec must ask Docker.
            lock(&self.execs).clear();
            tokio::select! {
                biased;
                // cancel-safe: nothing is under way.
                () = token.cancelled() => return,
                () = retry.wait(lost.is_unheard()) => {}
            }
        }
    }

    /// One connection from its beginning to its loss.
    async fn session(self: &Arc<Self>, retry: &mut Retry) -> Lost {
        let mut events = match self.connect().await {
            Ok(events) => events,
            Err(error) => return Lost::Connect(error),
        };
        if let Err(error) = self.paths.learn(&self.engine).await {
            return Lost::Paths(error);
        }
        self.health.send_replace(Health::Syncing);
        let mut sync = std::pin::pin!(self.sync());
        let mut synced = false;
        let mut health = self.health.subscribe();
        loop {
            tokio::select! {
                // cancel-safe: EventStream::next keeps its buffer in the stream.
                event = events.next() => match event {
                    Some(Ok(event)) => self.take_event(&event),
                    Some(Err(error)) => return Lost::Events(error),
                    None => return Lost::Closed,
                },
                // Pinned outside the loop: goes on where it was.
                result = &mut sync, if !synced => match result {
                    Ok(count) => {
                        synced = true;
                        retry.succeeded();
                        tracing::info!(containers = count, "in step with docker");
                        // Unless somebody has come to distrust it meanwhile.
                        self.health.send_if_modified(|health| {
                            let syncing = *health == Health::Syncing;
                            if syncing {
                                *health = Health::Fresh;
                            }
                            syncing
                        });
                    }
                    Err(error) => return Lost::Sync(error),
                },
                // cancel-safe: a level.
                () = async {
                    // An error means that the hub is gone, and this task with it.
                    let _ = health.wait_for(|health| matches!(health, Health::Down(_))).await;
                } => return Lost::Distrusted,
            }
        }
    }

    /// The cache may lack something (a refresh failed, or the answer to a call was lost): has
    /// everything read in again, also while that is under way, for what is lacking may be in what
    /// has been read already.
    pub(crate) fn distrust(&self) {
        let why = format!("docker: {}", Lost::Distrusted);
        self.health.send_if_modified(|health| {
            let trusted = !matches!(health, Health::Down(_));
            if trusted {
                *health = Health::Down(why);
            }
            trusted
        });
    }

    async fn connect(&self) -> Result<crate::engine::EventStream, EngineError> {
        let api = self.engine.negotiate().await?;
        let (version, info) = tokio::try_join!(self.engine.version(), self.engine.info())?;
        let facts = EngineFacts {
            version: version.version,
            api,
            cgroup_driver: CgroupDriver::from_info(&info.cgroup_driver),
            info: Arc::new(info),
        };
        tracing::info!(version = facts.version, api = %api, "connected to docker");
        *lock(&self.facts) = Some(facts);
        // Subscribed before the list: what happens in between is not missed.
        let events = self.engine.events().await?;
        self.image_generation
            .send_modify(|generation| *generation += 1);
        lock(&self.images).clear();
        Ok(events)
    }

    /// Reads all our containers in; answers their number.
    async fn sync(self: &Arc<Self>) -> Result<usize, EngineError> {
        let open = OpenTicket {
            ticket: lock(&self.cache).open(Instant::now()),
            hub: self,
        };
        let query = ListContainers {
            all: true,
            labels: vec![labels::TYPE.to_owned()],
            ..ListContainers::default()
        };
        let listed: BTreeSet<String> = self
            .engine
            .containers(&query)
            .await?
            .into_iter()
            .map(|item| item.id)
            .collect();
        let gone: Vec<String> = lock(&self.cache)
            .known_before(open.ticket)
            .into_iter()
            .filter(|id| !listed.contains(id))
            .collect();
        for id in gone {
            lock(&self.starts).remove(&id);
            lock(&self.killed).remove(&id);
            self.change(|cache| cache.remove(open.ticket, &id));
        }
        let count = listed.len();
        stream::iter(listed.into_iter().map(Ok))
            .try_for_each_concurrent(INSPECTS, |id| async move {
                match self.refresh_within(&id, SHORT_LOOK).await {
                    Err(error) if matches!(error, EngineError::Connect { .. }) => Err(error),
                    // The event stream tells if that was not this container alone.
                    Err(error) => {
                        tracing::warn!(
                            container.id = id, error = %ErrorChain(&error),
                            "docker can't tell of a container, the others go on"
                        );
                        self.doubt(&id, Some(&error));
                        Ok(())
                    }
                    Ok(_) => Ok(()),
                }
            })
            .await?;
        Ok(count)
    }
}
