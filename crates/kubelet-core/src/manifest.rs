//! From the bytes of a manifest to a pod that may run.
//!
//! ```text
//! bytes -> yaml -> typed decode -> defaults -> name check -> static pod fields -> validation -> references
//!                  (unknown fields   (SRC-25)                 (SRC-20..24, 30)    (SRC-35)      (SRC-36)
//!                   become warnings)
//! ```
//!
//! The order is upstream's (`tryDecodeSinglePod`), so the same manifest fails at the same step. [`load_static`]
//! is the one door for file sources, [`load_static_url`] for URLs; both are pure: time and names come in.

mod decode;
mod defaults;
mod field;
mod fields;
mod file_name;
mod references;
mod statics;
pub mod typed;
mod validate;
mod zeros;

pub use decode::{DecodeError, Decoded, decode};
pub use defaults::default_pod;
pub use field::{FieldError, Kind as FieldErrorKind};
pub use fields::{Support, ignored_fields, manifest_fields_markdown};
pub use file_name::FileName;
pub use references::static_reference_refused;
pub use statics::{
    CONFIG_HASH, CONFIG_MIRROR, CONFIG_SEEN, CONFIG_SOURCE, Origin, StaticSource, apply_static, uid,
};
pub use validate::validate_pod;

use k8s_openapi::api::core::v1::Pod;

/// A pod that may run, and what its author should know.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedPod {
    /// Defaulted, named, validated.
    pub pod: Pod,
    /// Unknown fields, repeated keys, further documents: upstream drops them silently, here they are told.
    pub warnings: Vec<String>,
}

/// Why a manifest gives no pod. Texts are upstream's, but for those of [`DecodeError`] that say so.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ManifestError {
    /// Not a v1 Pod in YAML or JSON (SRC-03). Upstream's wording for files.
    #[error("{origin}: couldn't parse as pod({problem}), please check config file")]
    Parse {
        /// File or URL.
        origin: String,
        /// What is wrong.
        problem: DecodeError,
    },
    /// No `metadata.name` (SRC-04).
    #[error("invalid pod: name is needed for the pod")]
    NameMissing,
    /// Fields that no pod may have (SRC-35).
    #[error("invalid pod: [{}]", listed(.0))]
    Invalid(Vec<FieldError>),
    /// Refers to an object of the API, which a static pod may not (SRC-36).
    #[error("static pods may not reference {0}")]
    Reference(String),
    /// A volume of no known type, so its references can't be judged.
    #[error("{0}")]
    Unknown(String),
}

impl ManifestError {
    /// Everything that is wrong, each in a line.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Invalid(errors) => errors.iter().map(ToString::to_string).collect(),
            Self::Parse { problem, .. } => vec![format!("couldn't parse as pod: {problem}")],
            other => vec![other.to_string()],
        }
    }
}

/// A manifest that gives no pod.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{error}")]
pub struct Refused {
    /// Why.
    pub error: Box<ManifestError>,
    /// What was dropped, as in [`LoadedPod::warnings`]: `imagee` is why `image` is missing.
    pub warnings: Vec<String>,
}

fn listed(errors: &[FieldError]) -> String {
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The pod of a manifest file, as the file source runs it.
///
/// # Errors
/// [`Refused`], everything wrong with the fields at once.
pub fn load_static(bytes: &[u8], source: &StaticSource) -> Result<LoadedPod, Refused> {
    let decoded = decode::decode_one(bytes).map_err(|problem| parse_error(source, problem))?;
    finish(decoded, source)
}

/// The pods of a URL's body: one Pod, or a v1 PodList of which one invalid item rejects all (SRC-11).
///
/// # Errors
/// [`Refused`] for the body, or for the first bad item.
pub fn load_static_url(bytes: &[u8], source: &StaticSource) -> Result<Vec<LoadedPod>, Refused> {
    let list = decode::decode_list(bytes).map_err(|problem| parse_error(source, problem))?;
    list.into_iter()
        .map(|decoded| finish(decoded, source))
        .collect()
}

fn parse_error(source: &StaticSource, (problem, warnings): decode::Warned) -> Refused {
    let error = ManifestError::Parse {
        origin: source.origin.to_string(),
        problem,
    };
    Refused {
        error: Box::new(error),
        warnings,
    }
}

fn finish(decoded: Decoded, source: &StaticSource) -> Result<LoadedPod, Refused> {
    let Decoded { pod, warnings } = decoded;
    match check(pod, source) {
        Ok(pod) => Ok(LoadedPod { pod, warnings }),
        Err(error) => Err(Refused {
            error: Box::new(error),
            warnings,
        }),
    }
}

fn check(mut pod: Pod, source: &StaticSource) -> Result<Pod, ManifestError> {
    default_pod(&mut pod);
    if pod.metadata.name.as_deref().unwrap_or_default().is_empty() {
        return Err(ManifestError::NameMissing);
    }
    apply_static(&mut pod, source);
    let errors = validate_pod(&pod);
    if !errors.is_empty() {
        return Err(ManifestError::Invalid(errors));
    }
    match static_reference_refused(&pod) {
        None => Ok(pod),
        Some(references::Refused::Reference(what)) => Err(ManifestError::Reference(what.into())),
        Some(references::Refused::Unknown(text)) => Err(ManifestError::Unknown(text)),
    }
}

#[cfg(test)]
mod tests;
