//! The one task that copies all containers' logs, and the blocking half of its work.
//!
//! ```text
//!  inotify ──────▶ ┌ driver (async) ┐  one blocking call   ┌ State::turn ───────────────┐
//!  commands ─────▶ │ waits, paces   │ ───────────────────▶ │ commands, then dirty tails │
//!  retry timer ──▶ └────────────────┘ ◀─────────────────── └────────────────────────────┘
//! ```
//!
//! Nothing wakes it while no container writes. A line after silence is copied at once; while more
//! come, one turn copies for all containers what came in the rest after the last ([`Pace`]).

mod turn;

use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use rustix::fs::inotify;
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
    time::Instant,
};
use tracing::warn;

use self::turn::{Start, State};
use super::{
    follow::Follower,
    metrics::LogMetrics,
    orders::{Command, Wishes},
};
use crate::{engine::Engine, paths::PathView};

/// Rest after a turn while containers write much: what they write meanwhile is copied together, and
/// Docker keeps only so much for us.
const SHORT_REST: Duration = Duration::from_millis(10);
/// Rest after a turn while a few lines come all the time: what a turn costs is then shared by them.
const LONG_REST: Duration = Duration::from_millis(80);
/// Rest where the poller refuses to say when there is something.
const BLIND_REST: Duration = Duration::from_secs(1);
/// A turn that reads so much reads much.
const MUCH_BYTES: u64 = 64 << 10;
/// What comes so soon after a turn comes all the time.
const STEADY: Duration = Duration::from_millis(100);

/// How long to rest after turns.
#[derive(Debug)]
struct Pace {
    rest: Duration,
}

impl Pace {
    /// The rest after a turn that read `bytes`, and began so long after the one before had ended.
    fn rest_after(&mut self, bytes: u64, quiet: Duration) -> Duration {
        self.rest = if bytes >= MUCH_BYTES || quiet >= STEADY {
            SHORT_REST
        } else {
            (self.rest * 2).min(LONG_REST)
        };
        self.rest
    }
}

/// The driver.
#[derive(Debug)]
pub(super) struct Pump {
    engine: Engine,
    spawner: daemon::Spawner,
    events: Option<Arc<OwnedFd>>,
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
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let events = match inotify::init(flags) {
            Ok(events) => Some(Arc::new(events)),
            Err(error) => {
                warn!(error = %error, "no inotify instance: container logs are copied through docker's API; raise fs.inotify.max_user_instances");
                None
            }
        };
        let state = State::new(view, events.clone(), Arc::clone(&wishes), metrics);
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
        let mut pace = Pace { rest: SHORT_REST };
        let mut ended = Instant::now();
        let mut rested = ended;
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
                () = self.wishes.left() => {}
                // cancel-safe: a timer.
                () = sleep_until(due) => {}
                // cancel-safe: events stay until a turn reads them.
                () = readable(self.events.as_ref()), if !events_wait => {
                    events_wait = true;
                    continue;
                }
            }
            let quiet = ended.elapsed();
            let commands = std::mem::take(&mut batch);
            let mut state = self.state.take().expect("given back after each turn");
            let (state, turn) = daemon::blocking(move || {
                let turn = state.turn(commands);
                (state, turn)
            })
            .await;
            self.state = Some(state);
            ended = Instant::now();
            rested = ended + pace.rest_after(turn.bytes, quiet);
            (next, events_wait) = (turn.next, false);
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

/// Waits until there are events. The poller knows of them only meanwhile: else each line written
/// during a rest would wake somebody.
async fn readable(events: Option<&Arc<OwnedFd>>) {
    let Some(events) = events else {
        return std::future::pending().await;
    };
    #[expect(
        deprecated,
        reason = "its replacement is unsafe only for descriptors that may be closed meanwhile; this one is owned"
    )]
    let registered = AsyncFd::with_interest(Arc::clone(events), Interest::READABLE);
    match registered {
        // Only a runtime that goes away refuses to tell; the token ends the pump then.
        Ok(registered) => drop(registered.readable().await),
        Err(error) => {
            warn!(%error, "can't wait for docker's logs: looking at all of them from time to time");
            tokio::time::sleep(BLIND_REST).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_grows_with_a_trickle_and_not_with_a_flood() {
        let mut pace = Pace { rest: SHORT_REST };
        let ms = Duration::from_millis;
        let mut rests = |turns: &[(u64, u64)]| -> Vec<u128> {
            turns
                .iter()
                .map(|(bytes, quiet)| pace.rest_after(*bytes, ms(*quiet)).as_millis())
                .collect()
        };
        // A line after silence, and the next after silence again.
        assert_eq!(rests(&[(90, 5000), (90, 300)]), [10, 10]);
        // Lines all the time.
        assert_eq!(
            rests(&[(90, 10), (180, 20), (300, 40), (700, 80)]),
            [20, 40, 80, 80]
        );
        // A flood, and its end.
        assert_eq!(rests(&[(1 << 20, 80), (90 << 10, 10)]), [10, 10]);
        assert_eq!(rests(&[(90, 10), (90, 100)]), [20, 10]);
    }
}
