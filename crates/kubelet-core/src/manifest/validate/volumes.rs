//! Volumes: one source each, per-type rules.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, HostPathVolumeSource, ISCSIVolumeSource, KeyToPath,
    ProjectedVolumeSource, Volume, VolumeProjection,
};
use serde_json::Value;

use super::super::field::{Errors, Path};
use super::values::{descending_path, json, local_path, no_backsteps, pull_policy, text};
use super::{env, names, remote};
use crate::quantity;

const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const ONE_TYPE: &str = "may not specify more than 1 volume type";

/// The sources in the order in which upstream looks at them, with the fields that each needs.
const SOURCES: [(&str, &[&str]); 30] = [
    ("emptyDir", &[]),
    ("hostPath", &[]),
    ("gitRepo", &["repository"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("secret", &["secretName"]),
    ("nfs", &["server", "path"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("glusterfs", &["endpoints", "path"]),
    ("flocker", &[]),
    ("persistentVolumeClaim", &["claimName"]),
    ("rbd", &["monitors", "image"]),
    ("cinder", &["volumeID"]),
    ("cephfs", &["monitors"]),
    ("quobyte", &[]),
    ("downwardAPI", &[]),
    ("fc", &[]),
    ("flexVolume", &["driver"]),
    ("configMap", &["name"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("storageos", &["volumeName"]),
    ("projected", &[]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("csi", &["driver"]),
    ("ephemeral", &["volumeClaimTemplate"]),
    ("image", &[]),
];

/// The volumes that containers may mount, by name: only those without an error of their own.
pub(super) type Known<'a> = BTreeMap<&'a str, &'a Volume>;

pub(super) fn volumes<'a>(volumes: &'a [Volume], path: &Path, errors: &mut Errors) -> Known<'a> {
    let mut known = Known::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        let before = errors.len();
        source(volume, &path, errors);
        let name_path = path.child("name");
        match volume.name.as_str() {
            "" => errors.required(&name_path, ""),
            name => errors.each(&name_path, name, names::dns_label(name)),
        }
        if known.contains_key(volume.name.as_str()) {
            errors.duplicate(&name_path, volume.name.as_str());
        }
        if errors.len() == before {
            known.insert(&volume.name, volume);
        }
    }
    known
}

fn source(volume: &Volume, path: &Path, errors: &mut Errors) {
    let json = json(volume);
    let mut found = false;
    for (name, needed) in SOURCES {
        let Some(source) = json.get(name) else {
            continue;
        };
        // Some have other names in errors, depending on what is wrong.
        let (refused, shown) = match name {
            "cephfs" => ("cephFS", name),
            "downwardAPI" => ("downwarAPI", name),
            "gcePersistentDisk" => (name, "persistentDisk"),
            _ => (name, name),
        };
        if std::mem::replace(&mut found, true) {
            errors.forbidden(&path.child(refused), ONE_TYPE);
            if let ("iscsi", Some(source)) = (name, &volume.iscsi) {
                iscsi_portal(source, volume, path, errors);
            }
            continue;
        }
        for field in needed {
            if is_empty(source.get(field)) {
                errors.required(&path.child(shown).child(field), "");
            }
        }
        rules(name, volume, path, errors);
        remote::rules(volume, name, &path.child(shown), errors);
        let secret = match name {
            "cinder" | "storageos" => "secretRef",
            "csi" => "nodePublishSecretRef",
            _ => "",
        };
        if let Some(secret_ref) = source.get(secret)
            && is_empty(secret_ref.get("name"))
        {
            let path = path.child(name).child(secret).child("name");
            errors.required(&path, "");
        }
    }
    if !found {
        errors.required(path, "must specify a volume type");
    }
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(_) => false,
    }
}

/// What a type asks for beyond its needed fields.
fn rules(name: &str, volume: &Volume, volume_path: &Path, errors: &mut Errors) {
    let path = &volume_path.child(name);
    if let ("emptyDir", Some(source)) = (name, &volume.empty_dir)
        && source
            .size_limit
            .as_ref()
            .is_some_and(|limit| quantity::of(limit).is_negative())
    {
        let detail = "SizeLimit field must be a valid resource quantity";
        errors.forbidden(&path.child("sizeLimit"), detail);
    }
    match name {
        "hostPath" => volume
            .host_path
            .iter()
            .for_each(|source| host_path(source, path, errors)),
        "gitRepo" => volume.git_repo.iter().for_each(|source| {
            descending_path(text(&source.directory), &path.child("directory"), errors);
        }),
        "nfs" => volume.nfs.iter().for_each(|source| {
            if !source.path.starts_with('/') {
                let detail = "must be an absolute path";
                errors.invalid(&path.child("path"), source.path.as_str(), detail);
            }
        }),
        "iscsi" => volume.iscsi.iter().for_each(|source| {
            iscsi(source, volume, volume_path, errors);
        }),
        "secret" => volume.secret.iter().for_each(|source| {
            mode(source.default_mode, &path.child("defaultMode"), errors);
            keys(source.items.as_deref(), &path.child("items"), errors);
        }),
        "configMap" => volume.config_map.iter().for_each(|source| {
            mode(source.default_mode, &path.child("defaultMode"), errors);
            keys(source.items.as_deref(), &path.child("items"), errors);
        }),
        "downwardAPI" => volume.downward_api.iter().for_each(|source| {
            mode(source.default_mode, &path.child("defaultMode"), errors);
            source
                .items
                .iter()
                .flatten()
                .for_each(|file| downward_file(file, path, errors));
        }),
        "projected" => volume
            .projected
            .iter()
            .for_each(|source| projected(source, path, errors)),
        "fc" => volume
            .fc
            .iter()
            .for_each(|source| fibre_channel(source, path, errors)),
        "csi" => volume.csi.iter().for_each(|source| {
            let driver = source.driver.as_str();
            if driver.len() > 63 {
                errors.too_long(&path.child("driver"), 63);
            }
            let wrong = names::dns_subdomain(&driver.to_lowercase());
            errors.each(&path.child("driver"), driver, wrong);
        }),
        // Without a reference it is refused when a container mounts it: only the API server asks for one
        // (`ResourceIsPod`).
        "image" => volume.image.iter().for_each(|source| {
            let policy = text(&source.pull_policy);
            pull_policy(policy, &path.child("pullPolicy"), errors);
        }),
        _ => {}
    }
}

fn host_path(source: &HostPathVolumeSource, path: &Path, errors: &mut Errors) {
    const TYPES: [&str; 8] = [
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    if source.path.is_empty() {
        return errors.required(&path.child("path"), "");
    }
    no_backsteps(&source.path, &path.child("path"), errors);
    let kind = text(&source.type_);
    if !TYPES.contains(&kind) {
        errors.not_supported(&path.child("type"), kind, &TYPES);
    }
}

fn fibre_channel(
    source: &k8s_openapi::api::core::v1::FCVolumeSource,
    path: &Path,
    errors: &mut Errors,
) {
    let targets = source.target_wwns.as_deref().unwrap_or_default();
    let ids = source.wwids.as_deref().unwrap_or_default();
    let targets_path = path.child("targetWWNs");
    match (targets.is_empty(), ids.is_empty()) {
        (true, true) => {
            errors.required(
                &targets_path,
                "must specify either targetWWNs or wwids, but not both",
            );
        }
        (false, false) => {
            let detail = "targetWWNs and wwids can not be specified simultaneously";
            errors.invalid(&targets_path, targets.to_vec(), detail);
        }
        _ => {}
    }
    if !targets.is_empty() {
        match source.lun {
            None => {
                errors.required(
                    &path.child("lun"),
                    "lun is required if targetWWNs is specified",
                );
            }
            Some(lun) => {
                errors.each(
                    &path.child("lun"),
                    lun,
                    names::out_of_range(lun.into(), 0, 255),
                );
            }
        }
    }
}

fn iscsi(source: &ISCSIVolumeSource, volume: &Volume, volume_path: &Path, errors: &mut Errors) {
    let path = &volume_path.child("iscsi");
    let mut name = |value: &str, path: &Path| {
        let known = ["iqn", "eui", "naa"]
            .iter()
            .any(|prefix| value.starts_with(prefix));
        if !known {
            let detail = "must be valid format starting with iqn, eui, or naa";
            errors.invalid(path, value, detail);
        } else if !is_iscsi_name(value) {
            errors.invalid(path, value, "must be valid format");
        }
    };
    if !source.iqn.is_empty() {
        name(&source.iqn, &path.child("iqn"));
    }
    if let Some(initiator) = &source.initiator_name {
        name(initiator, &path.child("initiatorname"));
    }
    errors.each(
        &path.child("lun"),
        source.lun,
        names::out_of_range(source.lun.into(), 0, 255),
    );
    let chap = source.chap_auth_discovery == Some(true) || source.chap_auth_session == Some(true);
    if chap && source.secret_ref.is_none() {
        errors.required(&path.child("secretRef"), "");
    }
    iscsi_portal(source, volume, volume_path, errors);
}

/// Looked at even where another source makes this one one too many.
fn iscsi_portal(
    source: &ISCSIVolumeSource,
    volume: &Volume,
    volume_path: &Path,
    errors: &mut Errors,
) {
    if source.initiator_name.is_some() && volume.name.len() + 1 + source.target_portal.len() > 64 {
        let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 \
                      characters if iscsi.initiatorName is specified.";
        errors.invalid(&volume_path.child("name"), volume.name.as_str(), detail);
    }
}

/// `iqn.2001-04.com.example:disk`, `eui.` and 16, `naa.` and 32 letters or digits.
fn is_iscsi_name(name: &str) -> bool {
    let (kind, rest) = name.split_at_checked(4).unwrap_or((name, ""));
    let alphanumeric =
        |length| rest.len() == length && rest.bytes().all(|b| b.is_ascii_alphanumeric());
    match kind {
        "eui." => alphanumeric(16),
        "naa." => alphanumeric(32),
        "iqn." => {
            let Some((authority, target)) = rest.split_once(':') else {
                return false;
            };
            let digits = |text: &str, length| {
                text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit())
            };
            let mut parts = authority.splitn(2, '.');
            let date = parts.next().and_then(|date| date.split_once('-'));
            let named = parts.next().unwrap_or_default();
            date.is_some_and(|(year, month)| digits(year, 4) && digits(month, 2))
                && !named.is_empty()
                && named
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
                && !target.is_empty()
                && !target.contains(|c: char| ",;*&$|".contains(c) || c.is_whitespace())
        }
        _ => false,
    }
}

fn mode(mode: Option<i32>, path: &Path, errors: &mut Errors) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        errors.invalid(path, mode, FILE_MODE);
    }
}

fn keys(items: Option<&[KeyToPath]>, path: &Path, errors: &mut Errors) {
    for (index, item) in items.unwrap_or_default().iter().enumerate() {
        let path = path.index(index);
        if item.key.is_empty() {
            errors.required(&path.child("key"), "");
        }
        if item.path.is_empty() {
            errors.required(&path.child("path"), "");
        }
        local_path(&item.path, &path.child("path"), errors);
        mode(item.mode, &path.child("mode"), errors);
    }
}

fn downward_file(file: &DownwardAPIVolumeFile, path: &Path, errors: &mut Errors) {
    if file.path.is_empty() {
        errors.required(&path.child("path"), "");
    }
    local_path(&file.path, &path.child("path"), errors);
    match (&file.field_ref, &file.resource_field_ref) {
        (Some(field), resource) => {
            env::field_selector(field, &env::FILE_FIELDS, &path.child("fieldRef"), errors);
            if resource.is_some() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.invalid(path, "resource", detail);
            }
        }
        (None, Some(resource)) => {
            env::resource_selector(resource, true, &path.child("resourceFieldRef"), errors);
        }
        (None, None) => errors.required(path, "one of fieldRef and resourceFieldRef is required"),
    }
    mode(file.mode, &path.child("mode"), errors);
}

fn projected(source: &ProjectedVolumeSource, path: &Path, errors: &mut Errors) {
    mode(source.default_mode, &path.child("defaultMode"), errors);
    let mut paths = BTreeSet::new();
    for (index, source) in source.sources.iter().flatten().enumerate() {
        let at = path.child("sources").index(index);
        let kinds = projection(source, &at, path, errors);
        if kinds > 1 {
            let detail = "may not specify more than 1 volume type per source";
            errors.forbidden(&at, detail);
        }
        for (file, shown) in projected_paths(source) {
            if !file.is_empty() && !paths.insert(file) {
                errors.invalid(path, shown, "conflicting duplicate paths");
            }
        }
    }
}

/// The files of a source, each with what upstream shows when it collides.
fn projected_paths(source: &VolumeProjection) -> Vec<(&str, &str)> {
    let mut files = Vec::new();
    if let Some(secret) = &source.secret {
        let items = secret.items.iter().flatten();
        files.extend(items.map(|item| (item.path.as_str(), secret.name.as_str())));
    }
    if let Some(map) = &source.config_map {
        let items = map.items.iter().flatten();
        files.extend(items.map(|item| (item.path.as_str(), map.name.as_str())));
    }
    if let Some(api) = &source.downward_api {
        let items = api.items.iter().flatten();
        files.extend(items.map(|item| (item.path.as_str(), item.path.as_str())));
    }
    files
}

/// Checks one source of a projected volume and returns how many it really is.
fn projection(source: &VolumeProjection, at: &Path, path: &Path, errors: &mut Errors) -> usize {
    let mut kinds = 0;
    if let Some(secret) = &source.secret {
        kinds += 1;
        let at = at.child("secret");
        if secret.name.is_empty() {
            errors.required(&at.child("name"), "");
        }
        keys(secret.items.as_deref(), &at.child("items"), errors);
    }
    if let Some(map) = &source.config_map {
        kinds += 1;
        let at = at.child("configMap");
        if map.name.is_empty() {
            errors.required(&at.child("name"), "");
        }
        keys(map.items.as_deref(), &at.child("items"), errors);
    }
    if let Some(api) = &source.downward_api {
        kinds += 1;
        let at = at.child("downwardAPI");
        api.items
            .iter()
            .flatten()
            .for_each(|file| downward_file(file, &at, errors));
    }
    if let Some(token) = &source.service_account_token {
        kinds += 1;
        let expiry = token.expiration_seconds.unwrap_or_default();
        let expiry_path = at.child("serviceAccountToken").child("expirationSeconds");
        if expiry < 600 {
            let detail = "may not specify a duration less than 10 minutes";
            errors.invalid(&expiry_path, expiry, detail);
        }
        if expiry > 1 << 32 {
            let detail = "may not specify a duration larger than 2^32 seconds";
            errors.invalid(&expiry_path, expiry, detail);
        }
        match token.path.as_str() {
            "" => errors.required(&path.child("path"), ""),
            token => local_path(token, &path.child("path"), errors),
        }
    }
    // Both are refused to static pods; their own rules wait for a source that may have them.
    kinds += usize::from(source.cluster_trust_bundle.is_some());
    kinds += usize::from(source.pod_certificate.is_some());
    kinds
}
