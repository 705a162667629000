//! The time that decisions are given.

use jiff::Timestamp;

/// Now. In tests, under tokio's paused clock, it goes with that.
pub(crate) fn now() -> Timestamp {
    #[cfg(test)]
    {
        let tokio = tokio::time::Instant::now().into_std();
        let system = std::time::Instant::now();
        let ahead = tokio.saturating_duration_since(system);
        let behind = system.saturating_duration_since(tokio);
        Timestamp::now() + ahead - behind
    }
    #[cfg(not(test))]
    Timestamp::now()
}
