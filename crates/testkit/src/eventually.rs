//! Waiting for a level: look again until it holds or the deadline passes, and then say what was
//! seen last.

use std::{
    fmt::Debug,
    future::Future,
    panic::Location,
    time::{Duration, Instant},
};

/// How much longer than here everything may take, such as `5` on an emulated machine.
const SLOWNESS: &str = "BERTH_TEST_SLOWNESS";
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Looks until `look` answers `Ok`, blocking between looks.
///
/// # Panics
/// At the deadline, with the last `Err`.
#[track_caller]
pub fn eventually<T, S: Debug>(deadline: Duration, mut look: impl FnMut() -> Result<T, S>) -> T {
    let mut wait = Wait::new(deadline, Location::caller());
    loop {
        match look() {
            Ok(value) => return value,
            Err(seen) => std::thread::sleep(wait.next(&seen)),
        }
    }
}

/// Looks until `look` answers `Ok`. The deadline is in real time even on a paused clock.
///
/// # Panics
/// At the deadline, with the last `Err`.
#[track_caller]
pub fn eventually_async<T, S, F, Fut>(deadline: Duration, mut look: F) -> impl Future<Output = T>
where
    S: Debug,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, S>>,
{
    let mut wait = Wait::new(deadline, Location::caller());
    async move {
        loop {
            match look().await {
                Ok(value) => return value,
                Err(seen) => tokio::time::sleep(wait.next(&seen)).await,
            }
        }
    }
}

/// What a test allows something to take: `limit`, or as much longer as the machine is said to be slower.
pub fn allowance(limit: Duration) -> Duration {
    limit * slowness()
}

/// How much a test has going on at once: `count`, or as much less as the machine is said to be slower.
pub fn at_once(count: usize) -> usize {
    (count / slowness() as usize).max(1)
}

/// The factor that [`SLOWNESS`] names; 1 on a machine that is as fast as any.
fn slowness() -> u32 {
    #[expect(
        clippy::disallowed_methods,
        reason = "a switch for test runs, not a setting"
    )]
    let factor = std::env::var(SLOWNESS).ok();
    factor.and_then(|text| text.parse().ok()).unwrap_or(1)
}

struct Wait {
    start: Instant,
    deadline: Duration,
    pause: Duration,
    place: &'static Location<'static>,
}

impl Wait {
    fn new(deadline: Duration, place: &'static Location<'static>) -> Self {
        Self {
            start: Instant::now(),
            deadline: allowance(deadline),
            pause: FIRST_PAUSE,
            place,
        }
    }

    fn next(&mut self, seen: &dyn Debug) -> Duration {
        assert!(
            self.start.elapsed() < self.deadline,
            "{}: not within {:?}; last seen: {seen:?}",
            self.place,
            self.deadline
        );
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_returned_as_soon_as_it_is_there() {
        let mut looks = 0;
        let value = eventually(Duration::from_secs(5), || {
            looks += 1;
            if looks < 3 { Err("not yet") } else { Ok(looks) }
        });
        assert_eq!(value, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "last seen: \"2 of 3\"")]
    async fn deadline_reports_the_last_state() {
        eventually_async::<(), _, _, _>(Duration::ZERO, async || Err("2 of 3")).await;
    }
}
