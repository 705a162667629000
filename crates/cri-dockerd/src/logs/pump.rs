//! The one task that copies all containers' logs, and the blocking half of its work.
//!
//! ```text
//!  inotify ──────▶ ┌ driver (async) ┐  one blocking call   ┌ State::turn ───────────────┐
//!  commands ─────▶ │ waits, paces   │ ───────────────────▶ │ commands, then dirty tails │
//!  retry timer ──▶ └────────────────┘ ◀─────────────────── └────────────────────────────┘
//! ```
//!
//! Nothing wakes it while no container writes. Under load one turn copies what came in
//! [`PACE`], for all containers.

mod turn;

use std::{
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::fs::inotify;
use tokio::{
    io::unix::AsyncFd,
    sync::{Notify, mpsc, oneshot},
    time::Instant,
};
use tracing::warn;

use self::turn::{Start, State};
use super::{LogError, LogMetrics, LogSource, follow::Follower, position::Position};
use crate::{engine::Engine, paths::PathView};

/// Time between two turns while containers write without pause: what they write meanwhile is
/// copied together.
const PACE: Duration = Duration::from_millis(10);

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

    fn take(&self) -> HashMap<String, Wish> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Wish>> {
        // A plain map: a panic leaves it usable.
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The driver.
#[derive(Debug)]
pub(super) struct Pump {
    engine: Engine,
    spawner: daemon::Spawner,
    events: Option<AsyncFd<Arc<OwnedFd>>>,
    state: Option<State>,
    wishes: Arc<Wishes>,
    commands: mpsc::Receiver<Command>,
    sender: mpsc::Sender<Command>,
}

impl Pump {
    /// Opens the pump's only inotify instance; must be called in the runtime.
    pub(super) fn new(
        engine: Engine,
        view: Arc<dyn PathView>,
        spawner: daemon::Spawner,
        metrics: LogMetrics,
        wishes: Arc<Wishes>,
        (sender, commands): (mpsc::Sender<Command>, mpsc::Receiver<Command>),
    ) -> Self {
        #[expect(
            deprecated,
            reason = "its replacement is unsafe only for descriptors that may be closed meanwhile; this one is owned"
        )]
        let register = |fd| AsyncFd::new(Arc::new(fd));
        let opened = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
            .map_err(io::Error::from)
            .and_then(register);
        let events = match opened {
            Ok(events) => Some(events),
            Err(error) => {
                warn!(error = %error, "no inotify instance: container logs are copied through docker's API; raise fs.inotify.max_user_instances");
                None
            }
        };
        let inotify = events.as_ref().map(|fd| Arc::clone(fd.get_ref()));
        let state = State::new(view, inotify, Arc::clone(&wishes), metrics);
        Self {
            engine,
            spawner,
            events,
            state: Some(state),
            wishes,
            commands,
            sender,
        }
    }

    /// Runs until the group ends. What is not copied by then is copied by the next process.
    pub(super) async fn run(mut self) {
        let token = self.spawner.token().clone();
        // When the next turn is due: because the last one left something to do, and because of events.
        let mut next: Option<Instant> = None;
        let mut events_wait = false;
        let mut rested = Instant::now();
        let mut batch = Vec::new();
        loop {
            let due = [next, events_wait.then_some(rested)]
                .into_iter()
                .flatten()
                .min();
            tokio::select! {
                biased;
                // cancel-safe: nothing is taken from anywhere.
                () = token.cancelled() => return,
                // cancel-safe: commands stay in the channel until received.
                received = self.commands.recv_many(&mut batch, 64) => if received == 0 { return },
                // cancel-safe: a wake-up that is not taken stays.
                () = self.wishes.wake.notified() => {}
                // cancel-safe: a timer.
                () = sleep_until(due) => {}
                // cancel-safe: readiness stays until it is cleared, which ends the branch.
                () = readable(self.events.as_ref()), if !events_wait => {
                    events_wait = true;
                    continue;
                }
            }
            let commands = std::mem::take(&mut batch);
            let mut state = self.state.take().expect("given back after each turn");
            let (state, turn) = daemon::blocking(move || {
                let turn = state.turn(commands);
                (state, turn)
            })
            .await;
            self.state = Some(state);
            (next, events_wait, rested) = (turn.next, false, Instant::now() + PACE);
            for start in turn.start {
                self.start(start);
            }
        }
    }

    fn start(&self, start: Start) {
        let follower = Follower {
            key: start.key,
            tty: start.tty,
            engine: self.engine.clone(),
            pump: self.sender.clone(),
            token: start.token,
        };
        self.spawner.spawn_job("log follower", follower.run());
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Waits until there are events, and forgets that there are: the turn reads all of them.
async fn readable(events: Option<&AsyncFd<Arc<OwnedFd>>>) {
    let Some(events) = events else {
        return std::future::pending().await;
    };
    match events.readable().await {
        Ok(mut guard) => guard.clear_ready(),
        // Only a runtime that goes away refuses.
        Err(_) => std::future::pending().await,
    }
}
