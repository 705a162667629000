//! The time that decisions are given.

use jiff::Timestamp;

/// Now. In tests, under tokio's paused clock, it goes with that.
pub(crate) fn now() -> Timestamp {
    #[cfg(test)]
    {
        Timestamp::try_from(testkit::now()).unwrap()
    }
    #[cfg(not(test))]
    Timestamp::now()
}
