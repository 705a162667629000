//! `hostPath`: nothing is mounted, only looked at (VOL-20). Source of behaviour: Kubernetes hostPath
//! plugin, `checkTypeInternal`.
//!
//! Differs (VOL-20): a link to nothing where `DirectoryOrCreate` is wanted fails the mount; upstream lets it pass, and
//! Docker fails the container's start.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use node_os::{
    beneath::{Beneath, BeneathError, Missing},
    host_view::HostView,
};

/// `hostPath.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostPathType {
    Unset,
    DirectoryOrCreate,
    Directory,
    FileOrCreate,
    File,
    Socket,
    CharDevice,
    BlockDevice,
}

impl HostPathType {
    /// Reads the API's word.
    pub(super) fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "" => Self::Unset,
            "DirectoryOrCreate" => Self::DirectoryOrCreate,
            "Directory" => Self::Directory,
            "FileOrCreate" => Self::FileOrCreate,
            "File" => Self::File,
            "Socket" => Self::Socket,
            "CharDevice" => Self::CharDevice,
            "BlockDevice" => Self::BlockDevice,
            _ => return None,
        })
    }
}

/// Links that a file is made through, as many as the kernel follows.
const MAX_LINKS: usize = 40;

/// What is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Directory,
    File,
    Socket,
    CharDevice,
    BlockDevice,
    Other,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Use,
    MakeDirectory,
    MakeFile,
}

/// Why a host path cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum HostPathError {
    #[error("invalid HostPath `{0}`: must not contain '..'")]
    Backstep(String),
    /// Differs: a pod whose `hostPath` is not absolute waits; upstream hands the path on, and Docker takes
    /// `data` for the name of one of its volumes.
    #[error("invalid HostPath `{0}`: must be an absolute path")]
    Relative(String),
    #[error("{0} is an invalid volume type")]
    UnknownType(String),
    #[error("hostPath type check failed: {path} is not a {expected}")]
    Mismatch {
        path: String,
        expected: &'static str,
    },
    #[error(
        "hostPath type check failed: {0} cannot be seen from the kubelet's container: share the \
         host's pids with it (pid: host), or leave the type out"
    )]
    OutOfSight(String),
    #[error("look up {path}")]
    LookUp {
        path: String,
        #[source]
        source: BeneathError,
    },
    #[error("make directory {path}")]
    MakeDirectory {
        path: String,
        #[source]
        source: BeneathError,
    },
    #[error("open {0}: no such file or directory")]
    NoParent(String),
    #[error("create {path}")]
    Create {
        path: String,
        #[source]
        source: io::Error,
    },
}

/// Compares what is there with what was asked for.
pub(super) fn compare(
    kind: HostPathType,
    found: Found,
    path: &str,
) -> Result<Action, HostPathError> {
    let (expected, wanted) = match (kind, found) {
        (HostPathType::Unset, _) => return Ok(Action::Use),
        (HostPathType::DirectoryOrCreate, Found::Nothing) => return Ok(Action::MakeDirectory),
        (HostPathType::FileOrCreate, Found::Nothing) => return Ok(Action::MakeFile),
        (HostPathType::DirectoryOrCreate | HostPathType::Directory, _) => {
            ("directory", Found::Directory)
        }
        (HostPathType::FileOrCreate | HostPathType::File, _) => ("file", Found::File),
        (HostPathType::Socket, _) => ("socket file", Found::Socket),
        (HostPathType::CharDevice, _) => ("character device", Found::CharDevice),
        (HostPathType::BlockDevice, _) => ("block device", Found::BlockDevice),
    };
    if found == wanted {
        Ok(Action::Use)
    } else {
        Err(HostPathError::Mismatch {
            path: path.to_owned(),
            expected,
        })
    }
}

/// A path of the host, as we reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Where to walk from: the host's root directory, or ours.
    base: PathBuf,
    /// From there.
    inside: PathBuf,
    /// Whether `base` is the host's root, so that what is found below it has that name on the host.
    from_host_root: bool,
}

impl Place {
    /// Where an absolute path of the host is for us; `None`: out of sight (DEC-13).
    pub(super) fn of(view: &HostView, path: &Path) -> Option<Self> {
        // The host's own root is best: links then lead where they lead on the host.
        if let Ok(Some(root)) = view.from_host(Path::new("/")) {
            let inside = path.strip_prefix("/").ok()?.to_owned();
            return Some(Self {
                base: root,
                inside,
                from_host_root: true,
            });
        }
        let ours = view.from_host(path).ok()??;
        let inside = ours.strip_prefix("/").ok()?.to_owned();
        Some(Self {
            base: "/".into(),
            inside,
            from_host_root: false,
        })
    }

    /// Looks it up as the host would.
    pub(super) fn find(&self) -> Result<Beneath, BeneathError> {
        self.walk(&self.inside, Missing::Refuse)
    }

    /// The host's name for what was found, if it is known.
    pub(super) fn host_name(&self, found: &Beneath) -> Option<PathBuf> {
        self.from_host_root
            .then(|| Path::new("/").join(found.relative()))
    }

    fn walk(&self, inside: &Path, missing: Missing) -> Result<Beneath, BeneathError> {
        Beneath::find(&self.base, &[Path::new("/")], inside, missing)
    }
}

/// Checks a host path, and makes it where its type says so. Blocks.
pub(super) fn set_up(view: &HostView, path: &str, kind: &str) -> Result<(), HostPathError> {
    // Upstream's test, on the text: a path that is only odd ("/a/./b") passes.
    if path.split('/').any(|part| part == "..") {
        return Err(HostPathError::Backstep(path.to_owned()));
    }
    if !path.starts_with('/') {
        return Err(HostPathError::Relative(path.to_owned()));
    }
    let kind =
        HostPathType::parse(kind).ok_or_else(|| HostPathError::UnknownType(kind.to_owned()))?;
    if kind == HostPathType::Unset {
        return Ok(());
    }
    let place = Place::of(view, Path::new(path))
        .ok_or_else(|| HostPathError::OutOfSight(path.to_owned()))?;
    let found = look(&place).map_err(|source| HostPathError::LookUp {
        path: path.to_owned(),
        source,
    })?;
    match compare(kind, found, path)? {
        Action::Use => Ok(()),
        Action::MakeDirectory => place
            .walk(&place.inside, Missing::MakeDirectory { mode: 0o755 })
            .map(drop)
            .map_err(|source| HostPathError::MakeDirectory {
                path: path.to_owned(),
                source,
            }),
        Action::MakeFile => make_file(&place, path),
    }
}

fn look(place: &Place) -> Result<Found, BeneathError> {
    let found = match place.find() {
        Ok(found) => found,
        Err(BeneathError::Io { source, .. })
            if matches!(
                source.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(Found::Nothing);
        }
        Err(error) => return Err(error),
    };
    let Ok(metadata) = fs::metadata(found.proc_path()) else {
        return Ok(Found::Nothing);
    };
    let kind = metadata.file_type();
    Ok(if kind.is_dir() {
        Found::Directory
    } else if kind.is_file() {
        Found::File
    } else if kind.is_socket() {
        Found::Socket
    } else if kind.is_char_device() {
        Found::CharDevice
    } else if kind.is_block_device() {
        Found::BlockDevice
    } else {
        Found::Other
    })
}

/// An empty file of mode 0644 in a directory that must be there; where a link that leads to nothing
/// has its name, where that leads.
fn make_file(place: &Place, path: &str) -> Result<(), HostPathError> {
    let mut inside = place.inside.clone();
    for _ in 0..MAX_LINKS {
        let parent = place
            .walk(inside.parent().unwrap_or(Path::new("")), Missing::Refuse)
            .map_err(|source| match source {
                BeneathError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                    HostPathError::NoParent(path.to_owned())
                }
                source => HostPathError::LookUp {
                    path: path.to_owned(),
                    source,
                },
            })?;
        let file = parent
            .proc_path()
            .join(inside.file_name().unwrap_or_default());
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&file)
        {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => {
                return Err(HostPathError::Create {
                    path: path.to_owned(),
                    source,
                });
            }
        }
        // Something else than a link: somebody made it meanwhile.
        let Ok(target) = fs::read_link(&file) else {
            return Ok(());
        };
        let target = Path::new("/").join(parent.relative()).join(target);
        inside = target
            .strip_prefix("/")
            .map_or_else(|_| target.clone(), Path::to_owned);
    }
    // Links that lead to each other: the runtime says what is wrong with them.
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::{
        fs::{PermissionsExt, symlink},
        net::UnixListener,
    };

    use super::*;

    /// A directory that plays the host's root.
    fn host() -> tempfile::TempDir {
        let host = tempfile::tempdir().unwrap();
        fs::create_dir(host.path().join("dir")).unwrap();
        fs::write(host.path().join("file"), "x").unwrap();
        drop(UnixListener::bind(host.path().join("socket")).unwrap());
        symlink("/dir", host.path().join("link")).unwrap();
        host
    }

    /// The view of a container that sees the host's root there.
    fn view(host: &tempfile::TempDir) -> HostView {
        HostView::in_container(&[], [])
            .unwrap()
            .with_host_root(Some(host.path().to_owned()))
    }

    fn refused(host: &tempfile::TempDir, path: &str, kind: &str) -> String {
        set_up(&view(host), path, kind).unwrap_err().to_string()
    }

    #[test]
    fn type_is_checked_on_the_host() {
        let host = host();
        for (path, kind) in [
            ("/dir", "Directory"),
            ("/dir", "DirectoryOrCreate"),
            ("/link", "Directory"),
            ("/file", "File"),
            ("/file", "FileOrCreate"),
            ("/socket", "Socket"),
            ("/nothing", ""),
        ] {
            set_up(&view(&host), path, kind)
                .unwrap_or_else(|error| panic!("{path} {kind}: {error}"));
        }
        for (path, kind, text) in [
            ("/file", "Directory", "/file is not a directory"),
            ("/nothing", "Directory", "/nothing is not a directory"),
            ("/file", "DirectoryOrCreate", "/file is not a directory"),
            ("/dir", "File", "/dir is not a file"),
            ("/dir", "Socket", "/dir is not a socket file"),
            ("/dir", "CharDevice", "/dir is not a character device"),
            ("/dir", "BlockDevice", "/dir is not a block device"),
        ] {
            let expected = format!("hostPath type check failed: {text}");
            assert_eq!(refused(&host, path, kind), expected);
        }
    }

    #[test]
    fn character_device_of_the_real_host_is_known() {
        set_up(&HostView::identity(), "/dev/null", "CharDevice").unwrap();
    }

    #[test]
    fn missing_paths_are_made_where_the_type_says_so() {
        let host = host();
        set_up(&view(&host), "/new/deep/dir", "DirectoryOrCreate").unwrap();
        let mode = |path: &str| {
            fs::metadata(host.path().join(path))
                .unwrap()
                .permissions()
                .mode()
                & 0o777
        };
        assert_eq!((mode("new"), mode("new/deep/dir")), (0o755, 0o755));
        set_up(&view(&host), "/link/file", "FileOrCreate").unwrap();
        assert_eq!(mode("dir/file"), 0o644);
        symlink("/dir/led", host.path().join("to_link")).unwrap();
        symlink("to_link", host.path().join("to_nothing")).unwrap();
        set_up(&view(&host), "/to_nothing", "FileOrCreate").unwrap();
        assert_eq!(mode("dir/led"), 0o644);
        assert_eq!(
            refused(&host, "/no/parent", "FileOrCreate"),
            "open /no/parent: no such file or directory"
        );
    }

    #[test]
    fn path_that_a_container_cannot_see_is_passed_on_unchecked_or_refused() {
        let blind = HostView::in_container(&[], []).unwrap();
        set_up(&blind, "/data", "").unwrap();
        let error = set_up(&blind, "/data", "Directory")
            .unwrap_err()
            .to_string();
        assert!(error.contains("pid: host"), "{error}");
    }

    #[test]
    fn bad_paths_and_types_are_refused_by_name() {
        let host = host();
        assert_eq!(
            refused(&host, "/a/../b", ""),
            "invalid HostPath `/a/../b`: must not contain '..'"
        );
        assert_eq!(
            refused(&host, "a", ""),
            "invalid HostPath `a`: must be an absolute path"
        );
        assert_eq!(
            refused(&host, "/dir", "Dir"),
            "Dir is an invalid volume type"
        );
    }
}
