//! One line of output: as Docker records it (LOG-04) and as the CRI wants it (LOG-05).
//!
//! Pure. A record becomes exactly one CRI line: `F` when its text ends with a newline, else `P` (a
//! piece of a long line, or a last line without newline, as containerd's logger does). This
//! one-to-one relation is what makes a position in one file a position in the other.

use std::fmt;

use memchr::{memchr, memchr2, memmem};

use crate::engine::StreamKind;

/// A point in time as fixed text, `2025-11-22T16:36:00.123456789Z`: comparing the bytes compares
/// the times.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Stamp([u8; Self::LENGTH]);

impl Stamp {
    /// Bytes of the text.
    pub(super) const LENGTH: usize = 30;

    /// Reads RFC 3339 with up to nine digits of fraction, at any offset from UTC.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        Self::parse_utc(text).or_else(|| {
            let time: jiff::Timestamp = std::str::from_utf8(text).ok()?.parse().ok()?;
            Self::parse_utc(format!("{time:.9}").as_bytes())
        })
    }

    /// A point in time from nanoseconds since 1970. `None` for 1970 itself, which Docker means by
    /// no time at all, and for years of more than four digits.
    pub(super) fn from_nanoseconds(nanoseconds: i64) -> Option<Self> {
        if nanoseconds == 0 {
            return None;
        }
        let time = jiff::Timestamp::from_nanosecond(nanoseconds.into()).ok()?;
        Self::parse_utc(format!("{time:.9}").as_bytes())
    }

    /// The form that Docker writes, without arithmetic.
    fn parse_utc(text: &[u8]) -> Option<Self> {
        const SHAPE: &[u8; 19] = b"0000-00-00T00:00:00";
        let (head, tail) = text.split_first_chunk::<19>()?;
        let mut fixed = *b"0000-00-00T00:00:00.000000000Z";
        let fits = |(shape, byte): (&u8, &u8)| match shape {
            b'0' => byte.is_ascii_digit(),
            separator => byte == separator,
        };
        if !SHAPE.iter().zip(head).all(fits) {
            return None;
        }
        fixed[..19].copy_from_slice(head);
        let fraction = match tail {
            [b'Z'] => &[][..],
            [b'.', fraction @ .., b'Z'] => fraction,
            _ => return None,
        };
        if fraction.len() > 9 || !fraction.iter().all(u8::is_ascii_digit) {
            return None;
        }
        fixed[20..20 + fraction.len()].copy_from_slice(fraction);
        Some(Self(fixed))
    }

    /// As `since` of Docker's logs API: seconds and nanoseconds since 1970.
    pub(super) fn since(&self) -> Option<String> {
        let time: jiff::Timestamp = std::str::from_utf8(&self.0).ok()?.parse().ok()?;
        Some(format!(
            "{}.{:09}",
            time.as_second(),
            time.subsec_nanosecond()
        ))
    }

    /// The text.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// One record of a container's output.
#[derive(Debug, PartialEq)]
pub(super) struct Record<'a> {
    pub(super) stream: StreamKind,
    pub(super) stamp: Stamp,
    text: Text<'a>,
}

#[derive(Debug, PartialEq)]
enum Text<'a> {
    /// The inside of a JSON string whose escapes are known to be good.
    Escaped(&'a [u8]),
    Plain(&'a [u8]),
    Owned(String),
}

impl<'a> Record<'a> {
    /// A record whose text, with its newline if it has one, comes as it is.
    pub(super) fn plain(stream: StreamKind, stamp: Stamp, text: &'a [u8]) -> Self {
        Self {
            stream,
            stamp,
            text: Text::Plain(text),
        }
    }

    /// Reads one line of a json-file log, without the newline that ends it. `None` when it is not
    /// a record.
    ///
    /// A crash of the engine's machine can leave half a record or zero bytes before a good one on
    /// the same line; the good one is found then.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        scan(line).or_else(|| decode(line)).or_else(|| {
            let start = memmem::rfind(line, br#"{"log":"#).filter(|start| *start > 0)?;
            let rest = &line[start..];
            scan(rest).or_else(|| decode(rest))
        })
    }

    /// Appends the CRI line, newline included.
    pub(super) fn write_cri(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.stamp.as_bytes());
        out.extend_from_slice(match self.stream {
            StreamKind::Stdout => b" stdout P ",
            StreamKind::Stderr => b" stderr P ",
        });
        let start = out.len();
        match &self.text {
            Text::Escaped(text) => unescape(text, out),
            Text::Plain(text) => out.extend_from_slice(text),
            Text::Owned(text) => out.extend_from_slice(text.as_bytes()),
        }
        if out.len() > start && out.last() == Some(&b'\n') {
            out[start - 2] = b'F';
        } else {
            out.push(b'\n');
        }
        // Docker cuts at each newline. Should another writer not: one record stays one line.
        let end = out.len() - 1;
        let mut from = start;
        while let Some(at) = memchr(b'\n', &out[from..end]) {
            out[from + at] = b' ';
            from += at + 1;
        }
    }
}

/// Reads the shape that Docker writes, without allocating: `log`, `stream`, perhaps `attrs`, and
/// `time` last.
fn scan(line: &[u8]) -> Option<Record<'_>> {
    let rest = line.strip_prefix(br#"{"log":""#)?;
    let end = string_end(rest)?;
    let (text, rest) = rest.split_at(end);
    let rest = rest.strip_prefix(br#"","stream":"std"#)?;
    let (stream, rest) = if let Some(rest) = rest.strip_prefix(br#"out","#) {
        (StreamKind::Stdout, rest)
    } else {
        (StreamKind::Stderr, rest.strip_prefix(br#"err","#)?)
    };
    let time = if let Some(time) = rest.strip_prefix(br#""time":""#) {
        time
    } else {
        // Attributes are the only thing that may stand between, and the time is last.
        let attributes = rest.strip_prefix(br#""attrs":{"#)?;
        let at = memmem::rfind(attributes, br#"},"time":""#)?;
        &attributes[at + br#"},"time":""#.len()..]
    };
    let stamp = Stamp::parse(time.strip_suffix(br#""}"#)?)?;
    Some(Record {
        stream,
        stamp,
        text: Text::Escaped(text),
    })
}

/// Where the JSON string that `text` is inside of ends; `None` when it has no end or an escape
/// that [`unescape`] would not understand.
fn string_end(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr2(b'"', b'\\', &text[at..])?;
        if text[at] == b'"' {
            return Some(at);
        }
        match text.get(at + 1)? {
            b'n' | b'r' | b't' | b'"' | b'\\' | b'/' | b'b' | b'f' => at += 2,
            b'u' => {
                let unit = code_unit(text.get(at + 2..at + 6)?)?;
                // Docker never writes surrogates; what has them goes the slow way.
                if (0xd800..0xe000).contains(&unit) {
                    return None;
                }
                at += 6;
            }
            _ => return None,
        }
    }
}

fn code_unit(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |unit, digit| {
        Some(unit << 4 | char::from(*digit).to_digit(16)?)
    })
}

/// Appends what a JSON string says; its escapes have been checked by [`string_end`].
fn unescape(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = memchr(b'\\', text) {
        out.extend_from_slice(&text[..at]);
        let (byte, length) = match text[at + 1] {
            b'n' => (b'\n', 2),
            b'r' => (b'\r', 2),
            b't' => (b'\t', 2),
            b'b' => (8, 2),
            b'f' => (12, 2),
            b'u' => {
                let digits = &text[at + 2..at + 6];
                let symbol = code_unit(digits)
                    .and_then(char::from_u32)
                    .unwrap_or('\u{fffd}');
                out.extend_from_slice(symbol.encode_utf8(&mut [0; 4]).as_bytes());
                text = &text[at + 6..];
                continue;
            }
            other => (other, 2),
        };
        out.push(byte);
        text = &text[at + length..];
    }
    out.extend_from_slice(text);
}

/// Reads any JSON object with the right fields.
fn decode(line: &[u8]) -> Option<Record<'_>> {
    #[derive(serde::Deserialize)]
    struct Line {
        #[serde(default)]
        log: String,
        stream: String,
        time: String,
    }
    let line: Line = serde_json::from_slice(line).ok()?;
    let stream = match line.stream.as_str() {
        "stdout" => StreamKind::Stdout,
        "stderr" => StreamKind::Stderr,
        _ => return None,
    };
    let stamp = Stamp::parse(line.time.as_bytes())?;
    Some(Record {
        stream,
        stamp,
        text: Text::Owned(line.log),
    })
}

/// Time and stream of a CRI line, and whether it is one of our own markers.
pub(super) fn parse_cri(line: &[u8]) -> Option<(Stamp, StreamKind, bool)> {
    let mut words = line.splitn(4, |byte| *byte == b' ');
    let stamp = Stamp::parse(words.next()?)?;
    let stream = match words.next()? {
        b"stdout" => StreamKind::Stdout,
        b"stderr" => StreamKind::Stderr,
        _ => return None,
    };
    words.next()?;
    let marker = stream == StreamKind::Stderr && words.next() == Some(GAP);
    Some((stamp, stream, marker))
}

/// What stands in a log where lines are missing.
const GAP: &[u8] =
    b"[cri-dockerd: lines are missing here, docker dropped them before they could be copied]";

/// Appends the line that says that lines before `stamp` are missing.
pub(super) fn write_gap(stamp: Stamp, out: &mut Vec<u8>) {
    let text = [GAP, b"\n"].concat();
    Record::plain(StreamKind::Stderr, stamp, &text).write_cri(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cri(line: &[u8]) -> Option<String> {
        let mut out = Vec::new();
        Record::parse(line)?.write_cri(&mut out);
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn stamp_of_nanoseconds_is_the_text_that_docker_writes() {
        let stamp = |nanoseconds| Stamp::from_nanoseconds(nanoseconds);
        assert_eq!(
            stamp(1_763_829_360_123_456_789),
            Stamp::parse(b"2025-11-22T16:36:00.123456789Z")
        );
        assert_eq!(
            stamp(1_763_829_360_000_000_000),
            Stamp::parse(b"2025-11-22T16:36:00Z")
        );
        assert_eq!(stamp(0), None);
        assert!(stamp(i64::MAX).is_some());
    }

    #[test]
    fn recorded_lines_of_docker_become_cri_lines() {
        // Left: Docker 20.10's own lines.
        for (docker, expected) in [
            (
                r#"{"log":"a\u0001\u0009b\u003c\u0026\u003e\"\\é\ufffd\u2028\n","stream":"stdout","time":"2026-11-22T16:49:05.895886996Z"}"#,
                "2026-11-22T16:49:05.895886996Z stdout F a\u{1}\tb<&>\"\\é\u{fffd}\u{2028}\n",
            ),
            (
                r#"{"log":"\n","stream":"stdout","time":"2026-11-22T16:49:05.89785771Z"}"#,
                "2026-11-22T16:49:05.897857710Z stdout F \n",
            ),
            (
                r#"{"log":"\r\n","stream":"stderr","time":"2026-11-22T16:49:05Z"}"#,
                "2026-11-22T16:49:05.000000000Z stderr F \r\n",
            ),
            (
                r#"{"log":"end","stream":"stdout","time":"2026-11-22T16:49:05.928330065Z"}"#,
                "2026-11-22T16:49:05.928330065Z stdout P end\n",
            ),
            (
                r#"{"log":"x\n","stream":"stderr","attrs":{"a":"},\"time\":\""},"time":"2026-11-22T16:49:05.9Z"}"#,
                "2026-11-22T16:49:05.900000000Z stderr F x\n",
            ),
        ] {
            assert!(
                scan(docker.as_bytes()).is_some(),
                "the quick way reads {docker}"
            );
            assert_eq!(cri(docker.as_bytes()).as_deref(), Some(expected));
        }
    }

    #[test]
    fn unusual_but_good_records_are_read_the_slow_way() {
        for docker in [
            r#"{ "stream":"stdout", "time":"2026-11-22T18:49:05.9+02:00", "log":"x\n" }"#,
            r#"{"log":"x\n","extra":1,"stream":"stdout","time":"2026-11-22T16:49:05.9Z"}"#,
        ] {
            let expected = "2026-11-22T16:49:05.900000000Z stdout F x\n";
            assert_eq!(cri(docker.as_bytes()).as_deref(), Some(expected));
        }
        let surrogates =
            br#"{"log":"\ud83d\ude00","stream":"stdout","time":"2026-11-22T16:49:05.9Z"}"#;
        assert!(cri(surrogates).unwrap().ends_with("P \u{1f600}\n"));
    }

    #[test]
    fn good_record_behind_a_torn_one_is_found() {
        let good = r#"{"log":"x\n","stream":"stdout","time":"2026-11-22T16:49:05.9Z"}"#;
        for torn in [
            r#"{"log":"half a li"#,
            "\0\0\0",
            r#"{"log":"a\n","stream":"st"#,
        ] {
            let line = format!("{torn}{good}");
            assert_eq!(cri(line.as_bytes()), cri(good.as_bytes()), "{line}");
        }
        for bad in [
            "",
            "{",
            "plain text",
            r#"{"log":"x\n","stream":"stdin","time":"z"}"#,
        ] {
            assert_eq!(cri(bad.as_bytes()), None);
        }
    }

    #[test]
    fn record_with_newlines_inside_stays_one_line() {
        let mut out = Vec::new();
        let stamp = Stamp::parse(b"2026-11-22T16:49:05Z").unwrap();
        Record::plain(StreamKind::Stdout, stamp, b"a\nb\n\nc\n").write_cri(&mut out);
        assert_eq!(out, b"2026-11-22T16:49:05.000000000Z stdout F a b  c\n");
    }

    #[test]
    fn cri_lines_are_read_back() {
        let stamp = Stamp::parse(b"2026-11-22T16:49:05Z").unwrap();
        let read = |out: &[u8]| parse_cri(out.strip_suffix(b"\n").unwrap());
        let mut out = Vec::new();
        write_gap(stamp, &mut out);
        assert_eq!(read(&out), Some((stamp, StreamKind::Stderr, true)));
        out.clear();
        Record::plain(StreamKind::Stdout, stamp, b"").write_cri(&mut out);
        assert_eq!(read(&out), Some((stamp, StreamKind::Stdout, false)));
        assert_eq!(parse_cri(br#"{"log":"a"}"#), None);
    }

    #[test]
    fn stamps_are_ordered_and_tell_seconds() {
        let stamp = |text: &str| Stamp::parse(text.as_bytes()).unwrap();
        assert!(stamp("2026-11-22T16:49:05.1Z") < stamp("2026-11-22T16:49:05.10000001Z"));
        assert_eq!(
            stamp("1970-01-01T00:01:00.5Z").since().unwrap(),
            "60.500000000"
        );
        assert_eq!(Stamp::parse(b"2026-99-99T99:99:99Z").unwrap().since(), None);
        for bad in [
            "",
            "2026-11-22",
            "2026-11-22T16:49:05.1234567890Z",
            "2026-11-22T16:49:05x",
        ] {
            assert_eq!(Stamp::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_survives_dockers_json(text: String, with_newline: bool) {
            let mut text = text.replace('\n', "|");
            if with_newline {
                text.push('\n');
            }
            let line = serde_json::json!({
                "log": text, "stream": "stderr", "time": "2026-11-22T16:49:05.9Z",
            });
            let tag = if with_newline { 'F' } else { 'P' };
            let text = text.trim_end_matches('\n');
            let expected = format!("2026-11-22T16:49:05.900000000Z stderr {tag} {text}\n");
            proptest::prop_assert_eq!(cri(line.to_string().as_bytes()), Some(expected));
        }

        #[test]
        fn quick_and_slow_reader_agree(text in r#"(\\[nrtbf"/\\]|\\u00[0-9a-f]{2}|[ -!#-\[\]-~é])*"#) {
            let line = format!(r#"{{"log":"{text}","stream":"stdout","time":"2026-11-22T16:49:05.9Z"}}"#);
            let write = |record: Option<Record<'_>>| {
                let mut out = Vec::new();
                record.unwrap().write_cri(&mut out);
                out
            };
            proptest::prop_assert_eq!(write(scan(line.as_bytes())), write(decode(line.as_bytes())));
        }

        #[test]
        fn no_bytes_make_the_readers_panic(bytes: Vec<u8>, at in 0..60_usize) {
            let _ = cri(&bytes);
            let mut line = br#"{"log":"x\u0041\n","stream":"stdout","time":"2026-11-22T16:49:05.9Z"}"#.to_vec();
            line.splice(at..at, bytes);
            let mut out = Vec::new();
            if let Some(record) = Record::parse(&line) {
                record.write_cri(&mut out);
                proptest::prop_assert_eq!(memchr(b'\n', &out), Some(out.len() - 1));
            }
            let _ = parse_cri(&line);
        }
    }
}
