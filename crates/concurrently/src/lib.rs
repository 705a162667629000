//! Runs programs side by side, prefixes their output, restarts them and ends them in order: a drop-in for
//! concurrently 9.2.1 (`open-cli-tools/concurrently`), plus the duties of a container's first process.
//!
//! One thread and one `poll` loop ([`supervisor`]) own everything; while no child writes or ends, the process
//! sleeps in the kernel. Nothing survives a restart of this program: its children are told to end with it.
//!
//! ```text
//! arguments, environment --cli--> Config --supervisor--> spawn (process), wait (reap)
//!                                            |   ^            |
//!                          behaviours (pure) +---+            +--> output --> stdout
//! ```
//!
//! Row ids in this crate (`KIL-04` and so on) are those of the behaviour reference, `concurrently.md`. What departs
//! from the original on purpose starts with "Differs:".
//!
//! Differs, summed up: unknown options are refused (OPT-32); each command has a process group of its own and no `ps`
//! is needed (KIL-01, KIL-04, KIL-05); a command has ended when its process has, not when the last holder of its
//! pipes is gone (KIL-06); nothing is restarted while shutting down (RST-05, RST-06); signals stop the commands one
//! by one from the last listed to the first, and a second signal ends at once (SIG-04); input goes line by line and
//! its end is passed on (INP-02, INP-04); lines of two commands never mix within a line (OUT-03, INI-13); a simple
//! program runs without a shell (INI-15); exponential back-off is capped (RST-02).

mod behaviours;
mod cli;
mod expand;
mod output;
mod process;
mod reap;
mod signal;
mod supervisor;

use std::{error::Error, ffi::OsString, io::Write, process::ExitCode};

pub use cli::{FLAGS, Flag, Group, ValueKind};

use cli::Invocation;

/// The version reported by `--version`: the level of compatibility, set at build time by
/// `CONCURRENTLY_VERSION` (NODE-11).
pub const VERSION: &str = match option_env!("CONCURRENTLY_VERSION") {
    Some(version) if !version.is_empty() => version,
    _ => "9.2.1",
};

/// Runs the program with its arguments (`argv[0]` excluded) and returns its exit code: 0 when the success rule
/// holds, else 1 (EXT-01).
///
/// Blocks until every command has ended. Changes the process: signals are blocked and read from a descriptor, and
/// the process becomes a child subreaper. Call it first thing on the main thread of a process of its own.
///
/// `at_rest` is called a while after the last start of a command: what starting needed may be given back.
pub fn main(args: impl Iterator<Item = OsString>, at_rest: fn()) -> ExitCode {
    let read = |name: &str| std::fs::read_to_string(name).ok();
    let stdout_is_terminal = reap::stdout_is_terminal();
    match cli::parse(args, std::env::vars_os(), stdout_is_terminal, &read) {
        Ok(Invocation::Help) => print(
            &mut std::io::stdout(),
            &cli::help(VERSION),
            ExitCode::SUCCESS,
        ),
        // OPT-30: help on stderr, and still a success.
        Ok(Invocation::NothingToRun) => print(
            &mut std::io::stderr(),
            &cli::help(VERSION),
            ExitCode::SUCCESS,
        ),
        Ok(Invocation::Version) => print(
            &mut std::io::stdout(),
            &format!("{VERSION}\n"),
            ExitCode::SUCCESS,
        ),
        Ok(Invocation::Run(config)) => {
            for warning in &config.warnings {
                print(
                    &mut std::io::stderr(),
                    &format!("{warning}\n"),
                    ExitCode::SUCCESS,
                );
            }
            match supervisor::run(*config, at_rest) {
                Ok(code) => code,
                Err(error) => complain(&[explain(&error)]),
            }
        }
        Err(problems) => {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            complain(&lines)
        }
    }
}

/// The error with its causes.
fn explain(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

fn complain(problems: &[String]) -> ExitCode {
    let mut text = String::new();
    for problem in problems {
        text.push_str("concurrently: ");
        text.push_str(problem);
        text.push('\n');
    }
    print(&mut std::io::stderr(), &text, ExitCode::FAILURE)
}

/// Writes `text`; a closed pipe is not worth a complaint that nobody would read.
fn print(to: &mut impl Write, text: &str, code: ExitCode) -> ExitCode {
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
    code
}
