//! Keeps the newest events, in memory and in `<root-dir>/events.json`.
//!
//! Owner task: [`EventKeeper::run`]. Input: every event, by [`EventStore::take`], which never blocks.
//! Output: the file, written some seconds after a change, atomically, and at the end; while nothing
//! happens nothing is written, and before the task runs nothing is touched: the file may be another
//! kubelet's. What survives a restart is the file; of a kill the last seconds are lost.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use daemon::{
    ErrorChain,
    versioned::{self, Versioned},
};
use kubelet_core::event_ring::{Event, EventRing, SeenEvent};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock;

/// Between a change and its write: a burst becomes one write.
const WRITE_DELAY: Duration = Duration::from_secs(10);
/// Only root reads what happens to pods.
const MODE: u32 = 0o600;

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    events: Vec<SeenEvent>,
}

impl Versioned for Saved {
    const VERSION: u32 = 1;
}

/// The events, for those who add and those who read.
#[derive(Debug, Default)]
pub(crate) struct EventStore {
    ring: Mutex<EventRing>,
    changed: Notify,
}

impl EventStore {
    fn lock(&self) -> MutexGuard<'_, EventRing> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an event.
    pub(crate) fn take(&self, event: Event) {
        if self.lock().record(event, clock::now()) {
            self.changed.notify_one();
        }
    }

    /// All events, the last seen last.
    pub(crate) fn events(&self) -> Vec<SeenEvent> {
        self.lock().events().cloned().collect()
    }
}

/// Writes the events down.
#[derive(Debug)]
pub(crate) struct EventKeeper {
    store: Arc<EventStore>,
    path: PathBuf,
}

impl EventKeeper {
    /// The events of an earlier process, and who keeps them from now on. A file that cannot be read
    /// is said and begun anew: events are no state. Only reads. Blocks.
    pub(crate) fn open(path: PathBuf) -> (Self, Arc<EventStore>) {
        let events = match versioned::read::<Saved>(&path) {
            Ok(saved) => saved.map(|saved| saved.events).unwrap_or_default(),
            Err(error) => {
                tracing::warn!(error = %ErrorChain(&error), "earlier events are lost");
                Vec::new()
            }
        };
        let store = Arc::new(EventStore {
            ring: Mutex::new(EventRing::with(events)),
            changed: Notify::new(),
        });
        let keeper = Self {
            store: store.clone(),
            path,
        };
        (keeper, store)
    }

    /// Keeps until the token is cancelled.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut failing = false;
        loop {
            let ends = tokio::select! {
                biased;
                // cancel-safe: a token.
                () = shutdown.cancelled() => true,
                // cancel-safe: the permit is used up, and what it told of is written below.
                () = self.store.changed.notified() => false,
            };
            if ends && !self.is_changed().await {
                return;
            }
            tokio::select! {
                biased;
                // cancel-safe: a token. At the end the write does not wait.
                () = shutdown.cancelled() => {}
                // cancel-safe: a timer.
                () = tokio::time::sleep(WRITE_DELAY) => {}
            }
            let saved = Saved {
                events: self.store.events(),
            };
            let path = self.path.clone();
            let written = daemon::blocking(move || versioned::write(&path, &saved, MODE)).await;
            if let Err(error) = &written
                && !failing
            {
                tracing::warn!(error = %ErrorChain(error), "keep the events");
            }
            failing = written.is_err();
            if ends {
                return;
            }
        }
    }

    /// Whether something has happened that nobody has looked at.
    async fn is_changed(&self) -> bool {
        let changed = self.store.changed.notified();
        tokio::time::timeout(Duration::ZERO, changed).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn event(reason: &str) -> Event {
        Event {
            kind: "Node".to_owned(),
            namespace: String::new(),
            name: "node".to_owned(),
            uid: "node".to_owned(),
            field_path: None,
            type_: "Normal".to_owned(),
            reason: reason.to_owned(),
            message: "x".to_owned(),
        }
    }

    fn reasons(path: &Path) -> Vec<String> {
        let (_, store) = EventKeeper::open(path.to_owned());
        let events = store.events().into_iter();
        events.map(|seen| seen.event.reason).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_touched_before_the_task_runs() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.json");
        // Of another kubelet's write that goes on.
        let unfinished = directory.path().join(".events.json.berth-tmp-7-0");
        std::fs::write(&unfinished, "{").unwrap();
        let (keeper, store) = EventKeeper::open(path.clone());
        store.take(event("One"));
        tokio::time::sleep(WRITE_DELAY * 2).await;
        assert!(unfinished.exists() && !path.exists());
        let tasks = daemon::TaskGroup::new("test");
        tasks.spawn("keeper", keeper.run(tasks.token().clone()));
        tokio::time::sleep(WRITE_DELAY * 2).await;
        assert_eq!(reasons(&path), ["One"]);
        tasks.shutdown(Duration::from_secs(5)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn events_survive_and_nothing_is_written_while_nothing_happens() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.json");
        let (keeper, store) = EventKeeper::open(path.clone());
        let tasks = daemon::TaskGroup::new("test");
        tasks.spawn("keeper", keeper.run(tasks.token().clone()));
        store.take(event("One"));
        store.take(event("Two"));
        tokio::time::sleep(WRITE_DELAY * 2).await;
        assert_eq!(reasons(&path), ["One", "Two"]);
        std::fs::remove_file(&path).unwrap();
        tokio::time::sleep(WRITE_DELAY * 2).await;
        assert!(!path.exists());
        // What happened last is written at the end.
        store.take(event("Three"));
        tasks.shutdown(Duration::from_secs(5)).await.unwrap();
        assert_eq!(reasons(&path), ["One", "Two", "Three"]);
    }

    #[test]
    fn a_damaged_file_is_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.json");
        std::fs::write(&path, "{").unwrap();
        assert!(reasons(&path).is_empty());
    }
}
