//! One command's state.

use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};

use rustix::process::Pid;

use crate::{
    behaviours::{Exit, restart::History, stop::Standing},
    output::lines::Channel,
    process::Child,
    reap::poll::{Interest, is_ready},
    signal::Signal,
};

/// How long a killed group may take to vanish.
const KILLED_GRACE: Duration = Duration::from_secs(1);

/// Where a command is, see the diagram of `supervisor`.
#[derive(Debug, Default)]
pub(super) enum Phase {
    /// Has not had its turn.
    #[default]
    Queued,
    Running(Running),
    /// The first process has ended.
    Draining(Running, Draining),
    /// Has failed and is started again at that time.
    Waiting {
        until: Instant,
    },
    Closed,
}

#[derive(Debug)]
pub(super) struct Running {
    pub(super) child: Child,
    pub(super) started: Instant,
}

#[derive(Debug)]
pub(super) struct Draining {
    pub(super) exit: Exit,
    /// When the first process ended.
    pub(super) at: Instant,
    /// Pipes still open then are given up.
    pub(super) pipes_until: Instant,
    /// The command was told to end, and other processes of its group may be about it; then they are killed. `None`:
    /// there are none, or they are free to live on as daemons do.
    pub(super) orphans_until: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Managed {
    pub(super) phase: Phase,
    pub(super) history: History,
    /// How it ended last, as it counts, and after how long.
    pub(super) last_end: Option<(Exit, Duration)>,
    /// We have sent a signal to the present process.
    pub(super) signalled: bool,
    /// We have sent a signal to any of its processes.
    pub(super) killed: bool,
    /// When a stop by signal has reached it.
    pub(super) told: Option<Instant>,
    /// SIGKILL has followed.
    pub(super) forced: bool,
    orphans_killed: bool,
}

impl Managed {
    pub(super) fn begin(&mut self, running: Running) {
        self.phase = Phase::Running(running);
        self.signalled = false;
        self.told = None;
        self.forced = false;
        self.orphans_killed = false;
    }

    pub(super) fn leader_exited(&mut self, draining: Draining) {
        self.phase = match std::mem::take(&mut self.phase) {
            Phase::Running(running) => Phase::Draining(running, draining),
            other => other,
        };
    }

    pub(super) fn is_led_by(&self, pid: Pid) -> bool {
        matches!(&self.phase, Phase::Running(running) if running.child.group.leader() == pid)
    }

    pub(super) fn child(&self) -> Option<&Child> {
        match &self.phase {
            Phase::Running(running) | Phase::Draining(running, _) => Some(&running.child),
            Phase::Queued | Phase::Waiting { .. } | Phase::Closed => None,
        }
    }

    pub(super) fn child_mut(&mut self) -> Option<&mut Child> {
        match &mut self.phase {
            Phase::Running(running) | Phase::Draining(running, _) => Some(&mut running.child),
            Phase::Queued | Phase::Waiting { .. } | Phase::Closed => None,
        }
    }

    pub(super) fn running_mut(&mut self) -> Option<&mut Running> {
        match &mut self.phase {
            Phase::Running(running) => Some(running),
            _ => None,
        }
    }

    /// Something of it can be sent a signal and be waited for.
    pub(super) fn is_alive(&self) -> bool {
        match &self.phase {
            Phase::Running(_) => true,
            Phase::Draining(_, draining) => draining.orphans_until.is_some(),
            Phase::Queued | Phase::Waiting { .. } | Phase::Closed => false,
        }
    }

    pub(super) fn standing(&self) -> Standing {
        match (self.is_alive(), self.told) {
            (false, _) => Standing::Gone,
            (true, None) => Standing::Running,
            (true, Some(at)) => Standing::Told(at),
        }
    }

    /// Sends a signal meant to end it.
    pub(super) fn end_with(&mut self, signal: Signal) {
        if self.is_alive()
            && let Some(child) = self.child()
        {
            child.group.send(signal);
            // A stopped process takes no signal but KILL.
            child.group.send(Signal::CONT);
            self.signalled = true;
            self.killed = true;
        }
    }

    pub(super) fn restart_is_due(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Waiting { until } if now >= until)
    }

    pub(super) fn has_output(&self, channel: Channel) -> bool {
        let pipe = self.child().and_then(|child| match channel {
            Channel::Stdout => child.stdout.as_ref(),
            Channel::Stderr => child.stderr.as_ref(),
        });
        pipe.is_some_and(|pipe| is_ready(pipe.as_fd(), Interest::Read))
    }

    /// Whether the wait after the end of the first process is over. Kills orphans whose time is up.
    pub(super) fn is_drained(&mut self, now: Instant) -> bool {
        let Phase::Draining(running, draining) = &mut self.phase else {
            return false;
        };
        let child = &running.child;
        if let Some(until) = draining.orphans_until {
            if child.group.is_empty() || (now >= until && self.orphans_killed) {
                draining.orphans_until = None;
                draining.pipes_until = now + super::DRAIN_LIMIT;
            } else if now >= until {
                child.group.send(Signal::KILL);
                self.orphans_killed = true;
                draining.orphans_until = Some(now + KILLED_GRACE);
            }
        }
        let pipes_closed = child.stdout.is_none() && child.stderr.is_none();
        draining.orphans_until.is_none() && (pipes_closed || now >= draining.pipes_until)
    }

    /// Takes the process's remains out; the phase is then for the caller to set.
    pub(super) fn take_drained(&mut self) -> Option<(Running, Draining)> {
        match std::mem::take(&mut self.phase) {
            Phase::Draining(running, draining) => Some((running, draining)),
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// When it needs to be looked at, unless something happens before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Draining(_, draining) => {
                Some(draining.orphans_until.unwrap_or(draining.pipes_until))
            }
            Phase::Waiting { until } => Some(*until),
            Phase::Queued | Phase::Running(_) | Phase::Closed => None,
        }
    }
}

/// That much later; as late as can be if that is beyond what a clock holds.
pub(super) fn after(now: Instant, delay: Duration) -> Instant {
    const YEARS: Duration = Duration::from_hours(100 * 365 * 24);
    now + delay.min(YEARS)
}
