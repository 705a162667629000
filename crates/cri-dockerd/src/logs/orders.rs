//! What the pump is told: commands, and wishes of which the latest counts.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::{Notify, oneshot};

use super::{error::LogError, position::Position, record::Stamp};
use crate::lock::lock;

/// A container whose log is to be copied.
#[derive(Debug, Clone)]
pub(super) struct LogSource {
    /// The CRI log: log directory and log path joined, in our view.
    pub(super) log_path: PathBuf,
    /// Docker's json-file in the engine's view; `None` when the container has another log driver.
    pub(super) docker_log: Option<PathBuf>,
    /// The container has a terminal: all it says is stdout (LOG-10).
    pub(super) tty: bool,
    /// When the container was created, where Docker said it: older lines in the CRI log are of a
    /// container before it, whose place it has taken.
    pub(super) born: Option<Stamp>,
}

/// A container's log, and which of its followers is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) id: Arc<str>,
    pub(super) generation: u64,
}

/// What the pump is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    /// Answered when the new file is there.
    Reopen {
        id: String,
        reply: oneshot::Sender<Result<(), LogError>>,
    },
    /// Answered when all is written; the copying ends then.
    Drain {
        id: String,
        reply: oneshot::Sender<()>,
    },
    /// From a follower: where does the log end?
    Position {
        key: Key,
        reply: oneshot::Sender<Option<Position>>,
    },
    /// From a follower: write this. Answered when it is written.
    Lines {
        key: Key,
        lines: Vec<u8>,
        reply: oneshot::Sender<()>,
    },
    /// From a follower: there will be no more.
    Ended { key: Key },
}

/// What is wanted for a container; the latest wish counts.
#[derive(Debug)]
pub(super) enum Wish {
    /// Copy its log; to the present end only when it doesn't run.
    Copy { source: LogSource, running: bool },
    /// Its log is of no interest any more.
    Forget,
}

/// Wishes that the pump has not taken yet: at most one for each container.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    by_id: Mutex<HashMap<String, Wish>>,
    wake: Notify,
}

impl Wishes {
    /// Leaves a wish.
    pub(super) fn leave(&self, id: String, wish: Wish) {
        self.lock().insert(id, wish);
        self.wake.notify_one();
    }

    /// Takes all of them.
    pub(super) fn take(&self) -> HashMap<String, Wish> {
        std::mem::take(&mut *self.lock())
    }

    /// Waits until wishes are left; a wake-up that is not taken stays. Cancel-safe.
    pub(super) async fn left(&self) {
        self.wake.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Wish>> {
        lock(&self.by_id)
    }
}
