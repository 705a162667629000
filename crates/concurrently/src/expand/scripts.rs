//! Scripts named by a pattern, `npm:watch-*` (CMD-03): which scripts there are, and what a pattern stands for.
//!
//! Pure: files come through [`ReadFile`]. They are read at most once, and only when a command has a pattern.

use std::cell::OnceCell;

use regex_lite::Regex;
use serde_json::{Map, Value};

use super::Expanded;

/// Gives the text of a file of the working directory, or `None` when there is none that can be read.
pub(crate) type ReadFile<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What a script runner is called with, before the script's name.
const RUNNERS: [&str; 6] = [
    "npm run",
    "yarn run",
    "pnpm run",
    "bun run",
    "node --run",
    DENO,
];
const DENO: &str = "deno task";

/// A filter, without its brackets, that is not a regular expression.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadFilter(pub(crate) String);

/// The scripts of the working directory, in the order of their files.
pub(crate) struct Scripts<'a> {
    read: ReadFile<'a>,
    package: OnceCell<Vec<String>>,
    deno: OnceCell<Vec<String>>,
}

impl<'a> Scripts<'a> {
    pub(crate) fn new(read: ReadFile<'a>) -> Self {
        Self {
            read,
            package: OnceCell::new(),
            deno: OnceCell::new(),
        }
    }

    /// Puts one command per matching script in the place of a command whose script has a `*`; any other command
    /// stays as it is. A file that is missing or cannot be understood has no scripts.
    ///
    /// # Errors
    /// [`BadFilter`] when the part after `(!` is no regular expression.
    pub(crate) fn expand(&self, command: Expanded) -> Result<Vec<Expanded>, BadFilter> {
        let Some(call) = Call::find(&command.text) else {
            return Ok(vec![command]);
        };
        let (pattern, filter) = split_filter(call.script);
        let Some((before, after)) = pattern.split_once('*') else {
            return Ok(vec![command]);
        };
        let filter = filter
            .map(|filter| Regex::new(filter).map_err(|_| BadFilter(filter.to_owned())))
            .transpose()?;
        // A name that was given goes before the part that the pattern stood for.
        let prefix = if command.name == call.script {
            ""
        } else {
            &command.name
        };
        let scripts = self.of(call.runner).iter();
        Ok(scripts
            .filter(|script| !filter.as_ref().is_some_and(|it| it.is_match(script)))
            .filter_map(|script| {
                let matched = script.strip_prefix(before)?.strip_suffix(after)?;
                Some(Expanded {
                    name: format!("{prefix}{matched}"),
                    text: format!("{} {script}{}", call.runner, call.arguments),
                })
            })
            .collect())
    }

    fn of(&self, runner: &str) -> &[String] {
        let package = self
            .package
            .get_or_init(|| keys(self.file("package.json"), "scripts"));
        if runner != DENO {
            return package;
        }
        // Deno runs a package's script where it has no task of that name.
        self.deno.get_or_init(|| {
            let file = self.file("deno.json").or_else(|| self.file("deno.jsonc"));
            let mut tasks = keys(file, "tasks");
            tasks.extend_from_slice(package);
            tasks
        })
    }

    /// Whether any command had a pattern.
    pub(crate) fn were_asked_for(&self) -> bool {
        self.package.get().is_some()
    }

    fn file(&self, name: &str) -> Option<String> {
        (self.read)(name)
    }
}

/// A call of a script runner within a command's text.
struct Call<'t> {
    runner: &'static str,
    script: &'t str,
    /// What follows, up to the next `&`, with its blank.
    arguments: &'t str,
}

impl<'t> Call<'t> {
    /// The first one in the text.
    fn find(text: &'t str) -> Option<Self> {
        let at = |runner: &'static str| {
            text.match_indices(runner).find_map(|(start, _)| {
                let rest = text[start + runner.len()..].strip_prefix(' ')?;
                let end = rest.find(super::is_blank).unwrap_or(rest.len());
                let (script, rest) = rest.split_at(end);
                let arguments = &rest[..rest.find('&').unwrap_or(rest.len())];
                (!script.is_empty()).then_some((
                    start,
                    Self {
                        runner,
                        script,
                        arguments,
                    },
                ))
            })
        };
        RUNNERS
            .into_iter()
            .filter_map(at)
            .min_by_key(|(start, _)| *start)
            .map(|(_, call)| call)
    }
}

/// Takes `(!filter)` out of a pattern.
fn split_filter(pattern: &str) -> (String, Option<&str>) {
    let found = pattern.match_indices("(!").find_map(|(start, opening)| {
        let inner = &pattern[start + opening.len()..];
        let end = inner.find(')').filter(|&end| end > 0)?;
        let rest = &inner[end + 1..];
        Some((format!("{}{rest}", &pattern[..start]), Some(&inner[..end])))
    });
    found.unwrap_or_else(|| (pattern.to_owned(), None))
}

/// The keys of the object `member` of a JSON document; none if it is something else.
fn keys(text: Option<String>, member: &str) -> Vec<String> {
    let document = text.and_then(|text| parse(&text));
    let object = document.as_ref().and_then(|it| it.get(member)?.as_object());
    object.map_or_else(Vec::new, |object: &Map<String, Value>| {
        object.keys().cloned().collect()
    })
}

/// JSON, or JSON with comments and commas before a closing bracket.
fn parse(text: &str) -> Option<Value> {
    let plain = text.strip_prefix('\u{feff}').unwrap_or(text);
    serde_json::from_str(plain)
        .or_else(|_| serde_json::from_str(&without_comments(plain)))
        .ok()
}

/// The document without what JSON does not know. Strings stay as they are.
fn without_comments(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let length = if letter == '"' {
            let length = string_length(rest);
            kept.push_str(&rest[..length]);
            length
        } else if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else {
            if matches!(letter, ']' | '}') {
                let before = kept.trim_end();
                if let Some(before) = before.strip_suffix(',') {
                    kept.truncate(before.len());
                }
            }
            kept.push(letter);
            letter.len_utf8()
        };
        rest = &rest[length..];
    }
    kept
}

/// How long the string is that `text` starts with, its quotes included.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PACKAGE: &str = r#"{"scripts": {"watch-js": "a", "build": "b", "watch-css": "c", "watch-": "d", "lint:ts": "e"}}"#;
    const DENO_FILE: &str = r#"{
        // what runs
        "tasks": {"watch-x": "deno run \"a\" // not a comment", /* no */ "t": "b",},
    }"#;

    fn files(name: &str) -> Option<String> {
        match name {
            "package.json" => Some(PACKAGE.to_owned()),
            "deno.jsonc" => Some(DENO_FILE.to_owned()),
            _ => None,
        }
    }

    fn expanded(name: &str, text: &str) -> Vec<(String, String)> {
        let command = Expanded {
            name: name.to_owned(),
            text: text.to_owned(),
        };
        let commands = Scripts::new(&files).expand(command).expect("a good filter");
        commands
            .into_iter()
            .map(|command| (command.name, command.text))
            .collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|&(name, text)| (name.to_owned(), text.to_owned()))
            .collect()
    }

    #[test]
    fn cmd_03_a_pattern_stands_for_every_matching_script_in_file_order() {
        assert_eq!(
            expanded("watch-*", "npm run watch-*"),
            pairs(&[
                ("js", "npm run watch-js"),
                ("css", "npm run watch-css"),
                ("", "npm run watch-"),
            ])
        );
        assert_eq!(
            expanded("lint:*", "pnpm run lint:* --fix & echo x"),
            pairs(&[("ts", "pnpm run lint:ts --fix ")])
        );
        assert_eq!(
            expanded("", "cd x; node --run *ild"),
            pairs(&[("bu", "node --run build")])
        );
        assert_eq!(expanded("none-*", "yarn run none-*"), []);
    }

    #[test]
    fn cmd_03_a_name_given_comes_before_the_matched_part() {
        assert_eq!(
            expanded("w:", "npm run watch-*s"),
            pairs(&[("w:j", "npm run watch-js"), ("w:cs", "npm run watch-css")])
        );
    }

    #[test]
    fn cmd_03_a_filter_leaves_scripts_out() {
        assert_eq!(
            expanded("", "bun run watch-*(!css|-$)"),
            pairs(&[("js", "bun run watch-js")])
        );
        let bad = Expanded {
            name: String::new(),
            text: "npm run *(![)".to_owned(),
        };
        assert_eq!(
            Scripts::new(&files).expand(bad),
            Err(BadFilter("[".to_owned()))
        );
    }

    #[test]
    fn cmd_03_deno_runs_its_tasks_and_then_the_scripts_of_the_package() {
        assert_eq!(
            expanded("watch-*", "deno task watch-*"),
            pairs(&[
                ("x", "deno task watch-x"),
                ("js", "deno task watch-js"),
                ("css", "deno task watch-css"),
                ("", "deno task watch-"),
            ])
        );
    }

    #[test]
    fn cmd_03_without_a_pattern_nothing_changes_and_no_file_is_read() {
        let none = |name: &str| -> Option<String> { panic!("{name} was read") };
        for text in ["npm run build", "echo *", "npm test *", "npm run"] {
            let command = Expanded {
                name: "n".to_owned(),
                text: text.to_owned(),
            };
            assert_eq!(
                Scripts::new(&none).expand(command.clone()),
                Ok(vec![command])
            );
        }
    }

    #[test]
    fn a_file_that_is_not_understood_has_no_scripts() {
        for text in ["", "{", "[]", "{\"scripts\": 3}", "{\"scripts\": null}"] {
            assert_eq!(keys(Some(text.to_owned()), "scripts"), Vec::<String>::new());
        }
    }

    proptest! {
        #[test]
        fn comments_go_from_any_text_without_a_panic(text in r#"[ /*"\\,{}\[\]a\né]{0,40}"#) {
            without_comments(&text);
        }

        #[test]
        fn valid_json_keeps_its_meaning(words in proptest::collection::vec(r"[ -~]{0,12}", 0..5)) {
            let text = serde_json::to_string(&words).expect("strings are JSON");
            prop_assert_eq!(without_comments(&text), text);
        }
    }
}
