//! Tidying up once work is over: what a burst of pods needed is not held until the next one.
//!
//! Owner task: [`Tidy::run`]. Input: [`Tidy::worked`], from whoever did something. While nothing is
//! done, nothing wakes.

use std::time::Duration;

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::blocking;

/// Work is over when nothing was done for so long.
const QUIET: Duration = Duration::from_secs(2);
/// Without a pause it is tidied up so often.
const AT_LATEST: Duration = Duration::from_secs(30);

/// Knows whether something was done since it was last tidied up.
#[derive(Debug, Default)]
pub struct Tidy(Notify);

impl Tidy {
    /// Nothing done yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Something was done that may have taken memory for a while: a start, a stop, a large answer.
    pub fn worked(&self) {
        self.0.notify_one();
    }

    /// Calls `tidy_up` on a thread for blocking work, first after the start and then after each
    /// time of work, until the token is cancelled.
    pub async fn run(&self, tidy_up: impl Fn() + Clone + Send + 'static, token: CancellationToken) {
        let work = async {
            loop {
                let at_latest = Instant::now() + AT_LATEST;
                loop {
                    let quiet = (Instant::now() + QUIET).min(at_latest);
                    // cancel-safe: a note that came stays for the next wait.
                    if timeout_at(quiet, self.0.notified()).await.is_err() {
                        break;
                    }
                }
                blocking(tidy_up.clone()).await;
                self.0.notified().await;
            }
        };
        tokio::select! {
            biased;
            // cancel-safe: a token.
            () = token.cancelled() => {}
            // cancel-safe: dropped for good.
            () = work => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_tidied_up_once_after_each_time_of_work_and_never_without() {
        let (tidy, token) = (Tidy::new(), CancellationToken::new());
        let count = Arc::new(AtomicU32::new(0));
        let counter = count.clone();
        let run = tidy.run(
            move || {
                counter.fetch_add(1, Ordering::SeqCst);
            },
            token.clone(),
        );
        let script = async {
            let seen = || count.load(Ordering::SeqCst);
            tokio::time::sleep(QUIET * 2).await;
            assert_eq!(seen(), 1, "after the start");
            tokio::time::sleep(Duration::from_hours(1)).await;
            assert_eq!(seen(), 1, "nothing was done");
            for _ in 0..5 {
                tidy.worked();
                tokio::time::sleep(QUIET / 2).await;
                assert_eq!(seen(), 1, "still at work");
            }
            tokio::time::sleep(QUIET).await;
            assert_eq!(seen(), 2);
            for _ in 0..(AT_LATEST.as_secs() + 10) {
                tidy.worked();
                tokio::time::sleep(QUIET / 2).await;
            }
            assert_eq!(seen(), 3, "work without a pause");
            token.cancel();
        };
        tokio::join!(run, script);
    }
}
