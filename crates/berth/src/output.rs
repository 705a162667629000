//! Writing to people. A reader that went away is nobody's failure.

use std::io::{self, Write};

/// A message in a table is cut to so many characters.
const BRIEF_CHARS: usize = 100;

/// Writes a line to stdout.
pub(crate) fn line(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// Writes text to stdout as it is.
pub(crate) fn text(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes a line to stderr.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", text.trim_end());
}

/// A message on one line, and not too long for a table.
pub(crate) fn brief(message: &str) -> String {
    let message: String = message.split_whitespace().collect::<Vec<_>>().join(" ");
    if message.chars().count() > BRIEF_CHARS {
        let short: String = message.chars().take(BRIEF_CHARS).collect();
        format!("{short}...")
    } else {
        message
    }
}

/// Rows as columns with two blanks between them; the last column is not padded.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (index, cell) in row.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(index) {
                Some(known) => *known = width.max(*known),
                None => widths.push(width),
            }
        }
    }
    let mut out = String::new();
    for row in rows {
        let padded = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        out.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a", "bb", "c"], ["aaa", "b", ""]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(columns(&rows), "a    bb  c\naaa  b\n");
    }
}
