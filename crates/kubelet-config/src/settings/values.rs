//! Single values of the configuration as settings have them.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::ConfigDuration;

pub(super) fn std(duration: ConfigDuration) -> Duration {
    duration.0.to_std_or_zero()
}

/// `None` for zero and less.
pub(super) fn positive(duration: ConfigDuration) -> Option<Duration> {
    duration.0.to_std().filter(|duration| !duration.is_zero())
}

pub(super) fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or_default()
}

/// `None` for zero, which upstream takes for "no limit".
pub(super) fn rate(number: Option<i32>) -> Option<u32> {
    number
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| *number > 0)
}

pub(super) fn percent(number: Option<i32>) -> u8 {
    number
        .and_then(|number| u8::try_from(number).ok())
        .unwrap_or_default()
}

/// `None` for an empty text.
pub(super) fn some_text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

pub(super) fn some_path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}
