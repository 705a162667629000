//! Files that change all at once under those who read them (VOL-55). Source of behaviour: Kubernetes
//! `AtomicWriter`.
//!
//! ```text
//! <volume>/..2026_11_22_19_30_00.1234567890/a/b    the files
//! <volume>/..data -> ..2026_11_22_19_30_00.1234567890
//! <volume>/a -> ..data/a                            what users open
//! ```
//!
//! [`plan`] says what is to be done, [`apply`] does one step of it. Renaming `..data` is the change: whatever
//! step a crash falls on, `..data` leads to all of the old files or to all of the new ones, and the next write
//! removes what was left lying about (upstream trips over its own `..data_tmp`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder, OpenOptions, Permissions},
    hash::{BuildHasher, RandomState},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use kubelet_core::projection::Payload;
use node_os::tree::{self, GroupAccess, TreeError};

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";
/// Modes of directories, whatever the umask.
const DIRECTORY_MODE: u32 = 0o755;

/// A step of a write failed; those before it stand.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("{operation} {path}")]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("give {path} to group {gid}")]
    Group {
        path: PathBuf,
        gid: u32,
        #[source]
        source: TreeError,
    },
    #[error("remove {path}")]
    Remove {
        path: PathBuf,
        #[source]
        source: TreeError,
    },
}

/// What is in the volume.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Current {
    /// Where `..data` leads to, if that is there.
    data: Option<String>,
    /// What its files hold.
    files: BTreeMap<String, Vec<u8>>,
    /// Names at the top that begin with two dots, but for `..data`.
    hidden: BTreeSet<String>,
    /// The other names at the top, and whether each is a link of ours.
    visible: BTreeMap<String, Visible>,
}

/// Whose a name at the top is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Visible {
    /// A link of ours into `..data`.
    Ours,
    /// Something else: the place of another volume's mount (VOL-06).
    Other,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Removes what an earlier write left behind.
    RemoveHidden(String),
    /// Makes the directory of this write.
    MakeDirectory(String),
    /// Writes a file of the payload there.
    WriteFile { directory: String, path: String },
    /// Gives everything to the group that shares the volume.
    ChangeGroup(u32),
    /// Points `..data_tmp` to the new directory.
    LinkNew(String),
    /// The change.
    Swap,
    /// Makes a name at the top.
    LinkVisible(String),
    /// Removes a name at the top whose file is gone.
    RemoveVisible(String),
}

/// Makes the volume hold exactly the payload. What holds it already is left alone.
pub(super) fn write(
    volume: &Path,
    payload: &Payload,
    fs_group: Option<u32>,
) -> Result<(), WriteError> {
    let current = look(volume)?;
    let fresh = fresh_name(&current.hidden);
    for step in plan(&current, payload, fs_group, &fresh) {
        apply(volume, payload, &step)?;
    }
    Ok(())
}

/// `..` and the time in UTC, with something behind it that is not there yet.
fn fresh_name(taken: &BTreeSet<String>) -> String {
    let time = Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S");
    let random = RandomState::new();
    let mut attempt = 0_u64;
    loop {
        let name = format!("{time}.{}", random.hash_one(attempt) % 10_000_000_000);
        if !taken.contains(&name) {
            return name;
        }
        attempt += 1;
    }
}

/// The steps from `current` to the payload, in order. None when all is as it should be.
pub(super) fn plan(
    current: &Current,
    payload: &Payload,
    fs_group: Option<u32>,
    fresh: &str,
) -> Vec<Step> {
    let mut steps: Vec<Step> = current
        .hidden
        .iter()
        .filter(|name| Some(*name) != current.data.as_ref())
        .map(|name| Step::RemoveHidden(name.clone()))
        .collect();
    let same = current.data.is_some()
        && current.files.len() == payload.len()
        && payload
            .iter()
            .all(|(path, file)| current.files.get(path) == Some(&file.data));
    if !same {
        steps.push(Step::MakeDirectory(fresh.to_owned()));
        steps.extend(payload.keys().map(|path| Step::WriteFile {
            directory: fresh.to_owned(),
            path: path.clone(),
        }));
        steps.extend(fs_group.map(Step::ChangeGroup));
        steps.push(Step::LinkNew(fresh.to_owned()));
        steps.push(Step::Swap);
    }
    let wanted: BTreeSet<&str> = payload
        .keys()
        .map(|path| path.split('/').next().unwrap_or(path))
        .collect();
    let missing = wanted
        .iter()
        .filter(|name| !current.visible.contains_key(**name))
        .map(|name| Step::LinkVisible((*name).to_owned()));
    steps.extend(missing);
    let stale = current
        .visible
        .iter()
        .filter(|(name, whose)| **whose == Visible::Ours && !wanted.contains(name.as_str()))
        .map(|(name, _)| Step::RemoveVisible(name.clone()));
    steps.extend(stale);
    if !same {
        steps.extend(current.data.clone().map(Step::RemoveHidden));
    }
    steps
}

/// Does one step. Done already is done.
pub(super) fn apply(volume: &Path, payload: &Payload, step: &Step) -> Result<(), WriteError> {
    match step {
        Step::RemoveHidden(name) => {
            let path = volume.join(name);
            tree::remove_tree(&path).map_err(|source| WriteError::Remove { path, source })
        }
        Step::MakeDirectory(name) => make_directory(&volume.join(name)),
        Step::WriteFile { directory, path } => {
            let Some(file) = payload.get(path) else {
                return Ok(());
            };
            write_file(&volume.join(directory), path, &file.data, file.mode)
        }
        Step::ChangeGroup(gid) => {
            // All of the volume: at the first write the names at the top's directory is new too.
            let changed = tree::change_group(volume, *gid, GroupAccess::ReadOnly);
            let refused = changed.map_err(|source| WriteError::Group {
                path: volume.to_owned(),
                gid: *gid,
                source,
            })?;
            super::tell_refusal(refused.as_ref());
            Ok(())
        }
        Step::LinkNew(name) => {
            let path = volume.join(NEW_DATA);
            symlink(name, &path).map_err(failed("link", &path))
        }
        Step::Swap => {
            let path = volume.join(DATA);
            fs::rename(volume.join(NEW_DATA), &path).map_err(failed("rename to", &path))
        }
        Step::LinkVisible(name) => {
            let path = volume.join(name);
            symlink(Path::new(DATA).join(name), &path).map_err(failed("link", &path))
        }
        Step::RemoveVisible(name) => {
            let path = volume.join(name);
            fs::remove_file(&path).map_err(failed("remove", &path))
        }
    }
}

/// What is in the volume now.
pub(super) fn look(volume: &Path) -> Result<Current, WriteError> {
    let mut current = Current::default();
    for entry in fs::read_dir(volume).map_err(failed("list", volume))? {
        let entry = entry.map_err(failed("list", volume))?;
        // What is not text is not ours.
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if name == DATA {
            continue;
        }
        if name.starts_with("..") {
            current.hidden.insert(name);
            continue;
        }
        let target = fs::read_link(entry.path()).ok();
        let ours = target.is_some_and(|target| target == Path::new(DATA).join(&name));
        let whose = if ours { Visible::Ours } else { Visible::Other };
        current.visible.insert(name, whose);
    }
    let data = volume.join(DATA);
    match fs::read_link(&data) {
        Ok(target) => {
            // Anything but a directory of ours is as good as nothing.
            current.data = target
                .to_str()
                .filter(|target| current.hidden.contains(*target))
                .map(ToOwned::to_owned);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("read link", &data)(error)),
    }
    if let Some(name) = &current.data {
        read_files(&volume.join(name), "", &mut current.files)?;
    }
    Ok(current)
}

fn read_files(
    directory: &Path,
    prefix: &str,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> Result<(), WriteError> {
    for entry in fs::read_dir(directory).map_err(failed("list", directory))? {
        let entry = entry.map_err(failed("list", directory))?;
        let path = entry.path();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().map_err(failed("look at", &path))?;
        if kind.is_dir() {
            read_files(&path, &format!("{name}/"), files)?;
        } else if kind.is_file() {
            let data = fs::read(&path).map_err(failed("read", &path))?;
            files.insert(name, data);
        } else {
            // Not ours: what holds it is written anew.
            files.insert(name, Vec::new());
        }
    }
    Ok(())
}

fn make_directory(path: &Path) -> Result<(), WriteError> {
    DirBuilder::new()
        .mode(DIRECTORY_MODE)
        .create(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE)))
        .map_err(failed("make directory", path))
}

fn write_file(directory: &Path, path: &str, data: &[u8], mode: u32) -> Result<(), WriteError> {
    let mut parent = directory.to_owned();
    let mut names = path.split('/').peekable();
    while let Some(name) = names.next() {
        let path = parent.join(name);
        if names.peek().is_none() {
            let write = || {
                let mut file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(mode)
                    .open(&path)?;
                file.write_all(data)?;
                // Whatever the umask.
                file.set_permissions(Permissions::from_mode(mode))
            };
            return write().map_err(failed("write", &path));
        }
        if !path.is_dir() {
            make_directory(&path)?;
        }
        parent = path;
    }
    Ok(())
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WriteError + use<> {
    let path = path.to_owned();
    move |source| WriteError::Io {
        operation,
        path,
        source,
    }
}

#[cfg(test)]
mod tests;
