//! YAML as upstream reads it (DEC-45): manifests and configuration files in, JSON values out.
//!
//! Kubernetes reads YAML 1.1 through `go.yaml.in/yaml/v2` and `sigs.k8s.io/yaml`: `0644` is octal, `yes` and
//! `on` are booleans, `<<` merges, `1:30` and dates are text, keys that are no strings become strings. This
//! module gives the same values from the events of libyaml-safer, a port of the library that upstream's is a
//! port of; `yaml/table.jsonl` holds answers recorded from
//! upstream's own library.
//!
//! ```text
//! bytes -> text (BOM, UTF-8/16, control characters) -> JSON fast path, else events -> nodes -> Value
//! ```
//!
//! Only the first document of a stream is read (SRC-03); that another follows is told.
//!
//! Differs: nesting, the number of values and the text that aliases expand to are bounded by [`Limits`]
//! (upstream: 10000 levels and a ratio of aliases). An error names line and column.

mod base64;
mod convert;
mod json;
mod nodes;
mod scalar;
mod text;

use serde_json::Value;

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

/// A place in the input, both counted from 1; the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
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
}

/// Why an input has no JSON value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("yaml: {}{problem}", place(*at))]
pub struct YamlError {
    /// Where, unless the input as a whole is meant.
    pub at: Option<Position>,
    /// What.
    pub problem: Problem,
}

impl YamlError {
    fn at(at: Position, problem: Problem) -> Self {
        Self {
            at: Some(at),
            problem,
        }
    }
}

fn place(at: Option<Position>) -> String {
    at.map(|at| format!("{at}: ")).unwrap_or_default()
}

/// What is wrong with an input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// More bytes than [`Limits::bytes`].
    #[error("input of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// Bytes given.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Not UTF-8 (or, with a byte order mark, not UTF-16).
    #[error("invalid {0} text")]
    Encoding(&'static str),
    /// A character that YAML does not allow.
    #[error("control characters are not allowed (found U+{:04X})", u32::from(*.0))]
    ControlCharacter(char),
    /// Not YAML.
    #[error("{0}")]
    Syntax(String),
    /// Deeper than [`Limits::depth`].
    #[error("exceeded max depth of {0}")]
    TooDeep(usize),
    /// More values than [`Limits::values`], or expanded text over the size limit.
    #[error("document contains excessive aliasing or more than {0} values")]
    TooMany(usize),
    /// An anchor's value contains an alias to itself.
    #[error("anchor value contains itself")]
    Cycle,
    /// `<<` with something other than a map or maps.
    #[error("map merge requires map or sequence of maps as the value")]
    Merge,
    /// A list, map, null or number over 2^63 used as a key.
    #[error("unsupported map key: {0}")]
    Key(&'static str),
    /// An explicit tag that the text does not fit, as `!!int "x"`.
    #[error("cannot decode {found} `{text}` as a {wanted}")]
    Tag {
        /// What the text is.
        found: &'static str,
        /// The text.
        text: String,
        /// What the tag asks for.
        wanted: &'static str,
    },
    /// `!!binary` with invalid base64.
    #[error("!!binary value contains invalid base64 data")]
    Binary,
    /// Infinity or not-a-number, which JSON does not have.
    #[error("unsupported value: {0}")]
    NotJson(&'static str),
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
    let text = text::decode(bytes)?;
    if let Some(value) = json::read(&text, limits) {
        return Ok(Document {
            value,
            duplicates: Vec::new(),
            further: None,
        });
    }
    let nodes = nodes::parse(&text, limits)?;
    convert::document(&nodes, limits)
}

#[cfg(test)]
mod tests;
