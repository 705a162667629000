//! The blocking half of the pump's work: one turn copies what came in, for all containers.

use std::{
    collections::{HashMap, VecDeque},
    io,
    mem::MaybeUninit,
    os::fd::OwnedFd,
    sync::Arc,
    time::Duration,
};

use rustix::fs::inotify::{self, ReadFlags, WatchFlags};
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::{
    logs::{
        error::LogError,
        metrics::LogMetrics,
        orders::{Command, Key, LogSource, Wish, Wishes},
        record::Stamp,
        sink::Sink,
        tail::{News, Progress, Scratch, Tail, TailError},
    },
    paths::PathView,
};

/// Most that is copied of one container before the others have their turn.
const BUDGET_BYTES: usize = 1 << 20;
/// A turn ends about then, so that commands are heard.
const TURN: Duration = Duration::from_millis(50);
/// Pause before the first new attempt after a failure, doubled up to [`MAX_DELAY`].
const MIN_DELAY: Duration = Duration::from_millis(200);
const MAX_DELAY: Duration = Duration::from_secs(10);

/// How lines come from Docker.
#[derive(Debug)]
enum Copy {
    /// From its file.
    File(Box<Tail>),
    /// Through its API.
    Api(Api),
}

#[derive(Debug)]
struct Api {
    sink: Sink,
    born: Option<Stamp>,
    generation: u64,
    /// Ends the follower.
    token: CancellationToken,
    /// The follower's chunk that is not all written.
    written: Option<oneshot::Sender<()>>,
    ended: bool,
}

#[derive(Debug)]
struct Entry {
    source: LogSource,
    /// `None` until the files could be opened.
    copy: Option<Copy>,
    watch: Option<i32>,
    /// There may be something to copy.
    dirty: bool,
    /// What that may be.
    news: News,
    retry: Option<Retry>,
    /// The container doesn't run: the entry goes when all is written.
    ends: bool,
    /// Who waits for the end.
    drains: Vec<oneshot::Sender<()>>,
}

/// A failure, and when to try again.
#[derive(Debug, Clone, Copy)]
struct Retry {
    at: Instant,
    delay: Duration,
}

/// Everything the pump knows; moved to a blocking thread for each turn.
#[derive(Debug)]
pub(super) struct State {
    view: Arc<dyn PathView>,
    /// `None` where the kernel gave none: all goes through the API then.
    events: Option<Arc<OwnedFd>>,
    wishes: Arc<Wishes>,
    watches: HashMap<i32, Arc<str>>,
    entries: HashMap<Arc<str>, Entry>,
    /// Dirty entries in the order of their turns.
    queue: VecDeque<Arc<str>>,
    scratch: Scratch,
    generation: u64,
    metrics: LogMetrics,
}

/// What a turn asks of the driver.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Followers to start.
    pub(super) start: Vec<Start>,
    /// When to have the next turn by itself.
    pub(super) next: Option<Instant>,
    /// Bytes of Docker's files that were read.
    pub(super) bytes: u64,
}

/// A follower that is wanted.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) key: Key,
    pub(super) tty: bool,
    pub(super) token: CancellationToken,
}

impl State {
    /// Knows nothing yet; `events` is the pump's inotify instance.
    pub(super) fn new(
        view: Arc<dyn PathView>,
        events: Option<Arc<OwnedFd>>,
        wishes: Arc<Wishes>,
        metrics: LogMetrics,
    ) -> Self {
        Self {
            view,
            events,
            wishes,
            watches: HashMap::new(),
            entries: HashMap::new(),
            queue: VecDeque::new(),
            scratch: Scratch::default(),
            generation: 0,
            metrics,
        }
    }

    /// One turn: wishes and commands, then what is dirty. Blocks.
    pub(super) fn turn(&mut self, commands: Vec<Command>) -> Turn {
        let mut turn = Turn::default();
        // Before the commands: to wait for the end of a log, one wishes for it first.
        for (id, wish) in self.wishes.take() {
            match wish {
                Wish::Copy { source, running } => self.copy(id, source, running),
                Wish::Forget => {
                    if let Some(entry) = self.entries.remove(id.as_str()) {
                        self.leave(entry);
                    }
                }
            }
        }
        for command in commands {
            self.obey(command, &mut turn);
        }
        self.read_events();
        let started = Instant::now();
        self.wake_retries(started);
        while let Some(id) = self.queue.pop_front() {
            if let Some(mut entry) = self.entries.remove(&id) {
                if self.serve(&id, &mut entry, &mut turn) {
                    self.entries.insert(id, entry);
                } else {
                    self.leave(entry);
                }
            }
            if started.elapsed() > TURN {
                break;
            }
        }
        let retry = self
            .entries
            .values()
            .filter_map(|entry| entry.retry)
            .map(|retry| retry.at);
        turn.next = if self.queue.is_empty() {
            retry.min()
        } else {
            Some(Instant::now())
        };
        turn
    }

    fn obey(&mut self, command: Command, turn: &mut Turn) {
        // Whoever asked may have gone: an answer that nobody takes is no failure.
        match command {
            Command::Reopen { id, reply } => {
                let _ = reply.send(self.reopen(&id, turn));
            }
            Command::Drain { id, reply } => {
                let Some(entry) = self.entries.get_mut(id.as_str()) else {
                    let _ = reply.send(());
                    return;
                };
                entry.drains.push(reply);
                entry.ends = true;
                self.mark(&id, News::Anything);
            }
            Command::Position { key, reply } => {
                // Without an answer the follower ends.
                if let Some(api) = self.api(&key) {
                    match api.sink.position(api.born) {
                        Ok(position) => drop(reply.send(position)),
                        Err(error) => {
                            let path = api.sink.path().display();
                            error!(container.id = %key.id, %path, %error, "can't read the container's log: copying starts again at its end");
                            let _ = reply.send(None);
                        }
                    }
                }
            }
            Command::Lines { key, lines, reply } => {
                if let Some(api) = self.api(&key) {
                    let result = api.sink.append(&lines);
                    api.written = Some(reply);
                    if let Some(entry) = self.entries.get_mut(&key.id) {
                        entry.settle(&key.id, result.map_err(TailError::Write), &self.metrics);
                    }
                    self.mark(&key.id, News::Anything);
                }
            }
            Command::Ended { key } => {
                if let Some(api) = self.api(&key) {
                    api.ended = true;
                    self.mark(&key.id, News::Anything);
                }
            }
        }
    }

    /// The entry of a follower, unless another has taken its place.
    fn api(&mut self, key: &Key) -> Option<&mut Api> {
        match &mut self.entries.get_mut(&key.id)?.copy {
            Some(Copy::Api(api)) if api.generation == key.generation => Some(api),
            _ => None,
        }
    }

    fn mark(&mut self, id: &str, news: News) {
        let Some((id, _)) = self.entries.get_key_value(id) else {
            return;
        };
        let id = Arc::clone(id);
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.news = entry.news.max(news);
            if !std::mem::replace(&mut entry.dirty, true) {
                self.queue.push_back(id);
            }
        }
    }

    fn copy(&mut self, id: String, source: LogSource, running: bool) {
        if let Some(entry) = self.entries.get_mut(id.as_str()) {
            let ends = !running;
            if entry.ends != ends {
                entry.ends = ends;
                self.mark(&id, News::Anything);
            }
            return;
        }
        let entry = Entry {
            source,
            copy: None,
            watch: None,
            dirty: false,
            news: News::Anything,
            retry: None,
            ends: !running,
            drains: Vec::new(),
        };
        let id: Arc<str> = id.into();
        self.entries.insert(Arc::clone(&id), entry);
        self.mark(&id, News::Anything);
    }

    /// Opens the files of an entry, or has its follower started.
    fn open(&mut self, id: &Arc<str>, entry: &mut Entry, turn: &mut Turn) -> io::Result<()> {
        let source = &entry.source;
        let docker = source
            .docker_log
            .as_ref()
            .and_then(|path| self.view.from_host(path));
        // The watch comes first: what is recorded while we look is then an event.
        let watch = docker
            .as_deref()
            .and_then(|path| self.watch(id, path.parent()?));
        let copy = if let (Some(watch), Some(docker)) = (watch, docker) {
            let tail = Tail::open(docker, &source.log_path, source.born)
                .inspect_err(|_| self.unwatch(watch))?;
            self.watches.insert(watch, Arc::clone(id));
            Copy::File(Box::new(tail))
        } else {
            let sink = Sink::open(&source.log_path)?;
            self.generation += 1;
            let generation = self.generation;
            let token = CancellationToken::new();
            turn.start.push(Start {
                key: Key {
                    id: Arc::clone(id),
                    generation,
                },
                tty: source.tty,
                token: token.clone(),
            });
            Copy::Api(Api {
                sink,
                born: source.born,
                generation,
                token,
                written: None,
                ended: false,
            })
        };
        debug!(container.id = %id, path = %source.log_path.display(), from_file = watch.is_some(), "copying the container's log");
        entry.watch = watch;
        entry.copy = Some(copy);
        Ok(())
    }

    /// Watches a container's directory in Docker's root, when we can see it.
    fn watch(&self, id: &str, directory: &std::path::Path) -> Option<i32> {
        const EVENTS: WatchFlags = WatchFlags::MODIFY
            .union(WatchFlags::CREATE)
            .union(WatchFlags::MOVED_TO)
            .union(WatchFlags::ONLYDIR);
        let events = self.events.as_ref()?;
        match inotify::add_watch(events, directory, EVENTS) {
            Ok(watch) => Some(watch),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => None,
            Err(error) => {
                let directory = directory.display();
                warn!(container.id = %id, %directory, %error, "can't watch docker's log: copying it through docker's API; perhaps raise fs.inotify.max_user_watches");
                None
            }
        }
    }

    fn unwatch(&mut self, watch: i32) {
        self.watches.remove(&watch);
        if let Some(events) = &self.events {
            // It is gone already when Docker has removed the directory.
            let _ = inotify::remove_watch(events, watch);
        }
    }

    fn reopen(&mut self, id: &str, turn: &mut Turn) -> Result<(), LogError> {
        let Some((id, mut entry)) = self.entries.remove_entry(id) else {
            return Err(LogError::NotCopied(id.to_owned()));
        };
        let reopened = match &mut entry.copy {
            None => self.open(&id, &mut entry, turn),
            Some(Copy::File(tail)) => tail.reopen(),
            Some(Copy::Api(api)) => api.sink.reopen(),
        };
        let path = entry.source.log_path.clone();
        self.entries.insert(id, entry);
        reopened.map_err(|source| LogError::Open { path, source })
    }

    /// Lets go of an entry that has been taken out.
    fn leave(&mut self, entry: Entry) {
        if let Some(watch) = entry.watch {
            self.unwatch(watch);
        }
        if let Some(Copy::Api(api)) = entry.copy {
            api.token.cancel();
        }
        for drain in entry.drains {
            let _ = drain.send(());
        }
    }

    /// Marks what has happened since the last turn.
    fn read_events(&mut self) {
        let Some(events) = self.events.clone() else {
            return;
        };
        let mut buffer = [const { MaybeUninit::uninit() }; 8192];
        let mut reader = inotify::Reader::new(&events, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => {
                    let all: Vec<Arc<str>> = self.entries.keys().cloned().collect();
                    for id in all {
                        self.mark(&id, News::Anything);
                    }
                }
                Ok(event) if event.events().contains(ReadFlags::IGNORED) => {
                    // Docker removed the directory. What it held is lost or in files we hold.
                    self.watches.remove(&event.wd());
                }
                Ok(event) => {
                    let news = if event.events() == ReadFlags::MODIFY {
                        News::Lines
                    } else {
                        News::Anything
                    };
                    if let Some(id) = self.watches.get(&event.wd()).cloned() {
                        self.mark(&id, news);
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return,
                Err(error) => {
                    error!(%error, "can't read inotify events");
                    return;
                }
            }
        }
    }

    fn wake_retries(&mut self, now: Instant) {
        let due = |entry: &Entry| entry.retry.is_some_and(|retry| retry.at <= now);
        let due: Vec<Arc<str>> = self
            .entries
            .iter()
            .filter(|(_, e)| due(e))
            .map(|(id, _)| Arc::clone(id))
            .collect();
        for id in due {
            self.mark(&id, News::Anything);
        }
    }

    /// Copies what there is of one container. False when that was the last of it.
    fn serve(&mut self, id: &Arc<str>, entry: &mut Entry, turn: &mut Turn) -> bool {
        entry.dirty = false;
        if entry.retry.is_some_and(|retry| retry.at > Instant::now()) {
            return true;
        }
        if entry.copy.is_none()
            && let Err(error) = self.open(id, entry, turn)
        {
            entry.settle(id, Err(TailError::Open(error)), &self.metrics);
            return true;
        }
        let result = match &mut entry.copy {
            Some(Copy::File(tail)) => {
                let news = std::mem::take(&mut entry.news);
                let result = tail.sweep(&mut self.scratch, BUDGET_BYTES, news);
                let tally = tail.take_tally();
                if tally.gaps > 0 {
                    let path = entry.source.log_path.display();
                    warn!(container.id = %id, %path, "lines of the container's log are lost: docker dropped them before they were copied");
                }
                self.metrics.gaps.inc_by(tally.gaps);
                self.metrics.malformed.inc_by(tally.malformed);
                turn.bytes += tail.take_bytes();
                result
            }
            Some(Copy::Api(api)) if api.sink.is_blocked() => api
                .sink
                .flush()
                .map(|()| Progress::CaughtUp)
                .map_err(TailError::Write),
            Some(Copy::Api(_)) | None => Ok(Progress::CaughtUp),
        };
        let all = matches!(result, Ok(Progress::CaughtUp));
        if !all {
            entry.news = News::Anything;
        }
        if matches!(result, Ok(Progress::More)) {
            entry.dirty = true;
            self.queue.push_back(Arc::clone(id));
        }
        entry.settle(id, result.map(drop), &self.metrics);
        let done = all
            && match &entry.copy {
                Some(Copy::File(_)) => entry.ends,
                Some(Copy::Api(api)) => api.ended,
                None => false,
            };
        !done
    }
}

impl Entry {
    /// Takes note of how copying went: an error is reported once, and tried again later and later.
    fn settle(&mut self, id: &str, result: Result<(), TailError>, metrics: &LogMetrics) {
        let path = self.source.log_path.display();
        match result {
            Ok(()) => {
                if self.retry.take().is_some() {
                    info!(container.id = %id, %path, "copying the container's log goes on");
                }
                if let Some(Copy::Api(api)) = &mut self.copy
                    && let Some(written) = api.written.take()
                {
                    // The follower may have been cancelled.
                    let _ = written.send(());
                }
            }
            Err(failure) => {
                metrics.failures.inc();
                let delay = self
                    .retry
                    .map_or(MIN_DELAY, |retry| (retry.delay * 2).min(MAX_DELAY));
                if self.retry.is_none() {
                    let error = daemon::ErrorChain(&failure).to_string();
                    error!(container.id = %id, %path, error, "can't copy the container's log, will retry; docker keeps a limited backlog");
                }
                self.retry = Some(Retry {
                    at: Instant::now() + delay,
                    delay,
                });
            }
        }
    }
}
