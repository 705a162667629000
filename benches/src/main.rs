//! `make bench`: what the node costs, beside the Docker floor in the same run (benches/README.md).
//!
//! ```text
//!   bench ── starts ──▶ dockerd of its own ◀── floor: pause + one container, Engine API ── bench
//!     │                   ▲      │ one stream of events: when each container began to run
//!     │                   │      └──────────────────────────────────────────────────────▶ bench
//!     └── starts ──▶ concurrently ─┬─ cri-dockerd (in the silence: through a counting proxy)
//!                                  └─ kubelet ◀── renames manifests into place ── bench
//! ```

mod bench;
mod events;
mod figures;
mod floor;
mod full;
mod measure;
mod node;
mod proxy;
mod report;

use std::{fs, io, path::PathBuf, time::Instant};

use testkit::DockerEngine;

use crate::{
    bench::{Bench, QUICK, WHOLE},
    events::Events,
    node::Place,
    report::Report,
};

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

/// The machine's load in the last minute.
fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}
