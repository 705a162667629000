//! Calls for statistics of containers and pods, for metrics and for the room that images take.

use std::path::PathBuf;
use std::sync::Arc;

use cri_api::v1;

use crate::cgroup::CgroupDriver;
use crate::error::{Error, not_found};
use crate::labels;
use crate::runtime::Runtime;
use crate::state::Record;
use crate::stats::{self, Pod};

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
        let mut filter = filter.unwrap_or_default();
        self.complete_pod_id(&mut filter.pod_sandbox_id).await?;
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
        self.forget_stats().await?;
        let driver = self.driver().await;
        Ok(self.stats.metrics(pods, driver, self.data_root()).await)
    }

    /// ListMetricDescriptors.
    pub(crate) fn list_metric_descriptors() -> Vec<v1::MetricDescriptor> {
        stats::descriptors()
    }

    /// ImageFsInfo: where images and what containers wrote are kept, and how much that is (STT-09
    /// to STT-11). With containerd's image store that is containerd's directory, not Docker's.
    pub(crate) async fn image_fs_info(&self) -> Result<v1::ImageFsInfoResponse, cri_api::RpcError> {
        let containers = self
            .hub
            .list(|record| record.container().is_some())
            .await
            .map_err(Error::from)?;
        self.forget_stats().await?;
        self.stats.measure(&containers).await;
        let root = match self.data_root() {
            Some(root) if self.has_containerd_store() => {
                let places = [
                    root.join("containerd/daemon"),
                    PathBuf::from("/var/lib/containerd"),
                ];
                let running = self.hub.list(|record| record.life.is_running()).await;
                let running = running.unwrap_or_default();
                let found = self.stats.snapshot_root(&running, places).await;
                Some(found.unwrap_or(root))
            }
            root => root,
        };
        let written = self.stats.written_bytes();
        self.images.fs_info(root, written).await
    }

    /// The engine's cgroup driver; `None` before Docker was reached and for one we don't know.
    pub(crate) async fn driver(&self) -> Option<CgroupDriver> {
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
