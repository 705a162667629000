//! One line, before it has a format.

use std::fmt;

use tracing::{
    Level,
    field::{Field, Visit},
};

use crate::ErrorChain;

/// The field that holds an error's text; klog calls it `err`.
pub(super) const ERROR: &str = "error";
const MESSAGE: &str = "message";
/// A field of an event that is to be shown as `message`.
const MESSAGE_FIELD: &str = "message_";
/// The field by which an event asks for a verbosity.
const VERBOSITY: &str = "v";

#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) level: Level,
    pub(super) verbosity: u32,
    pub(super) now: jiff::Zoned,
    pub(super) file: &'a str,
    pub(super) line: u32,
    pub(super) message: &'a str,
    pub(super) fields: &'a [(&'static str, Value)],
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    /// A finite number as JSON writes it.
    Number(String),
    Bool(bool),
}

/// Fields in the order of their first mention.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn set(&mut self, name: &'static str, value: Value) {
        // `log`-style raw names: `r#type` is the field `type`.
        let name = name.strip_prefix("r#").unwrap_or(name);
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, slot)) => *slot = value,
            None => self.0.push((name, value)),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let place = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.remove(place).1)
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (name, value) in other.0 {
            self.set(name, value);
        }
    }

    /// Takes the line's own text out. A field that is to be shown as `message` beside it is called
    /// `message_`: tracing has the plain name for the text.
    pub(super) fn take_message(&mut self) -> String {
        let text = self.take(MESSAGE);
        if let Some((name, _)) = self.0.iter_mut().find(|(name, _)| *name == MESSAGE_FIELD) {
            *name = MESSAGE;
        }
        match text {
            Some(Value::Text(text) | Value::Number(text)) => text,
            Some(Value::Bool(value)) => value.to_string(),
            None => String::new(),
        }
    }

    /// Takes the field `v` out, if it is a number.
    pub(super) fn verbosity(&mut self) -> Option<u32> {
        match self.take(VERBOSITY)? {
            Value::Number(number) => number.parse().ok(),
            _ => None,
        }
    }

    pub(super) fn as_slice(&self) -> &[(&'static str, Value)] {
        &self.0
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field.name(), Value::Text(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), Value::Text(value.to_owned()));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.set(field.name(), Value::Text(ErrorChain(value).to_string()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), Value::Number(value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), Value::Number(value.to_string()));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.set(field.name(), Value::Number(value.to_string()));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.set(field.name(), Value::Number(value.to_string()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        let text = value.to_string();
        self.set(
            field.name(),
            if value.is_finite() {
                Value::Number(text)
            } else {
                Value::Text(text)
            },
        );
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), Value::Bool(value));
    }
}
