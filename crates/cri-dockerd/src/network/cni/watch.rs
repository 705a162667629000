//! Waiting for the configuration or the plugins to change, by inotify: nothing is looked at while
//! nothing changes (CMP-07).
//!
//! The way to each directory, and to what a configuration that is a link stands for, is watched name by
//! name: a link that is turned, a directory that is replaced or not there yet, a file far away that is
//! edited. Other names in the directories on the way say nothing.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt as _;
use inotify::{EventStream, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::time::{Instant, timeout, timeout_at};

use super::config;

/// A burst of changes is over when nothing came for so long: package managers write many files.
const QUIET: Duration = Duration::from_millis(50);
/// The longest that a burst is waited for.
const LONGEST_BURST: Duration = Duration::from_secs(2);
/// Directories that are watched. Links to files in further ones are not followed.
const MAX_DIRECTORIES: usize = 256;
/// Links on one way: the kernel's own limit.
const MAX_LINKS: usize = 40;

/// A watch over some directories, good for one change: what exists may differ after it.
pub(super) struct Watch {
    events: EventStream<[u8; 4096]>,
    wanted: HashMap<WatchDescriptor, Wanted>,
}

/// Which changes in a directory count.
#[derive(Debug)]
enum Wanted {
    All,
    Names(BTreeSet<OsString>),
}

impl Watch {
    /// Begins to watch the directory of the configurations and those of the plugins. Blocks for a
    /// moment.
    ///
    /// # Errors
    /// When the kernel has no more inotify instances or watches, or a directory can't be listed.
    pub(super) fn begin(conf_dir: &Path, bin_dirs: &[PathBuf]) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let mut ways = Ways {
            watches: inotify.watches(),
            wanted: HashMap::new(),
        };
        for directory in bin_dirs {
            ways.follow(directory)?;
        }
        ways.follow(conf_dir)?;
        // One that can't be listed is told by the look at it.
        for file in config::files(conf_dir).unwrap_or_default() {
            if file.is_symlink() {
                ways.follow(&file)?;
            }
        }
        let wanted = ways.wanted;
        if wanted.len() >= MAX_DIRECTORIES {
            tracing::warn!(
                limit = MAX_DIRECTORIES,
                "CNI configurations are links to files in too many directories: send SIGHUP after a change"
            );
        }
        let events = inotify.into_event_stream([0; 4096])?;
        Ok(Self { events, wanted })
    }

    /// Waits for a change and for the end of its burst. Cancel-safe: dropped with its owner.
    pub(super) async fn changed(mut self) {
        // An ended or broken stream is taken for a change: the caller looks and watches anew.
        if !self.next().await {
            return;
        }
        let end = Instant::now() + LONGEST_BURST;
        let burst = async { while let Ok(true) = timeout(QUIET, self.next()).await {} };
        // Still going on: looked at now, and again after the next change.
        let _ = timeout_at(end, burst).await;
    }

    /// Waits for the next change that counts; `false` when there can be none.
    async fn next(&mut self) -> bool {
        while let Some(Ok(event)) = self.events.next().await {
            // Without a name it is the directory's own, or that some were lost.
            let counts = match (self.wanted.get(&event.wd), &event.name) {
                (Some(Wanted::Names(names)), Some(name)) => names.contains(name),
                _ => true,
            };
            if counts {
                return true;
            }
        }
        false
    }
}

/// What is watched so far.
struct Ways {
    watches: Watches,
    wanted: HashMap<WatchDescriptor, Wanted>,
}

impl Ways {
    /// Watches the way to a path, over all links on it, and the directory that it leads to. What is
    /// not there is awaited where it would be.
    fn follow(&mut self, path: &Path) -> io::Result<()> {
        let mut here = PathBuf::from("/");
        let mut left = Vec::new();
        push(&mut left, &std::path::absolute(path)?);
        let mut links = 0;
        while let Some(name) = left.pop() {
            if name == ".." {
                // There is no link in it.
                here.pop();
                continue;
            }
            // Watch first, look second: a change in between is seen by one or the other.
            if !self.watch(&here, Some(&name))? {
                return Ok(());
            }
            let place = here.join(&name);
            let Ok(found) = fs::symlink_metadata(&place) else {
                return Ok(());
            };
            if found.is_dir() {
                here = place;
            } else if found.is_symlink() && links < MAX_LINKS {
                links += 1;
                let Ok(target) = fs::read_link(&place) else {
                    return Ok(());
                };
                if target.is_absolute() {
                    here = PathBuf::from("/");
                }
                push(&mut left, &target);
            } else {
                return Ok(());
            }
        }
        self.watch(&here, None).map(drop)
    }

    /// Watches one name in a directory, or all; `false` when it is gone, which the one above tells.
    fn watch(&mut self, directory: &Path, name: Option<&OsStr>) -> io::Result<bool> {
        if self.wanted.len() >= MAX_DIRECTORIES {
            return Ok(false);
        }
        // CREATE for links and directories; a file's content is there with CLOSE_WRITE.
        let mask = WatchMask::CREATE
            | WatchMask::CLOSE_WRITE
            | WatchMask::MOVE
            | WatchMask::DELETE
            | WatchMask::ATTRIB
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        let watch = match self.watches.add(directory, mask) {
            Ok(watch) => watch,
            Err(error) => {
                return match (error.kind(), name) {
                    (io::ErrorKind::NotFound | io::ErrorKind::NotADirectory, _) => Ok(false),
                    // On the way: it may be passed, but not listed.
                    (io::ErrorKind::PermissionDenied, Some(_)) => Ok(true),
                    _ => Err(error),
                };
            }
        };
        let none = || Wanted::Names(BTreeSet::new());
        match (self.wanted.entry(watch).or_insert_with(none), name) {
            (Wanted::Names(names), Some(name)) => {
                names.insert(name.to_owned());
            }
            (wanted, None) => *wanted = Wanted::All,
            (Wanted::All, Some(_)) => {}
        }
        Ok(true)
    }
}

/// Puts a path's names before those that are left, which come last first.
fn push(left: &mut Vec<OsString>, path: &Path) {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(_) | Component::ParentDir => Some(component.as_os_str().to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let start = left.len();
    left.extend(names);
    left[start..].reverse();
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    /// `conf` is a link to `a/conf`, whose one configuration is a link over another to `far/real`.
    fn links() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| dir.path().join(name);
        for name in ["a/conf", "b/conf", "far", "near"] {
            fs::create_dir_all(place(name)).unwrap();
        }
        symlink("a/conf", place("conf")).unwrap();
        symlink("../../near/link", place("a/conf/10.conflist")).unwrap();
        symlink(place("far/real"), place("near/link")).unwrap();
        fs::write(place("far/real"), "1").unwrap();
        dir
    }

    fn replace_link(target: &str, link: &Path) {
        let new = link.with_extension("new");
        symlink(target, &new).unwrap();
        fs::rename(new, link).unwrap();
    }

    #[tokio::test]
    async fn change_at_any_place_that_links_lead_over_is_noticed() {
        type Change = fn(&Path);
        let changes: [(&str, Change); 6] = [
            ("the file", |dir| {
                fs::write(dir.join("far/real"), "2").unwrap();
            }),
            ("its removal", |dir| {
                fs::remove_file(dir.join("far/real")).unwrap();
            }),
            ("a link between", |dir| {
                replace_link("../far/other", &dir.join("near/link"));
            }),
            ("the directory's link", |dir| {
                replace_link("b/conf", &dir.join("conf"));
            }),
            ("a directory above", |dir| {
                fs::rename(dir.join("a"), dir.join("c")).unwrap();
            }),
            ("another file", |dir| {
                fs::write(dir.join("a/conf/20.conflist"), "2").unwrap();
            }),
        ];
        for (what, change) in changes {
            let dir = links();
            let watch = Watch::begin(&dir.path().join("conf"), &[]).unwrap();
            change(dir.path());
            let changed = timeout(SOON, watch.changed()).await;
            assert!(changed.is_ok(), "{what}");
        }
    }

    #[tokio::test]
    async fn link_to_nothing_is_noticed_when_there_is_something() {
        let dir = tempfile::tempdir().unwrap();
        let conf = dir.path().join("conf");
        fs::create_dir(&conf).unwrap();
        symlink("../deep/down/real", conf.join("10.conflist")).unwrap();
        let watch = Watch::begin(&conf, &[]).unwrap();
        fs::create_dir_all(dir.path().join("deep/down")).unwrap();
        assert!(timeout(SOON, watch.changed()).await.is_ok());
        let watch = Watch::begin(&conf, &[]).unwrap();
        fs::write(dir.path().join("deep/down/real"), "1").unwrap();
        assert!(timeout(SOON, watch.changed()).await.is_ok());
    }

    #[tokio::test]
    async fn neighbours_on_the_way_say_nothing() {
        let dir = links();
        let watch = Watch::begin(&dir.path().join("conf"), &[dir.path().join("bin")]).unwrap();
        for place in ["x", "a/x", "far/x", "near/x"] {
            fs::write(dir.path().join(place), "1").unwrap();
        }
        let changed = timeout(4 * QUIET, watch.changed()).await;
        assert!(changed.is_err());
    }

    #[tokio::test]
    async fn links_in_a_ring_and_without_number_have_their_limits() {
        let dir = tempfile::tempdir().unwrap();
        symlink("00.conflist", dir.path().join("01.conflist")).unwrap();
        symlink("01.conflist", dir.path().join("00.conflist")).unwrap();
        for number in 100..(100 + 2 * MAX_DIRECTORIES) {
            let far = dir.path().join(format!("far{number}"));
            fs::create_dir(&far).unwrap();
            let link = dir.path().join(format!("{number}.conflist"));
            symlink(far.join("real"), link).unwrap();
        }
        let watch = Watch::begin(dir.path(), &[]).unwrap();
        assert_eq!(watch.wanted.len(), MAX_DIRECTORIES);
        // The first of them count.
        fs::write(dir.path().join("far100/real"), "1").unwrap();
        assert!(timeout(SOON, watch.changed()).await.is_ok());
    }
}
