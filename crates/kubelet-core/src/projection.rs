//! Content of volumes that the kubelet writes: downward API, ConfigMaps, Secrets, and several of them in one
//! (VOL-30 to VOL-32). What the files are to be; who writes them is decided elsewhere.
//!
//! Differs (VOL-33): upstream refuses every projected volume without an API server, also one that needs none.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, Pod, ProjectedVolumeSource, Volume, VolumeProjection,
};
use thiserror::Error;

use crate::downward::{Allocatable, DownwardError, object_field, resource_field};

/// Longest path in bytes (VOL-55).
const MAX_PATH_BYTES: usize = 4096;
/// Longest name in bytes (VOL-55).
const MAX_NAME_BYTES: usize = 255;
/// Mode of files where defaulting was left out.
const FILE_MODE: i32 = 0o644;

/// A file to be.
#[derive(Clone, PartialEq, Eq)]
pub struct ProjectedFile {
    /// Its bytes.
    pub data: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
}

/// What is in it may be a secret.
impl fmt::Debug for ProjectedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProjectedFile")
            .field("bytes", &self.data.len())
            .field("mode", &format_args!("{:o}", self.mode))
            .finish()
    }
}

/// Files by path: relative, plain, as [`clean_path`] leaves them.
pub type Payload = BTreeMap<String, ProjectedFile>;

/// The objects of the pod's namespace.
pub trait Objects {
    /// The data of a ConfigMap; `None` when there is no such object.
    fn config_map(&self, name: &str) -> Option<BTreeMap<String, Vec<u8>>>;
    /// The data of a Secret; `None` when there is no such object.
    fn secret(&self, name: &str) -> Option<BTreeMap<String, Vec<u8>>>;
}

/// Why a volume has no content. Texts are upstream's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProjectionError {
    /// Not in the downward API.
    #[error(transparent)]
    Downward(#[from] DownwardError),
    /// No such object.
    #[error("{kind} {name:?} not found")]
    NoObject {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// No such key in it.
    #[error("{0}")]
    NoKey(String),
    /// A path that cannot be in a volume.
    #[error("invalid path: {0}")]
    Path(String),
    /// A source that only an API server has.
    #[error(
        "cannot setup projected volume {volume} because kube client is not configured: {what} comes from the API server"
    )]
    NeedsServer {
        /// The volume.
        volume: String,
        /// The source.
        what: &'static str,
    },
    /// All that is wrong.
    #[error("[{}]", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Several(Vec<ProjectionError>),
}

/// What kind of content a volume has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentKind {
    /// `downwardAPI`.
    DownwardApi,
    /// `configMap`.
    ConfigMap,
    /// `secret`.
    Secret,
    /// `projected`.
    Projected,
}

impl ContentKind {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::DownwardApi,
        Self::ConfigMap,
        Self::Secret,
        Self::Projected,
    ];

    /// The kind of a volume, if it is one of these.
    pub fn of(volume: &Volume) -> Option<Self> {
        if volume.downward_api.is_some() {
            Some(Self::DownwardApi)
        } else if volume.config_map.is_some() {
            Some(Self::ConfigMap)
        } else if volume.secret.is_some() {
            Some(Self::Secret)
        } else if volume.projected.is_some() {
            Some(Self::Projected)
        } else {
            None
        }
    }

    /// The plugin's name, which is part of the path (VOL-03).
    pub const fn plugin(self) -> &'static str {
        match self {
            Self::DownwardApi => "kubernetes.io/downward-api",
            Self::ConfigMap => "kubernetes.io/configmap",
            Self::Secret => "kubernetes.io/secret",
            Self::Projected => "kubernetes.io/projected",
        }
    }

    /// Whether it is kept in memory only (VOL-30 to VOL-32).
    pub const fn in_memory(self) -> bool {
        !matches!(self, Self::ConfigMap)
    }
}

/// The content of a volume; nothing for one of another kind.
///
/// # Errors
/// [`ProjectionError`] with everything that is missing.
pub fn content(
    pod: &Pod,
    volume: &Volume,
    allocatable: &Allocatable,
    objects: &dyn Objects,
) -> Result<Payload, ProjectionError> {
    let mut files = Files::default();
    if let Some(source) = &volume.downward_api {
        let mode = source.default_mode.unwrap_or(FILE_MODE);
        let items = source.items.as_deref().unwrap_or_default();
        files.downward(pod, items, mode, allocatable);
    } else if let Some(source) = &volume.config_map {
        files.object(&Object {
            kind: "configmap",
            name: &source.name,
            data: objects.config_map(&source.name),
            items: source.items.as_deref().unwrap_or_default(),
            mode: source.default_mode.unwrap_or(FILE_MODE),
            optional: source.optional.unwrap_or(false),
        });
    } else if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        files.object(&Object {
            kind: "secret",
            name,
            data: objects.secret(name),
            items: source.items.as_deref().unwrap_or_default(),
            mode: source.default_mode.unwrap_or(FILE_MODE),
            optional: source.optional.unwrap_or(false),
        });
    } else if let Some(source) = &volume.projected {
        files.projected(pod, &volume.name, source, allocatable, objects);
    }
    files.finish()
}

/// An object and what of it is wanted.
struct Object<'a> {
    kind: &'static str,
    name: &'a str,
    data: Option<BTreeMap<String, Vec<u8>>>,
    items: &'a [KeyToPath],
    mode: i32,
    optional: bool,
}

#[derive(Default)]
struct Files {
    payload: Payload,
    errors: Vec<ProjectionError>,
}

impl Files {
    fn finish(mut self) -> Result<Payload, ProjectionError> {
        match self.errors.len() {
            0 => Ok(self.payload),
            1 => Err(self.errors.remove(0)),
            _ => Err(ProjectionError::Several(self.errors)),
        }
    }

    /// Later files replace earlier ones of the same path (VOL-32).
    fn put(&mut self, path: &str, data: Vec<u8>, mode: i32) {
        match clean_path(path) {
            Ok(path) => {
                let mode = u32::try_from(mode).unwrap_or_default() & 0o777;
                self.payload.insert(path, ProjectedFile { data, mode });
            }
            Err(error) => self.errors.push(error),
        }
    }

    fn downward(
        &mut self,
        pod: &Pod,
        items: &[DownwardAPIVolumeFile],
        default_mode: i32,
        allocatable: &Allocatable,
    ) {
        for item in items {
            let text = if let Some(field) = &item.field_ref {
                object_field(pod, &field.field_path)
            } else if let Some(resource) = &item.resource_field_ref {
                resource_field(pod, None, resource, allocatable)
            } else {
                Ok(String::new())
            };
            match text {
                Ok(text) => {
                    let mode = item.mode.unwrap_or(default_mode);
                    self.put(&item.path, text.into_bytes(), mode);
                }
                Err(error) => self.errors.push(error.into()),
            }
        }
    }

    fn object(&mut self, object: &Object<'_>) {
        let empty = BTreeMap::new();
        let data = match &object.data {
            Some(data) => data,
            None if object.optional => &empty,
            None => {
                return self.errors.push(ProjectionError::NoObject {
                    kind: object.kind,
                    name: object.name.to_owned(),
                });
            }
        };
        if object.items.is_empty() {
            for (key, value) in data {
                self.put(key, value.clone(), object.mode);
            }
        }
        for item in object.items {
            match data.get(&item.key) {
                Some(value) => {
                    let mode = item.mode.unwrap_or(object.mode);
                    self.put(&item.path, value.clone(), mode);
                }
                None if object.optional => {}
                None => {
                    let text = match object.kind {
                        "secret" => "references non-existent secret key",
                        _ => "configmap references non-existent config key",
                    };
                    let text = format!("{text}: {}", item.key);
                    self.errors.push(ProjectionError::NoKey(text));
                }
            }
        }
    }

    fn projected(
        &mut self,
        pod: &Pod,
        volume: &str,
        source: &ProjectedVolumeSource,
        allocatable: &Allocatable,
        objects: &dyn Objects,
    ) {
        let mode = source.default_mode.unwrap_or(FILE_MODE);
        for source in source.sources.iter().flatten() {
            if let Some(secret) = &source.secret {
                self.object(&Object {
                    kind: "secret",
                    name: &secret.name,
                    data: objects.secret(&secret.name),
                    items: secret.items.as_deref().unwrap_or_default(),
                    mode,
                    optional: secret.optional.unwrap_or(false),
                });
            } else if let Some(map) = &source.config_map {
                self.object(&Object {
                    kind: "configmap",
                    name: &map.name,
                    data: objects.config_map(&map.name),
                    items: map.items.as_deref().unwrap_or_default(),
                    mode,
                    optional: map.optional.unwrap_or(false),
                });
            } else if let Some(downward) = &source.downward_api {
                let items = downward.items.as_deref().unwrap_or_default();
                self.downward(pod, items, mode, allocatable);
            } else if let Some(what) = of_the_server(source) {
                self.errors.push(ProjectionError::NeedsServer {
                    volume: volume.to_owned(),
                    what,
                });
            }
        }
    }
}

/// The source's name if only an API server has it.
fn of_the_server(source: &VolumeProjection) -> Option<&'static str> {
    if source.service_account_token.is_some() {
        Some("serviceAccountToken")
    } else if source.cluster_trust_bundle.is_some() {
        Some("clusterTrustBundle")
    } else if source.pod_certificate.is_some() {
        Some("podCertificate")
    } else {
        None
    }
}

/// The path without what says nothing (`a//./b` is `a/b`), if it may be in a volume (VOL-55).
///
/// # Errors
/// When it is absolute, leads up, begins with two dots, or is too long.
pub fn clean_path(path: &str) -> Result<String, ProjectionError> {
    let refuse = |text: String| Err(ProjectionError::Path(text));
    if path.is_empty() {
        return refuse("must not be empty: \"\"".to_owned());
    }
    if path.starts_with('/') {
        return refuse(format!("must be relative path: {path}"));
    }
    if path.len() > MAX_PATH_BYTES {
        return refuse(format!(
            "must be less than or equal to {MAX_PATH_BYTES} characters"
        ));
    }
    for name in path.split('/') {
        if name == ".." {
            return refuse(format!("must not contain '..': {path}"));
        }
        if name.len() > MAX_NAME_BYTES {
            return refuse(format!(
                "filenames must be less than or equal to {MAX_NAME_BYTES} characters"
            ));
        }
    }
    let names: Vec<&str> = path
        .split('/')
        .filter(|name| !matches!(*name, "" | "."))
        .collect();
    // Of the cleaned path: "./..data" is the writer's own name too (upstream looks at the text as it is given).
    match names.first() {
        None => refuse(format!("must not be empty: {path:?}")),
        Some(first) if first.starts_with("..") => {
            refuse(format!("must not start with '..': {path}"))
        }
        Some(_) => Ok(names.join("/")),
    }
}

#[cfg(test)]
mod tests;
