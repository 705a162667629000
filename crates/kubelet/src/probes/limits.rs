//! Time limits and rests of many questions at once, kept by the one timer of the task that asks them.
//!
//! A timer of the runtime's for each question would cost a write to the poller each: most are set
//! while none is earlier, and nearly all go unused.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// The limits of all questions on their way. Cheap to clone; whoever owns the timer calls
/// [`Limits::strike`] when [`Limits::first`] has come, and looks at that again after
/// [`Limits::earlier`].
#[derive(Debug, Clone, Default)]
pub(super) struct Limits(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Rung when the first moment is an earlier one than it was.
    earlier: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Whom to wake at which moment; the number tells two of one moment apart.
    wakers: BTreeMap<(Instant, u64), Waker>,
    next: u64,
}

/// The limit was reached.
#[derive(Debug)]
pub(super) struct Elapsed;

impl Limits {
    /// What a future says, if it says it in time.
    ///
    /// # Errors
    /// [`Elapsed`] otherwise.
    pub(super) async fn within<F: Future>(
        &self,
        limit: Duration,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        let mut future = pin!(future);
        let mut place = self.place(Instant::now() + limit);
        poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending if place.waits(context.waker()) => Poll::Pending,
            Poll::Pending => Poll::Ready(Err(Elapsed)),
        })
        .await
    }

    /// Waits until that moment.
    pub(super) fn until(&self, moment: Instant) -> impl Future<Output = ()> + Send + use<> {
        let mut place = self.place(moment);
        poll_fn(move |context| {
            if place.waits(context.waker()) {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
    }

    /// Waits until [`Self::first`] is an earlier moment than it was. Cancel-safe.
    pub(super) async fn earlier(&self) {
        self.0.earlier.notified().await;
    }

    /// The first moment at which somebody's time is up.
    pub(super) fn first(&self) -> Option<Instant> {
        self.lock().wakers.keys().next().map(|(end, _)| *end)
    }

    /// Wakes those whose time is up.
    pub(super) fn strike(&self, now: Instant) {
        let struck = {
            let mut waiting = self.lock();
            let later = waiting.wakers.split_off(&(now, u64::MAX));
            std::mem::replace(&mut waiting.wakers, later)
        };
        struck.into_values().for_each(Waker::wake);
    }

    fn place(&self, end: Instant) -> Place {
        let mut waiting = self.lock();
        waiting.next += 1;
        Place {
            limits: self.clone(),
            key: (end, waiting.next),
            taken: false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// One question's place among those that wait.
struct Place {
    limits: Limits,
    key: (Instant, u64),
    taken: bool,
}

impl Place {
    /// Whether there still is time; the waker is called when there is none any more.
    fn waits(&mut self, waker: &Waker) -> bool {
        let mut waiting = self.limits.lock();
        if !self.taken {
            self.taken = true;
            let first = waiting.wakers.keys().next();
            if first.is_none_or(|first| self.key < *first) {
                self.limits.0.earlier.notify_one();
            }
            waiting.wakers.insert(self.key, waker.clone());
            return true;
        }
        let Some(known) = waiting.wakers.get_mut(&self.key) else {
            return false;
        };
        known.clone_from(waker);
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.taken {
            self.limits.lock().wakers.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn who_is_late_is_struck_and_nobody_else() {
        let limits = Limits::default();
        let start = Instant::now();
        let never = std::future::pending::<()>;
        let mut late = Box::pin(limits.within(Duration::from_secs(1), never()));
        let mut patient = Box::pin(limits.within(Duration::from_secs(2), never()));
        assert!(late.as_mut().now_or_never().is_none());
        assert!(patient.as_mut().now_or_never().is_none());
        let first = limits.first().unwrap();
        assert!(first >= start + Duration::from_secs(1) && first < start + Duration::from_secs(2));

        limits.strike(start);
        assert!(late.as_mut().now_or_never().is_none());
        limits.strike(first);
        assert!(matches!(late.now_or_never(), Some(Err(Elapsed))));
        assert!(patient.as_mut().now_or_never().is_none());
        drop(patient);
        assert_eq!(limits.first(), None);
    }

    #[tokio::test]
    async fn an_answer_in_time_leaves_no_limit_behind() {
        let limits = Limits::default();
        let answer = limits
            .within(Duration::from_secs(1), async {
                tokio::task::yield_now().await;
                7
            })
            .await;
        assert_eq!(answer.unwrap(), 7);
        assert_eq!(limits.first(), None);
    }

    #[tokio::test]
    async fn whoever_must_be_woken_first_is_told_of() {
        let limits = Limits::default();
        let start = Instant::now();
        let second = |seconds| start + Duration::from_secs(seconds);
        let mut waits = Vec::new();
        let mut rings = |seconds| {
            let mut wait = Box::pin(limits.until(second(seconds)));
            assert!(wait.as_mut().now_or_never().is_none());
            waits.push(wait);
            limits.earlier().now_or_never().is_some()
        };
        assert_eq!([2, 3, 1].map(&mut rings), [true, false, true]);
        limits.strike(second(2));
        let woken = waits.into_iter().map(|wait| wait.now_or_never().is_some());
        let woken: Vec<bool> = woken.collect();
        assert_eq!(woken, [true, false, true]);
        assert_eq!(limits.first(), None);
    }
}
