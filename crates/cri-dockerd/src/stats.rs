//! Statistics of containers and pods, from cgroups and `/proc` alone: Docker is never asked
//! (STT-12, PRF-25..28, UNI-01, UNI-05, CMP-01..04).
//!
//! ```text
//!  stats_rpcs ─▶ hub (who runs, from memory)
//!     │      ─▶ kernel: one blocking sweep over cgroups and /proc ─▶ rates ─▶ show ─▶ CRI
//!     └─────▶ layers: sizes of writable layers, measured in the background, at most so often
//! ```
//!
//! Nothing happens while nobody asks. What is remembered (the last CPU reading and the last measured
//! size per container) only fills `usage_nano_cores` and `writable_layer`; nothing survives a
//! restart.

mod kernel;
mod layers;
mod metrics;
mod rates;
mod show;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cri_api::v1;

pub(crate) use self::kernel::{Kernel, Pod};
use self::kernel::{Reading, Target, pid};
use self::layers::{Layers, Wanted};
use self::rates::Rates;
use crate::cgroup::CgroupDriver;
use crate::lock::lock;
use crate::paths::PathView;
use crate::state::{Life, Record};

pub(crate) use self::metrics::descriptors;

/// How long a call waits for the first size of a layer; most are measured at once.
const FIRST_SIZE: Duration = Duration::from_millis(25);

/// See the module.
#[derive(Debug)]
pub(crate) struct Stats {
    kernel: Arc<Kernel>,
    rates: Mutex<Rates>,
    layers: Arc<Layers>,
    paths: Arc<dyn PathView>,
}

impl Stats {
    /// Statistics as `kernel` tells them; layers are measured on `spawner`'s group.
    pub(crate) fn new(kernel: Kernel, paths: Arc<dyn PathView>, spawner: daemon::Spawner) -> Self {
        Self {
            kernel: Arc::new(kernel),
            rates: Mutex::default(),
            layers: Layers::new(Arc::clone(&paths), spawner),
            paths,
        }
    }

    /// Statistics of containers, in their order. Those that don't run show zeros.
    pub(crate) async fn containers(
        &self,
        records: Vec<Arc<Record>>,
        driver: Option<CgroupDriver>,
    ) -> Vec<v1::ContainerStats> {
        self.measure(&records).await;
        let targets: Vec<_> = records.iter().map(|r| Target::of(r, driver)).collect();
        let kernel = Arc::clone(&self.kernel);
        let readings = daemon::blocking(move || {
            let readings = targets.iter().map(|target| kernel.read(target));
            readings.collect::<Vec<_>>()
        })
        .await;
        let pairs = records.iter().zip(&readings);
        pairs
            .map(|(record, reading)| self.show(record, reading.as_ref()))
            .collect()
    }

    /// Statistics of pods, in their order, with their running containers.
    pub(crate) async fn pods(
        &self,
        pods: Vec<Pod>,
        driver: Option<CgroupDriver>,
    ) -> Vec<v1::PodSandboxStats> {
        let all: Vec<_> = pods
            .iter()
            .flat_map(|pod| pod.containers.iter().cloned())
            .collect();
        self.measure(&all).await;
        let (kernel, sweep) = (Arc::clone(&self.kernel), pods.clone());
        let readings = daemon::blocking(move || {
            let read = |pod: &Pod| kernel.read_pod(pod, driver);
            sweep.iter().map(read).collect::<Vec<_>>()
        })
        .await;
        let pairs = pods.iter().zip(readings);
        pairs
            .map(|(pod, reading)| {
                let nano_cores = reading
                    .own
                    .as_ref()
                    .and_then(|own| self.rate(&pod.sandbox.id, own));
                let containers = pod.containers.iter().zip(&reading.containers);
                let shown = containers.map(|(record, reading)| self.show(record, reading.as_ref()));
                show::pod(&pod.sandbox, &reading, nano_cores, shown.collect())
            })
            .collect()
    }

    fn show(&self, record: &Record, reading: Option<&Reading>) -> v1::ContainerStats {
        let nano_cores = reading.and_then(|reading| self.rate(&record.id, reading));
        show::container(record, reading, nano_cores, self.layers.size(&record.id))
    }

    fn rate(&self, id: &str, reading: &Reading) -> Option<u64> {
        let usage = reading.stats.cpu_usage_nanos?;
        lock(&self.rates).next(id, usage, reading.since)
    }

    /// Has the layers measured that are due, and waits a moment for those never measured before.
    pub(crate) async fn measure(&self, records: &[Arc<Record>]) {
        let wanted = records.iter().map(|record| Wanted {
            id: record.id.clone(),
            upper: record.upper_dir.clone(),
            pid: pid(record),
            ended_at: match record.life {
                Life::Running { .. } => None,
                Life::Created => Some(0),
                Life::Exited { finished_at, .. } => Some(finished_at),
            },
        });
        if self.layers.want(wanted.collect(), Arc::clone(&self.kernel)) {
            // Late ones are in the next answer.
            let _ = tokio::time::timeout(FIRST_SIZE, self.layers.settled()).await;
        }
    }

    /// Metrics of pods, in their order, and of their containers; `data_root` is Docker's data
    /// directory on its host.
    pub(crate) async fn metrics(
        &self,
        pods: Vec<Pod>,
        driver: Option<CgroupDriver>,
        data_root: Option<PathBuf>,
    ) -> Vec<v1::PodSandboxMetrics> {
        let containers: Vec<_> = pods
            .iter()
            .flat_map(|pod| pod.containers.iter().cloned())
            .collect();
        self.measure(&containers).await;
        let sizes = containers
            .iter()
            .map(|record| self.layers.size(&record.id))
            .collect();
        let data = data_root.and_then(|root| self.paths.from_host(&root));
        let kernel = Arc::clone(&self.kernel);
        daemon::blocking(move || metrics::collect(&kernel, &pods, driver, sizes, data.as_deref()))
            .await
    }

    /// What containers wrote into their layers, as far as it was measured.
    pub(crate) fn written_bytes(&self) -> Option<u64> {
        self.layers.total_bytes()
    }

    /// Where containerd's image store keeps its snapshots, which Docker does not tell: as one of the
    /// `running` shows, else in the place where there are some.
    pub(crate) async fn snapshot_root(
        &self,
        running: &[Arc<Record>],
        places: [PathBuf; 2],
    ) -> Option<PathBuf> {
        let one = running
            .iter()
            .find_map(|record| pid(record).map(|pid| (record.id.clone(), pid)));
        let (kernel, paths) = (Arc::clone(&self.kernel), Arc::clone(&self.paths));
        daemon::blocking(move || {
            let of_container = one
                .and_then(|(id, pid)| kernel.upper_dir(pid, &id))
                .and_then(|upper| layers::snapshot_root(&upper));
            of_container.or_else(|| {
                places.into_iter().find(|path| {
                    paths
                        .from_host(path)
                        .is_some_and(|path| layers::has_snapshots(&path))
                })
            })
        })
        .await
    }

    /// Forgets what is gone; `known` are the ids of all our sandboxes and containers.
    pub(crate) fn keep_only(&self, known: &HashSet<String>) {
        lock(&self.rates).keep_only(known);
        self.layers.keep_only(known);
    }
}
