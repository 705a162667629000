//! Randomness for waits, so that many of one kind do not come at once.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

/// A random share, from 0 to 1.
pub(crate) fn unit() -> f64 {
    let random = || RandomState::new().build_hasher().finish();
    #[cfg(test)]
    let random = || testkit::random().unwrap_or_else(random);
    let random = random();
    #[expect(
        clippy::cast_precision_loss,
        reason = "a random share needs no precision"
    )]
    let unit = random as f64 / u64::MAX as f64;
    unit
}

/// A wait stretched by up to this share of it.
pub(crate) fn stretched(wait: Duration, share: f64) -> Duration {
    kubelet_core::backoff::jittered(wait, share, unit())
}
