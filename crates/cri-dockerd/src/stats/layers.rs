//! How much containers wrote into their writable layers (STT-06..08, PRF-28, CMP-23).
//!
//! A layer is measured when somebody asks and its size is not known or old: by one walker for the
//! node, on a thread of the lowest priority, one layer after the other. The answer is the last
//! size, never older than it must be:
//!
//! - a container that does not run can't write, so it is measured once after its end;
//! - a running one is measured again after [`PAUSE`], or after [`SHARE`] times as long as measuring
//!   all layers takes if that is longer. So at most 2 % of one CPU go into it, however many and
//!   large they are, and nothing while nobody asks.
//!
//! Docker's own figure (`size=1`) is the same walk, unbounded, while it holds the container.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use node_os::disk_usage::{self, DiskUsage};
use tokio::sync::watch;

use super::kernel::Kernel;
use crate::clock::now;
use crate::lock::lock;
use crate::paths::PathView;

/// Shortest time between two measurements of a layer.
const PAUSE: Duration = Duration::from_secs(10);
/// How many times longer than measuring all takes a layer is left alone.
const SHARE: u32 = 50;
/// A failed one is tried again then.
const RETRY: Duration = Duration::from_mins(5);

/// A measured layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) usage: DiskUsage,
    /// When, in nanoseconds since 1970.
    pub(super) at: i64,
    /// Directory that the storage driver keeps layers in, on the engine's host.
    pub(super) file_system: String,
}

/// A container whose layer's size is asked for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) id: String,
    /// Its upper directory on the engine's host; empty where Docker does not tell.
    pub(super) upper: String,
    pub(super) pid: Option<u32>,
    /// Nanoseconds since 1970 of its end; 0 if it never ran, `None` while it runs.
    pub(super) ended_at: Option<i64>,
}

#[derive(Debug)]
struct Layer {
    size: Option<Size>,
    /// What measuring it took.
    cost: Duration,
    /// Not to be measured again before.
    due: Instant,
    /// `ended_at` when it was measured last.
    measured_at_end: Option<i64>,
    /// Where it is; with containerd's image store only its process tells.
    upper: Option<PathBuf>,
    /// The process that was asked for that place last.
    asked: Option<u32>,
    queued: bool,
}

#[derive(Debug, Default)]
struct State {
    layers: HashMap<String, Layer>,
    queue: Vec<Wanted>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Layers {
    state: Mutex<State>,
    paths: Arc<dyn PathView>,
    spawner: daemon::Spawner,
    /// A walker is under way.
    walking: watch::Sender<bool>,
}

/// Says that the walker has ended, however it ends.
struct Walk<'a>(&'a Layers);

impl Drop for Walk<'_> {
    fn drop(&mut self) {
        self.0.walking.send_replace(false);
    }
}

impl Layers {
    pub(crate) fn new(paths: Arc<dyn PathView>, spawner: daemon::Spawner) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            paths,
            spawner,
            walking: watch::Sender::new(false),
        })
    }

    /// The last known size.
    pub(super) fn size(&self, id: &str) -> Option<Size> {
        lock(&self.state).layers.get(id)?.size.clone()
    }

    /// All known sizes together; `None` when none is known.
    pub(super) fn total_bytes(&self) -> Option<u64> {
        let state = lock(&self.state);
        let sizes = state
            .layers
            .values()
            .filter_map(|layer| layer.size.as_ref());
        sizes
            .map(|size| size.usage.bytes)
            .reduce(u64::saturating_add)
    }

    /// Forgets what is gone.
    pub(super) fn keep_only(&self, known: &HashSet<String>) {
        lock(&self.state).layers.retain(|id, _| known.contains(id));
    }

    /// Has measured what is due. Answers whether some have no size yet and will get one.
    pub(super) fn want(self: &Arc<Self>, wanted: Vec<Wanted>, kernel: Arc<Kernel>) -> bool {
        let now = Instant::now();
        let mut first = false;
        {
            let State { layers, queue } = &mut *lock(&self.state);
            for wish in wanted {
                let layer = layers.entry(wish.id.clone()).or_insert_with(|| Layer {
                    size: None,
                    cost: Duration::ZERO,
                    due: now,
                    measured_at_end: None,
                    upper: None,
                    asked: None,
                    queued: false,
                });
                if is_due(layer, &wish, now) {
                    first |= layer.size.is_none();
                    layer.queued = true;
                    layer.asked = wish.pid;
                    queue.push(wish);
                }
            }
            if queue.is_empty() {
                return false;
            }
        }
        if !self.walking.send_replace(true) {
            let layers = Arc::clone(self);
            self.spawner
                .spawn_job("writable layers", layers.walk(kernel));
        }
        first
    }

    /// Waits until all is measured. Cancel-safe.
    pub(super) async fn settled(&self) {
        // The sender lives in self.
        let _ = self.walking.subscribe().wait_for(|walking| !walking).await;
    }

    async fn walk(self: Arc<Self>, kernel: Arc<Kernel>) {
        let _walk = Walk(&self);
        let stop = StopOnDrop::default();
        loop {
            let queue = std::mem::take(&mut lock(&self.state).queue);
            if queue.is_empty() || self.spawner.token().is_cancelled() {
                return;
            }
            let (layers, kernel, stop) =
                (Arc::clone(&self), Arc::clone(&kernel), Arc::clone(&stop.0));
            daemon::blocking(move || layers.measure(&queue, &kernel, &stop)).await;
        }
    }

    /// Measures layers one after the other. Blocks, long.
    fn measure(&self, queue: &[Wanted], kernel: &Kernel, stop: &AtomicBool) {
        let upper = |wish: &Wanted| -> Option<PathBuf> {
            if !wish.upper.is_empty() {
                return Some(PathBuf::from(&wish.upper));
            }
            let told = wish.pid.and_then(|pid| kernel.upper_dir(pid, &wish.id));
            let layers = &mut lock(&self.state).layers;
            let layer = layers.get_mut(&wish.id)?;
            // It stays there when the process is gone.
            layer.upper = told.or_else(|| layer.upper.take());
            layer.upper.clone()
        };
        let places: Vec<_> = queue
            .iter()
            .map(|wish| {
                let upper = upper(wish)?;
                Some((self.paths.from_host(&upper)?, storage_root(&upper)))
            })
            .collect();
        let seen = places.iter().flatten().map(|(path, _)| path.as_path());
        let mut measured = queue
            .iter()
            .zip(&places)
            .filter_map(|(wish, place)| Some((wish, &place.as_ref()?.1)));
        let mut begun = Instant::now();
        let go_on = || !stop.load(Ordering::Relaxed) && !self.spawner.token().is_cancelled();
        let done = disk_usage::measure(seen, go_on, |path, usage| {
            let Some((wish, root)) = measured.next() else {
                return false;
            };
            let cost = begun.elapsed();
            begun = Instant::now();
            match usage {
                Ok(usage) => self.put(
                    wish,
                    Size {
                        usage,
                        at: now(),
                        file_system: root.clone(),
                    },
                    cost,
                ),
                Err(error) => {
                    tracing::debug!(container.id = wish.id, path = %path.display(), %error, "no size of a writable layer");
                    self.put_off(&wish.id);
                }
            }
            true
        });
        if let Err(error) = done {
            tracing::warn!(%error, "no sizes of writable layers");
        }
        // Out of sight, not overlay, or not come to: later.
        for wish in queue {
            self.put_off(&wish.id);
        }
    }

    fn put(&self, wish: &Wanted, size: Size, cost: Duration) {
        let layers = &mut lock(&self.state).layers;
        let all: Duration = layers.values().map(|layer| layer.cost).sum();
        if let Some(layer) = layers.get_mut(&wish.id) {
            let all = all.saturating_sub(layer.cost).saturating_add(cost);
            layer.size = Some(size);
            layer.cost = cost;
            layer.due = Instant::now() + PAUSE.max(all.saturating_mul(SHARE));
            layer.measured_at_end = wish.ended_at;
            layer.queued = false;
        }
    }

    fn put_off(&self, id: &str) {
        if let Some(layer) = lock(&self.state).layers.get_mut(id)
            && layer.queued
        {
            layer.queued = false;
            layer.due = Instant::now() + RETRY;
        }
    }
}

/// Stops the walk on its blocking thread when the walker's task is dropped.
#[derive(Debug, Default)]
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The rule of the module.
fn is_due(layer: &Layer, wish: &Wanted, now: Instant) -> bool {
    if layer.queued {
        return false;
    }
    let ended_at = wish.ended_at;
    // Nobody could tell where it is, and now there is a process that may.
    if layer.size.is_none()
        && wish.upper.is_empty()
        && wish.pid.is_some()
        && layer.asked != wish.pid
    {
        return true;
    }
    let final_size =
        layer.size.is_some() && ended_at.is_some() && layer.measured_at_end == ended_at;
    let news = layer.size.is_some() && layer.measured_at_end != ended_at && ended_at.is_some();
    !final_size && (news || now >= layer.due)
}

/// `/var/lib/docker/overlay2/ID/diff` -> `/var/lib/docker`, and containerd's snapshots likewise: the
/// directory that ImageFsInfo shows, so that callers see that both lie on one file system.
fn storage_root(upper: &Path) -> String {
    let root = snapshot_root(upper).or_else(|| upper.ancestors().nth(3).map(Path::to_owned));
    root.unwrap_or_default().to_string_lossy().into_owned()
}

/// `/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/7/fs` -> `/var/lib/containerd`.
pub(super) fn snapshot_root(upper: &Path) -> Option<PathBuf> {
    let is_snapshotter = |path: &&Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("io.containerd.snapshotter")
    };
    upper
        .ancestors()
        .find(is_snapshotter)?
        .parent()
        .map(Path::to_owned)
}

/// Whether a directory is one that containerd keeps snapshots in.
pub(super) fn has_snapshots(root: &Path) -> bool {
    root.join("io.containerd.snapshotter.v1.overlayfs").is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layer_of_an_ended_container_is_measured_once() {
        let now = Instant::now();
        let layer = |size: bool, measured_at_end, due| Layer {
            size: size.then(|| Size {
                usage: DiskUsage::default(),
                at: 0,
                file_system: String::new(),
            }),
            cost: Duration::ZERO,
            due,
            measured_at_end,
            upper: None,
            asked: None,
            queued: false,
        };
        let wish = |ended_at| Wanted {
            id: String::new(),
            upper: "/upper".to_owned(),
            pid: None,
            ended_at,
        };
        let later = now + PAUSE;
        assert!(
            is_due(&layer(false, None, now), &wish(None), now),
            "never measured"
        );
        assert!(
            !is_due(&layer(true, None, later), &wish(None), now),
            "running, fresh"
        );
        assert!(
            is_due(&layer(true, None, later), &wish(None), later),
            "running, old"
        );
        assert!(
            is_due(&layer(true, None, later), &wish(Some(7)), now),
            "ended since"
        );
        assert!(
            !is_due(&layer(true, Some(7), now), &wish(Some(7)), later),
            "final"
        );
        assert!(
            is_due(&layer(true, Some(7), now), &wish(None), later),
            "started again"
        );
        let queued = Layer {
            queued: true,
            ..layer(false, None, now)
        };
        assert!(!is_due(&queued, &wish(None), now));
    }

    #[test]
    fn layer_that_only_a_process_can_find_is_measured_once_there_is_one() {
        let now = Instant::now();
        let mut layer = Layer {
            size: None,
            cost: Duration::ZERO,
            due: now + RETRY,
            measured_at_end: None,
            upper: None,
            asked: None,
            queued: false,
        };
        let mut wish = Wanted {
            id: String::new(),
            upper: String::new(),
            pid: None,
            ended_at: Some(0),
        };
        assert!(!is_due(&layer, &wish, now), "created, and put off");
        (wish.pid, wish.ended_at) = (Some(7), None);
        assert!(is_due(&layer, &wish, now), "started");
        layer.asked = wish.pid;
        assert!(!is_due(&layer, &wish, now), "it could not tell either");
    }

    #[test]
    fn file_system_is_named_as_image_fs_info_names_it() {
        let root = |path: &str| storage_root(Path::new(path));
        assert_eq!(root("/var/lib/docker/overlay2/abc/diff"), "/var/lib/docker");
        assert_eq!(
            root("/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/7/fs"),
            "/var/lib/containerd"
        );
    }
}
