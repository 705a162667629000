//! The walk over the arguments.

use std::collections::BTreeMap;

use super::{Flag, FlagSet, ParseError, ParseFailure, Parsed, Value, value};

/// State of one parse: arguments not yet read, and what was found so far.
struct Walk<'a> {
    set: &'a FlagSet,
    values: BTreeMap<&'static str, Value>,
    changed: Vec<&'static str>,
    positional: Vec<String>,
    notices: Vec<String>,
}

pub(super) fn parse<I>(set: &FlagSet, args: I) -> Result<Parsed, ParseFailure>
where
    I: IntoIterator,
    I::Item: AsRef<str>,
{
    let mut walk = Walk {
        set,
        values: set
            .flags()
            .map(|flag| (flag.name, Value::of_default(flag)))
            .collect(),
        changed: Vec::new(),
        positional: Vec::new(),
        notices: Vec::new(),
    };
    match walk.arguments(args.into_iter()) {
        Ok(()) => Ok(Parsed {
            values: walk.values,
            changed: walk.changed,
            positional: walk.positional,
            notices: walk.notices,
        }),
        Err(error) => Err(ParseFailure {
            error,
            notices: walk.notices,
        }),
    }
}

impl Walk<'_> {
    fn arguments<S: AsRef<str>>(
        &mut self,
        mut rest: impl Iterator<Item = S>,
    ) -> Result<(), ParseError> {
        while let Some(argument) = rest.next() {
            let argument = argument.as_ref();
            if argument == "--" {
                self.positional
                    .extend(rest.map(|arg| arg.as_ref().to_owned()));
                return Ok(());
            }
            if let Some(long) = argument.strip_prefix("--") {
                self.long(argument, long, &mut rest)?;
            } else if argument.len() > 1 && argument.starts_with('-') {
                self.cluster(&argument[1..], &mut rest)?;
            } else {
                self.positional.push(argument.to_owned());
            }
        }
        Ok(())
    }

    fn long<S: AsRef<str>>(
        &mut self,
        argument: &str,
        long: &str,
        rest: &mut impl Iterator<Item = S>,
    ) -> Result<(), ParseError> {
        if long.starts_with(['-', '=']) {
            return Err(ParseError::BadSyntax(argument.to_owned()));
        }
        let (name, inline) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        let Some(flag) = self.set.lookup(name).copied() else {
            return Err(if name == "help" {
                ParseError::HelpRequested
            } else {
                ParseError::UnknownFlag(name.to_owned())
            });
        };
        if let Some(value) = inline.or(flag.kind.bare_value()) {
            return self.set_value(&flag, value);
        }
        match rest.next() {
            Some(value) => self.set_value(&flag, value.as_ref()),
            None => Err(ParseError::NeedsArgument(argument.to_owned())),
        }
    }

    /// `-abc`: each letter a flag, until one takes the rest, or the next argument, as its value.
    fn cluster<S: AsRef<str>>(
        &mut self,
        letters: &str,
        rest: &mut impl Iterator<Item = S>,
    ) -> Result<(), ParseError> {
        let mut cluster = letters;
        while let Some(letter) = cluster.chars().next() {
            let after = &cluster[letter.len_utf8()..];
            let Some(flag) = self.set.shorthand(letter).copied() else {
                return Err(if letter == 'h' {
                    ParseError::HelpRequested
                } else {
                    ParseError::UnknownShorthand {
                        letter,
                        cluster: cluster.to_owned(),
                    }
                });
            };
            // As in pflag, `-x=` alone is no empty value: the `=` is the value or the next letter.
            if let Some(value) = after.strip_prefix('=').filter(|value| !value.is_empty()) {
                return self.set_value(&flag, value);
            }
            if let Some(bare) = flag.kind.bare_value() {
                self.set_value(&flag, bare)?;
                cluster = after;
                continue;
            }
            if !after.is_empty() {
                return self.set_value(&flag, after);
            }
            return match rest.next() {
                Some(value) => self.set_value(&flag, value.as_ref()),
                None => Err(ParseError::ShorthandNeedsArgument {
                    letter,
                    cluster: cluster.to_owned(),
                }),
            };
        }
        Ok(())
    }

    fn set_value(&mut self, flag: &Flag, text: &str) -> Result<(), ParseError> {
        let first = !self.changed.contains(&flag.name);
        let value = self
            .values
            .get_mut(flag.name)
            .expect("every flag has a value");
        value::set(flag.kind, value, text, first).map_err(|reason| {
            ParseError::InvalidArgument {
                value: text.to_owned(),
                flag: match flag.shorthand {
                    Some(letter) => format!("-{letter}, --{}", flag.name),
                    None => format!("--{}", flag.name),
                },
                reason,
            }
        })?;
        if first {
            self.changed.push(flag.name);
        }
        if let Some(instead) = flag.deprecated {
            self.notices.push(format!(
                "Flag --{} has been deprecated, {instead}",
                flag.name
            ));
        }
        Ok(())
    }
}
