//! What exec and attach say to each other: protocol versions, terminal sizes, and how it ended
//! (RCM rows). Pure.

use bytes::{Buf as _, BytesMut};
use serde::Deserialize;
use serde_json::{Value, json};

/// Most of one terminal size in JSON; more is none.
const MAX_SIZE_TEXT: usize = 4 << 10;

/// Which streams a command or an attachment has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error; not with a terminal.
    pub stderr: bool,
    /// A terminal.
    pub tty: bool,
}

/// Version of the remote command protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// `channel.k8s.io`, or none named.
    V1,
    /// `v2.channel.k8s.io`.
    V2,
    /// `v3.channel.k8s.io`: terminal sizes.
    V3,
    /// `v4.channel.k8s.io`: the end is told as a status.
    V4,
    /// `v5.channel.k8s.io`: streams end one by one over WebSocket.
    V5,
}

impl Version {
    /// Those that SPDY knows, newest first (SPD-03).
    pub const SPDY: [Self; 4] = [Self::V4, Self::V3, Self::V2, Self::V1];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::V1 => "channel.k8s.io",
            Self::V2 => "v2.channel.k8s.io",
            Self::V3 => "v3.channel.k8s.io",
            Self::V4 => "v4.channel.k8s.io",
            Self::V5 => "v5.channel.k8s.io",
        }
    }

    /// Whether terminal sizes are sent.
    pub fn has_resize(self) -> bool {
        self >= Self::V3
    }

    /// The bytes of the error stream for an end; `None` when nothing is said (RCM-04, RCM-05).
    pub fn error_stream(self, outcome: &Outcome) -> Option<Vec<u8>> {
        let status = outcome.status();
        if self >= Self::V4 {
            return Some(status.to_string().into_bytes());
        }
        match outcome {
            Outcome::Success => None,
            _ => Some(
                status["message"]
                    .as_str()
                    .unwrap_or_default()
                    .as_bytes()
                    .to_vec(),
            ),
        }
    }
}

/// The kinds of streams, as named in the header `streamtype` and numbered as channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// Standard input.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// How it ended.
    Error,
    /// Terminal sizes.
    Resize,
}

impl StreamKind {
    /// All, in the order of their channels.
    pub const ALL: [Self; 5] = [
        Self::Stdin,
        Self::Stdout,
        Self::Stderr,
        Self::Error,
        Self::Resize,
    ];

    /// The name in headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdin => "stdin",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Error => "error",
            Self::Resize => "resize",
        }
    }

    /// The kind with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The channel of a WebSocket.
    pub fn channel(self) -> u32 {
        match self {
            Self::Stdin => 0,
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::Error => 3,
            Self::Resize => 4,
        }
    }
}

/// How a command or an attachment ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Success,
    /// The command's exit code was not 0.
    ExitCode(i32),
    /// Something else failed; the text is for people.
    Failed(String),
}

impl Outcome {
    /// The `Status` that says it, in upstream's words (RCM-04).
    fn status(&self) -> Value {
        match self {
            Self::Success => json!({ "metadata": {}, "status": "Success" }),
            Self::ExitCode(code) => json!({
                "metadata": {},
                "status": "Failure",
                "message": format!(
                    "command terminated with non-zero exit code: Error executing in Docker Container: {code}"
                ),
                "reason": "NonZeroExitCode",
                "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
            }),
            Self::Failed(text) => json!({
                "metadata": {},
                "status": "Failure",
                "message": format!("Internal error occurred: {text}"),
                "reason": "InternalError",
                "details": { "causes": [{ "message": text }] },
                "code": 500,
            }),
        }
    }

    /// Reads what a server said on the error stream.
    pub fn from_error_stream(version: Version, bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        if version < Version::V4 {
            return if bytes.is_empty() {
                Self::Success
            } else {
                Self::Failed(text.into_owned())
            };
        }
        let Ok(status) = serde_json::from_slice::<Value>(bytes) else {
            return Self::Failed(format!("error stream protocol error: {text:?}"));
        };
        if status["status"] == "Success" {
            return Self::Success;
        }
        if status["reason"] == "NonZeroExitCode" {
            let causes = status["details"]["causes"].as_array();
            let code = causes
                .into_iter()
                .flatten()
                .filter(|cause| cause["reason"] == "ExitCode")
                .find_map(|cause| cause["message"].as_str()?.parse().ok());
            if let Some(code) = code {
                return Self::ExitCode(code);
            }
        }
        Self::Failed(status["message"].as_str().unwrap_or(&text).to_owned())
    }
}

/// A terminal's size in characters (RCM-03).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct TerminalSize {
    /// Columns.
    #[serde(rename = "Width", alias = "width", default)]
    pub width: u16,
    /// Lines.
    #[serde(rename = "Height", alias = "height", default)]
    pub height: u16,
}

/// Reads sizes that follow each other as JSON objects.
#[derive(Debug, Default)]
pub struct SizeDecoder {
    buffer: BytesMut,
    broken: bool,
}

impl SizeDecoder {
    /// For a new stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes; the newest size among them. After something that is no size there are none any
    /// more, as upstream.
    pub fn push(&mut self, data: &[u8]) -> Option<TerminalSize> {
        let mut newest = None;
        for piece in data.chunks(MAX_SIZE_TEXT) {
            if self.broken {
                break;
            }
            self.buffer.extend_from_slice(piece);
            newest = self.take().or(newest);
            self.broken |= self.buffer.len() > MAX_SIZE_TEXT;
        }
        newest
    }

    fn take(&mut self) -> Option<TerminalSize> {
        let mut newest = None;
        let mut sizes =
            serde_json::Deserializer::from_slice(&self.buffer).into_iter::<TerminalSize>();
        for size in sizes.by_ref() {
            match size {
                Ok(size) => newest = Some(size),
                Err(error) => {
                    self.broken = !error.is_eof();
                    break;
                }
            }
        }
        // Behind the last whole size.
        let used = sizes.byte_offset();
        self.buffer.advance(used);
        newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_in_upstreams_words_and_understood() {
        let text = |version: Version, outcome: &Outcome| {
            version
                .error_stream(outcome)
                .map(|bytes| String::from_utf8(bytes).unwrap())
        };
        assert_eq!(
            text(Version::V4, &Outcome::Success).unwrap(),
            r#"{"metadata":{},"status":"Success"}"#
        );
        assert_eq!(
            text(Version::V5, &Outcome::ExitCode(3)).unwrap(),
            r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: Error executing in Docker Container: 3","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#
        );
        assert_eq!(text(Version::V3, &Outcome::Success), None);
        let failed = Outcome::Failed("error executing command in container: x".to_owned());
        assert_eq!(
            text(Version::V1, &failed).unwrap(),
            "Internal error occurred: error executing command in container: x"
        );
        for outcome in [Outcome::Success, Outcome::ExitCode(137)] {
            let bytes = Version::V4.error_stream(&outcome).unwrap();
            assert_eq!(Outcome::from_error_stream(Version::V4, &bytes), outcome);
        }
        assert!(matches!(
            Outcome::from_error_stream(Version::V4, b"{"),
            Outcome::Failed(_)
        ));
    }

    #[test]
    fn sizes_are_found_however_the_bytes_are_cut() {
        let wire = br#"{"Width":80,"Height":24}{"Width":120,"Height":50} {"width":1,"height":2}"#;
        for cut in 0..wire.len() {
            let mut sizes = SizeDecoder::new();
            let first = sizes.push(&wire[..cut]);
            let second = sizes.push(&wire[cut..]);
            assert_eq!(
                second.or(first),
                Some(TerminalSize {
                    width: 1,
                    height: 2
                }),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn garbage_and_endless_blanks_are_no_sizes_and_cost_nothing() {
        let mut sizes = SizeDecoder::new();
        for _ in 0..100 {
            assert_eq!(sizes.push(&[b' '; 5000]), None);
        }
        assert!(sizes.buffer.len() <= 2 * MAX_SIZE_TEXT);
        let mut sizes = SizeDecoder::new();
        assert_eq!(sizes.push(b"]"), None);
        assert_eq!(sizes.push(br#"{"Width":80,"Height":24}"#), None);
    }
}
