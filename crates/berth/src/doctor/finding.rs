//! What is said about one thing that was looked at.

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// The node runs, with less.
    Warn,
    /// The node does not run, or does harm.
    Fail,
}

impl Level {
    /// As it is shown.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

/// What is said about one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// How bad it is.
    pub(super) level: Level,
    /// What was looked at.
    pub(super) check: &'static str,
    /// What was found.
    pub(super) text: String,
    /// What to do.
    pub(super) fix: Option<String>,
}

pub(super) fn ok(check: &'static str, text: impl Into<String>) -> Finding {
    Finding {
        level: Level::Ok,
        check,
        text: text.into(),
        fix: None,
    }
}

pub(super) fn warn(
    check: &'static str,
    text: impl Into<String>,
    fix: impl Into<String>,
) -> Finding {
    Finding {
        level: Level::Warn,
        check,
        text: text.into(),
        fix: Some(fix.into()),
    }
}

pub(super) fn fail(
    check: &'static str,
    text: impl Into<String>,
    fix: impl Into<String>,
) -> Finding {
    Finding {
        level: Level::Fail,
        check,
        text: text.into(),
        fix: Some(fix.into()),
    }
}
