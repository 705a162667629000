//! The loop that owns every command, from its start to its last end.
//!
//! ```text
//!            slot free          process exits            pipes drained, group gone
//!  Queued ------------> Running ------------> Draining --------------------------+
//!                          ^                                                     |
//!                          |  delay over                   tries left            v
//!                          +------------- Waiting <----------------------- (ended once)
//!                                            |  shutting down                    | final
//!  Queued --------- shutting down -----------+---------------> Closed <----------+
//! ```
//!
//! One pass: act on what is due ([`Supervisor::advance`]), then sleep in `poll` until something is ready or due, then
//! take what is ready. A pass that has changed something polls without sleeping, so that a signal is seen even while
//! commands fail as fast as they are started.

mod events;
mod finish;
mod managed;
mod shutdown;
mod stdin;

use std::{
    io,
    os::fd::OwnedFd,
    process::ExitCode,
    time::{Duration, Instant},
};

use jiff::Zoned;

use self::{
    managed::{Draining, Managed, Phase, Running},
    shutdown::{ForceKill, Stop},
    stdin::Stdin,
};
use crate::{
    behaviours::{Ended, Exit, kill_others, restart, timings},
    cli::Config,
    output::{Output, colour::ColourLevel, lines::Channel},
    process::{self, Launch, Out},
    reap::{self, Role, Signals},
    signal::Signal,
};

/// How long to wait for what others still hold open once a process has ended (KIL-06).
const DRAIN_LIMIT: Duration = Duration::from_millis(250);
/// Processes of a command that we have ended may outlive its first process by this (KIL-04).
const ORPHAN_GRACE: Duration = Duration::from_secs(5);
const READ_SIZE: usize = 64 * 1024;
/// Without a start for so long, we rest.
const AT_REST_AFTER: Duration = Duration::from_secs(2);

/// Why we cannot work at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot take over orphaned processes")]
    Orphans(#[source] io::Error),
    #[error("cannot receive signals")]
    Signals(#[source] io::Error),
    #[error("cannot use standard input or output")]
    Stdio(#[source] io::Error),
    #[error("cannot wait for events")]
    Poll(#[source] io::Error),
}

/// Runs everything in `config` to its end. Blocks.
///
/// # Errors
/// The kernel lacks or refuses something that nothing works without.
pub(crate) fn run(config: Config, at_rest: fn()) -> Result<ExitCode, Error> {
    Supervisor::open(config, at_rest)?.run()
}

struct Supervisor {
    config: Config,
    role: Role,
    signals: Signals,
    output: Output,
    commands: Vec<Managed>,
    /// The first command that has not had its turn; those after it neither (OPT-01).
    next: usize,
    slots: usize,
    /// Final ends in their order.
    ended: Vec<Ended>,
    stop: Stop,
    /// The last signal that was meant for us (SIG-02).
    caught: Option<Signal>,
    force_kills: Vec<ForceKill>,
    stdin: Option<Stdin>,
    /// Read and write end of the pipe that nobody writes to (INP-05), made when first needed.
    silence: Option<(OwnedFd, OwnedFd)>,
    /// For reading, from whomever.
    buffer: Vec<u8>,
    /// To be called when nothing was started for a while.
    at_rest: fn(),
    /// When that will be.
    rests_at: Option<Instant>,
}

impl Supervisor {
    fn open(config: Config, at_rest: fn()) -> Result<Self, Error> {
        let role = reap::adopt_orphans().map_err(Error::Orphans)?;
        let signals = Signals::open(role).map_err(Error::Signals)?;
        let output = Output::open(&config).map_err(Error::Stdio)?;
        let stdin = Stdin::open(&config).map_err(Error::Stdio)?;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            role,
            signals,
            output,
            commands: config.commands.iter().map(|_| Managed::default()).collect(),
            next: 0,
            slots: config
                .max_processes
                .resolve(processors, config.commands.len()),
            ended: Vec::with_capacity(config.commands.len()),
            stop: Stop::No,
            caught: None,
            force_kills: Vec::new(),
            stdin,
            silence: None,
            buffer: vec![0; READ_SIZE],
            at_rest,
            rests_at: None,
            config,
        })
    }

    fn run(mut self) -> Result<ExitCode, Error> {
        loop {
            let now = Instant::now();
            let changed = self.advance(now);
            if self.is_over(now) {
                break;
            }
            let deadline = if changed {
                Some(now)
            } else {
                self.next_deadline()
            };
            for token in self.wait(deadline)? {
                self.take(token, Instant::now());
            }
        }
        self.finish()
    }

    /// Does what is due; tells whether that was anything.
    fn advance(&mut self, now: Instant) -> bool {
        self.output.flush_overdue(now);
        let mut changed = self.notice_broken_output();
        changed |= self.start_due(now);
        for index in 0..self.commands.len() {
            changed |= self.settle(index, now);
        }
        changed |= self.advance_stop(now);
        if self.rests_at.is_some_and(|at| now >= at) {
            self.rests_at = None;
            (self.at_rest)();
        }
        changed
    }

    fn is_over(&self, now: Instant) -> bool {
        let all_closed = self
            .commands
            .iter()
            .all(|command| matches!(command.phase, Phase::Closed));
        all_closed || self.stop.is_given_up(now)
    }

    fn next_deadline(&self) -> Option<Instant> {
        let commands = self.commands.iter().filter_map(Managed::deadline);
        commands
            .chain(self.output.next_overdue())
            .chain(self.stop_deadline())
            .chain(self.rests_at)
            .min()
    }

    // Starting

    /// Starts what has a free slot, and again what has waited long enough.
    fn start_due(&mut self, now: Instant) -> bool {
        if self.stop.is_stopping() {
            return false;
        }
        let mut changed = false;
        while self.next < self.commands.len()
            && self.busy_slots() < self.slots
            && !self.stop.is_stopping()
        {
            let index = self.next;
            self.next += 1;
            self.start(index, now);
            changed = true;
        }
        for index in 0..self.commands.len() {
            // The one before may have failed at once and ended everything.
            if self.commands[index].restart_is_due(now) && !self.stop.is_stopping() {
                let line = format!("{} restarted", self.config.commands[index].text);
                self.output.command_event(index, &line);
                self.start(index, now);
                changed = true;
            }
        }
        changed
    }

    /// Commands that have had their turn and are not done with it.
    fn busy_slots(&self) -> usize {
        let started = &self.commands[..self.next];
        started
            .iter()
            .filter(|command| !matches!(command.phase, Phase::Closed))
            .count()
    }

    fn start(&mut self, index: usize, now: Instant) {
        self.rests_at = Some(managed::after(now, AT_REST_AFTER));
        let raw = self.config.raw && !self.config.is_hidden(index);
        let spawned = self
            .input_for(raw)
            .map_err(process::SpawnError::Pipe)
            .and_then(|input| {
                process::spawn(Launch {
                    text: &self.config.commands[index].text,
                    input,
                    out: match (raw, self.config.is_hidden(index)) {
                        (true, _) => Out::Inherited,
                        (false, true) => Out::Null,
                        (false, false) => Out::Piped,
                    },
                    force_color: self.config.force_color.map(ColourLevel::number),
                    share_group: raw && reap::stdin_is_terminal(),
                })
            });
        let pid = spawned
            .as_ref()
            .ok()
            .map(|child| child.group.leader().as_raw_nonzero().get());
        self.output.started(index, pid);
        if self.config.timings {
            let line = timings::start_announcement(&self.config.commands[index].text, &self.time());
            self.output.command_event(index, &line);
        }
        match spawned {
            Ok(child) => self.commands[index].begin(Running {
                child,
                started: now,
            }),
            Err(error) => {
                // EXT-05: a command that cannot be started is one that has failed.
                let line = format!(
                    "Error occurred when executing command: {}",
                    self.config.commands[index].text
                );
                self.output.command_event(index, &line);
                self.output.command_event(index, &crate::explain(&error));
                self.process_ended(index, Exit::Code(error.exit_code()), Duration::ZERO, now);
            }
        }
    }

    fn time(&self) -> String {
        self.config.timestamp_format.format(&Zoned::now())
    }

    // Ending

    /// The first process of a command has ended; its output may still come.
    fn leader_exited(&mut self, index: usize, exit: Exit, now: Instant) {
        let command = &mut self.commands[index];
        let orphans_until = command.signalled.then(|| {
            let grace = self
                .config
                .kill_timeout
                .map_or(ORPHAN_GRACE, |timeout| timeout.max(ORPHAN_GRACE));
            managed::after(now, grace)
        });
        command.leader_exited(Draining {
            exit,
            at: now,
            pipes_until: now + DRAIN_LIMIT,
            orphans_until,
        });
    }

    /// Ends the wait for a command's orphans and pipes when it is time.
    fn settle(&mut self, index: usize, now: Instant) -> bool {
        if !self.commands[index].is_drained(now) {
            return false;
        }
        for channel in [Channel::Stdout, Channel::Stderr] {
            self.read_what_is_left(index, channel, now);
        }
        let Some((running, draining)) = self.commands[index].take_drained() else {
            return false;
        };
        let duration = draining.at.saturating_duration_since(running.started);
        drop(running);
        self.process_ended(index, draining.exit, duration, now);
        true
    }

    /// A process is gone with all that belongs to it: tell, then restart or close.
    fn process_ended(&mut self, index: usize, exit: Exit, duration: Duration, now: Instant) {
        let text = &self.config.commands[index].text;
        if self.config.timings {
            let line = timings::stop_announcement(text, &self.time(), duration);
            self.output.command_event(index, &line);
        }
        let line = format!(
            "{} exited with code {exit}",
            self.config.commands[index].text
        );
        self.output.command_event(index, &line);

        let command = &mut self.commands[index];
        command.last_end = Some((exit, duration));
        // RST-05, RST-06: not while shutting down.
        let again = if self.stop.is_stopping() {
            None
        } else {
            restart::compute_restart(self.config.restart, command.history, exit, duration)
        };
        if let Some((delay, history)) = again {
            command.history = history;
            command.phase = Phase::Waiting {
                until: managed::after(now, delay),
            };
            return;
        }
        self.close(index);
        if self.others_may_be_killed()
            && kill_others::is_trigger(self.config.kill_on, self.counted(exit))
        {
            self.kill_others(now);
        }
        self.output.finished(index);
    }

    /// The command is done; its last end, if it has ever run, is the one that counts (EXT-04).
    fn close(&mut self, index: usize) {
        let command = &mut self.commands[index];
        command.phase = Phase::Closed;
        let killed = command.killed;
        if let Some((exit, duration)) = command.last_end {
            let expanded = &self.config.commands[index];
            self.ended.push(Ended {
                index,
                name: expanded.name.clone(),
                text: expanded.text.clone(),
                exit: self.counted(exit),
                killed,
                duration,
            });
        }
    }

    /// SIG-02: who is interrupted has succeeded.
    fn counted(&self, exit: Exit) -> Exit {
        if self.caught == Some(Signal::INT) {
            Exit::Code(0)
        } else {
            exit
        }
    }
}
