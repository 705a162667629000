//! Command-line flags from a table, read as Go's `pflag` reads them.
//!
//! The Kubernetes programs and cri-dockerd parse their command lines with `github.com/spf13/pflag`
//! (v1.0.6 in Kubernetes 1.34). Scripts, unit files and tests depend on its rules and on its
//! messages, so this module keeps both (rows PROC-01, FLAG-30..34, FLG-21, FLG-22):
//!
//! - `--name=value` and `--name value`; a boolean takes a value only after `=`;
//! - `-v5`, `-v=5`, `-v 5`, and clusters of shorthands;
//! - `--` ends the flags, flags and positional arguments may be mixed before it;
//! - lists and maps grow with each use, and the first use replaces the default;
//! - `_` in a name may stand for `-` ([`FlagSet::normalize_words`]).
//!
//! A flag is one row of data ([`Flag`]), a program's flags are a `const` table. [`FlagSet::parse`]
//! is pure: it returns values, positional arguments and the deprecation notices that the caller
//! prints on stderr. Nothing here reads the environment or writes anywhere.
//!
//! ```
//! use daemon::pflag::{Flag, FlagSet, Kind};
//!
//! const FLAGS: &[Flag] = &[
//!     Flag::new("port", Kind::Int32, "10250", "The port to serve on."),
//!     Flag::new("help", Kind::Bool, "false", "help for demo").short('h'),
//! ];
//! let parsed = FlagSet::new(FLAGS).parse(["--port=1", "extra"]).expect("valid flags");
//! assert_eq!(parsed.int("port"), 1);
//! assert!(!parsed.bool("help"));
//! assert_eq!(parsed.positional(), ["extra"]);
//! ```

mod csv;
mod duration;
mod error;
mod parse;
mod strconv;
mod usage;
mod value;

use std::borrow::Cow;
use std::collections::BTreeMap;

pub use duration::{DurationError, GoDuration};
pub use error::{ParseError, ParseFailure, utf8_args};
pub use strconv::{NumberError, parse_bool, parse_int, parse_uint, quote};
pub use value::Value;

/// One flag: a row of a program's flag table.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Long name without dashes, spelled with `-`.
    pub name: &'static str,
    /// One-letter form, without the dash.
    pub shorthand: Option<char>,
    /// Type of the value, which fixes its syntax and how repeated use adds up.
    pub kind: Kind,
    /// Default as help text shows it (`10s`, `[pods]`, empty). It also is the value when unset.
    pub default: &'static str,
    /// Help text; a back-quoted word in it names the value, as in pflag.
    pub usage: &'static str,
    /// What to use instead; its presence makes every use print a notice.
    pub deprecated: Option<&'static str>,
    /// Left out of help and completion, still parsed.
    pub hidden: bool,
}

impl Flag {
    /// A visible flag with no shorthand.
    pub const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        usage: &'static str,
    ) -> Self {
        Self {
            name,
            shorthand: None,
            kind,
            default,
            usage,
            deprecated: None,
            hidden: false,
        }
    }

    /// The same flag with a one-letter form.
    #[must_use]
    pub const fn short(mut self, letter: char) -> Self {
        self.shorthand = Some(letter);
        self
    }

    /// The same flag marked deprecated; `instead` completes "Flag --x has been deprecated, ...".
    #[must_use]
    pub const fn deprecated(mut self, instead: &'static str) -> Self {
        self.deprecated = Some(instead);
        self
    }

    /// The same flag, not shown in help.
    #[must_use]
    pub const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }
}

/// Type of a flag's value.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// `true` when given bare; else what Go's `strconv.ParseBool` accepts, after `=`.
    Bool,
    /// Any text; the last use wins.
    String,
    /// Signed, 32 bit; decimal, `0x`, `0o`, `0b` and leading-zero octal.
    Int32,
    /// Signed, 64 bit; same syntax.
    Int64,
    /// Signed, the width of Go's `int` (64 bit).
    Int,
    /// Unsigned, 32 bit.
    Uint32,
    /// Unsigned, 64 bit.
    Uint64,
    /// Floating point.
    Float64,
    /// Go duration: `1h2m3.5s`, see [`GoDuration`].
    Duration,
    /// IP address, or nothing.
    Ip,
    /// Comma-separated (CSV) and repeatable.
    StringSlice,
    /// Repeatable, each use one element, commas included.
    StringArray,
    /// `key=value,...`, repeatable (`k8s.io/component-base/cli/flag.MapStringString`).
    MapStringString,
    /// One `key=value` per use, commas belong to the value (`MapStringStringNoSplit`).
    MapStringStringNoSplit,
    /// `key=true,...`, repeatable (`MapStringBool`).
    MapStringBool,
    /// `key<value,...`, repeatable (`LangleSeparatedMapStringString`).
    LangleMap,
    /// `key:value,...`, repeatable, values of one key add up (`ColonSeparatedMultimapStringString`).
    ColonMultimap,
    /// `key=value,...` with CSV quoting (`pflag.stringToString`).
    StringToString,
    /// Text with a syntax of its program: `check` judges each use, the value keeps every use.
    Custom(Custom),
}

/// A value type that only one program knows.
#[derive(Debug, Clone, Copy)]
pub struct Custom {
    /// Name of the value in help.
    pub type_name: &'static str,
    /// Value of a bare `--flag`; `None` means that a value is needed.
    pub bare: Option<&'static str>,
    /// Judges one use; the text completes `invalid argument "x" for "--y" flag: `.
    pub check: fn(&str) -> Result<(), String>,
}

impl Kind {
    /// What a bare `--flag` means, for the kinds that may stand without a value.
    fn bare_value(self) -> Option<&'static str> {
        match self {
            Self::Bool => Some("true"),
            Self::Custom(custom) => custom.bare,
            _ => None,
        }
    }

    /// pflag's name of the type.
    pub fn type_name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::String => "string",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Int => "int",
            Self::Uint32 => "uint32",
            Self::Uint64 => "uint64",
            Self::Float64 => "float64",
            Self::Duration => "duration",
            Self::Ip => "ip",
            Self::StringSlice => "stringSlice",
            Self::StringArray => "stringArray",
            Self::MapStringString | Self::MapStringStringNoSplit | Self::LangleMap => {
                "mapStringString"
            }
            Self::MapStringBool => "mapStringBool",
            Self::ColonMultimap => "colonSeparatedMultimapStringString",
            Self::StringToString => "stringToString",
            Self::Custom(custom) => custom.type_name,
        }
    }
}

/// A program's flags, ready to parse or to describe. Sorted by name, as pflag sorts help.
#[derive(Debug, Clone)]
pub struct FlagSet {
    flags: BTreeMap<&'static str, Row>,
    normalize_words: bool,
}

#[derive(Debug, Clone)]
struct Row {
    flag: Flag,
    usage: Cow<'static, str>,
}

impl FlagSet {
    /// A set of the flags of one table.
    ///
    /// # Panics
    /// When two rows share a name or a shorthand, or a default does not parse: the table is part
    /// of the program, and each program has a test that builds its set.
    pub fn new(table: &[Flag]) -> Self {
        let mut flags = BTreeMap::new();
        for flag in table {
            Value::of_default(flag);
            let clash = table
                .iter()
                .filter(|other| other.shorthand.is_some() && other.shorthand == flag.shorthand)
                .count();
            assert!(clash <= 1, "shorthand of --{} is used twice", flag.name);
            let row = Row {
                flag: *flag,
                usage: Cow::Borrowed(flag.usage),
            };
            assert!(
                flags.insert(flag.name, row).is_none(),
                "flag redefined: {}",
                flag.name
            );
        }
        Self {
            flags,
            normalize_words: false,
        }
    }

    /// Lets `_` stand for `-` in names (`cliflag.WordSepNormalizeFunc`), as the kubelet does.
    #[must_use]
    pub fn normalize_words(mut self) -> Self {
        self.normalize_words = true;
        self
    }

    /// Replaces the help text of one flag by one that is computed, such as a list of gates.
    ///
    /// # Panics
    /// When there is no such flag.
    #[must_use]
    pub fn with_usage(mut self, name: &str, usage: String) -> Self {
        self.flags
            .get_mut(name)
            .expect("flag is in the table")
            .usage = Cow::Owned(usage);
        self
    }

    /// The flags in order of their names.
    pub fn flags(&self) -> impl Iterator<Item = &Flag> {
        self.flags.values().map(|row| &row.flag)
    }

    /// The flag of that name, `_` read as `-` where the set does so.
    pub fn lookup(&self, name: &str) -> Option<&Flag> {
        let name: Cow<'_, str> = if self.normalize_words {
            name.replace('_', "-").into()
        } else {
            name.into()
        };
        self.flags.get(name.as_ref()).map(|row| &row.flag)
    }

    fn shorthand(&self, letter: char) -> Option<&Flag> {
        self.flags().find(|flag| flag.shorthand == Some(letter))
    }

    /// Parses arguments (without the program's name).
    ///
    /// # Errors
    /// The first argument that pflag would refuse, with pflag's words, and the deprecation notices
    /// that were due before it.
    pub fn parse<I>(&self, args: I) -> Result<Parsed, ParseFailure>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        parse::parse(self, args)
    }

    /// What a shell needs to complete this program's flags, hidden and deprecated ones left out.
    pub fn completions(&self) -> Vec<Completion<'_>> {
        self.flags
            .values()
            .filter(|row| !row.flag.hidden && row.flag.deprecated.is_none())
            .map(|row| Completion {
                name: row.flag.name,
                shorthand: row.flag.shorthand,
                takes_value: row.flag.kind.bare_value().is_none(),
                description: row.usage.lines().next().unwrap_or_default(),
            })
            .collect()
    }
}

/// One flag as a completion script shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion<'a> {
    /// Long name without dashes.
    pub name: &'static str,
    /// One-letter form.
    pub shorthand: Option<char>,
    /// The next word is a value, not another flag.
    pub takes_value: bool,
    /// First line of the help text.
    pub description: &'a str,
}

/// What the command line said: a value for every flag of the set, given or default.
#[derive(Debug, Clone)]
pub struct Parsed {
    values: BTreeMap<&'static str, Value>,
    changed: Vec<&'static str>,
    positional: Vec<String>,
    notices: Vec<String>,
}

impl Parsed {
    /// Arguments that are no flags, in order.
    pub fn positional(&self) -> &[String] {
        &self.positional
    }

    /// Lines for stderr about deprecated flags, in the order of use.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// The user gave this flag, be it with its default.
    pub fn changed(&self, name: &str) -> bool {
        self.changed.contains(&name)
    }

    /// Flags that the user gave, in the order of first use.
    pub fn changed_flags(&self) -> &[&'static str] {
        &self.changed
    }

    /// Name and value text of every flag, by name, for the `FLAG: --name="value"` log lines.
    pub fn dump(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.values
            .iter()
            .map(|(name, value)| (*name, value.to_string()))
    }

    /// Value of a flag.
    ///
    /// # Panics
    /// When the table has no such flag. The typed getters below panic when its kind differs, too:
    /// both are mistakes in the program.
    pub fn value(&self, name: &str) -> &Value {
        self.values
            .get(name)
            .unwrap_or_else(|| panic!("flag --{name} is not in the table"))
    }

    /// A [`Kind::Bool`].
    pub fn bool(&self, name: &str) -> bool {
        match self.value(name) {
            Value::Bool(value) => *value,
            other => wrong_kind(name, other),
        }
    }

    /// A signed number of any width.
    pub fn int(&self, name: &str) -> i64 {
        match self.value(name) {
            Value::Int(value) => *value,
            other => wrong_kind(name, other),
        }
    }

    /// An unsigned number of any width.
    pub fn uint(&self, name: &str) -> u64 {
        match self.value(name) {
            Value::Uint(value) => *value,
            other => wrong_kind(name, other),
        }
    }

    /// A [`Kind::Float64`].
    pub fn float(&self, name: &str) -> f64 {
        match self.value(name) {
            Value::Float(value) => *value,
            other => wrong_kind(name, other),
        }
    }

    /// A [`Kind::Duration`].
    pub fn duration(&self, name: &str) -> GoDuration {
        match self.value(name) {
            Value::Duration(value) => *value,
            other => wrong_kind(name, other),
        }
    }

    /// A [`Kind::String`], [`Kind::Ip`] (empty when unset), or the last use of a [`Kind::Custom`].
    pub fn text(&self, name: &str) -> &str {
        match self.value(name) {
            Value::Text(value) => value,
            Value::Uses(uses) => uses.last().map_or("", String::as_str),
            other => wrong_kind(name, other),
        }
    }

    /// A list, or every use of a [`Kind::Custom`].
    pub fn list(&self, name: &str) -> &[String] {
        match self.value(name) {
            Value::List(items) | Value::Uses(items) => items,
            other => wrong_kind(name, other),
        }
    }

    /// A map of texts.
    pub fn map(&self, name: &str) -> &BTreeMap<String, String> {
        match self.value(name) {
            Value::Map { entries, .. } => entries,
            other => wrong_kind(name, other),
        }
    }

    /// A [`Kind::MapStringBool`].
    pub fn bool_map(&self, name: &str) -> &BTreeMap<String, bool> {
        match self.value(name) {
            Value::BoolMap(entries) => entries,
            other => wrong_kind(name, other),
        }
    }

    /// A [`Kind::ColonMultimap`].
    pub fn multimap(&self, name: &str) -> &BTreeMap<String, Vec<String>> {
        match self.value(name) {
            Value::Multimap(entries) => entries,
            other => wrong_kind(name, other),
        }
    }
}

fn wrong_kind(name: &str, value: &Value) -> ! {
    panic!("flag --{name} holds {value:?}, which is not the kind asked for")
}

#[cfg(test)]
mod tests;
