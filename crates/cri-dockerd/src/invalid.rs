//! Requests that can't be carried out as written.

/// What is wrong with a request: the text names field and fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Invalid(pub(crate) String);
