//! Colours: how many the terminal has, and what a name stands for (COL rows; after the packages `supports-color` 8
//! and `chalk` 4).

use std::{collections::BTreeMap, fmt::Display};

/// What the terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ColourLevel {
    None,
    Sixteen,
    TwoHundredFiftySix,
    TrueColour,
}

impl ColourLevel {
    /// As `FORCE_COLOR` counts.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Sixteen => 1,
            Self::TwoHundredFiftySix => 2,
            Self::TrueColour => 3,
        }
    }
}

/// What options and `FORCE_COLOR` say, before the terminal is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forced {
    Unset,
    Off,
    AtLeast(ColourLevel),
}

/// The level for standard output (COL-01, COL-02). `words` is the command line as it is.
pub(crate) fn detect(
    words: &[String],
    environment: &BTreeMap<String, String>,
    is_terminal: bool,
) -> ColourLevel {
    use ColourLevel::{None, Sixteen, TrueColour, TwoHundredFiftySix};

    let words = &words[..words
        .iter()
        .position(|word| word == "--")
        .unwrap_or(words.len())];
    let has = |names: &[&str]| words.iter().any(|word| names.contains(&word.as_str()));
    let get = |name: &str| environment.get(name).map(String::as_str);

    let forced = match get("FORCE_COLOR") {
        Some(value) => forced_by(value),
        Option::None
            if has(&[
                "--no-color",
                "--no-colors",
                "--color=false",
                "--color=never",
            ]) =>
        {
            Forced::Off
        }
        Option::None if has(&["--color", "--colors", "--color=true", "--color=always"]) => {
            Forced::AtLeast(Sixteen)
        }
        Option::None => Forced::Unset,
    };
    let least = match forced {
        Forced::Off => return None,
        Forced::Unset => None,
        Forced::AtLeast(level) => level,
    };
    if has(&["--color=16m", "--color=full", "--color=truecolor"]) {
        return TrueColour;
    }
    if has(&["--color=256"]) {
        return TwoHundredFiftySix;
    }
    if !is_terminal && forced == Forced::Unset {
        return None;
    }

    let term = get("TERM").unwrap_or_default();
    if term == "dumb" {
        return least;
    }
    if environment.contains_key("CI") {
        const SERVICES: [&str; 7] = [
            "TRAVIS",
            "CIRCLECI",
            "APPVEYOR",
            "GITLAB_CI",
            "GITHUB_ACTIONS",
            "BUILDKITE",
            "DRONE",
        ];
        let known = SERVICES
            .iter()
            .any(|service| environment.contains_key(*service))
            || get("CI_NAME") == Some("codeship");
        return if known { Sixteen } else { least };
    }
    if let Some(version) = get("TEAMCITY_VERSION") {
        return if is_colourful_teamcity(version) {
            Sixteen
        } else {
            None
        };
    }
    if get("COLORTERM") == Some("truecolor") {
        return TrueColour;
    }
    match get("TERM_PROGRAM") {
        Some("iTerm.app") => {
            let version = get("TERM_PROGRAM_VERSION").unwrap_or_default();
            let major = version
                .split('.')
                .next()
                .and_then(|major| major.parse::<u32>().ok());
            return if major >= Some(3) {
                TrueColour
            } else {
                TwoHundredFiftySix
            };
        }
        Some("Apple_Terminal") => return TwoHundredFiftySix,
        _ => {}
    }
    let term = term.to_ascii_lowercase();
    if term.ends_with("-256") || term.ends_with("-256color") {
        return TwoHundredFiftySix;
    }
    let starts = ["screen", "xterm", "vt100", "vt220", "rxvt"]
        .iter()
        .any(|start| term.starts_with(start));
    let contains = ["color", "ansi", "cygwin", "linux"]
        .iter()
        .any(|part| term.contains(part));
    if starts || contains || environment.contains_key("COLORTERM") {
        Sixteen
    } else {
        least
    }
}

fn forced_by(value: &str) -> Forced {
    match value {
        "" | "true" => Forced::AtLeast(ColourLevel::Sixteen),
        "false" => Forced::Off,
        // What is no number forces nothing beyond what the terminal has.
        number => match number.parse::<i64>() {
            Ok(0) => Forced::Off,
            Ok(1) => Forced::AtLeast(ColourLevel::Sixteen),
            Ok(2) => Forced::AtLeast(ColourLevel::TwoHundredFiftySix),
            Ok(3..) => Forced::AtLeast(ColourLevel::TrueColour),
            Ok(_) | Err(_) => Forced::AtLeast(ColourLevel::None),
        },
    }
}

/// 9.1 or newer.
fn is_colourful_teamcity(version: &str) -> bool {
    let mut parts = version.split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(9)), Some(Ok(minor))) => minor >= 1,
        (Some(Ok(major)), Some(_)) => major >= 10,
        _ => false,
    }
}

/// Escape sequences around a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Paint {
    open: String,
    close: String,
}

impl Paint {
    /// What `red`, `bgBlue.bold` or `#23de43` stand for; `reset` for anything unknown (COL-04).
    pub(crate) fn parse(name: &str, level: ColourLevel) -> Self {
        if level == ColourLevel::None {
            return Self::default();
        }
        if name.starts_with('#') {
            let open = hex_code(hex_digits(name), level);
            return Self {
                open: sequence(open),
                close: sequence(39),
            };
        }
        let codes: Option<Vec<(u8, u8)>> = name.split('.').map(word_codes).collect();
        let codes = codes.unwrap_or_else(|| vec![(0, 0)]);
        // Closed in the reverse order.
        Self {
            open: codes.iter().map(|(open, _)| sequence(open)).collect(),
            close: codes
                .iter()
                .rev()
                .map(|(_, close)| sequence(close))
                .collect(),
        }
    }

    /// The text in this colour, each of its lines by itself.
    pub(crate) fn apply(&self, text: &str) -> String {
        if text.is_empty() || self.open.is_empty() {
            return text.to_owned();
        }
        let between = format!("{}\n{}", self.close, self.open);
        format!(
            "{}{}{}",
            self.open,
            text.replace('\n', &between),
            self.close
        )
    }
}

fn sequence(code: impl Display) -> String {
    format!("\x1b[{code}m")
}

/// SGR codes that begin and end one word of a style.
fn word_codes(word: &str) -> Option<(u8, u8)> {
    let modifier = match word {
        "reset" => Some((0, 0)),
        "bold" => Some((1, 22)),
        "dim" => Some((2, 22)),
        "italic" => Some((3, 23)),
        "underline" => Some((4, 24)),
        "inverse" => Some((7, 27)),
        "hidden" => Some((8, 28)),
        "strikethrough" => Some((9, 29)),
        _ => None,
    };
    if modifier.is_some() {
        return modifier;
    }
    if let Some(code) = colour_code(word) {
        return Some((code, 39));
    }
    let background = word.strip_prefix("bg")?;
    let mut letters = background.chars();
    let first = letters
        .next()
        .filter(char::is_ascii_uppercase)?
        .to_ascii_lowercase();
    Some((
        colour_code(&format!("{first}{}", letters.as_str()))? + 10,
        49,
    ))
}

fn colour_code(word: &str) -> Option<u8> {
    const COLOURS: [&str; 8] = [
        "black", "red", "green", "yellow", "blue", "magenta", "cyan", "white",
    ];
    if matches!(word, "gray" | "grey") {
        return Some(90);
    }
    let (word, base) = match word.strip_suffix("Bright") {
        Some(plain) => (plain, 90),
        None => (word, 30),
    };
    let position = COLOURS.iter().position(|colour| *colour == word)?;
    Some(base + u8::try_from(position).ok()?)
}

/// The first six, else three, hexadecimal digits in a row; black if there are none.
fn hex_digits(name: &str) -> [u8; 3] {
    let digits: Vec<u8> = name
        .split(|letter: char| !letter.is_ascii_hexdigit())
        .find(|run| run.len() >= 3)
        .unwrap_or("000")
        .chars()
        .filter_map(|digit| Some(u8::try_from(digit.to_digit(16)?).unwrap_or(0)))
        .collect();
    if digits.len() >= 6 {
        [0, 2, 4].map(|at| digits[at] * 16 + digits[at + 1])
    } else {
        [0, 1, 2].map(|at| digits[at] * 17)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounded shares of 255 are small and positive"
)]
fn hex_code([red, green, blue]: [u8; 3], level: ColourLevel) -> String {
    let share = |value: u8, steps: f64| (f64::from(value) / 255.0 * steps).round() as u32;
    match level {
        ColourLevel::TrueColour => format!("38;2;{red};{green};{blue}"),
        ColourLevel::TwoHundredFiftySix => {
            let code = if red >> 4 == green >> 4 && green >> 4 == blue >> 4 {
                match red {
                    0..8 => 16,
                    249.. => 231,
                    _ => 232 + (f64::from(red - 8) / 247.0 * 24.0).round() as u32,
                }
            } else {
                16 + 36 * share(red, 5.0) + 6 * share(green, 5.0) + share(blue, 5.0)
            };
            format!("38;5;{code}")
        }
        ColourLevel::Sixteen | ColourLevel::None => {
            // Brightness in percent decides between off, normal and bright.
            let brightest = red.max(green).max(blue);
            let brightness = (f64::from(brightest) / 255.0 * 100.0 / 50.0).round() as u32;
            let code = match brightness {
                0 => 30,
                _ => 30 + (share(blue, 1.0) << 2 | share(green, 1.0) << 1 | share(red, 1.0)),
            };
            (if brightness == 2 { code + 60 } else { code }).to_string()
        }
    }
}

/// Colours that `auto` picks from.
const AUTO: [&str; 16] = [
    "cyan",
    "yellow",
    "greenBright",
    "blueBright",
    "magentaBright",
    "white",
    "grey",
    "red",
    "bgCyan",
    "bgYellow",
    "bgGreenBright",
    "bgBlueBright",
    "bgMagenta",
    "bgWhiteBright",
    "bgGrey",
    "bgRed",
];

/// A colour for each of `count` commands (COL-05).
pub(crate) fn select(given: &[&str], count: usize) -> Vec<String> {
    let mut auto = AUTO
        .into_iter()
        .filter(|colour| !given.contains(&colour.strip_suffix("Bright").unwrap_or(colour)))
        .chain(AUTO.into_iter().cycle());
    let mut selected: Vec<&str> = Vec::with_capacity(count);
    for &colour in given.iter().take(count) {
        if colour == "auto" {
            let last = selected.last().copied();
            selected.extend(auto.find(|next| Some(*next) != last));
        } else {
            selected.push(colour);
        }
    }
    let last = given.last().copied().unwrap_or_default();
    while selected.len() < count {
        if last == "auto" {
            selected.extend(auto.next());
        } else {
            selected.push(last);
        }
    }
    selected.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(words: &[&str], environment: &[(&str, &str)], is_terminal: bool) -> u8 {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let environment = environment
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        detect(&words, &environment, is_terminal).number()
    }

    #[test]
    fn the_terminal_decides_unless_forced() {
        let xterm = ("TERM", "xterm");
        assert_eq!(level(&[], &[xterm], false), 0);
        assert_eq!(level(&[], &[xterm], true), 1);
        assert_eq!(level(&[], &[("TERM", "xterm-256color")], true), 2);
        assert_eq!(level(&[], &[xterm, ("COLORTERM", "truecolor")], true), 3);
        assert_eq!(level(&[], &[("TERM", "dumb")], true), 0);
        assert_eq!(level(&[], &[("TERM", "unknown")], true), 0);
        assert_eq!(level(&[], &[xterm, ("CI", "1")], true), 0);
        assert_eq!(level(&[], &[xterm, ("CI", "1"), ("TRAVIS", "1")], true), 1);
        assert_eq!(level(&[], &[("TEAMCITY_VERSION", "9.1.2")], true), 1);
        assert_eq!(level(&[], &[("TEAMCITY_VERSION", "9.0.2")], true), 0);
        assert_eq!(
            level(
                &[],
                &[
                    ("TERM_PROGRAM", "iTerm.app"),
                    ("TERM_PROGRAM_VERSION", "3.1")
                ],
                true
            ),
            3
        );
        assert_eq!(level(&[], &[("TERM_PROGRAM", "iTerm.app")], true), 2);
    }

    #[test]
    fn options_and_force_color_switch_on_and_off() {
        let xterm = ("TERM", "xterm");
        assert_eq!(level(&["--no-color"], &[xterm], true), 0);
        assert_eq!(level(&["--", "--no-color"], &[xterm], true), 1);
        assert_eq!(level(&["--color"], &[], false), 1);
        assert_eq!(level(&["--color=256"], &[], false), 2);
        assert_eq!(level(&["--color=16m"], &[], false), 3);
        assert_eq!(level(&["--color"], &[("FORCE_COLOR", "0")], true), 0);
        assert_eq!(level(&["--no-color"], &[("FORCE_COLOR", "")], false), 1);
        // COL-03: the level follows the terminal.
        assert_eq!(level(&[], &[xterm, ("FORCE_COLOR", "3")], false), 1);
        assert_eq!(level(&[], &[("FORCE_COLOR", "9")], false), 3);
        assert_eq!(level(&[], &[xterm, ("FORCE_COLOR", "yes")], false), 1);
    }

    #[test]
    fn names_become_sequences() {
        for (name, wanted) in [
            ("red", "\x1b[31mx\x1b[39m"),
            ("bgBlue.bold", "\x1b[44m\x1b[1mx\x1b[22m\x1b[49m"),
            ("grey", "\x1b[90mx\x1b[39m"),
            ("cyanBright", "\x1b[96mx\x1b[39m"),
            ("bgGreenBright", "\x1b[102mx\x1b[49m"),
            ("bgGrey", "\x1b[100mx\x1b[49m"),
            ("reset", "\x1b[0mx\x1b[0m"),
            ("nonsense", "\x1b[0mx\x1b[0m"),
            ("red.nonsense", "\x1b[0mx\x1b[0m"),
            ("", "\x1b[0mx\x1b[0m"),
        ] {
            assert_eq!(
                Paint::parse(name, ColourLevel::Sixteen).apply("x"),
                wanted,
                "{name}"
            );
        }
        assert_eq!(Paint::parse("red", ColourLevel::None).apply("x"), "x");
        assert_eq!(Paint::parse("red", ColourLevel::Sixteen).apply(""), "");
    }

    #[test]
    fn hex_colours_degrade_with_the_level() {
        for (hex, level, wanted) in [
            ("#ff8800", ColourLevel::TrueColour, "38;2;255;136;0"),
            ("#ff8800", ColourLevel::TwoHundredFiftySix, "38;5;214"),
            ("#ff8800", ColourLevel::Sixteen, "93"),
            ("#f80", ColourLevel::TrueColour, "38;2;255;136;0"),
            ("#808080", ColourLevel::TwoHundredFiftySix, "38;5;244"),
            ("#000000", ColourLevel::Sixteen, "30"),
            ("#zz", ColourLevel::TrueColour, "38;2;0;0;0"),
        ] {
            assert_eq!(hex_code(hex_digits(hex), level), wanted, "{hex} {level:?}");
        }
    }

    #[test]
    fn the_last_colour_repeats() {
        assert_eq!(select(&["red", "blue"], 4), ["red", "blue", "blue", "blue"]);
        assert_eq!(select(&["red", "blue"], 1), ["red"]);
    }

    #[test]
    fn auto_avoids_the_named_and_its_predecessor() {
        assert_eq!(select(&["auto"], 3), ["cyan", "yellow", "greenBright"]);
        assert_eq!(
            select(&["cyan", "auto", "blue", "auto"], 5),
            ["cyan", "yellow", "blue", "greenBright", "magentaBright"]
        );
        let many = select(&["auto"], 40);
        assert_eq!(many[16], "cyan");
        assert!(many.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
