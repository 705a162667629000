//! What a pod sandbox leaves on disk, so that it can be torn down and listed when Docker no longer
//! knows it (CKP-01..11).
//!
//! One JSON file per sandbox, named by the container id, in `<root>/sandbox`. The format is
//! upstream's, in both directions: we read files that upstream wrote for pods that still run, and
//! upstream reads ours after a roll-back. What we keep beyond its format stands under JSON keys of
//! our own beside its keys, which upstream ignores and its checksum does not cover (CKP-11).
//!
//! Nothing is cached here. Survives a restart: everything.

mod checksum;
mod data;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use daemon::atomic_file;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::data::Data;
use crate::network_kind::Kind;

pub(crate) use self::data::PortMapping;

/// Longest key accepted (CKP-03).
const MAX_KEY_BYTES: usize = 250;
/// Larger files are not read: a checkpoint holds a few ports and addresses.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What is stored of one sandbox.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Checkpoint {
    /// The pod's name.
    pub(crate) name: String,
    /// The pod's namespace.
    pub(crate) namespace: String,
    /// Every port mapping of the request, also those without a host port (CKP-05).
    pub(crate) port_mappings: Vec<PortMapping>,
    /// The sandbox shares the node's network.
    pub(crate) host_network: bool,
    /// Further top-level keys, ours and those of programs newer than this one; upstream ignores
    /// them. A key that upstream uses itself is not written.
    pub(crate) extra: Map<String, Value>,
}

/// Our key: the kind of network that made the sandbox (DEC-20).
const NETWORK: &str = "io.berth.network";

impl Checkpoint {
    /// Adds the network that the sandbox is on.
    #[must_use]
    pub(crate) fn with_network(mut self, kind: Kind) -> Self {
        self.extra.insert(NETWORK.to_owned(), kind.as_str().into());
        self
    }

    /// The network that the sandbox is on. Upstream does not write it: `None`, unless it is the
    /// node's.
    pub(crate) fn network(&self) -> Option<Kind> {
        if self.host_network {
            return Some(Kind::Host);
        }
        Kind::from_word(self.extra.get(NETWORK)?.as_str()?)
    }
}

/// The file (CKP-04).
#[derive(Debug, Serialize, Deserialize)]
struct File {
    version: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default, deserialize_with = "crate::engine::model::null_default")]
    data: Data,
    checksum: u64,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

/// The only version there is.
const VERSION: &str = "v1";

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    /// The directory can't be made or listed.
    #[error("checkpoint directory {}", .0.display())]
    Directory(PathBuf, #[source] io::Error),
    /// The key can't be a file name (CKP-03).
    #[error("checkpoint key {0:?} must be 1 to {MAX_KEY_BYTES} letters, digits, '-', '_' or '.'")]
    Key(String),
    /// The file can't be read.
    #[error("read checkpoint {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// The file is there, and what is in it is not a checkpoint or not the one that was written.
    /// The words are upstream's (CKP-08).
    #[error("checkpoint is corrupted: {}: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file can't be written.
    #[error("write checkpoint")]
    Write(#[from] atomic_file::WriteError),
    /// The file can't be removed.
    #[error("remove checkpoint {}", .0.display())]
    Remove(PathBuf, #[source] io::Error),
}

impl CheckpointError {
    /// The file exists and is of no use: its owner deletes it (CKP-08).
    pub(crate) fn is_corrupt(&self) -> bool {
        matches!(self, Self::Corrupt { .. })
    }
}

/// The checkpoint as upstream's bytes: no blanks, no final newline.
fn encode(checkpoint: &Checkpoint) -> Vec<u8> {
    const THEIRS: [&str; 5] = ["version", "name", "namespace", "data", "checksum"];
    let data = Data {
        port_mappings: checkpoint.port_mappings.clone(),
        host_network: checkpoint.host_network,
    };
    let mut extra = checkpoint.extra.clone();
    extra.retain(|key, _| !THEIRS.contains(&key.as_str()));
    let file = File {
        version: VERSION.to_owned(),
        name: checkpoint.name.clone(),
        namespace: checkpoint.namespace.clone(),
        checksum: checksum::of(&data),
        data,
        extra,
    };
    serde_json::to_vec(&file).expect("strings, numbers and JSON values always serialize")
}

/// Reads a checkpoint file, ours or upstream's.
///
/// # Errors
/// What is wrong with the bytes.
pub(crate) fn decode(bytes: &[u8]) -> Result<Checkpoint, String> {
    let file: File = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if file.version != VERSION {
        return Err(format!("version {:?} is not {VERSION:?}", file.version));
    }
    let expected = checksum::of(&file.data);
    if file.checksum != expected {
        return Err(format!(
            "checksum is {}, its data has {expected}",
            file.checksum
        ));
    }
    Ok(Checkpoint {
        name: file.name,
        namespace: file.namespace,
        port_mappings: file.data.port_mappings,
        host_network: file.data.host_network,
        extra: file.extra,
    })
}

fn is_valid_key(key: &str) -> bool {
    key.len() <= MAX_KEY_BYTES
        && key.starts_with(|c: char| c.is_ascii_alphanumeric())
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// The checkpoints of all sandboxes. Cloning is cheap; clones are the same store.
#[derive(Debug, Clone)]
pub(crate) struct CheckpointStore {
    directory: Arc<Path>,
}

impl CheckpointStore {
    /// Opens the store below cri-dockerd's root directory: makes `sandbox` in it where missing
    /// and removes half-written files of an earlier process. Blocks; for use at start.
    ///
    /// # Errors
    /// [`CheckpointError::Directory`].
    pub(crate) fn open(root: &Path) -> Result<Self, CheckpointError> {
        use std::os::unix::fs::DirBuilderExt;
        let directory = root.join("sandbox");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&directory)
            .and_then(|()| atomic_file::remove_leftovers(&directory))
            .map_err(|error| CheckpointError::Directory(directory.clone(), error))?;
        Ok(Self {
            directory: directory.into(),
        })
    }

    fn path(&self, key: &str) -> Result<PathBuf, CheckpointError> {
        if is_valid_key(key) {
            Ok(self.directory.join(key))
        } else {
            Err(CheckpointError::Key(key.to_owned()))
        }
    }

    /// Stores the checkpoint of sandbox `id`, replacing an earlier one. Once it returns the file
    /// survives a power cut; killed half-way, the earlier file stands (CKP-02).
    ///
    /// # Errors
    /// [`CheckpointError::Key`], [`CheckpointError::Write`].
    pub(crate) async fn write(
        &self,
        id: &str,
        checkpoint: &Checkpoint,
    ) -> Result<(), CheckpointError> {
        let path = self.path(id)?;
        let bytes = encode(checkpoint);
        daemon::blocking(move || atomic_file::write(&path, &bytes, 0o600)).await?;
        Ok(())
    }

    /// The checkpoint of sandbox `id`; `None` when there is none.
    ///
    /// # Errors
    /// [`CheckpointError::Corrupt`] is for the caller to act on (CKP-08), the others to report.
    pub(crate) async fn read(&self, id: &str) -> Result<Option<Checkpoint>, CheckpointError> {
        let path = self.path(id)?;
        daemon::blocking(move || read(&path)).await
    }

    /// Removes the checkpoint of sandbox `id`; none there is success.
    ///
    /// # Errors
    /// [`CheckpointError::Key`], [`CheckpointError::Remove`].
    pub(crate) async fn remove(&self, id: &str) -> Result<(), CheckpointError> {
        let path = self.path(id)?;
        daemon::blocking(move || match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(CheckpointError::Remove(path, error))
            }
            _ => Ok(()),
        })
        .await
    }

    /// The ids of all sandboxes that have a checkpoint, sorted. Temporary files and names that
    /// can't be keys are left out.
    ///
    /// # Errors
    /// [`CheckpointError::Directory`].
    pub(crate) async fn list(&self) -> Result<Vec<String>, CheckpointError> {
        let directory = Arc::clone(&self.directory);
        daemon::blocking(move || {
            let listed = || -> io::Result<Vec<String>> {
                let mut keys = Vec::new();
                for entry in fs::read_dir(&directory)? {
                    if let Ok(name) = entry?.file_name().into_string()
                        && is_valid_key(&name)
                    {
                        keys.push(name);
                    }
                }
                keys.sort_unstable();
                Ok(keys)
            };
            listed().map_err(|error| CheckpointError::Directory(directory.to_path_buf(), error))
        })
        .await
    }
}

fn read(path: &Path) -> Result<Option<Checkpoint>, CheckpointError> {
    let corrupt = |reason| CheckpointError::Corrupt {
        path: path.to_owned(),
        reason,
    };
    let length = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(CheckpointError::Read(path.to_owned(), error)),
    };
    if length > MAX_FILE_BYTES {
        return Err(corrupt(format!(
            "{length} bytes are more than {MAX_FILE_BYTES}"
        )));
    }
    match fs::read(path) {
        Ok(bytes) => decode(&bytes).map(Some).map_err(corrupt),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CheckpointError::Read(path.to_owned(), error)),
    }
}

#[cfg(test)]
mod tests;
