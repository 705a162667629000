//! Statistics of containers and pods, from cgroups and `/proc` alone: Docker is never asked
//! (STT-12, PRF-25..28, UNI-01, UNI-05, CMP-01..04).
//!
//! ```text
//!  handlers ─▶ hub (who runs, from memory)
//!     │    ─▶ kernel: one blocking sweep over cgroups and /proc ─▶ rates ─▶ show ─▶ CRI
//!     └───▶ layers: sizes of writable layers, measured in the background, at most so often
//! ```
//!
//! Nothing happens while nobody asks. What is remembered (the last CPU reading and the last measured
//! size per container) only fills `usage_nano_cores` and `writable_layer`; nothing survives a
//! restart.

mod kernel;
mod layers;
mod locate;
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

pub(crate) use self::kernel::Kernel;
use self::kernel::Reading;
pub(crate) use self::layers::Layers;
use self::layers::Wanted;
pub(crate) use self::locate::{is_of, of_pod as group_of_pod};
use self::rates::Rates;
use crate::error::Error;
use crate::hub::lock;
use crate::labels;
use crate::paths::PathView;
use crate::runtime::Runtime;
use crate::sandbox::not_found;
use crate::state::{Life, Record};
use crate::translate::CgroupDriver;

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

/// A pod as it is asked about.
#[derive(Debug, Clone)]
struct Pod {
    sandbox: Arc<Record>,
    containers: Vec<Arc<Record>>,
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
    async fn containers(
        &self,
        records: Vec<Arc<Record>>,
        driver: Option<CgroupDriver>,
    ) -> Vec<v1::ContainerStats> {
        self.measure(&records).await;
        let targets: Vec<_> = records.iter().map(|r| locate::target(r, driver)).collect();
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
    async fn pods(&self, pods: Vec<Pod>, driver: Option<CgroupDriver>) -> Vec<v1::PodSandboxStats> {
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
    async fn measure(&self, records: &[Arc<Record>]) {
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

    /// Forgets what is gone; `known` are the ids of all our sandboxes and containers.
    fn keep_only(&self, known: &HashSet<String>) {
        lock(&self.rates).keep_only(known);
        self.layers.keep_only(known);
    }
}

fn pid(record: &Record) -> Option<u32> {
    u32::try_from(record.pid()?).ok().filter(|pid| *pid > 0)
}

impl Runtime {
    /// ContainerStats of one container, running or not.
    pub(crate) async fn container_stats(&self, id: &str) -> Result<v1::ContainerStats, Error> {
        let record = self.container(id).await?;
        let mut all = self
            .stats
            .containers(vec![record], self.driver().await)
            .await;
        all.pop().ok_or_else(|| not_found(id))
    }

    /// ListContainerStats. Differs: containers that don't run show zeros and cost nothing.
    pub(crate) async fn list_container_stats(
        &self,
        filter: Option<v1::ContainerStatsFilter>,
    ) -> Result<Vec<v1::ContainerStats>, Error> {
        let filter = filter.unwrap_or_default();
        let taken = |record: &Record| {
            record.container().is_some_and(|facts| {
                (filter.pod_sandbox_id.is_empty() || filter.pod_sandbox_id == facts.sandbox_id)
                    && record.id.starts_with(&filter.id)
                    && labels::matches(&filter.label_selector, &record.labels)
            })
        };
        let records = self.hub.list(taken).await?;
        if filter == v1::ContainerStatsFilter::default() {
            self.forget_stats().await?;
        }
        Ok(self.stats.containers(records, self.driver().await).await)
    }

    /// PodSandboxStats of one pod; one that doesn't run shows no figures.
    pub(crate) async fn pod_sandbox_stats(&self, id: &str) -> Result<v1::PodSandboxStats, Error> {
        let record = self.hub.find(id).await?;
        let sandbox = record.filter(|record| record.sandbox().is_some());
        let pod = self.pod_of(sandbox.ok_or_else(|| not_found(id))?);
        let mut all = self.stats.pods(vec![pod], self.driver().await).await;
        all.pop().ok_or_else(|| not_found(id))
    }

    /// ListPodSandboxStats: pods that run.
    pub(crate) async fn list_pod_sandbox_stats(
        &self,
        filter: Option<v1::PodSandboxStatsFilter>,
    ) -> Result<Vec<v1::PodSandboxStats>, Error> {
        let filter = filter.unwrap_or_default();
        let pods = self
            .running_pods(|record| {
                record.id.starts_with(&filter.id)
                    && labels::matches(&filter.label_selector, &record.labels)
            })
            .await?;
        if filter == v1::PodSandboxStatsFilter::default() {
            self.forget_stats().await?;
        }
        Ok(self.stats.pods(pods, self.driver().await).await)
    }

    /// ListPodSandboxMetrics: pods that run, with names and labels as cAdvisor's (CMP-18).
    pub(crate) async fn list_pod_sandbox_metrics(
        &self,
    ) -> Result<Vec<v1::PodSandboxMetrics>, Error> {
        let pods = self.running_pods(|_| true).await?;
        let driver = self.driver().await;
        let containers: Vec<_> = pods
            .iter()
            .flat_map(|pod| pod.containers.iter().cloned())
            .collect();
        self.stats.measure(&containers).await;
        let sizes = containers
            .iter()
            .map(|record| self.stats.layers.size(&record.id))
            .collect();
        let data = self
            .data_root()
            .and_then(|root| self.stats.paths.from_host(&root));
        let kernel = Arc::clone(&self.stats.kernel);
        Ok(daemon::blocking(move || {
            metrics::collect(&kernel, &pods, driver, sizes, data.as_deref())
        })
        .await)
    }

    /// ListMetricDescriptors.
    pub(crate) fn list_metric_descriptors() -> Vec<v1::MetricDescriptor> {
        metrics::descriptors()
    }

    /// ImageFsInfo: where images and what containers wrote are kept, and how much that is (STT-09
    /// to STT-11). With containerd's image store that is containerd's directory, not Docker's.
    pub(crate) async fn image_fs_info(&self) -> Result<v1::ImageFsInfoResponse, cri_api::RpcError> {
        let containers = self
            .hub
            .list(|record| record.container().is_some())
            .await
            .map_err(|error| crate::images::hub_error(&error))?;
        self.stats.measure(&containers).await;
        let root = match self.data_root() {
            Some(root) if self.has_containerd_store() => {
                let candidates = [
                    root.join("containerd/daemon"),
                    PathBuf::from("/var/lib/containerd"),
                ];
                let sandboxes = self.hub.list(|record| record.life.is_running()).await;
                let pid = sandboxes
                    .unwrap_or_default()
                    .iter()
                    .find_map(|record| pid(record).map(|pid| (record.id.clone(), pid)));
                let (kernel, paths) = (
                    Arc::clone(&self.stats.kernel),
                    Arc::clone(&self.stats.paths),
                );
                let found = daemon::blocking(move || {
                    let of_container = pid
                        .and_then(|(id, pid)| kernel.upper_dir(pid, &id))
                        .and_then(|upper| layers::snapshot_root(&upper));
                    of_container.or_else(|| {
                        candidates.into_iter().find(|path| {
                            paths
                                .from_host(path)
                                .is_some_and(|path| layers::has_snapshots(&path))
                        })
                    })
                });
                Some(found.await.unwrap_or(root))
            }
            root => root,
        };
        self.images
            .fs_info(root, self.stats.layers.total_bytes())
            .await
    }

    /// The engine's cgroup driver; `None` before Docker was reached and for one we don't know.
    async fn driver(&self) -> Option<CgroupDriver> {
        self.hub.facts().await.ok()?.cgroup_driver.ok()
    }

    /// Docker's data directory on its host.
    fn data_root(&self) -> Option<PathBuf> {
        let facts = self.hub.known_facts()?;
        Some(PathBuf::from(&facts.info.docker_root_dir))
    }

    fn has_containerd_store(&self) -> bool {
        let facts = self.hub.known_facts();
        facts.is_some_and(|facts| facts.info.has_containerd_store())
    }

    fn pod_of(&self, sandbox: Arc<Record>) -> Pod {
        let mut containers = self.hub.containers_of(&sandbox.id);
        containers.retain(|record| record.life.is_running());
        Pod {
            sandbox,
            containers,
        }
    }

    async fn running_pods(&self, taken: impl Fn(&Record) -> bool) -> Result<Vec<Pod>, Error> {
        let running = |record: &Record| record.sandbox().is_some() && record.life.is_running();
        let sandboxes = self
            .hub
            .list(|record| running(record) && taken(record))
            .await?;
        Ok(sandboxes
            .into_iter()
            .map(|sandbox| self.pod_of(sandbox))
            .collect())
    }

    async fn forget_stats(&self) -> Result<(), Error> {
        let known = self.hub.list(|_| true).await?;
        self.stats
            .keep_only(&known.iter().map(|record| record.id.clone()).collect());
        Ok(())
    }
}
