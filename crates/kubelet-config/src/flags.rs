//! The kubelet's command line as data (rows FLAG-01..34).
//!
//! A flag either sets a field of the configuration, and then its [`Status`] is the field's, or has a
//! meaning of its own. Descriptions are ours; names, types, defaults and deprecation texts upstream's.

mod configuration;
mod own;
pub(crate) mod syntax;

use daemon::pflag::{Flag, FlagSet, Parsed, Value};

use crate::config::KubeletConfiguration;
use crate::fields::FIELDS;
use crate::{Status, gates};

/// A flag and what it is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlagRow {
    pub(crate) flag: Flag,
    pub(crate) target: Target,
    /// Row of the reference.
    pub(crate) row: &'static str,
}

/// Where a flag's value goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// Into the configuration, over what the files said.
    Field {
        path: &'static str,
        set: fn(&mut KubeletConfiguration, &Value),
    },
    /// Somewhere of its own.
    Own(Status),
}

impl FlagRow {
    /// Does it act?
    pub(crate) fn status(&self) -> Status {
        match self.target {
            Target::Own(status) => status,
            Target::Field { path, .. } => FIELDS
                .iter()
                .find(|field| field.path == path)
                .map_or(Status::Supported, |field| field.status),
        }
    }
}

/// All flags, in no order that matters.
pub(crate) fn rows() -> impl Iterator<Item = &'static FlagRow> {
    own::ROWS.iter().chain(configuration::ROWS)
}

/// The flags, ready to parse.
pub(crate) fn flag_set() -> FlagSet {
    let flags: Vec<Flag> = rows().map(|row| row.flag).collect();
    let known = format!(
        "key=value pairs for the gates of alpha and beta features. Options are:\n{}",
        gates::help_lines()
    );
    FlagSet::new(&flags)
        .normalize_words()
        .with_usage("feature-gates", known)
}

/// Puts the given flags over a configuration (PROC-14). Lists and maps replace what the files said;
/// feature gates are merged key by key (DEC-33), and `--vmodule` adds, as upstream.
pub(crate) fn apply(config: &mut KubeletConfiguration, parsed: &Parsed) {
    // Upstream's flags for these two reset what a file said, given or not.
    config.logging.options.text.split_stream = false;
    config.logging.options.json.split_stream = false;
    for row in rows() {
        if let Target::Field { set, .. } = row.target
            && parsed.changed(row.flag.name)
        {
            set(config, parsed.value(row.flag.name));
        }
    }
}

#[cfg(test)]
mod tests;
