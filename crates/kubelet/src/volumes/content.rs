//! Volumes whose content the kubelet writes: `downwardAPI`, `configMap`, `secret`, `projected` (VOL-30 to VOL-32).
//!
//! Below is an `emptyDir`, in memory but for `configMap`; the content changes at once (see [`atomic_writer`]), at
//! each pass of the pod (VOL-50).

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{Container, Pod};
use kubelet_core::{
    projection::{ContentKind, Payload},
    spec,
};

use super::{
    atomic_writer::{self, WriteError},
    config::VolumesConfig,
    empty_dir::{self, Backing, EmptyDirError},
};

/// A volume's content could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum ContentError {
    #[error(transparent)]
    EmptyDir(#[from] EmptyDirError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("unable to create nested volume mountpoints: make directory {path}")]
    Nested {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// What a volume is to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) kind: ContentKind,
    pub(super) payload: Payload,
    /// Places of other volumes in it, as [`nested_mount_points`] finds them.
    pub(super) nested: Vec<String>,
}

/// Makes the volume and brings its content up to date; returns its path.
pub(super) fn set_up(
    config: &VolumesConfig,
    uid: &str,
    volume: &str,
    content: &Content,
    fs_group: Option<u32>,
    backing: Backing,
) -> Result<PathBuf, ContentError> {
    let wanted = empty_dir::Wanted {
        uid,
        plugin: content.kind.plugin(),
        volume,
        mark: format!("wrapped_{volume}"),
        fs_group,
        backing,
    };
    let path = empty_dir::set_up(&config.dirs, &*config.mounts, &wanted)?;
    for place in &content.nested {
        make_place(&path.join(place))?;
    }
    atomic_writer::write(&path, &content.payload, fs_group)?;
    Ok(path)
}

fn make_place(path: &Path) -> Result<(), ContentError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(|source| ContentError::Nested {
            path: path.to_owned(),
            source,
        })
}

/// Where other volumes are mounted within the mounts of this one, relative to it: the kernel needs a directory
/// there, and the volume is read-only (VOL-06). Of places within each other only the outermost.
///
/// Source of behaviour: Kubernetes `getNestedMountpoints`.
pub(super) fn nested_mount_points(pod: &Pod, volume: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut look = |container: &Container| {
        let mounts = container.volume_mounts.as_deref().unwrap_or_default();
        let places: BTreeSet<String> = mounts
            .iter()
            .map(|mount| clean(&mount.mount_path))
            .collect();
        let own = mounts.iter().filter(|mount| mount.name == volume);
        for own in own.map(|mount| format!("{}/", clean(&mount.mount_path))) {
            let mut outer: Vec<String> = Vec::new();
            for place in &places {
                let Some(inside) = place.strip_prefix(&own) else {
                    continue;
                };
                if !outer.iter().any(|outer| place.starts_with(outer)) {
                    outer.push(format!("{place}/"));
                    found.push(inside.to_owned());
                }
            }
        }
    };
    spec::containers(pod).iter().for_each(&mut look);
    spec::init_containers(pod).iter().for_each(&mut look);
    for ephemeral in spec::ephemeral_containers(pod) {
        look(&spec::ephemeral_as_container(ephemeral));
    }
    found
}

/// By text alone; what leads up and out is no place in a volume.
fn clean(path: &str) -> String {
    let rooted = format!("/{path}");
    path_clean::clean(rooted).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{PodSpec, VolumeMount};

    use super::*;

    #[test]
    fn vol_06_outermost_places_of_other_volumes_are_made() {
        let mount = |name: &str, path: &str| VolumeMount {
            name: name.into(),
            mount_path: path.into(),
            ..VolumeMount::default()
        };
        let pod = Pod {
            spec: Some(PodSpec {
                containers: vec![Container {
                    volume_mounts: Some(vec![
                        mount("v", "/dir"),
                        mount("a", "/dir/nested"),
                        mount("b", "/dir/nested-vol"),
                        mount("c", "/dir/nested/double"),
                        mount("d", "/dir2/x"),
                        mount("e", "dir//./deep/er/"),
                        mount("f", "/dir/../../dir/up"),
                    ]),
                    ..Container::default()
                }],
                ..PodSpec::default()
            }),
            ..Pod::default()
        };
        assert_eq!(
            nested_mount_points(&pod, "v"),
            ["deep/er", "nested", "nested-vol", "up"]
        );
        assert_eq!(nested_mount_points(&pod, "a"), ["double"]);
        assert!(nested_mount_points(&pod, "d").is_empty());
    }
}
