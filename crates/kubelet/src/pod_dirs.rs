//! The kubelet's directory of each pod and the log directories beside it (kubelet section 1.10).
//!
//! ```text
//! <root>/allocated_pods_state                          0600, what pods were given
//! <root>/pods/<uid>/                                   0750
//!     volumes/<plugin with / as ~>/<volume>            written by `volumes`
//!     plugins/<plugin with / as ~>/<volume>/ready      a volume's readiness mark
//!     volume-subpaths/<volume>/<container>/<index>     bind mounts of subPath
//!     containers/<container>/<8 hex>                   0666, termination messages
//!     etc-hosts                                        0644
//! <logs>/<namespace>_<name>_<uid>/<container>/         0755, `<logs>` itself 0750
//! ```
//!
//! All functions block; callers go through `daemon::blocking`. What is on disk is the truth: nothing
//! is remembered here.

use std::{
    fs::{self, DirBuilder, OpenOptions, Permissions},
    hash::{BuildHasher, RandomState},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use node_os::{beneath, tree};

/// Names tried for a termination message file before the directory is taken for broken.
const FRESH_NAMES: usize = 16;

/// Something about a pod's directories failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PodDirError {
    /// A uid or name that cannot be a directory.
    #[error("{what} {name:?} cannot be used as a directory name")]
    Name {
        /// What kind of name.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A system call failed.
    #[error("{operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A tree could not be removed.
    #[error("remove {path}")]
    Remove {
        /// The tree.
        path: PathBuf,
        /// Why.
        #[source]
        source: tree::TreeError,
    },
    /// A volume still has content, which is not this part's to delete (VOL-05).
    #[error("volume directory {path} is not empty")]
    VolumeLeft {
        /// The volume.
        path: PathBuf,
    },
}

/// `<root>/pods` and the pod log directory.
#[derive(Debug, Clone)]
pub(crate) struct PodDirs {
    root: PathBuf,
    logs: PathBuf,
}

impl PodDirs {
    /// Directories below the kubelet's root directory and below `podLogsDir`.
    pub(crate) fn new(root: impl Into<PathBuf>, logs: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            logs: logs.into(),
        }
    }

    /// The same directories where `pod`, the real path of a pod's directory, says that they are.
    pub(crate) fn moved_to(&self, pod: &Path) -> Self {
        let root = pod.ancestors().nth(2).unwrap_or(&self.root);
        Self {
            root: root.to_owned(),
            logs: self.logs.clone(),
        }
    }

    /// `<root>/pods`.
    fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// `<root>/allocated_pods_state` (DIR-11).
    pub(crate) fn allocations(&self) -> PathBuf {
        self.root.join("allocated_pods_state")
    }

    /// `<root>/pods/<uid>`.
    pub(crate) fn pod(&self, uid: &str) -> PathBuf {
        self.pods().join(uid)
    }

    /// `<root>/pods/<uid>/containers/<name>`.
    pub(crate) fn container(&self, uid: &str, name: &str) -> PathBuf {
        self.pod(uid).join("containers").join(name)
    }

    /// `<root>/pods/<uid>/volumes`.
    pub(crate) fn volumes(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("volumes")
    }

    /// `<root>/pods/<uid>/volumes/<plugin>`, one directory per volume in it.
    pub(crate) fn volumes_of(&self, uid: &str, plugin: &str) -> PathBuf {
        self.volumes(uid).join(escape(plugin))
    }

    /// `<root>/pods/<uid>/plugins/<plugin>`, what a plugin notes about each volume in it.
    pub(crate) fn notes_of(&self, uid: &str, plugin: &str) -> PathBuf {
        self.pod(uid).join("plugins").join(escape(plugin))
    }

    /// `<root>/pods/<uid>/volume-subpaths`.
    pub(crate) fn subpaths(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("volume-subpaths")
    }

    /// Makes the pod's directory with what every pod has in it (DIR-02).
    pub(crate) fn ensure_pod(&self, uid: &str) -> Result<(), PodDirError> {
        check_name("pod uid", uid)?;
        for directory in [
            self.pod(uid),
            self.volumes(uid),
            self.pod(uid).join("plugins"),
        ] {
            ensure_directory(&directory, 0o750)?;
        }
        Ok(())
    }

    /// Writes the pod's `/etc/hosts` (SPEC-02) and returns its path.
    ///
    /// In place: containers that run have this very file mounted and see the change. Not touched
    /// when it says the same already, so that no reader meets it empty for nothing.
    pub(crate) fn write_etc_hosts(&self, uid: &str, bytes: &[u8]) -> Result<PathBuf, PodDirError> {
        check_name("pod uid", uid)?;
        let path = self.pod(uid).join("etc-hosts");
        if fs::read(&path).is_ok_and(|old| old == bytes) {
            return Ok(path);
        }
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o644)
                .open(&path)?;
            file.write_all(bytes)?;
            file.set_permissions(Permissions::from_mode(0o644))
        };
        write().map_err(io_error("write", &path))?;
        Ok(path)
    }

    /// An empty file that a container writes its last words to, new for each start (DIR-03).
    pub(crate) fn new_termination_file(
        &self,
        uid: &str,
        container: &str,
    ) -> Result<PathBuf, PodDirError> {
        check_name("pod uid", uid)?;
        check_name("container", container)?;
        let directory = self.container(uid, container);
        ensure_directory(&directory, 0o750)?;
        let random = RandomState::new();
        let mut last = None;
        for attempt in 0..FRESH_NAMES {
            let [.., a, b, c, d] = random.hash_one(attempt).to_be_bytes();
            let path = directory.join(format!("{a:02x}{b:02x}{c:02x}{d:02x}"));
            match OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o666)
                .open(&path)
            {
                Ok(file) => {
                    // Whatever the umask: the container's user is not known here.
                    file.set_permissions(Permissions::from_mode(0o666))
                        .map_err(io_error("change mode of", &path))?;
                    return Ok(path);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = Some(error),
                Err(error) => return Err(io_error("create", &path)(error)),
            }
        }
        let source = last.unwrap_or_else(|| io::ErrorKind::AlreadyExists.into());
        Err(io_error("create a file in", &directory)(source))
    }

    /// The last `limit` bytes of a termination message; `None` when there is no such file. Not a
    /// link and not a pipe: the file was the container's to change.
    pub(crate) fn read_termination_message(
        path: &Path,
        limit: usize,
    ) -> Result<Option<String>, PodDirError> {
        let mut file = match beneath::open_regular(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("open", path)(error)),
        };
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        let mut read = || {
            let size = file.seek(SeekFrom::End(0))?;
            file.seek(SeekFrom::Start(size.saturating_sub(limit)))?;
            let mut bytes = Vec::new();
            (&file).take(limit).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().map_err(io_error("read", path))?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// `<logs>/<namespace>_<name>_<uid>`.
    pub(crate) fn pod_logs(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.logs.join(format!("{namespace}_{name}_{uid}"))
    }

    /// Makes the log directories of a pod and, if named, of one container (DIR-04).
    pub(crate) fn ensure_log_dirs(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        container: Option<&str>,
    ) -> Result<PathBuf, PodDirError> {
        let pod = self.checked_pod_logs(namespace, name, uid)?;
        ensure_directory(&self.logs, 0o750)?;
        ensure_directory(&pod, 0o755)?;
        let Some(container) = container else {
            return Ok(pod);
        };
        check_name("container", container)?;
        let directory = pod.join(container);
        ensure_directory(&directory, 0o755)?;
        Ok(directory)
    }

    /// Removes the log directory of a pod. Done when there is none.
    pub(crate) fn remove_logs(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> Result<(), PodDirError> {
        remove(&self.checked_pod_logs(namespace, name, uid)?)
    }

    fn checked_pod_logs(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> Result<PathBuf, PodDirError> {
        check_name("namespace", namespace)?;
        check_name("pod name", name)?;
        check_name("pod uid", uid)?;
        Ok(self.pod_logs(namespace, name, uid))
    }

    /// Removes the pod's directory after its volumes are gone (VOL-05): below `volumes` only empty
    /// directories, the rest with its content, and nothing behind a link or a mount. Done when there
    /// is none; may be called again after a failure.
    pub(crate) fn remove_pod(&self, uid: &str) -> Result<(), PodDirError> {
        check_name("pod uid", uid)?;
        let pod = self.pod(uid);
        remove_empty_directories(&self.volumes(uid))?;
        for entry in entries(&pod)? {
            remove(&pod.join(entry))?;
        }
        match fs::remove_dir(&pod) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("remove", &pod)(error))
            }
            _ => Ok(()),
        }
    }

    /// The uids of the pods that have a directory here, sorted.
    pub(crate) fn pods_on_disk(&self) -> Result<Vec<String>, PodDirError> {
        let pods = self.pods();
        let mut uids = Vec::new();
        for name in entries(&pods)? {
            // Only real directories with names that we could have given.
            if fs::symlink_metadata(pods.join(&name)).is_ok_and(|metadata| metadata.is_dir()) {
                uids.push(name);
            }
        }
        uids.sort();
        Ok(uids)
    }
}

/// Plugin names hold slashes, directory names do not (DIR-16).
fn escape(plugin: &str) -> String {
    plugin.replace('/', "~")
}

/// A single ordinary path element.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<(), PodDirError> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(PodDirError::Name {
            what,
            name: name.to_owned(),
        });
    }
    Ok(())
}

/// Makes a directory with exactly this mode, and its parents 0750. One that is there keeps its mode.
pub(crate) fn ensure_directory(path: &Path, mode: u32) -> Result<(), PodDirError> {
    let failed = io_error("make directory", path);
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return if path.is_dir() {
                Ok(())
            } else {
                Err(failed(error))
            };
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let Some(parent) = path.parent() else {
                return Err(failed(error));
            };
            ensure_directory(parent, 0o750)?;
            return ensure_directory(path, mode);
        }
        Err(error) => return Err(failed(error)),
    }
    // The umask may have taken bits away.
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(io_error("change mode of", path))
}

/// Names in a directory; none when it does not exist.
pub(crate) fn entries(path: &Path) -> Result<Vec<String>, PodDirError> {
    let list = match fs::read_dir(path) {
        Ok(list) => list,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("list", path)(error)),
    };
    let mut names = Vec::new();
    for entry in list {
        let name = entry.map_err(io_error("list", path))?.file_name();
        // Names that are not text are not ours.
        if let Ok(name) = name.into_string() {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes a directory whose only content is directories.
fn remove_empty_directories(path: &Path) -> Result<(), PodDirError> {
    for name in entries(path)? {
        let child = path.join(name);
        let is_directory = fs::symlink_metadata(&child).is_ok_and(|metadata| metadata.is_dir());
        if !is_directory {
            return Err(PodDirError::VolumeLeft { path: child });
        }
        // Two levels: plugins, and their volumes. What is in a volume is somebody's data.
        for volume in entries(&child)? {
            remove_empty(&child.join(volume))?;
        }
        remove_empty(&child)?;
    }
    remove_empty(path)
}

fn remove_empty(path: &Path) -> Result<(), PodDirError> {
    match fs::remove_dir(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory
            ) =>
        {
            Err(PodDirError::VolumeLeft {
                path: path.to_owned(),
            })
        }
        Err(error) => Err(io_error("remove", path)(error)),
    }
}

/// Removes a tree, entering neither links nor mounts.
fn remove(path: &Path) -> Result<(), PodDirError> {
    tree::remove_tree(path).map_err(|source| PodDirError::Remove {
        path: path.to_owned(),
        source,
    })
}

pub(crate) fn io_error(
    operation: &'static str,
    path: &Path,
) -> impl Fn(io::Error) -> PodDirError + use<> {
    let path = path.to_owned();
    move |source| PodDirError::Io {
        operation,
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests;
