//! What `poll` tells: who is asked, and what is taken from those that are ready.

use std::{
    io::{self, Read},
    os::fd::AsFd,
    time::Instant,
};

use super::{Error, Supervisor};
use crate::{
    output::lines::Channel,
    process::pipe::PipeState,
    reap::{
        self,
        poll::{self, Interest},
    },
    signal::Signal,
};

/// Read at most this much of what the dead have left; a pipe holds less.
const DRAIN_BYTES: usize = 1024 * 1024;

/// What a descriptor in `poll` stands for.
#[derive(Clone, Copy)]
pub(super) enum Token {
    Signals,
    Stdout,
    Stdin,
    Output(usize, Channel),
    Input(usize),
}

impl Supervisor {
    pub(super) fn wait(&self, deadline: Option<Instant>) -> Result<Vec<Token>, Error> {
        let mut tokens = vec![Token::Signals];
        let mut watched = vec![(self.signals.as_fd(), Interest::Read)];
        if let Some(stdout) = self.output.waiting_descriptor() {
            tokens.push(Token::Stdout);
            watched.push((stdout, Interest::Write));
        }
        for (index, command) in self.commands.iter().enumerate() {
            let Some(child) = command.child() else {
                continue;
            };
            if !self.output.is_full(index) {
                for (channel, pipe) in [
                    (Channel::Stdout, &child.stdout),
                    (Channel::Stderr, &child.stderr),
                ] {
                    if let Some(pipe) = pipe {
                        tokens.push(Token::Output(index, channel));
                        watched.push((pipe.as_fd(), Interest::Read));
                    }
                }
            }
            if let Some(pipe) = child.stdin.as_ref().filter(|pipe| pipe.is_waiting()) {
                tokens.push(Token::Input(index));
                watched.push((pipe.as_fd(), Interest::Write));
            }
        }
        if let Some(stdin) = self
            .stdin
            .as_ref()
            .filter(|stdin| stdin.open && !self.is_input_full())
        {
            tokens.push(Token::Stdin);
            watched.push((stdin.file.as_fd(), Interest::Read));
        }
        let ready = poll::wait(&watched, deadline).map_err(Error::Poll)?;
        Ok(tokens
            .into_iter()
            .zip(ready)
            .filter_map(|(token, ready)| ready.then_some(token))
            .collect())
    }

    pub(super) fn take(&mut self, token: Token, now: Instant) {
        match token {
            Token::Signals => {
                while let Some(signal) = self.signals.take() {
                    self.take_signal(signal, now);
                }
            }
            Token::Stdout => self.output.write_ready(),
            Token::Stdin => self.read_stdin(),
            Token::Output(index, channel) => {
                self.read_output(index, channel, now);
            }
            Token::Input(index) => {
                if let Some(child) = self.commands[index].child_mut() {
                    child.stdin.take_if(|pipe| pipe.flush() == PipeState::Done);
                }
            }
        }
    }

    fn take_signal(&mut self, signal: Signal, now: Instant) {
        match signal {
            Signal::CHLD => {
                while let Some((pid, exit)) = reap::next_dead_child() {
                    // Others are orphans that we have adopted: waited for, nothing more (INI-01).
                    if let Some(index) = self
                        .commands
                        .iter()
                        .position(|command| command.is_led_by(pid))
                    {
                        self.leader_exited(index, exit, now);
                    }
                }
            }
            // The terminal stops our group alone; the commands are in groups of their own.
            Signal::TSTP => {
                self.send_to_all(Signal::TSTP);
                reap::stop_ourselves();
            }
            Signal::CONT => self.send_to_all(Signal::CONT),
            signal => self.stop_requested(signal, now),
        }
    }

    /// Reads once; returns how much. The end and any error close our end of the pipe.
    fn read_output(&mut self, index: usize, channel: Channel, now: Instant) -> usize {
        let Some(child) = self.commands[index].child_mut() else {
            return 0;
        };
        let pipe = match channel {
            Channel::Stdout => &mut child.stdout,
            Channel::Stderr => &mut child.stderr,
        };
        let Some(file) = pipe else { return 0 };
        match file.read(&mut self.buffer) {
            Ok(count) if count > 0 => {
                self.output
                    .command_output(index, channel, &self.buffer[..count], now);
                count
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Ok(_) | Err(_) => {
                *pipe = None;
                0
            }
        }
    }

    /// What the dead have written is not lost, even if others keep the pipe open or nobody reads ours.
    pub(super) fn read_what_is_left(&mut self, index: usize, channel: Channel, now: Instant) {
        let mut total = 0;
        while total < DRAIN_BYTES && self.commands[index].has_output(channel) {
            match self.read_output(index, channel, now) {
                0 => break,
                count => total += count,
            }
        }
    }
}
