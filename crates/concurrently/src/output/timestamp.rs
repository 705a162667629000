//! Times in Unicode date patterns, English, local time (OPT-19, OUT-12).

use jiff::{
    Zoned,
    civil::{Date, Weekday},
    tz::TimeZone,
};

/// A pattern, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TimestampFormat {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Token(char, usize),
}

/// A run of letters that means nothing. The words are upstream's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadToken {
    #[error("Formatting token \"{0}\" is invalid")]
    Invalid(char),
    #[error("Formatting token \"{0}\" is unsupported")]
    Unsupported(String),
}

impl Default for TimestampFormat {
    fn default() -> Self {
        let mut parts = Vec::new();
        for (letter, count, then) in [
            ('y', 4, "-"),
            ('M', 2, "-"),
            ('d', 2, " "),
            ('H', 2, ":"),
            ('m', 2, ":"),
            ('s', 2, "."),
        ] {
            parts.extend([Part::Token(letter, count), Part::Text(then.to_owned())]);
        }
        parts.push(Part::Token('S', 3));
        Self { parts }
    }
}

impl TimestampFormat {
    pub(crate) fn compile(pattern: &str) -> Result<Self, BadToken> {
        let mut parts = Vec::new();
        let mut letters = pattern.chars().peekable();
        while let Some(letter) = letters.next() {
            if letter == '\'' {
                let mut text = String::new();
                while let Some(quoted) = letters.next() {
                    // Two quotes stand for one.
                    if quoted == '\'' && letters.next_if_eq(&'\'').is_none() {
                        break;
                    }
                    text.push(quoted);
                }
                parts.push(Part::Text(if text.is_empty() {
                    "'".to_owned()
                } else {
                    text
                }));
            } else if letter.is_ascii_alphabetic() {
                let mut count = 1;
                while letters.next_if_eq(&letter).is_some() {
                    count += 1;
                }
                let counts = supported_counts(letter).ok_or(BadToken::Invalid(letter))?;
                if !counts.contains(&count) {
                    return Err(BadToken::Unsupported(letter.to_string().repeat(count)));
                }
                parts.push(Part::Token(letter, count));
            } else {
                parts.push(Part::Text(letter.to_string()));
            }
        }
        Ok(Self { parts })
    }

    pub(crate) fn format(&self, at: &Zoned) -> String {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.clone(),
                Part::Token(letter, count) => token(*letter, *count, at),
            })
            .collect()
    }
}

/// How often a letter may stand in a row; `None` for letters that upstream does not know.
fn supported_counts(letter: char) -> Option<&'static [usize]> {
    Some(match letter {
        'G' | 'y' | 'Y' | 'M' | 'L' => &[1, 2, 3, 4, 5],
        'U' | 'r' | 'l' | 'W' | 'F' => &[1],
        'Q' | 'q' => &[1, 2, 5],
        'w' | 'd' | 'h' | 'H' | 'K' | 'k' | 'm' | 's' => &[1, 2],
        'D' | 'a' | 'S' => &[1, 2, 3],
        'E' | 'B' | 'z' => &[1, 2, 3, 4],
        'e' => &[3, 4],
        'Z' => &[4],
        'O' | 'v' => &[1, 4],
        'u' | 'g' | 'c' | 'b' | 'j' | 'J' | 'C' | 'A' | 'V' | 'X' | 'x' => &[],
        _ => return None,
    })
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

fn token(letter: char, count: usize, at: &Zoned) -> String {
    let date = at.date();
    match letter {
        'G' => ["AD", "AD", "AD", "Anno Domini", "A"][count - 1].to_owned(),
        'y' => year(date.year().into(), count),
        'Y' => year(week_year(date), count),
        'U' | 'r' => date.year().to_string(),
        'Q' | 'q' => {
            let quarter = (date.month() - 1) / 3 + 1;
            padded(quarter.into(), if count == 2 { 2 } else { 1 })
        }
        'M' | 'L' => {
            let name = usize::try_from(date.month() - 1).map_or("", |month| MONTHS[month]);
            match count {
                3 => name[..3].to_owned(),
                4 => name.to_owned(),
                5 => name[..1].to_owned(),
                _ => padded(date.month().into(), count),
            }
        }
        'w' => padded(week_of(date, week_year(date)), count),
        'W' => {
            let first = week_start(date.first_of_month());
            ((days_between(first, date)) / 7 + 1).to_string()
        }
        'd' => padded(date.day().into(), count),
        'D' => padded(date.day_of_year().into(), count),
        'F' => ((date.day() + 6) / 7).to_string(),
        'E' | 'e' => {
            let name = weekday_name(date.weekday());
            if count == 4 {
                name.to_owned()
            } else {
                name[..3].to_owned()
            }
        }
        'a' => if at.hour() < 12 { "AM" } else { "PM" }.to_owned(),
        'B' => day_period(at.hour()).to_owned(),
        'h' => padded(i64::from((at.hour() + 11) % 12) + 1, count),
        'H' => padded(at.hour().into(), count),
        'K' => padded((at.hour() % 12).into(), count),
        'k' => padded(i64::from((at.hour() + 23) % 24) + 1, count),
        'm' => padded(at.minute().into(), count),
        's' => padded(at.second().into(), count),
        'S' => padded(i64::from(at.millisecond()) / [100, 10, 1][count - 1], count),
        'z' => at
            .time_zone()
            .to_offset_info(at.timestamp())
            .abbreviation()
            .to_owned(),
        'Z' => offset(at, true),
        'O' | 'v' => offset(at, count == 4),
        // `l`, which stands for nothing.
        _ => String::new(),
    }
}

fn padded(number: i64, width: usize) -> String {
    format!("{number:0width$}")
}

fn year(year: i64, count: usize) -> String {
    if count == 2 {
        padded(year.rem_euclid(100), 2)
    } else {
        padded(year, count)
    }
}

/// Weeks as in the United States: they begin on Sunday, and the first has January 1.
fn week_start(date: Date) -> Date {
    let days = i64::from(date.weekday().to_sunday_zero_offset());
    date.saturating_sub(jiff::Span::new().days(days))
}

fn week_year(date: Date) -> i64 {
    let year = date.year();
    let next = Date::new(year + 1, 1, 1).map(week_start);
    if next.is_ok_and(|next| date >= next) {
        i64::from(year) + 1
    } else {
        year.into()
    }
}

fn week_of(date: Date, week_year: i64) -> i64 {
    let first = i16::try_from(week_year)
        .ok()
        .and_then(|year| Date::new(year, 1, 1).ok());
    first.map_or(0, |first| days_between(week_start(first), date) / 7 + 1)
}

fn days_between(from: Date, to: Date) -> i64 {
    (to - from).get_days().into()
}

fn weekday_name(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "Monday",
        Weekday::Tuesday => "Tuesday",
        Weekday::Wednesday => "Wednesday",
        Weekday::Thursday => "Thursday",
        Weekday::Friday => "Friday",
        Weekday::Saturday => "Saturday",
        Weekday::Sunday => "Sunday",
    }
}

fn day_period(hour: i8) -> &'static str {
    match hour {
        6..12 => "in the morning",
        12 => "noon",
        13..18 => "in the afternoon",
        18..21 => "in the evening",
        _ => "at night",
    }
}

/// `GMT+2`, or `GMT+02:00` if long.
fn offset(at: &Zoned, long: bool) -> String {
    let seconds = at.offset().seconds();
    if seconds == 0 || *at.time_zone() == TimeZone::UTC {
        return "GMT".to_owned();
    }
    let sign = if seconds < 0 { '-' } else { '+' };
    let (hours, minutes) = (seconds.abs() / 3600, seconds.abs() / 60 % 60);
    match (long, minutes) {
        (true, _) => format!("GMT{sign}{hours:02}:{minutes:02}"),
        (false, 0) => format!("GMT{sign}{hours}"),
        (false, _) => format!("GMT{sign}{hours}:{minutes:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(pattern: &str, at: &str) -> String {
        TimestampFormat::compile(pattern)
            .unwrap()
            .format(&at.parse().unwrap())
    }

    const AT: &str = "2026-03-05T00:07:09.042[UTC]";

    #[test]
    fn the_default_is_the_pattern_that_the_help_names() {
        let named = TimestampFormat::compile("yyyy-MM-dd HH:mm:ss.SSS").unwrap();
        let at: Zoned = AT.parse().unwrap();
        assert_eq!(TimestampFormat::default().format(&at), named.format(&at));
        assert_eq!(named.format(&at), "2026-03-05 00:07:09.042");
    }

    #[test]
    fn tokens_as_upstream_prints_them_in_english() {
        for (pattern, wanted) in [
            ("y yy yyy yyyyy", "2026 26 2026 02026"),
            ("M MM MMM MMMM MMMMM", "3 03 Mar March M"),
            ("d dd D DDD", "5 05 64 064"),
            ("E EEEE eee", "Thu Thursday Thu"),
            ("h hh H HH K k kk", "12 12 0 00 0 24 24"),
            ("a m mm s ss S SS SSS", "AM 7 07 9 09 0 04 042"),
            ("Q QQ q", "1 01 1"),
            ("w ww W F Y", "10 10 1 1 2026"),
            ("G GGGG", "AD Anno Domini"),
            ("'at' 'o''clock' ''", "at o'clock '"),
            ("'it", "it"),
            ("é-1", "é-1"),
        ] {
            assert_eq!(format(pattern, AT), wanted, "{pattern}");
        }
        assert_eq!(
            format("h k a B", "2026-03-05T13:00[UTC]"),
            "1 13 PM in the afternoon"
        );
        assert_eq!(
            format("O OOOO", "2026-03-05T13:00+05:30[+05:30]"),
            "GMT+5:30 GMT+05:30"
        );
        assert_eq!(
            format("O ZZZZ", "2026-03-05T13:00-08:00[-08:00]"),
            "GMT-8 GMT-08:00"
        );
    }

    #[test]
    fn weeks_at_the_turn_of_the_year() {
        assert_eq!(format("Y w", "2025-12-31T00:00[UTC]"), "2026 1");
        assert_eq!(format("Y w", "2025-12-27T00:00[UTC]"), "2025 52");
        assert_eq!(format("Y w", "2026-01-04T00:00[UTC]"), "2026 2");
    }

    #[test]
    fn unknown_letters_are_refused_by_name() {
        assert_eq!(
            TimestampFormat::compile("QQQ"),
            Err(BadToken::Unsupported("QQQ".to_owned()))
        );
        assert_eq!(
            TimestampFormat::compile("X"),
            Err(BadToken::Unsupported("X".to_owned()))
        );
        assert_eq!(
            TimestampFormat::compile("yyyy N"),
            Err(BadToken::Invalid('N'))
        );
    }
}
