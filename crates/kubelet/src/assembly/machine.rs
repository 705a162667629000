//! What is found out about the machine before the runtime answers.

use std::path::Path;

use k8s_openapi::api::core::v1::Taint;
use kubelet_config::Settings;
use kubelet_core::{admission::NodeInfo, downward::Allocatable};
use node_os::{
    cgroups::{CgroupFs, Cgroups, Version},
    host_view::HostView,
    mounts::KernelMounts,
    proc::Proc,
};

use super::{StartError, host};
use crate::{
    events::Events,
    node::{
        capacity::{self, Capacity, PodLimits},
        info,
        system::{self, SystemConfig},
    },
    pod_dirs,
    volumes::Visibility,
};

/// What was found out about the machine before the runtime answered.
pub(super) struct Machine {
    pub(super) capacity: Capacity,
    pub(super) allocatable: Allocatable,
    /// The node as admission sees it.
    pub(super) node: NodeInfo,
    pub(super) cgroups: Option<CgroupFs>,
    pub(super) version: Option<Version>,
    /// Swap is counted per group.
    pub(super) swap_controller: bool,
    pub(super) tmpfs_swap: node_os::mounts::Swap,
    pub(super) host: HostView,
    pub(super) visibility: Visibility,
    /// Directories that tell of each processor's heat (SPEC-50).
    pub(super) thermal_throttle: Vec<String>,
}

fn limits_swap(cgroups: &CgroupFs) -> bool {
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = text.lines().find_map(|line| line.strip_prefix("0::"));
    cgroups
        .hierarchies()
        .limits_swap(Path::new(own.unwrap_or_default()))
}

pub(super) async fn look_at_machine(
    settings: &Settings,
    node_name: &str,
    events: &Events,
) -> Result<Machine, StartError> {
    let (settings, node_name, events) = (settings.clone(), node_name.to_owned(), events.clone());
    daemon::blocking(move || {
        for directory in [&settings.paths.root_dir, &settings.paths.pods_dir()] {
            pod_dirs::ensure_directory(directory, kubelet_config::DIRECTORY_MODE)?;
        }
        let cgroups = match CgroupFs::open() {
            Ok(cgroups) => Some(cgroups),
            Err(error) if settings.cgroups.per_qos => return Err(error.into()),
            Err(_) => None,
        };
        let version = cgroups.as_ref().map(Cgroups::version);
        let config = SystemConfig {
            protect_kernel_defaults: settings.node.protect_kernel_defaults,
            oom_score_adj: settings.node.oom_score_adj,
            max_open_files: settings.node.max_open_files,
            fail_swap_on: settings.node.fail_swap_on,
            swap: settings.node.swap,
            fail_cgroup_v1: settings.node.fail_cgroup_v1,
            cgroup_version: version,
            node_name,
        };
        let proc = Proc::new();
        let root = &settings.paths.root_dir;
        let system = system::prepare(&config, &proc, &KernelMounts, root, &events)?;
        let storage = settings
            .node
            .local_storage_capacity_isolation
            .then_some(root.as_path());
        let limits = PodLimits {
            max_pods: settings.node.max_pods,
            pods_per_core: settings.node.pods_per_core,
        };
        let hugepages = Path::new(capacity::HUGEPAGES_DIRECTORY);
        let capacity = Capacity::read(&proc, hugepages, storage, limits)?;
        let amounts = capacity.amounts();
        let reserved = [
            settings.resources.system_reserved,
            settings.resources.kube_reserved,
        ];
        capacity::check_reservations(&amounts, &reserved, &settings.eviction)?;
        let left = capacity::allocatable(&amounts, &reserved, &settings.eviction);
        let value = |name: &str| left.get(name).map_or(0, |amount| amount.value());
        let allocatable = Allocatable {
            cpu_millicores: left.get("cpu").map_or(0, |amount| amount.milli_value()),
            memory_bytes: value("memory"),
            ephemeral_storage_bytes: value("ephemeral-storage"),
        };
        let node = info::node_info(info::InfoConfig {
            name: &config.node_name,
            labels: &settings.node.labels,
            taints: settings.node.taints.iter().map(taint).collect(),
            unsafe_sysctls: &settings.security.allowed_unsafe_sysctls,
            pod_level_resources: settings.gates.pod_level_resources,
            allocatable: left,
        })?;
        let (host, visibility) = host::view(root);
        Ok(Machine {
            capacity,
            allocatable,
            node,
            swap_controller: cgroups.as_ref().is_some_and(limits_swap),
            cgroups,
            version,
            tmpfs_swap: system.tmpfs_swap,
            host,
            visibility,
            thermal_throttle: proc.thermal_throttle(),
        })
    })
    .await
}

fn taint(given: &kubelet_config::Taint) -> Taint {
    Taint {
        key: given.key.clone(),
        value: Some(given.value.clone()),
        effect: given.effect.clone(),
        time_added: None,
    }
}
