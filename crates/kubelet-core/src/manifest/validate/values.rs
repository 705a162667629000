//! Rules for single values that several parts of a pod share.

use k8s_openapi::api::core::v1::{Container, PodSpec};
use serde::Serialize;
use serde_json::Value;

use super::super::field::{Errors, Path};

pub(super) const NEGATIVE: &str = "must be greater than or equal to 0";
pub(super) const NOT_POSITIVE: &str = "must be greater than zero";

/// All containers with their paths, in the order in which upstream visits them.
pub(super) fn all_containers<'a>(
    spec: &'a PodSpec,
    path: &Path,
) -> impl Iterator<Item = (&'a Container, Path)> {
    let (init_path, path) = (path.child("initContainers"), path.child("containers"));
    let init = spec.init_containers.iter().flatten().enumerate();
    let init = init.map(move |(index, container)| (container, init_path.index(index)));
    let rest = spec.containers.iter().enumerate();
    init.chain(rest.map(move |(index, container)| (container, path.index(index))))
}

pub(super) fn container_names(spec: &PodSpec) -> impl Iterator<Item = &str> {
    let containers = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    containers
        .map(|container| container.name.as_str())
        .chain(ephemeral.map(|c| c.name.as_str()))
}

#[expect(
    clippy::ref_option,
    reason = "called on fields, of which it is the plain reading"
)]
pub(super) fn text(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or_default()
}

pub(super) fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Empty is "required", anything but these "unsupported".
pub(super) fn one_of(value: &str, allowed: &[&str], path: &Path, errors: &mut Errors) {
    if value.is_empty() {
        errors.required(path, "");
    } else if !allowed.contains(&value) {
        errors.not_supported(path, value, allowed);
    }
}

pub(super) fn not_negative(value: i64, path: &Path, errors: &mut Errors) {
    if value < 0 {
        errors.invalid(path, value, NEGATIVE);
    }
}

/// Relative, and never up.
pub(super) fn descending_path(target: &str, path: &Path, errors: &mut Errors) {
    if target.starts_with('/') {
        errors.invalid(path, target, "must be a relative path");
    }
    no_backsteps(target, path, errors);
}

/// Relative, never up, and not one of the names that volumes use themselves (`..data`).
pub(super) fn local_path(target: &str, path: &Path, errors: &mut Errors) {
    descending_path(target, path, errors);
    if target.starts_with("..") && !target.starts_with("../") {
        errors.invalid(path, target, "must not start with '..'");
    }
}

pub(super) fn no_backsteps(target: &str, path: &Path, errors: &mut Errors) {
    if target.split('/').any(|part| part == "..") {
        errors.invalid(path, target, "must not contain '..'");
    }
}

pub(super) fn pull_policy(policy: &str, path: &Path, errors: &mut Errors) {
    one_of(policy, &["Always", "IfNotPresent", "Never"], path, errors);
}
