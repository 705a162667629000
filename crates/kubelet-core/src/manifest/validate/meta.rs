//! Metadata: names, labels, annotations, owners, finalizers, and annotations with a meaning.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSpec, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::super::field::{Errors, Path};
use super::{names, scheduling, text};

const ANNOTATIONS_MAX: usize = 256 << 10;
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
/// Prefix of a container's seccomp profile, once set by annotation.
pub(super) const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
/// Prefix of a container's AppArmor profile, once set by annotation.
pub(super) const APPARMOR_CONTAINER: &str = "container.apparmor.security.beta.kubernetes.io/";

type Strings = BTreeMap<String, String>;

pub(super) fn metadata(meta: &ObjectMeta, path: &Path, errors: &mut Errors) {
    let generate_name = text(&meta.generate_name);
    if !generate_name.is_empty() {
        let masked = match generate_name.strip_suffix('-') {
            Some(rest) if !rest.is_empty() => format!("{}a", &rest[..rest.len() - last_len(rest)]),
            _ => generate_name.to_owned(),
        };
        let wrong = names::dns_subdomain(&masked);
        errors.each(&path.child("generateName"), generate_name, wrong);
    }
    match text(&meta.name) {
        "" => errors.required(&path.child("name"), "name or generateName is required"),
        name => errors.each(&path.child("name"), name, names::dns_subdomain(name)),
    }
    match text(&meta.namespace) {
        "" => errors.required(&path.child("namespace"), ""),
        namespace => {
            errors.each(
                &path.child("namespace"),
                namespace,
                names::dns_label(namespace),
            );
        }
    }
    uid(text(&meta.uid), &path.child("uid"), errors);
    super::not_negative(
        meta.generation.unwrap_or_default(),
        &path.child("generation"),
        errors,
    );
    labels(meta.labels.as_ref(), &path.child("labels"), errors);
    annotations(
        meta.annotations.as_ref(),
        &path.child("annotations"),
        errors,
    );
    owners(
        meta.owner_references.as_deref(),
        &path.child("ownerReferences"),
        errors,
    );
    finalizers(
        meta.finalizers.as_deref(),
        &path.child("finalizers"),
        errors,
    );
}

fn last_len(text: &str) -> usize {
    text.chars().next_back().map_or(0, char::len_utf8)
}

/// Differs: upstream takes any uid; it names a directory and a cgroup, so it must be a plain path element (SRC-31).
fn uid(uid: &str, path: &Path, errors: &mut Errors) {
    if matches!(uid, "." | "..") || uid.contains(['/', '\0']) || uid.chars().any(char::is_control) {
        errors.invalid(
            path,
            uid,
            "must be a valid path element: no '/', no control characters, not '.' or '..'",
        );
    } else if uid.len() > 253 {
        errors.too_long(path, 253);
    }
}

pub(super) fn labels(labels: Option<&Strings>, path: &Path, errors: &mut Errors) {
    for (key, value) in labels.into_iter().flatten() {
        errors.each(path, key.as_str(), names::qualified(key));
        errors.each(path, value.as_str(), names::label_value(value));
    }
}

fn annotations(annotations: Option<&Strings>, path: &Path, errors: &mut Errors) {
    let mut size = 0;
    for (key, value) in annotations.into_iter().flatten() {
        errors.each(path, key.as_str(), names::qualified(&key.to_lowercase()));
        size += key.len() + value.len();
    }
    if size > ANNOTATIONS_MAX {
        errors.too_long(path, ANNOTATIONS_MAX);
    }
}

fn owners(owners: Option<&[OwnerReference]>, path: &Path, errors: &mut Errors) {
    let owners = owners.unwrap_or_default();
    let mut controller: Option<String> = None;
    for owner in owners {
        let version = owner.api_version.rsplit('/').next().unwrap_or_default();
        if version.is_empty() {
            let detail = "version must not be empty";
            errors.invalid(
                &path.child("apiVersion"),
                owner.api_version.as_str(),
                detail,
            );
        }
        let parts = [
            ("kind", &owner.kind),
            ("name", &owner.name),
            ("uid", &owner.uid),
        ];
        for (name, _) in parts.iter().filter(|(_, value)| value.is_empty()) {
            errors.invalid(&path.child(name), "", "must not be empty");
        }
        if (owner.api_version.as_str(), owner.kind.as_str()) == ("v1", "Event") {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.invalid(path, super::json(owner), detail);
        }
        if owner.controller == Some(true) {
            let this = format!("{}/{}", owner.kind, owner.name);
            match &controller {
                None => controller = Some(this),
                Some(first) => errors.invalid(
                    path,
                    super::json(&owners),
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in \
                         references for {first} and {this}"
                    ),
                ),
            }
        }
    }
}

fn finalizers(finalizers: Option<&[String]>, path: &Path, errors: &mut Errors) {
    let finalizers = finalizers.unwrap_or_default();
    for finalizer in finalizers {
        errors.each(path, finalizer.as_str(), names::qualified(finalizer));
    }
    let has = |name: &str| finalizers.iter().any(|finalizer| finalizer == name);
    if has("orphan") && has("foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.invalid(path, super::json(&finalizers), detail);
    }
    for (index, finalizer) in finalizers.iter().enumerate() {
        let standard = matches!(
            finalizer.as_str(),
            "kubernetes" | "orphan" | "foregroundDeletion"
        );
        if !finalizer.contains('/') && !standard {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.invalid(&path.index(index), finalizer.as_str(), detail);
        }
    }
}

/// Annotations that Kubernetes itself reads.
pub(super) fn pod_annotations(
    annotations: &Strings,
    spec: &PodSpec,
    path: &Path,
    errors: &mut Errors,
) {
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
            if !super::container_names(spec).any(|container| container == name) {
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
        Some(file) => super::descending_path(file, path, errors),
        None if matches!(profile, "runtime/default" | "docker/default" | "unconfined") => {}
        None => errors.invalid(path, profile, "must be a valid seccomp profile"),
    }
}

/// The value of the pod's seccomp annotation.
pub(super) fn seccomp_pod(annotations: &Strings) -> Option<&String> {
    annotations.get(SECCOMP_POD)
}
