//! Kubernetes' JSON log format (kubelet PROC-51).

use std::io::Write as _;

use tracing::Level;

use super::record::{ERROR, Record, Value};

/// Appends one object and a newline: `ts` (milliseconds since the epoch), `caller`, `msg`, `v` (not
/// on error lines), `err`, then the other fields.
pub(super) fn render(record: &Record<'_>, out: &mut Vec<u8>) {
    let micros = record.now.timestamp().as_microsecond();
    // Writing to a vector cannot fail.
    let _ = write!(
        out,
        "{{\"ts\":{}.{:03}",
        micros.div_euclid(1000),
        micros.rem_euclid(1000)
    );
    let _ = write!(out, ",\"caller\":");
    text(&format!("{}:{}", record.file, record.line), out);
    out.extend_from_slice(b",\"msg\":");
    text(record.message, out);
    if record.level != Level::ERROR {
        let _ = write!(out, ",\"v\":{}", record.verbosity);
    }
    for (name, value) in record.fields {
        out.push(b',');
        text(if *name == ERROR { "err" } else { name }, out);
        out.push(b':');
        match value {
            Value::Text(value) => text(value, out),
            Value::Number(number) => out.extend_from_slice(number.as_bytes()),
            Value::Bool(value) => {
                let _ = write!(out, "{value}");
            }
        }
    }
    out.extend_from_slice(b"}\n");
}

fn text(text: &str, out: &mut Vec<u8>) {
    // A string always has a JSON form.
    drop(serde_json::to_writer(out, text));
}
