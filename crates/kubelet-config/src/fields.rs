//! The fields of `KubeletConfiguration` as data, and the check of a file against them.
//!
//! The table gives every message its field path, lists unknown fields as upstream's strict decoder
//! does (PROC-21), and feeds `COMPATIBILITY.md`. A test holds it to the serde structs.

mod table;

use serde_json::{Map, Value};

use crate::Status;

pub(crate) use table::FIELDS;

/// One field.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    /// Path from the top, `.` between names, `[]` for the elements of a list.
    pub(crate) path: &'static str,
    /// What a value must be.
    pub(crate) kind: FieldKind,
    /// Value with a configuration file that does not say it; empty for none.
    pub(crate) default: &'static str,
    /// Row of the reference.
    pub(crate) row: &'static str,
    /// Does it act?
    pub(crate) status: Status,
}

/// Type of a field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldKind {
    /// `true`, `false`.
    Bool,
    /// Whole number of 32 bits.
    Int32,
    /// Whole number of 64 bits.
    Int64,
    /// Whole number of 32 bits, not negative.
    Uint32,
    /// Any number.
    Float,
    /// Text.
    Text,
    /// Text in Go's duration syntax.
    Duration,
    /// Duration text, or whole nanoseconds.
    DurationOrNanos,
    /// Kubernetes quantity: text or number.
    Quantity,
    /// List of texts.
    TextList,
    /// Map of texts.
    TextMap,
    /// Map of booleans.
    BoolMap,
    /// Map of lists of texts.
    TextListMap,
    /// Map of quantities.
    QuantityMap,
    /// List of objects; their fields are rows of their own.
    ObjectList,
}

impl FieldKind {
    /// Name of the type as messages give it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Uint32 => "uint32",
            Self::Float => "float64",
            Self::Text => "string",
            Self::Duration => "duration",
            Self::DurationOrNanos => "duration or nanoseconds",
            Self::Quantity => "quantity",
            Self::TextList => "[]string",
            Self::TextMap => "map[string]string",
            Self::BoolMap => "map[string]bool",
            Self::TextListMap => "map[string][]string",
            Self::QuantityMap => "map[string]quantity",
            Self::ObjectList => "list of objects",
        }
    }
}

/// What a file's content is like, before it is decoded.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Fields that 1.34 does not have, sorted.
    pub(crate) unknown: Vec<String>,
    /// Values of a wrong type: one message each, with the path.
    pub(crate) mistyped: Vec<String>,
    /// Known fields that are present and not null.
    pub(crate) set: Vec<&'static Field>,
}

/// Compares a document with the table. `apiVersion` and `kind` are skipped.
pub(crate) fn inspect(document: &Map<String, Value>) -> Findings {
    let mut findings = Findings::default();
    for (name, value) in document {
        if name != "apiVersion" && name != "kind" {
            inspect_field(name, name, value, &mut findings);
        }
    }
    findings.unknown.sort();
    findings
}

/// `path` is the table's, with `[]`; `shown` is the user's, with positions.
fn inspect_field(path: &str, shown: &str, value: &Value, findings: &mut Findings) {
    let field = FIELDS.iter().find(|field| field.path == path);
    if let Some(field) = field {
        if value.is_null() {
            return;
        }
        if !findings.set.iter().any(|known| known.path == field.path) {
            findings.set.push(field);
        }
        if field.kind == FieldKind::ObjectList {
            inspect_list(path, shown, value, findings);
        } else if let Err(problem) = check(field.kind, value) {
            findings.mistyped.push(format!("json: {shown}: {problem}"));
        }
        return;
    }
    let is_object = FIELDS.iter().any(|field| {
        field
            .path
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('.'))
    });
    if !is_object {
        findings.unknown.push(shown.to_owned());
        return;
    }
    match value {
        Value::Null => {}
        Value::Object(entries) => {
            for (name, value) in entries {
                let (path, shown) = (format!("{path}.{name}"), format!("{shown}.{name}"));
                inspect_field(&path, &shown, value, findings);
            }
        }
        other => {
            findings
                .mistyped
                .push(format!("json: {shown}: {}", cannot(other, "object")));
        }
    }
}

fn inspect_list(path: &str, shown: &str, value: &Value, findings: &mut Findings) {
    let Value::Array(items) = value else {
        findings.mistyped.push(format!(
            "json: {shown}: {}",
            cannot(value, "list of objects")
        ));
        return;
    };
    for (at, item) in items.iter().enumerate() {
        let Value::Object(entries) = item else {
            findings
                .mistyped
                .push(format!("json: {shown}[{at}]: {}", cannot(item, "object")));
            continue;
        };
        for (name, value) in entries {
            let (path, shown) = (format!("{path}[].{name}"), format!("{shown}[{at}].{name}"));
            inspect_field(&path, &shown, value, findings);
        }
    }
}

/// Is the value of that kind? The text completes a message that names the field.
fn check(kind: FieldKind, value: &Value) -> Result<(), String> {
    let fits = match kind {
        FieldKind::Bool => value.is_boolean(),
        FieldKind::Int32 => value
            .as_i64()
            .is_some_and(|number| i32::try_from(number).is_ok()),
        FieldKind::Int64 => value.is_i64(),
        FieldKind::Uint32 => value
            .as_u64()
            .is_some_and(|number| u32::try_from(number).is_ok()),
        FieldKind::Float => value.is_number(),
        FieldKind::Text => value.is_string(),
        FieldKind::Quantity => value.is_string() || value.is_number(),
        FieldKind::Duration => match value.as_str() {
            Some(text) => return check_duration(text),
            None => false,
        },
        FieldKind::DurationOrNanos => match value.as_str() {
            Some(text) => return check_duration(text),
            None => value.is_i64(),
        },
        FieldKind::TextList => return check_list(value, FieldKind::Text),
        FieldKind::TextMap => return check_map(value, kind, FieldKind::Text),
        FieldKind::BoolMap => return check_map(value, kind, FieldKind::Bool),
        FieldKind::TextListMap => return check_map(value, kind, FieldKind::TextList),
        FieldKind::QuantityMap => return check_map(value, kind, FieldKind::Quantity),
        FieldKind::ObjectList => value.is_array(),
    };
    if fits {
        Ok(())
    } else {
        Err(cannot(value, kind.as_str()))
    }
}

fn check_duration(text: &str) -> Result<(), String> {
    text.parse::<daemon::pflag::GoDuration>()
        .map(|_| ())
        .map_err(|error| error.to_string())
}

fn check_list(value: &Value, kind: FieldKind) -> Result<(), String> {
    let items = value.as_array().ok_or_else(|| cannot(value, "[]string"))?;
    items.iter().enumerate().try_for_each(|(at, item)| {
        check(kind, item).map_err(|problem| format!("element {at}: {problem}"))
    })
}

fn check_map(value: &Value, whole: FieldKind, kind: FieldKind) -> Result<(), String> {
    let entries = value
        .as_object()
        .ok_or_else(|| cannot(value, whole.as_str()))?;
    entries
        .iter()
        .filter(|(_, item)| !item.is_null())
        .try_for_each(|(name, item)| {
            check(kind, item).map_err(|problem| format!("key {name:?}: {problem}"))
        })
}

/// Go's words for a value of a wrong type.
fn cannot(value: &Value, wanted: &str) -> String {
    let found = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(number) => format!("number {number}"),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    };
    format!("cannot unmarshal {found} into a field of type {wanted}")
}

#[cfg(test)]
mod tests;
