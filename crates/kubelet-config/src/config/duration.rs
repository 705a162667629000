//! Durations in the file: texts in Go's syntax.

use std::fmt;

use daemon::pflag::GoDuration;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// `metav1.Duration`: a Go duration text such as `1m30s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct ConfigDuration(pub(crate) GoDuration);

impl ConfigDuration {
    /// That many seconds.
    pub(crate) const fn secs(seconds: i64) -> Self {
        Self(GoDuration::from_secs(seconds))
    }

    /// That many milliseconds.
    pub(crate) const fn millis(millis: i64) -> Self {
        Self(GoDuration::from_millis(millis))
    }

    /// Not said, for fields where upstream has a plain value.
    pub(crate) const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl fmt::Display for ConfigDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for ConfigDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ConfigDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(de::Error::custom)
    }
}
