//! Files that are either the old or the new one, whatever happens in between.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// Marks the temporary files of this module, after a dot, the target's name and before a number.
const MARK: &str = ".berth-tmp-";

/// A step of writing failed; the old file, if any, is untouched.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The path has no file name or no directory.
    #[error("{0} does not name a file")]
    NotAFile(PathBuf),
    /// The temporary file beside it could not be made or filled.
    #[error("write {0}")]
    Temporary(PathBuf, #[source] io::Error),
    /// The new file could not take its place.
    #[error("replace {0}")]
    Rename(PathBuf, #[source] io::Error),
    /// The new file is in place, but the directory could not be made durable.
    #[error("sync directory {0}")]
    Directory(PathBuf, #[source] io::Error),
}

/// Replaces the content of `path`: a temporary file in the same directory whose name begins with a
/// dot, fsync, rename, fsync of the directory. The file gets exactly `mode`, whatever the umask.
///
/// Blocks; call it through [`crate::blocking`].
///
/// # Errors
/// See [`WriteError`]. Except for `Directory`, the old content stands.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), WriteError> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let (Some(name), Some(directory)) = (path.file_name(), path.parent()) else {
        return Err(WriteError::NotAFile(path.to_owned()));
    };
    let directory = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!("{MARK}{}-{number}", std::process::id()));
    let temporary = directory.join(hidden);

    let filled = fill(&temporary, bytes, mode)
        .map_err(|error| WriteError::Temporary(temporary.clone(), error))
        .and_then(|()| {
            fs::rename(&temporary, path).map_err(|error| WriteError::Rename(path.to_owned(), error))
        });
    if let Err(error) = filled {
        // The first error is the one to report.
        drop(fs::remove_file(&temporary));
        return Err(error);
    }
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| WriteError::Directory(directory.to_owned(), error))
}

fn fill(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

/// Removes what writers of earlier processes left in `directory` when they were killed half-way.
/// Call it at start, before the first write: in a container an earlier process often had our pid, too.
///
/// # Errors
/// When the directory cannot be listed or a leftover cannot be removed.
pub fn remove_leftovers(directory: &Path) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.contains(MARK) {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_and_mode_are_replaced_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        write(&path, b"one", 0o644).unwrap();
        write(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn failed_replacement_leaves_the_old_thing_and_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        fs::create_dir_all(path.join("full")).unwrap();
        assert!(matches!(
            write(&path, b"x", 0o644),
            Err(WriteError::Rename(..))
        ));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn leftovers_of_a_killed_writer_are_removed_and_other_files_kept() {
        let dir = tempfile::tempdir().unwrap();
        let ours = format!(".state.berth-tmp-{}-0", std::process::id());
        fs::write(dir.path().join(".state.berth-tmp-0-3"), "half").unwrap();
        fs::write(dir.path().join(ours), "half").unwrap();
        fs::write(dir.path().join(".hidden"), "user's").unwrap();
        fs::write(dir.path().join("state"), "whole").unwrap();
        assert_eq!(remove_leftovers(dir.path()).unwrap(), 2);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
