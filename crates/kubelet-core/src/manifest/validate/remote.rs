//! Volumes of clouds and storage systems that no kubelet mounts any more, and that are checked still.

use k8s_openapi::api::core::v1::{
    AzureDiskVolumeSource, FlexVolumeSource, FlockerVolumeSource, QuobyteVolumeSource,
    StorageOSVolumeSource, Volume,
};

use super::super::field::{Errors, Path};
use super::names;
use super::values::text;

/// What a type asks for beyond its needed fields.
pub(super) fn rules(volume: &Volume, name: &str, path: &Path, errors: &mut Errors) {
    match name {
        "gcePersistentDisk" => volume
            .gce_persistent_disk
            .iter()
            .for_each(|source| partition(source.partition, path, errors)),
        "awsElasticBlockStore" => volume
            .aws_elastic_block_store
            .iter()
            .for_each(|source| partition(source.partition, path, errors)),
        "flocker" => volume
            .flocker
            .iter()
            .for_each(|source| flocker(source, path, errors)),
        "quobyte" => volume
            .quobyte
            .iter()
            .for_each(|source| quobyte(source, path, errors)),
        "flexVolume" => volume
            .flex_volume
            .iter()
            .for_each(|source| flex_volume(source, path, errors)),
        "azureDisk" => volume
            .azure_disk
            .iter()
            .for_each(|source| azure_disk(source, path, errors)),
        "storageos" => volume
            .storageos
            .iter()
            .for_each(|source| storage_os(source, path, errors)),
        _ => {}
    }
}

fn partition(number: Option<i32>, path: &Path, errors: &mut Errors) {
    let number = number.unwrap_or_default();
    if !(0..=255).contains(&number) {
        errors.invalid(&path.child("partition"), number, names::range(1, 255));
    }
}

fn flocker(source: &FlockerVolumeSource, path: &Path, errors: &mut Errors) {
    let (name, uuid) = (text(&source.dataset_name), text(&source.dataset_uuid));
    match (name.is_empty(), uuid.is_empty()) {
        (true, true) => errors.required(path, "one of datasetName and datasetUUID is required"),
        (false, false) => {
            let detail = "datasetName and datasetUUID can not be specified simultaneously";
            errors.invalid(path, "resource", detail);
        }
        _ => {}
    }
    if name.contains('/') {
        errors.invalid(&path.child("datasetName"), name, "must not contain '/'");
    }
}

fn quobyte(source: &QuobyteVolumeSource, path: &Path, errors: &mut Errors) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = source.registry.as_str();
    if registry.is_empty() {
        errors.required(&path.child("registry"), PAIRS);
    } else if text(&source.tenant).len() >= 65 {
        let detail = "must be a UUID and may not exceed a length of 64 characters";
        errors.required(&path.child("tenant"), detail);
    } else {
        for _ in registry.split(',').filter(|pair| !is_host_port(pair)) {
            errors.invalid(&path.child("registry"), registry, PAIRS);
        }
    }
    if source.volume.is_empty() {
        errors.required(&path.child("volume"), "");
    }
}

/// Go's `net.SplitHostPort`.
fn is_host_port(pair: &str) -> bool {
    let (host, rest) = match pair.strip_prefix('[') {
        Some(rest) => match rest.split_once("]:") {
            Some(parts) => parts,
            None => return false,
        },
        None => match pair.split_once(':') {
            Some(parts) => parts,
            None => return false,
        },
    };
    !host.contains(['[', ']']) && !rest.contains([':', '[', ']'])
}

/// Options of Kubernetes itself are not the user's.
fn flex_volume(source: &FlexVolumeSource, path: &Path, errors: &mut Errors) {
    for (key, _) in source.options.iter().flatten() {
        let namespace = key.split_once('/').map_or(&**key, |(first, _)| first);
        let namespace = format!(".{}", namespace.to_lowercase());
        if namespace.ends_with(".kubernetes.io") || namespace.ends_with(".k8s.io") {
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            errors.invalid(&path.child("options").key(key), key.as_str(), detail);
        }
    }
}

fn azure_disk(source: &AzureDiskVolumeSource, path: &Path, errors: &mut Errors) {
    const MODES: [&str; 3] = ["None", "ReadOnly", "ReadWrite"];
    const KINDS: [&str; 3] = ["Dedicated", "Managed", "Shared"];
    const DISK: &str = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/\
                        {disk-id}";
    const BLOB: &str =
        "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
    let chosen = [
        ("cachingMode", &source.caching_mode, MODES),
        ("kind", &source.kind, KINDS),
    ];
    for (name, value, allowed) in chosen {
        if let Some(value) = value.as_deref().filter(|value| !allowed.contains(value)) {
            errors.not_supported(&path.child(name), value, &allowed);
        }
    }
    let uri = source.disk_uri.as_str();
    let (begin, form) = match source.kind.as_deref() {
        None => return,
        Some("Managed") => ("/subscriptions/", DISK),
        Some(_) => ("https://", BLOB),
    };
    if !uri.starts_with(begin) {
        errors.not_supported(&path.child("diskURI"), uri, &[form]);
    }
}

fn storage_os(source: &StorageOSVolumeSource, path: &Path, errors: &mut Errors) {
    for (field, name) in [
        ("volumeName", &source.volume_name),
        ("volumeNamespace", &source.volume_namespace),
    ] {
        let name = text(name);
        if !name.is_empty() {
            errors.each(&path.child(field), name, names::dns_label(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_host_and_port_are_those_of_go() {
        for pair in ["a:1", ":", "a:", ":1", "[::1]:1", "[]:1", "a:http"] {
            assert!(is_host_port(pair), "{pair}");
        }
        for pair in [
            "", "a", "a:1:2", "::1", "[::1]", "[::1", "[::1]1", "[a]:1:2", "a]:1", "[[a]:1",
        ] {
            assert!(!is_host_port(pair), "{pair}");
        }
    }
}
