//! Quoting as Go's `strconv.Quote`, which klog, logrus and pflag use.

use std::fmt::Write as _;

/// Appends `text` in double quotes, with what Go would not print escaped.
pub(crate) fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        push_escaped(c, '"', out);
    }
    out.push('"');
}

/// Appends a character as it stands between two of `delimiter`.
pub(crate) fn push_escaped(c: char, delimiter: char, out: &mut String) {
    match c {
        '\\' => out.push_str("\\\\"),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        c if c == delimiter => {
            out.push('\\');
            out.push(c);
        }
        c if printable(c) => out.push(c),
        // Writing to a string cannot fail.
        c if c < '\u{80}' => {
            let _ = write!(out, "\\x{:02x}", u32::from(c));
        }
        c if c < '\u{10000}' => {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        }
        c => {
            let _ = write!(out, "\\U{:08x}", u32::from(c));
        }
    }
}

/// Close to Go's `unicode.IsPrint` where it matters for a terminal: no controls, no spaces but the
/// ASCII one, nothing that is invisible or changes the direction of text, no private use.
fn printable(c: char) -> bool {
    !c.is_control()
        && (c == ' ' || !c.is_whitespace())
        && !matches!(c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{e000}'..='\u{f8ff}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}' | '\u{f0000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_should_not_see_is_escaped_as_go_does() {
        for (text, expected) in [
            ("plain", r#""plain""#),
            ("a \"b\" \\", r#""a \"b\" \\""#),
            ("\n\t\r\x07\x1b\x7f", r#""\n\t\r\a\x1b\x7f""#),
            ("grüße 😀", "\"grüße 😀\""),
            ("\u{202e}\u{a0}\u{feff}", r#""\u202e\u00a0\ufeff""#),
        ] {
            let mut out = String::new();
            quote(text, &mut out);
            assert_eq!(out, expected);
        }
    }
}
