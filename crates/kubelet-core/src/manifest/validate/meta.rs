//! Metadata: names, labels, annotations, owners, finalizers.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    ManagedFieldsEntry, ObjectMeta, OwnerReference,
};

use crate::quote::is_printable;

use super::super::field::{Errors, Path};
use super::names;
use super::values::{json, not_negative, text};

const ANNOTATIONS_MAX: usize = 256 << 10;
const MANAGER_MAX: usize = 128;
const SUBRESOURCE_MAX: usize = 256;
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
    not_negative(
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
    let managed = meta.managed_fields.as_deref().unwrap_or_default();
    managed_fields(managed, &path.child("managedFields"), errors);
    standard_finalizers(
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
            errors.invalid(path, json(owner), detail);
        }
        if owner.controller == Some(true) {
            let this = format!("{}/{}", owner.kind, owner.name);
            match &controller {
                None => controller = Some(this),
                Some(first) => errors.invalid(
                    path,
                    json(&owners),
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in \
                         references for {first} and {this}"
                    ),
                ),
            }
        }
    }
}

/// Who set which fields, as `kubectl get --show-managed-fields` writes it.
fn managed_fields(entries: &[ManagedFieldsEntry], path: &Path, errors: &mut Errors) {
    for (index, entry) in entries.iter().enumerate() {
        let path = path.index(index);
        let operation = text(&entry.operation);
        if !matches!(operation, "Apply" | "Update") {
            let detail = "must be `Apply` or `Update`";
            errors.invalid(&path.child("operation"), operation, detail);
        }
        let kind = text(&entry.fields_type);
        if !matches!(kind, "" | "FieldsV1") {
            errors.invalid(&path.child("fieldsType"), kind, "must be `FieldsV1`");
        }
        let (manager, at) = (text(&entry.manager), path.child("manager"));
        if manager.len() > MANAGER_MAX {
            errors.too_long(&at, MANAGER_MAX);
        }
        for (index, c) in manager.char_indices().filter(|(_, c)| !is_printable(*c)) {
            let number = u32::from(c);
            let detail = format!("invalid character U+{number:04X} (at position {index})");
            errors.invalid(&at, manager, detail);
        }
        if text(&entry.subresource).len() > SUBRESOURCE_MAX {
            errors.too_long(&path.child("subresource"), SUBRESOURCE_MAX);
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
        errors.invalid(path, json(&finalizers), detail);
    }
}

/// What the core group asks beyond (`ValidateObjectMeta` of `pkg/apis/core/validation`).
fn standard_finalizers(finalizers: Option<&[String]>, path: &Path, errors: &mut Errors) {
    for (index, finalizer) in finalizers.unwrap_or_default().iter().enumerate() {
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
