//! Waiting for the configuration or the plugins to change, by inotify: nothing is looked at while
//! nothing changes (CMP-07).
//!
//! A directory that is not there yet is awaited through the nearest one above it that is.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt as _;
use inotify::{EventStream, Inotify, WatchMask};
use tokio::time::{Instant, timeout, timeout_at};

/// A burst of changes is over when nothing came for so long: package managers write many files.
const QUIET: Duration = Duration::from_millis(50);
/// The longest that a burst is waited for.
const LONGEST_BURST: Duration = Duration::from_secs(2);

/// A watch over some directories, good for one change: what exists may differ after it.
pub(super) struct Watch {
    events: EventStream<[u8; 4096]>,
}

impl Watch {
    /// Begins to watch. Blocks for a moment.
    ///
    /// # Errors
    /// When the kernel has no more inotify instances or watches.
    pub(super) fn begin(directories: &[PathBuf]) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let existing: BTreeSet<PathBuf> = directories.iter().map(|d| nearest(d)).collect();
        // CREATE for links and directories; a file's content is there with CLOSE_WRITE.
        let mask = WatchMask::CREATE
            | WatchMask::CLOSE_WRITE
            | WatchMask::MOVE
            | WatchMask::DELETE
            | WatchMask::ATTRIB
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF;
        for directory in existing {
            inotify.watches().add(&directory, mask)?;
        }
        let events = inotify.into_event_stream([0; 4096])?;
        Ok(Self { events })
    }

    /// Waits for a change and for the end of its burst. Cancel-safe: dropped with its owner.
    pub(super) async fn changed(mut self) {
        // An ended or broken stream is taken for a change: the caller looks and watches anew.
        if !matches!(self.events.next().await, Some(Ok(_))) {
            return;
        }
        let end = Instant::now() + LONGEST_BURST;
        let burst =
            async { while let Ok(Some(Ok(_))) = timeout(QUIET, self.events.next()).await {} };
        // Still going on: looked at now, and again after the next change.
        let _ = timeout_at(end, burst).await;
    }
}

/// The path itself, or the nearest directory above it that exists.
fn nearest(path: &Path) -> PathBuf {
    let exists = path.ancestors().find(|path| path.is_dir());
    exists.unwrap_or(Path::new("/")).to_owned()
}
