//! The programs of this binary, by name.

use std::{ffi::OsString, fmt::Write as _, io, process::ExitCode};

use concurrently::ValueKind;
use daemon::pflag::FlagSet;

use crate::{
    cleanup,
    completion::{self, Entry},
    doctor, hello, probe, status,
    tool::{Completed, EXIT_USAGE},
    validate,
};

/// A program.
#[derive(Debug)]
struct Program {
    /// Its names, the first one being shown.
    names: &'static [&'static str],
    /// What it does, in a line; empty when it isn't shown.
    about: &'static str,
    run: fn(Vec<OsString>) -> ExitCode,
    /// Its flags, for completion.
    flags: fn() -> Vec<Completed>,
}

/// All of them, in the order of the help.
const PROGRAMS: &[Program] = &[
    Program {
        names: &["kubelet"],
        about: "runs the pods of a manifest directory through CRI",
        run: kubelet::run,
        flags: || flags_of(&kubelet_config::command_line()),
    },
    Program {
        names: &["cri-dockerd"],
        about: "CRI v1 in front of Docker Engine",
        run: cri_dockerd::run,
        flags: || flags_of(&cri_dockerd::command_line()),
    },
    Program {
        names: &["concurrently", "conc"],
        about: "runs programs side by side; PID 1 of the container",
        run: |words| concurrently::main(words.into_iter(), node_os::memory::give_back),
        flags: flags_of_concurrently,
    },
    Program {
        names: &["doctor"],
        about: "tells what this machine lacks for a node, each with its fix",
        run: doctor::run,
        flags: || doctor::TOOL.completions(),
    },
    Program {
        names: &["status"],
        about: "shows the node and its pods on one screen",
        run: status::run,
        flags: || status::TOOL.completions(),
    },
    Program {
        names: &["validate"],
        about: "tells what the kubelet makes of manifest files",
        run: validate::run,
        flags: || validate::TOOL.completions(),
    },
    Program {
        names: &["cleanup"],
        about: "removes every pod and all that the node left; shows it first",
        run: cleanup::run,
        flags: || cleanup::TOOL.completions(),
    },
    Program {
        names: &["completion"],
        about: "prints a completion script for bash, zsh or fish",
        run: |words| completion::run(&words, &entries()),
        flags: || completion::TOOL.completions(),
    },
    Program {
        names: &["probe"],
        about: "asks a URL once; the container's health check",
        run: probe::run,
        flags: Vec::new,
    },
    Program {
        names: &["hello"],
        about: "the example pod's web server",
        run: hello::run,
        flags: Vec::new,
    },
    // For images without a shell, where there are no wrapper scripts (NODE-12, NODE-14, DEC-32).
    Program {
        names: &["kubelet-node"],
        about: "",
        run: kubelet_node,
        flags: Vec::new,
    },
    Program {
        names: &["cri-dockerd-node"],
        about: "",
        run: cri_dockerd_node,
        flags: Vec::new,
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

/// The programs that are shown, as a shell completes them.
fn entries() -> Vec<Entry> {
    let shown = PROGRAMS.iter().filter(|program| !program.about.is_empty());
    shown
        .map(|program| Entry {
            name: program.names[0],
            about: program.about,
            flags: (program.flags)(),
            takes_files: program.names[0] == validate::TOOL.name,
        })
        .collect()
}

fn flags_of(set: &FlagSet) -> Vec<Completed> {
    set.completions().into_iter().map(Completed::from).collect()
}

fn flags_of_concurrently() -> Vec<Completed> {
    concurrently::FLAGS
        .iter()
        .filter(|flag| flag.group != concurrently::Group::Hidden)
        .map(|flag| Completed {
            name: flag.name.to_owned(),
            letter: flag.letters.first().copied(),
            takes_value: matches!(flag.value, ValueKind::One(_) | ValueKind::Each(_)),
            text: flag.text.split(". ").next().unwrap_or_default().to_owned(),
        })
        .collect()
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

    #[test]
    fn every_program_and_its_flags_are_in_each_script() {
        let entries = entries();
        for (script, flag) in [
            ("bash", "--root-dir="),
            ("zsh", "'--root-dir="),
            ("fish", "-l root-dir"),
        ] {
            let script = completion::script(script, &entries).unwrap();
            assert!(script.contains(flag), "{flag}");
            for entry in &entries {
                assert!(script.contains(entry.name), "{}", entry.name);
            }
            for word in [
                "cni-fallback",
                "restart-tries",
                "wait-running",
                "strict",
                "yes",
            ] {
                assert!(script.contains(word), "{word}");
            }
            assert!(!script.contains("kubelet-node"));
        }
    }

    #[test]
    fn texts_of_flags_cannot_end_their_quotes() {
        let script = completion::script("zsh", &entries()).unwrap();
        for line in script
            .lines()
            .filter(|line| line.trim_start().starts_with("'--"))
        {
            assert_eq!(line.matches('\'').count(), 2, "{line}");
        }
    }

    #[test]
    fn the_three_daemons_have_flags() {
        for name in [
            "kubelet",
            "cri-dockerd",
            "concurrently",
            "doctor",
            "cleanup",
        ] {
            assert!((find(name).unwrap().flags)().len() > 3, "{name}");
        }
        assert!((find("probe").unwrap().flags)().is_empty());
    }
}
