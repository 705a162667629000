//! Ending commands: because another has ended, because nobody reads the output, or because of a signal.

use std::time::{Duration, Instant};

use super::{
    Supervisor,
    managed::{Managed, Phase, after},
};
use crate::{
    behaviours::{
        kill_others,
        stop::{self, StopStep},
    },
    reap::Role,
    signal::Signal,
};

/// The whole stop of a container must fit into Docker's 10 seconds; what is left after this is killed.
const INIT_STOP_LIMIT: Duration = Duration::from_secs(9);
/// How long to wait for killed processes before leaving without them.
const GIVE_UP_LIMIT: Duration = Duration::from_secs(1);

/// Whether and why everything is coming to an end. Nothing starts any more, unless `No`.
#[derive(Debug)]
pub(super) enum Stop {
    No,
    /// The others are being ended (KIL-02).
    KillOthers,
    /// Nobody reads our output (OUT-21).
    OutputGone,
    /// One by one (INI-06). `waits_until`: the grace of the one told last.
    Signal {
        signal: Signal,
        at: Instant,
        waits_until: Option<Instant>,
    },
    /// All killed; leave then, whatever is left.
    AtOnce {
        until: Instant,
    },
}

impl Stop {
    pub(super) fn is_stopping(&self) -> bool {
        !matches!(self, Self::No)
    }

    pub(super) fn is_by_signal(&self) -> bool {
        matches!(self, Self::Signal { .. } | Self::AtOnce { .. })
    }

    pub(super) fn is_at_once(&self) -> bool {
        matches!(self, Self::AtOnce { .. })
    }

    pub(super) fn is_given_up(&self, now: Instant) -> bool {
        matches!(self, Self::AtOnce { until } if now >= *until)
    }
}

/// SIGKILL to follow for those that kill-others has reached (KIL-03).
#[derive(Debug)]
pub(super) struct ForceKill {
    at: Instant,
    members: Vec<usize>,
}

impl Supervisor {
    pub(super) fn send_to_all(&self, signal: Signal) {
        for child in self.commands.iter().filter_map(Managed::child) {
            child.group.send(signal);
        }
    }

    /// Commands that wait for their turn or for a restart will not run any more (INI-10).
    fn cancel_starts(&mut self) {
        self.next = self.commands.len();
        for index in 0..self.commands.len() {
            if matches!(
                self.commands[index].phase,
                Phase::Queued | Phase::Waiting { .. }
            ) {
                self.close(index);
                self.output.finished(index);
            }
        }
    }

    /// As a container's first process a signal has its own order, and nobody else interferes (INI-06).
    pub(super) fn others_may_be_killed(&self) -> bool {
        match self.stop {
            Stop::No | Stop::KillOthers | Stop::OutputGone => true,
            Stop::Signal { .. } => self.role == Role::Tool,
            Stop::AtOnce { .. } => false,
        }
    }

    /// One has ended; end the others. As upstream, each further end says and does so again while others are left.
    pub(super) fn kill_others(&mut self, now: Instant) {
        if !self.stop.is_stopping() {
            self.stop = Stop::KillOthers;
        }
        let members: Vec<usize> = (0..self.commands.len())
            .filter(|&index| self.commands[index].is_alive())
            .collect();
        if !members.is_empty() {
            let signal = self.config.kill_signal;
            self.output.global_event(&kill_others::announcement(signal));
            for &index in &members {
                self.tell_in_passing(index, now);
                self.commands[index].end_with(signal);
            }
            if let Some(timeout) = self.config.kill_timeout
                && signal != Signal::KILL
                && !self.stop.is_by_signal()
            {
                self.force_kills.push(ForceKill {
                    at: after(now, timeout),
                    members,
                });
            }
        }
        self.cancel_starts();
    }

    /// Who has not had the signal that stops all has it now: nobody waits for an order any more.
    fn tell_in_passing(&mut self, index: usize, now: Instant) {
        let command = &mut self.commands[index];
        if let Stop::Signal { signal, .. } = self.stop
            && command.told.is_none()
        {
            command.end_with(signal);
            command.told = Some(now);
        }
    }

    /// OUT-21; but as a container's first process we keep the node running (INI-13).
    pub(super) fn notice_broken_output(&mut self) -> bool {
        if !self.output.is_broken() || self.role == Role::Init || self.stop.is_stopping() {
            return false;
        }
        self.stop = Stop::OutputGone;
        for command in &mut self.commands {
            command.end_with(Signal::TERM);
        }
        self.cancel_starts();
        true
    }

    /// INT, TERM, HUP or QUIT has arrived: the first begins to stop the commands in order, the second ends at once.
    pub(super) fn stop_requested(&mut self, signal: Signal, now: Instant) {
        match self.stop {
            Stop::Signal {
                signal: first, at, ..
            } if first == signal && now < at + stop::COPY_WINDOW => {}
            Stop::Signal { .. } => {
                self.caught = Some(signal);
                self.end_at_once(now);
            }
            Stop::AtOnce { .. } => {}
            Stop::No | Stop::KillOthers | Stop::OutputGone => {
                self.caught = Some(signal);
                self.stop = Stop::Signal {
                    signal,
                    at: now,
                    waits_until: None,
                };
                self.cancel_starts();
            }
        }
    }

    fn end_at_once(&mut self, now: Instant) {
        for command in &mut self.commands {
            command.end_with(Signal::KILL);
        }
        self.stop = Stop::AtOnce {
            until: now + GIVE_UP_LIMIT,
        };
    }

    /// What is due of a stop; tells whether that was anything.
    pub(super) fn advance_stop(&mut self, now: Instant) -> bool {
        let mut changed = self.force_kill_others(now);
        if let Stop::Signal { signal, at, .. } = self.stop {
            if self.role == Role::Init && now >= at + INIT_STOP_LIMIT {
                self.end_at_once(now);
                return true;
            }
            changed |= self.force_kill_told(now);
            let standings: Vec<_> = self.commands.iter().map(Managed::standing).collect();
            let waits_until = match stop::plan_stop(&standings, now, self.config.stop_grace) {
                StopStep::Tell(index) => {
                    self.commands[index].end_with(signal);
                    self.commands[index].told = Some(now);
                    changed = true;
                    None
                }
                StopStep::WaitUntil(until) => Some(until),
                StopStep::AllTold => None,
            };
            self.stop = Stop::Signal {
                signal,
                at,
                waits_until,
            };
        }
        changed
    }

    fn force_kill_others(&mut self, now: Instant) -> bool {
        let due: Vec<ForceKill> = self
            .force_kills
            .extract_if(.., |kill| now >= kill.at)
            .collect();
        for kill in &due {
            let alive: Vec<usize> = kill
                .members
                .iter()
                .copied()
                .filter(|&index| self.commands[index].is_alive())
                .collect();
            self.output
                .global_event(&kill_others::force_announcement(alive.len()));
            for index in alive {
                self.commands[index].end_with(Signal::KILL);
            }
        }
        !due.is_empty()
    }

    /// `--kill-timeout` for those that a signal has reached.
    fn force_kill_told(&mut self, now: Instant) -> bool {
        let Some(timeout) = self.config.kill_timeout else {
            return false;
        };
        let mut changed = false;
        for index in 0..self.commands.len() {
            let command = &mut self.commands[index];
            if command.is_alive()
                && !command.forced
                && command.told.is_some_and(|told| now >= after(told, timeout))
            {
                command.forced = true;
                command.end_with(Signal::KILL);
                self.output
                    .global_event(&kill_others::force_announcement(1));
                changed = true;
            }
        }
        changed
    }

    /// When [`Self::advance_stop`] has something to do, unless something happens before.
    pub(super) fn stop_deadline(&self) -> Option<Instant> {
        let others = self.force_kills.iter().map(|kill| kill.at);
        let by_signal = match self.stop {
            Stop::No | Stop::KillOthers | Stop::OutputGone => None,
            Stop::AtOnce { until } => Some(until),
            Stop::Signal {
                at, waits_until, ..
            } => {
                let limit = (self.role == Role::Init).then(|| at + INIT_STOP_LIMIT);
                let told = self
                    .commands
                    .iter()
                    .filter(|command| command.is_alive() && !command.forced);
                let forced = self.config.kill_timeout.and_then(|timeout| {
                    Some(after(
                        told.filter_map(|command| command.told).min()?,
                        timeout,
                    ))
                });
                [limit, waits_until, forced].into_iter().flatten().min()
            }
        };
        others.chain(by_signal).min()
    }
}
