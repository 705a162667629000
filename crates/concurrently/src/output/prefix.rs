//! What stands before each line (OUT-02, OUT-13, OUT-14).

use jiff::Zoned;

use super::timestamp::TimestampFormat;

/// What a prefix can tell about a command.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    index: String,
    name: String,
    /// Shortened.
    command: String,
    /// None before the first start.
    pub(crate) pid: Option<i32>,
}

impl Facts {
    pub(crate) fn new(index: usize, name: &str, command: &str, limit: usize) -> Self {
        Self {
            index: index.to_string(),
            name: name.to_owned(),
            command: shorten(command, limit),
            pid: None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fact {
    Pid,
    Index,
    Name,
    Command,
    Time,
}

/// In the order in which upstream fills them into a template.
const FACTS: [(&str, Fact); 5] = [
    ("pid", Fact::Pid),
    ("index", Fact::Index),
    ("name", Fact::Name),
    ("command", Fact::Command),
    ("time", Fact::Time),
];

#[derive(Debug)]
enum Style {
    /// The name if there is one, else the index, in brackets.
    NameOrIndex,
    One(Fact),
    Template(String),
    None,
}

/// The option `--prefix` with the format for its times.
#[derive(Debug)]
pub(crate) struct PrefixKind {
    style: Style,
    format: TimestampFormat,
}

impl PrefixKind {
    pub(crate) fn new(option: Option<&str>, format: TimestampFormat) -> Self {
        let style = match option {
            None => Style::NameOrIndex,
            Some("none") => Style::None,
            Some(text) => match FACTS.iter().find(|(name, _)| *name == text) {
                Some(&(_, fact)) => Style::One(fact),
                None => Style::Template(text.to_owned()),
            },
        };
        Self { style, format }
    }

    /// The prefix, padded to `width` characters within its brackets; empty if there is none. `clock` is asked only
    /// if the time is shown.
    pub(crate) fn text(&self, facts: &Facts, width: usize, clock: impl Fn() -> Zoned) -> String {
        match self.content(facts, &clock) {
            Content::Bracketed(text) => format!("[{text:<width$}]"),
            Content::Plain(text) => format!("{text:<width$}"),
            Content::Nothing => String::new(),
        }
    }

    /// How many characters the prefix has by itself.
    pub(crate) fn width(&self, facts: &Facts) -> usize {
        match self.content(facts, &Zoned::now) {
            Content::Bracketed(text) | Content::Plain(text) => text.chars().count(),
            Content::Nothing => 0,
        }
    }

    fn content(&self, facts: &Facts, clock: &impl Fn() -> Zoned) -> Content {
        match &self.style {
            Style::None => Content::Nothing,
            Style::NameOrIndex if facts.name.is_empty() => Content::Bracketed(facts.index.clone()),
            Style::NameOrIndex => Content::Bracketed(facts.name.clone()),
            Style::One(fact) => Content::Bracketed(self.value(*fact, facts, clock)),
            Style::Template(template) => {
                let mut text = template.clone();
                for (name, fact) in FACTS {
                    let token = format!("{{{name}}}");
                    if text.contains(&token) {
                        text = text.replace(&token, &self.value(fact, facts, clock));
                    }
                }
                Content::Plain(text)
            }
        }
    }

    fn value(&self, fact: Fact, facts: &Facts, clock: &impl Fn() -> Zoned) -> String {
        match fact {
            Fact::Pid => facts.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            Fact::Index => facts.index.clone(),
            Fact::Name => facts.name.clone(),
            Fact::Command => facts.command.clone(),
            Fact::Time => self.format.format(&clock()),
        }
    }
}

enum Content {
    Bracketed(String),
    Plain(String),
    Nothing,
}

/// Beginning and end with two dots between, if longer than `limit`.
fn shorten(text: &str, limit: usize) -> String {
    let letters: Vec<char> = text.chars().collect();
    if letters.len() <= limit {
        return text.to_owned();
    }
    let kept = limit.saturating_sub(2);
    let tail = kept / 2;
    let head = kept - tail;
    let mut short: String = letters[..head].iter().collect();
    short.push_str("..");
    short.extend(&letters[letters.len() - tail..]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> Zoned {
        "2026-01-02T03:04:05.678[UTC]".parse().unwrap()
    }

    fn text(option: Option<&str>, facts: &Facts, width: usize) -> String {
        PrefixKind::new(option, TimestampFormat::default()).text(facts, width, clock)
    }

    #[test]
    fn each_kind_shows_its_fact() {
        let mut facts = Facts::new(3, "api", "echo abcdefghijk", 10);
        assert_eq!(text(None, &facts, 0), "[api]");
        assert_eq!(text(Some("index"), &facts, 0), "[3]");
        assert_eq!(text(Some("pid"), &facts, 0), "[]");
        facts.pid = Some(42);
        assert_eq!(text(Some("pid"), &facts, 0), "[42]");
        assert_eq!(text(Some("command"), &facts, 0), "[echo..hijk]");
        assert_eq!(text(Some("time"), &facts, 0), "[2026-01-02 03:04:05.678]");
        assert_eq!(text(Some("none"), &facts, 0), "");
        assert_eq!(
            text(Some("{index}-{pid} {name} {x}"), &facts, 0),
            "3-42 api {x}"
        );
        assert_eq!(text(None, &Facts::new(3, "", "x", 10), 0), "[3]");
    }

    #[test]
    fn padding_is_within_the_brackets() {
        let facts = Facts::new(0, "a", "x", 10);
        assert_eq!(text(None, &facts, 3), "[a  ]");
        assert_eq!(text(Some("{name}"), &facts, 3), "a  ");
    }

    #[test]
    fn commands_are_shortened_in_the_middle() {
        for (limit, wanted) in [
            (6, "ec..jk"),
            (7, "ech..jk"),
            (2, ".."),
            (1, ".."),
            (16, "echo abcdefghijk"),
        ] {
            assert_eq!(shorten("echo abcdefghijk", limit), wanted, "{limit}");
        }
    }
}
