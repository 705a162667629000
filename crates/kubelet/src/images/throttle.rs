//! A token bucket: `registryPullQPS` with `registryBurst` (IMG-06).

use tokio::time::Instant;

/// Lets through `burst` at once and `per_second` on average.
#[derive(Debug)]
pub(super) struct TokenBucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    filled_at: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub(super) fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let burst = f64::from(burst);
        Self {
            per_second: f64::from(per_second),
            burst,
            tokens: burst,
            filled_at: now,
        }
    }

    /// Takes one if there is one. Never waits.
    pub(super) fn try_take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.tokens = elapsed
            .mul_add(self.per_second, self.tokens)
            .min(self.burst);
        self.filled_at = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn burst_is_let_through_and_refills_with_time() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(5, 2, start);
        let taken: Vec<bool> = (0..3).map(|_| bucket.try_take(start)).collect();
        assert_eq!(taken, [true, true, false]);
        assert!(!bucket.try_take(start + Duration::from_millis(100)));
        assert!(bucket.try_take(start + Duration::from_millis(250)));
        let later = start + Duration::from_hours(1);
        let taken = (0..5).filter(|_| bucket.try_take(later)).count();
        assert_eq!(taken, 2, "never more than the burst");
    }
}
