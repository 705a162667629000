//! Taking volumes down, from what is on disk and in the mount table alone (VOL-04, VOL-05).
//!
//! Everything is unmounted before anything is deleted, and nothing is deleted while something that is not ours
//! is mounted in the pod's directory. Deleting enters neither links nor mounts (`node_os::tree`).

use std::{fs, io, path::Path};

use kubelet_core::projection::ContentKind;
use node_os::mounts::Unmount;

use super::{VolumeError, VolumesConfig, empty_dir, sub_path};
use crate::pod_dirs;

/// The plugins whose volumes are ours to delete.
fn own_plugins() -> impl Iterator<Item = &'static str> {
    let content = ContentKind::ALL.into_iter().map(ContentKind::plugin);
    std::iter::once(empty_dir::PLUGIN).chain(content)
}

pub(super) fn tear_down(config: &VolumesConfig, uid: &str) -> Result<(), VolumeError> {
    pod_dirs::check_name("pod uid", uid)?;
    let dirs = &config.dirs;
    // As the mount table shows it, should the root directory lead through a link.
    let pod = match fs::canonicalize(dirs.pod(uid)) {
        Ok(pod) => pod,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(pod_dirs::io_error("find", &dirs.pod(uid))(error).into()),
    };
    let dirs = dirs.moved_to(&pod);
    let subpaths = dirs.subpaths(uid);
    // The marks go first: a volume half removed is not taken for a ready one (see `empty_dir`).
    remove_tree(&dirs.notes_of(uid, empty_dir::PLUGIN))?;
    // A container may have left mounts of its own in an `emptyDir` (Bidirectional propagation):
    // unmounting deletes nothing.
    config.mounts.unmount_below(&subpaths, Unmount::Strict)?;
    let own: Vec<_> = own_plugins()
        .map(|plugin| dirs.volumes_of(uid, plugin))
        .collect();
    for volumes in &own {
        config.mounts.unmount_below(volumes, Unmount::Strict)?;
    }
    let left = config
        .mounts
        .list()?
        .into_iter()
        .find(|mount| mount.mount_point.starts_with(&pod));
    if let Some(mount) = left {
        return Err(VolumeError::StillMounted {
            path: mount.mount_point,
        });
    }
    remove_places(&subpaths)?;
    own.iter().try_for_each(|volumes| remove_tree(volumes))
}

/// Removes a tree of our own, which has no mount in it.
fn remove_tree(path: &Path) -> Result<(), VolumeError> {
    node_os::tree::remove_tree(path).map_err(|source| VolumeError::Remove {
        path: path.to_owned(),
        source,
    })
}

/// Removes `volume-subpaths/<volume>/<container>/<index>`: places only, never what is in them.
fn remove_places(subpaths: &Path) -> Result<(), VolumeError> {
    fn level(path: &Path, below: u32) -> Result<(), VolumeError> {
        if below > 0 && path.is_dir() {
            for name in pod_dirs::entries(path)? {
                level(&path.join(name), below - 1)?;
            }
        }
        sub_path::remove_place(path).map_err(|source| VolumeError::RemovePlace {
            path: path.to_owned(),
            source,
        })
    }
    level(subpaths, 3)
}
