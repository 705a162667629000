//! From a word of the command line to the text of a command: quotes, shortcuts, placeholders (CMD-01..04).
//!
//! Pure. The inverse, from a text to words without a shell, is [`words`].

pub(crate) mod scripts;
pub(crate) mod words;

use scripts::{BadFilter, Scripts};

/// A command after expansion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expanded {
    /// The name given, else the script of a shortcut, else empty.
    pub(crate) name: String,
    /// What is run and shown.
    pub(crate) text: String,
}

/// Takes one pair of quotes off a text that is wholly within it (CMD-01). As upstream it does not ask whether the
/// two belong together; a text with a line break is left alone.
pub(crate) fn strip_quotes(text: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = text
            .strip_prefix(quote)
            .and_then(|rest| rest.strip_suffix(quote))
            && !inner.is_empty()
            && !inner.contains(['\n', '\r', '\u{2028}', '\u{2029}'])
        {
            return inner;
        }
    }
    text
}

/// What `npm:build` and the like stand for (CMD-02): the command's text and the script as its default name.
pub(crate) fn expand_shortcut(text: &str) -> Option<(String, &str)> {
    let (tool, rest) = text.split_once(':')?;
    let runner = match tool {
        "npm" | "yarn" | "pnpm" | "bun" => format!("{tool} run"),
        "node" => "node --run".to_owned(),
        "deno" => "deno task".to_owned(),
        _ => return None,
    };
    let script = &rest[..rest.find(is_blank).unwrap_or(rest.len())];
    if script.is_empty() {
        None
    } else {
        Some((format!("{runner} {rest}"), script))
    }
}

/// Puts values in the place of `{1}`, `{@}` and `{*}` (PAS-01..05). A backslash before a placeholder keeps it as it
/// is and goes away itself.
pub(crate) fn expand_placeholders(text: &str, values: &[String]) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(token) = rest.strip_prefix('\\').and_then(placeholder_at_start) {
            expanded.push_str(token);
            rest = &rest[1 + token.len()..];
        } else if let Some(token) = placeholder_at_start(rest) {
            expanded.push_str(&value_of(&token[1..token.len() - 1], values));
            rest = &rest[token.len()..];
        } else {
            expanded.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    expanded
}

/// The placeholder that `text` starts with, braces included.
fn placeholder_at_start(text: &str) -> Option<&str> {
    let inner = &text.strip_prefix('{')?[..text.find('}')?.checked_sub(1)?];
    let is_number = inner.starts_with(|first: char| matches!(first, '1'..='9'))
        && inner.bytes().all(|byte| byte.is_ascii_digit());
    (inner == "@" || inner == "*" || is_number).then(|| &text[..inner.len() + 2])
}

fn value_of(target: &str, values: &[String]) -> String {
    if values.is_empty() {
        return String::new();
    }
    match target {
        "@" => values
            .iter()
            .map(|value| quote(value))
            .collect::<Vec<_>>()
            .join(" "),
        "*" => quote(&values.join(" ")),
        // A number too large to be read is missing like any other.
        number => number
            .parse::<usize>()
            .ok()
            .and_then(|number| values.get(number - 1))
            .map_or_else(String::new, |value| quote(value)),
    }
}

/// One word quoted so that a shell gives it back (PAS-06, after the `shell-quote` package).
///
/// Differs: within double quotes `!` is left alone (a shell that is not interactive would keep the backslash), and a
/// leading `~` gets one (it would become a home directory). Upstream gives another word back in these two cases.
pub(crate) fn quote(word: &str) -> String {
    if word.is_empty() {
        return "''".to_owned();
    }
    let has_blank = word.contains(is_blank);
    let has_single = word.contains('\'');
    if !has_single && (has_blank || word.contains(['"', '\\'])) {
        return format!("'{word}'");
    }
    let mut quoted = String::with_capacity(word.len() + 8);
    if has_blank || has_single || word.contains('"') {
        quoted.push('"');
        for letter in word.chars() {
            if matches!(letter, '"' | '\\' | '$' | '`') {
                quoted.push('\\');
            }
            quoted.push(letter);
        }
        quoted.push('"');
        return quoted;
    }
    let mut letters = word.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        // A drive letter directly before a special character stays whole.
        let drive = letter.is_ascii_alphabetic()
            && word[at + 1..].starts_with(':')
            && word[at + 2..].starts_with(is_special);
        if drive {
            quoted.push(letter);
            quoted.push(':');
            letters.next();
        } else {
            if is_special(letter) || (at == 0 && letter == '~') {
                quoted.push('\\');
            }
            quoted.push(letter);
        }
    }
    quoted
}

fn is_special(letter: char) -> bool {
    matches!(
        letter,
        '#' | '!'
            | '"'
            | '$'
            | '&'
            | '\''
            | '('
            | ')'
            | '*'
            | ','
            | ':'
            | ';'
            | '<'
            | '='
            | '>'
            | '?'
            | '@'
            | '['
            | '\\'
            | ']'
            | '^'
            | '`'
            | '{'
            | '|'
            | '}'
    )
}

/// White space as a JavaScript regular expression means it.
fn is_blank(letter: char) -> bool {
    letter == '\u{feff}' || (letter.is_whitespace() && letter != '\u{85}')
}

/// All steps in upstream's order for one command; a pattern of scripts may give many commands or none. `values` is
/// `None` without `-P`: placeholders then stay.
///
/// # Errors
/// [`BadFilter`] for a pattern whose filter is not a regular expression.
pub(crate) fn expand(
    name: &str,
    text: &str,
    values: Option<&[String]>,
    scripts: &Scripts<'_>,
) -> Result<Vec<Expanded>, BadFilter> {
    let text = strip_quotes(text);
    let (text, name) = match expand_shortcut(text) {
        Some((expanded, script)) => {
            let name = if name.is_empty() { script } else { name };
            (expanded, name.to_owned())
        }
        None => (text.to_owned(), name.to_owned()),
    };
    let mut commands = scripts.expand(Expanded { name, text })?;
    if let Some(values) = values {
        for command in &mut commands {
            command.text = expand_placeholders(&command.text, values);
        }
    }
    Ok(commands)
}

#[cfg(test)]
mod tests;
