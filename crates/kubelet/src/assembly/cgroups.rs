//! The groups that all pods live in.

use std::{sync::Arc, time::Duration};

use daemon::ErrorChain;
use kubelet_config::{Enforcement, Settings};
use kubelet_core::{cgroup_name, resources::PodCgroupSettings};
use node_os::cgroups::{CgroupPath, Cgroups, SystemdCgroups, Version};

use super::{StartError, machine::Machine};
use crate::{
    events::Events,
    node::cgroups::{CgroupsConfig, PodCgroups},
};

pub(super) async fn start_cgroups(
    settings: &Settings,
    driver: cgroup_name::CgroupDriver,
    machine: &Machine,
    node_name: &str,
    events: &Events,
) -> Result<PodCgroups, StartError> {
    let (true, Some(files)) = (settings.cgroups.per_qos, &machine.cgroups) else {
        return Ok(PodCgroups::off(events.clone()));
    };
    let kernel: Arc<dyn Cgroups> = match driver {
        cgroup_name::CgroupDriver::Cgroupfs => Arc::new(files.clone()),
        cgroup_name::CgroupDriver::Systemd => match SystemdCgroups::open(files.clone()) {
            Ok(systemd) => Arc::new(systemd),
            Err(error) => {
                // Docker makes the slices; their values are written into the files (DEC-47).
                tracing::warn!(error = %ErrorChain(&error), "systemd cannot be asked for slices");
                Arc::new(files.clone())
            }
        },
    };
    let root = if settings.cgroups.root.is_empty() {
        "/"
    } else {
        &settings.cgroups.root
    };
    let config = CgroupsConfig {
        driver,
        root: CgroupPath::new(root)?,
        pods: pod_cgroup_settings(settings, machine),
        page_sizes: machine.capacity.page_sizes(),
        node_name: node_name.to_owned(),
    };
    let cgroups = PodCgroups::new(config, kernel, events.clone());
    let reserved = [
        settings.resources.system_reserved,
        settings.resources.kube_reserved,
    ];
    let enforced = settings.resources.enforcement.contains(&Enforcement::Pods);
    cgroups
        .start(
            machine
                .capacity
                .node_values(enforced.then_some(reserved.as_slice())),
        )
        .await?;
    Ok(cgroups)
}

/// Gate `MemoryQoS`, which needs version 2.
pub(super) fn memory_qos(settings: &Settings, machine: &Machine) -> bool {
    settings.gates.memory_qos && machine.version == Some(Version::V2)
}

pub(super) fn pod_cgroup_settings(settings: &Settings, machine: &Machine) -> PodCgroupSettings {
    PodCgroupSettings {
        enforce_cpu_quota: settings.cgroups.cpu_cfs_quota,
        cpu_period_micros: micros(settings.cgroups.cpu_cfs_quota_period),
        pids_limit: settings
            .cgroups
            .pod_pids_limit
            .map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX)),
        memory_qos: memory_qos(settings, machine),
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
