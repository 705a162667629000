//! Starting a failed command again (RST rows).
//!
//! Differs: exponential delays stop growing at [`DELAY_CAP`] and begin anew after a run of [`HEALTHY_RUN`]; while
//! shutting down nothing is restarted (the supervisor does not ask).

use std::time::Duration;

use super::Exit;

/// The longest exponential delay.
pub(crate) const DELAY_CAP: Duration = Duration::from_secs(30);
/// After a run as long as this the next exponential delay is the first again.
pub(crate) const HEALTHY_RUN: Duration = Duration::from_mins(1);
const FIRST_DELAY: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tries {
    Limited(u64),
    Unlimited,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delay {
    Fixed(Duration),
    Exponential,
}

/// The same for all commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RestartPolicy {
    pub(crate) tries: Tries,
    pub(crate) delay: Delay,
}

/// What one command has used up so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    tries: u64,
    /// Failures in a row, each soon after its start.
    streak: u32,
}

/// Whether to start again and after how long; `None` means that this end is final.
pub(crate) fn compute_restart(
    policy: RestartPolicy,
    history: History,
    exit: Exit,
    ran: Duration,
) -> Option<(Duration, History)> {
    let exhausted = match policy.tries {
        Tries::Limited(limit) => history.tries >= limit,
        Tries::Unlimited => false,
    };
    if exit.is_success() || exhausted {
        return None;
    }
    let streak = if ran >= HEALTHY_RUN {
        0
    } else {
        history.streak
    };
    let delay = match policy.delay {
        Delay::Fixed(delay) => delay,
        Delay::Exponential => FIRST_DELAY
            .saturating_mul(2_u32.saturating_pow(streak))
            .min(DELAY_CAP),
    };
    let next = History {
        tries: history.tries.saturating_add(1),
        streak: streak.saturating_add(1),
    };
    Some((delay, next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::Signal;

    const FAILED: Exit = Exit::Code(1);
    const SHORT: Duration = Duration::from_millis(5);

    fn delays(policy: RestartPolicy, runs: &[Duration]) -> Vec<u64> {
        let mut history = History::default();
        let mut delays = Vec::new();
        for &ran in runs {
            let Some((delay, next)) = compute_restart(policy, history, FAILED, ran) else {
                break;
            };
            delays.push(delay.as_secs());
            history = next;
        }
        delays
    }

    #[test]
    fn exponential_delay_doubles_up_to_the_cap() {
        let policy = RestartPolicy {
            tries: Tries::Unlimited,
            delay: Delay::Exponential,
        };
        assert_eq!(delays(policy, &[SHORT; 8]), [1, 2, 4, 8, 16, 30, 30, 30]);
        let late = History {
            tries: 1,
            streak: u32::MAX,
        };
        assert_eq!(
            compute_restart(policy, late, FAILED, SHORT).unwrap().0,
            DELAY_CAP
        );
    }

    #[test]
    fn a_healthy_run_begins_the_delays_anew() {
        let policy = RestartPolicy {
            tries: Tries::Unlimited,
            delay: Delay::Exponential,
        };
        let almost = HEALTHY_RUN.saturating_sub(Duration::from_millis(1));
        assert_eq!(
            delays(policy, &[SHORT, SHORT, almost, HEALTHY_RUN, SHORT]),
            [1, 2, 4, 1, 2]
        );
    }

    #[test]
    fn tries_are_counted_over_the_whole_life() {
        let policy = RestartPolicy {
            tries: Tries::Limited(2),
            delay: Delay::Fixed(SHORT),
        };
        assert_eq!(delays(policy, &[HEALTHY_RUN; 5]).len(), 2);
        let never = RestartPolicy {
            tries: Tries::Limited(0),
            delay: Delay::Fixed(SHORT),
        };
        assert_eq!(
            compute_restart(never, History::default(), FAILED, SHORT),
            None
        );
    }

    #[test]
    fn success_is_final_and_a_signal_is_a_failure() {
        let policy = RestartPolicy {
            tries: Tries::Unlimited,
            delay: Delay::Fixed(SHORT),
        };
        assert_eq!(
            compute_restart(policy, History::default(), Exit::Code(0), SHORT),
            None
        );
        assert!(
            compute_restart(
                policy,
                History::default(),
                Exit::Signal(Signal::KILL),
                SHORT
            )
            .is_some()
        );
    }
}
