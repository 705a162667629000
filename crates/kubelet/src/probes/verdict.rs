//! How a question to a container ended.

/// How a question ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Success,
    /// Good, with a remark.
    Warning(String),
    Failure(String),
    /// It could not be asked (PROBE-05).
    Unasked {
        /// Upstream's word for what that resulted in.
        state: &'static str,
        error: String,
    },
    /// The container had ended.
    ///
    /// Differs (PROBE-08): an exec probe that races with its container's end tells nothing; upstream records
    /// an error.
    Gone,
}

impl Verdict {
    /// It could not be asked, and why is not the container's affair.
    pub(super) fn unasked(error: &str) -> Self {
        Self::Unasked {
            state: "unknown",
            error: error.to_owned(),
        }
    }
}
