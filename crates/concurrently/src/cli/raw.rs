//! Words to raw values, in the manner of the original's parser (yargs): options and commands in any order, kebab
//! and camel case, letters in a row, `--no-` for switches.
//!
//! Differs: unknown options are refused instead of swallowing the next word (OPT-32), and so is an option whose
//! value is missing.

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
        return option(raw, flag, &format!("--{name}"), attached, words);
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
        let name = format!("-{letter}");
        let Some(flag) = Flag::find_letter(letter) else {
            return Err(Problem::UnknownOption {
                option: format!("{name} (in -{letters})"),
            });
        };
        let takes_rest = flag.value != ValueKind::Switch || rest.starts_with('=');
        if takes_rest && !rest.is_empty() {
            return option(
                raw,
                flag,
                &name,
                Some(rest.strip_prefix('=').unwrap_or(rest)),
                words,
            );
        }
        if rest.is_empty() {
            return option(raw, flag, &name, None, words);
        }
        raw.add(flag, "true");
    }
    Ok(())
}

fn option(
    raw: &mut Raw,
    flag: &'static Flag,
    name: &str,
    attached: Option<&str>,
    words: &mut Words<'_>,
) -> Result<(), Problem> {
    match flag.value {
        // The colour detection reads the words themselves (OPT-06).
        ValueKind::Colour => Ok(()),
        ValueKind::Switch => {
            let value = attached
                .or_else(|| {
                    words
                        .next_if(|next| matches!(next.as_str(), "true" | "false"))
                        .map(String::as_str)
                })
                .unwrap_or("true");
            if !matches!(value, "true" | "false") {
                return Err(Problem::BadValue {
                    option: name.to_owned(),
                    value: value.to_owned(),
                    wanted: "true or false".to_owned(),
                });
            }
            raw.add(flag, value);
            Ok(())
        }
        ValueKind::One(hint) | ValueKind::Each(hint) => {
            let value = attached.or_else(|| {
                words
                    .next_if(|next| {
                        !next.starts_with('-') || next.as_str() == "-" || is_number(next)
                    })
                    .map(String::as_str)
            });
            match value {
                Some(value) => {
                    raw.add(flag, value);
                    Ok(())
                }
                None => Err(Problem::MissingValue {
                    option: name.to_owned(),
                    hint,
                }),
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
