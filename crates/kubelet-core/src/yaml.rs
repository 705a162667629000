//! YAML as upstream reads it (DEC-45): manifests and configuration files in, JSON values out.
//!
//! Kubernetes reads YAML 1.1 through `go.yaml.in/yaml/v2` and `sigs.k8s.io/yaml`: `0644` is octal, `yes` and
//! `on` are booleans, `<<` merges, `1:30` and dates are text, keys that are no strings become strings. This
//! module gives the same values from the events of libyaml-safer, a port of the library that upstream's is a
//! port of; `yaml/table.jsonl` holds answers recorded from
//! upstream's own library.
//!
//! ```text
//! bytes -> `{` first: JSON -> Value
//!       -> else: text (BOM, UTF-8/16, control characters) -> events -> nodes -> Value
//! ```
//!
//! Only the first document of a stream is read (SRC-03); that another follows is told.
//!
//! Differs: nesting, the number of values and the text that aliases expand to are bounded by [`Limits`]
//! (upstream: 10000 levels and a ratio of aliases). An error in YAML names line and column. An escaped apostrophe
//! in a text in double quotes is refused.

mod base64;
mod convert;
mod error;
mod json;
mod nodes;
mod scalar;
mod text;

use serde_json::Value;

pub use error::{Position, Problem, YamlError};

/// Bounds on one document. Whatever is beyond them is an error, never a slow or large success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Input size in bytes. Text after alias expansion may be twice that.
    pub bytes: usize,
    /// Nesting of lists and maps, aliases followed. At most 500 is honoured.
    pub depth: usize,
    /// Scalars, lists and maps, keys included, aliases expanded.
    pub values: usize,
}

impl Limits {
    /// What a manifest or configuration file may hold: 10 MiB (SRC-03), 100 levels, 100 000 values.
    pub const MANIFEST: Self = Self {
        bytes: 10 << 20,
        depth: 100,
        values: 100_000,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::MANIFEST
    }
}

/// A key that a map holds twice. The last one counts, as upstream's lenient reader has it; its strict reader
/// refuses the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuplicateKey {
    /// The repeated key.
    pub key: String,
    /// Where it stands again.
    pub at: Position,
}

impl std::fmt::Display for DuplicateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "line {}: key {:?} already set in map",
            self.at.line, self.key
        )
    }
}

/// The first document of an input.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its value; an empty input is `null`.
    pub value: Value,
    /// Repeated keys in the order of the text.
    pub duplicates: Vec<DuplicateKey>,
    /// Where another document follows, which is not read.
    pub further: Option<Position>,
    /// Whether it was read as JSON. Of YAML upstream sees the keys sorted.
    pub is_json: bool,
}

/// Reads the first document of `bytes` as JSON value; of a repeated key the last one counts.
///
/// # Errors
/// [`YamlError`] with line and column: the input is too large, no text, no YAML, beyond a limit, or holds what
/// JSON can't.
pub fn to_json(bytes: &[u8], limits: Limits) -> Result<Value, YamlError> {
    read(bytes, limits).map(|document| document.value)
}

/// As [`to_json`], and lists the repeated keys.
///
/// # Errors
/// As [`to_json`].
pub fn read(bytes: &[u8], limits: Limits) -> Result<Document, YamlError> {
    if bytes.len() > limits.bytes {
        let problem = Problem::TooLarge {
            size: bytes.len(),
            limit: limits.bytes,
        };
        return Err(YamlError { at: None, problem });
    }
    if json::begins(bytes) {
        json::read(bytes, limits)
    } else {
        read_yaml(bytes, limits)
    }
}

fn read_yaml(bytes: &[u8], limits: Limits) -> Result<Document, YamlError> {
    let text = text::decode(bytes)?;
    let nodes = nodes::parse(&text, limits)?;
    convert::document(&nodes, limits)
}

#[cfg(test)]
mod tests;
