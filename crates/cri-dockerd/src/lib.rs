//! CRI v1 in front of Docker Engine.
//!
//! ```text
//!  kubelet ──gRPC──▶ service ─▶ sandbox, container, runtime_rpcs ──▶ translate (pure)
//!                       │             │        │
//!                       │             ▼        ▼
//!                       └── reads ─▶ hub ◀── engine ──HTTP──▶ Docker
//!                                     └ state (memory)   events ┘
//! ```
//!
//! One process, one unix socket, at most two worker threads. State: Docker's labels, and one
//! checkpoint file per sandbox below the root directory. Everything in memory is read again at
//! start and after a reconnect.

mod attachments;
mod cgroup;
mod checkpoint;
mod cli;
mod clock;
mod container;
mod deadline;
mod engine;
mod error;
mod exec;
mod hub;
mod identity;
mod image_service;
mod images;
mod invalid;
mod labels;
mod lock;
mod logs;
mod names;
mod network;
mod network_kind;
mod oom;
mod paths;
mod remembered;
mod runtime;
mod runtime_rpcs;
mod sandbox;
mod server;
mod service;
mod start;
mod state;
mod stats;
mod stats_rpcs;
mod streaming;
mod translate;
mod unified;
mod verbose;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

pub use attachments::{Attachment, Attachments};
pub use cli::{CNI_BIN_DIR, CNI_CACHE_DIR};
use cli::{Command, EXIT_FAILED};

/// Worker threads (DEC-42).
const WORKERS: usize = 2;

/// The program's flags, for shell completion and for documentation.
pub fn command_line() -> daemon::pflag::FlagSet {
    cli::flag_set()
}

/// Runs the program with its arguments (without its name) until a signal ends it.
///
/// Exit codes: 0 after an orderly end or `--help`, 1 for bad usage, a failed start or a second
/// signal, 70 after a panic of an owner task (DEC-46).
pub fn run(args: Vec<OsString>) -> ExitCode {
    let docker = cli::DockerVariables {
        host: variable("DOCKER_HOST"),
        cert_path: variable("DOCKER_CERT_PATH"),
    };
    let settings = match cli::parse(args, &docker) {
        Ok(Command::Print(text)) => {
            // Nobody reads: nothing to be done about it.
            let _ = std::io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Ok(Command::Run(settings)) => settings,
        Err(refused) => {
            let mut text = if refused.usage {
                cli::usage()
            } else {
                String::new()
            };
            for problem in refused.problems {
                text.push_str(&problem);
                text.push('\n');
            }
            let _ = std::io::stderr().write_all(text.as_bytes());
            return ExitCode::from(EXIT_FAILED);
        }
    };
    let logging = daemon::logging::Config {
        format: daemon::logging::Format::Logrus,
        verbosity: settings.verbosity,
        ..Default::default()
    };
    // Set up before only in tests that run programs in one process.
    let _ = daemon::logging::init(logging);
    daemon::panics::install_hook();
    let environment = start::Environment {
        activation: server::Activation {
            pid: variable("LISTEN_PID"),
            fds: variable("LISTEN_FDS"),
        },
        notify_socket: variable("NOTIFY_SOCKET").map(OsString::from),
        home: variable("HOME").map(Into::into),
        variables: std::env::vars_os().collect(),
    };
    let runtime = match daemon::runtime(WORKERS, "cri-dockerd") {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "can't start the runtime");
            return ExitCode::from(EXIT_FAILED);
        }
    };
    let code = match runtime.block_on(start::run(*settings, environment)) {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!(error = %daemon::ErrorChain(&error), "cri-dockerd ends");
            error.exit_code()
        }
    };
    ExitCode::from(code)
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the command line of the program"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
