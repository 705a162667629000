//! The table.

use std::io::{self, Write as _};

/// Rows and remarks, in the order they were measured.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    remarks: Vec<String>,
}

#[derive(Debug)]
struct Row {
    what: String,
    measured: String,
    target: String,
    original: String,
    meets: Option<bool>,
}

impl Report {
    /// A figure with a target; `original` is the figure of what we replace.
    pub(crate) fn figure(
        &mut self,
        what: &str,
        measured: String,
        target: &str,
        original: &str,
        meets: bool,
    ) {
        self.add(what, measured, target, original, Some(meets));
    }

    /// A figure that only helps to read the others.
    pub(crate) fn beside(&mut self, what: &str, measured: String) {
        self.add(what, measured, "", "", None);
    }

    /// A line below the table.
    pub(crate) fn remark(&mut self, text: String) {
        self.remarks.push(text);
    }

    fn add(
        &mut self,
        what: &str,
        measured: String,
        target: &str,
        original: &str,
        meets: Option<bool>,
    ) {
        self.rows.push(Row {
            what: what.to_owned(),
            measured,
            target: target.to_owned(),
            original: if original.is_empty() {
                String::new()
            } else {
                format!("[{original}]")
            },
            meets,
        });
    }

    /// Writes all to standard output.
    pub(crate) fn print(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        // What stands beside a figure is as long as it likes.
        let figures = || self.rows.iter().filter(|row| row.meets.is_some());
        let width = |title: &str, cell: fn(&Row) -> &str| {
            let cells = figures().map(|row| cell(row).chars().count());
            cells.max().unwrap_or_default().max(title.len())
        };
        let what = width("", |row| &row.what);
        let measured = width("measured", |row| &row.measured);
        let target = width("target", |row| &row.target);
        let original = width("[original]", |row| &row.original);
        let head = ["", "measured", "target", "[original]"];
        for cells in std::iter::once((head, None)).chain(self.rows.iter().map(Row::cells)) {
            let ([name, value, wanted, before], meets) = cells;
            let verdict = match meets {
                Some(true) => "ok",
                Some(false) => "SHORT",
                None => "",
            };
            let line = format!(
                "{name:what$}  {value:measured$}  {wanted:target$}  {before:original$}  {verdict}"
            );
            writeln!(out, "{}", line.trim_end())?;
        }
        writeln!(out)?;
        for remark in &self.remarks {
            writeln!(out, "{remark}")?;
        }
        Ok(())
    }
}

impl Row {
    fn cells(&self) -> ([&str; 4], Option<bool>) {
        (
            [&self.what, &self.measured, &self.target, &self.original],
            self.meets,
        )
    }
}
