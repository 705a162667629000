//! State files with a version: `{"version": 3, "data": {...}}`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::atomic_file;

/// A kind of state that is kept in a file and outlives the program that wrote it.
pub trait Versioned: Serialize + DeserializeOwned {
    /// The version that is written. Count it up when an older reader would misread the data.
    const VERSION: u32;

    /// Turns the data of an older version into this version's. Only called for versions below
    /// [`Self::VERSION`]; the default takes them as they are (fields added with serde defaults).
    ///
    /// # Errors
    /// A text that says what could not be carried over.
    fn upgrade(version: u32, data: Value) -> Result<Value, String> {
        let _ = version;
        Ok(data)
    }
}

/// A state file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum VersionedError {
    /// It is there and cannot be read.
    #[error("read {0}")]
    Read(PathBuf, #[source] io::Error),
    /// It is not JSON of the expected shape.
    #[error("{0} is damaged")]
    Damaged(PathBuf, #[source] serde_json::Error),
    /// A newer program wrote it.
    #[error("{path} has version {found}, this program knows up to {newest}: use a newer program")]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        newest: u32,
    },
    /// An older version's data could not be carried over.
    #[error("{path} has version {found} and cannot be upgraded: {reason}")]
    Upgrade {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Why.
        reason: String,
    },
    /// The data cannot be shown as JSON.
    #[error("encode {0}")]
    Encode(PathBuf, #[source] serde_json::Error),
    /// It could not be written.
    #[error(transparent)]
    Write(#[from] atomic_file::WriteError),
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Envelope<T> {
    version: u32,
    data: T,
}

/// Reads the state at `path`; `None` when there is no file. Blocks.
///
/// # Errors
/// When it is unreadable, damaged, too new or cannot be upgraded.
pub fn read<T: Versioned>(path: &Path) -> Result<Option<T>, VersionedError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(VersionedError::Read(path.to_owned(), error)),
    };
    let damaged = |error| VersionedError::Damaged(path.to_owned(), error);
    let envelope: Envelope<Value> = serde_json::from_slice(&bytes).map_err(damaged)?;
    let found = envelope.version;
    if found > T::VERSION {
        return Err(VersionedError::TooNew {
            path: path.to_owned(),
            found,
            newest: T::VERSION,
        });
    }
    let data = if found < T::VERSION {
        T::upgrade(found, envelope.data).map_err(|reason| VersionedError::Upgrade {
            path: path.to_owned(),
            found,
            reason,
        })?
    } else {
        envelope.data
    };
    serde_json::from_value(data).map(Some).map_err(damaged)
}

/// Writes the state to `path` in one step (see [`atomic_file::write`]). Blocks.
///
/// # Errors
/// When it cannot be encoded or written; the old file then stands.
pub fn write<T: Versioned>(path: &Path, data: &T, mode: u32) -> Result<(), VersionedError> {
    let envelope = Envelope {
        version: T::VERSION,
        data,
    };
    let mut bytes = serde_json::to_vec(&envelope)
        .map_err(|error| VersionedError::Encode(path.to_owned(), error))?;
    bytes.push(b'\n');
    atomic_file::write(path, &bytes, mode)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Lease {
        holder: String,
    }

    impl Versioned for Lease {
        const VERSION: u32 = 2;

        fn upgrade(version: u32, data: Value) -> Result<Value, String> {
            let holder = data
                .get("owner")
                .ok_or(format!("version {version} has no owner"))?;
            Ok(serde_json::json!({ "holder": holder }))
        }
    }

    #[test]
    fn state_is_read_back_and_absence_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lease");
        assert_eq!(read::<Lease>(&path).unwrap(), None);
        let lease = Lease {
            holder: "me".into(),
        };
        write(&path, &lease, 0o600).unwrap();
        assert_eq!(read(&path).unwrap(), Some(lease));
    }

    #[test]
    fn older_version_is_upgraded_and_newer_one_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lease");
        fs::write(&path, r#"{"version":1,"data":{"owner":"you"}}"#).unwrap();
        assert_eq!(
            read(&path).unwrap(),
            Some(Lease {
                holder: "you".into()
            })
        );
        fs::write(&path, r#"{"version":1,"data":{}}"#).unwrap();
        assert!(matches!(
            read::<Lease>(&path),
            Err(VersionedError::Upgrade { found: 1, .. })
        ));
        fs::write(&path, r#"{"version":3,"data":{}}"#).unwrap();
        assert!(matches!(
            read::<Lease>(&path),
            Err(VersionedError::TooNew { found: 3, .. })
        ));
        fs::write(&path, "{").unwrap();
        assert!(matches!(
            read::<Lease>(&path),
            Err(VersionedError::Damaged(..))
        ));
    }
}
