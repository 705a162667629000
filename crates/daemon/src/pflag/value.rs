//! Values of flags: how a text becomes one, and how one becomes text again.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use super::strconv::{parse_bool, parse_float, parse_int, parse_uint, quote};
use super::{Flag, GoDuration, Kind, csv};

/// Value of a flag; which variant follows from its [`Kind`].
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// [`Kind::Bool`].
    Bool(bool),
    /// [`Kind::Int`], [`Kind::Int32`], [`Kind::Int64`].
    Int(i64),
    /// [`Kind::Uint32`], [`Kind::Uint64`].
    Uint(u64),
    /// [`Kind::Float64`].
    Float(f64),
    /// [`Kind::Duration`].
    Duration(GoDuration),
    /// [`Kind::String`], and [`Kind::Ip`] in canonical form or empty.
    Text(String),
    /// [`Kind::StringSlice`], [`Kind::StringArray`].
    List(Vec<String>),
    /// The maps of texts.
    Map {
        /// Entries by key.
        entries: BTreeMap<String, String>,
        /// What stands between key and value: `=` or `<`.
        separator: char,
        /// Text form is in square brackets (pflag's own map).
        bracketed: bool,
    },
    /// [`Kind::MapStringBool`].
    BoolMap(BTreeMap<String, bool>),
    /// [`Kind::ColonMultimap`].
    Multimap(BTreeMap<String, Vec<String>>),
    /// [`Kind::Custom`]: every use, or the default when there was none and it is not empty.
    Uses(Vec<String>),
}

impl Value {
    /// The value of an unset flag.
    ///
    /// # Panics
    /// When the default text of the table is not of the flag's kind.
    pub(super) fn of_default(flag: &Flag) -> Self {
        let text = flag.default;
        let mut value = match flag.kind {
            Kind::Bool => Self::Bool(false),
            Kind::Int32 | Kind::Int64 | Kind::Int => Self::Int(0),
            Kind::Uint32 | Kind::Uint64 => Self::Uint(0),
            Kind::Float64 => Self::Float(0.0),
            Kind::Duration => Self::Duration(GoDuration::ZERO),
            Kind::String | Kind::Ip => Self::Text(String::new()),
            Kind::StringSlice | Kind::StringArray => Self::List(Vec::new()),
            Kind::MapStringString | Kind::MapStringStringNoSplit => Self::Map {
                entries: BTreeMap::new(),
                separator: '=',
                bracketed: false,
            },
            Kind::LangleMap => Self::Map {
                entries: BTreeMap::new(),
                separator: '<',
                bracketed: false,
            },
            Kind::StringToString => Self::Map {
                entries: BTreeMap::new(),
                separator: '=',
                bracketed: true,
            },
            Kind::MapStringBool => Self::BoolMap(BTreeMap::new()),
            Kind::ColonMultimap => Self::Multimap(BTreeMap::new()),
            Kind::Custom(_) => {
                let uses = if text.is_empty() {
                    Vec::new()
                } else {
                    vec![text.to_owned()]
                };
                return Self::Uses(uses);
            }
        };
        let text = match flag.kind {
            Kind::StringSlice | Kind::StringArray | Kind::StringToString => {
                text.trim_start_matches('[').trim_end_matches(']')
            }
            Kind::Ip if text == "<nil>" => "",
            _ => text,
        };
        if !text.is_empty()
            && let Err(reason) = set(flag.kind, &mut value, text, true)
        {
            panic!("default of --{} does not parse: {reason}", flag.name);
        }
        value
    }
}

/// Applies one use of a flag. `first` says that what `value` holds is the default.
///
/// # Errors
/// Go's words for what is wrong with the text.
pub(super) fn set(kind: Kind, value: &mut Value, text: &str, first: bool) -> Result<(), String> {
    match (kind, value) {
        (Kind::Bool, value) => *value = Value::Bool(parse_bool(text).map_err(as_text)?),
        (Kind::Int32, value) => *value = Value::Int(parse_int(text, 0, 32).map_err(as_text)?),
        (Kind::Int64 | Kind::Int, value) => {
            *value = Value::Int(parse_int(text, 0, 64).map_err(as_text)?);
        }
        (Kind::Uint32, value) => *value = Value::Uint(parse_uint(text, 0, 32).map_err(as_text)?),
        (Kind::Uint64, value) => *value = Value::Uint(parse_uint(text, 0, 64).map_err(as_text)?),
        (Kind::Float64, value) => *value = Value::Float(parse_float(text).map_err(as_text)?),
        (Kind::Duration, value) => {
            *value = Value::Duration(text.parse::<GoDuration>().map_err(as_text)?);
        }
        (Kind::String, value) => *value = Value::Text(text.to_owned()),
        (Kind::Ip, value) => {
            if !text.is_empty() {
                let address: IpAddr = text
                    .trim()
                    .parse()
                    .map_err(|_| format!("failed to parse IP: {}", quote(text)))?;
                *value = Value::Text(address.to_string());
            }
        }
        (Kind::StringSlice, Value::List(items)) => {
            let read = csv::read_record(text)?;
            clear_if(first, items);
            items.extend(read);
        }
        (Kind::StringArray, Value::List(items)) => {
            clear_if(first, items);
            items.push(text.to_owned());
        }
        (Kind::MapStringString, Value::Map { entries, .. }) => {
            add_pairs(entries, first, text.split(','), '=', "string=string")?;
        }
        (Kind::LangleMap, Value::Map { entries, .. }) => {
            add_pairs(entries, first, text.split(','), '<', "string<string")?;
        }
        (Kind::MapStringStringNoSplit, Value::Map { entries, .. }) => {
            if text.is_empty() {
                return Err("malformed pair, expect string=string".to_owned());
            }
            add_pairs(entries, first, std::iter::once(text), '=', "string=string")?;
        }
        (Kind::StringToString, Value::Map { entries, .. }) => {
            let read = string_to_string(text)?;
            if first {
                entries.clear();
            }
            entries.extend(read);
        }
        (Kind::MapStringBool, Value::BoolMap(entries)) => {
            if first {
                entries.clear();
            }
            for pair in text.split(',').filter(|pair| !pair.is_empty()) {
                let (key, value) = pair
                    .split_once('=')
                    .ok_or("malformed pair, expect string=bool")?;
                let (key, value) = (key.trim(), value.trim());
                let parsed = parse_bool(value)
                    .map_err(|error| format!("invalid value of {key}: {value}, err: {error}"))?;
                entries.insert(key.to_owned(), parsed);
            }
        }
        (Kind::ColonMultimap, Value::Multimap(entries)) => {
            if first {
                entries.clear();
            }
            for pair in text.split(',').filter(|pair| !pair.is_empty()) {
                let (key, value) = pair
                    .split_once(':')
                    .ok_or("malformed pair, expect string:string")?;
                entries
                    .entry(key.trim().to_owned())
                    .or_default()
                    .push(value.trim().to_owned());
            }
        }
        (Kind::Custom(custom), Value::Uses(uses)) => {
            (custom.check)(text)?;
            clear_if(first, uses);
            uses.push(text.to_owned());
        }
        (kind, value) => unreachable!("{kind:?} never holds {value:?}"),
    }
    Ok(())
}

fn clear_if(first: bool, items: &mut Vec<String>) {
    if first {
        items.clear();
    }
}

fn add_pairs<'a>(
    entries: &mut BTreeMap<String, String>,
    first: bool,
    pairs: impl Iterator<Item = &'a str>,
    separator: char,
    expected: &str,
) -> Result<(), String> {
    if first {
        entries.clear();
    }
    for pair in pairs.filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once(separator)
            .ok_or_else(|| format!("malformed pair, expect {expected}"))?;
        entries.insert(key.trim().to_owned(), value.trim().to_owned());
    }
    Ok(())
}

fn string_to_string(text: &str) -> Result<Vec<(String, String)>, String> {
    let pairs = match text.matches('=').count() {
        0 => return Err(format!("{text} must be formatted as key=value")),
        1 => vec![text.trim_matches('"').to_owned()],
        _ => csv::read_record(text)?,
    };
    pairs
        .into_iter()
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => Err(format!("{pair} must be formatted as key=value")),
        })
        .collect()
}

fn as_text(error: impl fmt::Display) -> String {
    error.to_string()
}

impl fmt::Display for Value {
    /// The text that pflag's `Value.String()` gives, and that `FLAG:` log lines show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Uint(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Duration(value) => write!(f, "{value}"),
            Self::Text(value) => f.write_str(value),
            Self::List(items) => write!(f, "[{}]", csv::write_record(items)),
            Self::Map {
                entries,
                separator,
                bracketed,
            } => {
                let pairs: Vec<String> = entries
                    .iter()
                    .map(|(k, v)| format!("{k}{separator}{v}"))
                    .collect();
                if *bracketed {
                    write!(f, "[{}]", csv::write_record(&pairs))
                } else {
                    f.write_str(&pairs.join(","))
                }
            }
            Self::BoolMap(entries) => {
                let pairs: Vec<String> = entries.iter().map(|(k, v)| format!("{k}={v}")).collect();
                f.write_str(&pairs.join(","))
            }
            Self::Multimap(entries) => {
                let pairs: Vec<String> = entries
                    .iter()
                    .flat_map(|(key, values)| values.iter().map(move |v| format!("{key}:{v}")))
                    .collect();
                f.write_str(&pairs.join(","))
            }
            Self::Uses(uses) => f.write_str(&uses.join(",")),
        }
    }
}
