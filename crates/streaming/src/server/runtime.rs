//! What the server needs of the container runtime.

use std::future::Future;

use tokio::sync::watch;

use super::request::{Attach, Exec};
use crate::{
    remote_command::TerminalSize,
    stream::{Input, Output},
};

/// A command's or attachment's streams on the client's side.
#[derive(Debug)]
pub struct Streams {
    /// What the client types; its end is the end of input.
    pub stdin: Option<Input>,
    /// Standard output, or all output of a terminal.
    pub stdout: Option<Output>,
    /// Standard error.
    pub stderr: Option<Output>,
    /// The terminal's size whenever it changes, if there is a terminal: only the newest matters.
    pub size: watch::Receiver<Option<TerminalSize>>,
}

/// Why a request could not be carried out: a text for the user.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

/// What the server needs of the container runtime.
///
/// The futures are dropped when the client goes away, when it is idle for too long and when the
/// server ends: what must be done then is to be done on drop.
pub trait Runtime: Send + Sync + 'static {
    /// Runs a command to its end; the answer is its exit code.
    fn exec(
        &self,
        request: Exec,
        streams: Streams,
    ) -> impl Future<Output = Result<i32, Failure>> + Send;

    /// Attaches until the container's output ends.
    fn attach(
        &self,
        request: Attach,
        streams: Streams,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Carries a connection to a port in a pod, each direction to its own end.
    fn port_forward(
        &self,
        sandbox: &str,
        port: u16,
        input: Input,
        output: Output,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}
