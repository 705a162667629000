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
    /// No `kind`.
    #[error("Object 'Kind' is missing")]
    KindMissing,
    /// No `apiVersion`.
    #[error("Object 'apiVersion' is missing")]
    VersionMissing,
    /// Something else than a v1 Pod.
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
    let (value, warnings) = read(bytes)?;
    let decoded = kind_of(&value).and_then(|kind| match kind {
        ("Pod", "v1") => pod(&value, &warnings),
        (kind, version) => Err(other(kind, version)),
    });
    decoded.map_err(|problem| (problem, warnings))
}

/// Reads one v1 Pod or the items of a v1 PodList. Items need no kind of their own.
pub(super) fn decode_list(bytes: &[u8]) -> Result<Vec<Decoded>, Warned> {
    let (value, warnings) = read(bytes)?;
    let decoded = kind_of(&value).and_then(|kind| match kind {
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

fn read(bytes: &[u8]) -> Result<(Value, Vec<String>), Warned> {
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
    Ok((value, warnings))
}

/// What the document is, which upstream finds by Go's own JSON reader, in keys of any case (Kubernetes
/// apimachinery, `SimpleMetaFactory.Interpret`).
fn kind_of(value: &Value) -> Result<(&str, &str), DecodeError> {
    if !value.is_object() && !value.is_null() {
        return Err(DecodeError::NotAMap(typed::name(value)));
    }
    let text = |key: &str| {
        let fields = value.as_object().into_iter().flatten();
        let mut others = fields.filter(|(name, _)| name.eq_ignore_ascii_case(key));
        let found = value.get(key).or_else(|| Some(others.next()?.1));
        found.and_then(Value::as_str).unwrap_or_default()
    };
    match (text("kind"), text("apiVersion")) {
        ("", _) => Err(DecodeError::KindMissing),
        (_, "") => Err(DecodeError::VersionMissing),
        both => Ok(both),
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
