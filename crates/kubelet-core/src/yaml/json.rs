//! JSON as Go's decoder takes it.
//!
//! Upstream hands a document that begins with `{` to its JSON decoder as it is (`k8s.io/apimachinery`, `yaml.ToJSON`):
//! what YAML alone allows is an error then, in the words of Go's `encoding/json`, and `80.0` stays a float (which no
//! integer field takes), where YAML makes it 80. Text that is no UTF-8, and half a surrogate pair, become U+FFFD.
//!
//! Of a key that an object has twice, Go lays the second value over the first: objects become one, items of lists too.
//! Differs: a second value of null counts below the document's own fields; for Go it depends on the field's type.

use serde_json::{Map, Number, Value};

use super::error::{Position, Problem, YamlError};
use super::{Document, DuplicateKey, Limits};

/// Deeper than this the recursion below could meet the end of a small thread's stack.
const DEEPEST: usize = 500;

/// Whether upstream takes it for JSON, whatever follows.
pub(super) fn begins(bytes: &[u8]) -> bool {
    let text = bytes.utf8_chunks().next().map(|chunk| chunk.valid());
    text.is_some_and(|text| text.trim_start().starts_with('{'))
}

/// The value of a document that begins as JSON.
pub(super) fn read(bytes: &[u8], limits: Limits) -> Result<Document, YamlError> {
    let deepest = limits.depth.min(DEEPEST);
    let mut reader = Reader {
        bytes,
        at: 0,
        depth: deepest,
        deepest,
        values: limits.values,
        limits,
        counted: Counted {
            index: 0,
            line: 1,
            line_start: 0,
        },
        duplicates: Vec::new(),
    };
    let value = reader.value()?;
    reader.skip_space();
    match reader.peek() {
        None => Ok(Document {
            value,
            duplicates: reader.duplicates,
            further: None,
            is_json: true,
        }),
        Some(_) => Err(reader.unexpected("after top-level value")),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Levels left, and in all; values left.
    depth: usize,
    deepest: usize,
    values: usize,
    limits: Limits,
    counted: Counted,
    duplicates: Vec<DuplicateKey>,
}

/// How far lines are counted.
struct Counted {
    index: usize,
    line: usize,
    line_start: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn value(&mut self) -> Result<Value, YamlError> {
        self.skip_space();
        self.count()?;
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true", Value::Bool(true)),
            Some(b'f') => self.literal("false", Value::Bool(false)),
            Some(b'n') => self.literal("null", Value::Null),
            _ => Err(self.unexpected("looking for beginning of value")),
        }
    }

    fn nested(
        &mut self,
        inner: fn(&mut Self) -> Result<Value, YamlError>,
    ) -> Result<Value, YamlError> {
        let left = self.depth.checked_sub(1);
        let problem = || Problem::Json(format!("exceeded max depth of {}", self.limits.depth));
        self.depth = left.ok_or_else(|| self.error(problem()))?;
        self.at += 1;
        let value = inner(self)?;
        self.depth += 1;
        Ok(value)
    }

    fn object(&mut self) -> Result<Value, YamlError> {
        let mut map = Map::new();
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(map));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("looking for beginning of object key string"));
            }
            let start = self.at;
            self.count()?;
            let key = self.string()?;
            if map.contains_key(&key) {
                let at = self.position(start);
                let key = key.clone();
                self.duplicates.push(DuplicateKey { key, at });
            }
            self.skip_space();
            if self.peek() != Some(b':') {
                return Err(self.unexpected("after object key"));
            }
            self.at += 1;
            let value = self.value()?;
            match map.get_mut(&key) {
                None => {
                    map.insert(key, value);
                }
                Some(_) if value.is_null() && self.depth + 1 == self.deepest => {}
                Some(before) => lay_over(before, value),
            }
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Value::Object(map));
                }
                _ => return Err(self.unexpected("after object key:value pair")),
            }
        }
    }

    fn array(&mut self) -> Result<Value, YamlError> {
        let mut list = Vec::new();
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::Array(list));
        }
        loop {
            list.push(self.value()?);
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Value::Array(list));
                }
                _ => return Err(self.unexpected("after array element")),
            }
        }
    }

    fn string(&mut self) -> Result<String, YamlError> {
        let mut text = String::new();
        self.at += 1;
        loop {
            let start = self.at;
            while !matches!(self.peek(), None | Some(b'"' | b'\\' | ..b' ')) {
                self.at += 1;
            }
            push_lossy(&mut text, &self.bytes[start..self.at]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    self.at += 1;
                    text.push(self.escape()?);
                }
                _ => return Err(self.unexpected("in string literal")),
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<char, YamlError> {
        let c = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                let first = self.hexadecimal()?;
                return Ok(match first {
                    0xD800..0xE000 => self.second_half(first),
                    _ => char::from_u32(first.into()).unwrap_or(char::REPLACEMENT_CHARACTER),
                });
            }
            _ => return Err(self.unexpected("in string escape code")),
        };
        self.at += 1;
        Ok(c)
    }

    /// The character of a surrogate pair. A half without the other stands alone.
    fn second_half(&mut self, first: u16) -> char {
        let start = self.at;
        if self.bytes[start..].starts_with(b"\\u") {
            self.at += 2;
            // What is wrong with these digits is told when they are read by themselves.
            if let Ok(second) = self.hexadecimal()
                && let Some(Ok(c)) = char::decode_utf16([first, second]).next()
            {
                return c;
            }
        }
        self.at = start;
        char::REPLACEMENT_CHARACTER
    }

    fn hexadecimal(&mut self) -> Result<u16, YamlError> {
        let mut value = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit.and_then(|digit| u16::try_from(digit).ok()) else {
                return Err(self.unexpected("in \\u hexadecimal character escape"));
            };
            value = value << 4 | digit;
            self.at += 1;
        }
        Ok(value)
    }

    fn number(&mut self) -> Result<Value, YamlError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits("in numeric literal")?;
        }
        let whole = self.at;
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        let text = String::from_utf8_lossy(&self.bytes[start..self.at]);
        let integer = (whole == self.at).then(|| {
            let signed = text.parse::<i64>().map(Number::from);
            signed.or_else(|_| text.parse::<u64>().map(Number::from))
        });
        let number = match integer {
            Some(Ok(number)) => Some(number),
            _ => text.parse().ok().and_then(Number::from_f64),
        };
        // One beyond a double's range is a quantity's text still, and no other field's.
        Ok(number.map_or_else(|| Value::String(text.into_owned()), Value::Number))
    }

    /// At least one.
    fn digits(&mut self, context: &str) -> Result<(), YamlError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start {
            return Err(self.unexpected(context));
        }
        Ok(())
    }

    fn literal(&mut self, word: &str, value: Value) -> Result<Value, YamlError> {
        for byte in word.bytes() {
            if self.peek() != Some(byte) {
                let expected = quoted(byte);
                return Err(self.unexpected(&format!("in literal {word} (expecting {expected})")));
            }
            self.at += 1;
        }
        Ok(value)
    }

    fn count(&mut self) -> Result<(), YamlError> {
        let left = self.values.checked_sub(1);
        self.values = left.ok_or_else(|| self.error(Problem::TooMany(self.limits.values)))?;
        Ok(())
    }

    /// The byte here is not what has to come, in Go's words.
    fn unexpected(&self, context: &str) -> YamlError {
        self.error(Problem::Json(match self.peek() {
            None => "unexpected end of JSON input".to_owned(),
            Some(byte) => format!("invalid character {} {context}", quoted(byte)),
        }))
    }

    fn error(&self, problem: Problem) -> YamlError {
        let before = String::from_utf8_lossy(&self.bytes[..self.at]);
        YamlError::at(super::text::position(&before), problem)
    }

    /// Where a byte is; each one asked for lies after the last.
    fn position(&mut self, at: usize) -> Position {
        for index in self.counted.index..at {
            if self.bytes[index] == b'\n' {
                self.counted.line += 1;
                self.counted.line_start = index + 1;
            }
        }
        self.counted.index = at;
        let before = String::from_utf8_lossy(&self.bytes[self.counted.line_start..at]);
        Position {
            line: self.counted.line,
            column: before.chars().count() + 1,
        }
    }
}

/// Go's `quoteChar`: a byte is the character of that number.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        0x07 => r"'\a'".to_owned(),
        0x08 => r"'\b'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        0x0B => r"'\v'".to_owned(),
        0x0C => r"'\f'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        ..b' ' | 0x7F => format!("'\\x{byte:02x}'"),
        0x80..=0xA0 | 0xAD => format!("'\\u{byte:04x}'"),
        _ => format!("'{}'", char::from(byte)),
    }
}

/// Each byte that is no UTF-8 becomes a character of its own.
fn push_lossy(text: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
}

/// What Go makes of a value in the place of an earlier one.
fn lay_over(before: &mut Value, value: Value) {
    match (before, value) {
        (Value::Array(before), Value::Array(after)) => {
            before.truncate(after.len());
            for (index, value) in after.into_iter().enumerate() {
                match before.get_mut(index) {
                    Some(before) => lay_over(before, value),
                    None => before.push(value),
                }
            }
        }
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in after {
                match before.get_mut(&key) {
                    Some(before) => lay_over(before, value),
                    None => {
                        before.insert(key, value);
                    }
                }
            }
        }
        (before, value) => *before = value,
    }
}
