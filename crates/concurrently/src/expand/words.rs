//! Reads a command's text as a shell would, as long as that needs no shell (INI-15, DEC-32).
//!
//! Anything that a shell would treat in a special way makes the answer [`Words::Shell`]; there is no attempt to be
//! clever. The unquoted rest is blanks, words, quotes and backslashes, which mean the same to every `sh`.

/// How a text can be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Words {
    /// A program and its arguments.
    Program(Vec<String>),
    /// The same, but a shell does the first word itself (`exit`, `echo`); without a shell a program may.
    Builtin(Vec<String>),
    /// Needs a shell.
    Shell,
}

/// First words that a shell does itself and where a program of that name is missing or differs. Reserved words are
/// here too: `time` and `if` are no programs to a shell.
const BUILTINS: &[&str] = &[
    "!", ".", ":", "[", "[[", "alias", "bg", "break", "builtin", "case", "cd", "chdir", "command",
    "continue", "coproc", "declare", "do", "done", "echo", "elif", "else", "esac", "eval", "exec",
    "exit", "export", "fc", "fg", "fi", "for", "function", "getopts", "hash", "if", "in", "jobs",
    "kill", "let", "local", "printf", "pwd", "read", "readonly", "return", "select", "set",
    "shift", "source", "test", "then", "time", "times", "trap", "type", "typeset", "ulimit",
    "umask", "unalias", "unset", "until", "wait", "while",
];

/// Splits `text` into words, or says that it takes a shell.
pub(crate) fn split(text: &str) -> Words {
    let Some(words) = split_simple(text) else {
        return Words::Shell;
    };
    match words.first() {
        None => Words::Shell,
        Some(first) if BUILTINS.contains(&first.as_str()) => Words::Builtin(words),
        Some(_) => Words::Program(words),
    }
}

fn split_simple(text: &str) -> Option<Vec<String>> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\t' => words.extend(word.take()),
            '\\' => match letters.next() {
                None | Some('\n') => return None,
                Some(escaped) => word.get_or_insert_default().push(escaped),
            },
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next()? {
                        '\'' => break,
                        quoted => word.push(quoted),
                    }
                }
            }
            '"' => read_double_quoted(&mut letters, word.get_or_insert_default())?,
            '\n' | '\r' | '\0' | '$' | '`' | ';' | '&' | '|' | '<' | '>' | '(' | ')' | '*'
            | '?' | '[' | '{' | '}' => {
                return None;
            }
            '~' | '#' if word.is_none() => return None,
            // An assignment, or something that looks like one.
            '=' if words.is_empty() => return None,
            plain => word.get_or_insert_default().push(plain),
        }
    }
    words.extend(word);
    Some(words)
}

/// The rest of a double-quoted part, its opening quote already read.
fn read_double_quoted(letters: &mut std::str::Chars<'_>, word: &mut String) -> Option<()> {
    loop {
        match letters.next()? {
            '"' => return Some(()),
            '$' | '`' => return None,
            '\\' => match letters.next()? {
                '\n' => return None,
                escaped @ ('"' | '\\' | '$' | '`') => word.push(escaped),
                other => {
                    word.push('\\');
                    word.push(other);
                }
            },
            quoted => word.push(quoted),
        }
    }
}
