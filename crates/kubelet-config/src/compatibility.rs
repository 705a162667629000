//! The tables of `COMPATIBILITY.md`, made from the tables that the program works with.

use std::fmt::Write as _;

use crate::Status;
use crate::fields::FIELDS;
use crate::flags::{self, Target};

/// A flag, as documentation shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlagInfo {
    /// Name without dashes.
    pub name: &'static str,
    /// Default as help shows it; empty for none.
    pub default: &'static str,
    /// Field that it sets.
    pub field: Option<&'static str>,
    /// Upstream calls it deprecated.
    pub deprecated: bool,
    /// Does it act?
    pub status: Status,
    /// Row of the reference.
    pub row: &'static str,
}

/// A field of the configuration file, as documentation shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldInfo {
    /// Path from the top.
    pub path: &'static str,
    /// Type of its value.
    pub kind: &'static str,
    /// Default with a file; empty for none.
    pub default: &'static str,
    /// Does it act?
    pub status: Status,
    /// Row of the reference.
    pub row: &'static str,
}

/// Every flag, by name.
pub fn flag_rows() -> Vec<FlagInfo> {
    let mut rows: Vec<FlagInfo> = flags::rows()
        .map(|row| FlagInfo {
            name: row.flag.name,
            default: row.flag.default,
            field: match row.target {
                Target::Field { path, .. } => Some(path),
                Target::Own(_) => None,
            },
            deprecated: row.flag.deprecated.is_some(),
            status: row.status(),
            row: row.row,
        })
        .collect();
    rows.sort_by_key(|row| row.name);
    rows
}

/// Every field, in the order of the reference.
pub fn field_rows() -> Vec<FieldInfo> {
    FIELDS
        .iter()
        .map(|field| FieldInfo {
            path: field.path,
            kind: field.kind.as_str(),
            default: field.default,
            status: field.status,
            row: field.row,
        })
        .collect()
}

/// Flags as a Markdown table. Defaults are those of a start with flags only.
pub fn flags_markdown() -> String {
    let mut out = String::from("| flag | default | field | status |\n|---|---|---|---|\n");
    for row in flag_rows() {
        let field = row.field.map(code).unwrap_or_default();
        let deprecated = if row.deprecated {
            "; deprecated upstream"
        } else {
            ""
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "| `--{}` | {} | {field} | {}{deprecated} |",
            row.name,
            code(row.default),
            row.status.describe()
        );
    }
    out
}

/// Fields as a Markdown table. Defaults are those of a start with a file.
pub fn fields_markdown() -> String {
    let mut out = String::from("| field | type | default | status |\n|---|---|---|---|\n");
    for row in field_rows() {
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} |",
            row.path,
            row.kind,
            code(row.default),
            row.status.describe()
        );
    }
    out
}

fn code(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!("`{text}`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_and_field_has_a_line() {
        let (flags, fields) = (flags_markdown(), fields_markdown());
        assert_eq!(flags.lines().count(), flag_rows().len() + 2);
        assert_eq!(fields.lines().count(), field_rows().len() + 2);
        assert!(flags.contains(
            "| `--sync-frequency` | `1m0s` | `syncFrequency` | supported; deprecated upstream |"
        ));
        assert!(flags.contains("| `--kubeconfig` |  |  | refused: connected mode"));
        assert!(fields.contains("| `evictionSoft` | map[string]string |  | ignored: no pressure"));
    }

    #[test]
    fn flags_name_fields_that_exist() {
        for row in flag_rows() {
            if let Some(field) = row.field {
                assert!(FIELDS.iter().any(|known| known.path == field), "{field}");
            }
        }
    }
}
