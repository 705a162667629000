//! The configuration file and its drop-ins (rows PROC-20..23).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use daemon::pflag::quote;
use kubelet_core::yaml;
use serde_json::{Map, Value};

use crate::config::{API_VERSION, KIND, KubeletConfiguration};
use crate::fields::{self, Field};
use crate::paths;

/// A configuration larger than this is a mistake.
const LIMITS: yaml::Limits = yaml::Limits {
    bytes: 1 << 20,
    ..yaml::Limits::MANIFEST
};
/// So are more drop-ins, or drop-ins that lie deeper.
const MOST_DROP_INS: usize = 1000;
const DEEPEST_DROP_IN: usize = 32;

/// Why a file does not count; the texts complete upstream's prefixes (PROC-03).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It can't be read.
    #[error(
        "failed to read kubelet config file {}, error: open {path}: {reason}",
        quote(path)
    )]
    Read {
        /// The file.
        path: String,
        /// The system's reason.
        reason: String,
    },
    /// It has no bytes.
    #[error("kubelet config file {} was empty", quote(.0))]
    Empty(String),
    /// It is no YAML.
    #[error("failed to decode: {0}")]
    Yaml(yaml::YamlError),
    /// It holds something else than an object.
    #[error(
        "failed to decode: couldn't get version/kind; json parse error: json: cannot unmarshal {0} \
         into an object"
    )]
    NotAnObject(&'static str),
    /// It does not say what it is.
    #[error("failed to decode: Object '{0}' is missing")]
    NoKind(&'static str),
    /// It is something else.
    #[error(
        "failed to decode: no kind {} is registered for version {}; expected kind \
         \"KubeletConfiguration\", version \"kubelet.config.k8s.io/v1beta1\"",
        quote(kind),
        quote(api_version)
    )]
    OtherKind {
        /// `apiVersion`
        api_version: String,
        /// `kind`
        kind: String,
    },
    /// Values of wrong types, each with its field.
    #[error("failed to decode: {}", list(.0))]
    Mistyped(Vec<String>),
}

/// Several messages as upstream lists them: alone bare, else in brackets.
pub(crate) fn list(messages: &[String]) -> String {
    let mut unique: Vec<&str> = Vec::new();
    for message in messages {
        if !unique.contains(&message.as_str()) {
            unique.push(message);
        }
    }
    match unique[..] {
        [one] => one.to_owned(),
        _ => format!("[{}]", unique.join(", ")),
    }
}

/// A drop-in directory that can't be merged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DropInError {
    /// A directory can't be read.
    #[error(
        "failed to walk through kubelet dropin directory {}: {reason}",
        quote(directory)
    )]
    Walk {
        /// The top directory.
        directory: String,
        /// Path and reason.
        reason: String,
    },
    /// A file is not as it must be.
    #[error(
        "failed to walk through kubelet dropin directory {}: failed to load kubelet dropin file, \
         path: {path}, {reason}",
        quote(directory)
    )]
    File {
        /// The top directory.
        directory: String,
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The merged document has values of wrong types.
    #[error("failed to unmarshal merged JSON into kubelet configuration: {}", list(.0))]
    Mistyped(Vec<String>),
}

/// A decoded file.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: KubeletConfiguration,
    /// Fields that the file says.
    pub(crate) set: Vec<&'static Field>,
    /// What the strict decoder had against it, to be logged.
    pub(crate) lenient: Option<String>,
}

/// Reads, decodes and defaults `--config`.
///
/// # Errors
/// [`FileError`]; unknown fields and repeated keys are none (PROC-21).
pub(crate) fn load(path: &Path) -> Result<Loaded, FileError> {
    let bytes = read(path)?;
    let document = yaml::read(&bytes, LIMITS).map_err(FileError::Yaml)?;
    let object = object(document.value)?;
    check_kind(&object)?;
    let findings = fields::inspect(&object);
    if !findings.mistyped.is_empty() {
        return Err(FileError::Mistyped(findings.mistyped));
    }
    let mut config = decode(object).map_err(|error| FileError::Mistyped(vec![error]))?;
    config.set_defaults();
    config.set_default_eviction_hard();
    let directory = path.parent().unwrap_or(Path::new("/"));
    resolve_relative_paths(&mut config, directory);
    let lenient = strict_complaint(&document.duplicates, &findings.unknown);
    Ok(Loaded {
        config,
        set: findings.set,
        lenient,
    })
}

/// What upstream's strict decoder says, if anything.
fn strict_complaint(duplicates: &[yaml::DuplicateKey], unknown: &[String]) -> Option<String> {
    let mut complaints = Vec::new();
    if !duplicates.is_empty() {
        let lines: Vec<String> = duplicates.iter().map(|key| format!("\n  {key}")).collect();
        complaints.push(format!("yaml: unmarshal errors:{}", lines.concat()));
    }
    complaints.extend(
        unknown
            .iter()
            .map(|field| format!("unknown field {}", quote(field))),
    );
    (!complaints.is_empty()).then(|| format!("strict decoding error: {}", complaints.join(", ")))
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let shown = path.display().to_string();
    // One byte more than allowed is enough to see that it is too much.
    let bytes = read_bounded(path, LIMITS.bytes + 1).map_err(|error| FileError::Read {
        path: shown.clone(),
        reason: reason(&error),
    })?;
    if bytes.is_empty() {
        Err(FileError::Empty(shown))
    } else {
        Ok(bytes)
    }
}

fn read_bounded(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let mut bytes = Vec::new();
    let most = u64::try_from(most).unwrap_or(u64::MAX);
    fs::File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The system's message as Go prints it: no number, lower case.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}

fn object(value: Value) -> Result<Map<String, Value>, FileError> {
    let found = match value {
        Value::Object(object) => return Ok(object),
        // An empty document, or only comments.
        Value::Null => return Err(FileError::NoKind("Kind")),
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
    };
    Err(FileError::NotAnObject(found))
}

fn check_kind(object: &Map<String, Value>) -> Result<(), FileError> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    match (text("apiVersion"), text("kind")) {
        (API_VERSION, KIND) => Ok(()),
        (_, "") => Err(FileError::NoKind("Kind")),
        ("", _) => Err(FileError::NoKind("apiVersion")),
        (api_version, kind) => Err(FileError::OtherKind {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
        }),
    }
}

/// From a checked document to the structs. Null means "not said", as in Go.
fn decode(mut object: Map<String, Value>) -> Result<KubeletConfiguration, String> {
    object.remove("apiVersion");
    object.remove("kind");
    let mut value = Value::Object(object);
    drop_nulls(&mut value);
    serde_json::from_value(value).map_err(|error| error.to_string())
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(entries) => {
            entries.retain(|_, value| !value.is_null());
            entries.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// PROC-22
fn resolve_relative_paths(config: &mut KubeletConfiguration, directory: &Path) {
    for path in [
        &mut config.static_pod_path,
        &mut config.authentication.x509.client_ca_file,
        &mut config.tls_cert_file,
        &mut config.tls_private_key_file,
        &mut config.volume_plugin_dir,
        &mut config.pod_logs_dir,
    ] {
        *path = paths::resolve(path, directory);
    }
    if let Some(path) = &mut config.resolv_conf {
        *path = paths::resolve(path, directory);
    }
}

/// Merges all drop-ins below `directory` over a configuration and defaults the result again.
/// Returns the fields that they say.
///
/// # Errors
/// [`DropInError`]: an unreadable directory or file, a repeated key, another kind, a wrong type.
pub(crate) fn merge_drop_ins(
    config: &mut KubeletConfiguration,
    directory: &Path,
) -> Result<Vec<&'static Field>, DropInError> {
    let top = directory.display().to_string();
    let mut files = Vec::new();
    find_drop_ins(directory, 0, &mut files).map_err(|reason| DropInError::Walk {
        directory: top.clone(),
        reason,
    })?;
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let mut merged = serde_json::to_value(&*config)
        .map_err(|error| DropInError::Mistyped(vec![error.to_string()]))?;
    let mut set: Vec<&'static Field> = Vec::new();
    for path in files {
        let document = load_drop_in(&path).map_err(|reason| DropInError::File {
            directory: top.clone(),
            path: path.display().to_string(),
            reason,
        })?;
        set.extend(fields::inspect(&document).set);
        merge_patch(&mut merged, &Value::Object(document));
    }
    let Value::Object(merged) = merged else {
        unreachable!("a merge of objects is an object")
    };
    let findings = fields::inspect(&merged);
    if !findings.mistyped.is_empty() {
        return Err(DropInError::Mistyped(findings.mistyped));
    }
    *config = decode(merged).map_err(|error| DropInError::Mistyped(vec![error]))?;
    config.set_defaults();
    Ok(set)
}

/// Files that end in `.conf`, directories in lexical order.
/// Differs: a link to a directory is followed when it is `directory` itself; upstream takes it for
/// a file and reads nothing.
fn find_drop_ins(directory: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let fail = |operation: &str, error: &io::Error| {
        format!("{operation} {}: {}", directory.display(), reason(error))
    };
    let mut entries: Vec<fs::DirEntry> = fs::read_dir(directory)
        .and_then(Iterator::collect)
        .map_err(|error| fail(if depth == 0 { "lstat" } else { "open" }, &error))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type().map_err(|error| fail("lstat", &error))?;
        if kind.is_dir() {
            if depth == DEEPEST_DROP_IN {
                return Err(format!(
                    "{}: directories nest too deep",
                    entry.path().display()
                ));
            }
            find_drop_ins(&entry.path(), depth + 1, found)?;
        } else if entry.file_name().as_encoded_bytes().ends_with(b".conf") {
            if found.len() == MOST_DROP_INS {
                return Err(format!("more than {MOST_DROP_INS} files"));
            }
            found.push(entry.path());
        }
    }
    Ok(())
}

/// One drop-in, `apiVersion` and `kind` checked and taken off. Repeated keys are an error here.
fn load_drop_in(path: &Path) -> Result<Map<String, Value>, String> {
    let with_prefix = |error: &FileError| {
        let text = error.to_string();
        format!(
            "error: {}",
            text.strip_prefix("failed to decode: ").unwrap_or(&text)
        )
    };
    let bytes = read(path).map_err(|error| with_prefix(&error))?;
    let document =
        yaml::read(&bytes, LIMITS).map_err(|error| with_prefix(&FileError::Yaml(error)))?;
    if let Some(complaint) = strict_complaint(&document.duplicates, &[]) {
        return Err(format!("error: {complaint}"));
    }
    let mut object = object(document.value).map_err(|error| with_prefix(&error))?;
    check_kind(&object).map_err(|error| match error {
        FileError::OtherKind { api_version, kind } => {
            format!("unknown apiVersion/kind: {api_version}, Kind={kind}")
        }
        _ => "no apiVersion/kind".to_owned(),
    })?;
    object.remove("apiVersion");
    object.remove("kind");
    Ok(object)
}

/// RFC 7386: objects merge, everything else replaces, null removes.
fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else {
        unreachable!("made an object above")
    };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            merge_patch(target.entry(name).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests;
