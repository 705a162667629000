//! What the operator's tools have in common: their own flags beside the kubelet's, so that one and
//! the same words (`--config F --root-dir D`) describe a node to the kubelet and to each tool.

use std::{ffi::OsString, fs, os::unix::fs::MetadataExt as _, path::Path, process::ExitCode};

use daemon::pflag::{Completion, Flag, FlagSet, Kind, Parsed};
use kubelet_config::{Command, HostFacts, Settings};

use crate::{docker, output};

/// Bad usage (sysexits: EX_USAGE).
pub(crate) const EXIT_USAGE: u8 = 64;

/// Whether this process may do what a node's parts need root for.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// A tool as its help and the shells' completion show it.
#[derive(Debug)]
pub(crate) struct Tool {
    /// Its name.
    pub(crate) name: &'static str,
    /// Usage, what it does.
    pub(crate) about: &'static str,
    /// Flags of its own.
    pub(crate) flags: &'static [Flag],
    /// Whether it takes the kubelet's flags too.
    pub(crate) describes_node: bool,
}

/// Every tool has it.
pub(crate) const HELP: Flag = Flag::new("help", Kind::Bool, "false", "this help").short('h');
/// Where Docker is.
pub(crate) const DOCKER_ENDPOINT: Flag = Flag::new(
    "docker-endpoint",
    Kind::String,
    docker::DEFAULT_ENDPOINT,
    "socket of Docker Engine; without it DOCKER_HOST counts",
);
/// Where cri-dockerd keeps its checkpoints.
pub(crate) const CRI_DOCKERD_ROOT: Flag = Flag::new(
    "cri-dockerd-root-directory",
    Kind::String,
    "/var/lib/cri-dockerd",
    "where cri-dockerd keeps its checkpoints",
);

impl Tool {
    /// Splits the words into flags of the tool and the rest.
    ///
    /// # Errors
    /// A text that says what is wrong with a flag of the tool.
    pub(crate) fn split(&self, words: Vec<OsString>) -> Result<(Parsed, Vec<OsString>), String> {
        let mut own: Vec<String> = Vec::new();
        let mut rest = Vec::new();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let text = word.to_string_lossy().into_owned();
            if text == "--" {
                rest.push(word);
                rest.extend(words.by_ref());
                break;
            }
            let Some(flag) = self.own_flag(&text) else {
                rest.push(word);
                continue;
            };
            let has_value = text.contains('=') || matches!(flag.kind, Kind::Bool);
            own.push(text);
            if !has_value {
                own.extend(
                    words
                        .next()
                        .map(|value| value.to_string_lossy().into_owned()),
                );
            }
        }
        let parsed = FlagSet::new(self.flags)
            .parse(own)
            .map_err(|failure| failure.to_string())?;
        Ok((parsed, rest))
    }

    /// What every tool that describes a node begins with: its own flags and the node, unless all is
    /// said already (help was asked for, or something is wrong with the words).
    ///
    /// # Errors
    /// The code to end with.
    pub(crate) fn begin(&self, words: Vec<OsString>) -> Result<(Parsed, Box<Settings>), ExitCode> {
        let (parsed, rest) = self
            .split(words)
            .map_err(|problem| self.refuse(&problem, EXIT_USAGE))?;
        if parsed.bool(HELP.name) {
            output::text(&self.help());
            return Err(ExitCode::SUCCESS);
        }
        let settings = node(rest).map_err(|problem| self.refuse(&problem, 1))?;
        Ok((parsed, settings))
    }

    /// Says why the tool does not do it.
    pub(crate) fn refuse(&self, problem: &str, code: u8) -> ExitCode {
        output::complain(&format!("berth {}: {problem}", self.name));
        ExitCode::from(code)
    }

    fn own_flag(&self, word: &str) -> Option<&'static Flag> {
        let name = match word.strip_prefix("--") {
            Some(long) => long.split('=').next().unwrap_or(long),
            None if word == "-h" => "help",
            None => return None,
        };
        self.flags.iter().find(|flag| flag.name == name)
    }

    /// The text of `--help`.
    pub(crate) fn help(&self) -> String {
        let mut text = format!(
            "{}\n\nFlags:\n{}",
            self.about,
            FlagSet::new(self.flags).usages()
        );
        if self.describes_node {
            text.push_str(
                "\nThe node is told as to the kubelet: --config FILE, --root-dir DIR and so on \
                 (berth kubelet --help).\n",
            );
        }
        text
    }

    /// Names and texts for completion, the kubelet's flags included where the tool takes them.
    pub(crate) fn completions(&self) -> Vec<Completed> {
        let mut all: Vec<Completed> = FlagSet::new(self.flags)
            .completions()
            .into_iter()
            .map(Completed::from)
            .collect();
        if self.describes_node {
            let known = |name: &str| self.flags.iter().any(|flag| flag.name == name);
            let node = kubelet_config::command_line();
            let more = node
                .completions()
                .into_iter()
                .filter(|flag| !known(flag.name));
            all.extend(more.map(Completed::from));
        }
        all
    }
}

/// A flag as a shell completes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Completed {
    /// Long name without dashes.
    pub(crate) name: String,
    /// One-letter form.
    pub(crate) letter: Option<char>,
    /// A value follows.
    pub(crate) takes_value: bool,
    /// What it does, in a line.
    pub(crate) text: String,
}

impl From<Completion<'_>> for Completed {
    fn from(flag: Completion<'_>) -> Self {
        Self {
            name: flag.name.to_owned(),
            letter: flag.shorthand,
            takes_value: flag.takes_value,
            text: flag.description.to_owned(),
        }
    }
}

/// The node that the words describe, as the kubelet would run it.
///
/// # Errors
/// What the kubelet would say.
pub(crate) fn node(words: Vec<OsString>) -> Result<Box<Settings>, String> {
    let host = HostFacts {
        cgroup_v2: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
    };
    match kubelet_config::load(words, host) {
        Ok(Command::Run(run)) => Ok(Box::new(run.settings)),
        Ok(Command::Print(_)) => Err("that flag belongs to the kubelet itself".to_owned()),
        Err(failure) => Err(failure.to_string()),
    }
}

/// The endpoint that the flag names, else the environment, else Docker's default.
pub(crate) fn docker_endpoint(parsed: &Parsed) -> String {
    if parsed.changed(DOCKER_ENDPOINT.name) {
        return parsed.text(DOCKER_ENDPOINT.name).to_owned();
    }
    docker_host().unwrap_or_else(|| docker::DEFAULT_ENDPOINT.to_owned())
}

#[expect(clippy::disallowed_methods, reason = "this is a command line")]
fn docker_host() -> Option<String> {
    std::env::var("DOCKER_HOST")
        .ok()
        .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOL: Tool = Tool {
        name: "demo",
        about: "demo",
        flags: &[HELP, DOCKER_ENDPOINT],
        describes_node: true,
    };

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn own_flags_are_taken_out_and_the_rest_stays_in_order() {
        let given = words(&[
            "--config",
            "f",
            "--docker-endpoint",
            "unix:///d",
            "-h",
            "--v=4",
            "--",
            "-h",
        ]);
        let (parsed, rest) = TOOL.split(given).unwrap();
        assert!(parsed.bool("help"));
        assert_eq!(parsed.text("docker-endpoint"), "unix:///d");
        assert_eq!(rest, words(&["--config", "f", "--v=4", "--", "-h"]));
        let (parsed, _) = TOOL.split(words(&["--docker-endpoint=x"])).unwrap();
        assert_eq!(docker_endpoint(&parsed), "x");
        assert!(TOOL.split(words(&["--docker-endpoint"])).is_err());
    }

    #[test]
    fn a_tool_completes_the_kubelets_flags_too() {
        let names: Vec<String> = TOOL
            .completions()
            .into_iter()
            .map(|flag| flag.name)
            .collect();
        assert!(names.iter().any(|name| name == "root-dir"));
        assert_eq!(names.iter().filter(|name| *name == "help").count(), 1);
    }
}
