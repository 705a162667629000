//! Words to raw values, in the manner of the original's parser (yargs): options and commands in any order, kebab
//! and camel case, letters in a row, `--no-` for switches.
//!
//! Differs: unknown options are refused instead of swallowing the next word (OPT-32).

use std::collections::BTreeMap;

use super::{
    Problem,
    flags::{Flag, ValueKind},
};

/// Values as given, by the option's name; words that are no options; words after `--`.
#[derive(Debug, Default)]
pub(crate) struct Raw {
    pub(crate) values: BTreeMap<&'static str, Vec<String>>,
    pub(crate) commands: Vec<String>,
    pub(crate) after_dashes: Vec<String>,
}

impl Raw {
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.values
            .get(name)
            .and_then(|values| values.last())
            .is_some_and(|last| last == "true")
    }

    fn add(&mut self, flag: &Flag, value: impl Into<String>) {
        self.values.entry(flag.name).or_default().push(value.into());
    }
}

pub(crate) fn parse(words: &[String], problems: &mut Vec<Problem>) -> Raw {
    let mut raw = Raw::default();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        if word == "--" {
            raw.after_dashes = words.cloned().collect();
            break;
        }
        let parsed = if let Some(long) = word.strip_prefix("--") {
            long_option(&mut raw, word, long, &mut words)
        } else if word.starts_with('-') && word.len() > 1 && !is_number(word) {
            letters(&mut raw, &word[1..], &mut words)
        } else {
            raw.commands.push(word.clone());
            Ok(())
        };
        problems.extend(parsed.err());
    }
    raw
}

type Words<'a> = std::iter::Peekable<std::slice::Iter<'a, String>>;

fn long_option(
    raw: &mut Raw,
    word: &str,
    long: &str,
    words: &mut Words<'_>,
) -> Result<(), Problem> {
    let (name, attached) = match long.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (long, None),
    };
    let kebab = kebab_case(name);
    if let Some(flag) = Flag::find(&kebab) {
        option(raw, flag, attached, words);
        return Ok(());
    }
    match kebab.strip_prefix("no-").and_then(Flag::find) {
        Some(flag) if flag.value == ValueKind::Switch && attached.is_none() => {
            raw.add(flag, "false");
            Ok(())
        }
        _ => Err(Problem::UnknownOption {
            option: word.to_owned(),
        }),
    }
}

fn letters(raw: &mut Raw, letters: &str, words: &mut Words<'_>) -> Result<(), Problem> {
    let mut rest = letters;
    while let Some(letter) = rest.chars().next() {
        rest = &rest[letter.len_utf8()..];
        let Some(flag) = Flag::find_letter(letter) else {
            return Err(Problem::UnknownOption {
                option: format!("-{letter} (in -{letters})"),
            });
        };
        if is_attached(rest) {
            let value = rest.strip_prefix('=').unwrap_or(rest);
            option(raw, flag, Some(value), words);
            break;
        }
        // Only the last letter has a say in the next word.
        let mut none = [].iter().peekable();
        let next = if rest.is_empty() {
            &mut *words
        } else {
            &mut none
        };
        option(raw, flag, None, next);
    }
    Ok(())
}

/// What follows a letter is its value (`-m2`, `-n=a`, `-p{time}`), not the next letter.
fn is_attached(rest: &str) -> bool {
    let sign = |first: char| !(first.is_ascii_alphanumeric() || first == '_');
    rest.starts_with(sign) || is_number(rest)
}

fn option(raw: &mut Raw, flag: &'static Flag, attached: Option<&str>, words: &mut Words<'_>) {
    match flag.value {
        // The colour detection reads the words themselves (OPT-06).
        ValueKind::Colour => {}
        ValueKind::Switch => {
            let value = attached
                .or_else(|| {
                    words
                        .next_if(|next| matches!(next.as_str(), "true" | "false"))
                        .map(String::as_str)
                })
                .unwrap_or("true");
            raw.add(flag, value);
        }
        ValueKind::One(_) | ValueKind::Each(_) => {
            let value = attached.or_else(|| {
                words
                    .next_if(|next| {
                        !next.starts_with('-') || next.as_str() == "-" || is_number(next)
                    })
                    .map(String::as_str)
            });
            match value {
                Some(value) => raw.add(flag, value),
                // As if not given, and not by the environment either.
                None => drop(raw.values.entry(flag.name).or_default()),
            }
        }
    }
}

/// `killOthers` to `kill-others`.
fn kebab_case(name: &str) -> String {
    let mut kebab = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            kebab.push('-');
            kebab.push(letter.to_ascii_lowercase());
        } else {
            kebab.push(letter);
        }
    }
    kebab
}

/// A negative number is a value (`--restart-tries -1`) or a command, never letters.
fn is_number(word: &str) -> bool {
    word.parse::<f64>().is_ok_and(f64::is_finite)
}
