//! `subPath` and `subPathExpr`: a part of a volume, found without being led out of it (VOL-60).
//!
//! What is found is bind-mounted at `volume-subpaths/<volume>/<container>/<index>` from the open
//! descriptor, so that what the container gets is what was checked, whatever its neighbours do to
//! the path meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use node_os::{
    beneath::{Beneath, BeneathError, Missing},
    mounts::{Access, Depth, MountError, Mounts, Unmount},
};

use crate::pod_dirs::{self, PodDirError};

/// A `subPath` that cannot be used. Users see [`SubPathError::for_users`]; the rest goes to the log,
/// because it would tell about files of the host.
#[derive(Debug, thiserror::Error)]
pub(super) enum SubPathError {
    #[error("error SubPath `{0}` must not be an absolute path")]
    Absolute(String),
    #[error("unable to provision SubPath `{0}`: must not contain '..'")]
    Backstep(String),
    #[error("missing value for {0}")]
    Unresolved(String),
    /// The volume itself is not there: a host path without a type. In upstream's words.
    #[error("stat {}: no such file or directory", .0.display())]
    NoVolume(PathBuf),
    #[error("host path {0} cannot be seen from the kubelet's container")]
    OutOfSight(PathBuf),
    #[error("find {path} in the volume")]
    Find {
        path: String,
        /// Nothing is there, wherever links lead.
        missing: bool,
        #[source]
        source: BeneathError,
    },
    #[error("read mode of volume {path}")]
    Volume {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Directory(#[from] PodDirError),
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error("{operation} {path}")]
    Place {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl SubPathError {
    /// Upstream's text for a container's waiting message.
    pub(super) fn for_users(&self, volume: &str, container: &str) -> String {
        match self {
            Self::Absolute(_) | Self::Backstep(_) | Self::Unresolved(_) | Self::NoVolume(_) => {
                self.to_string()
            }
            Self::Find { missing: true, .. } => format!(
                "failed to create subPath directory for volumeMount {volume:?} of container \
                 {container:?}"
            ),
            Self::OutOfSight(_)
            | Self::Find { .. }
            | Self::Volume { .. }
            | Self::Directory(_)
            | Self::Mount(_)
            | Self::Place { .. } => {
                format!(
                    "failed to prepare subPath for volumeMount {volume:?} of container \
                     {container:?}"
                )
            }
        }
    }
}

/// The path that a mount asks for in its volume: `subPath`, or `subPathExpr` with the container's
/// variables put in. A variable that is not there or empty is an error, unlike in a command.
pub(super) fn requested(
    sub_path: Option<&str>,
    expression: Option<&str>,
    environment: &BTreeMap<String, String>,
) -> Result<Option<String>, SubPathError> {
    let path = match (expression.unwrap_or_default(), sub_path.unwrap_or_default()) {
        ("", "") => return Ok(None),
        ("", path) => path.to_owned(),
        (expression, _) => expand(expression, environment)?,
    };
    if path.is_empty() {
        return Ok(None);
    }
    if path.starts_with('/') {
        return Err(SubPathError::Absolute(path));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(SubPathError::Backstep(path));
    }
    Ok(Some(path))
}

/// `$(NAME)` is the variable, `$$` a dollar, anything else itself. Source of behaviour: Kubernetes
/// `expansion.Expand`.
fn expand(
    expression: &str,
    environment: &BTreeMap<String, String>,
) -> Result<String, SubPathError> {
    let mut text = String::new();
    let mut missing = BTreeSet::new();
    let mut rest = expression;
    while let Some(at) = rest.find('$') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            text.push('$');
            rest = after;
        } else if let Some((name, after)) = rest
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
        {
            match environment.get(name).filter(|value| !value.is_empty()) {
                Some(value) => text.push_str(value),
                None => {
                    missing.insert(name);
                }
            }
            rest = after;
        } else {
            text.push('$');
        }
    }
    text.push_str(rest);
    if missing.is_empty() {
        Ok(text)
    } else {
        Err(SubPathError::Unresolved(
            missing.into_iter().collect::<Vec<_>>().join(", "),
        ))
    }
}

/// Finds `path` in a volume, making what is missing with the mode of the volume itself, so that
/// those who may write in the one may write in the other.
pub(super) fn find(volume: &Path, aliases: &[&Path], path: &str) -> Result<Beneath, SubPathError> {
    let mode = fs::metadata(volume)
        .map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => SubPathError::NoVolume(volume.to_owned()),
            _ => SubPathError::Volume {
                path: volume.to_owned(),
                source,
            },
        })?
        .permissions()
        .mode()
        & 0o7777;
    Beneath::find(
        volume,
        aliases,
        Path::new(path),
        Missing::MakeDirectory { mode },
    )
    .map_err(|source| SubPathError::Find {
        path: path.to_owned(),
        missing: is_missing(&volume.join(path)),
        source,
    })
}

/// As the original looks whether it has to make the directory, for its error's sake.
fn is_missing(path: &Path) -> bool {
    fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Mounts what was found at `target`, unless it is there already. Something else that is there, left
/// by an earlier start of the container, goes first.
pub(super) fn bind(
    mounts: &dyn Mounts,
    found: &Beneath,
    target: &Path,
) -> Result<(), SubPathError> {
    let failed = |operation: &'static str| {
        move |source| SubPathError::Place {
            operation,
            path: target.to_owned(),
            source,
        }
    };
    let source = fs::metadata(found.proc_path()).map_err(failed("look at the source of"))?;
    while mounts.is_mount_point(target)? {
        let there = fs::symlink_metadata(target).map_err(failed("look at"))?;
        if (there.dev(), there.ino()) == (source.dev(), source.ino()) {
            return Ok(());
        }
        mounts.unmount(target, Unmount::Strict)?;
    }
    remove_place(target).map_err(failed("remove"))?;
    if let Some(parent) = target.parent() {
        pod_dirs::ensure_directory(parent, 0o750)?;
    }
    if found.is_directory() {
        pod_dirs::ensure_directory(target, 0o750)?;
    } else {
        // Any kind of file can be mounted on a plain one.
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o640)
            .open(target)
            .map_err(failed("create"))?;
    }
    mounts
        .bind(&found.proc_path(), target, Depth::Single, Access::ReadWrite)
        .map_err(|error| {
            // The error of the mount is the one to report.
            drop(remove_place(target));
            error.into()
        })
}

/// Removes a place for a mount: an empty directory or a plain file, never a tree.
pub(super) fn remove_place(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if metadata.is_dir() {
        fs::remove_dir(path)
    } else {
        fs::remove_file(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> BTreeMap<String, String> {
        [("POD", "web"), ("EMPTY", ""), ("UP", "..")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    fn expression(text: &str) -> Result<Option<String>, String> {
        requested(None, Some(text), &environment()).map_err(|error| error.to_string())
    }

    #[test]
    fn expressions_take_the_containers_variables() {
        assert_eq!(expression("logs/$(POD)").unwrap().unwrap(), "logs/web");
        assert_eq!(expression("$$(POD)/$x").unwrap().unwrap(), "$(POD)/$x");
        assert_eq!(expression("a$(POD").unwrap().unwrap(), "a$(POD");
        assert_eq!(
            expression("$(B)/$(A)/$(EMPTY)").unwrap_err(),
            "missing value for A, B, EMPTY"
        );
    }

    #[test]
    fn path_stays_relative_after_expansion() {
        assert_eq!(
            expression("$(UP)/x").unwrap_err(),
            "unable to provision SubPath `../x`: must not contain '..'"
        );
        let plain = |path| requested(Some(path), None, &BTreeMap::new());
        assert_eq!(plain("").unwrap(), None);
        assert_eq!(plain("a/b").unwrap().unwrap(), "a/b");
        assert_eq!(
            plain("/a").unwrap_err().to_string(),
            "error SubPath `/a` must not be an absolute path"
        );
    }

    #[test]
    fn users_are_not_told_about_the_hosts_files() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("link")).unwrap();
        let error = find(dir.path(), &[], "link/passwd").unwrap_err();
        assert_eq!(
            error.for_users("data", "main"),
            "failed to prepare subPath for volumeMount \"data\" of container \"main\""
        );
        let error = find(dir.path(), &[], "link/no-such-file").unwrap_err();
        assert_eq!(
            error.for_users("data", "main"),
            "failed to create subPath directory for volumeMount \"data\" of container \"main\""
        );
        // A link to nothing within the volume is not made something.
        std::os::unix::fs::symlink("nowhere", dir.path().join("dangling")).unwrap();
        for path in ["dangling", "dangling/below"] {
            let error = find(dir.path(), &[], path).unwrap_err();
            assert_eq!(
                error.for_users("data", "main"),
                "failed to create subPath directory for volumeMount \"data\" of container \"main\""
            );
        }
        assert!(!dir.path().join("nowhere").exists());
        fs::write(dir.path().join("file"), "").unwrap();
        let error = find(dir.path(), &[], "file/below").unwrap_err();
        assert!(
            error
                .for_users("data", "main")
                .contains("failed to prepare"),
            "{error:?}"
        );
    }

    #[test]
    fn missing_part_gets_the_mode_of_its_volume() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o2775)).unwrap();
        find(dir.path(), &[], "a/b").unwrap();
        let mode = fs::metadata(dir.path().join("a/b"))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777;
        assert_eq!(mode, 0o2775);
    }
}
