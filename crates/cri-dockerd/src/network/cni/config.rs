//! Network configurations: what is in the files, and which file counts (CNI-01, CNI-02).

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

/// Larger files are not read: a configuration is a few KB.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Which files of the directory are configurations.
const EXTENSIONS: [&str; 3] = ["conf", "conflist", "json"];

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The directory can't be listed.
    #[error("list {}", .0.display())]
    Directory(PathBuf, #[source] io::Error),
    /// The file can't be read.
    #[error("read")]
    Read(#[source] io::Error),
    /// The file is no configuration.
    #[error("{0} bytes are more than {MAX_FILE_BYTES}")]
    TooLarge(u64),
    /// Not JSON, or values of the wrong kind.
    #[error("error parsing configuration")]
    Json(#[source] serde_json::Error),
    /// A field that must be there.
    #[error("error parsing configuration: missing '{0}'")]
    Missing(&'static str),
    /// A list in a file for a single plugin.
    #[error("no 'type'; a list of plugins belongs into a .conflist")]
    ListInConf,
    /// The list is empty.
    #[error("error parsing configuration list: no plugins in list")]
    NoPlugins,
    /// The name becomes part of file names.
    #[error("invalid characters found in network name {0:?}")]
    Name(String),
}

/// One plugin of a network.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PluginConfig {
    /// The program's name.
    pub(super) kind: String,
    /// A name of its own, which is unusual in a list.
    pub(super) name: String,
    /// Capabilities that it declares and switches on.
    pub(super) capabilities: BTreeSet<String>,
    /// All that it is told.
    pub(super) raw: Map<String, Value>,
}

/// A network: plugins that are called one after the other.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NetworkList {
    /// Its name.
    pub(super) name: String,
    /// The version all its plugins speak; as written, perhaps empty.
    pub(super) version: String,
    /// Never empty.
    pub(super) plugins: Vec<PluginConfig>,
    /// The list as JSON text, for the cache.
    pub(super) bytes: Vec<u8>,
}

#[derive(Deserialize)]
struct RawList {
    name: Option<String>,
    #[serde(default, rename = "cniVersion")]
    version: String,
    plugins: Option<Vec<Map<String, Value>>>,
}

#[derive(Deserialize)]
struct RawPlugin {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    name: String,
    #[serde(default, rename = "cniVersion")]
    version: String,
    #[serde(default)]
    capabilities: Option<Map<String, Value>>,
}

fn raw_plugin(raw: &Map<String, Value>) -> Result<RawPlugin, ConfigError> {
    serde_json::from_value(Value::Object(raw.clone())).map_err(ConfigError::Json)
}

impl PluginConfig {
    fn new(raw: Map<String, Value>) -> Result<Self, ConfigError> {
        let fields = raw_plugin(&raw)?;
        if fields.kind.is_empty() {
            return Err(ConfigError::Missing("type"));
        }
        let capabilities = fields.capabilities.unwrap_or_default().into_iter();
        Ok(Self {
            kind: fields.kind,
            name: fields.name,
            capabilities: capabilities
                .filter(|(_, on)| *on == Value::Bool(true))
                .map(|(name, _)| name)
                .collect(),
            raw,
        })
    }
}

impl NetworkList {
    /// Reads a `.conflist`, or the list that a cache file holds.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let raw: RawList = serde_json::from_slice(bytes).map_err(ConfigError::Json)?;
        let name = raw.name.ok_or(ConfigError::Missing("name"))?;
        if !is_valid_name(&name) {
            return Err(ConfigError::Name(name));
        }
        let plugins = raw.plugins.ok_or(ConfigError::Missing("plugins"))?;
        if plugins.is_empty() {
            return Err(ConfigError::NoPlugins);
        }
        Ok(Self {
            name,
            version: raw.version,
            plugins: plugins
                .into_iter()
                .map(PluginConfig::new)
                .collect::<Result<_, _>>()?,
            bytes: bytes.to_owned(),
        })
    }

    /// Reads a `.conf` or `.json`: one plugin, which becomes a list of one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse_single(bytes: &[u8]) -> Result<Self, ConfigError> {
        let raw: Map<String, Value> = serde_json::from_slice(bytes).map_err(ConfigError::Json)?;
        let fields = raw_plugin(&raw)?;
        if fields.kind.is_empty() && raw.contains_key("plugins") {
            return Err(ConfigError::ListInConf);
        }
        let list = serde_json::json!({
            "cniVersion": fields.version,
            "name": fields.name,
            "plugins": [raw],
        });
        Self::parse(list.to_string().as_bytes())
    }

    /// Whether some plugin declares a capability.
    pub(super) fn declares(&self, capability: &str) -> bool {
        let mut plugins = self.plugins.iter();
        plugins.any(|plugin| plugin.capabilities.contains(capability))
    }

    /// The version that holds: none written is 0.1.0.
    pub(super) fn effective_version(&self) -> &str {
        if self.version.is_empty() {
            "0.1.0"
        } else {
            &self.version
        }
    }

    /// Whether the list's version is this one or later.
    pub(super) fn is_at_least(&self, wanted: (u32, u32, u32)) -> bool {
        parse_version(self.effective_version()).is_some_and(|version| version >= wanted)
    }
}

/// `1.2.3`, or fewer parts.
fn parse_version(text: &str) -> Option<(u32, u32, u32)> {
    let mut parts = text.splitn(4, '.').map(str::parse::<u32>);
    let mut next = || parts.next().unwrap_or(Ok(0)).ok();
    let version = (next()?, next()?, next()?);
    parts.next().is_none().then_some(version)
}

/// What CNI takes for names of networks and ids of containers; nothing that could leave a directory.
pub(super) fn is_valid_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// The configuration files of a directory, sorted by name; none where it is missing. Blocks.
///
/// # Errors
/// [`ConfigError::Directory`].
pub(super) fn files(directory: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let failed = |error| ConfigError::Directory(directory.to_owned(), error);
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let wanted = path.extension().and_then(OsStr::to_str);
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_directory && wanted.is_some_and(|extension| EXTENSIONS.contains(&extension)) {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Reads one configuration file. Blocks.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(file: &Path) -> Result<NetworkList, ConfigError> {
    let bytes = std::fs::metadata(file).map_err(ConfigError::Read)?.len();
    if bytes > MAX_FILE_BYTES {
        return Err(ConfigError::TooLarge(bytes));
    }
    let text = std::fs::read(file).map_err(ConfigError::Read)?;
    if file.extension() == Some(OsStr::new("conflist")) {
        NetworkList::parse(&text)
    } else {
        NetworkList::parse_single(&text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn single_configuration_becomes_a_list_of_one() {
        let conf = br#"{"cniVersion":"0.3.1","name":"n","type":"bridge","bridge":"b0",
            "capabilities":{"portMappings":true,"bandwidth":false}}"#;
        let list = NetworkList::parse_single(conf).unwrap();
        assert_eq!((list.name.as_str(), list.version.as_str()), ("n", "0.3.1"));
        assert_eq!(list.plugins[0].raw["bridge"], "b0");
        assert!(list.declares("portMappings") && !list.declares("bandwidth"));
        // What the cache keeps reads back the same.
        assert_eq!(NetworkList::parse(&list.bytes).unwrap(), list);
    }

    #[test]
    fn broken_configurations_name_the_fault() {
        let list = |text: &str| NetworkList::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(list("{").contains("error parsing configuration"));
        assert!(list("{}").contains("'name'"));
        assert!(list(r#"{"name":"a"}"#).contains("'plugins'"));
        assert!(list(r#"{"name":"a","plugins":[]}"#).contains("no plugins in list"));
        assert!(list(r#"{"name":"a","plugins":[{}]}"#).contains("'type'"));
        assert!(list(r#"{"name":"../a","plugins":[{"type":"x"}]}"#).contains("../a"));
        let single = NetworkList::parse_single(br#"{"name":"a","plugins":[]}"#);
        assert!(matches!(single, Err(ConfigError::ListInConf)));
    }

    #[test]
    fn versions_compare_by_number() {
        let list = |version: &str| NetworkList {
            name: String::new(),
            version: version.to_owned(),
            plugins: Vec::new(),
            bytes: Vec::new(),
        };
        assert!(list("0.4.0").is_at_least((0, 4, 0)) && list("1.0").is_at_least((0, 4, 0)));
        assert!(!list("").is_at_least((0, 2, 0)) && !list("0.3.1").is_at_least((0, 4, 0)));
        assert!(!list("x").is_at_least((0, 0, 0)) && !list("1.0.0.0").is_at_least((0, 0, 0)));
    }

    #[test]
    fn files_count_by_extension_and_name() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "20-b.conf",
            "10-a.conflist",
            "5.json",
            "x.txt",
            "y.conf.bak",
        ] {
            std::fs::write(dir.path().join(name), "{}").unwrap();
        }
        std::fs::create_dir(dir.path().join("d.conf")).unwrap();
        let names: Vec<_> = files(dir.path())
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["10-a.conflist", "20-b.conf", "5.json"]);
        assert!(files(&dir.path().join("none")).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(bytes: Vec<u8>, text in "\\PC*") {
            for bytes in [bytes.as_slice(), text.as_bytes()] {
                drop(NetworkList::parse(bytes));
                drop(NetworkList::parse_single(bytes));
            }
        }
    }
}
