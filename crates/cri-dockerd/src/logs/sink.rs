//! The file that the CRI asked for: complete lines appended, rotation on request, trouble remembered.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use memchr::memrchr;
use rustix::fs::OFlags;

use super::{
    position::{Position, complete_length, last_written},
    record::Stamp,
};

/// Owner writes, group reads, as containerd's log files.
const MODE: u32 = 0o640;

/// A CRI log that is being written.
#[derive(Debug)]
pub(super) struct Sink {
    path: PathBuf,
    file: File,
    /// Lines that were accepted and could not be written yet. Starts at a line's start.
    pending: Vec<u8>,
    /// How many bytes of `pending` are in the file: the beginning of its first line.
    torn: usize,
}

impl Sink {
    /// Opens or makes the log, and its directory. An unfinished line, left by a process that was
    /// killed while it wrote, is cut off. A symbolic link (upstream puts one there, LOG-02) is
    /// replaced: what it leads to is not ours to write.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink()) {
            fs::remove_file(path)?;
        }
        let file = open(path)?;
        let complete = complete_length(&file)?;
        if complete < file.metadata()?.len() {
            file.set_len(complete)?;
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            pending: Vec::new(),
            torn: 0,
        })
    }

    /// The last line that was written, here or before the last rotation.
    /// What is older than `born`, the container's creation, another container has written.
    pub(super) fn position(&self, born: Option<Stamp>) -> io::Result<Option<Position>> {
        let older = rotated(&self.path)?.into_iter().map(File::open);
        let older = older.collect::<io::Result<Vec<_>>>()?;
        let newest_first: Vec<&File> = std::iter::once(&self.file).chain(&older).collect();
        let mut position = last_written(&newest_first)?;
        if let Some(position) = &mut position {
            position.compare(born);
        }
        Ok(position)
    }

    /// Appends complete lines. On an error they are kept as far as they are not written, and
    /// [`Self::flush`] tries again; until then nothing more may be appended.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        debug_assert!(self.pending.is_empty(), "what is pending goes first");
        let mut rest = lines;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return self.keep(lines, rest, io::ErrorKind::WriteZero.into()),
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.keep(lines, rest, error),
            }
        }
        Ok(())
    }

    fn keep(&mut self, lines: &[u8], rest: &[u8], error: io::Error) -> io::Result<()> {
        let written = lines.len() - rest.len();
        let start = memrchr(b'\n', &lines[..written]).map_or(0, |at| at + 1);
        self.pending = lines[start..].to_vec();
        self.torn = written - start;
        Err(error)
    }

    /// Tries again what could not be written.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let pending = std::mem::take(&mut self.pending);
        let torn = std::mem::take(&mut self.torn);
        let result = self.append(&pending[torn..]);
        if result.is_err() && !self.pending.is_empty() && self.pending.len() == pending.len() - torn
        {
            // Nothing of the first line's rest was written: the beginning still belongs to it.
            self.torn += torn;
            self.pending = pending;
        }
        result
    }

    /// Whether lines wait for [`Self::flush`].
    pub(super) fn is_blocked(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The file that later lines go to, after the kubelet has renamed the present one (LOG-06).
    /// On an error all stays as it was.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        let file = open(&self.path)?;
        let old = std::mem::replace(&mut self.file, file);
        let_go(&old);
        if self.torn > 0 {
            // The whole line goes to the new file. Cutting is for the old file's readers only.
            if let Ok(metadata) = old.metadata() {
                drop(old.set_len(metadata.len().saturating_sub(self.torn as u64)));
            }
            self.torn = 0;
        }
        Ok(())
    }

    /// The path as the CRI named it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Opens or makes the file, for us alone: a second process over the same engine (an old one that
/// still ends, or one started by mistake) would repeat every line.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(MODE)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    // A file system without locks is fine.
    if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        let text = "another cri-dockerd writes this log: stop one of the two";
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
    }
    Ok(file)
}

/// Gives the lock up. Closing alone would not do at once: a process that is just being started (a CNI
/// plugin) shares our open files until it runs its own program.
fn let_go(file: &File) {
    drop(file.unlock());
}

impl Drop for Sink {
    fn drop(&mut self) {
        let_go(&self.file);
    }
}

/// The predecessors of a log that the kubelet rotated (`<log>.20251122-163600`), newest first.
/// Those it has compressed are no longer the newest and are left out.
pub(super) fn rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?.file_name();
        let time = entry
            .as_encoded_bytes()
            .strip_prefix(name.as_encoded_bytes())
            .and_then(|rest| rest.strip_prefix(b"."));
        let is_time = |time: &[u8]| {
            time.len() == 15
                && time.iter().enumerate().all(|(i, byte)| match i {
                    8 => *byte == b'-',
                    _ => byte.is_ascii_digit(),
                })
        };
        if time.is_some_and(is_time) {
            names.push(entry);
        }
    }
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names.into_iter().map(|name| directory.join(name)).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn unfinished_line_is_cut_off_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pod/0.log");
        fs::create_dir(dir.path().join("pod")).unwrap();
        fs::write(&path, "one\ntw").unwrap();
        Sink::open(&path).unwrap().append(b"two\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one\ntwo\n");

        let docker = dir.path().join("docker.log");
        fs::rename(&path, &docker).unwrap();
        symlink(&docker, &path).unwrap();
        Sink::open(&path).unwrap().append(b"three\n").unwrap();
        assert_eq!(fs::read(&docker).unwrap(), b"one\ntwo\n");
        assert_eq!(fs::read(&path).unwrap(), b"three\n");
    }

    #[test]
    fn one_log_has_one_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let first = Sink::open(&path).unwrap();
        let second = Sink::open(&path).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::ResourceBusy);
        drop(first);
        Sink::open(&path).unwrap();
    }

    #[test]
    fn new_file_is_there_when_reopen_returns_and_gets_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (
            dir.path().join("0.log"),
            dir.path().join("0.log.20251122-163600"),
        );
        let mut sink = Sink::open(&path).unwrap();
        sink.append(b"one\n").unwrap();
        fs::rename(&path, &old).unwrap();
        sink.append(b"two\n").unwrap();
        sink.reopen().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
        sink.append(b"three\n").unwrap();
        assert_eq!(fs::read(&old).unwrap(), b"one\ntwo\n");
        assert_eq!(fs::read(&path).unwrap(), b"three\n");
        assert_eq!(rotated(&path).unwrap(), [old]);
    }

    #[test]
    fn torn_line_goes_as_a_whole_to_the_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (
            dir.path().join("0.log"),
            dir.path().join("0.log.20251122-163600"),
        );
        let mut sink = Sink::open(&path).unwrap();
        // As after a write that stopped within the second of three lines.
        sink.file.write_all(b"one\ntw").unwrap();
        sink.keep(
            b"one\ntwo\nthree\n",
            b"o\nthree\n",
            io::ErrorKind::StorageFull.into(),
        )
        .unwrap_err();
        assert!(sink.is_blocked());
        fs::rename(&path, &old).unwrap();
        sink.reopen().unwrap();
        sink.flush().unwrap();
        assert!(!sink.is_blocked());
        assert_eq!(fs::read(&old).unwrap(), b"one\n");
        assert_eq!(fs::read(&path).unwrap(), b"two\nthree\n");
    }

    #[test]
    fn log_is_free_at_once_though_a_starting_process_shares_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut sink = Sink::open(&path).unwrap();
        let shared = sink.file.try_clone().unwrap();
        assert!(Sink::open(&path).is_err(), "two writers");
        fs::rename(&path, dir.path().join("0.log.20251122-163600")).unwrap();
        sink.reopen().unwrap();
        let shared_too = sink.file.try_clone().unwrap();
        drop(sink);
        Sink::open(&path).unwrap();
        drop((shared, shared_too));
    }

    #[test]
    fn full_disk_loses_and_repeats_nothing() {
        // `/dev/full` accepts nothing at all.
        let dir = tempfile::tempdir().unwrap();
        let mut sink = Sink::open(&dir.path().join("0.log")).unwrap();
        sink.file.write_all(b"on").unwrap();
        sink.keep(
            b"one\ntwo\n",
            b"e\ntwo\n",
            io::ErrorKind::StorageFull.into(),
        )
        .unwrap_err();
        let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let good = std::mem::replace(&mut sink.file, full);
        for _ in 0..2 {
            assert_eq!(sink.flush().unwrap_err().kind(), io::ErrorKind::StorageFull);
            assert_eq!(
                (sink.pending.as_slice(), sink.torn),
                (&b"one\ntwo\n"[..], 2)
            );
        }
        sink.file = good;
        sink.flush().unwrap();
        assert_eq!(fs::read(sink.path()).unwrap(), b"one\ntwo\n");
    }
}
