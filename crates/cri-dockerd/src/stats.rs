//! ContainerStats and ListContainerStats, as far as one Docker call per running container goes
//! (STT-01..04). Reading cgroups in one sweep replaces it (PRF-25).

use cri_api::v1;
use futures_util::{StreamExt as _, stream};

use crate::engine::model::ContainerStats;
use crate::error::Error;
use crate::hub::now;
use crate::labels;
use crate::runtime::Runtime;
use crate::state::Record;

/// Stats calls under way at once.
const CALLS: usize = 8;

impl Runtime {
    /// ContainerStats of one container, running or not.
    pub(crate) async fn container_stats(&self, id: &str) -> Result<v1::ContainerStats, Error> {
        let record = self.container(id).await?;
        Ok(self.sample(&record).await)
    }

    /// ListContainerStats. Differs: containers that don't run cost no call; they show zeros.
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
        let samples = records
            .into_iter()
            .map(|record| async move { self.sample(&record).await });
        Ok(stream::iter(samples).buffered(CALLS).collect().await)
    }

    /// One sample; zeros when Docker gives none, for the container may have ended meanwhile.
    async fn sample(&self, record: &Record) -> v1::ContainerStats {
        let stats = if record.life.is_running() {
            self.engine.stats(&record.id).await.unwrap_or_else(|error| {
                tracing::debug!(container.id = record.id, %error, "no stats");
                ContainerStats::default()
            })
        } else {
            ContainerStats::default()
        };
        let value = |value| Some(v1::UInt64Value { value });
        let memory = &stats.memory_stats;
        v1::ContainerStats {
            attributes: Some(v1::ContainerAttributes {
                id: record.id.clone(),
                metadata: Some(record.name.container_metadata()),
                labels: record.labels.clone(),
                annotations: record.annotations.clone(),
            }),
            cpu: Some(v1::CpuUsage {
                timestamp: now(),
                usage_core_nano_seconds: value(stats.cpu_stats.cpu_usage.total_usage),
                ..Default::default()
            }),
            memory: Some(v1::MemoryUsage {
                timestamp: now(),
                working_set_bytes: value(working_set(memory.usage, &memory.stats)),
                usage_bytes: value(memory.usage),
                ..Default::default()
            }),
            ..Default::default()
        }
    }
}

/// Usage without the page cache that can be dropped (CMP-03): the name differs between cgroup
/// versions.
fn working_set(usage: u64, stats: &std::collections::BTreeMap<String, u64>) -> u64 {
    let inactive = stats
        .get("total_inactive_file")
        .or_else(|| stats.get("inactive_file"));
    usage.saturating_sub(inactive.copied().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::working_set;

    #[test]
    fn working_set_leaves_droppable_cache_out_on_both_cgroup_versions() {
        let stats = |name: &str, bytes| [(name.to_owned(), bytes)].into();
        assert_eq!(working_set(10, &stats("inactive_file", 4)), 6);
        assert_eq!(working_set(10, &stats("total_inactive_file", 4)), 6);
        assert_eq!(working_set(1, &stats("inactive_file", 4)), 0);
        assert_eq!(working_set(7, &std::collections::BTreeMap::new()), 7);
    }
}
