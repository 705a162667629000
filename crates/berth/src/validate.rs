//! `berth validate FILE...`: what the kubelet would make of manifests, without a node (NODE-04).

use std::{ffi::OsString, io, path::Path, process::ExitCode};

use daemon::pflag::{Flag, Kind};

use crate::{
    manifests::{self, LoadError},
    output,
    tool::{EXIT_USAGE, HELP, Tool},
};

/// `berth validate`.
pub(crate) const TOOL: Tool = Tool {
    name: "validate",
    about: "Usage: berth validate [flags] FILE...     (- is stdin; a directory is its manifests)

Reads manifests as the kubelet does and tells everything that is wrong with them.
Exits with 0 when each may run, else with 1.",
    flags: &[
        HELP,
        Flag::new(
            "strict",
            Kind::Bool,
            "false",
            "refuse what the kubelet only drops: unknown fields, keys given twice",
        ),
        Flag::new(
            "hostname-override",
            Kind::String,
            "",
            "name of the node, which ends the names of its pods; default: this machine's",
        ),
    ],
    describes_node: false,
};

/// Whether dropped fields count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unknown {
    Warned,
    Refused,
}

/// What is said about a file, and whether its pod may run.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    lines: Vec<String>,
    may_run: bool,
}

/// Runs the tool.
pub(crate) fn run(words: Vec<OsString>) -> ExitCode {
    let (parsed, files) = match TOOL.split(words) {
        Ok(split) => split,
        Err(problem) => return refuse(&problem),
    };
    if parsed.bool("help") {
        output::text(&TOOL.help());
        return ExitCode::SUCCESS;
    }
    let flag = files
        .iter()
        .find(|word| *word != "-" && word.to_string_lossy().starts_with('-'));
    if let Some(flag) = flag {
        return refuse(&format!("unknown flag: {}", flag.to_string_lossy()));
    }
    if files.is_empty() {
        return refuse("no file; name manifests, or - for stdin");
    }
    let unknown = if parsed.bool("strict") {
        Unknown::Refused
    } else {
        Unknown::Warned
    };
    let node_name = match parsed.text("hostname-override") {
        "" => node_os::proc::hostname(),
        name => name.to_owned(),
    }
    .trim()
    .to_lowercase();

    let mut all_may_run = true;
    for word in &files {
        for verdict in look_at(word, &node_name, unknown) {
            all_may_run &= verdict.may_run;
            for line in &verdict.lines {
                output::line(line);
            }
        }
    }
    if all_may_run {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn refuse(problem: &str) -> ExitCode {
    output::complain(&format!("berth validate: {problem}"));
    ExitCode::from(EXIT_USAGE)
}

fn look_at(word: &OsString, node_name: &str, unknown: Unknown) -> Vec<Verdict> {
    if word == "-" {
        let loaded = manifests::read(io::stdin().lock())
            .and_then(|bytes| manifests::pod(&bytes, "stdin", node_name));
        return vec![judge("stdin", loaded, unknown)];
    }
    let path = Path::new(word);
    match manifests::files(path) {
        Ok(files) if files.is_empty() => vec![Verdict {
            lines: vec![format!("{}: no manifests", path.display())],
            may_run: true,
        }],
        Ok(files) => files
            .iter()
            .map(|file| {
                let name = file.to_string_lossy();
                judge(&name, manifests::load(file, node_name), unknown)
            })
            .collect(),
        Err(error) => {
            let failed = Err(LoadError::Read(error));
            vec![judge(&path.to_string_lossy(), failed, unknown)]
        }
    }
}

/// What is said about one manifest.
fn judge(
    file: &str,
    loaded: Result<kubelet_core::manifest::LoadedPod, LoadError>,
    unknown: Unknown,
) -> Verdict {
    let told = |kind: &str, text: &str| format!("{file}: {kind}: {text}");
    match loaded {
        Ok(loaded) if unknown == Unknown::Refused && !loaded.warnings.is_empty() => Verdict {
            lines: loaded
                .warnings
                .iter()
                .map(|warning| told("error", warning))
                .collect(),
            may_run: false,
        },
        Ok(loaded) => {
            let text = |value: &Option<String>| value.clone().unwrap_or_default();
            let meta = &loaded.pod.metadata;
            let (namespace, name) = (text(&meta.namespace), text(&meta.name));
            let mut lines = vec![format!("{file}: ok (pod {namespace}/{name})")];
            lines.extend(
                loaded
                    .warnings
                    .iter()
                    .map(|warning| told("warning", warning)),
            );
            let ignored = kubelet_core::manifest::ignored_fields(&loaded.pod);
            lines.extend(
                ignored
                    .iter()
                    .map(|field| told("warning", &format!("{field} has no effect here yet"))),
            );
            Verdict {
                lines,
                may_run: true,
            }
        }
        Err(error) => Verdict {
            lines: error
                .lines()
                .iter()
                .map(|line| told("error", line))
                .chain(error.warnings().iter().map(|line| told("warning", line)))
                .collect(),
            may_run: false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(manifest: &str, unknown: Unknown) -> Verdict {
        judge(
            "f.yaml",
            manifests::pod(manifest.as_bytes(), "f.yaml", "node1"),
            unknown,
        )
    }

    const GOOD: &str = "--- {apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: c, image: i}]}}";
    const MORE: &str = "--- {apiVersion: v1, kind: Pod, metadata: {name: a}, \
                        spec: {replicas: 2, containers: [{name: c, image: i}]}}";

    #[test]
    fn a_good_manifest_is_named_as_the_node_will_name_its_pod() {
        let verdict = verdict(GOOD, Unknown::Refused);
        assert_eq!(verdict.lines, ["f.yaml: ok (pod default/a-node1)"]);
        assert!(verdict.may_run);
    }

    #[test]
    fn unknown_fields_warn_unless_strict() {
        let told = verdict(MORE, Unknown::Warned);
        assert!(told.may_run);
        assert!(told.lines[1].starts_with("f.yaml: warning: "), "{told:?}");
        assert!(told.lines[1].contains("spec.replicas"), "{told:?}");
        let told = verdict(MORE, Unknown::Refused);
        assert!(!told.may_run);
        assert!(told.lines[0].starts_with("f.yaml: error: "), "{told:?}");
    }

    #[test]
    fn what_was_dropped_is_told_beside_the_error_that_it_causes() {
        let told = verdict(&GOOD.replace("image:", "imagee:"), Unknown::Warned);
        assert!(!told.may_run);
        assert_eq!(
            told.lines,
            [
                "f.yaml: error: spec.containers[0].image: Required value",
                "f.yaml: warning: unknown field \"spec.containers[0].imagee\"",
            ]
        );
    }

    #[test]
    fn every_error_has_its_field() {
        let told = verdict(
            "--- {apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: c}, {name: c, image: i}]}}",
            Unknown::Warned,
        );
        assert!(!told.may_run);
        assert!(told.lines.len() >= 2, "{told:?}");
        assert!(
            told.lines
                .iter()
                .all(|line| line.starts_with("f.yaml: error: spec.")),
            "{told:?}"
        );
    }
}
