//! gRPC answers that are not OK, as this workspace sees them.

pub use tonic::Code;

/// A call that the server (or the way to it) refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RpcError {
    /// The gRPC code. Callers depend on `NotFound`, `DeadlineExceeded` and `Unimplemented`
    /// (cri-dockerd KLT-03, KLT-04).
    pub code: Code,
    /// The server's words; Docker's own where Docker refused.
    pub message: String,
}

impl RpcError {
    /// An error with this code and text.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// The object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code == Code::NotFound
    }

    /// The server does not know the call.
    pub fn is_unimplemented(&self) -> bool {
        self.code == Code::Unimplemented
    }
}

impl From<tonic::Status> for RpcError {
    fn from(status: tonic::Status) -> Self {
        let message = if status.message().is_empty() {
            status.code().description().to_owned()
        } else {
            status.message().to_owned()
        };
        Self {
            code: status.code(),
            message,
        }
    }
}

impl From<RpcError> for tonic::Status {
    fn from(error: RpcError) -> Self {
        Self::new(error.code, error.message)
    }
}
