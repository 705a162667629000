//! Ending the others when one has ended (KIL-02, KIL-03).

use super::Exit;
use crate::{cli::KillOn, signal::Signal};

/// Whether this final end is one that ends the others.
pub(crate) fn is_trigger(kill_on: KillOn, exit: Exit) -> bool {
    match kill_on {
        KillOn::Never => false,
        KillOn::Failure => !exit.is_success(),
        KillOn::AnyEnd => true,
    }
}

/// The line that tells (OUT-07).
pub(crate) fn announcement(signal: Signal) -> String {
    format!("Sending {signal} to other processes..")
}

/// The line that tells of those that did not listen.
pub(crate) fn force_announcement(count: usize) -> String {
    format!("Sending {} to {count} processes..", Signal::KILL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_that_count() {
        let killed = Exit::Signal(Signal::TERM);
        assert!(!is_trigger(KillOn::Never, killed));
        assert!(!is_trigger(KillOn::Failure, Exit::Code(0)));
        assert!(is_trigger(KillOn::Failure, killed));
        assert!(is_trigger(KillOn::AnyEnd, Exit::Code(0)));
    }
}
