//! The downward API: fields of a pod and amounts of its containers as text, for variables (SPEC-31) and
//! for files (VOL-31).
//!
//! Source of behaviour: Kubernetes `fieldpath.ExtractFieldPathAsString`, `resource.ExtractContainerResourceValue`.

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use thiserror::Error;

use crate::{
    ids::{PodKey, PodUid},
    quantity::{self, Quantity},
    quote::quote,
    resources, spec,
};

/// What the node has for pods: the limit of a container that has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allocatable {
    /// CPU in thousandths of a core.
    pub cpu_millicores: i64,
    /// Memory in bytes.
    pub memory_bytes: i64,
    /// Disk in bytes.
    pub ephemeral_storage_bytes: i64,
}

impl Allocatable {
    /// The same with the pod's own limits in the place of the node's: what a variable tells of a container
    /// without limits. Files tell the node's (upstream makes this difference).
    #[must_use]
    pub fn within(self, pod: &Pod) -> Self {
        let own = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref());
        let limit = |name: &str| {
            let limit = own?.limits.as_ref()?.get(name).map(quantity::of)?;
            (!limit.is_zero()).then_some(limit)
        };
        Self {
            cpu_millicores: limit("cpu").map_or(self.cpu_millicores, Quantity::milli_value),
            memory_bytes: limit("memory").map_or(self.memory_bytes, Quantity::value),
            ..self
        }
    }
}

/// Something that the downward API does not have. Texts are upstream's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DownwardError {
    /// No such field.
    #[error("unsupported fieldPath: {0}")]
    Field(String),
    /// A field without keys.
    #[error("fieldPath {0:?} does not support subscript")]
    Subscript(String),
    /// No such resource.
    #[error("unsupported container resource : {0}")]
    Resource(String),
    /// No such container.
    #[error("container {0} not found")]
    Container(String),
}

/// A field that the pod's object has: its names, or its labels and annotations, one or all.
///
/// # Errors
/// For any other path.
pub fn object_field(pod: &Pod, path: &str) -> Result<String, DownwardError> {
    let metadata = &pod.metadata;
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => &metadata.labels,
            "metadata.annotations" => &metadata.annotations,
            _ => return Err(DownwardError::Subscript(path.to_owned())),
        };
        let value = map.as_ref().and_then(|map| map.get(key));
        return Ok(value.cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => PodKey::of(pod).name,
        "metadata.namespace" => PodKey::of(pod).namespace,
        "metadata.uid" => PodUid::of(pod).to_string(),
        "metadata.labels" => lines(metadata.labels.as_ref()),
        "metadata.annotations" => lines(metadata.annotations.as_ref()),
        _ => return Err(DownwardError::Field(path.to_owned())),
    })
}

/// `a.b['key']` as its two parts.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, key) = path.strip_suffix("']")?.split_once("['")?;
    (!map.is_empty()).then_some((map, key))
}

/// `key="value"` lines in the order of the keys, without a last line break.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let mut text = String::new();
    for (key, value) in map.into_iter().flatten() {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(key);
        text.push('=');
        text.push_str(&quote(value));
    }
    text
}

/// A request or limit in units of the divisor, rounded up. A limit that is not set is `allocatable`'s.
///
/// `own` is the container that asks; only files have none and must name one.
///
/// Differs: a variable that names an init container without limits tells the node's amount; upstream says 0.
///
/// # Errors
/// When container or resource are not there.
pub fn resource_field(
    pod: &Pod,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
    allocatable: &Allocatable,
) -> Result<String, DownwardError> {
    let named = selector.container_name.as_deref().unwrap_or_default();
    let container = match own {
        Some(own) if named.is_empty() => Cow::Borrowed(own),
        _ => spec::containers(pod)
            .iter()
            .chain(spec::init_containers(pod))
            .find(|container| container.name == named)
            .map(Cow::Borrowed)
            .ok_or_else(|| DownwardError::Container(named.to_owned()))?,
    };
    let unsupported = || DownwardError::Resource(selector.resource.clone());
    let (list, resource) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let given = match list {
        "limits" => resources::limit(&container, resource),
        "requests" => resources::request(&container, resource),
        _ => return Err(unsupported()),
    };
    let given = (!given.is_zero()).then_some(given);
    let otherwise = |allocatable: i64| if list == "limits" { allocatable } else { 0 };
    let divisor = selector.divisor.as_ref().map(quantity::of);
    let bytes = |otherwise: i64| {
        let bytes = given.map_or(otherwise, Quantity::value);
        divide_up(bytes, divisor.map(Quantity::value), 1)
    };
    Ok(match resource {
        "cpu" => {
            let millicores =
                given.map_or(otherwise(allocatable.cpu_millicores), Quantity::milli_value);
            divide_up(millicores, divisor.map(Quantity::milli_value), 1000)
        }
        "memory" => bytes(otherwise(allocatable.memory_bytes)),
        "ephemeral-storage" => bytes(otherwise(allocatable.ephemeral_storage_bytes)),
        // Never overcommitted: what is not asked for is not there.
        _ if resource.starts_with("hugepages-") => bytes(0),
        _ => return Err(unsupported()),
    })
}

fn divide_up(value: i64, divisor: Option<i64>, unit: i64) -> String {
    let divisor = divisor.filter(|divisor| *divisor > 0).unwrap_or(unit);
    let whole = value / divisor + i64::from(value % divisor != 0);
    whole.to_string()
}

#[cfg(test)]
mod tests;
