//! Times that Docker stamped, on our own clock.

use std::time::{Duration, Instant};

/// Events come at once; the stamp of a later one tells too little.
const FRESH: Duration = Duration::from_secs(10);

/// When that happened which Docker stamped `stamp` (nanoseconds since 1970): at the latest. What was
/// asked later has it in the answer.
///
/// The wall clock may be set at any time, and an event must not be taken for an old one for the
/// hour that the clock was set back. So only the distance between the stamp and `wall`, the present,
/// is trusted; in doubt it is now, which costs an inspect.
pub(super) fn happened(stamp: i64, wall: i64, now: Instant) -> Instant {
    let age = Duration::from_nanos(u64::try_from(wall.saturating_sub(stamp)).unwrap_or_default());
    let happened = now.checked_sub(age);
    happened.filter(|_| age < FRESH).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000_000;
    const SECOND: i64 = 1_000_000_000;

    fn is_known(asked: Instant, stamp: i64, wall: i64, now: Instant) -> bool {
        asked > happened(stamp, wall, now)
    }

    #[test]
    fn what_was_over_before_docker_was_asked_is_known() {
        let asked = Instant::now();
        let now = asked + Duration::from_secs(2);
        let wall = 10 * HOUR;
        assert!(is_known(asked, wall - 3 * SECOND, wall, now));
        assert!(!is_known(asked, wall - SECOND, wall, now));
        assert!(!is_known(asked, wall, wall, now));
    }

    #[test]
    fn a_clock_that_is_set_hides_no_event() {
        let asked = Instant::now();
        let now = asked + Duration::from_mins(1);
        for jump in [-HOUR, HOUR] {
            // Set between the question and the event: both stamps are of the new clock.
            let wall = 10 * HOUR + 60 * SECOND + jump;
            assert!(!is_known(asked, wall - SECOND, wall, now), "{jump}");
            // Set between the event and its arrival.
            let before = 10 * HOUR + 60 * SECOND;
            assert!(!is_known(asked, before, before + jump, now), "{jump}");
        }
        assert!(!is_known(asked, i64::MIN, i64::MAX, now));
    }
}
