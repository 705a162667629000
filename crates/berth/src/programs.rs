//! The programs of this binary, by name.

use std::{ffi::OsString, fmt::Write as _, io, process::ExitCode};

use crate::{cleanup, completion, doctor, hello, probe, status, validate};

/// Bad usage (sysexits: EX_USAGE).
pub(crate) const EXIT_USAGE: u8 = 64;

/// A program.
#[derive(Debug)]
pub(crate) struct Program {
    /// Its names, the first one being shown.
    pub(crate) names: &'static [&'static str],
    /// What it does, in a line; empty when it isn't shown.
    pub(crate) about: &'static str,
    run: fn(Vec<OsString>) -> ExitCode,
}

/// All of them, in the order of the help.
pub(crate) const PROGRAMS: &[Program] = &[
    Program {
        names: &["kubelet"],
        about: "runs the pods of a manifest directory through CRI",
        run: kubelet::run,
    },
    Program {
        names: &["cri-dockerd"],
        about: "CRI v1 in front of Docker Engine",
        run: cri_dockerd::run,
    },
    Program {
        names: &["concurrently", "conc"],
        about: "runs programs side by side; PID 1 of the container",
        run: |words| concurrently::main(words.into_iter(), node_os::memory::give_back),
    },
    Program {
        names: &["doctor"],
        about: "tells what this machine lacks for a node, each with its fix",
        run: doctor::run,
    },
    Program {
        names: &["status"],
        about: "shows the node and its pods on one screen",
        run: status::run,
    },
    Program {
        names: &["validate"],
        about: "tells what the kubelet makes of manifest files",
        run: validate::run,
    },
    Program {
        names: &["cleanup"],
        about: "removes every pod and all that the node left; shows it first",
        run: cleanup::run,
    },
    Program {
        names: &["completion"],
        about: "prints a completion script for bash, zsh or fish",
        run: completion::run,
    },
    Program {
        names: &["probe"],
        about: "asks a URL once; the container's health check",
        run: probe::run,
    },
    Program {
        names: &["hello"],
        about: "the example pod's web server",
        run: hello::run,
    },
    // For images without a shell, where there are no wrapper scripts (NODE-12, NODE-14, DEC-32).
    Program {
        names: &["kubelet-node"],
        about: "",
        run: kubelet_node,
    },
    Program {
        names: &["cri-dockerd-node"],
        about: "",
        run: cri_dockerd_node,
    },
];

/// What `bin/kubelet` does.
fn kubelet_node(words: Vec<OsString>) -> ExitCode {
    let first = OsString::from("--config=/kubelet.yaml");
    kubelet::run(std::iter::once(first).chain(words).collect())
}

/// What `bin/cri-dockerd` does: nothing is taken through (NODE-30).
fn cri_dockerd_node(_: Vec<OsString>) -> ExitCode {
    let words = [
        "--container-runtime-endpoint=unix:///var/run/cri-dockerd.sock",
        "--network-plugin=cni",
        "--pod-infra-container-image=registry.k8s.io/pause:3.9",
        "--cni-fallback=bridge",
    ];
    cri_dockerd::run(words.into_iter().map(OsString::from).collect())
}

/// Runs the program that `name` names, else the one that the first word names.
pub(crate) fn run(name: &str, mut words: Vec<OsString>) -> ExitCode {
    if let Some(program) = find(name) {
        return (program.run)(words);
    }
    let first = if words.is_empty() {
        OsString::new()
    } else {
        words.remove(0)
    };
    match first.to_string_lossy().as_ref() {
        "--version" | "-V" => say(
            &mut io::stdout(),
            &format!("berth {}\n", env!("CARGO_PKG_VERSION")),
            0,
        ),
        "" | "help" | "--help" | "-h" => say(&mut io::stdout(), &help(), 0),
        word => {
            if let Some(program) = find(word) {
                return (program.run)(words);
            }
            let text = format!("berth: no program {word:?}\n\n{}", help());
            say(&mut io::stderr(), &text, EXIT_USAGE)
        }
    }
}

fn find(name: &str) -> Option<&'static Program> {
    PROGRAMS
        .iter()
        .find(|program| program.names.contains(&name))
}

fn help() -> String {
    let shown = PROGRAMS.iter().filter(|program| !program.about.is_empty());
    let mut lines = String::new();
    for program in shown {
        let _ = writeln!(lines, "  {:14}{}", program.names[0], program.about);
    }
    format!(
        "berth: a Kubernetes node, alone, on Docker

Usage: berth PROGRAM [ARGUMENT...]     (or a link named like the program)

Programs:
{lines}
`berth PROGRAM --help` tells more.
"
    )
}

fn say(out: &mut dyn io::Write, text: &str, code: u8) -> ExitCode {
    // Nobody reads: nothing to be done about it.
    let _ = out.write_all(text.as_bytes());
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_has_a_name_of_its_own() {
        let mut names: Vec<_> = PROGRAMS.iter().flat_map(|program| program.names).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        assert!(help().contains("  doctor        tells"));
        assert!(!help().contains("kubelet-node"));
    }
}
