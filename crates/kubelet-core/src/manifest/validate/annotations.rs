//! Annotations that Kubernetes itself reads.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSpec, Toleration};

use super::super::field::{Errors, Path};
use super::scheduling;
use super::values::{container_names, descending_path, text};

const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
/// Prefix of a container's seccomp profile, once set by annotation.
pub(super) const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
/// Prefix of a container's AppArmor profile, once set by annotation.
pub(super) const APPARMOR_CONTAINER: &str = "container.apparmor.security.beta.kubernetes.io/";

type Strings = BTreeMap<String, String>;

/// Those of a pod.
pub(super) fn annotations(annotations: &Strings, spec: &PodSpec, path: &Path, errors: &mut Errors) {
    const MIRROR: &str = "kubernetes.io/config.mirror";
    const TOLERATIONS: &str = "scheduler.alpha.kubernetes.io/tolerations";
    const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
    if let Some(value) = annotations.get(MIRROR)
        && text(&spec.node_name).is_empty()
    {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.invalid(&path.key(MIRROR), value.as_str(), detail);
    }
    if let Some(value) = annotations
        .get(TOLERATIONS)
        .filter(|value| !value.is_empty())
    {
        match serde_json::from_str::<Vec<Toleration>>(value) {
            Ok(list) => scheduling::tolerations(&list, &path.child(TOLERATIONS), errors),
            Err(error) => errors.invalid(path, TOLERATIONS, error.to_string()),
        }
    }
    if let Some(value) = annotations.get(DELETION_COST) {
        let first = value.bytes().next().unwrap_or_default();
        let fits = (first == b'-' || (b'1'..=b'9').contains(&first) || value == "0")
            && value.parse::<i32>().is_ok();
        if !fits {
            errors.invalid(
                &path.key(DELETION_COST),
                value.as_str(),
                "must be a 32bit integer",
            );
        }
    }
    if let Some(profile) = annotations.get(SECCOMP_POD) {
        seccomp_profile(profile, &path.child(SECCOMP_POD), errors);
    }
    for (key, profile) in annotations {
        if key.starts_with(SECCOMP_CONTAINER) {
            seccomp_profile(profile, &path.child(key), errors);
        }
        if let Some(name) = key.strip_prefix(APPARMOR_CONTAINER) {
            if !container_names(spec).any(|container| container == name) {
                errors.invalid(&path.key(key), name, "container not found");
            }
            let known = matches!(profile.as_str(), "" | "runtime/default" | "unconfined");
            if !known && !profile.starts_with("localhost/") {
                let detail = format!("invalid AppArmor profile name: {profile:?}");
                errors.invalid(&path.key(key), profile.as_str(), detail);
            }
        }
    }
}

fn seccomp_profile(profile: &str, path: &Path, errors: &mut Errors) {
    match profile.strip_prefix("localhost/") {
        Some(file) => descending_path(file, path, errors),
        None if matches!(profile, "runtime/default" | "docker/default" | "unconfined") => {}
        None => errors.invalid(path, profile, "must be a valid seccomp profile"),
    }
}

/// The value of the pod's seccomp annotation.
pub(super) fn seccomp_pod(annotations: &Strings) -> Option<&String> {
    annotations.get(SECCOMP_POD)
}
