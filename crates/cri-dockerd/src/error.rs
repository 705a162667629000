//! Failures of CRI calls, and the one table that turns them into gRPC codes.

use cri_api::{Code, RpcError};
use daemon::ErrorChain;

use crate::checkpoint::CheckpointError;
use crate::engine::{Class, EngineError};
use crate::hub::HubError;
use crate::invalid::Invalid;
use crate::logs::LogError;
use crate::network::NetworkError;

/// A CRI call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The request can't be carried out as written: the text names field and fix.
    #[error("{0}")]
    Invalid(String),
    /// The object named in the request does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The call needs Docker, and Docker is away or not read in yet.
    #[error("{0}")]
    Unavailable(String),
    /// This server does not do that.
    #[error("{0}")]
    Unimplemented(&'static str),
    /// Docker refused or failed; the text says at which step.
    #[error("{step}")]
    Docker {
        /// The step, in upstream's words.
        step: String,
        /// What Docker said.
        #[source]
        source: EngineError,
    },
    /// Docker refused or failed, and the step goes without saying.
    #[error(transparent)]
    Engine(EngineError),
    /// A file could not be read or written.
    #[error("{step}")]
    File {
        /// The step, with the path.
        step: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A pod's network could not be set up or torn down.
    #[error("{step}")]
    Network {
        /// The step, in upstream's words.
        step: String,
        /// Which plugin, and why.
        #[source]
        source: Box<NetworkError>,
    },
    /// The network, and the step goes without saying.
    #[error(transparent)]
    Plugin(Box<NetworkError>),
    /// The checkpoint store failed.
    #[error(transparent)]
    Checkpoint(CheckpointError),
    /// A log can't be copied as asked.
    #[error(transparent)]
    Log(LogError),
    /// A part that chooses its code itself.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// Several failures of one call: the first one first, clean-up behind it (SBX-16).
    #[error("[{}]", .0.iter().map(|e| ErrorChain(e).to_string()).collect::<Vec<_>>().join(", "))]
    Several(Vec<Error>),
    /// A handler did not come to its end.
    #[error("{0}")]
    Broken(String),
}

impl Error {
    /// Adds the step at which Docker failed; for use with `map_err`.
    pub(crate) fn at(step: impl Into<String>) -> impl FnOnce(EngineError) -> Self {
        let step = step.into();
        move |source| Self::Docker { step, source }
    }

    /// One error of many: nothing for none, the error itself for one.
    pub(crate) fn several(mut errors: Vec<Self>) -> Result<(), Self> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Several(errors)),
        }
    }

    /// The gRPC code. Where Docker gives no better hint the code is upstream's: Unknown (BLD-07).
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Invalid(_) => Code::InvalidArgument,
            Self::NotFound(_) => Code::NotFound,
            Self::Unavailable(_) => Code::Unavailable,
            Self::Unimplemented(_) => Code::Unimplemented,
            Self::Docker { source, .. } | Self::Engine(source) => code_of(source.class()),
            Self::File { .. }
            | Self::Network { .. }
            | Self::Plugin(_)
            | Self::Checkpoint(_)
            | Self::Log(_) => Code::Unknown,
            Self::Rpc(error) => error.code,
            Self::Several(errors) => errors.first().map_or(Code::Unknown, Self::code),
            Self::Broken(_) => Code::Internal,
        }
    }

    /// What the caller gets: code, and the whole chain as text.
    pub(crate) fn into_status(self) -> tonic::Status {
        tonic::Status::new(self.code(), ErrorChain(&self).to_string())
    }
}

/// The gRPC code of what Docker refused or failed at.
pub(crate) fn code_of(class: Class) -> Code {
    match class {
        Class::NotFound => Code::NotFound,
        Class::Conflict => Code::FailedPrecondition,
        Class::Invalid => Code::InvalidArgument,
        Class::Denied => Code::PermissionDenied,
        Class::Unavailable => Code::Unavailable,
        Class::Timeout => Code::DeadlineExceeded,
        Class::Internal => Code::Unknown,
    }
}

/// A field that must be there.
pub(crate) fn required<T>(field: Option<T>, name: &str) -> Result<T, Error> {
    field.ok_or_else(|| Error::Invalid(format!("{name} is required")))
}

/// In Docker's words, which callers may know.
pub(crate) fn not_found(id: &str) -> Error {
    Error::NotFound(format!(
        "Error response from daemon: No such container: {id}"
    ))
}

impl From<EngineError> for Error {
    fn from(source: EngineError) -> Self {
        Self::Engine(source)
    }
}

impl From<Invalid> for Error {
    fn from(Invalid(text): Invalid) -> Self {
        Self::Invalid(text)
    }
}

impl From<HubError> for Error {
    fn from(error: HubError) -> Self {
        match error {
            HubError::Unavailable(why) => Self::Unavailable(why),
            HubError::Several(_) => Self::Invalid(error.to_string()),
            HubError::Engine(source) => Self::Engine(source),
        }
    }
}

impl From<Error> for RpcError {
    fn from(error: Error) -> Self {
        Self::new(error.code(), ErrorChain(&error).to_string())
    }
}
