//! Commands that run one after another when all others have ended (KIL-20).

use super::Exit;
use crate::signal::Signal;

/// The line before one of them.
pub(crate) fn start_announcement(text: &str) -> String {
    format!("Running teardown command \"{text}\"")
}

/// The line after one of them.
pub(crate) fn end_announcement(text: &str, exit: Exit) -> String {
    format!("Teardown command \"{text}\" exited with code {exit}")
}

/// One that could not be started; the reason follows on a line of its own.
pub(crate) fn error_announcement(text: &str) -> String {
    format!("Teardown command \"{text}\" errored:")
}

/// Whether the rest is left out: who interrupts one of them wants to be gone.
pub(crate) fn ends_sequence(exit: Exit) -> bool {
    exit == Exit::Signal(Signal::INT)
}
