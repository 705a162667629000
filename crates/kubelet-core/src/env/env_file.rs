//! Files of variables: `NAME=value` lines (SPEC-33). Source of behaviour: Kubernetes `envutil.ParseEnv`.

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum EnvFileError {
    #[error("invalid environment variable format at line {0}")]
    Line(usize),
    #[error("unexpected end of file: unfinished line continuation")]
    Unfinished,
    #[error("line {0} is longer than {MAX_LINE_BYTES} bytes")]
    TooLong(usize),
}

/// The longest line with its end: Go's `bufio.MaxScanTokenSize`.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// The value of the first variable of that name; empty when there is none. What stands behind it is not looked at.
///
/// Blank lines and those that begin with `#` are left out. A backslash at the end joins the next line, which may be
/// neither, with one space.
pub(super) fn value(bytes: &[u8], key: &str) -> Result<String, EnvFileError> {
    const BLANK: [char; 2] = [' ', '\t'];
    let text = String::from_utf8_lossy(bytes);
    let mut joined: Option<String> = None;
    for (index, line) in text.lines().enumerate() {
        let bad = EnvFileError::Line(index + 1);
        if line.len() >= MAX_LINE_BYTES {
            return Err(EnvFileError::TooLong(index + 1));
        }
        let line = line.trim_start_matches(BLANK);
        if line.is_empty() || line.starts_with('#') {
            if joined.is_some() {
                return Err(bad);
            }
            continue;
        }
        let line = line.trim_end_matches(BLANK);
        let (line, goes_on) = match line.strip_suffix('\\') {
            Some(line) => (line.trim_end_matches(BLANK), true),
            None => (line, false),
        };
        let line = match joined.take() {
            Some(before) => format!("{before} {line}"),
            None => line.to_owned(),
        };
        if goes_on {
            joined = Some(line);
            continue;
        }
        let (name, value) = line.split_once('=').ok_or(bad.clone())?;
        match name.trim() {
            "" => return Err(bad),
            name if name == key => return Ok(value.trim().to_owned()),
            _ => {}
        }
    }
    match joined {
        Some(_) => Err(EnvFileError::Unfinished),
        None => Ok(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<String, String> {
        value(text.as_bytes(), "A").map_err(|error| error.to_string())
    }

    #[test]
    fn spec_33_lines_comments_and_continuations() {
        for (text, expected) in [
            ("A=1", "1"),
            ("  # A=0\n\n\tA = 1 2 \r\nA=3", "1 2"),
            ("B=1", ""),
            ("A=1 \\\n  2\\\n3\n", "1 2 3"),
            ("A=b=c", "b=c"),
            ("A=\"q\"", "\"q\""),
            ("", ""),
        ] {
            assert_eq!(of(text).as_deref(), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn spec_33_what_is_no_line_is_named() {
        for (text, expected) in [
            (
                "B=1\nnonsense",
                "invalid environment variable format at line 2",
            ),
            ("=1", "invalid environment variable format at line 1"),
            ("B=1\\\n\n", "invalid environment variable format at line 2"),
            ("B=1\\\n#x", "invalid environment variable format at line 2"),
            (
                "B=1\\",
                "unexpected end of file: unfinished line continuation",
            ),
        ] {
            assert_eq!(of(text).unwrap_err(), expected, "{text:?}");
        }
        assert_eq!(of("A=1\nnonsense").unwrap(), "1");
        let long = format!("A=1\n{}", "x".repeat(MAX_LINE_BYTES));
        assert_eq!(of(&long).unwrap(), "1");
        assert!(of(&long[4..]).unwrap_err().starts_with("line 1 is longer"));
    }
}
