//! CPU rates from successive readings. Pure.
//!
//! `usage_nano_cores` is the use since the reading before, if that is at least [`MIN_WINDOW`] old;
//! several callers a moment apart are told the same. The first reading of a container, one after
//! more than [`MAX_WINDOW`] and one after its counter began anew have no rate: the caller may make
//! its own from `usage_core_nano_seconds`.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// Below it a rate is noise, and two callers would halve each other's window again and again.
const MIN_WINDOW: Duration = Duration::from_secs(1);
/// Above it an average says nothing about now.
const MAX_WINDOW: Duration = Duration::from_mins(5);

/// The last readings.
#[derive(Debug, Default)]
pub(super) struct Rates {
    by_id: HashMap<String, Last>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    usage: u64,
    since: Duration,
    nano_cores: Option<u64>,
}

impl Rates {
    /// Takes a reading (nanoseconds of CPU time, at a time since an origin) and tells the rate in
    /// nanoseconds of CPU time per second.
    pub(super) fn next(&mut self, id: &str, usage: u64, since: Duration) -> Option<u64> {
        let fresh = Last {
            usage,
            since,
            nano_cores: None,
        };
        let Some(last) = self.by_id.get_mut(id) else {
            self.by_id.insert(id.to_owned(), fresh);
            return None;
        };
        let window = since.saturating_sub(last.since);
        if usage < last.usage && !window.is_zero() || window > MAX_WINDOW {
            *last = fresh;
        } else if window >= MIN_WINDOW {
            let used = u128::from(usage - last.usage);
            let nano_cores = used * 1_000_000_000 / window.as_nanos();
            *last = Last {
                nano_cores: u64::try_from(nano_cores).ok(),
                ..fresh
            };
        }
        last.nano_cores
    }

    /// Forgets what is gone.
    pub(super) fn keep_only(&mut self, known: &HashSet<String>) {
        self.by_id.retain(|id, _| known.contains(id));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn rate_is_the_use_since_the_reading_before() {
        let mut rates = Rates::default();
        assert_eq!(rates.next("a", 5, at(0)), None);
        assert_eq!(rates.next("a", 5 + SECOND / 2, at(1000)), Some(SECOND / 2));
        // Too soon: the same again, and the window stays where it began.
        assert_eq!(rates.next("a", 5 + SECOND, at(1300)), Some(SECOND / 2));
        assert_eq!(rates.next("a", 5 + 3 * SECOND, at(3500)), Some(SECOND));
        assert_eq!(rates.next("b", 1, at(3500)), None, "another container");
    }

    #[test]
    fn counter_that_begins_anew_and_a_long_silence_have_no_rate() {
        let mut rates = Rates::default();
        rates.next("a", 9 * SECOND, at(0));
        assert_eq!(rates.next("a", SECOND, at(10_000)), None, "restarted");
        assert_eq!(rates.next("a", 2 * SECOND, at(11_000)), Some(SECOND));
        assert_eq!(rates.next("a", 3 * SECOND, at(1_000_000)), None);
        rates.keep_only(&HashSet::new());
        assert_eq!(
            rates.next("a", 4 * SECOND, at(1_001_000)),
            None,
            "forgotten"
        );
    }

    proptest! {
        #[test]
        fn rate_never_exceeds_what_the_counter_did(
            steps in prop::collection::vec((0_u64..4 * SECOND, 0_u64..400_000), 1..50),
        ) {
            let mut rates = Rates::default();
            let (mut usage, mut millis) = (0, 0);
            let steepest = steps.iter().map(|(used, _)| *used).max().unwrap();
            for (used, pause) in steps {
                usage += used;
                millis += pause;
                if let Some(rate) = rates.next("a", usage, at(millis)) {
                    // All steps within the shortest window, each at most the steepest.
                    prop_assert!(rate <= steepest.saturating_mul(50));
                }
            }
        }
    }
}
