//! Paths as we see them and as the engine's host sees them (DEC-11).

use std::path::{Path, PathBuf};

/// Translates paths between our mount namespace and the engine's.
pub(crate) trait PathView: std::fmt::Debug + Send + Sync {
    /// Our path of something, as the engine's host names it.
    fn to_host(&self, ours: &Path) -> PathBuf;
    /// A path on the engine's host, as we reach it.
    #[expect(
        clippy::wrong_self_convention,
        reason = "the pair reads best like this"
    )]
    fn from_host(&self, host: &Path) -> PathBuf;
}

/// We live on the engine's host: all paths are equal.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SameHost;

impl PathView for SameHost {
    fn to_host(&self, ours: &Path) -> PathBuf {
        ours.to_owned()
    }

    fn from_host(&self, host: &Path) -> PathBuf {
        host.to_owned()
    }
}
