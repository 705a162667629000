//! YAML or JSON to a v1 Pod: kind and version first, then the fields.

use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use super::typed::{self, TypeError};
use crate::yaml::{self, Limits, YamlError};

/// A pod as written, and what was dropped.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// No defaults yet.
    pub pod: Pod,
    /// Unknown fields, repeated keys and further documents, one sentence each.
    pub warnings: Vec<String>,
}

/// Why bytes are no v1 Pod.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// Neither YAML nor JSON, or beyond the limits.
    #[error(transparent)]
    Yaml(#[from] YamlError),
    /// Not a map.
    #[error("cannot unmarshal {0} into a Pod, a manifest is a map")]
    NotAMap(&'static str),
    /// `kind` or `apiVersion` is no text.
    #[error(
        "couldn't get version/kind; json parse error: json: cannot unmarshal {found} into Go struct field .{field} \
         of type string"
    )]
    NoText {
        /// Which of the two.
        field: &'static str,
        /// What it is instead.
        found: &'static str,
    },
    /// An `apiVersion` with more than one slash.
    #[error("unexpected GroupVersion string: {0}")]
    Version(String),
    /// No `kind`. Differs: upstream's text goes on with the whole document, which may hold secrets.
    #[error("Object 'Kind' is missing")]
    KindMissing,
    /// No `apiVersion`.
    #[error("Object 'apiVersion' is missing")]
    VersionMissing,
    /// Something else than a v1 Pod. Differs: upstream names a place in its source, or prints a Go struct.
    #[error("no kind {kind:?} for version {version:?} here: a manifest holds one Pod of v1")]
    Kind {
        /// `kind` as given.
        kind: String,
        /// `apiVersion` as given.
        version: String,
    },
    /// A field of the wrong type.
    #[error(transparent)]
    Field(#[from] TypeError),
}

/// Reads one v1 Pod. Unknown fields are no error (SRC-04).
///
/// # Errors
/// [`DecodeError`]: not YAML, another kind, or a field of the wrong type, named with its path.
pub fn decode(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    decode_one(bytes).map_err(|(problem, _)| problem)
}

/// A problem with what was dropped before it was met, which may be its cause.
pub(super) type Warned = (DecodeError, Vec<String>);

/// As [`decode`].
pub(super) fn decode_one(bytes: &[u8]) -> Result<Decoded, Warned> {
    let (value, is_json, warnings) = read(bytes)?;
    let decoded = kind_of(&value, is_json).and_then(|kind| match kind {
        ("Pod", "v1") => pod(&value, &warnings),
        (kind, version) => Err(other(kind, version)),
    });
    decoded.map_err(|problem| (problem, warnings))
}

/// Reads one v1 Pod or the items of a v1 PodList. Items need no kind of their own.
pub(super) fn decode_list(bytes: &[u8]) -> Result<Vec<Decoded>, Warned> {
    let (value, is_json, warnings) = read(bytes)?;
    let decoded = kind_of(&value, is_json).and_then(|kind| match kind {
        ("Pod", "v1") => Ok(vec![pod(&value, &warnings)?]),
        ("PodList", "v1") => {
            let items = value.get("items").and_then(Value::as_array);
            let items = items.map(Vec::as_slice).unwrap_or_default();
            items.iter().map(|item| pod(item, &warnings)).collect()
        }
        (kind, version) => Err(other(kind, version)),
    });
    decoded.map_err(|problem| (problem, warnings))
}

/// The document, whether it is JSON, and what was dropped of it.
fn read(bytes: &[u8]) -> Result<(Value, bool, Vec<String>), Warned> {
    let document =
        yaml::read(bytes, Limits::MANIFEST).map_err(|error| (error.into(), Vec::new()))?;
    let mut warnings: Vec<String> = document
        .duplicates
        .iter()
        .map(ToString::to_string)
        .collect();
    warnings.extend(document.further.map(|at| {
        format!(
            "line {}: another document begins here and is not read: a manifest holds one Pod, put the next one \
             into a file of its own",
            at.line
        )
    }));
    let mut value = document.value;
    // An empty group is none (Kubernetes apimachinery, `ParseGroupVersion`).
    if let Some(version) = value.get_mut("apiVersion")
        && let Some(bare) = version.as_str().and_then(|text| text.strip_prefix('/'))
    {
        *version = bare.into();
    }
    Ok((value, document.is_json, warnings))
}

/// What the document is, which upstream finds by Go's own JSON reader, in keys of any case of which the last
/// counts (Kubernetes apimachinery, `SimpleMetaFactory.Interpret`).
fn kind_of(value: &Value, is_json: bool) -> Result<(&str, &str), DecodeError> {
    if !value.is_object() && !value.is_null() {
        return Err(DecodeError::NotAMap(typed::name(value)));
    }
    let mut fields: Vec<_> = value.as_object().into_iter().flatten().collect();
    if !is_json {
        fields.sort_by_key(|(name, _)| name.as_str());
    }
    let (mut version, mut kind) = ("", "");
    for (name, value) in fields {
        let (field, text) = if name.eq_ignore_ascii_case("apiVersion") {
            ("apiVersion", &mut version)
        } else if name.eq_ignore_ascii_case("kind") {
            ("kind", &mut kind)
        } else {
            continue;
        };
        match value {
            Value::Null => {}
            Value::String(value) => *text = value,
            other => {
                let found = typed::name(other);
                return Err(DecodeError::NoText { field, found });
            }
        }
    }
    match (version, kind) {
        (version, _) if version.matches('/').count() > 1 => {
            Err(DecodeError::Version(version.to_owned()))
        }
        (_, "") => Err(DecodeError::KindMissing),
        ("", _) => Err(DecodeError::VersionMissing),
        (version, kind) => Ok((kind, version)),
    }
}

fn other(kind: &str, version: &str) -> DecodeError {
    DecodeError::Kind {
        kind: kind.to_owned(),
        version: version.to_owned(),
    }
}

fn pod(value: &Value, warnings: &[String]) -> Result<Decoded, DecodeError> {
    let (pod, unknown) = typed::decode(value)?;
    let mut warnings = warnings.to_vec();
    warnings.extend(unknown.iter().map(|path| format!("unknown field {path:?}")));
    Ok(Decoded { pod, warnings })
}
