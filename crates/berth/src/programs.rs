//! The programs of this binary, by name.

use std::{
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

/// Bad usage (sysexits: EX_USAGE).
pub(crate) const EXIT_USAGE: u8 = 64;

const HELP: &str = "\
berth: a Kubernetes node, alone, on Docker

Usage: berth PROGRAM [ARGUMENT...]     (or a link named like the program)

Programs:
  kubelet         runs the pods of a manifest directory through CRI
  cri-dockerd     CRI v1 in front of Docker Engine
  concurrently    runs programs side by side; PID 1 of the container
  probe           asks a URL once; the container's health check
  hello           the example pod's web server

`berth PROGRAM --help` tells more.
";

/// Runs the program that `name` names, else the one that the first word names.
pub(crate) fn run(name: &str, mut words: Vec<OsString>) -> ExitCode {
    if let Some(program) = find(name) {
        return program(words);
    }
    let first = if words.is_empty() { OsString::new() } else { words.remove(0) };
    match first.to_string_lossy().as_ref() {
        "--version" | "-V" => say(&mut io::stdout(), &format!("berth {}\n", env!("CARGO_PKG_VERSION")), 0),
        "" | "help" | "--help" | "-h" => say(&mut io::stdout(), HELP, 0),
        word => match find(word) {
            Some(program) => program(words),
            None => say(&mut io::stderr(), &format!("berth: no program {word:?}\n\n{HELP}"), EXIT_USAGE),
        },
    }
}

fn find(name: &str) -> Option<fn(Vec<OsString>) -> ExitCode> {
    Some(match name {
        "kubelet" => kubelet::run,
        "cri-dockerd" => cri_dockerd::run,
        "probe" => crate::probe::run,
        "hello" => crate::hello::run,
        "concurrently" | "conc" => |words| concurrently::main(words.into_iter()),
        _ => return None,
    })
}

fn say(out: &mut dyn Write, text: &str, code: u8) -> ExitCode {
    // Nobody reads: nothing to be done about it.
    let _ = out.write_all(text.as_bytes());
    ExitCode::from(code)
}
