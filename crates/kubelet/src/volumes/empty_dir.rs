//! `emptyDir`: a directory, a tmpfs or huge pages, living as long as its pod (VOL-10 to VOL-12). Volumes
//! whose content the kubelet writes are the same below (`wrapped_<volume>`).
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
    tree::{self, GroupAccess, TreeError},
};

use crate::pod_dirs::{self, PodDirError, PodDirs};

/// The plugin's name, which is part of the path.
pub(super) const PLUGIN: &str = "kubernetes.io/empty-dir";
/// Anybody may write: containers run as any user (VOL-10).
const MODE: u32 = 0o777;
/// What the original's `MkdirAll` leaves of it to the directory above, under the usual umask.
const PLUGIN_MODE: u32 = 0o755;

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
        "{what}: mounts made by this kubelet do not reach the container engine; run the kubelet on \
         the host, or give its root directory shared propagation"
    )]
    NotVisible { what: &'static str },
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
    /// The plugin that the volume belongs to.
    pub(super) plugin: &'static str,
    pub(super) volume: &'a str,
    /// Name of its mark.
    pub(super) mark: String,
    pub(super) fs_group: Option<u32>,
    pub(super) backing: Backing,
}

/// What holds the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Backing {
    /// The disk of the root directory.
    Disk,
    /// A tmpfs.
    Memory(TmpfsOptions),
    /// Huge pages of this size in bytes.
    HugePages(u64),
}

impl Backing {
    /// The kernel's name of the file system that is mounted; `None` for a plain directory.
    fn fs_type(&self) -> Option<&'static str> {
        match self {
            Self::Disk => None,
            Self::Memory(_) => Some("tmpfs"),
            Self::HugePages(_) => Some("hugetlbfs"),
        }
    }
}

/// Makes the volume unless it is there and returns its path.
pub(super) fn set_up(
    dirs: &PodDirs,
    mounts: &dyn Mounts,
    wanted: &Wanted<'_>,
) -> Result<PathBuf, EmptyDirError> {
    pod_dirs::check_name("volume", wanted.volume)?;
    let of_plugin = dirs.volumes_of(wanted.uid, wanted.plugin);
    let path = of_plugin.join(wanted.volume);
    let mark = dirs.notes_of(wanted.uid, PLUGIN).join(&wanted.mark);
    let mounted = match wanted.backing.fs_type() {
        Some(fs_type) => is_mounted(mounts, &path, fs_type)?,
        None => false,
    };
    let there = mounted || (wanted.backing == Backing::Disk && path.is_dir());
    if there && mark.join("ready").exists() {
        return Ok(path);
    }
    pod_dirs::ensure_directory(&of_plugin, PLUGIN_MODE)?;
    pod_dirs::ensure_directory(&path, MODE)?;
    set_mode(&path)?;
    match &wanted.backing {
        Backing::Memory(options) if !mounted => mounts.tmpfs(&path, options)?,
        Backing::HugePages(bytes) if !mounted => mounts.hugetlbfs(&path, *bytes)?,
        Backing::Disk | Backing::Memory(_) | Backing::HugePages(_) => {}
    }
    if let Some(gid) = wanted.fs_group {
        let changed = tree::change_group(&path, gid, GroupAccess::ReadWrite);
        let refused = changed.map_err(|source| EmptyDirError::Group {
            path: path.clone(),
            gid,
            source,
        })?;
        super::tell_refusal(refused.as_ref());
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

fn is_mounted(mounts: &dyn Mounts, path: &Path, fs_type: &str) -> Result<bool, EmptyDirError> {
    // The table shows real paths.
    let Ok(path) = fs::canonicalize(path) else {
        return Ok(false);
    };
    let list = mounts.list()?;
    Ok(mountinfo::mount_at(&list, &path).is_some_and(|mount| mount.fs_type == fs_type))
}
