//! After the last command: the table of timings, teardown commands, the last output, the exit code.

use std::{os::fd::AsFd, process::ExitCode, time::Instant};

use super::{Error, Supervisor};
use crate::{
    behaviours::{Exit, teardown, timings},
    output::{LAST_WRITE_LIMIT, colour::ColourLevel},
    process::{self, Child, Input, Launch, Out},
    reap::{
        self,
        poll::{self, Interest},
    },
    signal::Signal,
};

impl Supervisor {
    pub(super) fn finish(mut self) -> Result<ExitCode, Error> {
        let all_ended = !self.stop.is_at_once()
            || self
                .commands
                .iter()
                .all(|command| matches!(command.phase, super::Phase::Closed));
        for index in 0..self.commands.len() {
            self.output.finished(index);
        }
        if self.config.timings {
            for line in timings::table(&self.ended) {
                self.output.global_event(&line);
            }
        }
        // Who has asked twice for the end does not want to wait for more.
        let torn_down = self.stop.is_at_once() || self.teardown()?;
        self.write_out()?;
        let success = all_ended && torn_down && self.config.success.holds(&self.ended);
        Ok(if success {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// Runs the teardown commands in turn; false if one could not be started (KIL-20).
    fn teardown(&mut self) -> Result<bool, Error> {
        for text in std::mem::take(&mut self.config.teardown) {
            self.output
                .global_event(&teardown::start_announcement(&text));
            // It writes to the same place.
            self.write_out()?;
            let spawned = process::spawn(Launch {
                text: &text,
                input: Input::Inherited,
                out: Out::Inherited,
                force_color: self.config.force_color.map(ColourLevel::number),
                share_group: reap::stdin_is_terminal(),
            });
            let exit = match spawned {
                Ok(child) => self.wait_for_teardown(&child)?,
                Err(error) => {
                    self.output
                        .global_event(&teardown::error_announcement(&text));
                    self.output.global_event(&crate::explain(&error));
                    return Ok(false);
                }
            };
            self.output
                .global_event(&teardown::end_announcement(&text, exit));
            if teardown::ends_sequence(exit) {
                break;
            }
        }
        Ok(true)
    }

    /// Signals go to the teardown command meanwhile: the first as it is, the next as SIGKILL.
    fn wait_for_teardown(&mut self, child: &Child) -> Result<Exit, Error> {
        let mut passed_on: Option<Instant> = None;
        loop {
            poll::wait(&[(self.signals.as_fd(), Interest::Read)], None).map_err(Error::Poll)?;
            while let Some(signal) = self.signals.take() {
                match signal {
                    Signal::CHLD => {
                        let mut exit = None;
                        while let Some((pid, how)) = reap::next_dead_child() {
                            if pid == child.group.leader() {
                                exit = Some(how);
                            }
                        }
                        if let Some(exit) = exit {
                            return Ok(exit);
                        }
                    }
                    Signal::TSTP => {
                        child.group.send(signal);
                        reap::stop_ourselves();
                    }
                    Signal::CONT => child.group.send(signal),
                    signal => {
                        let now = Instant::now();
                        let copy = crate::behaviours::stop::COPY_WINDOW;
                        match passed_on {
                            None => {
                                passed_on = Some(now);
                                child.group.send(signal);
                            }
                            Some(at) if now < at + copy => {}
                            Some(_) => child.group.send(Signal::KILL),
                        }
                    }
                }
            }
        }
    }

    /// Waits until everything is written. A signal, now or before, limits the wait for a reader that does not read.
    fn write_out(&mut self) -> Result<(), Error> {
        let mut deadline = self
            .stop
            .is_by_signal()
            .then(|| Instant::now() + LAST_WRITE_LIMIT);
        while let Some(stdout) = self.output.waiting_descriptor() {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                break;
            }
            let watched = [
                (self.signals.as_fd(), Interest::Read),
                (stdout, Interest::Write),
            ];
            poll::wait(&watched, deadline).map_err(Error::Poll)?;
            while let Some(signal) = self.signals.take() {
                match signal {
                    Signal::CHLD => while reap::next_dead_child().is_some() {},
                    Signal::TSTP => reap::stop_ourselves(),
                    Signal::CONT => {}
                    _ => {
                        deadline.get_or_insert(Instant::now() + LAST_WRITE_LIMIT);
                    }
                }
            }
            self.output.write_ready();
        }
        Ok(())
    }
}
