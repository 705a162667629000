//! Why a log can't be copied.

use std::{io, path::PathBuf};

/// Why a log can't be copied as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The CRI log can't be opened or made, or Docker's can't be read.
    #[error("open container log {}", path.display())]
    Open {
        /// The CRI log.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no running container of this id whose log is copied.
    #[error("container {0:?} is not running: its log is not being written")]
    NotCopied(String),
    /// The pump has ended; the process is about to.
    #[error("log copying has ended")]
    Stopped,
}
