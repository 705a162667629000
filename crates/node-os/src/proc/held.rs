//! What a process holds: open files, sockets, limits, groups.

use std::{fs, io};

use super::Proc;
use crate::read::{self, ReadError};

/// Open files of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenFiles {
    /// All descriptors.
    pub files: u64,
    /// Of these, sockets.
    pub sockets: u64,
}

/// As whom a process runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
}

impl Proc {
    /// As whom a process runs now.
    ///
    /// # Errors
    /// When it is gone.
    pub fn identity(&self, pid: u32) -> Result<Identity, ReadError> {
        let path = self.path(&format!("proc/{pid}/status"));
        let text = read::text(&path)?;
        let numbers = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let words = line.unwrap_or_default().split_whitespace();
            words
                .map_while(|word| word.parse().ok())
                .collect::<Vec<u32>>()
        };
        // Real, effective, saved, file system.
        match (numbers("Uid:").get(1), numbers("Gid:").get(1)) {
            (Some(uid), Some(gid)) => Ok(Identity {
                uid: *uid,
                gid: *gid,
                groups: numbers("Groups:"),
            }),
            _ => Err(ReadError::content(&path, "no Uid or Gid")),
        }
    }

    /// The open files of a process.
    ///
    /// # Errors
    /// When it is gone, or we may not look.
    pub fn open_files(&self, pid: u32) -> Result<OpenFiles, ReadError> {
        let path = self.path(&format!("proc/{pid}/fd"));
        let fail = |error: io::Error| ReadError::Io(path.clone(), error);
        let mut open = OpenFiles::default();
        for entry in fs::read_dir(&path).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            open.files += 1;
            // Closed meanwhile: not a socket any more.
            let target = fs::read_link(entry.path()).unwrap_or_default();
            if target.to_string_lossy().starts_with("socket:") {
                open.sockets += 1;
            }
        }
        Ok(open)
    }

    /// How many files a process may open (soft limit); `None` for any number.
    ///
    /// # Errors
    /// When it is gone.
    pub fn open_files_limit(&self, pid: u32) -> Result<Option<u64>, ReadError> {
        let path = self.path(&format!("proc/{pid}/limits"));
        let text = read::text(&path)?;
        let soft = text.lines().find_map(|line| {
            line.strip_prefix("Max open files")?
                .split_whitespace()
                .next()
        });
        match soft {
            Some("unlimited") => Ok(None),
            Some(number) => number
                .parse()
                .map(Some)
                .map_err(|_| ReadError::content(&path, number)),
            None => Err(ReadError::content(&path, &text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_files_sockets_and_limit_are_counted() {
        let proc = Proc::new();
        let pid = std::process::id();
        let before = proc.open_files(pid).unwrap();
        let _pair = std::os::unix::net::UnixStream::pair().unwrap();
        // Other tests open and close files at the same time.
        assert!(before.files > 2, "{before:?}");
        assert!(proc.open_files(pid).unwrap().sockets >= 2);
        assert!(
            proc.open_files_limit(pid)
                .unwrap()
                .is_none_or(|limit| limit > 10)
        );
        let own = proc.identity(pid).unwrap();
        assert_eq!(own.uid, rustix::process::geteuid().as_raw());
        assert_eq!(own.gid, rustix::process::getegid().as_raw());
        assert!(proc.open_files(4_194_305).unwrap_err().is_gone());
    }
}
