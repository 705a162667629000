//! Deadlines of callers: a call that its caller has given up is dropped and ends in DeadlineExceeded.
//!
//! tonic drops it too, but says Cancelled, which reaches the caller when our clock is a moment ahead of
//! its own. This layer stands inside tonic's and looks at the clock first, with a deadline that is
//! never behind tonic's.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use tokio::time::{Instant, Sleep};
use tonic::Status;
use tower::{Layer, Service};

const HEADER: &str = "grpc-timeout";

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines;

impl<S> Layer<S> for Deadlines {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Bounded(inner)
    }
}

/// A service whose calls end at their callers' deadlines.
#[derive(Debug, Clone)]
pub(crate) struct Bounded<S>(S);

impl<S, B> Service<Request<B>> for Bounded<S>
where
    S: Service<Request<B>, Response = Response<tonic::body::Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = Call<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let limit = timeout(request.headers());
        Call {
            sleep: limit.map(|limit| Box::pin(tokio::time::sleep(limit))),
            work: Box::pin(self.0.call(request)),
        }
    }
}

/// A call under way.
#[derive(Debug)]
pub(crate) struct Call<F> {
    sleep: Option<Pin<Box<Sleep>>>,
    work: Pin<Box<F>>,
}

impl<F> Future for Call<F>
where
    F: Future<Output = Result<Response<tonic::body::Body>, Infallible>>,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(done) = self.work.as_mut().poll(context) {
            return Poll::Ready(done);
        }
        let Some(sleep) = &mut self.sleep else {
            return Poll::Pending;
        };
        // The clock, not the timer alone: tonic's may have gone off a moment before ours.
        let is_over = sleep.deadline() <= Instant::now();
        if is_over || sleep.as_mut().poll(context).is_ready() {
            let status = Status::deadline_exceeded("context deadline exceeded");
            return Poll::Ready(Ok(status.into_http()));
        }
        Poll::Pending
    }
}

/// How long the caller waits, as far as it says so in gRPC's form: up to eight digits and a unit.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(HEADER)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_hours(number),
        "M" => Duration::from_mins(number),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    fn request(limit: &str) -> Request<()> {
        Request::builder().header(HEADER, limit).body(()).unwrap()
    }

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        let read = |text: &str| timeout(request(text).headers());
        assert_eq!(read("1m"), Some(Duration::from_millis(1)));
        assert_eq!(read("99999999H"), Some(Duration::from_hours(99_999_999)));
        assert_eq!(read("15M"), Some(Duration::from_mins(15)));
        assert_eq!(read("2S"), Some(Duration::from_secs(2)));
        assert_eq!(read("999u"), Some(Duration::from_micros(999)));
        assert_eq!(read("7n"), Some(Duration::from_nanos(7)));
        for wrong in ["", "m", "1", "1x", "-1S", "123456789S", "1é"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(timeout(&HeaderMap::new()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn call_past_its_deadline_is_dropped_and_answers_deadline_exceeded() {
        let (held, mut dropped) = tokio::sync::oneshot::channel::<()>();
        let held = std::sync::Mutex::new(Some(held));
        let never = service_fn(move |_: Request<()>| {
            let held = held.lock().unwrap().take();
            async move {
                let _held = held;
                std::future::pending().await
            }
        });
        let service = Deadlines.layer(never);
        let before = Instant::now();
        let answer = service.oneshot(request("250m")).await.unwrap();
        assert_eq!(before.elapsed().as_millis(), 250);
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert!(dropped.try_recv().is_err(), "the call is not dropped");
    }

    #[tokio::test(start_paused = true)]
    async fn tonics_own_timer_never_answers_first() {
        let never = service_fn(|_: Request<()>| std::future::pending());
        let mut service = Deadlines.layer(never);
        let mut call = std::pin::pin!(service.call(request("1m")));
        let outer = tokio::time::sleep(Duration::from_millis(1));
        // Woken by the outer timer alone: ours has not been polled yet.
        outer.await;
        let answer = tokio::select! {
            biased;
            answer = &mut call => answer.unwrap(),
            () = std::future::ready(()) => panic!("tonic would say Cancelled"),
        };
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded);
    }
}
