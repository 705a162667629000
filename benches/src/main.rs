//! `make bench`: what the node costs, beside the Docker floor in the same run (benches/README.md).
//!
//! ```text
//!   bench ── starts ──▶ dockerd of its own ◀── floor: pause + one container, Engine API ── bench
//!     │                   ▲      │ one stream of events: when each container began to run
//!     │                   │      └──────────────────────────────────────────────────────▶ bench
//!     └── starts ──▶ concurrently ─┬─ cri-dockerd (in the silence: through a counting proxy)
//!                                  └─ kubelet ◀── renames manifests into place ── bench
//! ```

mod events;
mod figures;
mod floor;
mod full;
mod measure;
mod node;
mod proxy;
mod report;

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use testkit::DockerEngine;

use crate::{events::Events, node::Place, report::Report};

/// The image of every container here: cri-dockerd brings it along.
const PAUSE_IMAGE: &str = "registry.k8s.io/pause:3.9";

/// How much is measured.
#[derive(Debug)]
struct Plan {
    /// Interleaved runs, of which the median counts.
    rounds: u32,
    /// Pods that are started one after the other in a run.
    sequence: usize,
    /// Pods that are started at once, and that stand in the silence.
    many: usize,
    /// Pods with which the floor's best parallelism is looked for.
    sweep: usize,
    /// What is waited for after a change, before rest is measured.
    settle: Duration,
    /// How long rest is measured.
    silence: Duration,
    /// Pods on a full node, each with a probe.
    full: usize,
    /// Of which so many die.
    deaths: usize,
    /// Containers whose statistics are listed at once, at least.
    listed: usize,
    /// How long probes are measured.
    probing: Duration,
}

const WHOLE: Plan = Plan {
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
const QUICK: Plan = Plan {
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
struct Bench {
    plan: &'static Plan,
    place: Place,
    events: Events,
    engine: DockerEngine,
    begin: Instant,
}

impl Bench {
    /// Says what is done now.
    fn say(&self, what: &str) {
        let seconds = self.begin.elapsed().as_secs();
        // Nobody reads it: not a reason to stop.
        let _ = writeln!(io::stderr(), "bench: {seconds:3} s  {what}");
    }
}

fn main() -> io::Result<()> {
    let begin = Instant::now();
    let Some(binary) = std::env::args_os().nth(1) else {
        return Err(io::Error::other("usage: bench PATH_OF_BERTH"));
    };
    let binary = fs::canonicalize(PathBuf::from(binary))?;
    #[expect(
        clippy::disallowed_methods,
        reason = "a switch for bench runs, not a setting"
    )]
    let quick = std::env::var("BENCH_QUICK").is_ok_and(|value| !matches!(&*value, "" | "0"));
    let load = load();
    let engine = DockerEngine::start();
    let bench = Bench {
        plan: if quick { &QUICK } else { &WHOLE },
        place: Place::prepare(&binary, &engine),
        events: Events::open(&engine.socket()),
        engine,
        begin,
    };
    let mut report = Report::default();
    measure::all(&bench, &mut report);
    full::all(&bench, &mut report);
    let processors = std::thread::available_parallelism()?;
    report.remark(format!(
        "{processors} processors, load {load} before and {} after, {} s{}; Docker {}; binary {} bytes",
        self::load(),
        bench.begin.elapsed().as_secs(),
        if quick { " (BENCH_QUICK: for a look only)" } else { "" },
        bench.engine.json("GET", "/version", &serde_json::Value::Null)["Version"],
        fs::metadata(&binary)?.len(),
    ));
    report.print()
}

/// Nanoseconds since the epoch, by the clock that Docker stamps its events with.
fn now() -> i64 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or_default()
}

/// The machine's load in the last minute.
fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}
