//! Time on a clock that nobody sets.

use std::time::Duration;

/// A moment on the caller's clock, which never goes back and does not jump: time since any fixed start. What waits
/// without regard to the hour counts by it, so that a set clock neither ends a wait nor lengthens it.
pub type Moment = Duration;
