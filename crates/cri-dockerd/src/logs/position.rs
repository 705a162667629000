//! Where copying goes on after a restart: derived from the log that was written, never remembered.
//!
//! Pure but for reads. The last lines of the CRI log name a stream, a time and how many lines of
//! that stream carry that time (pieces of one long line share it). Docker records a stream's lines
//! in the order of their times, so the same stream, time and count name one place in Docker's
//! copy; whatever stands behind it has not been written yet, of either stream.
//!
//! Docker may have dropped the first of several lines with that time (pieces of a line on both sides
//! of a file that went); the lines' texts then tell which are left, and where those are the same, the
//! lines of both streams before them do.

use std::{
    collections::VecDeque,
    fs::File,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    os::unix::fs::FileExt,
};

use memchr::{memchr, memrchr};

use super::record::{Record, Stamp, parse_cri};
use crate::engine::StreamKind;

/// First guess of how much must be read; grows by [`GROWTH`].
const WINDOW: u64 = 64 << 10;
const GROWTH: u64 = 8;
/// So many lines before one are compared where its own text does not tell which it is.
const CONTEXT: usize = 64;
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    stream: StreamKind,
    stamp: Stamp,
    /// Hashes of the lines of this stream with this time, at least one.
    lines: Vec<u64>,
    /// Hashes of the last lines of either stream, this one the last; at most [`CONTEXT`].
    recent: Recent,
    /// No line that is still to come is older than this. A line can be older than the one before
    /// it: the streams are timed apart, and the pieces of a long line have the time of the first.
    pub(super) since: Stamp,
    /// It is older than the container: unless the clock was set back, another container wrote it.
    foreign: bool,
}

impl Position {
    /// Takes note of when the container was created whose place is looked for.
    pub(super) fn compare(&mut self, born: Option<Stamp>) {
        self.foreign = born.is_some_and(|born| self.stamp < born);
    }
}

/// Hashes of the last lines, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Recent(VecDeque<u64>);

impl Recent {
    fn push(&mut self, hash: u64) {
        if self.0.len() == CONTEXT {
            self.0.pop_front();
        }
        self.0.push_back(hash);
    }

    /// The same lines, as far back as both know.
    fn agrees(&self, other: &Self) -> bool {
        let back = |lines: &'_ Self| lines.0.clone().into_iter().rev();
        back(self).zip(back(other)).all(|(one, other)| one == other)
    }
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
#[derive(Debug, Clone)]
struct Group {
    stamp: Stamp,
    /// For each line what the user of this wants to know of it.
    lines: Vec<(u64, u64)>,
    /// Nothing of it stands before what has been read.
    whole: bool,
}

impl Group {
    /// The group of the stream's next line; `from_start` when nothing stands before what is read.
    fn of(group: &mut Option<Self>, stamp: Stamp, from_start: bool) -> &mut Self {
        let whole = group.is_some() || from_start;
        if group.as_ref().is_none_or(|group| group.stamp != stamp) {
            *group = Some(Self {
                stamp,
                lines: Vec::new(),
                whole,
            });
        }
        group.as_mut().expect("set above")
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
        let mut groups = [None, None];
        let mut last = None;
        let mut recent = Recent::default();
        let mut since: Option<Stamp> = None;
        for_each_line(&chain, from, |_, line| {
            let Some((stamp, stream, false)) = parse_cri(line) else {
                return;
            };
            since = Some(since.map_or(stamp, |since| since.min(stamp)));
            let group = Group::of(&mut groups[stream as usize], stamp, from == 0);
            group.lines.push((hash(line), 0));
            recent.push(hash(line));
            last = Some(stream);
        })?;
        let group = last.and_then(|stream| groups[stream as usize].take());
        match (last, group, since) {
            (Some(stream), Some(group), Some(since)) if group.whole => {
                return Ok(Some(Position {
                    stream,
                    stamp: group.stamp,
                    lines: group.lines.into_iter().map(|(hash, _)| hash).collect(),
                    recent,
                    since,
                    foreign: false,
                }));
            }
            (None, ..) if from == 0 => return Ok(None),
            // Not seen in full: the start is further up. From 0 on every group is whole.
            _ => window = window.saturating_mul(GROWTH),
        }
    }
}

/// A record that may be the last that was written.
#[derive(Debug)]
struct Candidate {
    hash: u64,
    end: u64,
    /// Up to itself.
    recent: Recent,
}

/// Looks for a position among Docker's records.
#[derive(Debug)]
pub(super) struct Search<'a> {
    position: &'a Position,
    from_start: bool,
    group: Option<Group>,
    /// Where the last line that was written ends.
    end: Option<u64>,
    /// The records with the position's time, where the first may be missing.
    rest: Vec<Candidate>,
    /// The last records, as long as the stream's first may be missing.
    recent: Recent,
    line: Vec<u8>,
    /// Where the first record starts that is not known to be written.
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
            rest: Vec::new(),
            recent: Recent::default(),
            line: Vec::new(),
            newer: None,
        }
    }

    /// Takes note of a record that stands from `start` to `end`.
    pub(super) fn see(&mut self, record: &Record<'_>, start: u64, end: u64) {
        let Position {
            stream,
            stamp,
            ref lines,
            ..
        } = *self.position;
        if record.stamp > stamp {
            self.newer.get_or_insert(start);
        }
        if self.group.as_ref().is_none_or(|group| !group.whole) {
            self.line.clear();
            record.write_cri(&mut self.line);
            self.recent.push(hash(&self.line[..self.line.len() - 1]));
        }
        if record.stream != stream {
            return;
        }
        // The oldest group of a stream may have begun with records that Docker dropped.
        let group = Group::of(&mut self.group, record.stamp, false);
        if group.stamp != stamp || group.lines.len() >= lines.len() {
            return;
        }
        group.lines.push((0, end));
        if group.whole {
            self.end = Some(end);
        } else {
            self.newer.get_or_insert(start);
            self.rest.push(Candidate {
                hash: self.recent.0.back().copied().unwrap_or_default(),
                end,
                recent: self.recent.clone(),
            });
        }
    }

    /// Where the records go on that are not written; `all` is the end of what was shown. `None`
    /// when older records must be looked at.
    pub(super) fn located(&self, all: u64) -> Option<Located> {
        if let Some(end) = self.end {
            return Some(Located::At(end));
        }
        if !self.from_start {
            return None;
        }
        let located = match (self.aligned(), self.newer) {
            (Some(end), _) => Located::At(end),
            // None of this container's lines has been written.
            (None, _) if self.position.foreign => Located::At(0),
            (None, Some(newer)) => Located::Lost(newer),
            (None, None) => Located::At(all),
        };
        Some(located)
    }

    /// Where the last line that was written ends, among records of which the first may be missing:
    /// as few as explain the texts, of them and of what stands before them.
    fn aligned(&self) -> Option<u64> {
        let lines = &self.position.lines;
        let explained = || {
            (0..lines.len()).filter_map(|missing| {
                let common = self.rest.len().min(lines.len() - missing);
                let (rest, written) = (&self.rest[..common], &lines[missing..missing + common]);
                let equal = rest.iter().map(|one| &one.hash).eq(written);
                rest.last().filter(|_| equal)
            })
        };
        let recent = &self.position.recent;
        explained()
            .find(|one| one.recent.agrees(recent))
            .or_else(|| explained().next())
            .map(|one| one.end)
    }
}

fn hash(line: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    line.hash(&mut hasher);
    hasher.finish()
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
    stream: StreamKind,
    stamp: Stamp,
    remaining: u64,
}

impl Skip {
    /// Leaves out `count` records, as [`Search`] found it among what was recorded at that moment.
    pub(super) fn new(position: &Position, count: u64) -> Self {
        Self {
            stream: position.stream,
            stamp: position.stamp,
            remaining: count,
        }
    }

    /// Whether to leave this record out.
    pub(super) fn takes(&mut self, record: &Record<'_>) -> bool {
        if self.remaining == 0 {
            return false;
        }
        if record.stream == self.stream && record.stamp > self.stamp {
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
