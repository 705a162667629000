//! Output of one command, gathered into whole lines (INI-13).

use std::time::{Duration, Instant};

/// A line without end is shown after this time.
pub(crate) const PARTIAL_DELAY: Duration = Duration::from_millis(100);
/// ... or when it has this many bytes.
pub(crate) const PARTIAL_LIMIT: usize = 64 * 1024;

/// Which of a command's two pipes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    Stdout,
    Stderr,
}

#[derive(Debug, Default)]
struct Partial {
    bytes: Vec<u8>,
    since: Option<Instant>,
}

impl Partial {
    fn take(&mut self) -> Vec<u8> {
        self.since = None;
        std::mem::take(&mut self.bytes)
    }
}

/// The unfinished lines of a command.
#[derive(Debug, Default)]
pub(crate) struct LineBuffers {
    stdout: Partial,
    stderr: Partial,
}

impl LineBuffers {
    /// Takes bytes as they come, gives what can be shown: whole lines, or a line that has grown too long.
    pub(crate) fn push(&mut self, channel: Channel, bytes: &[u8], now: Instant) -> Vec<u8> {
        let partial = match channel {
            Channel::Stdout => &mut self.stdout,
            Channel::Stderr => &mut self.stderr,
        };
        let Some(end) = bytes.iter().rposition(|&byte| byte == b'\n') else {
            partial.bytes.extend_from_slice(bytes);
            partial.since.get_or_insert(now);
            return if partial.bytes.len() >= PARTIAL_LIMIT {
                partial.take()
            } else {
                Vec::new()
            };
        };
        let mut complete = partial.take();
        complete.extend_from_slice(&bytes[..=end]);
        if end + 1 < bytes.len() {
            partial.bytes.extend_from_slice(&bytes[end + 1..]);
            partial.since = Some(now);
        }
        complete
    }

    /// The unfinished lines that are due.
    pub(crate) fn take_overdue(&mut self, now: Instant) -> Vec<u8> {
        let mut text = Vec::new();
        for partial in [&mut self.stdout, &mut self.stderr] {
            if partial
                .since
                .is_some_and(|since| now >= since + PARTIAL_DELAY)
            {
                text.extend(partial.take());
            }
        }
        text
    }

    pub(crate) fn overdue_at(&self) -> Option<Instant> {
        let since = [self.stdout.since, self.stderr.since]
            .into_iter()
            .flatten()
            .min()?;
        Some(since + PARTIAL_DELAY)
    }

    /// All that is left; the two channels do not share a line.
    pub(crate) fn take_all(&mut self) -> Vec<u8> {
        let mut text = self.stdout.take();
        if !text.is_empty() && !self.stderr.bytes.is_empty() {
            text.push(b'\n');
        }
        text.extend(self.stderr.take());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_held_until_they_are_whole() {
        let now = Instant::now();
        let mut lines = LineBuffers::default();
        assert_eq!(lines.push(Channel::Stdout, b"a", now), b"");
        assert_eq!(lines.push(Channel::Stderr, b"x\ny", now), b"x\n");
        assert_eq!(lines.push(Channel::Stdout, b"b\nc\nd", now), b"ab\nc\n");
        assert_eq!(lines.take_all(), b"d\ny");
        assert_eq!(lines.overdue_at(), None);
    }

    #[test]
    fn a_line_without_end_is_shown_after_a_while() {
        let now = Instant::now();
        let mut lines = LineBuffers::default();
        lines.push(Channel::Stdout, b"name: ", now);
        assert_eq!(lines.overdue_at(), Some(now + PARTIAL_DELAY));
        assert_eq!(lines.take_overdue(now), b"");
        assert_eq!(lines.take_overdue(now + PARTIAL_DELAY), b"name: ");
        assert_eq!(lines.overdue_at(), None);
    }

    #[test]
    fn a_line_without_end_does_not_grow_for_ever() {
        let now = Instant::now();
        let mut lines = LineBuffers::default();
        assert_eq!(
            lines
                .push(Channel::Stdout, &vec![b'x'; PARTIAL_LIMIT], now)
                .len(),
            PARTIAL_LIMIT
        );
    }
}
