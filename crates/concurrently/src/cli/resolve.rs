//! Raw values and environment to a [`Config`].
//!
//! Differs: an unknown signal, and a time, a length or a number of tries that is no number, are refused;
//! upstream goes on as if they were not given.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Problem,
    config::{Config, KillOn, MaxProcesses},
    flags::{FLAGS, Flag, Group, ValueKind},
    raw::Raw,
};
use crate::{
    behaviours::{
        restart::{Delay, RestartPolicy, Tries},
        success::SuccessRule,
    },
    expand::{
        self, Expanded,
        scripts::{BadFilter, Scripts},
    },
    output::{
        colour::{self, ColourLevel},
        timestamp::{self, TimestampFormat},
    },
    signal::Signal,
};

const DEFAULT_STOP_GRACE: Duration = Duration::from_secs(4);
const DEFAULT_PREFIX_LENGTH: usize = 10;

/// A value with the name of where it came from.
struct Given {
    option: String,
    value: String,
}

struct Values<'a> {
    given: BTreeMap<&'static str, Vec<Given>>,
    problems: &'a mut Vec<Problem>,
}

impl Values<'_> {
    fn text(&mut self, name: &'static str) -> Option<String> {
        Some(self.given.get_mut(name)?.pop()?.value)
    }

    fn texts(&mut self, name: &'static str) -> Vec<String> {
        self.given
            .remove(name)
            .unwrap_or_default()
            .into_iter()
            .map(|given| given.value)
            .collect()
    }

    /// On by the word `true` alone, as upstream; 1 and yes are off.
    fn switch(&mut self, name: &'static str) -> bool {
        self.text(name).is_some_and(|value| value == "true")
    }

    fn millis(&mut self, name: &'static str) -> Option<Duration> {
        self.parsed(name, "a number of milliseconds", parse_millis)
    }

    /// The last value, understood; a problem if it is not.
    fn parsed<T, E>(
        &mut self,
        name: &'static str,
        wanted: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let Given { option, value } = self.given.get_mut(name)?.pop()?;
        let parsed = parse(&value).ok();
        if parsed.is_none() {
            let wanted = wanted.to_owned();
            self.problems.push(Problem::BadValue {
                option,
                value,
                wanted,
            });
        }
        parsed
    }
}

pub(crate) fn resolve(
    raw: Raw,
    words: &[String],
    environment: &BTreeMap<String, String>,
    stdout_is_terminal: bool,
    scripts: &Scripts<'_>,
    problems: &mut Vec<Problem>,
) -> Config {
    let mut values = Values {
        given: with_environment(raw.values, environment),
        problems,
    };

    let mut warnings = Vec::new();
    let separator = values
        .text("name-separator")
        .unwrap_or_else(|| ",".to_owned());
    if separator != "," {
        warnings.push(
            "[concurrently] name-separator is deprecated. Use commas as name separators instead."
                .to_owned(),
        );
    }
    let names = values.text("names").unwrap_or_default();
    let passthrough = values.switch("passthrough-arguments");
    let mut texts = raw.commands;
    let placeholders = if passthrough {
        Some(raw.after_dashes)
    } else {
        texts.extend(raw.after_dashes);
        None
    };
    let commands = commands(
        &texts,
        &split_names(&names, &separator),
        placeholders.as_deref(),
        scripts,
        values.problems,
    );

    let colour = colour::detect(words, environment, stdout_is_terminal);
    let prefix_colors = values
        .text("prefix-colors")
        .unwrap_or_else(|| "reset".to_owned());
    let prefix_colors = colour::select(
        &prefix_colors.split(',').collect::<Vec<_>>(),
        commands.len(),
    );
    let kill_on = match (
        values.switch("kill-others"),
        values.switch("kill-others-on-fail"),
    ) {
        (true, _) => KillOn::AnyEnd,
        (false, true) => KillOn::Failure,
        (false, false) => KillOn::Never,
    };
    let tries = values
        .parsed("restart-tries", "a whole number", |value| {
            value.trim().parse::<i64>()
        })
        .map_or(Tries::Limited(0), |tries| {
            u64::try_from(tries).map_or(Tries::Unlimited, Tries::Limited)
        });
    let delay = values
        .parsed(
            "restart-after",
            "a number of milliseconds, or \"exponential\"",
            |value| {
                if value == "exponential" {
                    Ok(Delay::Exponential)
                } else {
                    parse_millis(value).map(Delay::Fixed)
                }
            },
        )
        .unwrap_or(Delay::Fixed(Duration::ZERO));

    Config {
        max_processes: values
            .text("max-processes")
            .map_or(MaxProcesses::All, |value| max_processes(&value)),
        success: SuccessRule::parse(&values.text("success").unwrap_or_default()),
        raw: values.switch("raw"),
        hide: split_list(&values.text("hide").unwrap_or_default()),
        group: values.switch("group"),
        timings: values.switch("timings"),
        teardown: values.texts("teardown"),
        prefix: values.text("prefix").filter(|prefix| !prefix.is_empty()),
        prefix_colors,
        prefix_length: values
            .parsed("prefix-length", "a whole number", str::parse::<usize>)
            .filter(|&length| length > 0)
            .unwrap_or(DEFAULT_PREFIX_LENGTH),
        pad_prefix: values.switch("pad-prefix"),
        timestamp_format: timestamp_format(&mut values),
        colour,
        input: {
            let target = values
                .text("default-input-target")
                .unwrap_or_else(|| "0".to_owned());
            values.switch("handle-input").then_some(target)
        },
        kill_on,
        kill_signal: values
            .parsed(
                "kill-signal",
                "the name of a signal, such as SIGTERM",
                |value| Signal::from_name(value).ok_or(()),
            )
            .unwrap_or(Signal::TERM),
        kill_timeout: values
            .millis("kill-timeout")
            .filter(|timeout| !timeout.is_zero()),
        stop_grace: values.millis("stop-grace").unwrap_or(DEFAULT_STOP_GRACE),
        restart: RestartPolicy { tries, delay },
        force_color: (colour != ColourLevel::None && !environment.contains_key("FORCE_COLOR"))
            .then_some(colour),
        commands,
        warnings,
    }
}

/// Adds what the environment says where the command line is silent (OPT-31). Other variables that start alike are
/// not ours to judge (`CONCURRENTLY_VERSION` is a build argument of our image).
fn with_environment(
    values: BTreeMap<&'static str, Vec<String>>,
    environment: &BTreeMap<String, String>,
) -> BTreeMap<&'static str, Vec<Given>> {
    let mut given: BTreeMap<&'static str, Vec<Given>> = values
        .into_iter()
        .map(|(name, values)| {
            let option = format!("--{name}");
            let given = values.into_iter().map(|value| Given {
                option: option.clone(),
                value,
            });
            (name, given.collect())
        })
        .collect();
    let settable = FLAGS
        .iter()
        .filter(|flag| flag.value != ValueKind::Colour && flag.group != Group::Other);
    for flag in settable {
        if given.contains_key(flag.name) {
            continue;
        }
        let found =
            variables(flag).find_map(|name| environment.get(&name).map(|value| (name, value)));
        if let Some((option, value)) = found {
            given.insert(
                flag.name,
                vec![Given {
                    option,
                    value: value.clone(),
                }],
            );
        }
    }
    given
}

fn variables(flag: &Flag) -> impl Iterator<Item = String> {
    flag.spellings().map(|spelling| {
        format!(
            "CONCURRENTLY_{}",
            spelling.to_ascii_uppercase().replace('-', "_")
        )
    })
}

fn commands(
    texts: &[String],
    names: &[&str],
    placeholders: Option<&[String]>,
    scripts: &Scripts<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<Expanded> {
    let mut commands = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        if text.is_empty() {
            problems.push(Problem::EmptyCommand { index });
            continue;
        }
        match expand::expand(names.get(index).unwrap_or(&""), text, placeholders, scripts) {
            Ok(expanded) => commands.extend(expanded),
            Err(BadFilter(filter)) => problems.push(Problem::ScriptFilter {
                index,
                text: text.clone(),
                filter,
            }),
        }
    }
    commands
}

fn split_names<'a>(names: &'a str, separator: &str) -> Vec<&'a str> {
    // JavaScript splits by nothing into letters, without empty ends.
    if separator.is_empty() {
        return names.split("").filter(|name| !name.is_empty()).collect();
    }
    names.split(separator).collect()
}

fn split_list(list: &str) -> Vec<String> {
    list.split(',')
        .filter(|entry| !entry.is_empty())
        .map(str::to_owned)
        .collect()
}

fn parse_millis(value: &str) -> Result<Duration, ()> {
    let millis: f64 = value.trim().parse().map_err(|_| ())?;
    Duration::try_from_secs_f64(millis / 1000.0).map_err(|_| ())
}

/// What is no number means all, and a part of a process is a whole one (OPT-01).
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float to integer cast saturates"
)]
fn max_processes(value: &str) -> MaxProcesses {
    if let Some(percent) = value.strip_suffix('%') {
        return MaxProcesses::PercentOfProcessors(number(percent));
    }
    let count = number(value);
    if count == 0.0 || count.is_nan() {
        MaxProcesses::All
    } else {
        MaxProcesses::Count(count.ceil() as usize)
    }
}

/// JavaScript's `Number(text)`.
#[expect(clippy::cast_precision_loss, reason = "as there")]
fn number(text: &str) -> f64 {
    let text = text.trim();
    let radix = |prefix: [&str; 2], radix| {
        let digits = prefix.iter().find_map(|prefix| text.strip_prefix(prefix))?;
        Some(u64::from_str_radix(digits, radix).map_or(f64::NAN, |value| value as f64))
    };
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    match unsigned {
        "" if text.is_empty() => 0.0,
        "Infinity" if text.starts_with('-') => f64::NEG_INFINITY,
        "Infinity" => f64::INFINITY,
        _ => radix(["0x", "0X"], 16)
            .or_else(|| radix(["0o", "0O"], 8))
            .or_else(|| radix(["0b", "0B"], 2))
            .unwrap_or_else(|| {
                let decimal =
                    unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.');
                let parsed = decimal.then(|| text.parse().ok()).flatten();
                parsed.unwrap_or(f64::NAN)
            }),
    }
}

fn timestamp_format(values: &mut Values<'_>) -> TimestampFormat {
    let Some(pattern) = values.given.get_mut("timestamp-format").and_then(Vec::pop) else {
        return TimestampFormat::default();
    };
    if pattern.value.is_empty() {
        return TimestampFormat::default();
    }
    TimestampFormat::compile(&pattern.value).unwrap_or_else(|error: timestamp::BadToken| {
        values.problems.push(Problem::BadValue {
            option: pattern.option,
            value: pattern.value,
            wanted: format!("a date pattern: {error}"),
        });
        TimestampFormat::default()
    })
}
