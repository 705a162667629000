//! What inotify tells of the manifest path: when to look, and which files are still being written.
//!
//! A burst of events is one reason to look. A file that was made or changed and not yet closed by its
//! writer is left alone until it is closed, so that half a manifest is not taken for a whole one; at
//! the check interval it is read all the same, since some writers never close.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt};
use inotify::{Event, EventMask, EventStream, Inotify, WatchMask};
use tokio::time::{Instant, timeout_at};

/// How many events are taken in at a time.
const BURST: usize = 4096;

/// The events of a directory, or of one file by those of its directory.
#[derive(Debug)]
pub(super) struct Events {
    stream: EventStream<Vec<u8>>,
    directory: PathBuf,
    /// The only name that matters, where the path is a file.
    only: Option<OsString>,
    /// Made or changed, and not yet closed.
    unfinished: BTreeSet<PathBuf>,
    /// There is reason to look.
    due: bool,
    /// The watch is of no more use.
    gone: bool,
}

impl Events {
    /// Watches from now on.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let (directory, only) = if path.is_dir() {
            (path, None)
        } else {
            let name = path.file_name().map(ToOwned::to_owned);
            (path.parent().unwrap_or(Path::new("/")), name)
        };
        let inotify = Inotify::init()?;
        inotify.watches().add(
            directory,
            WatchMask::CREATE
                | WatchMask::MODIFY
                | WatchMask::CLOSE_WRITE
                | WatchMask::MOVED_TO
                | WatchMask::MOVED_FROM
                | WatchMask::DELETE
                | WatchMask::DELETE_SELF
                | WatchMask::MOVE_SELF
                | WatchMask::ONLYDIR,
        )?;
        if !path.exists() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Self {
            stream: inotify.into_event_stream(vec![0_u8; 4096])?,
            directory: directory.to_owned(),
            only,
            unfinished: BTreeSet::new(),
            due: false,
            gone: false,
        })
    }

    /// Waits until there is reason to look, at most for the check interval. False: watch anew.
    pub(super) async fn wait(&mut self, check_frequency: Duration) -> bool {
        let deadline = Instant::now() + check_frequency;
        loop {
            self.catch_up();
            if self.gone {
                return false;
            }
            if std::mem::take(&mut self.due) {
                return true;
            }
            // cancel-safe: only the wait for an event is dropped.
            match timeout_at(deadline, self.stream.next()).await {
                Ok(event) => self.note(event),
                Err(_elapsed) => {
                    self.unfinished.clear();
                    return true;
                }
            }
        }
    }

    /// Takes in what has happened by now.
    pub(super) fn catch_up(&mut self) {
        for _ in 0..BURST {
            match self.stream.next().now_or_never() {
                Some(event) if !self.gone => self.note(event),
                _ => return,
            }
        }
    }

    /// Its writer has not closed it yet.
    pub(super) fn is_unfinished(&self, path: &Path) -> bool {
        self.unfinished.contains(path)
    }

    fn note(&mut self, event: Option<io::Result<Event<OsString>>>) {
        let Some(Ok(event)) = event else {
            self.gone = true;
            return;
        };
        let ends = EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::IGNORED;
        if event.mask.intersects(ends) {
            self.gone = true;
            return;
        }
        let Some(name) = event.name else {
            // Events were lost.
            self.unfinished.clear();
            self.due = true;
            return;
        };
        if self.only.as_ref().is_some_and(|only| *only != name) {
            return;
        }
        let path = self.directory.join(name);
        // A link has no writer.
        let writing = event.mask.contains(EventMask::MODIFY)
            || event.mask.contains(EventMask::CREATE) && being_written(&path);
        if writing {
            self.unfinished.insert(path);
        } else {
            self.unfinished.remove(&path);
            self.due = true;
        }
    }
}

/// Just created and not yet closed by its writer: a regular file with a single name.
fn being_written(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 1)
}
