//! Says once when the system's clock was set: ages and times of before are then of another clock. Nothing
//! that the node decides goes by it: attempts order containers, and waits are counted without it.

use std::time::Duration;

use daemon::ErrorChain;
use node_os::clock::{ClockJump, ClockWatch};
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

/// A time service's corrections are smaller.
const WORTH_TELLING: Duration = Duration::from_secs(1);

/// Tells until the token is cancelled.
pub(super) async fn tell(token: CancellationToken) {
    tokio::select! {
        biased;
        // cancel-safe: a token.
        () = token.cancelled() => return,
        // cancel-safe: it only reports.
        result = watch() => if let Err(error) = result {
            tracing::warn!(err = %ErrorChain(&error), "the system's clock is not watched");
        },
    }
    token.cancelled().await;
}

async fn watch() -> std::io::Result<()> {
    #[expect(
        deprecated,
        reason = "its replacement is unsafe only for descriptors that may be closed meanwhile; this one is owned"
    )]
    let mut watch = AsyncFd::new(ClockWatch::new()?)?;
    loop {
        watch.readable().await?.clear_ready();
        if let Some(text) = watch.get_mut().jump()?.and_then(words) {
            tracing::error!(
                by = text,
                "The system's clock was set: times and ages of before are off by that, pods run on"
            );
        }
    }
}

/// `+1h0m0s`, `-2s`; nothing for a correction.
fn words(jump: ClockJump) -> Option<String> {
    let sign = if jump.is_forward { '+' } else { '-' };
    let by = Duration::from_secs(jump.by.as_secs());
    (jump.by >= WORTH_TELLING).then(|| format!("{sign}{}", kubelet_core::backoff::go_duration(by)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_are_told_with_their_direction_and_corrections_are_not() {
        let told = |is_forward, milliseconds| {
            words(ClockJump {
                is_forward,
                by: Duration::from_millis(milliseconds),
            })
        };
        assert_eq!(told(true, 3_600_040).as_deref(), Some("+1h0m0s"));
        assert_eq!(told(false, 2_900).as_deref(), Some("-2s"));
        assert_eq!(told(true, 999), None);
    }
}
