//! The order in which a signal stops the commands (INI-06): from the last listed to the first, so that who was
//! started on top of another ends before it.

use std::time::{Duration, Instant};

/// A repeat of the same signal within this time is a copy of it: `npm run` passes on the Ctrl-C that the terminal
/// has sent to us as well.
pub(crate) const COPY_WINDOW: Duration = Duration::from_millis(250);

/// One command as the order needs to see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing of it runs.
    Gone,
    /// Runs and has not been told to stop.
    Running,
    /// Was told then, still runs.
    Told(Instant),
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopStep {
    /// Tell this one.
    Tell(usize),
    /// Nothing before then, unless one of them ends.
    WaitUntil(Instant),
    /// All have been told.
    AllTold,
}

/// The next step. A command is told when each listed after it is gone or has had its grace.
pub(crate) fn plan_stop(commands: &[Standing], now: Instant, grace: Duration) -> StopStep {
    for (index, standing) in commands.iter().enumerate().rev() {
        match *standing {
            Standing::Gone => {}
            Standing::Running => return StopStep::Tell(index),
            Standing::Told(at) => {
                // The last to be told has nobody behind it to wait.
                let others_wait = commands[..index].contains(&Standing::Running);
                if others_wait && now < at + grace {
                    return StopStep::WaitUntil(at + grace);
                }
            }
        }
    }
    StopStep::AllTold
}

#[cfg(test)]
mod tests {
    use super::{Standing::*, *};

    const GRACE: Duration = Duration::from_secs(4);

    #[test]
    fn the_last_listed_is_told_first() {
        let now = Instant::now();
        assert_eq!(
            plan_stop(&[Running, Running], now, GRACE),
            StopStep::Tell(1)
        );
    }

    #[test]
    fn the_next_waits_for_the_end_or_the_grace_of_the_one_before() {
        let told = Instant::now();
        let commands = [Running, Told(told)];
        assert_eq!(
            plan_stop(&commands, told, GRACE),
            StopStep::WaitUntil(told + GRACE)
        );
        assert_eq!(plan_stop(&commands, told + GRACE, GRACE), StopStep::Tell(0));
        assert_eq!(plan_stop(&[Running, Gone], told, GRACE), StopStep::Tell(0));
    }

    #[test]
    fn nobody_is_waited_for_when_all_are_told() {
        let told = Instant::now();
        assert_eq!(
            plan_stop(&[Told(told), Told(told)], told, GRACE),
            StopStep::AllTold
        );
        assert_eq!(plan_stop(&[Gone, Gone], told, GRACE), StopStep::AllTold);
        assert_eq!(plan_stop(&[], told, GRACE), StopStep::AllTold);
    }

    #[test]
    fn following_the_plan_tells_each_once_from_last_to_first() {
        let mut now = Instant::now();
        let mut commands = vec![Running; 4];
        let mut told = Vec::new();
        loop {
            match plan_stop(&commands, now, GRACE) {
                StopStep::Tell(index) => {
                    told.push(index);
                    // Even ones end at once, odd ones never.
                    commands[index] = if index % 2 == 0 { Gone } else { Told(now) };
                }
                StopStep::WaitUntil(then) => {
                    assert!(then > now);
                    now = then;
                }
                StopStep::AllTold => break,
            }
        }
        assert_eq!(told, [3, 2, 1, 0]);
    }
}
