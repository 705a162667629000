//! Standard output without blocking for long.
//!
//! The descriptor is shared with whoever started us, so it must stay in blocking mode. A pipe that is ready takes
//! `PIPE_BUF` bytes without blocking and without mixing them with others' (POSIX `write`), so everything is written
//! in pieces of at most that size that end with a line where there is one.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd},
};

use crate::reap::poll::{Interest, is_ready};

const PIECE: usize = libc::PIPE_BUF;
/// More waiting than this, and the commands are not read (back-pressure, INI-13).
const HIGH_WATER: usize = 256 * 1024;

#[derive(Debug)]
pub(crate) struct Sink {
    stdout: File,
    waiting: Vec<u8>,
    broken: bool,
}

impl Sink {
    pub(crate) fn open() -> io::Result<Self> {
        let stdout = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Self {
            stdout: stdout.into(),
            waiting: Vec::new(),
            broken: false,
        })
    }

    /// Takes all of `bytes` and writes what goes at once.
    pub(crate) fn push(&mut self, bytes: &mut Vec<u8>) {
        if !self.broken {
            self.waiting.extend_from_slice(bytes);
        }
        bytes.clear();
        self.write_ready();
    }

    pub(crate) fn write_ready(&mut self) {
        let mut written = 0;
        while written < self.waiting.len() && is_ready(self.stdout.as_fd(), Interest::Write) {
            match self.stdout.write(first_piece(&self.waiting[written..])) {
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.broken = true;
                    self.waiting = Vec::new();
                    return;
                }
            }
        }
        self.waiting.drain(..written);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= HIGH_WATER
    }

    pub(crate) fn waiting_descriptor(&self) -> Option<BorrowedFd<'_>> {
        (!self.waiting.is_empty()).then(|| self.stdout.as_fd())
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }
}

fn first_piece(bytes: &[u8]) -> &[u8] {
    if bytes.len() <= PIECE {
        return bytes;
    }
    match bytes[..PIECE].iter().rposition(|&byte| byte == b'\n') {
        Some(end) => &bytes[..=end],
        None => &bytes[..PIECE],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_end_with_a_line_where_there_is_one() {
        assert_eq!(first_piece(b"a\nb"), b"a\nb");
        let long = [b"a\n".to_vec(), vec![b'x'; PIECE]].concat();
        assert_eq!(first_piece(&long), b"a\n");
        assert_eq!(first_piece(&long[2..]).len(), PIECE);
    }
}
