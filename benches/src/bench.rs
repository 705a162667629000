//! What every measurement needs, and how much is measured.

use std::{
    io::{self, Write as _},
    time::{Duration, Instant},
};

use testkit::DockerEngine;

use crate::{events::Events, node::Place};

/// How much is measured.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Interleaved runs, of which the median counts.
    pub(crate) rounds: u32,
    /// Pods that are started one after the other in a run.
    pub(crate) sequence: usize,
    /// Pods that are started at once, and that stand in the silence.
    pub(crate) many: usize,
    /// Pods with which the floor's best parallelism is looked for.
    pub(crate) sweep: usize,
    /// What is waited for after a change, before rest is measured.
    pub(crate) settle: Duration,
    /// How long rest is measured.
    pub(crate) silence: Duration,
    /// Pods on a full node, each with a probe.
    pub(crate) full: usize,
    /// Of which so many die.
    pub(crate) deaths: usize,
    /// Containers whose statistics are listed at once, at least.
    pub(crate) listed: usize,
    /// How long probes are measured.
    pub(crate) probing: Duration,
}

pub(crate) const WHOLE: Plan = Plan {
    rounds: 3,
    sequence: 20,
    many: 50,
    sweep: 24,
    settle: Duration::from_secs(10),
    silence: Duration::from_secs(30),
    full: 110,
    deaths: 20,
    listed: 200,
    probing: Duration::from_mins(1),
};

/// For a look at whether it still works.
pub(crate) const QUICK: Plan = Plan {
    rounds: 1,
    sequence: 4,
    many: 10,
    sweep: 6,
    settle: Duration::from_secs(3),
    silence: Duration::from_secs(5),
    full: 10,
    deaths: 3,
    listed: 20,
    probing: Duration::from_secs(5),
};

/// What every measurement needs. Fields are dropped in this order.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) plan: &'static Plan,
    pub(crate) place: Place,
    pub(crate) events: Events,
    pub(crate) engine: DockerEngine,
    pub(crate) begin: Instant,
}

impl Bench {
    /// Says what is done now.
    pub(crate) fn say(&self, what: &str) {
        let seconds = self.begin.elapsed().as_secs();
        // Nobody reads it: not a reason to stop.
        let _ = writeln!(io::stderr(), "bench: {seconds:3} s  {what}");
    }
}
