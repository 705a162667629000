//! One container's copy from Docker's json-file to the CRI log. Blocking; driven by the pump.
//!
//! ```text
//!  Docker appends to <id>-json.log; when it is full:
//!      .1 is dropped, <id>-json.log becomes .1, a new <id>-json.log appears
//!
//!  held:  [ oldest, being read ] ... [ newest, Docker writes to it ]
//! ```
//!
//! Files are held open from when they are first seen until they are read to their end, so what
//! Docker rotates away meanwhile is not lost. Which file follows which is told by device and
//! inode, which can't be used again while a file is held.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use memchr::{memchr, memrchr};
use rustix::fs::OFlags;

use super::{
    position::{Bytes, Chain, Located, MAX_LINE, locate},
    record::{Record, Stamp, write_gap},
    sink::Sink,
};

/// How much of Docker's file is read and converted at once.
const CHUNK: usize = 256 << 10;
/// Most of Docker's rotated files that are looked for.
const MAX_ROTATED: usize = 32;
/// How many files that Docker has dropped are held at once; a container that writes faster than
/// we copy loses lines beyond.
const MAX_DROPPED: usize = 3;

/// Buffers for one sweep over many tails.
#[derive(Debug)]
pub(super) struct Scratch {
    read: Vec<u8>,
    lines: Vec<u8>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            read: vec![0; CHUNK],
            lines: Vec::new(),
        }
    }
}

/// What a sweep of a tail left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// All that Docker recorded is in the CRI log.
    CaughtUp,
    /// There is more; others come first.
    More,
}

/// What may have happened to Docker's files since the last sweep that caught up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum News {
    /// Lines were appended to those we hold.
    #[default]
    Lines,
    /// Anything: another file may have been begun.
    Anything,
}

/// Things that operators count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Places where lines are missing.
    pub(super) gaps: u64,
    /// Lines of Docker's file that are no records.
    pub(super) malformed: u64,
}

/// One of Docker's files.
#[derive(Debug)]
struct Held {
    file: File,
    id: (u64, u64),
    offset: u64,
}

impl Held {
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match open_untraced(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let metadata = file.metadata()?;
        Ok(Some(Self {
            file,
            id: (metadata.dev(), metadata.ino()),
            offset: 0,
        }))
    }
}

/// Opens a file so that the file system does not note when it was read: after each line of Docker's it would
/// write that down anew. Only the file's owner may wish so; for others that does not matter.
fn open_untraced(path: &Path) -> io::Result<File> {
    let untraced = File::options()
        .read(true)
        .custom_flags(OFlags::NOATIME.bits().cast_signed())
        .open(path);
    match untraced {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => File::open(path),
        opened => opened,
    }
}

/// A container's log on its way.
#[derive(Debug)]
pub(super) struct Tail {
    docker: PathBuf,
    held: VecDeque<Held>,
    /// Lines are missing before the next one.
    gap: bool,
    sink: Sink,
    tally: Tally,
    /// Bytes that were read since they were asked for.
    bytes: u64,
}

impl Tail {
    /// Opens the CRI log and finds where to go on in Docker's files, of which `docker` is the
    /// newest; none need exist yet. `born` is when the container was created, where that is known.
    pub(super) fn open(docker: PathBuf, log: &Path, born: Option<Stamp>) -> io::Result<Self> {
        let sink = Sink::open(log)?;
        let mut tail = Self {
            docker,
            held: VecDeque::new(),
            gap: false,
            sink,
            tally: Tally::default(),
            bytes: 0,
        };
        tail.held = tail.present()?.into();
        if let Some(position) = tail.sink.position(born)? {
            let chain = Chain::new(tail.held.iter().map(|held| &held.file))?;
            let located = locate(&chain, &position)?;
            let (Located::At(offset) | Located::Lost(offset)) = located;
            if located == Located::Lost(offset) {
                tail.gap = true;
                tail.tally.gaps += 1;
            }
            let (index, offset) = chain.locate(offset);
            tail.held.drain(..index);
            if let Some(first) = tail.held.front_mut() {
                first.offset = offset;
            }
        }
        Ok(tail)
    }

    /// Docker's files as they are now, oldest first.
    fn present(&self) -> io::Result<Vec<Held>> {
        // Docker may rotate while we look: only a listing whose newest is still the newest counts.
        // Two attempts collide with a rotation only if 16 MiB were written in between.
        let mut newest_first = Vec::new();
        for _ in 0..3 {
            newest_first.clear();
            newest_first.extend(Held::open(&self.docker)?);
            for number in 1..=MAX_ROTATED {
                let mut path = self.docker.clone().into_os_string();
                path.push(format!(".{number}"));
                match Held::open(Path::new(&path))? {
                    Some(held) => newest_first.push(held),
                    None => break,
                }
            }
            if newest_first.first().map(|held| held.id) == identity(&self.docker)? {
                break;
            }
        }
        newest_first.dedup_by_key(|held| held.id);
        newest_first.reverse();
        Ok(newest_first)
    }

    /// Takes hold of files that Docker has begun since the last look.
    fn notice_rotation(&mut self) -> io::Result<()> {
        let newest = self.held.back().map(|held| held.id);
        match identity(&self.docker)? {
            // Not begun, or between two: the next event tells.
            None => return Ok(()),
            id if id == newest => return Ok(()),
            Some(_) => {}
        }
        let present = self.present()?;
        let known = newest.and_then(|id| present.iter().position(|held| held.id == id));
        if newest.is_some() && known.is_none() {
            // What we hold is gone from the directory, and perhaps not it alone.
            self.lost();
        }
        let most = present.len() + MAX_DROPPED;
        self.held
            .extend(present.into_iter().skip(known.map_or(0, |index| index + 1)));
        while self.held.len() > most {
            self.held.pop_front();
            self.lost();
        }
        Ok(())
    }

    fn lost(&mut self) {
        if !self.gap {
            self.gap = true;
            self.tally.gaps += 1;
        }
    }

    /// Copies at most about `budget` bytes of what Docker has recorded.
    ///
    /// # Errors
    /// When Docker's file can't be read or the CRI log can't be written. Nothing is lost by that:
    /// the next call goes on where this one stopped.
    pub(super) fn sweep(
        &mut self,
        scratch: &mut Scratch,
        budget: usize,
        news: News,
    ) -> Result<Progress, TailError> {
        if self.sink.is_blocked() {
            self.sink.flush().map_err(TailError::Write)?;
        }
        if news == News::Anything {
            self.notice_rotation().map_err(TailError::Read)?;
        }
        let mut copied = 0;
        while copied < budget {
            let rotated = self.held.len() > 1;
            let Some(source) = self.held.front_mut() else {
                return Ok(Progress::CaughtUp);
            };
            let read = source
                .file
                .read_from(source.offset, &mut scratch.read)
                .map_err(TailError::Read)?;
            let chunk = &scratch.read[..read];
            let Some(end) = memrchr(b'\n', chunk) else {
                if read == scratch.read.len() {
                    // A line that large is none of Docker's.
                    if read >= MAX_LINE {
                        source.offset += read as u64;
                        self.tally.malformed += 1;
                    } else {
                        scratch.read.resize(MAX_LINE, 0);
                    }
                    continue;
                }
                if read == 0 && source.file.length().map_err(TailError::Read)? < source.offset {
                    // Emptied in place: max-file is 1, or somebody's hand.
                    source.offset = 0;
                    continue;
                }
                if rotated {
                    // Docker closed it before it began the next: this is its end.
                    self.held.pop_front();
                    continue;
                }
                return Ok(Progress::CaughtUp);
            };
            let complete = &chunk[..=end];
            scratch.lines.clear();
            convert(complete, &mut scratch.lines, &mut self.gap, &mut self.tally);
            source.offset += complete.len() as u64;
            copied += complete.len();
            self.bytes += complete.len() as u64;
            self.sink.append(&scratch.lines).map_err(TailError::Write)?;
            if read < scratch.read.len() && !rotated {
                // The file ended there: what comes later is an event of its own.
                return Ok(Progress::CaughtUp);
            }
        }
        Ok(Progress::More)
    }

    /// See [`Sink::reopen`].
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.sink.reopen()
    }

    /// How many bytes of Docker's files were copied since the last call.
    pub(super) fn take_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.bytes)
    }

    /// What there is to count since the last call.
    pub(super) fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }
}

/// A sweep did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum TailError {
    /// The CRI log can't be made, or Docker's can't be read.
    #[error("open")]
    Open(#[source] io::Error),
    /// Docker's side.
    #[error("read docker's log")]
    Read(#[source] io::Error),
    /// Our side.
    #[error("write the container's log")]
    Write(#[source] io::Error),
}

/// Device and inode of what is at `path`.
fn identity(path: &Path) -> io::Result<Option<(u64, u64)>> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        metadata => metadata.map(|metadata| Some((metadata.dev(), metadata.ino()))),
    }
}

/// Appends the CRI lines of complete json-file lines.
fn convert(mut docker: &[u8], lines: &mut Vec<u8>, gap: &mut bool, tally: &mut Tally) {
    while let Some(end) = memchr(b'\n', docker) {
        let (line, rest) = docker.split_at(end);
        docker = &rest[1..];
        if let Some(record) = Record::parse(line) {
            if std::mem::take(gap) {
                write_gap(record.stamp, lines);
            }
            record.write_cri(lines);
        } else {
            tally.malformed += 1;
        }
    }
}

#[cfg(test)]
mod tests;
