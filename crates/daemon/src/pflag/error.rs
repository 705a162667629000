//! Refused command lines, in pflag's words.

use std::ffi::OsString;

use super::strconv::{quote, quote_char};

/// A refused command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct ParseFailure {
    /// Why.
    pub error: ParseError,
    /// Deprecation notices of the flags before it; pflag has printed them by then.
    pub notices: Vec<String>,
}

/// Why a command line is refused. The texts are pflag's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// `--help` or `-h` in a set that declares no such flag.
    #[error("pflag: help requested")]
    HelpRequested,
    /// `---x`, `--=x`.
    #[error("bad flag syntax: {0}")]
    BadSyntax(String),
    /// A long name that the set lacks.
    #[error("unknown flag: --{0}")]
    UnknownFlag(String),
    /// A letter that the set lacks; the second part is the cluster it stood in.
    #[error("unknown shorthand flag: {} in -{cluster}", quote_char(*letter))]
    UnknownShorthand {
        /// The letter.
        letter: char,
        /// The letters from it on.
        cluster: String,
    },
    /// A flag at the end of the line whose value is missing.
    #[error("flag needs an argument: {0}")]
    NeedsArgument(String),
    /// The same for a shorthand.
    #[error("flag needs an argument: {} in -{cluster}", quote_char(*letter))]
    ShorthandNeedsArgument {
        /// The letter.
        letter: char,
        /// The letters from it on.
        cluster: String,
    },
    /// A value of the wrong syntax.
    #[error("invalid argument {} for {} flag: {reason}", quote(value), quote(flag))]
    InvalidArgument {
        /// The value as given.
        value: String,
        /// `--name` or `-n, --name`.
        flag: String,
        /// What is wrong, in the words of Go's library.
        reason: String,
    },
    /// An argument that is not UTF-8; `position` counts from 1.
    #[error("argument {position} is not valid UTF-8: {}", quote(text))]
    NotUtf8 {
        /// Place on the command line.
        position: usize,
        /// The argument with its bad bytes replaced.
        text: String,
    },
}

/// Arguments as text.
///
/// # Errors
/// [`ParseError::NotUtf8`] for the first that is not. Differs: Go keeps the raw bytes.
pub fn utf8_args(args: impl IntoIterator<Item = OsString>) -> Result<Vec<String>, ParseError> {
    args.into_iter()
        .zip(1..)
        .map(|(arg, position)| {
            arg.into_string().map_err(|arg| ParseError::NotUtf8 {
                position,
                text: arg.to_string_lossy().into_owned(),
            })
        })
        .collect()
}
