//! Results of ADD on disk, in the format of CNI's own library (CNI-10): what upstream made we can
//! tear down, and upstream what we made.
//!
//! A file is written when the last plugin of a chain has succeeded and removed when all have torn
//! down. So it also says that a sandbox's network is complete: one that we made and that has no file
//! was cut short.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use daemon::atomic_file;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::pod::INTERFACE;

const KIND: &str = "cniCacheV1";
/// Larger files are not read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The cache can't be written or cleared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheError {
    /// The directory can't be made.
    #[error("make {}", .0.display())]
    Directory(PathBuf, #[source] io::Error),
    /// A file can't be written.
    #[error("write the CNI result")]
    Write(#[source] atomic_file::WriteError),
    /// A file can't be removed.
    #[error("remove {}", .0.display())]
    Remove(PathBuf, #[source] io::Error),
}

/// What is kept of one attachment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Entry {
    /// The network.
    pub(super) network: String,
    /// The sandbox.
    pub(super) container: String,
    /// The network's list as JSON; empty where it can't be read.
    pub(super) config: Vec<u8>,
    /// `CNI_ARGS`.
    pub(super) args: Vec<[String; 2]>,
    /// Capability arguments.
    pub(super) capabilities: Map<String, Value>,
    /// The result of ADD.
    pub(super) result: Option<Map<String, Value>>,
    /// The Docker Engine of the sandbox: ours alone.
    pub(super) engine: String,
}

/// The file. Unknown keys of newer libraries are passed over.
#[derive(Debug, Serialize, Deserialize)]
struct File {
    kind: String,
    #[serde(rename = "containerId")]
    container: String,
    #[serde(default)]
    config: String,
    #[serde(rename = "ifName")]
    interface: String,
    #[serde(rename = "networkName")]
    network: String,
    #[serde(default, rename = "cniArgs", skip_serializing_if = "Vec::is_empty")]
    args: Vec<[String; 2]>,
    #[serde(
        default,
        rename = "capabilityArgs",
        skip_serializing_if = "Map::is_empty"
    )]
    capabilities: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Map<String, Value>>,
    /// Two nodes with engines of their own may share the directory.
    #[serde(
        default,
        rename = "io.berth.engine",
        skip_serializing_if = "String::is_empty"
    )]
    engine: String,
}

/// The directory. All methods block.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    results: PathBuf,
}

impl Cache {
    /// The cache below `--cni-cache-dir`; nothing is made yet.
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            results: directory.join("results"),
        }
    }

    fn path(&self, network: &str, container: &str) -> PathBuf {
        let name = format!("{network}-{container}-{INTERFACE}");
        self.results.join(name)
    }

    /// Keeps an attachment.
    ///
    /// # Errors
    /// See [`CacheError`].
    pub(super) fn write(&self, entry: &Entry) -> Result<(), CacheError> {
        use std::os::unix::fs::DirBuilderExt as _;
        let file = File {
            kind: KIND.to_owned(),
            container: entry.container.clone(),
            config: STANDARD.encode(&entry.config),
            interface: INTERFACE.to_owned(),
            network: entry.network.clone(),
            args: entry.args.clone(),
            capabilities: entry.capabilities.clone(),
            result: entry.result.clone(),
            engine: entry.engine.clone(),
        };
        let bytes = serde_json::to_vec(&file).expect("strings and JSON values always serialize");
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.results)
            .map_err(|error| CacheError::Directory(self.results.clone(), error))?;
        let path = self.path(&entry.network, &entry.container);
        atomic_file::write(&path, &bytes, 0o600).map_err(CacheError::Write)
    }

    /// Removes an attachment; none there is fine.
    ///
    /// # Errors
    /// [`CacheError::Remove`].
    pub(super) fn remove(&self, network: &str, container: &str) -> Result<(), CacheError> {
        let path = self.path(network, container);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(CacheError::Remove(path, error))
            }
            _ => Ok(()),
        }
    }

    /// Every network that a sandbox is attached to, loopback included. What can't be read stands
    /// there with the network's name alone, which the file's name tells.
    pub(super) fn of_container(&self, container: &str) -> Vec<Entry> {
        let end = format!("-{container}-{INTERFACE}");
        let name_of = |name: &str| name.strip_suffix(&end).map(str::to_owned);
        self.read(|name| name_of(name).map(|network| (network, container.to_owned())))
    }

    /// Every attachment whose file can be read.
    pub(super) fn all(&self) -> Vec<Entry> {
        let end = format!("-{INTERFACE}");
        let mut all = self.read(|name| name.ends_with(&end).then(Default::default));
        all.retain(|entry| !entry.container.is_empty());
        all
    }

    /// Reads the files whose names `wanted` takes; it tells network and container from the name.
    fn read(&self, wanted: impl Fn(&str) -> Option<(String, String)>) -> Vec<Entry> {
        let Ok(files) = std::fs::read_dir(&self.results) else {
            return Vec::new();
        };
        let mut entries = Vec::new();
        for file in files.flatten() {
            let Some(name) = file.file_name().to_str().map(str::to_owned) else {
                continue;
            };
            if name.starts_with('.') {
                continue;
            }
            if let Some((network, container)) = wanted(&name) {
                entries.push(read_file(&file.path()).unwrap_or_else(|| Entry {
                    network,
                    container,
                    ..Entry::default()
                }));
            }
        }
        entries.sort_by(|a, b| (&a.container, &a.network).cmp(&(&b.container, &b.network)));
        entries
    }

    /// Removes what writers of earlier processes left half-written.
    pub(super) fn remove_leftovers(&self) {
        // No directory, no leftovers.
        let _ = atomic_file::remove_leftovers(&self.results);
    }
}

fn read_file(path: &Path) -> Option<Entry> {
    if std::fs::metadata(path).ok()?.len() > MAX_FILE_BYTES {
        return None;
    }
    decode(&std::fs::read(path).ok()?)
}

fn decode(bytes: &[u8]) -> Option<Entry> {
    let file: File = serde_json::from_slice(bytes).ok()?;
    let plain = file.kind == KIND && file.interface == INTERFACE;
    let named = super::config::is_valid_name(&file.network)
        && super::config::is_valid_name(&file.container);
    (plain && named).then(|| Entry {
        network: file.network,
        container: file.container,
        config: STANDARD.decode(file.config).unwrap_or_default(),
        args: file.args,
        capabilities: file.capabilities,
        result: file.result,
        engine: file.engine,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(network: &str, container: &str) -> Entry {
        let object = |value: Value| value.as_object().unwrap().clone();
        Entry {
            network: network.to_owned(),
            container: container.to_owned(),
            config: br#"{"name":"n"}"#.to_vec(),
            args: vec![["K8S_POD_NAME".to_owned(), "web".to_owned()]],
            capabilities: object(json!({"portMappings": []})),
            result: Some(object(json!({"cniVersion": "1.0.0"}))),
            engine: String::new(),
        }
    }

    #[test]
    fn file_is_the_librarys_to_the_byte() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        cache.write(&entry("net", "c1")).unwrap();
        let text = std::fs::read_to_string(dir.path().join("results/net-c1-eth0")).unwrap();
        assert_eq!(
            text,
            r#"{"kind":"cniCacheV1","containerId":"c1","config":"eyJuYW1lIjoibiJ9","ifName":"eth0","networkName":"net","cniArgs":[["K8S_POD_NAME","web"]],"capabilityArgs":{"portMappings":[]},"result":{"cniVersion":"1.0.0"}}"#
        );
        assert_eq!(cache.of_container("c1"), [entry("net", "c1")]);
        cache.remove("net", "c1").unwrap();
        cache.remove("net", "c1").unwrap();
        assert!(cache.of_container("c1").is_empty());
    }

    #[test]
    fn broken_files_still_tell_the_network() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        cache.write(&entry("a-net", "c1")).unwrap();
        for text in ["", "{", "null", r#"{"cniVersion":"0.2.0","ip4":{}}"#] {
            std::fs::write(dir.path().join("results/my-net-c1-eth0"), text).unwrap();
            let found = cache.of_container("c1");
            assert_eq!(found.len(), 2, "{text}");
            assert_eq!(
                (found[1].network.as_str(), found[1].config.len()),
                ("my-net", 0)
            );
        }
        assert_eq!(cache.all(), [entry("a-net", "c1")]);
        assert!(Cache::new(&dir.path().join("none")).all().is_empty());
    }

    proptest::proptest! {
        #[test]
        fn no_file_makes_the_reader_panic(bytes: Vec<u8>, text in "\\PC*") {
            drop(decode(&bytes));
            drop(decode(text.as_bytes()));
        }
    }
}
