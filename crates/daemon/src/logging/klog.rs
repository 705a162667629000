//! klog's text format (kubelet PROC-50).

use std::{fmt::Write as _, process};

use tracing::Level;

use super::{
    quote,
    record::{ERROR, Record, Value},
};

/// Appends `Lmmdd hh:mm:ss.uuuuuu PID file.rs:line] "message" err="..." key="value"` and a newline;
/// the pid is right-aligned to seven places and times are local.
pub(super) fn render(record: &Record<'_>, out: &mut Vec<u8>) {
    let mut line = String::with_capacity(256);
    let severity = match record.level {
        Level::ERROR => 'E',
        Level::WARN => 'W',
        _ => 'I',
    };
    let now = &record.now;
    // Writing to a string cannot fail.
    let _ = write!(
        line,
        "{severity}{:02}{:02} {:02}:{:02}:{:02}.{:06} {:>7} {}:{}] ",
        now.month(),
        now.day(),
        now.hour(),
        now.minute(),
        now.second(),
        now.subsec_nanosecond() / 1000,
        process::id(),
        record.file,
        record.line,
    );
    quote(record.message, &mut line);
    let error = record.fields.iter().filter(|(name, _)| *name == ERROR);
    let others = record.fields.iter().filter(|(name, _)| *name != ERROR);
    for (name, value) in error.chain(others) {
        line.push(' ');
        line.push_str(if *name == ERROR { "err" } else { name });
        match value {
            Value::Text(text) => push_text(text, &mut line),
            Value::Number(number) => {
                let _ = write!(line, "={number}");
            }
            Value::Bool(value) => {
                let _ = write!(line, "={value}");
            }
        }
    }
    line.push('\n');
    out.extend_from_slice(line.as_bytes());
}

/// `="text"`, or for text of several lines a block of indented lines between `<` and `>`.
fn push_text(text: &str, line: &mut String) {
    line.push('=');
    if !text.contains('\n') {
        quote(text, line);
        return;
    }
    line.push_str("<\n");
    for part in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        line.push('\t');
        line.push_str(part);
        line.push('\n');
    }
    line.push_str(" >");
}
