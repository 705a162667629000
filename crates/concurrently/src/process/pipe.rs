//! Pipes to children.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{fs::OFlags, pipe::PipeFlags};

/// Waiting input beyond this keeps us from reading more of our own (back-pressure).
const HIGH_WATER: usize = 64 * 1024;

/// Our end of a child's standard input. Never blocks: what the child does not take yet waits here.
#[derive(Debug)]
pub(crate) struct InputPipe {
    pipe: File,
    waiting: Vec<u8>,
    closing: bool,
}

/// What is left of a pipe after writing to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PipeState {
    Open,
    /// Nobody reads any more, or the end of input has been passed on.
    Done,
}

/// A pipe for a child's input: the child's end and ours.
///
/// # Errors
/// No more descriptors.
pub(crate) fn input_pipe() -> io::Result<(OwnedFd, InputPipe)> {
    let (read_end, write_end) = silent_pipe()?;
    // The flag belongs to our end alone; the child's reads block as it expects.
    rustix::fs::fcntl_setfl(&write_end, OFlags::NONBLOCK)?;
    Ok((
        read_end,
        InputPipe {
            pipe: write_end.into(),
            waiting: Vec::new(),
            closing: false,
        },
    ))
}

/// A pipe whose write end is kept open without being written to.
///
/// # Errors
/// No more descriptors.
pub(crate) fn silent_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?)
}

impl InputPipe {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> PipeState {
        self.waiting.extend_from_slice(bytes);
        self.flush()
    }

    /// Passes on the end of input, after what is still waiting.
    pub(crate) fn close(&mut self) -> PipeState {
        self.closing = true;
        self.flush()
    }

    /// Writes what the child takes now. Call it when the pipe is writable.
    pub(crate) fn flush(&mut self) -> PipeState {
        while !self.waiting.is_empty() {
            match self.pipe.write(&self.waiting) {
                Ok(written) => {
                    self.waiting.drain(..written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return PipeState::Open,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return PipeState::Done,
            }
        }
        if self.closing {
            PipeState::Done
        } else {
            PipeState::Open
        }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= HIGH_WATER
    }
}

impl AsFd for InputPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}
