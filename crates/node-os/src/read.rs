//! Reading small kernel files, with the path in the error.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A kernel file could not be read or holds something else than expected.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It could not be read.
    #[error("read {0}")]
    Io(PathBuf, #[source] io::Error),
    /// Its content is not what the kernel documents.
    #[error("{path}: unexpected content {content:?}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What it holds, shortened.
        content: String,
    },
}

impl ReadError {
    /// Whether the file, or the process it tells of, is gone.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Io(_, error) if is_gone(error))
    }

    pub(crate) fn content(path: &Path, content: &str) -> Self {
        Self::Content {
            path: path.to_owned(),
            content: content.chars().take(80).collect(),
        }
    }
}

/// A process that ends while its files are read answers ESRCH.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
        || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

pub(crate) fn text(path: &Path) -> Result<String, ReadError> {
    let bytes = fs::read(path).map_err(|error| ReadError::Io(path.to_owned(), error))?;
    // Names of processes and the like may hold any bytes.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The file's text, or `None` when it is not there.
pub(crate) fn optional_text(path: &Path) -> Result<Option<String>, ReadError> {
    match text(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(error),
    }
}

/// A file that holds one number.
pub(crate) fn number<T: std::str::FromStr>(path: &Path) -> Result<T, ReadError> {
    let text = text(path)?;
    text.trim()
        .parse()
        .map_err(|_| ReadError::content(path, &text))
}
