//! Numbers that are always the same.

use cri_api::v1;
use tonic::Status;

use crate::fake_cri::{State, objects::FakeContainer};

pub(super) fn container_stats(container: &FakeContainer, now: i64) -> v1::ContainerStats {
    let value = |value| Some(v1::UInt64Value { value });
    v1::ContainerStats {
        attributes: Some(v1::ContainerAttributes {
            id: container.id.clone(),
            metadata: container.config.metadata.clone(),
            labels: container.config.labels.clone(),
            annotations: container.config.annotations.clone(),
        }),
        cpu: Some(v1::CpuUsage {
            timestamp: now,
            usage_core_nano_seconds: value(1_000_000),
            usage_nano_cores: value(1_000),
            ..v1::CpuUsage::default()
        }),
        memory: Some(v1::MemoryUsage {
            timestamp: now,
            working_set_bytes: value(1 << 20),
            usage_bytes: value(2 << 20),
            rss_bytes: value(1 << 19),
            ..v1::MemoryUsage::default()
        }),
        writable_layer: Some(v1::FilesystemUsage {
            timestamp: now,
            used_bytes: value(4096),
            inodes_used: value(1),
            ..v1::FilesystemUsage::default()
        }),
        ..v1::ContainerStats::default()
    }
}

pub(super) fn sandbox_stats(state: &mut State, id: &str) -> Result<v1::PodSandboxStats, Status> {
    let now = state.model.now();
    let sandbox = state.model.sandbox(id)?;
    Ok(v1::PodSandboxStats {
        attributes: Some(v1::PodSandboxAttributes {
            id: sandbox.id.clone(),
            metadata: sandbox.config.metadata.clone(),
            labels: sandbox.config.labels.clone(),
            annotations: sandbox.config.annotations.clone(),
        }),
        linux: Some(v1::LinuxPodSandboxStats {
            containers: state
                .model
                .inside(id)
                .map(|one| container_stats(one, now))
                .collect(),
            ..v1::LinuxPodSandboxStats::default()
        }),
        windows: None,
    })
}
