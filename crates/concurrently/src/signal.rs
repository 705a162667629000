//! Signals by number and name.

use std::fmt;

/// A signal's number. Linux numbers as on x86, ARM and RISC-V.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signal(i32);

/// Names at the index of their number.
const NAMES: [&str; 32] = [
    "",
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

impl Signal {
    pub(crate) const HUP: Self = Self(1);
    pub(crate) const INT: Self = Self(2);
    pub(crate) const QUIT: Self = Self(3);
    pub(crate) const KILL: Self = Self(9);
    pub(crate) const TERM: Self = Self(15);
    pub(crate) const CHLD: Self = Self(17);
    pub(crate) const CONT: Self = Self(18);
    pub(crate) const TSTP: Self = Self(20);

    pub(crate) fn from_raw(number: i32) -> Self {
        Self(number)
    }

    pub(crate) fn as_raw(self) -> i32 {
        self.0
    }

    /// Reads `SIGTERM`; also `TERM` and any case.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let upper = name.to_ascii_uppercase();
        let short = upper.strip_prefix("SIG").unwrap_or(&upper);
        if short.is_empty() {
            return None;
        }
        let number = NAMES
            .iter()
            .position(|known| known.get(3..) == Some(short))?;
        i32::try_from(number).ok().map(Self)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match usize::try_from(self.0)
            .ok()
            .and_then(|number| NAMES.get(number))
        {
            Some(name) if !name.is_empty() => f.write_str(name),
            _ => write!(f, "SIG{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        for (signal, name) in [
            (Signal::HUP, "SIGHUP"),
            (Signal::INT, "SIGINT"),
            (Signal::QUIT, "SIGQUIT"),
            (Signal::KILL, "SIGKILL"),
            (Signal::TERM, "SIGTERM"),
            (Signal::CHLD, "SIGCHLD"),
            (Signal::CONT, "SIGCONT"),
            (Signal::TSTP, "SIGTSTP"),
        ] {
            assert_eq!(signal.to_string(), name);
            assert_eq!(Signal::from_name(name), Some(signal));
        }
        assert_eq!(Signal::from_name("term"), Some(Signal::TERM));
        assert_eq!(Signal::from_name("SIG"), None);
        assert_eq!(Signal::from_name("FOO"), None);
        assert_eq!(Signal::from_raw(34).to_string(), "SIG34");
    }
}
