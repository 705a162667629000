//! Why the hub can't answer.

use crate::engine::EngineError;

/// A question to the hub failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HubError {
    /// Docker is away, not read in yet, or can't tell of the container.
    #[error("{0}")]
    Unavailable(String),
    /// More than one id begins with what was given. Docker's words.
    #[error("multiple IDs found with provided prefix: {0}")]
    Several(String),
    /// Docker was asked, and failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}
