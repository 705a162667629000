//! What can go wrong between us and Docker, and how callers should take it.

use std::time::Duration;

use super::api_version::{ApiVersion, OLDEST_API};

/// Failure of one call to Docker Engine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// Docker answered with an error status. The text is Docker's own behind the prefix that its Go
    /// client prints: event texts and tools match on it (DKR-01).
    #[error("Error response from daemon: {message}")]
    Api {
        /// The operation as `METHOD path`.
        call: String,
        /// HTTP status.
        status: u16,
        /// Docker's message.
        message: String,
    },
    /// An operation that answers with a stream of progress objects ended with an error object (DKR-19).
    #[error("{message}")]
    Progress {
        /// HTTP-like code, when Docker gave one.
        code: Option<i64>,
        /// Docker's or the registry's message.
        message: String,
    },
    /// No connection to the daemon.
    #[error("Cannot connect to the Docker daemon at {endpoint}. Is the docker daemon running?")]
    Connect {
        /// The configured endpoint.
        endpoint: String,
        /// Why not.
        #[source]
        source: hyper_util::client::legacy::Error,
    },
    /// The daemon serves the connections that it has, but takes no more.
    #[error("docker takes no new connections: it is going down")]
    GoingDown {
        /// What a new one met.
        #[source]
        source: Box<EngineError>,
    },
    /// The connection broke in the middle of a call.
    #[error("connection to docker lost during {call}")]
    Http {
        /// The operation as `METHOD path`.
        call: String,
        /// What broke.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The call took longer than its limit. The words are upstream's.
    #[error("operation timeout: context deadline exceeded ({call} took longer than {limit:?})")]
    Timeout {
        /// The operation as `METHOD path`.
        call: String,
        /// The limit that was hit.
        limit: Duration,
    },
    /// The answer is not what the API promises.
    #[error("can't understand docker's answer to {call}")]
    Decode {
        /// The operation as `METHOD path`.
        call: String,
        /// Where decoding stopped.
        #[source]
        source: serde_json::Error,
    },
    /// An answer or a message in a stream is larger than we are willing to hold.
    #[error("docker's answer to {call} is larger than {limit} bytes")]
    TooLarge {
        /// The operation as `METHOD path`.
        call: String,
        /// The bound.
        limit: usize,
    },
    /// The endpoint text is unusable.
    #[error("docker endpoint {endpoint:?}: {problem}")]
    Endpoint {
        /// As configured.
        endpoint: String,
        /// What is wrong and what to write instead.
        problem: &'static str,
    },
    /// The daemon speaks another version of its API than it says. A later one may be in its place soon.
    #[error("docker does not take {call} as it is: {message}")]
    Version {
        /// The operation as `METHOD path`.
        call: String,
        /// Docker's message.
        message: String,
    },
    /// The daemon is older than the oldest API we speak.
    #[error(
        "docker API version {found} is older than {OLDEST_API} (Docker 20.10): upgrade Docker Engine"
    )]
    TooOld {
        /// The daemon's newest version.
        found: ApiVersion,
    },
}

/// How a caller should treat a failure (style 2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// The object does not exist.
    NotFound,
    /// The object is in a state that forbids the operation, or the name is taken.
    Conflict,
    /// The request itself is wrong; repeating it is useless.
    Invalid,
    /// Credentials are missing or refused.
    Denied,
    /// Docker can't be reached or is shutting down; a later try may work.
    Unavailable,
    /// The limit of the call was hit.
    Timeout,
    /// Everything else.
    Internal,
}

impl EngineError {
    /// How to treat this failure. Decided by status, never by text.
    pub(crate) fn class(&self) -> Class {
        match self {
            Self::Api { status, .. } => match status {
                400 | 405 | 406 | 415 | 422 => Class::Invalid,
                401 | 403 => Class::Denied,
                404 => Class::NotFound,
                409 => Class::Conflict,
                502..=504 => Class::Unavailable,
                408 => Class::Timeout,
                _ => Class::Internal,
            },
            Self::Progress { code, .. } => match code {
                Some(401 | 403) => Class::Denied,
                Some(404) => Class::NotFound,
                Some(502..=504) => Class::Unavailable,
                _ => Class::Internal,
            },
            Self::Connect { .. }
            | Self::GoingDown { .. }
            | Self::Http { .. }
            | Self::Version { .. } => Class::Unavailable,
            Self::Timeout { .. } => Class::Timeout,
            Self::Endpoint { .. } => Class::Invalid,
            Self::Decode { .. } | Self::TooLarge { .. } | Self::TooOld { .. } => Class::Internal,
        }
    }

    /// What failed is the connection, not one object: the engine is gone, or going.
    pub(crate) fn is_lost(&self) -> bool {
        self.class() == Class::Unavailable
    }

    /// The object does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        self.class() == Class::NotFound
    }
}
