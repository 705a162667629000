//! Unix sockets that appear whole: bound under another name, given their mode, then renamed, so
//! that whoever finds the socket can connect to it, and with the right permissions.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use tokio::net::UnixListener;

/// A step of binding failed.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The socket's directory could not be made.
    #[error("make directory {0} for a socket")]
    Directory(PathBuf, #[source] io::Error),
    /// The path holds something that is not a socket, which is left alone.
    #[error("{0} exists and is not a socket: move it away or configure another path")]
    Occupied(PathBuf),
    /// Another process answers there.
    #[error("{0} is in use: another process accepts connections on it")]
    InUse(PathBuf),
    /// The kernel refused to bind.
    #[error("bind {0}")]
    Bind(PathBuf, #[source] io::Error),
    /// Mode or final name could not be set.
    #[error("put the socket at {0}")]
    Place(PathBuf, #[source] io::Error),
}

/// Binds a listener at `path` with `mode`, replacing a socket that nobody answers on. Its directory
/// is made with mode 0750 if missing.
///
/// The socket file stays after the end of the process (a successor renames over it); remove it
/// with [`remove`] on an orderly end where clients are not to find it.
///
/// # Errors
/// See [`BindError`]. Panics outside a runtime.
pub fn bind(path: &Path, mode: u32) -> Result<UnixListener, BindError> {
    let occupied = match fs::symlink_metadata(path) {
        Ok(metadata) => !metadata.file_type().is_socket(),
        Err(_) => false,
    };
    if occupied {
        return Err(BindError::Occupied(path.to_owned()));
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(BindError::InUse(path.to_owned()));
    }
    let directory = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(directory)
        .map_err(|error| BindError::Directory(directory.to_owned(), error))?;
    // Short, because sun_path holds 107 bytes: `.` and the pid in hexadecimal.
    let temporary = directory.join(format!(".{:x}", std::process::id()));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(BindError::Bind(temporary, error));
        }
        _ => {}
    }
    let listener =
        UnixListener::bind(&temporary).map_err(|error| BindError::Bind(path.to_owned(), error))?;
    fs::set_permissions(&temporary, Permissions::from_mode(mode))
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(|error| {
            // The first error is the one to report; a leftover is removed by the next try.
            drop(fs::remove_file(&temporary));
            BindError::Place(path.to_owned(), error)
        })?;
    Ok(listener)
}

/// Removes the socket file; one that is gone already is fine.
///
/// # Errors
/// When it is there and cannot be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn socket_has_its_mode_and_leaves_no_other_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/x.sock");
        let _listener = bind(&path, 0o660).unwrap();
        assert_eq!(names(path.parent().unwrap()), ["x.sock"]);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o660
        );
        let parent = fs::metadata(path.parent().unwrap()).unwrap();
        assert_eq!(parent.permissions().mode() & 0o777, 0o750);
        tokio::net::UnixStream::connect(&path).await.unwrap();
    }

    #[tokio::test]
    async fn dead_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        drop(bind(&path, 0o600).unwrap());
        let live = bind(&path, 0o600).unwrap();
        assert!(matches!(bind(&path, 0o600), Err(BindError::InUse(_))));
        drop(live);
        remove(&path).unwrap();
        remove(&path).unwrap();
    }

    #[tokio::test]
    async fn foreign_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path, 0o600), Err(BindError::Occupied(_))));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
