//! Help text in pflag's layout.

use std::fmt::Write as _;

use super::{FlagSet, Kind, Row, Value, quote};

impl FlagSet {
    /// One line per visible flag: names, value, help text, default, deprecation; help texts start
    /// in one column (`FlagSet.FlagUsages`).
    pub fn usages(&self) -> String {
        self.usages_wrapped(0)
    }

    /// The same, wrapped to `columns`; 0 does not wrap. The kubelet asks for 2, which leaves long
    /// lines alone and indents the continuation lines of multi-line texts by 16.
    pub fn usages_wrapped(&self, columns: usize) -> String {
        let lines: Vec<(String, String)> = self
            .flags
            .values()
            .filter(|row| !row.flag.hidden)
            .map(describe)
            .collect();
        // pflag counts bytes here.
        let width = lines
            .iter()
            .map(|(left, _)| left.len())
            .max()
            .unwrap_or_default()
            + 1;
        let mut out = String::new();
        for (left, text) in lines {
            let padding = " ".repeat(width - left.len());
            out.push_str(&left);
            out.push(' ');
            out.push_str(&padding);
            out.push(' ');
            out.push_str(&wrap(width + 2, columns, &text));
            out.push('\n');
        }
        out
    }
}

/// The names of a flag, and the text beside them.
fn describe(row: &Row) -> (String, String) {
    let flag = &row.flag;
    let mut left = match flag.shorthand {
        Some(letter) => format!("  -{letter}, --{}", flag.name),
        None => format!("      --{}", flag.name),
    };
    let (value_name, mut text) = unquote(&row.usage, flag.kind);
    if !value_name.is_empty() {
        left.push(' ');
        left.push_str(&value_name);
    }
    if let Kind::Custom(custom) = flag.kind
        && let Some(bare) = custom.bare
        && !(custom.type_name == "bool" && bare == "true")
    {
        // Writing to a String cannot fail.
        let _ = write!(left, "[={bare}]");
    }
    if !is_zero_default(row) {
        let shown = if flag.kind.type_name() == "string" {
            quote(flag.default)
        } else {
            flag.default.to_owned()
        };
        let _ = write!(text, " (default {shown})");
    }
    if let Some(instead) = flag.deprecated {
        let _ = write!(text, " (DEPRECATED: {instead})");
    }
    (left, text)
}

fn is_zero_default(row: &Row) -> bool {
    let default = row.flag.default;
    match row.flag.kind {
        Kind::Bool => default == "false",
        Kind::Duration => matches!(default, "0" | "0s"),
        Kind::Int | Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 | Kind::Float64 => {
            default == "0"
        }
        Kind::String => default.is_empty(),
        Kind::Ip => matches!(default, "" | "<nil>"),
        Kind::StringSlice | Kind::StringArray => matches!(default, "" | "[]"),
        Kind::MapStringString
        | Kind::MapStringStringNoSplit
        | Kind::MapStringBool
        | Kind::LangleMap
        | Kind::ColonMultimap
        | Kind::StringToString
        | Kind::Custom(_) => {
            matches!(
                Value::of_default(&row.flag).to_string().as_str(),
                "false" | "<nil>" | "" | "0"
            )
        }
    }
}

/// Takes a back-quoted name out of a help text; else names the value by its type.
fn unquote(usage: &str, kind: Kind) -> (String, String) {
    if let Some((before, rest)) = usage.split_once('`')
        && let Some((name, after)) = rest.split_once('`')
    {
        return (name.to_owned(), format!("{before}{name}{after}"));
    }
    let name = match kind.type_name() {
        "bool" => "",
        "float64" => "float",
        "int64" => "int",
        "uint64" => "uint",
        "stringSlice" => "strings",
        other => other,
    };
    (name.to_owned(), usage.to_owned())
}

/// pflag's `wrap`: `indent` is the column of the text, `width` that of the terminal.
fn wrap(indent: usize, width: usize, text: &str) -> String {
    const LEAST: usize = 24;
    const SLOP: usize = 5;
    if width == 0 {
        return text.replace('\n', &line_start(indent));
    }
    let mut indent = indent;
    let mut out = String::new();
    if width < indent + LEAST {
        // Too narrow beside the names: a block on the next line.
        indent = 16;
        out = line_start(indent);
    }
    if width < indent + LEAST {
        return text.replace('\n', &out);
    }
    let room = width - indent - SLOP;
    let mut rest = text;
    let mut first = true;
    while first || !rest.is_empty() {
        let (line, after) = wrap_line(room, SLOP, rest);
        if !first {
            out.push_str(&line_start(indent));
        }
        out.push_str(&line.replace('\n', &line_start(indent)));
        rest = after;
        first = false;
    }
    out
}

fn line_start(indent: usize) -> String {
    format!("\n{}", " ".repeat(indent))
}

/// Cuts one line off, going `slop` over when that spares a short last line.
fn wrap_line(room: usize, slop: usize, text: &str) -> (&str, &str) {
    if room + slop > text.len() {
        return (text, "");
    }
    let head = &text[..text.floor_char_boundary(room)];
    let Some(space) = head.rfind([' ', '\t', '\n']).filter(|at| *at > 0) else {
        return (text, "");
    };
    match head.rfind('\n') {
        Some(newline) if newline > 0 && newline < space => (&text[..newline], &text[newline + 1..]),
        _ => (&text[..space], &text[space + 1..]),
    }
}
