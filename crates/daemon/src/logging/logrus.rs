//! logrus' text format away from a terminal (cri-dockerd BLD-09).

use std::fmt::Write as _;

use tracing::Level;

use super::{
    quote,
    record::{Record, Value},
};

/// Appends `time="..." level=info msg="..."` and the fields in order of their names.
pub(super) fn render(record: &Record<'_>, out: &mut Vec<u8>) {
    let mut line = String::with_capacity(256);
    let now = &record.now;
    let offset = now.offset().seconds();
    // Writing to a string cannot fail.
    let _ = write!(
        line,
        "time=\"{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        now.year(),
        now.month(),
        now.day(),
        now.hour(),
        now.minute(),
        now.second(),
    );
    if offset == 0 {
        line.push('Z');
    } else {
        let (sign, minutes) = (if offset < 0 { '-' } else { '+' }, offset.abs() / 60);
        let _ = write!(line, "{sign}{:02}:{:02}", minutes / 60, minutes % 60);
    }
    line.push_str("\" level=");
    line.push_str(match record.level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    });
    line.push_str(" msg=");
    push_text(record.message, &mut line);
    let mut fields: Vec<_> = record.fields.iter().collect();
    fields.sort_by_key(|(name, _)| *name);
    for (name, value) in fields {
        line.push(' ');
        line.push_str(name);
        line.push('=');
        match value {
            Value::Text(text) => push_text(text, &mut line),
            Value::Number(number) => line.push_str(number),
            Value::Bool(value) => {
                let _ = write!(line, "{value}");
            }
        }
    }
    line.push('\n');
    out.extend_from_slice(line.as_bytes());
}

/// Quotes only what has characters beyond those that logrus takes as they are.
fn push_text(text: &str, line: &mut String) {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if text.chars().all(plain) {
        line.push_str(text);
    } else {
        quote(text, line);
    }
}
