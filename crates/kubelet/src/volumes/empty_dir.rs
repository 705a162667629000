//! `emptyDir`: a directory, or a tmpfs, that lives as long as its pod (VOL-10, VOL-11).
//!
//! A set-up volume has the mark `plugins/kubernetes.io~empty-dir/<volume>/ready` (VOL-03). The mark
//! comes last and goes first, so a volume that a crash left half made or half removed has none.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use node_os::{
    mountinfo,
    mounts::{MountError, Mounts, TmpfsOptions},
    tree::{self, TreeError},
};

use crate::pod_dirs::{self, PodDirError, PodDirs};

/// The plugin's name, which is part of the path.
pub(super) const PLUGIN: &str = "kubernetes.io/empty-dir";
/// Anybody may write: containers run as any user (VOL-10).
const MODE: u32 = 0o777;

/// An `emptyDir` could not be set up or taken down.
#[derive(Debug, thiserror::Error)]
pub(super) enum EmptyDirError {
    #[error(transparent)]
    Directory(#[from] PodDirError),
    #[error("change mode of {path}")]
    Mode {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(
        "emptyDir with medium Memory: mounts made by this kubelet do not reach the container \
         engine; run the kubelet on the host, or give its root directory shared propagation"
    )]
    NotVisible,
    #[error("give {path} to group {gid}")]
    Group {
        path: PathBuf,
        gid: u32,
        #[source]
        source: TreeError,
    },
    #[error("mark {path} ready")]
    Mark {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// What an `emptyDir` is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted<'a> {
    pub(super) uid: &'a str,
    pub(super) volume: &'a str,
    pub(super) fs_group: Option<u32>,
    /// A tmpfs; `None` for a plain directory.
    pub(super) tmpfs: Option<TmpfsOptions>,
}

/// Makes the volume unless it is there and returns its path.
pub(super) fn set_up(
    dirs: &PodDirs,
    mounts: &dyn Mounts,
    wanted: &Wanted<'_>,
) -> Result<PathBuf, EmptyDirError> {
    pod_dirs::check_name("volume", wanted.volume)?;
    let path = dirs.volumes_of(wanted.uid, PLUGIN).join(wanted.volume);
    let mark = dirs.notes_of(wanted.uid, PLUGIN).join(wanted.volume);
    let mounted = wanted.tmpfs.is_some() && is_tmpfs(mounts, &path)?;
    let there = if wanted.tmpfs.is_some() {
        mounted
    } else {
        path.is_dir()
    };
    if there && mark.join("ready").exists() {
        return Ok(path);
    }
    pod_dirs::ensure_directory(&path, MODE)?;
    set_mode(&path)?;
    if let Some(options) = wanted.tmpfs.as_ref().filter(|_| !mounted) {
        mounts.tmpfs(&path, options)?;
    }
    if let Some(gid) = wanted.fs_group {
        tree::change_group(&path, gid).map_err(|source| EmptyDirError::Group {
            path: path.clone(),
            gid,
            source,
        })?;
    }
    pod_dirs::ensure_directory(&mark, 0o750)?;
    fs::write(mark.join("ready"), "")
        .map_err(|source| EmptyDirError::Mark { path: mark, source })?;
    Ok(path)
}

/// A directory that was there before keeps its mode when made again; this one must be right.
fn set_mode(path: &Path) -> Result<(), EmptyDirError> {
    let set = || {
        if fs::symlink_metadata(path)?.permissions().mode() & 0o777 != MODE {
            fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
        }
        Ok(())
    };
    set().map_err(|source| EmptyDirError::Mode {
        path: path.to_owned(),
        source,
    })
}

fn is_tmpfs(mounts: &dyn Mounts, path: &Path) -> Result<bool, EmptyDirError> {
    // The table shows real paths.
    let Ok(path) = fs::canonicalize(path) else {
        return Ok(false);
    };
    let list = mounts.list()?;
    Ok(mountinfo::mount_at(&list, &path).is_some_and(|mount| mount.fs_type == "tmpfs"))
}
