//! Which of several addresses to talk to.

use std::{net::IpAddr, pin::pin, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};

/// An address that says nothing for so long has a rival in the next one (Go, `Dialer.FallbackDelay`).
const PATIENCE: Duration = Duration::from_millis(300);

/// Connects to the first of these addresses that can be connected to: each is tried when the one before
/// it failed or hesitates. `None` when there is no address.
///
/// Differs (SRC-10, PROBE-10): every address that hesitates for 300 ms gets a rival; upstream's only the first
/// address of the other kind.
///
/// # Errors
/// What went wrong first, when all of them failed.
pub async fn first_of<T, E, F>(
    addresses: &[IpAddr],
    connect: impl Fn(IpAddr) -> F,
) -> Option<Result<T, E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut rest = addresses.iter();
    let mut tried = FuturesUnordered::new();
    tried.push(connect(*rest.next()?));
    let mut first_error = None;
    let mut patience = pin!(tokio::time::sleep(PATIENCE));
    loop {
        let next = tokio::select! {
            biased;
            // cancel-safe: what is tried stays in its place.
            outcome = tried.next() => match outcome {
                Some(Ok(connection)) => return Some(Ok(connection)),
                Some(Err(error)) => {
                    first_error.get_or_insert(error);
                    rest.next()
                }
                None => return first_error.map(Err),
            },
            // cancel-safe: a time.
            () = &mut patience, if rest.len() > 0 => rest.next(),
        };
        if let Some(ip) = next {
            tried.push(connect(*ip));
            patience.set(tokio::time::sleep(PATIENCE));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, future};

    use super::*;

    fn ips(count: u8) -> Vec<IpAddr> {
        (1..=count)
            .map(|last| IpAddr::from([10, 0, 0, last]))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hesitates_gets_a_rival() {
        let start = tokio::time::Instant::now();
        let connect = async |ip: IpAddr| match ip.to_string().as_str() {
            "10.0.0.3" => Ok("third"),
            _ => future::pending::<Result<_, ()>>().await,
        };
        assert_eq!(first_of(&ips(4), &connect).await, Some(Ok("third")));
        assert_eq!(start.elapsed(), 2 * PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_is_followed_at_once_and_the_first_failure_is_told() {
        let start = tokio::time::Instant::now();
        let tried = RefCell::new(Vec::new());
        let connect = |ip: IpAddr| {
            tried.borrow_mut().push(ip);
            future::ready(Err::<(), _>(ip))
        };
        assert_eq!(first_of(&ips(3), connect).await, Some(Err(ips(1)[0])));
        assert_eq!(*tried.borrow(), ips(3));
        assert_eq!(start.elapsed(), Duration::ZERO);
        let nobody = |_| future::ready(Ok::<(), ()>(()));
        assert_eq!(first_of(&[], nobody).await, None);
    }
}
