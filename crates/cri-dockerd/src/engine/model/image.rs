//! Images.

use serde::{Deserialize, Deserializer};

use super::{KeySet, Labels, null_default};

/// One item of `GET /images/json`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ImageSummary {
    /// Image id `sha256:...`.
    pub(crate) id: String,
    /// Tags.
    #[serde(deserialize_with = "tags")]
    pub(crate) repo_tags: Vec<String>,
    /// Digests.
    #[serde(deserialize_with = "digests")]
    pub(crate) repo_digests: Vec<String>,
    /// Bytes.
    pub(crate) size: i64,
    /// Bytes shared with other images, -1 when not computed.
    pub(crate) shared_size: i64,
    /// Labels.
    #[serde(deserialize_with = "null_default")]
    pub(crate) labels: Labels,
}

/// Names by tag, without `<none>:<none>`, which engines before API 1.43 say instead of none (IMG-03).
///
/// Differs (IMG-03): an image that was pulled by digest has no tag with containerd's image store either;
/// upstream passes on Docker's answer, where the name by digest is a tag too.
fn tags<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let mut names: Vec<String> = null_default(deserializer)?;
    names.retain(|name| name != "<none>:<none>" && !name.contains('@'));
    Ok(names)
}

/// Names by digest, without `<none>@<none>`, as [`tags`].
fn digests<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let mut names: Vec<String> = null_default(deserializer)?;
    names.retain(|name| name != "<none>@<none>");
    Ok(names)
}

/// One thing that `DELETE /images/{ref}` did.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ImageRemoval {
    /// The image or layer that is gone, with all its names; empty where a name was taken off.
    pub(crate) deleted: String,
}

/// `GET /images/{ref}/json`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ImageInspect {
    /// Image id `sha256:...`.
    pub(crate) id: String,
    /// Tags.
    #[serde(deserialize_with = "tags")]
    pub(crate) repo_tags: Vec<String>,
    /// Digests.
    #[serde(deserialize_with = "digests")]
    pub(crate) repo_digests: Vec<String>,
    /// Bytes.
    pub(crate) size: i64,
    /// Creation time; may be empty since API 1.44.
    #[serde(deserialize_with = "null_default")]
    pub(crate) created: String,
    /// Author.
    pub(crate) author: String,
    /// Architecture.
    pub(crate) architecture: String,
    /// Operating system.
    pub(crate) os: String,
    /// Settings for containers; `None` when the image has none.
    pub(crate) config: Option<ImageConfig>,
    /// Layers.
    #[serde(rename = "RootFS", deserialize_with = "null_default")]
    pub(crate) root_fs: RootFs,
}

/// Settings of an image.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ImageConfig {
    /// `user`, `uid`, `user:group`, ... or empty.
    pub(crate) user: String,
    /// Environment.
    #[serde(deserialize_with = "null_default")]
    pub(crate) env: Vec<String>,
    /// Entrypoint.
    #[serde(deserialize_with = "null_default")]
    pub(crate) entrypoint: Vec<String>,
    /// Command.
    #[serde(deserialize_with = "null_default")]
    pub(crate) cmd: Vec<String>,
    /// Labels.
    #[serde(deserialize_with = "null_default")]
    pub(crate) labels: Labels,
    /// Working directory.
    pub(crate) working_dir: String,
    /// Stop signal.
    pub(crate) stop_signal: String,
    /// Ports, as `80/tcp`.
    #[serde(deserialize_with = "null_default")]
    pub(crate) exposed_ports: KeySet,
    /// Volumes.
    #[serde(deserialize_with = "null_default")]
    pub(crate) volumes: KeySet,
}

/// Layers of an image.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct RootFs {
    /// `layers`.
    #[serde(rename = "Type")]
    pub(crate) kind: String,
    /// Diff ids, lowest first.
    #[serde(deserialize_with = "null_default")]
    pub(crate) layers: Vec<String>,
}

/// One layer of `GET /images/{ref}/history`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ImageHistory {
    /// Seconds since 1970.
    pub(crate) created: i64,
    /// Command.
    pub(crate) created_by: String,
    /// Comment.
    pub(crate) comment: String,
    /// Bytes; 0 for layers without content.
    pub(crate) size: i64,
}
