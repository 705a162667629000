//! When to try Docker again: soon, then less often, and at once when its socket appears.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt as _;
use inotify::{EventStream, Inotify, WatchMask};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Where nobody listens: a try costs next to nothing.
const LONGEST_UNHEARD: Duration = Duration::from_secs(1);
/// Where somebody answers, but not as it should.
const LONGEST_REFUSED: Duration = Duration::from_secs(5);

/// The pauses of one outage after another.
#[derive(Debug)]
pub(super) struct Retry {
    /// Docker's socket, unless it is reached over TCP.
    socket: Option<PathBuf>,
    pause: Duration,
    /// Only while Docker is away.
    watch: Option<Watch>,
}

impl Retry {
    pub(super) fn new(socket: Option<&Path>) -> Self {
        Self {
            socket: socket.map(Path::to_owned),
            pause: FIRST_PAUSE,
            watch: None,
        }
    }

    /// The outage is over.
    pub(super) fn succeeded(&mut self) {
        self.pause = FIRST_PAUSE;
        self.watch = None;
    }

    /// Waits before the next try; `unheard` says that nobody listened at the last one.
    ///
    /// The watch begins after that try. A socket that appeared in between is found after the first
    /// pause, which is short. Cancel-safe.
    pub(super) async fn wait(&mut self, unheard: bool) {
        if self.watch.is_none() {
            self.watch = self.socket.as_deref().and_then(|socket| {
                // Without one, a lack of watches or a directory that is missing: the pauses alone.
                Watch::begin(socket)
                    .inspect_err(|error| tracing::debug!(%error, "can't watch for docker's socket"))
                    .ok()
            });
        }
        let appears = async {
            match &mut self.watch {
                Some(watch) => watch.appears().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // cancel-safe: nothing is under way.
            () = tokio::time::sleep(self.pause) => {
                let longest = if unheard { LONGEST_UNHEARD } else { LONGEST_REFUSED };
                self.pause = (self.pause * 2).min(longest);
            }
            // cancel-safe: its events stay in the kernel until they are read.
            () = appears => self.pause = FIRST_PAUSE,
        }
    }
}

/// A watch for one name in its directory.
struct Watch {
    name: OsString,
    events: EventStream<[u8; 1024]>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Watch {
    fn begin(socket: &Path) -> std::io::Result<Self> {
        // A link, as of /var/run: what is behind it.
        let directory = socket.parent().unwrap_or(Path::new("/")).canonicalize()?;
        let name = socket.file_name().unwrap_or_default().to_owned();
        let inotify = Inotify::init()?;
        // ATTRIB: dockerd binds first and gives the socket to its group then.
        let mask = WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::ATTRIB;
        inotify.watches().add(directory, mask)?;
        Ok(Self {
            name,
            events: inotify.into_event_stream([0; 1024])?,
        })
    }

    async fn appears(&mut self) {
        while let Some(Ok(event)) = self.events.next().await {
            if event.name.as_ref() == Some(&self.name) {
                return;
            }
        }
        // Broken: the pauses alone.
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn socket_that_appears_ends_a_pause() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let mut retry = Retry::new(Some(&socket));
        retry.pause = Duration::from_hours(1);
        let appears = async {
            tokio::task::yield_now().await;
            std::fs::write(directory.path().join("docker.pid"), "1").unwrap();
            tokio::task::yield_now().await;
            std::os::unix::net::UnixListener::bind(&socket).unwrap()
        };
        let ((), _listener) = tokio::join!(retry.wait(true), appears);
        assert_eq!(retry.pause, FIRST_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_a_bound() {
        for (unheard, longest) in [(true, LONGEST_UNHEARD), (false, LONGEST_REFUSED)] {
            let mut retry = Retry::new(None);
            for _ in 0..10 {
                retry.wait(unheard).await;
            }
            assert_eq!(retry.pause, longest);
            retry.succeeded();
            assert_eq!(retry.pause, FIRST_PAUSE);
        }
    }
}
