//! What makes a pod a static pod: name, node, annotations, toleration, uid (SRC-20..31).

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus, Toleration};
use sha2::{Digest, Sha256};

pub use crate::spec::{CONFIG_HASH, CONFIG_MIRROR, CONFIG_SEEN, CONFIG_SOURCE};

/// Where a static pod comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticSource {
    /// The node's name.
    pub node_name: String,
    /// File or URL.
    pub origin: Origin,
    /// When this manifest was first seen; the caller keeps it over re-reads.
    pub first_seen: Timestamp,
}

/// Place of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Path of a file.
    File(String),
    /// Address.
    Url(String),
}

impl Origin {
    /// Value of [`CONFIG_SOURCE`].
    pub fn as_str(&self) -> &'static str {
        match self {
            Origin::File(_) => "file",
            Origin::Url(_) => "http",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(place) | Origin::Url(place) => f.write_str(place),
        }
    }
}

/// Makes a defaulted pod this node's static pod. To be done once: the name gets the node's name behind it.
pub fn apply_static(pod: &mut Pod, source: &StaticSource) {
    let uid = uid(pod, source);
    let meta = &mut pod.metadata;
    let name = meta.name.take().unwrap_or_default();
    meta.name = Some(format!("{name}-{}", source.node_name.to_lowercase()));
    if meta.namespace.as_deref().unwrap_or_default().is_empty() {
        meta.namespace = Some("default".to_owned());
    }
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert(CONFIG_HASH.to_owned(), uid.clone());
    annotations.insert(CONFIG_SOURCE.to_owned(), source.origin.as_str().to_owned());
    annotations.insert(CONFIG_SEEN.to_owned(), source.first_seen.to_string());
    meta.uid = Some(uid);
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(source.node_name.clone());
    if matches!(source.origin, Origin::File(_)) {
        tolerate_no_execute(spec.tolerations.get_or_insert_default());
    }
    // Differs: whatever else `status` held is dropped; upstream overwrites it a moment later.
    pod.status = Some(PodStatus {
        phase: Some("Pending".to_owned()),
        ..PodStatus::default()
    });
}

/// Static pods stay on a node in trouble (SRC-23).
fn tolerate_no_execute(tolerations: &mut Vec<Toleration>) {
    let wanted = Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Toleration::default()
    };
    let is_empty = |text: &Option<String>| text.as_deref().unwrap_or_default().is_empty();
    let same = tolerations.iter_mut().find(|toleration| {
        is_empty(&toleration.key)
            && is_empty(&toleration.value)
            && toleration.operator == wanted.operator
            && toleration.effect == wanted.effect
    });
    match same {
        Some(same) => *same = wanted,
        None => tolerations.push(wanted),
    }
}

/// The pod's uid: as given (SRC-31), else 32 hex digits that depend on the manifest's content and its place.
///
/// Differs: SHA-256 cut to 128 bits over the defaulted pod in JSON, with node and place; upstream takes MD5
/// of a dump of Go structures, which nothing else can reproduce (SRC-30).
pub fn uid(pod: &Pod, source: &StaticSource) -> String {
    if let Some(uid) = pod.metadata.uid.as_deref().filter(|uid| !uid.is_empty()) {
        return uid.to_owned();
    }
    let mut hash = Sha256::new();
    let content = (&pod.metadata, &pod.spec);
    // A pod always has a JSON form; were it ever not so, its Rust form does as well for a hash.
    hash.update(serde_json::to_vec(&content).unwrap_or_else(|_| format!("{content:?}").into()));
    match &source.origin {
        Origin::File(path) => hash.update(format!("host:{}file:{path}", source.node_name)),
        Origin::Url(url) => hash.update(format!("url:{url}")),
    }
    let digest = hash.finalize();
    let half = digest.first_chunk().copied().unwrap_or_default();
    format!("{:032x}", u128::from_be_bytes(half))
}
