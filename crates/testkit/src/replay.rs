//! The same run again from a seed: time, chance and the order of things follow from it alone.
//!
//! What else a test of one thread on tokio's paused clock depends on is taken away here: the
//! system's clock (mixed with the paused one it moves every wait by how long the test really took),
//! the random numbers of delays, and the threads for blocking work, which end when they like. Calls to
//! the fake runtime ([`crate::FakeCri::in_process`]) take a time that follows from the seed, so
//! each seed is another order of things. `tokio::select!` without `biased` is not covered.

use std::{
    cell::RefCell,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

/// When each replay begins: 2024-01-01.
const BEGIN: Duration = Duration::from_hours(473_352);
/// Milliseconds that a call may take, each way.
const PACES: [u64; 8] = [0, 0, 0, 1, 2, 5, 30, 200];

thread_local! {
    static REPLAY: RefCell<Option<State>> = const { RefCell::new(None) };
}

#[derive(Debug)]
struct State {
    began: Instant,
    random: Random,
}

/// Numbers that follow from a seed (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number, less than `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    /// A place in something of this length; 0 where it is empty.
    ///
    /// # Panics
    /// Never: what is below a length is one.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length.max(1) as u64)).expect("below a length")
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        let index = self.index(all.len());
        all.get(index)
    }
}

/// What happens on this thread follows from the seed, until this is dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the replay"]
pub struct Replay {
    _blocking: daemon::InlineBlocking,
}

impl Replay {
    /// Begins; the paused clock shows the same time each time.
    ///
    /// # Panics
    /// Where the thread replays something already.
    pub fn begin(seed: u64) -> Self {
        REPLAY.with_borrow_mut(|replay| {
            assert!(replay.is_none(), "one replay at a time on a thread");
            *replay = Some(State {
                began: Instant::now(),
                random: Random::new(seed),
            });
        });
        Self {
            _blocking: daemon::InlineBlocking::begin(),
        }
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        REPLAY.set(None);
    }
}

/// Now. Under tokio's paused clock it goes with that.
pub fn now() -> SystemTime {
    let tokio = Instant::now();
    let began = REPLAY.with_borrow(|replay| replay.as_ref().map(|state| state.began));
    if let Some(began) = began {
        return UNIX_EPOCH + BEGIN + tokio.saturating_duration_since(began);
    }
    let (tokio, system) = (tokio.into_std(), std::time::Instant::now());
    let ahead = tokio.saturating_duration_since(system);
    let behind = system.saturating_duration_since(tokio);
    SystemTime::now() + ahead - behind
}

/// The next random number of the replay; `None` where there is none.
pub fn random() -> Option<u64> {
    REPLAY.with_borrow_mut(|replay| Some(replay.as_mut()?.random.next_u64()))
}

/// As long as a message may be on its way; not at all without a replay.
pub(crate) async fn travel() {
    if let Some(number) = random() {
        let index = usize::try_from(number % 8).unwrap_or_default();
        match PACES[index] {
            0 => tokio::task::yield_now().await,
            pace => tokio::time::sleep(Duration::from_millis(pace)).await,
        }
    }
}
