//! Making and removing mounts.

use std::{
    ffi::CString,
    fmt::Write as _,
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, StatVfsMountFlags},
    io::Errno,
    mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive,
        mount_change, mount_remount, unmount,
    },
};

use crate::mountinfo::{self, MountInfo, MountInfoError};

/// What a tmpfs is mounted with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TmpfsOptions {
    /// Largest size in bytes; the kernel's default (half of the memory) when `None`.
    pub size_bytes: Option<u64>,
    /// The mode of its root directory.
    pub mode: u32,
    /// Keeps its pages out of swap; needs kernel 6.4 (see [`Mounts::supports_noswap`]).
    pub swap: Swap,
}

/// Whether the pages of a tmpfs may be swapped out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swap {
    /// They may.
    Allowed,
    /// They may not.
    Forbidden,
}

/// How a mount shares what is mounted below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Both ways, with its peers.
    Shared,
    /// It receives, and gives nothing.
    Slave,
    /// Not at all.
    Private,
}

/// Which mounts below a bind mount's source come along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Only the one the source lies on.
    Single,
    /// All.
    Recursive,
}

/// Whether a mount may be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// As its source.
    ReadWrite,
    /// Never through this mount.
    ReadOnly,
}

/// How to unmount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmount {
    /// Fails while somebody uses it.
    Strict,
    /// Takes it out of sight at once; it ends when its last user is gone.
    Lazy,
}

/// A mount operation failed.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The kernel refused.
    #[error("{operation} {target}")]
    Kernel {
        /// What was tried.
        operation: &'static str,
        /// At which place.
        target: PathBuf,
        /// Why it was refused.
        #[source]
        source: io::Error,
    },
    /// The place could not be made ready or looked at.
    #[error("prepare mount point {0}")]
    Prepare(PathBuf, #[source] io::Error),
    /// The list of mounts could not be read.
    #[error(transparent)]
    List(#[from] MountInfoError),
}

impl MountError {
    /// Whether we lack the right to mount at all (no CAP_SYS_ADMIN), as opposed to a wrong request.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Kernel { source, .. }
            if source.kind() == io::ErrorKind::PermissionDenied)
    }

    /// Whether somebody still uses the mount.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Kernel { source, .. }
            if source.kind() == io::ErrorKind::ResourceBusy)
    }
}

/// The mounts of a mount namespace.
pub trait Mounts: Send + Sync + std::fmt::Debug {
    /// Mounts a new tmpfs over the directory `target`.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn tmpfs(&self, target: &Path, options: &TmpfsOptions) -> Result<(), MountError>;

    /// Mounts huge pages of that size in bytes over the directory `target`.
    ///
    /// # Errors
    /// When the kernel refuses: it has no pages of this size.
    fn hugetlbfs(&self, target: &Path, page_bytes: u64) -> Result<(), MountError>;

    /// Makes `source` visible at `target`, which must be of the same kind (directory or not).
    /// Read-only holds for the topmost mount, not for those that come along from below it.
    ///
    /// # Errors
    /// When the kernel refuses; then nothing stays mounted.
    fn bind(
        &self,
        source: &Path,
        target: &Path,
        depth: Depth,
        access: Access,
    ) -> Result<(), MountError>;

    /// Sets how the mount at `target` (and, recursive, those below) shares its mounts.
    ///
    /// # Errors
    /// When `target` is not a mount point, or the kernel refuses.
    fn set_propagation(
        &self,
        target: &Path,
        propagation: Propagation,
        depth: Depth,
    ) -> Result<(), MountError>;

    /// Removes the topmost mount at `target`; none there is fine.
    ///
    /// # Errors
    /// When it is busy (strict only), or the kernel refuses.
    fn unmount(&self, target: &Path, how: Unmount) -> Result<(), MountError>;

    /// All mounts.
    ///
    /// # Errors
    /// When they cannot be listed.
    fn list(&self) -> Result<Vec<MountInfo>, MountError>;

    /// Whether something is mounted at exactly this place. Symbolic links in `path` are followed.
    ///
    /// # Errors
    /// When the place or the mounts cannot be looked at; a missing place is `false`.
    fn is_mount_point(&self, path: &Path) -> Result<bool, MountError> {
        match fs::canonicalize(path) {
            Ok(real) => Ok(mountinfo::mount_at(&self.list()?, &real).is_some()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            // A dead network file system is mounted and cannot be looked at.
            Err(error) if error.raw_os_error() == Some(Errno::STALE.raw_os_error()) => Ok(true),
            Err(error) => Err(MountError::Prepare(path.to_owned(), error)),
        }
    }

    /// Removes all mounts at and below `directory`, newest first.
    ///
    /// # Errors
    /// The first failure, after trying all.
    fn unmount_below(&self, directory: &Path, how: Unmount) -> Result<(), MountError> {
        let mut outcome = Ok(());
        for mount in self.list()?.iter().rev() {
            if mount.mount_point.starts_with(directory) {
                let result = self.unmount(&mount.mount_point, how);
                outcome = outcome.and(result);
            }
        }
        outcome
    }

    /// Whether a tmpfs can keep its pages out of swap (kernel 6.4, kubelet PROC-37): tried on a
    /// directory made for it below `scratch`.
    ///
    /// # Errors
    /// When the directory cannot be made, or mounting is not allowed at all.
    fn supports_noswap(&self, scratch: &Path) -> Result<bool, MountError> {
        let target = scratch.join(format!(".noswap-probe-{}", std::process::id()));
        let prepare = |error| MountError::Prepare(target.clone(), error);
        // One of the same number, in a container always the first, may have ended in the middle.
        if target.exists() {
            let _ = self.unmount(&target, Unmount::Lazy);
            fs::remove_dir(&target).map_err(prepare)?;
        }
        fs::create_dir(&target).map_err(prepare)?;
        let options = TmpfsOptions {
            size_bytes: None,
            mode: 0o700,
            swap: Swap::Forbidden,
        };
        let tried = self.tmpfs(&target, &options);
        let supported = match &tried {
            Ok(()) => self.unmount(&target, Unmount::Lazy).map(|()| true),
            Err(error) if error.is_denied() => tried.map(|()| false),
            Err(_) => Ok(false),
        };
        fs::remove_dir(&target).map_err(prepare)?;
        supported
    }
}

/// The mounts of the calling thread's namespace.
#[derive(Debug, Clone, Copy, Default)]
pub struct KernelMounts;

impl Mounts for KernelMounts {
    fn tmpfs(&self, target: &Path, options: &TmpfsOptions) -> Result<(), MountError> {
        let data = tmpfs_data(options);
        // Devices, programs and set-uid files may be in it, as in upstream's: what a container may do
        // with them is the runtime's to say.
        mount(
            "tmpfs",
            target,
            "tmpfs",
            MountFlags::empty(),
            Some(data.as_c_str()),
        )
        .map_err(kernel("mount tmpfs at", target))
    }

    fn hugetlbfs(&self, target: &Path, page_bytes: u64) -> Result<(), MountError> {
        let data = CString::new(format!("pagesize={page_bytes}"))
            .expect("numbers and words have no zero byte");
        mount(
            "nodev",
            target,
            "hugetlbfs",
            MountFlags::empty(),
            Some(data.as_c_str()),
        )
        .map_err(kernel("mount hugetlbfs at", target))
    }

    fn bind(
        &self,
        source: &Path,
        target: &Path,
        depth: Depth,
        access: Access,
    ) -> Result<(), MountError> {
        match depth {
            Depth::Single => mount_bind(source, target),
            Depth::Recursive => mount_bind_recursive(source, target),
        }
        .map_err(kernel("bind mount at", target))?;
        if access == Access::ReadOnly {
            // The kernel ignores the flag on the first call, and on the second one takes away what is
            // not named again.
            let kept = restrictions(target).unwrap_or(MountFlags::empty());
            let flags = kept | MountFlags::BIND | MountFlags::RDONLY;
            mount_remount(target, flags, "").map_err(|errno| {
                // Better no mount than a writable one; the first error is the one to report.
                let _ = unmount(target, UnmountFlags::DETACH);
                kernel("make read-only", target)(errno)
            })?;
        }
        Ok(())
    }

    fn set_propagation(
        &self,
        target: &Path,
        propagation: Propagation,
        depth: Depth,
    ) -> Result<(), MountError> {
        let mut flags = match propagation {
            Propagation::Shared => MountPropagationFlags::SHARED,
            Propagation::Slave => MountPropagationFlags::DOWNSTREAM,
            Propagation::Private => MountPropagationFlags::PRIVATE,
        };
        if depth == Depth::Recursive {
            flags |= MountPropagationFlags::REC;
        }
        mount_change(target, flags).map_err(kernel("set propagation of", target))
    }

    fn unmount(&self, target: &Path, how: Unmount) -> Result<(), MountError> {
        let flags = match how {
            Unmount::Strict => UnmountFlags::NOFOLLOW,
            Unmount::Lazy => UnmountFlags::NOFOLLOW | UnmountFlags::DETACH,
        };
        match unmount(target, flags) {
            // Not a mount point, or not there.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
            Err(errno) => Err(kernel("unmount", target)(errno)),
        }
    }

    fn list(&self) -> Result<Vec<MountInfo>, MountError> {
        Ok(mountinfo::read_own()?)
    }
}

/// Makes a directory and its missing parents; the directory itself gets exactly `mode`, whatever
/// the umask, new parents get 0755 at most.
///
/// # Errors
/// When it cannot be made, or something else is in its place.
pub fn make_directory(path: &Path, mode: u32) -> Result<(), MountError> {
    let failed = |error| MountError::Prepare(path.to_owned(), error);
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(parent)
            .map_err(failed)?;
    }
    match fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(error) => return Err(failed(error)),
    }
    rustix::fs::chmod(path, Mode::from_raw_mode(mode)).map_err(|errno| failed(errno.into()))
}

/// The restrictions of the mount at `path`.
fn restrictions(path: &Path) -> Option<MountFlags> {
    let flags = rustix::fs::statvfs(path).ok()?.f_flag;
    let pairs = [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    Some(
        pairs
            .iter()
            .filter(|(has, _)| flags.contains(*has))
            .map(|(_, flag)| *flag)
            .collect(),
    )
}

fn tmpfs_data(options: &TmpfsOptions) -> CString {
    let mut data = format!("mode={:o}", options.mode);
    if let Some(bytes) = options.size_bytes {
        // Zero would mean "no limit" to the kernel. Writing to a string cannot fail.
        let _ = write!(data, ",size={}", bytes.max(1));
    }
    if options.swap == Swap::Forbidden {
        data.push_str(",noswap");
    }
    CString::new(data).expect("numbers and words have no zero byte")
}

fn kernel(operation: &'static str, target: &Path) -> impl FnOnce(Errno) -> MountError {
    let target = target.to_owned();
    move |errno| MountError::Kernel {
        operation,
        target,
        source: errno.into(),
    }
}

#[cfg(test)]
mod tests;
