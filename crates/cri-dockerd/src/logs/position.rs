//! Where copying goes on after a restart: derived from the log that was written, never remembered.
//!
//! Pure but for reads. The last lines of the CRI log name a stream, a time and how many lines of
//! that stream carry that time (pieces of one long line share it). Docker records a stream's lines
//! in the order of their times, so the same stream, time and count name one place in Docker's
//! copy; whatever stands behind it has not been written yet, of either stream.
//!
//! One thing is beyond this: a line whose first pieces Docker has dropped while its last are still
//! to come (over 16 MiB long). Killed in the middle of it, we may leave out pieces of it.

use std::{fs::File, io, os::unix::fs::FileExt};

use memchr::{memchr, memrchr};

use super::record::{Record, Stamp, parse_cri};
use crate::engine::StreamKind;

/// First guess of how much must be read; grows by [`GROWTH`].
const WINDOW: u64 = 64 << 10;
const GROWTH: u64 = 8;
/// Longest line that is looked for; a record is at most about 100 KiB (16 KiB, each byte escaped).
pub(super) const MAX_LINE: usize = 1 << 20;

/// Something with bytes that can be read from anywhere.
pub(super) trait Bytes {
    /// How many bytes there are.
    fn length(&self) -> io::Result<u64>;
    /// Reads at most `buffer.len()` bytes from `offset` on; 0 at the end.
    fn read_from(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

impl Bytes for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_from(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.read_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

impl Bytes for [u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_from(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.get(offset..));
        let rest = rest.unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}

/// Several files, oldest first, as one.
#[derive(Debug)]
pub(super) struct Chain<'a, B: ?Sized> {
    /// Each part with its length as of construction.
    parts: Vec<(&'a B, u64)>,
}

impl<'a, B: Bytes + ?Sized> Chain<'a, B> {
    /// Takes the lengths now; what is appended later is not seen.
    pub(super) fn new(parts: impl IntoIterator<Item = &'a B>) -> io::Result<Self> {
        let parts = parts.into_iter().map(|part| Ok((part, part.length()?)));
        Ok(Self {
            parts: parts.collect::<io::Result<_>>()?,
        })
    }

    /// Part and offset in it of an offset in the whole; the last part's end for the end.
    pub(super) fn locate(&self, mut offset: u64) -> (usize, u64) {
        for (index, (_, length)) in self.parts.iter().enumerate() {
            if offset < *length {
                return (index, offset);
            }
            offset -= length;
        }
        let last = self.parts.last();
        (
            self.parts.len().saturating_sub(1),
            last.map_or(0, |(_, length)| *length),
        )
    }
}

impl<B: Bytes + ?Sized> Bytes for Chain<'_, B> {
    fn length(&self) -> io::Result<u64> {
        Ok(self.parts.iter().map(|(_, length)| length).sum())
    }

    fn read_from(&self, mut offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        for (part, length) in &self.parts {
            if offset < *length {
                let most = usize::try_from(length - offset)
                    .unwrap_or(usize::MAX)
                    .min(buffer.len());
                return part.read_from(offset, &mut buffer[..most]);
            }
            offset -= length;
        }
        Ok(0)
    }
}

/// The last line that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    stream: StreamKind,
    stamp: Stamp,
    /// Lines of this stream with this time.
    count: u64,
    /// No line that is still to come is older than this. A line can be older than the one before
    /// it: the streams are timed apart, and the pieces of a long line have the time of the first.
    pub(super) since: Stamp,
}

/// Where to go on in Docker's copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Located {
    /// Right behind the last line that was written.
    At(u64),
    /// The last line that was written is no longer there, nor, perhaps, are lines behind it: the
    /// oldest record that is certainly new.
    Lost(u64),
}

/// The end of the last complete line of `bytes`.
pub(super) fn complete_length(bytes: &(impl Bytes + ?Sized)) -> io::Result<u64> {
    let mut end = bytes.length()?;
    let mut buffer = vec![0; 4096];
    while end > 0 {
        let start = end.saturating_sub(buffer.len() as u64);
        let read = fill(bytes, start, &mut buffer, end)?;
        if let Some(at) = memrchr(b'\n', &buffer[..read]) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Fills `buffer` from `start` up to `end`.
fn fill(
    bytes: &(impl Bytes + ?Sized),
    start: u64,
    buffer: &mut [u8],
    end: u64,
) -> io::Result<usize> {
    let wanted = usize::try_from(end - start)
        .unwrap_or(usize::MAX)
        .min(buffer.len());
    let mut done = 0;
    while done < wanted {
        match bytes.read_from(start + done as u64, &mut buffer[done..wanted])? {
            0 => break,
            read => done += read,
        }
    }
    Ok(done)
}

/// Calls `found` with each complete line of `bytes` from the first line start at or behind `from`
/// on, and with the offset of its start. Lines over [`MAX_LINE`] are left out.
fn for_each_line(
    bytes: &(impl Bytes + ?Sized),
    from: u64,
    mut found: impl FnMut(u64, &[u8]),
) -> io::Result<()> {
    let end = bytes.length()?;
    // One byte earlier: if that is a newline, `from` is the start of a line.
    let mut offset = from.saturating_sub(1);
    let mut in_line = from == 0;
    let mut buffer = vec![
        0;
        MAX_LINE
            .min(usize::try_from(end - offset).unwrap_or(MAX_LINE))
            .max(1)
    ];
    loop {
        let read = fill(bytes, offset, &mut buffer, end)?;
        let mut rest = &buffer[..read];
        let mut start = offset;
        while let Some(at) = memchr(b'\n', rest) {
            if in_line {
                found(start, &rest[..at]);
            }
            in_line = true;
            start += at as u64 + 1;
            rest = &rest[at + 1..];
        }
        if offset + read as u64 >= end || read == 0 {
            return Ok(());
        }
        if start == offset {
            // A line that fills the buffer is none of ours.
            in_line = false;
            start += read as u64;
        }
        offset = start;
    }
}

/// Lines of one stream that carry the same time, as far as they have been seen.
#[derive(Debug, Clone, Copy)]
struct Group {
    stamp: Stamp,
    count: u64,
    /// Nothing of it stands before what has been read.
    whole: bool,
}

impl Group {
    /// Counts one more line of its stream; `from_start` when nothing stands before what is read.
    fn count(group: &mut Option<Self>, stamp: Stamp, from_start: bool) -> &mut Self {
        let whole = group.is_some() || from_start;
        if group.is_none_or(|group| group.stamp != stamp) {
            *group = Some(Self {
                stamp,
                count: 0,
                whole,
            });
        }
        let group = group.as_mut().expect("set above");
        group.count += 1;
        group
    }
}

/// The last line written to a CRI log, from its files, newest first. `None` when they have no line.
///
/// Our own marker lines are passed over: they stand for no record.
pub(super) fn last_written<B: Bytes + ?Sized>(newest_first: &[&B]) -> io::Result<Option<Position>> {
    let chain = Chain::new(newest_first.iter().rev().copied())?;
    let length = chain.length()?;
    let mut window = WINDOW;
    loop {
        let from = length.saturating_sub(window);
        let mut groups = [None; 2];
        let mut last = None;
        let mut since: Option<Stamp> = None;
        for_each_line(&chain, from, |_, line| {
            let Some((stamp, stream, false)) = parse_cri(line) else {
                return;
            };
            since = Some(since.map_or(stamp, |since| since.min(stamp)));
            last = Some((
                stream,
                *Group::count(&mut groups[stream as usize], stamp, from == 0),
            ));
        })?;
        match last.zip(since) {
            Some((
                (
                    stream,
                    Group {
                        stamp,
                        count,
                        whole: true,
                    },
                ),
                since,
            )) => {
                return Ok(Some(Position {
                    stream,
                    stamp,
                    count,
                    since,
                }));
            }
            None if from == 0 => return Ok(None),
            // Not seen in full: the start is further up. From 0 on every group is whole.
            _ => window = window.saturating_mul(GROWTH),
        }
    }
}

/// Looks for a position among Docker's records.
#[derive(Debug)]
pub(super) struct Search<'a> {
    position: &'a Position,
    from_start: bool,
    group: Option<Group>,
    /// Where the last line that was written ends.
    end: Option<(u64, bool)>,
    /// Where the first record that is newer than it starts.
    newer: Option<u64>,
}

impl<'a> Search<'a> {
    /// `from_start`: the records that will be shown begin with the oldest there is.
    pub(super) fn new(position: &'a Position, from_start: bool) -> Self {
        Self {
            position,
            from_start,
            group: None,
            end: None,
            newer: None,
        }
    }

    /// Takes note of a record that stands from `start` to `end`.
    pub(super) fn see(&mut self, record: &Record<'_>, start: u64, end: u64) {
        if record.stamp > self.position.stamp {
            self.newer.get_or_insert(start);
        }
        if record.stream == self.position.stream {
            let group = Group::count(&mut self.group, record.stamp, self.from_start);
            if group.stamp == self.position.stamp && group.count <= self.position.count {
                self.end = Some((end, group.whole));
            }
        }
    }

    /// Where the records go on that are not written; `all` is the end of what was shown. `None`
    /// when older records must be looked at.
    pub(super) fn located(&self, all: u64) -> Option<Located> {
        match (self.end, self.newer) {
            (Some((end, true)), _) => Some(Located::At(end)),
            _ if !self.from_start => None,
            (Some((end, false)), _) => Some(Located::At(end)),
            (None, Some(newer)) => Some(Located::Lost(newer)),
            (None, None) => Some(Located::At(all)),
        }
    }
}

/// Finds `position` in Docker's json-file records.
pub(super) fn locate(docker: &(impl Bytes + ?Sized), position: &Position) -> io::Result<Located> {
    let length = docker.length()?;
    let mut window = WINDOW;
    loop {
        let from = length.saturating_sub(window);
        let mut search = Search::new(position, from == 0);
        for_each_line(docker, from, |start, line| {
            if let Some(record) = Record::parse(line) {
                search.see(&record, start, start + line.len() as u64 + 1);
            }
        })?;
        match search.located(length) {
            Some(located) => return Ok(located),
            None => window = window.saturating_mul(GROWTH),
        }
    }
}

/// Leaves out the records at the beginning of a stream that were written before.
#[derive(Debug)]
pub(super) struct Skip {
    position: Position,
    remaining: u64,
}

impl Skip {
    /// Leaves out `count` records, as [`Search`] found it among what was recorded at that moment.
    pub(super) fn new(position: Position, count: u64) -> Self {
        Self {
            position,
            remaining: count,
        }
    }

    /// Whether to leave this record out.
    pub(super) fn takes(&mut self, record: &Record<'_>) -> bool {
        let Position { stream, stamp, .. } = self.position;
        if self.remaining == 0 {
            return false;
        }
        if record.stream == stream && record.stamp > stamp {
            // Docker dropped some since they were counted; this one is new.
            self.remaining = 0;
            return false;
        }
        self.remaining -= 1;
        true
    }
}

#[cfg(test)]
mod tests;
