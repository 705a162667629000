//! Bytes to text: byte order marks, encodings, forbidden characters.

use std::borrow::Cow;

use super::error::{Position, Problem, YamlError};

/// Decodes UTF-8 (with or without mark) or marked UTF-16 and refuses what YAML forbids.
pub(super) fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, YamlError> {
    let text = match bytes {
        [0xFF, 0xFE, rest @ ..] => Cow::Owned(utf16(rest, u16::from_le_bytes)?),
        [0xFE, 0xFF, rest @ ..] => Cow::Owned(utf16(rest, u16::from_be_bytes)?),
        [0xEF, 0xBB, 0xBF, rest @ ..] => Cow::Borrowed(utf8(rest)?),
        _ => Cow::Borrowed(utf8(bytes)?),
    };
    match text.char_indices().find(|&(_, c)| forbidden(c)) {
        Some((index, c)) => Err(YamlError::at(
            position(&text[..index]),
            Problem::ControlCharacter(c),
        )),
        None => Ok(text),
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, YamlError> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        YamlError::at(position(&before), Problem::Encoding("UTF-8"))
    })
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, YamlError> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let mut text = String::with_capacity(bytes.len());
    for unit in char::decode_utf16(pairs.iter().map(|pair| unit(*pair))) {
        let error = |_| YamlError::at(position(&text), Problem::Encoding("UTF-16"));
        let c = unit.map_err(error)?;
        text.push(c);
    }
    if rest.is_empty() {
        Ok(text)
    } else {
        Err(YamlError::at(position(&text), Problem::Encoding("UTF-16")))
    }
}

/// YAML 1.1 `c-printable`, the other way round.
fn forbidden(c: char) -> bool {
    !matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{A0}'..='\u{FFFD}' | '\u{10000}'..)
}

/// The place right after `before`.
pub(super) fn position(before: &str) -> Position {
    let line_start = before.rfind('\n').map_or(0, |index| index + 1);
    Position {
        line: before.bytes().filter(|&byte| byte == b'\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}
