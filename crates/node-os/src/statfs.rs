//! How full a file system is.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{stat, statvfs};

/// Use of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FsUsage {
    /// Identifies the file system: two paths with one number lie on one.
    pub device: u64,
    /// The device's major number.
    pub major: u32,
    /// The device's minor number.
    pub minor: u32,
    /// Size in bytes.
    pub capacity_bytes: u64,
    /// Bytes that a process without privileges may still write.
    pub available_bytes: u64,
    /// Bytes in use.
    pub used_bytes: u64,
    /// Files and directories it can hold; 0 where there is no such limit.
    pub inodes: u64,
    /// Of these, free.
    pub inodes_free: u64,
}

/// A file system could not be looked at.
#[derive(Debug, thiserror::Error)]
#[error("statfs {path}")]
pub struct StatFsError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Use of the file system that a path lies on. May block for long on a dead network file system.
///
/// # Errors
/// When the path does not exist or cannot be looked at.
pub fn usage(path: &Path) -> Result<FsUsage, StatFsError> {
    let fail = |errno: rustix::io::Errno| StatFsError {
        path: path.to_owned(),
        source: errno.into(),
    };
    let fs = statvfs(path).map_err(fail)?;
    let device = stat(path).map_err(fail)?.st_dev;
    let bytes = |blocks: u64| blocks.saturating_mul(fs.f_frsize);
    Ok(FsUsage {
        device,
        major: rustix::fs::major(device),
        minor: rustix::fs::minor(device),
        capacity_bytes: bytes(fs.f_blocks),
        available_bytes: bytes(fs.f_bavail),
        used_bytes: bytes(fs.f_blocks.saturating_sub(fs.f_bfree)),
        inodes: fs.f_files,
        inodes_free: fs.f_ffree,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_real_file_system_fit_together() {
        let usage = usage(Path::new("/")).unwrap();
        assert!(usage.capacity_bytes >= usage.used_bytes);
        assert!(usage.available_bytes <= usage.capacity_bytes - usage.used_bytes);
        assert!(usage.inodes >= usage.inodes_free);
    }

    #[test]
    fn missing_path_is_named() {
        let error = usage(Path::new("/nonexistent")).unwrap_err();
        assert_eq!(error.to_string(), "statfs /nonexistent");
    }
}
