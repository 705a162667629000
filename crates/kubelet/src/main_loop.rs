//! The program: command line, logging, runtime, signals, exit code (kubelet PROC-02 to PROC-07).

use std::{
    ffi::OsString,
    io::{self, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use daemon::{ErrorChain, logging};
use kubelet_config::{Command, HostFacts, LogFormat, Run, Severity};

use crate::assembly::{self, StartError};

/// Worker threads (DEC-42).
const WORKERS: usize = 2;
/// How long parts get to end after the first signal.
const DRAIN: Duration = Duration::from_secs(5);
/// What a second signal ends the process with (PROC-07).
const SECOND_SIGNAL_EXIT: u8 = 1;

/// Runs the kubelet. `words` is the command line without the program's name.
pub fn run(words: Vec<OsString>) -> ExitCode {
    let host = HostFacts {
        cgroup_v2: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
    };
    match kubelet_config::load(words, host) {
        Ok(Command::Print(text)) => {
            // Nobody reads: nothing to be done about it.
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Ok(Command::Run(run)) => run_node(*run),
        Err(failure) => {
            for notice in &failure.notices {
                complain(notice);
            }
            complain(&format!("E command failed err=\"{}\"", failure.error));
            ExitCode::FAILURE
        }
    }
}

fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{}", line.trim_end());
}

fn run_node(run: Run) -> ExitCode {
    for notice in &run.notices {
        complain(notice);
    }
    let settings = &run.settings.logging;
    let logging = logging::init(logging::Config {
        format: match settings.format {
            LogFormat::Text => logging::Format::Klog,
            LogFormat::Json => logging::Format::Json,
        },
        verbosity: settings.verbosity,
        vmodule: logging::Vmodule::new(settings.vmodule.iter().cloned()),
    });
    if let Err(error) = logging {
        complain(&error.to_string());
        return ExitCode::FAILURE;
    }
    daemon::panics::install_hook();
    announce(&run);
    let runtime = match daemon::runtime(WORKERS, "kubelet") {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(error = %error, "start the runtime");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        let shutdown = match daemon::Shutdown::on_signals(SECOND_SIGNAL_EXIT) {
            Ok(shutdown) => shutdown,
            Err(error) => {
                tracing::error!(error = %error, "listen for signals");
                return ExitCode::FAILURE;
            }
        };
        serve(run, shutdown).await
    });
    runtime.shutdown_timeout(Duration::from_millis(200));
    code
}

/// Version, flags and everything that is set and has no effect, once (PROC-02, PROC-06).
fn announce(run: &Run) {
    tracing::info!(kubeletVersion = %run.settings.version, "Kubelet version");
    for (name, value) in &run.flags {
        tracing::debug!("FLAG: --{name}={value:?}");
    }
    tracing::trace!(configuration = %run.settings.effective, "effective configuration");
    for line in run.settings.warnings() {
        let fields: Vec<String> = line
            .fields
            .iter()
            .map(|(key, value)| format!("{key}={value:?}"))
            .collect();
        let (message, details) = (&line.message, fields.join(" "));
        match line.severity {
            Severity::Info => tracing::info!(details = %details, "{message}"),
            Severity::Warning => tracing::warn!(details = %details, "{message}"),
            Severity::Error => tracing::error!(details = %details, "{message}"),
        }
    }
    if !is_root() {
        tracing::error!("the kubelet is not run as root: most of what follows will fail");
    }
}

/// PROC-05: said, not refused.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

async fn serve(run: Run, shutdown: daemon::Shutdown) -> ExitCode {
    let token = shutdown.token().clone();
    let root_dir = run.settings.paths.root_dir.clone();
    let started = tokio::select! {
        biased;
        // cancel-safe: a token; what start has made so far is dropped with it.
        () = token.cancelled() => return ExitCode::SUCCESS,
        started = assembly::start(run.settings, &token) => started,
    };
    let node = match started {
        Ok(node) => node,
        Err(error) => {
            tracing::error!(error = %ErrorChain(&error), "command failed");
            return ExitCode::from(exit_code(&error));
        }
    };
    let failure = tokio::select! {
        biased;
        // cancel-safe: a token.
        () = token.cancelled() => None,
        // cancel-safe: failures stay with the group.
        failure = node.tasks.failed() => Some(failure),
    };
    let ended = node.tasks.shutdown(DRAIN).await;
    daemon::blocking(move || assembly::host::give_back(&root_dir)).await;
    match (failure, ended) {
        (None, Ok(())) => ExitCode::SUCCESS,
        (None, Err(error)) => {
            tracing::warn!(error = %ErrorChain(&error), "shutdown");
            ExitCode::SUCCESS
        }
        (Some(failure), _) => {
            tracing::error!(error = %ErrorChain(&failure), "a part of the kubelet failed");
            if failure.is_panic() {
                ExitCode::from(daemon::EXIT_PANIC)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// The one place that maps errors to exit codes: upstream's is 1 for every failed start (PROC-10).
fn exit_code(_error: &StartError) -> u8 {
    1
}
