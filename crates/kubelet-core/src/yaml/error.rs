//! Why an input has no JSON value, and where.

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

/// Why an input has no JSON value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", origin(*at, problem))]
pub struct YamlError {
    /// Where, unless the input as a whole is meant.
    pub at: Option<Position>,
    /// What.
    pub problem: Problem,
}

impl YamlError {
    pub(super) fn at(at: Position, problem: Problem) -> Self {
        Self {
            at: Some(at),
            problem,
        }
    }
}

/// What comes before a problem; upstream tells no place in JSON.
fn origin(at: Option<Position>, problem: &Problem) -> String {
    match (problem, at) {
        (Problem::Json(_), _) => "couldn't get version/kind; json parse error: ".to_owned(),
        (_, Some(at)) => format!("yaml: {at}: "),
        (_, None) => "yaml: ".to_owned(),
    }
}

/// What is wrong with an input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// More bytes than [`super::Limits::bytes`].
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
    /// Not JSON, where a document begins as such; in the words of Go's decoder.
    #[error("{0}")]
    Json(String),
    /// Deeper than [`super::Limits::depth`].
    #[error("exceeded max depth of {0}")]
    TooDeep(usize),
    /// More values than [`super::Limits::values`], or expanded text over the size limit.
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
