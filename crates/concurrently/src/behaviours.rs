//! What happens when: one file per behaviour, all pure. The supervisor acts on their answers.

pub(crate) mod input;
pub(crate) mod kill_others;
pub(crate) mod restart;
pub(crate) mod stop;
pub(crate) mod success;
pub(crate) mod teardown;
pub(crate) mod timings;

use std::{fmt, time::Duration};

use crate::signal::Signal;

/// How a process ended. Shown as the number or the signal's name (OUT-06).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(i32),
    Signal(Signal),
}

impl Exit {
    /// A signal's name is never 0 (EXT-03).
    pub(crate) fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => code.fmt(f),
            Self::Signal(signal) => signal.fmt(f),
        }
    }
}

/// The final end of a command, restarts included (EXT-04). Kept in the order of ending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) index: usize,
    pub(crate) name: String,
    pub(crate) text: String,
    /// As it counts: after SIGINT every end is a success (SIG-02).
    pub(crate) exit: Exit,
    /// We sent it a signal.
    pub(crate) killed: bool,
    pub(crate) duration: Duration,
}
