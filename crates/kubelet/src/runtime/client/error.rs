//! How a call to the runtime fails.

use std::time::Duration;

use cri_api::{Code, RpcError};

/// What Go's context says of a limit that passed.
const TIMED_OUT: &str = "context deadline exceeded";

/// A CRI call that failed.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CriError {
    /// The runtime said no, or could not be reached.
    #[error("{operation}: {source}")]
    Call {
        /// The call, by its metric label.
        operation: &'static str,
        /// What the runtime said. Part of the text: users match on the runtime's words (ERR-05).
        source: RpcError,
    },
    /// No answer in time.
    #[error("{operation}: no answer from the runtime within {}s", limit.as_secs())]
    Timeout {
        /// The call, by its metric label.
        operation: &'static str,
        /// The limit that passed.
        limit: Duration,
    },
    /// The answer lacks what the protocol promises (CRI-02).
    #[error("{operation}: the runtime's answer has no {field}")]
    Incomplete {
        /// The call, by its metric label.
        operation: &'static str,
        /// The field that is missing.
        field: &'static str,
    },
}

impl CriError {
    /// The object is not there.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Call { source, .. } if source.is_not_found())
    }

    /// The runtime does not have the call.
    pub(crate) fn is_unimplemented(&self) -> bool {
        matches!(self, Self::Call { source, .. } if source.is_unimplemented())
    }

    /// The runtime cannot be reached.
    pub(crate) fn is_unavailable(&self) -> bool {
        matches!(self, Self::Call { source, .. } if source.code == Code::Unavailable)
    }

    /// The runtime's own words, without the name of the call: what a pod's status shows.
    pub(crate) fn runtime_message(&self) -> String {
        match self {
            Self::Call { source, .. } => source.message.clone(),
            Self::Timeout { .. } => TIMED_OUT.to_owned(),
            Self::Incomplete { .. } => self.to_string(),
        }
    }

    /// As gRPC's Go client prints it, which is how users know it from events (ERR-05).
    pub(crate) fn rpc_text(&self) -> String {
        match self {
            Self::Call { source, .. } => {
                let code = match source.code {
                    Code::Cancelled => "Canceled".to_owned(),
                    code => format!("{code:?}"),
                };
                format!("rpc error: code = {code} desc = {}", source.message)
            }
            Self::Timeout { .. } => {
                format!("rpc error: code = DeadlineExceeded desc = {TIMED_OUT}")
            }
            Self::Incomplete { .. } => self.to_string(),
        }
    }
}
