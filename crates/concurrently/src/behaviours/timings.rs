//! When commands started and stopped, and how long they took (OUT-11).

use std::time::Duration;

use super::Ended;

pub(crate) fn start_announcement(text: &str, at: &str) -> String {
    format!("{text} started at {at}")
}

pub(crate) fn stop_announcement(text: &str, at: &str, took: Duration) -> String {
    format!(
        "{text} stopped at {at} after {}ms",
        thousands(took.as_millis())
    )
}

/// The table's lines, its heading first; the longest run first. Empty if nothing ran.
pub(crate) fn table(ended: &[Ended]) -> Vec<String> {
    const HEADINGS: [&str; 5] = ["name", "duration", "exit code", "killed", "command"];
    let mut ended: Vec<&Ended> = ended.iter().collect();
    if ended.is_empty() {
        return Vec::new();
    }
    ended.sort_by_key(|end| std::cmp::Reverse(end.duration));
    let rows: Vec<[String; 5]> = ended
        .into_iter()
        .map(|end| {
            [
                end.name.clone(),
                thousands(end.duration.as_millis()),
                end.exit.to_string(),
                end.killed.to_string(),
                end.text.clone(),
            ]
        })
        .collect();
    let mut widths = HEADINGS.map(|heading| heading.chars().count());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let border = |left: &str, middle: &str, right: &str| {
        let bars: Vec<String> = widths.iter().map(|&width| "─".repeat(width)).collect();
        format!("{left}─{}─{right}", bars.join(&format!("─{middle}─")))
    };
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        format!("│ {} │", cells.join(" │ "))
    };

    let mut lines = vec!["Timings:".to_owned(), border("┌", "┬", "┐")];
    lines.push(line(&HEADINGS.map(str::to_owned)));
    lines.push(border("├", "┼", "┤"));
    lines.extend(rows.iter().map(|row| line(row)));
    lines.push(border("└", "┴", "┘"));
    lines
}

/// `1234567` to `1,234,567`.
fn thousands(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{behaviours::Exit, signal::Signal};

    #[test]
    fn thousands_are_separated() {
        for (number, wanted) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(thousands(number), wanted);
        }
    }

    #[test]
    fn the_table_is_as_wide_as_its_cells_and_sorted_by_duration() {
        let end = |index, text: &str, exit, killed, millis| Ended {
            index,
            name: String::new(),
            text: text.to_owned(),
            exit,
            killed,
            duration: Duration::from_millis(millis),
        };
        let ended = [
            end(0, "exit 2", Exit::Code(2), false, 5),
            end(1, "sleep 1.5", Exit::Signal(Signal::TERM), true, 1501),
        ];
        assert_eq!(
            table(&ended),
            [
                "Timings:",
                "┌──────┬──────────┬───────────┬────────┬───────────┐",
                "│ name │ duration │ exit code │ killed │ command   │",
                "├──────┼──────────┼───────────┼────────┼───────────┤",
                "│      │ 1,501    │ SIGTERM   │ true   │ sleep 1.5 │",
                "│      │ 5        │ 2         │ false  │ exit 2    │",
                "└──────┴──────────┴───────────┴────────┴───────────┘",
            ]
        );
        assert!(table(&[]).is_empty());
    }
}
