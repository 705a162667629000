//! Environment of containers.

use k8s_openapi::api::core::v1::{
    EnvFromSource, EnvVar, EnvVarSource, ObjectFieldSelector, ResourceFieldSelector,
};

use super::super::field::{Errors, Path};
use super::names;
use super::values::{no_backsteps, text};
use crate::quantity;

/// Fields of a pod that a variable may show.
const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Fields of a pod that a file may show.
pub(super) const FILE_FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// Fields that selectors know at all.
const FIELDS: [&str; 15] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.host",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.phase",
    "status.podIP",
    "status.podIPs",
];

const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

const SIZES: [&str; 13] = [
    "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
];

pub(super) fn variables(vars: &[EnvVar], path: &Path, errors: &mut Errors) {
    for (index, var) in vars.iter().enumerate() {
        let path = path.index(index);
        match var.name.as_str() {
            "" => errors.required(&path.child("name"), ""),
            name => errors.each(&path.child("name"), name, names::env_name(name)),
        }
        if let Some(source) = &var.value_from {
            let has_value = !text(&var.value).is_empty();
            value_from(source, has_value, &path.child("valueFrom"), errors);
        }
    }
}

fn value_from(source: &EnvVarSource, has_value: bool, path: &Path, errors: &mut Errors) {
    let mut sources = 0;
    if let Some(field) = &source.field_ref {
        sources += 1;
        field_selector(field, &ENV_FIELDS, &path.child("fieldRef"), errors);
    }
    if let Some(resource) = &source.resource_field_ref {
        sources += 1;
        resource_selector(resource, false, &path.child("resourceFieldRef"), errors);
    }
    if let Some(key) = &source.config_map_key_ref {
        sources += 1;
        object_key(&key.name, &key.key, &path.child("configMapKeyRef"), errors);
    }
    if let Some(key) = &source.secret_key_ref {
        sources += 1;
        object_key(&key.name, &key.key, &path.child("secretKeyRef"), errors);
    }
    if let Some(file) = &source.file_key_ref {
        sources += 1;
        let path = path.child("fileKeyRef");
        match file.key.as_str() {
            "" => errors.required(&path.child("key"), ""),
            key => errors.each(&path.child("key"), key, names::relaxed_env_name(key)),
        }
        match file.volume_name.as_str() {
            "" => errors.required(&path.child("volumeName"), ""),
            name => errors.each(&path.child("volumeName"), name, names::dns_label(name)),
        }
        match file.path.as_str() {
            "" => errors.required(&path.child("path"), ""),
            file => no_backsteps(file, &path.child("path"), errors),
        }
    }
    if sources == 0 {
        let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or \
                      `secretKeyRef`";
        errors.invalid(path, "", detail);
    } else if has_value {
        errors.invalid(path, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        errors.invalid(
            path,
            "",
            "may not have more than one field specified at a time",
        );
    }
}

fn object_key(name: &str, key: &str, path: &Path, errors: &mut Errors) {
    errors.each(&path.child("name"), name, names::dns_subdomain(name));
    match key {
        "" => errors.required(&path.child("key"), ""),
        key => errors.each(&path.child("key"), key, names::config_key(key)),
    }
}

pub(super) fn sources(sources: &[EnvFromSource], path: &Path, errors: &mut Errors) {
    for (index, source) in sources.iter().enumerate() {
        let at = path.index(index);
        let prefix = text(&source.prefix);
        if !prefix.is_empty() {
            errors.each(&at.child("prefix"), prefix, names::env_name(prefix));
        }
        let config_map = source
            .config_map_ref
            .as_ref()
            .map(|source| ("configMapRef", &source.name));
        let secret = source
            .secret_ref
            .as_ref()
            .map(|source| ("secretRef", &source.name));
        for (kind, name) in config_map.into_iter().chain(secret) {
            let path = at.child(kind).child("name");
            match name.as_str() {
                "" => errors.required(&path, ""),
                name => errors.each(&path, name, names::dns_subdomain(name)),
            }
        }
        match (config_map, secret) {
            (None, None) => {
                errors.invalid(
                    path,
                    "",
                    "must specify one of: `configMapRef` or `secretRef`",
                );
            }
            (Some(_), Some(_)) => {
                errors.invalid(
                    path,
                    "",
                    "may not have more than one field specified at a time",
                );
            }
            _ => {}
        }
    }
}

/// A field of the pod, for a variable or a file.
pub(super) fn field_selector(
    selector: &ObjectFieldSelector,
    allowed: &[&str],
    path: &Path,
    errors: &mut Errors,
) {
    let version = text(&selector.api_version);
    if version.is_empty() {
        return errors.required(&path.child("apiVersion"), "");
    }
    let field = selector.field_path.as_str();
    let field_path = path.child("fieldPath");
    if field.is_empty() {
        return errors.required(&field_path, "");
    }
    let subscript = field
        .strip_suffix("']")
        .and_then(|rest| rest.split_once("['"));
    let subscript = subscript.filter(|(name, _)| !name.is_empty());
    let problem = match subscript {
        _ if version != "v1" => Some(format!("unsupported pod version: {version}")),
        Some(("metadata.annotations" | "metadata.labels", _)) => None,
        Some(_) => Some(format!("field label does not support subscript: {field}")),
        None if FIELDS.contains(&field) => None,
        None => Some(format!("field label not supported: {field}")),
    };
    if let Some(problem) = problem {
        return errors.invalid(
            &field_path,
            field,
            format!("error converting fieldPath: {problem}"),
        );
    }
    match subscript {
        Some(("metadata.annotations", key)) => {
            let key = key.to_lowercase();
            errors.each(path, key.as_str(), names::qualified(&key));
        }
        Some((_, key)) => errors.each(path, key, names::qualified(key)),
        None => {
            let field = if field == "spec.host" {
                "spec.nodeName"
            } else {
                field
            };
            if !allowed.contains(&field) {
                errors.not_supported(&field_path, field, allowed);
            }
        }
    }
}

/// A request or limit of a container, for a variable or a file (which has to name the container).
pub(super) fn resource_selector(
    selector: &ResourceFieldSelector,
    in_volume: bool,
    path: &Path,
    errors: &mut Errors,
) {
    let resource = selector.resource.as_str();
    let pages =
        resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
    if in_volume && text(&selector.container_name).is_empty() {
        errors.required(&path.child("containerName"), "");
    } else if resource.is_empty() {
        errors.required(&path.child("resource"), "");
    } else if !RESOURCES.contains(&resource) && !pages {
        errors.not_supported(&path.child("resource"), resource, &RESOURCES);
    }
    let Some(divisor) = selector.divisor.as_ref().map(|divisor| divisor.0.as_str()) else {
        return;
    };
    if quantity::parse(divisor).is_ok_and(quantity::Quantity::is_zero) {
        return;
    }
    let wrong = match resource.split_once('.').map(|(_, name)| name) {
        Some("cpu") if !matches!(divisor, "1m" | "1") => {
            Some("1m and 1 are supported with the cpu resource")
        }
        Some("memory") if !SIZES.contains(&divisor) => Some(
            "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the \
             memory resource",
        ),
        Some("ephemeral-storage") if !SIZES.contains(&divisor) => Some(
            "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the local \
             ephemeral storage resource",
        ),
        Some(_) if pages && !SIZES.contains(&divisor) => Some(
            "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the \
             hugepages resource",
        ),
        _ => None,
    };
    if let Some(wrong) = wrong {
        let detail = format!("only divisor's values {wrong}");
        errors.invalid(&path.child("divisor"), resource, detail);
    }
}
