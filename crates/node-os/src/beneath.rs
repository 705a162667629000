//! Finding a path inside a directory whose content somebody else may be changing while we look.
//!
//! A container writes in its volumes. When a path inside one is then used outside the container
//! (`subPath`, kubelet VOL-60), a symbolic link put there at the right moment would lead to any
//! file of the host (CVE-2017-1002101, CVE-2021-25741). So the path is walked one name at a time
//! from an open directory, never following a link by the kernel's hand: a link is read and its
//! target walked in the same way, and what leads out of the directory is an error. The result is an
//! open descriptor, which no later change redirects.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fmt, io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags},
    io::Errno,
};

/// Links walked through before giving up, as the kernel does.
const MAX_LINKS: u32 = 40;
const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A path could not be found, or must not be used.
#[derive(Debug, thiserror::Error)]
pub enum BeneathError {
    /// The path, or a link on its way, leads out of the directory.
    #[error("{path} leads out of {base}")]
    Escapes {
        /// The directory that must not be left.
        base: PathBuf,
        /// The path inside it as far as it was walked.
        path: PathBuf,
    },
    /// More links than any honest path has.
    #[error("{path} in {base}: more than {MAX_LINKS} symbolic links")]
    TooManyLinks {
        /// The directory.
        base: PathBuf,
        /// The path as asked for.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("{operation} {path} in {base}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The directory.
        base: PathBuf,
        /// The path inside it as far as it was walked.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// What to do with names that are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// An error.
    Refuse,
    /// A directory of exactly this mode, whatever the umask. Not where a link leads: one that leads to
    /// nothing is in the way, as it is for `mkdir`.
    MakeDirectory {
        /// The permission bits, with set-id and sticky bits.
        mode: u32,
    },
}

/// Something found beneath a directory, held open.
pub struct Beneath {
    fd: OwnedFd,
    relative: PathBuf,
    is_directory: bool,
}

impl Beneath {
    /// Walks `path` from the directory `base`.
    ///
    /// An absolute link is followed when it points into one of `aliases`: the names that `base` has
    /// for those who make links in it (the host's own name where `base` is reached through
    /// `/proc/1/root`). With the alias `/`, `..` at the top stays there. Intermediate mounts are crossed, as a plain look-up would.
    ///
    /// Blocks.
    ///
    /// # Errors
    /// See [`BeneathError`]; `path` must be relative.
    pub fn find(
        base: &Path,
        aliases: &[&Path],
        path: &Path,
        missing: Missing,
    ) -> Result<Self, BeneathError> {
        Walk::open(base, aliases, path)?.run(missing)
    }

    /// The descriptor; opened with `O_PATH` or, where it was made, for reading.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// A path that reaches exactly this object in this process for as long as it is held.
    pub fn proc_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }

    /// Where it was found below the base, with no link left in the path.
    pub fn relative(&self) -> &Path {
        &self.relative
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.is_directory
    }

    /// Opens what was found for reading, if it is a regular file: nothing that would block.
    ///
    /// # Errors
    /// When it is anything else, or cannot be read.
    pub fn open_regular(&self) -> io::Result<std::fs::File> {
        // Its name in /proc is a link that the kernel follows to exactly this object.
        opened_regular(&self.proc_path(), OFlags::empty())
    }
}

impl fmt::Debug for Beneath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Beneath")
            .field("relative", &self.relative)
            .finish_non_exhaustive()
    }
}

struct Walk<'a> {
    base: &'a Path,
    aliases: &'a [&'a Path],
    asked: &'a Path,
    root: OwnedFd,
    /// What was walked, each name held open: `..` goes back here and never asks the kernel.
    found: Vec<(OwnedFd, OsString)>,
    /// What is still to be walked, and whether a link said so.
    todo: VecDeque<(OsString, bool)>,
    links: u32,
}

impl<'a> Walk<'a> {
    fn open(
        base: &'a Path,
        aliases: &'a [&'a Path],
        asked: &'a Path,
    ) -> Result<Self, BeneathError> {
        let root = rustix::fs::open(base, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(
            |errno| BeneathError::Io {
                operation: "open",
                base: base.to_owned(),
                path: PathBuf::new(),
                source: errno.into(),
            },
        )?;
        let mut walk = Self {
            base,
            aliases,
            asked,
            root,
            found: Vec::new(),
            todo: VecDeque::new(),
            links: 0,
        };
        if asked.is_absolute() {
            return Err(walk.escapes(asked));
        }
        walk.prepend(asked, false);
        Ok(walk)
    }

    fn run(mut self, missing: Missing) -> Result<Beneath, BeneathError> {
        while let Some((name, of_link)) = self.todo.pop_front() {
            if name == ".." {
                // Above the root of everything is the root of everything.
                if self.found.pop().is_none() && !self.aliases.contains(&Path::new("/")) {
                    return Err(self.escapes(Path::new("..")));
                }
                continue;
            }
            // A look with a slash behind the name makes an automounter mount what belongs there,
            // which O_PATH does not; whether it worked shows next.
            let mut automount = name.clone();
            automount.push("/");
            let _ = rustix::fs::statat(self.here(), &automount, AtFlags::SYMLINK_NOFOLLOW);
            match rustix::fs::openat(self.here(), &name, LOOK, Mode::empty()) {
                Ok(fd) => self.take(fd, name)?,
                Err(Errno::NOENT) => match missing {
                    Missing::Refuse => return Err(self.failed("open", &name, Errno::NOENT)),
                    Missing::MakeDirectory { .. } if of_link => {
                        return Err(self.failed("make directory", &name, Errno::EXIST));
                    }
                    Missing::MakeDirectory { mode } => self.make(name, mode)?,
                },
                Err(errno) => return Err(self.failed("open", &name, errno)),
            }
        }
        let relative = self.relative();
        let fd = match self.found.pop() {
            Some((fd, _)) => fd,
            None => self.root,
        };
        let is_directory = rustix::fs::fstat(&fd)
            .map(|stat| FileType::from_raw_mode(stat.st_mode).is_dir())
            .map_err(|errno| BeneathError::Io {
                operation: "stat",
                base: self.base.to_owned(),
                path: relative.clone(),
                source: errno.into(),
            })?;
        Ok(Beneath {
            fd,
            relative,
            is_directory,
        })
    }

    /// Goes on from what was opened: into it, or along the link that it is.
    fn take(&mut self, fd: OwnedFd, name: OsString) -> Result<(), BeneathError> {
        let stat = rustix::fs::fstat(&fd).map_err(|errno| self.failed("stat", &name, errno))?;
        if !FileType::from_raw_mode(stat.st_mode).is_symlink() {
            self.found.push((fd, name));
            return Ok(());
        }
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(BeneathError::TooManyLinks {
                base: self.base.to_owned(),
                path: self.asked.to_owned(),
            });
        }
        let target = rustix::fs::readlinkat(&fd, "", Vec::new())
            .map_err(|errno| self.failed("read link", &name, errno))?;
        let target = Path::new(OsStr::from_bytes(target.as_bytes()));
        if target.is_absolute() {
            let Some(inside) = self
                .aliases
                .iter()
                .find_map(|alias| target.strip_prefix(alias).ok())
            else {
                return Err(self.escapes(Path::new(&name)));
            };
            self.found.clear();
            self.prepend(inside, true);
        } else {
            self.prepend(target, true);
        }
        Ok(())
    }

    /// Makes a directory and goes into it. Not a link that takes its place meanwhile.
    fn make(&mut self, name: OsString, mode: u32) -> Result<(), BeneathError> {
        match rustix::fs::mkdirat(self.here(), &name, Mode::from_raw_mode(mode)) {
            Ok(()) => {}
            // Somebody else made it: look again.
            Err(Errno::EXIST) => {
                self.todo.push_front((name, false));
                return Ok(());
            }
            Err(errno) => return Err(self.failed("make directory", &name, errno)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(self.here(), &name, flags, Mode::empty())
            .map_err(|errno| self.failed("open", &name, errno))?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))
            .map_err(|errno| self.failed("change mode of", &name, errno))?;
        self.found.push((fd, name));
        Ok(())
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.found
            .last()
            .map_or_else(|| self.root.as_fd(), |(fd, _)| fd.as_fd())
    }

    fn prepend(&mut self, path: &Path, of_link: bool) {
        for component in path.components().rev() {
            let name = match component {
                Component::Normal(name) => name.to_owned(),
                Component::ParentDir => "..".into(),
                Component::CurDir | Component::RootDir | Component::Prefix(_) => continue,
            };
            self.todo.push_front((name, of_link));
        }
    }

    fn relative(&self) -> PathBuf {
        self.found.iter().map(|(_, name)| name).collect()
    }

    fn escapes(&self, last: &Path) -> BeneathError {
        BeneathError::Escapes {
            base: self.base.to_owned(),
            path: self.relative().join(last),
        }
    }

    fn failed(&self, operation: &'static str, name: &OsStr, errno: Errno) -> BeneathError {
        BeneathError::Io {
            operation,
            base: self.base.to_owned(),
            path: self.relative().join(name),
            source: errno.into(),
        }
    }
}

/// Opens a regular file for reading, no link and nothing that would block. What a container may
/// have written through a bind mount is read in this way.
///
/// # Errors
/// When it is not there, is a link, or is not a regular file.
pub fn open_regular(path: &Path) -> io::Result<std::fs::File> {
    opened_regular(path, OFlags::NOFOLLOW)
}

fn opened_regular(path: &Path, more: OFlags) -> io::Result<std::fs::File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | more;
    let fd = rustix::fs::open(path, flags, Mode::empty())?;
    let stat = rustix::fs::statat(&fd, "", AtFlags::EMPTY_PATH)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    Ok(fd.into())
}

#[cfg(test)]
mod tests;
