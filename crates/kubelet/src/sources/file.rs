//! The file source: a directory of manifests, or one manifest (kubelet section 2.1).
//!
//! Owner task: [`FileSource::run`]. Input: the directory, by inotify, and a full look each
//! `fileCheckFrequency`. Output: the newest full set on a `watch`, and on another what each file is
//! good for. Nothing survives a restart but the files themselves.
//!
//! Differs (SRC-01): a directory that is missing or unreadable is an error, said once, and delivers
//! nothing; upstream takes it for an empty set and stops every pod. Differs (SRC-05): a file that an
//! edit broke keeps its last good pod until it is mended or removed; upstream drops the pod at the
//! next full look. Differs (SRC-02): what editors and package tools leave behind is not read.
//! Differs: a file that is taken away and put back at once, and one of two with the same pod that goes, change
//! nothing; upstream stops the pod and starts it anew.

mod events;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use daemon::ErrorChain;
use kubelet_core::{
    ids::{PodKey, PodUid},
    manifest::{self, FileName, Origin, StaticSource},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::events::Events;
use super::{ManifestFile, SourcePod, SourceSet, unchanged_or_new};

/// Largest manifest, in bytes (SRC-03).
pub(crate) const MAX_MANIFEST_BYTES: usize = 10 * 1024 * 1024;
/// Wait before a vanished directory is looked for again: doubling from here (SRC-06).
const RETRY_MIN: Duration = Duration::from_secs(1);
/// The longest such wait.
const RETRY_MAX: Duration = Duration::from_secs(20);

/// Times of files are those of the kernel's last tick, of 10 ms at most: of two writes within one, the
/// later may leave no trace in a [`Stamp`].
const TICK: jiff::SignedDuration = jiff::SignedDuration::from_millis(20);

/// open(2)'s flag, the same on every architecture that we are built for.
const O_NONBLOCK: i32 = 0o4000;

/// What the file source is told.
#[derive(Debug, Clone)]
pub(crate) struct FileSourceConfig {
    /// Directory or file.
    pub(crate) path: PathBuf,
    /// Full look at least this often.
    pub(crate) check_frequency: Duration,
    /// Suffix of pod names and part of uids.
    pub(crate) node_name: String,
}

/// One manifest file as last seen.
#[derive(Debug)]
struct Known {
    /// `None`: read too soon after a change to tell it from the next one.
    stamp: Option<Stamp>,
    /// The last good pod; kept while the file is broken.
    pod: Option<SourcePod>,
    /// What is wrong with the file.
    errors: Vec<String>,
}

/// What tells that a file is the one we read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether every write from `now` on makes another stamp.
    fn tells_later_writes(&self, now: jiff::Timestamp) -> bool {
        let (seconds, nanos) = self.changed;
        let nanos = i32::try_from(nanos).unwrap_or_default();
        jiff::Timestamp::new(seconds, nanos).is_ok_and(|changed| now.duration_since(changed) > TICK)
    }
}

/// Why a file of the directory gives no pod.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("not a regular file: {0}")]
    Kind(&'static str),
    #[error("{bytes} bytes, the limit is {MAX_MANIFEST_BYTES}")]
    TooLarge { bytes: u64 },
    #[error("read")]
    Read(#[source] io::Error),
    #[error(transparent)]
    Manifest(manifest::Refused),
}

impl FileError {
    /// Everything that is wrong, each in a line.
    fn lines(&self) -> Vec<String> {
        match self {
            Self::Manifest(refused) => refused.error.lines(),
            other => vec![ErrorChain(other).to_string()],
        }
    }
}

/// Reads manifests and publishes pods.
#[derive(Debug)]
pub(crate) struct FileSource {
    config: FileSourceConfig,
    known: BTreeMap<PathBuf, Known>,
    /// Names that were passed over, so that each is said once.
    passed_over: BTreeSet<PathBuf>,
    /// What is there and cannot be read, such as a directory, so that each is said once.
    unreadable: BTreeMap<PathBuf, FileError>,
    /// Files that lost against another, so that each is said once.
    shadowed: BTreeMap<PathBuf, Shadow>,
    missing: bool,
    sets: watch::Sender<SourceSet>,
    files: watch::Sender<Vec<ManifestFile>>,
}

impl FileSource {
    /// A source that shows its files there, and where its sets appear.
    pub(crate) fn new(
        config: FileSourceConfig,
        files: watch::Sender<Vec<ManifestFile>>,
    ) -> (Self, watch::Receiver<SourceSet>) {
        let (sets, receiver) = watch::channel(None);
        let source = Self {
            config,
            known: BTreeMap::new(),
            passed_over: BTreeSet::new(),
            unreadable: BTreeMap::new(),
            shadowed: BTreeMap::new(),
            missing: false,
            sets,
            files,
        };
        (source, receiver)
    }

    /// Looks, publishes and waits, until the token is cancelled.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        tracing::info!(path = %self.config.path.display(), "Adding static pod path");
        let mut retry = RETRY_MIN;
        while !shutdown.is_cancelled() {
            // Watch first, look second: a change in between is seen by one or the other.
            let mut watched = Events::of(&self.config.path);
            if self.look(watched.as_mut().ok()).await {
                retry = RETRY_MIN;
            }
            let wait = match watched {
                Ok(events) => {
                    tokio::select! {
                        biased;
                        // cancel-safe: a token.
                        () = shutdown.cancelled() => return,
                        // cancel-safe: only the wait for an event is dropped.
                        () = self.follow(events) => Duration::ZERO,
                    }
                }
                Err(error) => {
                    if !self.missing {
                        tracing::warn!(path = %self.config.path.display(), error = %error,
                            "cannot watch the manifest path, looking at intervals");
                    }
                    let wait = retry;
                    retry = (retry * 2).min(RETRY_MAX);
                    wait
                }
            };
            tokio::select! {
                biased;
                // cancel-safe: a token.
                () = shutdown.cancelled() => return,
                // cancel-safe: a timer.
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Looks again after each burst of events and each check interval; returns when the watch is
    /// of no more use.
    async fn follow(&mut self, mut events: Events) {
        while events.wait(self.config.check_frequency).await {
            if !self.look(Some(&mut events)).await {
                return;
            }
        }
    }

    /// One full look: reads what changed and is not being written, and publishes the set. False: the
    /// path is not there.
    async fn look(&mut self, mut events: Option<&mut Events>) -> bool {
        let path = self.config.path.clone();
        let listed = daemon::blocking(move || list(&path)).await;
        let listing = match listed {
            Ok(listing) => listing,
            Err(error) => {
                if !self.missing {
                    tracing::error!(path = %self.config.path.display(), error = %error,
                        "manifest path cannot be read: its pods stay as they are until it is back");
                    self.missing = true;
                }
                self.show(Some(&error));
                return false;
            }
        };
        // What was listed while it is being written must not be read; the news of it comes now.
        if let Some(events) = &mut events {
            events.catch_up();
        }
        if std::mem::take(&mut self.missing) {
            tracing::info!(path = %self.config.path.display(), "manifest path is back");
        }
        for path in listing.passed_over {
            if self.passed_over.insert(path.clone()) {
                tracing::info!(path = %path.display(), "not read: left behind by an editor or a package tool");
            }
        }
        let present: BTreeSet<PathBuf> =
            listing.files.iter().map(|(path, _)| path.clone()).collect();
        self.known.retain(|path, _| present.contains(path));
        self.shadowed.retain(|path, _| present.contains(path));
        self.unreadable.retain(|path, _| present.contains(path));
        self.passed_over
            .retain(|path| path.exists() || path.is_symlink());
        for (path, found) in listing.files {
            let unfinished = events
                .as_ref()
                .is_some_and(|events| events.is_unfinished(&path));
            if !unfinished {
                self.take(path, found).await;
            }
        }
        self.publish();
        self.show(None);
        true
    }

    /// Reads one file if it is not the one we know.
    async fn take(&mut self, path: PathBuf, found: Result<Stamp, FileError>) {
        let stamp = match found {
            Ok(stamp) => {
                self.unreadable.remove(&path);
                stamp
            }
            Err(error) => {
                // No stamp to remember it by: say it once per path, like a name passed over.
                if !self.unreadable.contains_key(&path) {
                    tracing::error!(error = %ErrorChain(&error), path = %path.display(),
                        "Could not process manifest file");
                }
                self.unreadable.insert(path, error);
                return;
            }
        };
        if self
            .known
            .get(&path)
            .is_some_and(|known| known.stamp == Some(stamp))
        {
            return;
        }
        let now = jiff::Timestamp::now();
        let source = StaticSource {
            node_name: self.config.node_name.clone(),
            origin: Origin::File(path.display().to_string()),
            first_seen: now,
        };
        let read = path.clone();
        let loaded = daemon::blocking(move || load(&read, &source)).await;
        if matches!(&loaded, Err(FileError::Read(error)) if error.kind() == io::ErrorKind::NotFound)
        {
            // Gone since it was listed: the next look will not list it.
            return;
        }
        let before = self.known.remove(&path).and_then(|known| known.pod);
        let (pod, errors) = match loaded {
            Ok(loaded) => {
                for warning in &loaded.warnings {
                    tracing::warn!(path = %path.display(), warning = %warning, "manifest");
                }
                (Some(unchanged_or_new(before, loaded.pod)), Vec::new())
            }
            Err(error) => {
                if let FileError::Manifest(refused) = &error {
                    for warning in &refused.warnings {
                        tracing::warn!(path = %path.display(), warning = %warning, "manifest");
                    }
                }
                tracing::error!(error = %ErrorChain(&error), path = %path.display(),
                    kept = before.is_some().then_some(true), "Could not process manifest file");
                (before, error.lines())
            }
        };
        let stamp = stamp.tells_later_writes(now).then_some(stamp);
        self.known.insert(path, Known { stamp, pod, errors });
    }

    /// Shows what each file is good for; after a failure to list them, what they were good for.
    fn show(&self, failure: Option<&io::Error>) {
        let whole = failure.map(|error| ManifestFile {
            path: self.config.path.clone(),
            pod: None,
            errors: vec![error.to_string()],
        });
        let known = self.known.iter().map(|(path, known)| {
            let used = self.shadowed.get(path);
            let mut errors = match self.unreadable.get(path) {
                Some(error) => error.lines(),
                None => known.errors.clone(),
            };
            errors.extend(used.map(Shadow::to_string));
            ManifestFile {
                path: path.clone(),
                pod: known.pod.clone().filter(|_| used.is_none()),
                errors,
            }
        });
        let never_read = self
            .unreadable
            .iter()
            .filter(|(path, _)| !self.known.contains_key(*path))
            .map(|(path, error)| ManifestFile {
                path: path.clone(),
                pod: None,
                errors: error.lines(),
            });
        let files = whole.into_iter().chain(known).chain(never_read);
        self.files.send_replace(files.collect());
    }

    /// Publishes the pods of all good files; of two with one name or one uid the later in sort order wins
    /// (SRC-07).
    fn publish(&mut self) {
        let mut names: BTreeMap<PodKey, &Path> = BTreeMap::new();
        let mut uids: BTreeMap<PodUid, &Path> = BTreeMap::new();
        let (mut pods, mut lost) = (Vec::new(), BTreeMap::new());
        for (path, known) in self.known.iter().rev() {
            let Some(pod) = &known.pod else { continue };
            let (key, uid) = (PodKey::of(pod), PodUid::of(pod));
            let (used, same) = match (names.get(&key), uids.get(&uid)) {
                (Some(used), _) => (used, Same::Name),
                (None, Some(used)) => (used, Same::Uid),
                (None, None) => {
                    names.insert(key, path);
                    uids.insert(uid, path);
                    pods.push(pod.clone());
                    continue;
                }
            };
            let used = used.to_path_buf();
            let shadow = Shadow { used, same };
            if self.shadowed.get(path) != Some(&shadow) {
                let why = match same {
                    Same::Name => "two manifests name the same pod",
                    Same::Uid => "two manifests have the same metadata.uid",
                };
                tracing::warn!(pod = %key, pod.uid = %uid, used = %shadow.used.display(),
                    ignored = %path.display(), "{why}");
            }
            lost.insert(path.clone(), shadow);
        }
        pods.sort_by_key(|pod| PodKey::of(pod));
        self.shadowed = lost;
        self.sets.send_if_modified(|set| {
            let same = set.as_ref().is_some_and(|old| {
                old.len() == pods.len() && old.iter().zip(&pods).all(|(a, b)| Arc::ptr_eq(a, b))
            });
            if !same {
                *set = Some(Arc::new(pods));
            }
            !same
        });
    }
}

/// Why a file is not used: another has what may be there once only.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shadow {
    used: PathBuf,
    same: Same,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Same {
    Name,
    Uid,
}

impl fmt::Display for Shadow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let says = match self.same {
            Same::Name => "names the same pod",
            Same::Uid => "has the same metadata.uid",
        };
        write!(f, "{} {says}", self.used.display())
    }
}

struct Listing {
    files: Vec<(PathBuf, Result<Stamp, FileError>)>,
    passed_over: Vec<PathBuf>,
}

/// Lists the manifests of a directory in name order, or the one file (SRC-02).
fn list(path: &Path) -> io::Result<Listing> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_dir() {
        return Ok(Listing {
            files: vec![(path.to_path_buf(), stamp(&metadata))],
            passed_over: Vec::new(),
        });
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        names.push(entry?.file_name());
    }
    names.sort();
    let mut listing = Listing {
        files: Vec::new(),
        passed_over: Vec::new(),
    };
    for name in names {
        let file = path.join(&name);
        match FileName::of(&name.to_string_lossy()) {
            FileName::Hidden => {}
            FileName::LeftBehind => listing.passed_over.push(file),
            FileName::Manifest => match fs::metadata(&file) {
                Ok(metadata) => listing.files.push((file, stamp(&metadata))),
                // Gone between the two calls: the next event says so.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !file.is_symlink() => {}
                Err(error) => listing.files.push((file, Err(FileError::Read(error)))),
            },
        }
    }
    Ok(listing)
}

fn stamp(metadata: &fs::Metadata) -> Result<Stamp, FileError> {
    let kind = metadata.file_type();
    if metadata.is_file() {
        return Ok(Stamp::of(metadata));
    }
    Err(FileError::Kind(if kind.is_dir() {
        "a directory (sub-directories are not read)"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }))
}

fn load(path: &Path, source: &StaticSource) -> Result<manifest::LoadedPod, FileError> {
    use std::io::Read;
    // Whoever puts a FIFO in a listed file's place shall not keep us waiting for a writer.
    let mut file = fs::File::options()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(path)
        .map_err(FileError::Read)?;
    let metadata = file.metadata().map_err(FileError::Read)?;
    stamp(&metadata)?;
    if metadata.len() > MAX_MANIFEST_BYTES as u64 {
        return Err(FileError::TooLarge {
            bytes: metadata.len(),
        });
    }
    let mut bytes = Vec::new();
    // A file may grow while it is read: never more than the limit and one.
    file.by_ref()
        .take(MAX_MANIFEST_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(FileError::Read)?;
    if bytes.len() > MAX_MANIFEST_BYTES {
        return Err(FileError::TooLarge {
            bytes: bytes.len() as u64,
        });
    }
    manifest::load_static(&bytes, source).map_err(FileError::Manifest)
}

#[cfg(test)]
mod tests;
