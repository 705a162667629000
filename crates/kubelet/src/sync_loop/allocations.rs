//! What each pod was given when it was taken, over restarts (CTR-52, DIR-11).
//!
//! What survives is `<root>/allocated_pods_state`, in upstream's format; written whenever a pod has been
//! taken. The entry of one that is gone stays until then: nobody asks for it.
//!
//! Differs: a file that cannot be read is said and begun anew, so that what manifests say now counts.
//! Upstream does not start.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use daemon::{ErrorChain, atomic_file};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kubelet_core::{
    allocation::{
        Allocated, Allocation, Asked,
        checkpoint::{self, CheckpointError},
    },
    ids::PodUid,
};

use crate::metrics::ResizeMetrics;

/// Only root reads what pods have.
const MODE: u32 = 0o600;

#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("read")]
    Read(#[from] io::Error),
    #[error("decode")]
    Decode(#[from] CheckpointError),
}

/// How [`Allocations::save`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Saved {
    /// The file tells of all.
    Whole,
    /// It could not be written.
    Failed,
}

/// The pods that sources ask for, as they were given what they have.
#[derive(Debug)]
pub(super) struct Allocations {
    path: PathBuf,
    /// Of an earlier process, until their pods are asked for again.
    before: BTreeMap<PodUid, Allocation>,
    pods: BTreeMap<PodUid, Allocated>,
    /// Those that the file does not tell of yet.
    unwritten: BTreeSet<PodUid>,
    failing: bool,
    metrics: Option<ResizeMetrics>,
}

impl Allocations {
    /// What an earlier process wrote.
    pub(super) async fn load(path: PathBuf, metrics: Option<ResizeMetrics>) -> Self {
        let file = path.clone();
        let before = daemon::blocking(move || load(&file)).await;
        let before = before.unwrap_or_else(|error| {
            tracing::error!(path = %path.display(), error = %ErrorChain(&error),
                "what pods were given before is lost: they are given what their manifests say now");
            BTreeMap::new()
        });
        Self {
            path,
            before,
            pods: BTreeMap::new(),
            unwritten: BTreeSet::new(),
            failing: false,
            metrics,
        }
    }

    /// Puts what pods were given in the place of what they ask for.
    pub(super) fn apply(&mut self, desired: &mut BTreeMap<PodUid, Arc<Pod>>, now: Timestamp) {
        self.keep(|uid| desired.contains_key(uid));
        for (uid, pod) in desired {
            let allocated = match self.pods.entry(uid.clone()) {
                Entry::Occupied(known) => {
                    let known = known.into_mut();
                    let asked = known.update(pod, now);
                    count(self.metrics.as_ref(), &asked);
                    known
                }
                Entry::Vacant(new) => {
                    let before = self.before.remove(uid);
                    let allocated = Allocated::new(pod.clone(), before.as_ref(), now);
                    if before.as_ref() != Some(allocated.allocation()) {
                        self.unwritten.insert(uid.clone());
                    }
                    let asked = Asked {
                        infeasible: allocated.pending.is_some(),
                        ..Asked::default()
                    };
                    count(self.metrics.as_ref(), &asked);
                    new.insert(allocated)
                }
            };
            *pod = allocated.pod.clone();
        }
        self.count_pending();
    }

    fn count_pending(&self) {
        let Some(metrics) = &self.metrics else { return };
        let pods = self.pods.values();
        let pending = pods.filter(|pod| pod.pending.is_some()).count();
        metrics.pending.reset();
        if pending > 0 {
            let pending = i64::try_from(pending).unwrap_or(i64::MAX);
            metrics
                .pending
                .with_label_values(&["infeasible"])
                .set(pending);
        }
    }

    /// Forgets those that were not taken: they have nothing.
    pub(super) fn keep(&mut self, is_taken: impl Fn(&PodUid) -> bool) {
        self.pods.retain(|uid, _| is_taken(uid));
        self.unwritten.retain(is_taken);
        self.count_pending();
    }

    /// Every source has spoken: what nobody has asked for by now is gone.
    pub(super) fn forget_others(&mut self) {
        self.before.clear();
    }

    /// What tells of a resize that is not made.
    pub(super) fn pending(&self, uid: &PodUid) -> Option<PodCondition> {
        self.pods.get(uid)?.pending.clone()
    }

    /// Writes down who has what, where somebody has been taken. A failure is said once; then this has to be
    /// called again.
    pub(super) async fn save(&mut self) -> Saved {
        if self.unwritten.is_empty() {
            return Saved::Whole;
        }
        let entries = self.pods.iter();
        let entries = entries.map(|(uid, allocated)| (uid, allocated.allocation()));
        let text = checkpoint::encode(&self.before.iter().chain(entries).collect());
        let path = self.path.clone();
        let written = daemon::blocking(move || atomic_file::write(&path, text.as_bytes(), MODE));
        match written.await {
            Ok(()) => {
                self.unwritten.clear();
                self.failing = false;
                Saved::Whole
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(error = %ErrorChain(&error), "write down what pods were given");
                }
                Saved::Failed
            }
        }
    }
}

fn count(metrics: Option<&ResizeMetrics>, asked: &Asked) {
    let Some(metrics) = metrics else { return };
    for resize in &asked.resizes {
        let labels = [resize.resource, resize.requirement, resize.operation];
        metrics.requested.with_label_values(&labels).inc();
    }
    if asked.infeasible {
        metrics.infeasible.with_label_values(&["static_pod"]).inc();
    }
}

fn load(path: &Path) -> Result<BTreeMap<PodUid, Allocation>, LoadError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(checkpoint::decode(&text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error.into()),
    }
}
