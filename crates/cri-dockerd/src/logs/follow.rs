//! One container's copy through the engine's logs API: for engines whose files we can't see, for
//! log drivers other than json-file, and where the kernel has no watch left.
//!
//! One task per container. It asks the pump where the log ends, lets Docker send what is behind
//! that, and hands over converted lines one chunk at a time; the pump writes. At most one chunk is
//! under way, so a disk that is full stops the reading.

use std::time::Duration;

use memchr::{memchr, memmem};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    orders::{Command, Key},
    position::{Located, Position, Search, Skip},
    record::{Record, Stamp, write_gap},
};
use crate::engine::{ByteStream, Engine, EngineError, FrameDecoder, LogsQuery, StreamKind};

/// Longest unfinished line of a terminal that is kept.
const MAX_UNFINISHED: usize = 1 << 20;
/// Pause before the first new attempt after a failure, doubled up to [`MAX_DELAY`].
const MIN_DELAY: Duration = Duration::from_millis(250);
const MAX_DELAY: Duration = Duration::from_secs(15);

/// A follower and what it needs.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) key: Key,
    pub(super) tty: bool,
    pub(super) engine: Engine,
    pub(super) pump: mpsc::Sender<Command>,
    /// Cancelled when the container's log is of no interest any more.
    pub(super) token: CancellationToken,
}

/// The pump is gone or has no use for us.
struct Unwanted;

enum CopyError {
    Unwanted,
    Engine(EngineError),
}

impl From<EngineError> for CopyError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<Unwanted> for CopyError {
    fn from(Unwanted: Unwanted) -> Self {
        Self::Unwanted
    }
}

impl Follower {
    /// Copies until the container has exited and all it said is written, or nobody wants it.
    pub(super) async fn run(self) {
        let token = self.token.clone();
        tokio::select! {
            biased;
            // cancel-safe: dropping the follower is the point.
            () = token.cancelled() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&self) {
        let mut delay = MIN_DELAY;
        let mut complained = false;
        loop {
            match self.copy().await {
                Err(CopyError::Unwanted) => return,
                Ok(copied) => {
                    if copied {
                        (delay, complained) = (MIN_DELAY, false);
                    }
                    // Docker ends the stream of what doesn't run, and when it ends itself.
                    match self.engine.inspect_container(&self.key.id).await {
                        Ok(found) if !found.state.running => return self.ended().await,
                        Err(error) if error.is_not_found() => return self.ended().await,
                        Ok(_) | Err(_) => {}
                    }
                }
                Err(CopyError::Engine(error)) if error.is_not_found() => return self.ended().await,
                Err(CopyError::Engine(error)) => {
                    let error = daemon::ErrorChain(&error).to_string();
                    let retry_ms = delay.as_millis();
                    if complained {
                        debug!(container.id = %self.key.id, error, retry_ms, "still can't follow the container's log");
                    } else {
                        complained = true;
                        warn!(container.id = %self.key.id, error, retry_ms, "can't follow the container's log, will retry");
                    }
                }
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(MAX_DELAY);
        }
    }

    async fn ended(&self) {
        // When the pump is gone there is nobody to tell.
        let _ = self
            .pump
            .send(Command::Ended {
                key: self.key.clone(),
            })
            .await;
    }

    /// Copies from where the log ends until Docker closes the stream. Whether there was anything.
    async fn copy(&self) -> Result<bool, CopyError> {
        let (reply, position) = oneshot::channel();
        let command = Command::Position {
            key: self.key.clone(),
            reply,
        };
        self.pump.send(command).await.map_err(|_| Unwanted)?;
        let position = position.await.map_err(|_| Unwanted)?;
        let (mut skip, mut gap) = match &position {
            None => (None, false),
            Some(position) => {
                let located = self.locate(position).await?;
                let (Located::At(count) | Located::Lost(count)) = located;
                (
                    Some(Skip::new(position, count)),
                    located == Located::Lost(count),
                )
            }
        };
        let mut records = self.records(position.as_ref(), true).await?;
        let mut copied = false;
        let mut lines = Vec::new();
        loop {
            let more = records
                .next(|record| {
                    if skip.as_mut().is_some_and(|skip| skip.takes(record)) {
                        return;
                    }
                    if std::mem::take(&mut gap) {
                        write_gap(record.stamp, &mut lines);
                    }
                    record.write_cri(&mut lines);
                })
                .await?;
            if !lines.is_empty() {
                copied = true;
                self.hand_over(std::mem::take(&mut lines)).await?;
            }
            if !more {
                return Ok(copied);
            }
        }
    }

    /// How many of the records from the position's `since` on are written already.
    async fn locate(&self, position: &Position) -> Result<Located, CopyError> {
        let mut records = self.records(Some(position), false).await?;
        let mut search = Search::new(position, true);
        let mut count = 0;
        let mut see = |record: &Record<'_>| {
            search.see(record, count, count + 1);
            count += 1;
        };
        while records.next(&mut see).await? {}
        Ok(search.located(count).unwrap_or(Located::At(count)))
    }

    async fn records(&self, from: Option<&Position>, follow: bool) -> Result<Records, EngineError> {
        let query = LogsQuery {
            follow,
            timestamps: true,
            since: from.and_then(|position| position.since.since()),
            tail: None,
        };
        let bytes = self.engine.logs(&self.key.id, &query).await?;
        Ok(Records {
            bytes,
            decoder: Decoder::new(self.tty),
        })
    }

    /// Returns when the lines are in the file.
    async fn hand_over(&self, lines: Vec<u8>) -> Result<(), Unwanted> {
        let (reply, written) = oneshot::channel();
        let command = Command::Lines {
            key: self.key.clone(),
            lines,
            reply,
        };
        self.pump.send(command).await.map_err(|_| Unwanted)?;
        written.await.map_err(|_| Unwanted)
    }
}

/// Records as they come from the logs API.
struct Records {
    bytes: ByteStream,
    decoder: Decoder,
}

impl Records {
    /// Waits for bytes and shows the records that are complete; false at the end of the stream.
    async fn next(&mut self, mut show: impl FnMut(&Record<'_>)) -> Result<bool, EngineError> {
        match self.bytes.next().await {
            Some(Ok(data)) => {
                self.decoder.push(&data, &mut show)?;
                Ok(true)
            }
            Some(Err(error)) => Err(error),
            None => {
                self.decoder.finish(&mut show);
                Ok(false)
            }
        }
    }
}

/// Takes the answer of the logs API with `timestamps=1` apart.
#[derive(Debug)]
pub(super) struct Decoder {
    frames: FrameDecoder,
    /// The unfinished line of a terminal; `None` without a terminal, where a frame is a record.
    unfinished: Option<Vec<u8>>,
}

impl Decoder {
    /// For a container with (`tty`) or without a terminal.
    pub(super) fn new(tty: bool) -> Self {
        Self {
            frames: FrameDecoder::new(tty),
            unfinished: tty.then(Vec::new),
        }
    }

    /// Adds bytes and shows the records that are complete.
    ///
    /// # Errors
    /// As [`FrameDecoder::next`].
    pub(super) fn push(
        &mut self,
        data: &[u8],
        show: &mut impl FnMut(&Record<'_>),
    ) -> Result<(), EngineError> {
        self.frames.push(data);
        while let Some((stream, data)) = self.frames.next()? {
            match &mut self.unfinished {
                None => {
                    if let Some((stamp, text)) = stamped(&data) {
                        show(&Record::plain(stream, stamp, text));
                    }
                }
                Some(unfinished) => {
                    unfinished.extend_from_slice(&data);
                    let mut start = 0;
                    while let Some(at) = memchr(b'\n', &unfinished[start..]) {
                        terminal_line(&unfinished[start..=start + at], show);
                        start += at + 1;
                    }
                    unfinished.drain(..start);
                    if unfinished.len() > MAX_UNFINISHED {
                        begin_of_line(unfinished, show);
                    }
                }
            }
        }
        Ok(())
    }

    /// Shows what is left at the end: a last line without newline.
    fn finish(&mut self, show: &mut impl FnMut(&Record<'_>)) {
        if let Some(unfinished) = self.unfinished.take().filter(|rest| !rest.is_empty()) {
            terminal_line(&unfinished, show);
        }
    }
}

/// Splits `<time> <text>`.
fn stamped(data: &[u8]) -> Option<(Stamp, &[u8])> {
    let at = memchr(b' ', data)?;
    Some((Stamp::parse(&data[..at])?, &data[at + 1..]))
}

/// Shows the records of one line of a terminal. The pieces of a long line come without anything
/// between them but the time before each, which is the same for all.
fn terminal_line(line: &[u8], show: &mut impl FnMut(&Record<'_>)) {
    let Some((stamp, mut text)) = stamped(line) else {
        return;
    };
    let time = &line[..line.len() - text.len()];
    while let Some(at) = memmem::find(text, time) {
        show(&Record::plain(StreamKind::Stdout, stamp, &text[..at]));
        text = &text[at + time.len()..];
    }
    show(&Record::plain(StreamKind::Stdout, stamp, text));
}

/// Shows the records of a line whose end is still to come, and takes them off it. What stays begins
/// with the line's time, as its next pieces will: a last piece that may not be whole, or that time
/// alone.
fn begin_of_line(line: &mut Vec<u8>, show: &mut impl FnMut(&Record<'_>)) {
    let Some((_, text)) = stamped(line) else {
        // No line of Docker's.
        line.clear();
        return;
    };
    let time = line.len() - text.len();
    if let Some(at) = memmem::rfind(text, &line[..time]) {
        terminal_line(&line[..time + at], show);
        line.drain(..time + at);
    } else {
        terminal_line(line, show);
        line.truncate(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(tty: bool, data: &[u8], cut: usize) -> String {
        let mut decoder = Decoder::new(tty);
        let mut lines = Vec::new();
        let mut show = |record: &Record<'_>| record.write_cri(&mut lines);
        let (head, tail) = data.split_at(cut);
        decoder.push(head, &mut show).unwrap();
        decoder.push(tail, &mut show).unwrap();
        decoder.finish(&mut show);
        String::from_utf8(lines).unwrap()
    }

    fn frame(kind: u8, text: &str) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&[kind, 0, 0, 0][..], &length, text.as_bytes()].concat()
    }

    #[test]
    fn frames_are_records_however_the_bytes_are_cut() {
        let data = [
            frame(1, "2026-11-22T16:49:05.100000000Z pie"),
            frame(2, "2026-11-22T16:49:05.200000000Z oops\n"),
            frame(1, "2026-11-22T16:49:05.100000000Z ce\n"),
        ]
        .concat();
        for cut in 0..=data.len() {
            assert_eq!(
                decode(false, &data, cut),
                "2026-11-22T16:49:05.100000000Z stdout P pie\n\
                 2026-11-22T16:49:05.200000000Z stderr F oops\n\
                 2026-11-22T16:49:05.100000000Z stdout F ce\n"
            );
        }
    }

    #[test]
    fn terminal_lines_are_told_apart_from_pieces() {
        let data = b"2026-11-22T16:49:05.1Z pie2026-11-22T16:49:05.1Z ce\r\n\
                     2026-11-22T16:49:06Z said 2026-11-22T16:49:05.1Z \r\n\
                     2026-11-22T16:49:07Z end";
        for cut in 0..=data.len() {
            assert_eq!(
                decode(true, data, cut),
                "2026-11-22T16:49:05.100000000Z stdout P pie\n\
                 2026-11-22T16:49:05.100000000Z stdout F ce\r\n\
                 2026-11-22T16:49:06.000000000Z stdout F said 2026-11-22T16:49:05.1Z \r\n\
                 2026-11-22T16:49:07.000000000Z stdout P end\n"
            );
        }
    }

    #[test]
    fn terminal_line_beyond_the_limit_loses_no_bytes() {
        const TIME: &str = "2026-11-22T16:49:05.100000000Z";
        let text = "0123456789".repeat(MAX_UNFINISHED / 8);
        for piece in [16 << 10, usize::MAX] {
            let mut data = Vec::new();
            for part in text.as_bytes().chunks(piece) {
                data.extend_from_slice(TIME.as_bytes());
                data.push(b' ');
                data.extend_from_slice(part);
            }
            data.extend_from_slice(b"\r\n");
            let mut decoder = Decoder::new(true);
            let mut lines = Vec::new();
            for part in data.chunks(4093) {
                let mut show = |record: &Record<'_>| record.write_cri(&mut lines);
                decoder.push(part, &mut show).unwrap();
            }
            let lines = String::from_utf8(lines).unwrap();
            let got: String = lines
                .lines()
                .map(|line| line.strip_prefix(TIME).unwrap())
                .map(|line| &line[" stdout P ".len()..])
                .collect();
            assert!(got.trim_end() == text, "{} of {}", got.len(), text.len());
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(tty: bool, data: Vec<u8>) {
            let mut decoder = Decoder::new(tty);
            let _ = decoder.push(&data, &mut |_| {});
            decoder.finish(&mut |_| {});
        }
    }
}
