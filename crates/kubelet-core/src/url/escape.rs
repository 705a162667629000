//! What stands for itself in which part of a URL, and what as `%41` (Go's `escape` and `unescape`).

use std::fmt::Write as _;

/// A part of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Path,
    Host,
    /// Of an IPv6 address.
    Zone,
    User,
    Fragment,
}

impl Part {
    /// Bytes that are never printed escaped, beside letters and digits.
    fn plain(self) -> &'static [u8] {
        match self {
            Self::Path => b"-_.~$&+,/:;=@",
            Self::Host | Self::Zone => b"-_.~!$&'()*+,;=:[]<>\"",
            Self::User => b"-_.~$&+,;=",
            Self::Fragment => b"-_.~$&+,/:;=?@!()*",
        }
    }

    fn is_plain(self, byte: u8) -> bool {
        byte.is_ascii_alphanumeric() || self.plain().contains(&byte)
    }
}

/// Text in which all is escaped that has to be.
pub(super) fn escape(bytes: &[u8], part: Part) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if part.is_plain(*byte) {
            text.push(char::from(*byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// The bytes that are meant.
///
/// # Errors
/// Go's words for an escape that is none, or one of what may not stand there.
pub(super) fn unescape(text: &str, part: Part) -> Result<Vec<u8>, String> {
    let of_host = matches!(part, Part::Host | Part::Zone);
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let escape = &rest[..rest.len().min(3)];
            let byte = match escape {
                [_, high, low] => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
                _ => None,
            };
            let may = |byte: &u8| match part {
                Part::Host => !byte.is_ascii() || *byte == b'%',
                Part::Zone => matches!(byte, b'%' | b' ') || Part::Host.is_plain(*byte),
                Part::Path | Part::User | Part::Fragment => true,
            };
            let byte = byte.filter(may).ok_or_else(|| {
                let escape = String::from_utf8_lossy(escape);
                format!("invalid URL escape {escape:?}")
            })?;
            bytes.push(byte);
            rest = &rest[3..];
        } else {
            if of_host && first.is_ascii() && !part.is_plain(*first) {
                let character = char::from(*first).to_string();
                return Err(format!("invalid character {character:?} in host name"));
            }
            bytes.push(*first);
            rest = tail;
        }
    }
    Ok(bytes)
}

/// A path or fragment as it is printed: as it stood where that is allowed, else escaped anew.
///
/// # Errors
/// As of [`unescape`].
pub(super) fn printed(text: &str, part: Part) -> Result<String, String> {
    let bytes = unescape(text, part)?;
    let stands = |byte: u8| part.is_plain(byte) || b"!'()*[]%".contains(&byte);
    Ok(if text.bytes().all(stands) {
        text.to_owned()
    } else {
        escape(&bytes, part)
    })
}

fn hex(digit: u8) -> Option<u8> {
    let digit = char::from(digit).to_digit(16)?;
    u8::try_from(digit).ok()
}
