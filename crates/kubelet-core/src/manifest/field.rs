//! Errors of fields with upstream's wording (`k8s.io/apimachinery/pkg/util/validation/field`).
//!
//! Differs: where a value in such an error is an object it is shown as JSON; upstream prints the Go structure.

use std::fmt;

use serde_json::Value;

use crate::quote::quote;

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Missing or empty.
    Required,
    /// Not allowed here.
    Forbidden,
    /// Malformed or out of range.
    Invalid,
    /// None of the values it may have.
    NotSupported,
    /// There twice.
    Duplicate,
    /// Names something that is not there.
    NotFound,
    /// Over its limit.
    TooLong,
}

impl Kind {
    /// Upstream's words.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Required => "Required value",
            Kind::Forbidden => "Forbidden",
            Kind::Invalid => "Invalid value",
            Kind::NotSupported => "Unsupported value",
            Kind::Duplicate => "Duplicate value",
            Kind::NotFound => "Not found",
            Kind::TooLong => "Too long",
        }
    }
}

/// One thing wrong with one field: `spec.containers[0].name: Required value`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct FieldError {
    /// Path of the field.
    pub field: String,
    /// What is wrong.
    pub kind: Kind,
    /// The value as shown, where one is.
    pub value: Option<String>,
    /// What would be right; may be empty.
    pub detail: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.kind.as_str())?;
        if let Some(value) = &self.value {
            write!(f, ": {value}")?;
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

/// Path of a field.
#[derive(Debug, Clone)]
pub(super) struct Path(String);

impl Path {
    pub(super) fn new(root: &str) -> Self {
        Self(root.to_owned())
    }

    pub(super) fn child(&self, name: &str) -> Self {
        Self(format!("{}.{name}", self.0))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    pub(super) fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
}

/// All errors found so far.
#[derive(Debug, Default)]
pub(super) struct Errors(pub(super) Vec<FieldError>);

impl Errors {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn add(&mut self, path: &Path, kind: Kind, value: Option<Value>, detail: impl Into<String>) {
        let value = value.map(|value| match value {
            Value::String(text) => quote(&text),
            other => other.to_string(),
        });
        self.0.push(FieldError {
            field: path.0.clone(),
            kind,
            value,
            detail: detail.into(),
        });
    }

    pub(super) fn required(&mut self, path: &Path, detail: impl Into<String>) {
        self.add(path, Kind::Required, None, detail);
    }

    pub(super) fn forbidden(&mut self, path: &Path, detail: impl Into<String>) {
        self.add(path, Kind::Forbidden, None, detail);
    }

    pub(super) fn invalid(
        &mut self,
        path: &Path,
        value: impl Into<Value>,
        detail: impl Into<String>,
    ) {
        self.add(path, Kind::Invalid, Some(value.into()), detail);
    }

    pub(super) fn duplicate(&mut self, path: &Path, value: impl Into<Value>) {
        self.add(path, Kind::Duplicate, Some(value.into()), "");
    }

    pub(super) fn not_found(&mut self, path: &Path, value: impl Into<Value>) {
        self.not_found_as(path, value, "");
    }

    pub(super) fn not_found_as(
        &mut self,
        path: &Path,
        value: impl Into<Value>,
        detail: impl Into<String>,
    ) {
        self.add(path, Kind::NotFound, Some(value.into()), detail);
    }

    pub(super) fn not_supported(&mut self, path: &Path, value: &str, supported: &[&str]) {
        let quoted: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
        let detail = format!("supported values: {}", quoted.join(", "));
        self.add(path, Kind::NotSupported, Some(value.into()), detail);
    }

    pub(super) fn too_long(&mut self, path: &Path, limit: usize) {
        self.add(
            path,
            Kind::TooLong,
            None,
            format!("may not be more than {limit} bytes"),
        );
    }

    /// One "invalid" for each message.
    pub(super) fn each(
        &mut self,
        path: &Path,
        value: impl Into<Value>,
        messages: impl IntoIterator<Item = String>,
    ) {
        let value = value.into();
        for message in messages {
            self.invalid(path, value.clone(), message);
        }
    }
}
