//! A container's environment, and `$(NAME)` in its command line (kubelet SPEC-30, SPEC-31, SPEC-33).

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, EnvVar, FileKeySelector, ObjectFieldSelector, Pod};
use thiserror::Error;

use crate::{
    downward::{Allocatable, DownwardError, object_field, resource_field},
    ids::PodKey,
    spec,
};

mod env_file;

/// What variables may speak of beside the pod itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EnvFacts {
    /// Addresses of the pod, primary first.
    pub pod_ips: Vec<String>,
    /// Addresses of the node, primary first; looked at only where a variable [`asks_for`] one.
    pub host_ips: Vec<String>,
    /// What the node has for pods: the limit of who has none.
    pub allocatable: Allocatable,
    /// Gate `EnvFiles`; without it a variable from a file is empty, as upstream has it.
    pub files: EnvFiles,
}

/// The files that the container's variables come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum EnvFiles {
    /// The gate is off.
    #[default]
    Disabled,
    /// By volume and path; what is wrong with one is told when a variable needs it.
    Read(BTreeMap<(String, String), Result<EnvFile, EnvError>>),
}

/// A file that variables come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvFile {
    /// Where it was found, with no link left in the path.
    pub path: PathBuf,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// A variable that has no value: the container waits with `CreateContainerConfigError`. Texts are upstream's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EnvError {
    /// Only the API server could tell.
    #[error("{kind} {name:?} not found")]
    NoObject {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// The object's name.
        name: String,
    },
    /// The object has no such key.
    #[error("couldn't find key {key} in {kind} {object}")]
    NoKey {
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// Namespace and name.
        object: String,
        /// The key.
        key: String,
    },
    /// Not in the downward API.
    #[error(transparent)]
    Downward(#[from] DownwardError),
    /// The node has no address, or none yet.
    #[error("host IP unknown; known addresses: []")]
    NoHostIp,
    /// Variables made of variables until no message to the runtime can hold them.
    #[error("the variables take more than {MAX_BYTES} bytes, with {0:?} the first one too many")]
    TooLong(String),
    /// `fileKeyRef` of a volume that no container mounts.
    #[error("cannot find the volume {0:?} referenced by FileKeyRef")]
    NoVolume(String),
    /// A file that cannot be read, or is not one of variables.
    #[error("couldn't parse env file")]
    File,
    /// A file without the variable.
    #[error("environment variable key {key:?} not found in file {file:?}")]
    NoFileKey {
        /// The variable.
        key: String,
        /// Where it was found.
        file: PathBuf,
    },
    /// A name of a variable that is too long.
    #[error(
        "environment variable key {0:?} exceeds maximum length of {MAX_FILE_KEY_BYTES} characters"
    )]
    FileKeyTooLong(String),
    /// A value that is too long.
    #[error("environment variable value for key {0:?} exceeds maximum size of 32KB")]
    FileValueTooLong(String),
}

/// Longest name of a variable in a file (SPEC-33).
const MAX_FILE_KEY_BYTES: usize = 128;
/// Longest value of a variable in a file (SPEC-33).
const MAX_FILE_VALUE_BYTES: usize = 32 * 1024;

/// No container has more variables, nor a longer command: what goes to a runtime in one message (CRI-05).
pub const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Data of ConfigMaps and Secrets, by kind and name.
pub trait EnvObjects {
    /// The data of a ConfigMap; `None` when there is none.
    fn config_map(&self, name: &str) -> Option<BTreeMap<String, String>>;
    /// The data of a Secret; `None` when there is none.
    fn secret(&self, name: &str) -> Option<BTreeMap<String, String>>;
}

/// There are no objects.
#[derive(Debug, Clone, Copy)]
pub struct NoObjects;

impl EnvObjects for NoObjects {
    fn config_map(&self, _name: &str) -> Option<BTreeMap<String, String>> {
        None
    }

    fn secret(&self, _name: &str) -> Option<BTreeMap<String, String>> {
        None
    }
}

/// The variables of a container: `envFrom` in order, then `env`, later ones over earlier ones.
///
/// # Errors
/// For the first variable that has no value and is not optional.
pub fn environment(
    pod: &Pod,
    container: &Container,
    facts: &EnvFacts,
    objects: &dyn EnvObjects,
) -> Result<BTreeMap<String, String>, EnvError> {
    let mut variables = BTreeMap::new();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let (kind, name, optional, data) = if let Some(reference) = &source.config_map_ref {
            (
                "configmap",
                &reference.name,
                reference.optional,
                objects.config_map(&reference.name),
            )
        } else if let Some(reference) = &source.secret_ref {
            (
                "secret",
                &reference.name,
                reference.optional,
                objects.secret(&reference.name),
            )
        } else {
            continue;
        };
        match data {
            Some(data) => {
                variables.extend(
                    data.into_iter()
                        .map(|(key, value)| (format!("{prefix}{key}"), value)),
                );
            }
            None if optional == Some(true) => {}
            None => {
                return Err(EnvError::NoObject {
                    kind,
                    name: name.clone(),
                });
            }
        }
    }
    let mut bytes = 0_usize;
    for variable in container.env.iter().flatten() {
        if let Some(value) = value_of(pod, container, variable, &variables, facts, objects)? {
            bytes = bytes.saturating_add(value.len());
            if bytes > MAX_BYTES {
                return Err(EnvError::TooLong(variable.name.clone()));
            }
            variables.insert(variable.name.clone(), value);
        }
    }
    Ok(variables)
}

fn value_of(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    before: &BTreeMap<String, String>,
    facts: &EnvFacts,
    objects: &dyn EnvObjects,
) -> Result<Option<String>, EnvError> {
    // A source counts only where there is no value (SPEC-30).
    let plain = variable.value.as_deref().unwrap_or_default();
    let Some(source) = variable.value_from.as_ref().filter(|_| plain.is_empty()) else {
        return Ok(Some(expand(plain, before)));
    };
    if let Some(field) = &source.field_ref {
        return field_value(pod, field, facts).map(Some);
    }
    if let Some(resource) = &source.resource_field_ref {
        let allocatable = facts.allocatable.within(pod);
        return Ok(Some(resource_field(
            pod,
            Some(container),
            resource,
            &allocatable,
        )?));
    }
    if let Some(file) = &source.file_key_ref {
        return match &facts.files {
            EnvFiles::Disabled => Ok(Some(String::new())),
            EnvFiles::Read(files) => file_value(file, files),
        };
    }
    let (kinds, name, key, optional, data) = if let Some(reference) = &source.config_map_key_ref {
        let data = objects.config_map(&reference.name);
        let kinds = ("configmap", "ConfigMap");
        (
            kinds,
            &reference.name,
            &reference.key,
            reference.optional,
            data,
        )
    } else if let Some(reference) = &source.secret_key_ref {
        let data = objects.secret(&reference.name);
        let kinds = ("secret", "Secret");
        (
            kinds,
            &reference.name,
            &reference.key,
            reference.optional,
            data,
        )
    } else {
        return Ok(Some(String::new()));
    };
    let error = match data {
        Some(mut data) => match data.remove(key) {
            Some(value) => return Ok(Some(value)),
            None => EnvError::NoKey {
                kind: kinds.1,
                object: format!("{}/{name}", PodKey::of(pod).namespace),
                key: key.clone(),
            },
        },
        None => EnvError::NoObject {
            kind: kinds.0,
            name: name.clone(),
        },
    };
    if optional == Some(true) {
        Ok(None)
    } else {
        Err(error)
    }
}

/// A variable that a file in a volume sets (SPEC-33).
fn file_value(
    selector: &FileKeySelector,
    files: &BTreeMap<(String, String), Result<EnvFile, EnvError>>,
) -> Result<Option<String>, EnvError> {
    let key = &selector.key;
    let place = (selector.volume_name.clone(), selector.path.clone());
    let Some(file) = files.get(&place) else {
        return Err(EnvError::NoVolume(selector.volume_name.clone()));
    };
    if key.len() > MAX_FILE_KEY_BYTES {
        return Err(EnvError::FileKeyTooLong(key.clone()));
    }
    let file = file.as_ref().map_err(Clone::clone)?;
    let value = env_file::value(&file.bytes, key).map_err(|_| EnvError::File)?;
    if value.len() > MAX_FILE_VALUE_BYTES {
        return Err(EnvError::FileValueTooLong(key.clone()));
    }
    if !value.is_empty() {
        return Ok(Some(value));
    }
    if selector.optional == Some(true) {
        return Ok(None);
    }
    Err(EnvError::NoFileKey {
        key: key.clone(),
        file: file.path.clone(),
    })
}

/// The files that the container's variables come from, by volume and path.
pub fn files_of(container: &Container) -> impl Iterator<Item = (&str, &str)> {
    container
        .env
        .iter()
        .flatten()
        .filter_map(|variable| variable.value_from.as_ref()?.file_key_ref.as_ref())
        .map(|file| (file.volume_name.as_str(), file.path.as_str()))
}

/// Whether a variable of the container is one of these fields of the pod.
pub fn asks_for(container: &Container, fields: &[&str]) -> bool {
    container
        .env
        .iter()
        .flatten()
        .filter_map(|variable| variable.value_from.as_ref()?.field_ref.as_ref())
        .any(|field| fields.contains(&field.field_path.as_str()))
}

/// A field of the pod, as the downward API names it in variables (SPEC-31).
fn field_value(
    pod: &Pod,
    field: &ObjectFieldSelector,
    facts: &EnvFacts,
) -> Result<String, EnvError> {
    let pod_spec = spec::spec(pod);
    Ok(match field.field_path.as_str() {
        "spec.nodeName" => pod_spec.node_name.clone().unwrap_or_default(),
        "spec.serviceAccountName" => pod_spec.service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => facts.host_ips.first().cloned().ok_or(EnvError::NoHostIp)?,
        "status.hostIPs" if facts.host_ips.is_empty() => return Err(EnvError::NoHostIp),
        "status.hostIPs" => facts.host_ips.join(","),
        "status.podIP" => facts.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => facts.pod_ips.join(","),
        path => object_field(pod, path)?,
    })
}

/// Replaces `$(NAME)` by the variable's value; `$$` is a dollar sign, and what names no variable
/// stays as it is (SPEC-30). Once it is longer than [`MAX_BYTES`] it grows no more, and is of no use.
pub fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    // Looked for once, not again at each dollar.
    let last_end = text.rfind(')').map_or(0, |at| text.len() - at);
    while let Some(dollar) = rest.find('$').filter(|_| expanded.len() <= MAX_BYTES) {
        expanded.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) = rest
            .strip_prefix('(')
            .filter(|inner| last_end > 0 && inner.len() >= last_end)
            .and_then(|inner| inner.split_once(')'))
        {
            if let Some(value) = variables.get(name) {
                expanded.push_str(value);
            } else {
                expanded.push_str("$(");
                expanded.push_str(name);
                expanded.push(')');
            }
            rest = after;
        } else {
            expanded.push('$');
        }
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests;
