//! Removing and re-owning file trees that containers wrote, without being led out of them.
//!
//! Neither a symbolic link nor a mount inside a tree is ever entered: what a pod mounted or linked
//! is not its own to delete (kubelet VOL-05). Each directory is held open while its entries are
//! looked at, so exchanging one for a link meanwhile changes nothing.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags},
    io::Errno,
};

/// Directories held open at once while removing. Deeper ones are first moved up, so that a tree of
/// any depth can be removed (a container may nest as deep as its disk allows).
const REMOVE_DEPTH: usize = 64;
/// Levels that [`change_group`] goes down.
const GROUP_DEPTH: usize = 512;
/// Times that a directory is read again because entries appeared meanwhile.
const REMOVE_ROUNDS: usize = 8;

/// A tree could not be removed or changed. What could be done was done.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Something is mounted there; nothing behind it was touched.
    #[error("{path} is a mount point")]
    Mounted {
        /// The mount point.
        path: PathBuf,
    },
    /// Too many levels.
    #[error("{path} is nested deeper than {GROUP_DEPTH} levels")]
    TooDeep {
        /// Where it was given up.
        path: PathBuf,
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
}

impl TreeError {
    fn io(operation: &'static str, path: &Path, errno: Errno) -> Self {
        match errno {
            // Removing or moving a mount point.
            Errno::BUSY | Errno::XDEV => Self::Mounted {
                path: path.to_owned(),
            },
            _ => Self::Io {
                operation,
                path: path.to_owned(),
                source: errno.into(),
            },
        }
    }
}

/// Removes `path` and all below it on the same mount. Done when nothing is there.
///
/// Goes on after an error and reports the first. Blocks.
///
/// # Errors
/// When something is mounted in the tree, or a system call fails.
pub fn remove_tree(path: &Path) -> Result<(), TreeError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(TreeError::io("remove", path, Errno::INVAL));
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent_fd = match rustix::fs::open(parent, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(TreeError::io("open", parent, errno)),
    };
    let Ok(name) = CString::new(name.as_encoded_bytes()) else {
        return Err(TreeError::io("remove", path, Errno::INVAL));
    };
    let mut removal = Removal {
        top: None,
        moved: 0,
        first: None,
    };
    removal.entry(parent_fd.as_fd(), &name, path, 0);
    removal.first.map_or(Ok(()), Err)
}

struct Removal {
    /// The directory being removed, where deep ones are moved to.
    top: Option<OwnedFd>,
    moved: u64,
    first: Option<TreeError>,
}

impl Removal {
    fn fail(&mut self, error: TreeError) {
        self.first.get_or_insert(error);
    }

    /// Removes one entry of `parent`, whatever it is. True when it is gone from there.
    fn entry(&mut self, parent: BorrowedFd<'_>, name: &CString, path: &Path, depth: usize) -> bool {
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return true,
            // Linux says "is a directory"; POSIX would allow "not permitted", which Linux says of
            // immutable files.
            Err(Errno::ISDIR) => {}
            Err(errno) => {
                self.fail(TreeError::io("remove", path, errno));
                return false;
            }
        }
        if depth >= REMOVE_DEPTH {
            return self.move_up(parent, name, path);
        }
        let directory = match open_directory(parent, name) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return true,
            Err(errno) => {
                self.fail(TreeError::io("open", path, errno));
                return false;
            }
        };
        if depth == 0 {
            match directory.try_clone() {
                Ok(copy) => self.top = Some(copy),
                Err(source) => {
                    self.fail(TreeError::Io {
                        operation: "open",
                        path: path.to_owned(),
                        source,
                    });
                    return false;
                }
            }
        }
        for _ in 0..REMOVE_ROUNDS {
            let emptied = self.content(&directory, path, depth);
            match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => return true,
                // More was put there (by us, moving it up, or by somebody else).
                Err(Errno::NOTEMPTY) if emptied => {}
                Err(Errno::NOTEMPTY) => return false,
                Err(errno) => {
                    self.fail(TreeError::io("remove directory", path, errno));
                    return false;
                }
            }
        }
        self.fail(TreeError::io("remove directory", path, Errno::NOTEMPTY));
        false
    }

    /// Removes the entries of a directory. False when one stayed.
    fn content(&mut self, directory: &OwnedFd, path: &Path, depth: usize) -> bool {
        let entries = match names(directory.as_fd()) {
            Ok(entries) => entries,
            Err(errno) => {
                self.fail(TreeError::io("list", path, errno));
                return false;
            }
        };
        let mut emptied = true;
        for name in entries {
            let child = path.join(name.to_string_lossy().as_ref());
            emptied &= self.entry(directory.as_fd(), &name, &child, depth + 1);
        }
        emptied
    }

    fn move_up(&mut self, parent: BorrowedFd<'_>, name: &CString, path: &Path) -> bool {
        let Some(top) = &self.top else { return false };
        self.moved += 1;
        let fresh = format!(".removing-{}-{}", std::process::id(), self.moved);
        match rustix::fs::renameat(parent, name, top, fresh) {
            Ok(()) => true,
            Err(errno) => {
                self.fail(TreeError::io("move", path, errno));
                false
            }
        }
    }
}

/// Names in a directory, without itself and its parent.
fn names(directory: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Opens a directory of `parent` that is neither a link nor a mount point (`EXDEV`).
fn open_directory(parent: BorrowedFd<'_>, name: &CString) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    match rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve) {
        // Before Linux 5.6, or hidden by a seccomp filter.
        Err(Errno::NOSYS | Errno::PERM) => {}
        other => return other,
    }
    let fd = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    // Without openat2 a bind mount of the same file system looks like a plain directory here;
    // callers look into the mount table first.
    if rustix::fs::fstat(&fd)?.st_dev == rustix::fs::fstat(parent)?.st_dev {
        Ok(fd)
    } else {
        Err(Errno::XDEV)
    }
}

/// What the group that shares a volume may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupAccess {
    /// Read and write.
    ReadWrite,
    /// Only read: the volume's content is not the pod's to change.
    ReadOnly,
}

/// The mode that a file gets for the group that shares a volume (kubelet VOL-63): readable and,
/// where the group may write, writable; directories also searchable and handing the group on.
/// `None` for a link, which has no mode of its own.
pub fn group_mode(kind: FileType, mode: u32, access: GroupAccess) -> Option<u32> {
    let add = match access {
        GroupAccess::ReadWrite => 0o660,
        GroupAccess::ReadOnly => 0o440,
    };
    match kind {
        FileType::Symlink => None,
        FileType::Directory => Some((mode & 0o7777) | add | 0o2110),
        _ => Some((mode & 0o7777) | add),
    }
}

/// Gives `path` and all below it on the same mount to a group, and the modes of [`group_mode`].
/// Children come before their directory. What the file system does not change stays as it is (DEC-48);
/// the first such refusal is returned, for the log. Blocks.
///
/// # Errors
/// Where the tree cannot be walked: on the first failing system call, at a mount point, or beyond the
/// depth limit.
pub fn change_group(
    path: &Path,
    gid: u32,
    access: GroupAccess,
) -> Result<Option<TreeError>, TreeError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| TreeError::io("open", path, errno))?;
    let mut refused = None;
    change_directory(&fd, path, (Gid::from_raw(gid), access), 0, &mut refused)?;
    Ok(refused)
}

fn change_directory(
    directory: &OwnedFd,
    path: &Path,
    group: (Gid, GroupAccess),
    depth: usize,
    refused: &mut Option<TreeError>,
) -> Result<(), TreeError> {
    if depth >= GROUP_DEPTH {
        return Err(TreeError::TooDeep {
            path: path.to_owned(),
        });
    }
    let entries = names(directory.as_fd()).map_err(|errno| TreeError::io("list", path, errno))?;
    for name in entries {
        let child = path.join(name.to_string_lossy().as_ref());
        let failed = |operation: &'static str| {
            let child = child.clone();
            move |errno: Errno| TreeError::io(operation, &child, errno)
        };
        let look = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd =
            rustix::fs::openat(directory, &name, look, Mode::empty()).map_err(failed("open"))?;
        let stat = rustix::fs::fstat(&fd).map_err(failed("stat"))?;
        if FileType::from_raw_mode(stat.st_mode).is_dir() {
            let inner = open_directory(directory.as_fd(), &name).map_err(failed("open"))?;
            change_directory(&inner, &child, group, depth + 1, refused)?;
        } else {
            let stays = change_one(&fd, &child, group).err();
            *refused = refused.take().or(stays);
        }
    }
    let stays = change_one(directory, path, group).err();
    *refused = refused.take().or(stays);
    Ok(())
}

/// Changes what is open, through its descriptor.
fn change_one(
    fd: &OwnedFd,
    path: &Path,
    (gid, access): (Gid, GroupAccess),
) -> Result<(), TreeError> {
    use std::os::fd::AsRawFd;
    let failed =
        |operation: &'static str| move |errno: Errno| TreeError::io(operation, path, errno);
    rustix::fs::chownat(fd, "", None, Some(gid), AtFlags::EMPTY_PATH)
        .map_err(failed("change group of"))?;
    // After the change of group, which may take set-id bits away.
    let stat = rustix::fs::fstat(fd).map_err(failed("stat"))?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if let Some(mode) = group_mode(kind, stat.st_mode, access) {
        // An O_PATH descriptor takes no fchmod; its name in /proc does.
        let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
        rustix::fs::chmod(name, Mode::from_raw_mode(mode)).map_err(failed("change mode of"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    };

    use super::*;

    #[test]
    fn whole_tree_is_removed_and_what_its_links_name_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("data"), "x").unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/file"), "x").unwrap();
        symlink(&kept, tree.join("a/b/link")).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert_eq!(fs::read_to_string(kept.join("data")).unwrap(), "x");
        remove_tree(&tree).unwrap();
    }

    #[test]
    fn link_given_as_the_tree_is_itself_removed() {
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("kept");
        fs::create_dir(&kept).unwrap();
        symlink(&kept, dir.path().join("link")).unwrap();
        remove_tree(&dir.path().join("link")).unwrap();
        assert!(kept.exists());
        assert!(!dir.path().join("link").is_symlink());
    }

    #[test]
    fn tree_deeper_than_the_descriptors_held_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        let mut deep = tree.clone();
        for _ in 0..(REMOVE_DEPTH * 4) {
            deep.push("d");
        }
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("file"), "x").unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }

    #[test]
    fn group_gets_what_it_needs_and_links_are_left() {
        use GroupAccess::{ReadOnly, ReadWrite};
        let of = group_mode;
        assert_eq!(of(FileType::Directory, 0o40755, ReadWrite), Some(0o2775));
        assert_eq!(of(FileType::Directory, 0o40700, ReadOnly), Some(0o2750));
        assert_eq!(of(FileType::RegularFile, 0o100_600, ReadWrite), Some(0o660));
        assert_eq!(of(FileType::RegularFile, 0o100_400, ReadOnly), Some(0o440));
        assert_eq!(of(FileType::Symlink, 0o120_777, ReadWrite), None);

        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::write(&outside, "x").unwrap();
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o600)).unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("sub")).unwrap();
        fs::write(tree.join("sub/file"), "x").unwrap();
        fs::set_permissions(tree.join("sub/file"), fs::Permissions::from_mode(0o400)).unwrap();
        symlink(&outside, tree.join("sub/link")).unwrap();
        let own = fs::metadata(&tree).unwrap().gid();
        change_group(&tree, own, GroupAccess::ReadWrite).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&tree.join("sub")) & 0o2770, 0o2770);
        assert_eq!(mode(&tree.join("sub/file")), 0o660);
        assert_eq!(mode(&outside), 0o600);
    }
}
