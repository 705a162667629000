//! A container's environment, and `$(NAME)` in its command line (kubelet SPEC-30, SPEC-31).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, EnvVar, ObjectFieldSelector, Pod, ResourceFieldSelector,
};
use thiserror::Error;

use crate::{
    ids::{PodKey, PodUid},
    quantity, spec,
};

/// What variables may speak of beside the pod itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EnvFacts {
    /// Addresses of the pod, primary first.
    pub pod_ips: Vec<String>,
    /// Addresses of the node, primary first.
    pub host_ips: Vec<String>,
    /// CPU that the node has for pods, in thousandths of a core: the limit of who has none.
    pub allocatable_cpu_millicores: i64,
    /// Memory that the node has for pods, in bytes.
    pub allocatable_memory_bytes: i64,
    /// Disk that the node has for pods, in bytes.
    pub allocatable_ephemeral_storage_bytes: i64,
}

/// A variable that has no value: the container waits with `CreateContainerConfigError`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EnvError {
    /// Only the API server could tell.
    #[error("{kind} {name:?} not found: this node runs without a control plane")]
    NoObject {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// The object's name.
        name: String,
    },
    /// A path that the downward API does not have.
    #[error("env {variable}: unsupported fieldPath: {path}")]
    FieldPath {
        /// The variable.
        variable: String,
        /// The path.
        path: String,
    },
    /// A resource that no container has.
    #[error("env {variable}: unsupported container resource: {resource}")]
    Resource {
        /// The variable.
        variable: String,
        /// The resource.
        resource: String,
    },
    /// `resourceFieldRef` of a container that is not in the pod.
    #[error("env {variable}: container {container:?} not found")]
    Container {
        /// The variable.
        variable: String,
        /// The container.
        container: String,
    },
    /// A source that is not acted on yet.
    #[error("env {variable}: {source_kind} is not supported yet")]
    NotSupported {
        /// The variable.
        variable: String,
        /// The source's field name.
        source_kind: &'static str,
    },
}

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
    for variable in container.env.iter().flatten() {
        if let Some(value) = value_of(pod, container, variable, &variables, facts, objects)? {
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
    let Some(source) = &variable.value_from else {
        return Ok(Some(expand(
            variable.value.as_deref().unwrap_or_default(),
            before,
        )));
    };
    if let Some(field) = &source.field_ref {
        return field_value(pod, field, facts)
            .map(Some)
            .ok_or_else(|| EnvError::FieldPath {
                variable: variable.name.clone(),
                path: field.field_path.clone(),
            });
    }
    if let Some(resource) = &source.resource_field_ref {
        return resource_value(pod, container, resource, facts, &variable.name).map(Some);
    }
    let (kind, name, key, optional, data) = if let Some(reference) = &source.config_map_key_ref {
        let data = objects.config_map(&reference.name);
        (
            "configmap",
            &reference.name,
            &reference.key,
            reference.optional,
            data,
        )
    } else if let Some(reference) = &source.secret_key_ref {
        let data = objects.secret(&reference.name);
        (
            "secret",
            &reference.name,
            &reference.key,
            reference.optional,
            data,
        )
    } else {
        return Err(EnvError::NotSupported {
            variable: variable.name.clone(),
            source_kind: "valueFrom without a known source",
        });
    };
    match data.and_then(|mut data| data.remove(key)) {
        Some(value) => Ok(Some(value)),
        None if optional == Some(true) => Ok(None),
        None => Err(EnvError::NoObject {
            kind,
            name: name.clone(),
        }),
    }
}

/// A field of the pod, as the downward API names it. `None`: there is no such field.
pub fn field_value(pod: &Pod, field: &ObjectFieldSelector, facts: &EnvFacts) -> Option<String> {
    let path = field.field_path.as_str();
    let metadata = &pod.metadata;
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => &metadata.labels,
            "metadata.annotations" => &metadata.annotations,
            _ => return None,
        };
        return Some(
            map.as_ref()
                .and_then(|map| map.get(key))
                .cloned()
                .unwrap_or_default(),
        );
    }
    let pod_spec = spec::spec(pod);
    Some(match path {
        "metadata.name" => PodKey::of(pod).name,
        "metadata.namespace" => PodKey::of(pod).namespace,
        "metadata.uid" => PodUid::of(pod).to_string(),
        "spec.nodeName" => pod_spec.node_name.clone().unwrap_or_default(),
        "spec.serviceAccountName" => pod_spec.service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => facts.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => facts.host_ips.join(","),
        "status.podIP" => facts.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => facts.pod_ips.join(","),
        _ => return None,
    })
}

/// `a.b['key']` as its two parts.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// A request or limit in units of the divisor, rounded up.
fn resource_value(
    pod: &Pod,
    container: &Container,
    selector: &ResourceFieldSelector,
    facts: &EnvFacts,
    variable: &str,
) -> Result<String, EnvError> {
    let named = selector
        .container_name
        .as_deref()
        .filter(|name| !name.is_empty());
    let found = match named {
        None => Some(std::borrow::Cow::Borrowed(container)),
        Some(name) => spec::find_container(pod, &name.into()).map(|(_, container)| container),
    };
    let Some(target) = found else {
        return Err(EnvError::Container {
            variable: variable.to_owned(),
            container: named.unwrap_or_default().to_owned(),
        });
    };
    let unsupported = || EnvError::Resource {
        variable: variable.to_owned(),
        resource: selector.resource.clone(),
    };
    let (kind, resource) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let resources = target.resources.as_ref();
    let list = match kind {
        "limits" => resources.and_then(|resources| resources.limits.as_ref()),
        "requests" => resources.and_then(|resources| resources.requests.as_ref()),
        _ => return Err(unsupported()),
    };
    let given = list
        .and_then(|list| list.get(resource))
        .and_then(|q| quantity::parse(&q.0).ok());
    let divisor = selector
        .divisor
        .as_ref()
        .and_then(|q| quantity::parse(&q.0).ok());
    let is_limit = kind == "limits";
    match resource {
        "cpu" => {
            let millicores = match &given {
                Some(quantity) => quantity.milli_value(),
                None if is_limit => facts.allocatable_cpu_millicores,
                None => 0,
            };
            Ok(divide_up(
                millicores,
                divisor.as_ref().map(|divisor| divisor.milli_value()),
                1000,
            ))
        }
        "memory" | "ephemeral-storage" => {
            let allocatable = if resource == "memory" {
                facts.allocatable_memory_bytes
            } else {
                facts.allocatable_ephemeral_storage_bytes
            };
            let bytes = match &given {
                Some(quantity) => quantity.value(),
                None if is_limit => allocatable,
                None => 0,
            };
            Ok(divide_up(
                bytes,
                divisor.as_ref().map(|divisor| divisor.value()),
                1,
            ))
        }
        _ if resource.starts_with("hugepages-") => {
            let bytes = given.as_ref().map_or(0, |amount| amount.value());
            Ok(divide_up(
                bytes,
                divisor.as_ref().map(|divisor| divisor.value()),
                1,
            ))
        }
        _ => Err(unsupported()),
    }
}

fn divide_up(value: i64, divisor: Option<i64>, unit: i64) -> String {
    let divisor = divisor.filter(|divisor| *divisor > 0).unwrap_or(unit);
    let whole = value / divisor + i64::from(value % divisor != 0);
    whole.to_string()
}

/// Replaces `$(NAME)` by the variable's value; `$$` is a dollar sign, and what names no variable
/// stays as it is (SPEC-30).
pub fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) = rest
            .strip_prefix('(')
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
