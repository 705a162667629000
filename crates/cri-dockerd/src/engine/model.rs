//! The part of Docker's JSON that we read or write.
//!
//! Reading is lenient: unknown fields are ignored, absent and null mean empty (DKR-05), and no enum
//! can meet a value that it doesn't know. Writing leaves out what is not set, so that Docker's
//! defaults hold.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod create;
mod image;
mod inspect;

pub(crate) use create::*;
pub(crate) use image::*;
pub(crate) use inspect::*;

/// Reads null as the default.
pub(crate) fn null_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// String map as used for labels.
pub(crate) type Labels = BTreeMap<String, String>;

/// A set that Docker writes as an object whose values say nothing, e.g. `{"80/tcp": {}}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KeySet(pub(crate) BTreeSet<String>);

impl KeySet {
    /// Nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for KeySet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            self.0
                .iter()
                .map(|key| (key, BTreeMap::<&str, &str>::new())),
        )
    }
}

impl<'de> Deserialize<'de> for KeySet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = KeySet;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<KeySet, A::Error> {
                let mut keys = BTreeSet::new();
                while let Some((key, IgnoredAny)) = map.next_entry()? {
                    keys.insert(key);
                }
                Ok(KeySet(keys))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// `GET /version`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct SystemVersion {
    /// Engine version, e.g. `20.10.24`.
    pub(crate) version: String,
    /// Newest API.
    pub(crate) api_version: String,
}

/// `GET /info`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct SystemInfo {
    /// The engine's own name, which survives its restarts.
    #[serde(rename = "ID")]
    pub(crate) id: String,
    /// Where Docker keeps its data, as the engine sees it.
    pub(crate) docker_root_dir: String,
    /// `cgroupfs`, `systemd`, `none` or empty.
    pub(crate) cgroup_driver: String,
    /// `1` or `2`; empty before API 1.41.
    pub(crate) cgroup_version: String,
    /// Engine version.
    pub(crate) server_version: String,
    /// `name=seccomp`, `name=apparmor`, ...
    #[serde(deserialize_with = "null_default")]
    pub(crate) security_options: Vec<String>,
    /// OCI runtimes by name.
    #[serde(deserialize_with = "null_default")]
    pub(crate) runtimes: KeySet,
    /// Runtime used when none is asked for.
    pub(crate) default_runtime: String,
    /// Storage driver.
    pub(crate) driver: String,
    /// Pairs of name and value about the storage driver.
    #[serde(deserialize_with = "null_default")]
    pub(crate) driver_status: Vec<Vec<String>>,
    /// Where device descriptions are looked for (CDI); empty where that is off or unknown.
    #[serde(rename = "CDISpecDirs", deserialize_with = "null_default")]
    pub(crate) cdi_spec_dirs: Vec<String>,
    /// Kernel release of the engine's host.
    pub(crate) kernel_version: String,
}

impl SystemInfo {
    /// Images and containers are kept by containerd, not by a storage driver of Docker's (DKR-15).
    pub(crate) fn has_containerd_store(&self) -> bool {
        let mut words = self.driver_status.iter().flatten();
        words.any(|word| word.starts_with("io.containerd.snapshotter"))
    }
}

/// `GET /system/df` of images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct DiskUsage {
    /// Bytes; up to API 1.51.
    pub(crate) layers_size: i64,
    /// From API 1.52 on.
    pub(crate) image_usage: Option<ImageUsage>,
}

/// Room taken by images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ImageUsage {
    /// Bytes.
    pub(crate) total_size: i64,
}
