//! Everything that is written to standard output (OUT rows): lines of commands with their prefixes, lines about
//! commands, lines of our own.
//!
//! Differs: a command's output is passed on line by line, so that lines of two commands never mix (INI-13). A line
//! without end is shown after [`lines::PARTIAL_DELAY`], so that prompts appear.
//!
//! Without `--group` there is one [`Stream`], standard output itself; with it each command that is not yet to be
//! seen has one of its own, held back until its turn (OUT-20).

pub(crate) mod colour;
pub(crate) mod lines;
pub(crate) mod prefix;
pub(crate) mod sink;
pub(crate) mod timestamp;

use std::{
    io,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use jiff::Zoned;

use self::{
    colour::Paint,
    lines::{Channel, LineBuffers},
    prefix::{Facts, PrefixKind},
    sink::Sink,
};
use crate::cli::Config;

/// Output held back by `--group` beyond this keeps us from reading more of that command until its turn.
const HELD_BACK_LIMIT: usize = 64 * 1024 * 1024;

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Command(usize),
    Global,
}

/// A text in the making, and where its last line stands.
#[derive(Debug, Default)]
struct Stream {
    bytes: Vec<u8>,
    /// Who wrote last, if the line is not finished.
    open: Option<Source>,
}

impl Stream {
    /// Adds a text line by line. An unfinished line is continued by its own source and broken off by others (OUT-03);
    /// a prefix comes only with the text behind it (OUT-04).
    fn add(&mut self, source: Source, prefix: &str, text: &[u8]) {
        let text = &*without_ellipsis(text);
        if self.open.is_some_and(|open| open != source) {
            self.break_line();
        }
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            if self.open.is_none() {
                self.bytes.extend_from_slice(prefix.as_bytes());
            }
            self.bytes.extend_from_slice(line);
            self.open = (!line.ends_with(b"\n")).then_some(source);
        }
    }

    fn break_line(&mut self) {
        if self.open.take().is_some() {
            self.bytes.push(b'\n');
        }
    }
}

#[derive(Debug)]
struct CommandOutput {
    facts: Facts,
    paint: Paint,
    hidden: bool,
    lines: LineBuffers,
    /// With `--group`: what waits for its turn.
    held_back: Stream,
    finished: bool,
}

/// The one writer of standard output.
#[derive(Debug)]
pub(crate) struct Output {
    sink: Sink,
    live: Stream,
    commands: Vec<CommandOutput>,
    prefix: PrefixKind,
    /// Width that prefixes are padded to; 0 without `--pad-prefix`.
    width: usize,
    pad: bool,
    raw: bool,
    /// With `--group`: commands up to this one are live.
    active: Option<usize>,
    global_prefix: String,
    reset: Paint,
}

impl Output {
    /// # Errors
    /// Standard output cannot be duplicated.
    pub(crate) fn open(config: &Config) -> io::Result<Self> {
        let reset = Paint::parse("reset", config.colour);
        let commands: Vec<CommandOutput> = config
            .commands
            .iter()
            .zip(&config.prefix_colors)
            .enumerate()
            .map(|(index, (command, colour))| CommandOutput {
                facts: Facts::new(index, &command.name, &command.text, config.prefix_length),
                paint: Paint::parse(colour, config.colour),
                hidden: config.is_hidden(index),
                lines: LineBuffers::default(),
                held_back: Stream::default(),
                finished: false,
            })
            .collect();
        let mut output = Self {
            sink: Sink::open()?,
            live: Stream::default(),
            commands,
            prefix: PrefixKind::new(config.prefix.as_deref(), config.timestamp_format.clone()),
            width: 0,
            pad: config.pad_prefix,
            raw: config.raw,
            active: config.group.then_some(0),
            global_prefix: format!("{} ", reset.apply("-->")),
            reset,
        };
        for index in 0..output.commands.len() {
            output.widen(index);
        }
        Ok(output)
    }

    /// A command has a (new) process.
    pub(crate) fn started(&mut self, index: usize, pid: Option<i32>) {
        self.commands[index].facts.pid = pid;
        self.widen(index);
    }

    fn widen(&mut self, index: usize) {
        if self.pad {
            self.width = self
                .width
                .max(self.prefix.width(&self.commands[index].facts));
        }
    }

    /// Output of a command, as it comes.
    pub(crate) fn command_output(
        &mut self,
        index: usize,
        channel: Channel,
        bytes: &[u8],
        now: Instant,
    ) {
        let text = self.commands[index].lines.push(channel, bytes, now);
        self.add_command_text(index, &text);
    }

    /// A line about a command (OUT-06), after what it has written.
    pub(crate) fn command_event(&mut self, index: usize, text: &str) {
        if self.raw || self.commands[index].hidden {
            return;
        }
        self.flush_lines(index);
        let text = format!("{}\n", self.reset.apply(text));
        let source = Source::Command(index);
        let stream = self.stream(index);
        // Never on a line that the command itself has begun (OUT-09).
        stream.break_line();
        let prefix = self.prefix_text(index);
        self.stream(index).add(source, &prefix, text.as_bytes());
        self.push_live();
    }

    /// A line of our own (OUT-07). Not held back by `--group`.
    pub(crate) fn global_event(&mut self, text: &str) {
        if self.raw {
            return;
        }
        let text = format!("{}\n", self.reset.apply(text));
        self.live
            .add(Source::Global, &self.global_prefix, text.as_bytes());
        self.push_live();
    }

    /// A command has ended for good, or will never start; with `--group` the next has its turn.
    pub(crate) fn finished(&mut self, index: usize) {
        self.flush_lines(index);
        self.commands[index].finished = true;
        if self.active != Some(index) {
            return;
        }
        for next in index + 1..self.commands.len() {
            self.active = Some(next);
            self.release(next);
            if !self.commands[next].finished {
                break;
            }
        }
    }

    fn release(&mut self, index: usize) {
        let held_back = std::mem::take(&mut self.commands[index].held_back);
        if held_back.bytes.is_empty() {
            return;
        }
        self.live.break_line();
        self.live.bytes.extend_from_slice(&held_back.bytes);
        self.live.open = held_back.open;
        self.push_live();
    }

    /// Shows lines that have waited long enough for their end.
    pub(crate) fn flush_overdue(&mut self, now: Instant) {
        for index in 0..self.commands.len() {
            let text = self.commands[index].lines.take_overdue(now);
            self.add_command_text(index, &text);
        }
    }

    /// When [`Self::flush_overdue`] has something to do.
    pub(crate) fn next_overdue(&self) -> Option<Instant> {
        self.commands
            .iter()
            .filter_map(|command| command.lines.overdue_at())
            .min()
    }

    fn flush_lines(&mut self, index: usize) {
        let text = self.commands[index].lines.take_all();
        self.add_command_text(index, &text);
    }

    fn add_command_text(&mut self, index: usize, text: &[u8]) {
        if text.is_empty() || self.commands[index].hidden {
            return;
        }
        let prefix = self.prefix_text(index);
        self.stream(index)
            .add(Source::Command(index), &prefix, text);
        self.push_live();
    }

    fn stream(&mut self, index: usize) -> &mut Stream {
        match self.active {
            Some(active) if index > active => &mut self.commands[index].held_back,
            _ => &mut self.live,
        }
    }

    fn prefix_text(&self, index: usize) -> String {
        let command = &self.commands[index];
        let prefix = self.prefix.text(&command.facts, self.width, Zoned::now);
        if prefix.is_empty() {
            prefix
        } else {
            format!("{} ", command.paint.apply(&prefix))
        }
    }

    fn push_live(&mut self) {
        self.sink.push(&mut self.live.bytes);
    }

    /// Whether so much waits that this command should not be read for now.
    pub(crate) fn is_full(&self, index: usize) -> bool {
        self.sink.is_full() || self.commands[index].held_back.bytes.len() >= HELD_BACK_LIMIT
    }

    /// What to poll for writing, while something waits to be written.
    pub(crate) fn waiting_descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.sink.waiting_descriptor()
    }

    /// Writes what standard output takes without blocking.
    pub(crate) fn write_ready(&mut self) {
        self.sink.write_ready();
    }

    /// Nobody reads standard output any more; everything is dropped from then on.
    pub(crate) fn is_broken(&self) -> bool {
        self.sink.is_broken()
    }
}

/// How long to wait for a reader of standard output after a signal has ended us.
pub(crate) const LAST_WRITE_LIMIT: Duration = Duration::from_secs(2);

/// U+2026 becomes three dots (OUT-05).
fn without_ellipsis(text: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    const ELLIPSIS: &[u8] = "…".as_bytes();
    if !text
        .windows(ELLIPSIS.len())
        .any(|window| window == ELLIPSIS)
    {
        return text.into();
    }
    let mut replaced = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(ELLIPSIS) {
            replaced.extend_from_slice(b"...");
            rest = after;
        } else {
            replaced.push(*first);
            rest = tail;
        }
    }
    replaced.into()
}

#[cfg(test)]
mod tests;
