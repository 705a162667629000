//! The command line: one table ([`FLAGS`]) gives parser, environment, help and completion.
//!
//! Three steps: words to raw values ([`raw`]), raw values and environment to a [`Config`] ([`resolve`]), and every
//! problem found on the way is reported at once. Pure: arguments, environment and a
//! way to read files (for patterns of scripts) are passed in.

mod config;
mod flags;
mod help;
mod raw;
mod resolve;

use std::{collections::BTreeMap, ffi::OsString};

use crate::expand::scripts::{ReadFile, Scripts};

pub(crate) use config::{Config, KillOn};
pub use flags::{FLAGS, Flag, Group, ValueKind};
pub(crate) use help::help;

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Invocation {
    Help,
    Version,
    /// No commands: help as well, but elsewhere (OPT-30).
    NothingToRun,
    Run(Box<Config>),
}

/// What is wrong with the command line or the environment. Each names its place and what would be right.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error("unknown option {option}; see --help")]
    UnknownOption { option: String },
    #[error("{option} is {value:?}, but should be {wanted}")]
    BadValue {
        option: String,
        value: String,
        wanted: String,
    },
    #[error("argument {position} is not valid UTF-8")]
    NotUtf8 { position: usize },
    #[error("command {index} is empty")]
    EmptyCommand { index: usize },
    #[error("command {index} ({text:?}): the filter {filter:?} is not a regular expression")]
    ScriptFilter {
        index: usize,
        text: String,
        filter: String,
    },
}

/// Reads the command line (program name excluded) and the `CONCURRENTLY_` environment (OPT-31).
///
/// # Errors
/// Every problem found, in the order of the arguments.
pub(crate) fn parse(
    args: impl Iterator<Item = OsString>,
    environment: impl Iterator<Item = (OsString, OsString)>,
    stdout_is_terminal: bool,
    read: ReadFile<'_>,
) -> Result<Invocation, Vec<Problem>> {
    let mut problems = Vec::new();
    let words: Vec<String> = args
        .enumerate()
        .filter_map(|(index, word)| {
            word.into_string()
                .map_err(|_| {
                    problems.push(Problem::NotUtf8 {
                        position: index + 1,
                    });
                })
                .ok()
        })
        .collect();
    // A variable that is not text cannot be one of ours.
    let environment: BTreeMap<String, String> = environment
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();

    let raw = raw::parse(&words, &mut problems);
    if raw.is_set("help") {
        return Ok(Invocation::Help);
    }
    if raw.is_set("version") {
        return Ok(Invocation::Version);
    }
    let scripts = Scripts::new(read);
    let config = resolve::resolve(
        raw,
        &words,
        &environment,
        stdout_is_terminal,
        &scripts,
        &mut problems,
    );
    if !problems.is_empty() {
        return Err(problems);
    }
    // A pattern that no script matches is something to run, if nothing much (CMD-03).
    Ok(if config.commands.is_empty() && !scripts.were_asked_for() {
        Invocation::NothingToRun
    } else {
        Invocation::Run(Box::new(config))
    })
}

#[cfg(test)]
mod tests;
