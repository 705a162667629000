//! What every pod worker works with.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use daemon::Tidy;
use kubelet_config::{ImagePulls, Settings, SwapBehavior};
use kubelet_core::{
    backoff::BackoffPolicy,
    hostname::HostnameOverride,
    resources::{ContainerResourceSettings, MemoryQos},
    spec::RestartRules,
    translate,
};
use node_os::{cgroups::Version, mounts::KernelMounts, proc};

use super::{
    cgroups::{memory_qos, micros, pod_cgroup_settings},
    machine::Machine,
};
use crate::{
    control_plane::ControlPlane,
    events::Events,
    images::{CredentialPaths, ImagePuller, PullConfig},
    lifecycle::Hooks,
    metrics::Metrics,
    node::{addresses::NodeAddresses, cgroups::PodCgroups},
    pod_dirs::PodDirs,
    pod_workers::{Gates, HostIps, NodeFacts, PodContext},
    probes::Probes,
    runtime::{client::CriClient, health::HealthView, wakes::Wakes},
    status_store::StatusStore,
    volumes::{ImageVolumes, Volumes, VolumesConfig},
};

/// There while SELinux is on.
const SELINUX: &str = "/sys/fs/selinux/enforce";
/// Where the links for log shippers are (DIR-05).
const LOG_LINKS: &str = "/var/log/containers";

/// What a [`PodContext`] is put together from.
pub(super) struct Parts<'a> {
    pub(super) settings: &'a Settings,
    pub(super) runtime: CriClient,
    pub(super) runtime_name: String,
    pub(super) health: HealthView,
    pub(super) wakes: Arc<Wakes>,
    pub(super) events: Events,
    pub(super) control_plane: Arc<dyn ControlPlane>,
    pub(super) statuses: Arc<StatusStore>,
    pub(super) metrics: Metrics,
    pub(super) cgroups: PodCgroups,
    pub(super) probes: Probes,
    pub(super) hooks: Hooks,
    pub(super) machine: &'a Machine,
    pub(super) host_ips: Arc<dyn HostIps>,
    pub(super) tidy: Arc<Tidy>,
}

impl HostIps for NodeAddresses {
    fn find(&self) -> Vec<IpAddr> {
        self.find()
    }
}

pub(super) fn pod_context(parts: Parts<'_>) -> PodContext {
    let Parts {
        settings, machine, ..
    } = parts;
    let dirs = PodDirs::new(&settings.paths.root_dir, &settings.paths.pod_logs_dir);
    let volumes = Volumes::new(VolumesConfig {
        dirs: dirs.clone(),
        host: machine.host.clone(),
        visibility: machine.visibility,
        mounts: Arc::new(KernelMounts),
        allocatable: machine.allocatable,
        image_volumes: if settings.gates.image_volume {
            ImageVolumes::Enabled
        } else {
            ImageVolumes::Disabled
        },
        tmpfs_swap: machine.tmpfs_swap,
    });
    let images = ImagePuller::new(
        parts.runtime.clone(),
        parts.events.clone(),
        parts.metrics.image_pull_duration.clone(),
        PullConfig {
            parallel: match settings.images.pulls {
                ImagePulls::Serial => Some(1),
                ImagePulls::Parallel(limit) => limit,
            },
            pulls_per_second: settings.images.pull_qps.unwrap_or_default(),
            burst: settings.images.pull_burst,
            credentials: CredentialPaths {
                root: settings.paths.root_dir.clone(),
                working: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
                home: home(),
            },
        },
    );
    let restart_backoff = if settings.gates.reduce_default_crash_loop_back_off_decay {
        BackoffPolicy::CRASH_LOOP_REDUCED
    } else {
        BackoffPolicy::CRASH_LOOP
    };
    let facts = translate::NodeFacts {
        resources: ContainerResourceSettings {
            cpu_quota: settings.cgroups.cpu_cfs_quota,
            cpu_period_micros: micros(settings.cgroups.cpu_cfs_quota_period),
            cgroup_v2: machine.version == Some(Version::V2),
            single_process_oom_kill: settings.cgroups.single_process_oom_kill.unwrap_or_default(),
            swap_controller: machine.swap_controller,
            swap: match settings.node.swap {
                SwapBehavior::NoSwap => kubelet_core::resources::SwapBehavior::NoSwap,
                SwapBehavior::LimitedSwap => kubelet_core::resources::SwapBehavior::LimitedSwap,
            },
            memory_capacity_bytes: i64::try_from(machine.capacity.memory_bytes).unwrap_or(i64::MAX),
            swap_capacity_bytes: i64::try_from(machine.capacity.swap_bytes).unwrap_or(i64::MAX),
            page_sizes: machine.capacity.page_sizes(),
            memory_qos: memory_qos(settings, machine).then(|| {
                let reserved = [
                    settings.resources.system_reserved,
                    settings.resources.kube_reserved,
                ];
                let left = machine.capacity.node_values(Some(&reserved));
                MemoryQos {
                    throttling_factor: settings.cgroups.memory_throttling_factor,
                    page_bytes: i64::try_from(proc::page_bytes()).unwrap_or(4096),
                    allocatable_bytes: left.memory_max_bytes.unwrap_or_default(),
                }
            }),
        },
        cluster_domain: settings.dns.cluster_domain.clone().unwrap_or_default(),
        hostname_override: if settings.gates.hostname_override {
            HostnameOverride::Enabled
        } else {
            HostnameOverride::Disabled
        },
        seccomp_default: settings.security.seccomp_default,
        seccomp_root: settings.paths.seccomp_dir(),
        extra_masked_paths: machine.thermal_throttle.clone(),
        logs_directory: settings.paths.pod_logs_dir.clone(),
        recursive_read_only: false,
        supplemental_groups_policy: false,
        selinux: Path::new(SELINUX).exists(),
    };
    PodContext {
        runtime: parts.runtime,
        runtime_name: parts.runtime_name,
        health: parts.health,
        wakes: parts.wakes,
        images,
        probes: parts.probes,
        hooks: parts.hooks,
        volumes,
        dirs,
        cgroups: parts.cgroups,
        events: parts.events,
        control_plane: parts.control_plane,
        statuses: parts.statuses,
        metrics: parts.metrics,
        tidy: parts.tidy,
        node: NodeFacts {
            facts,
            cluster_dns: settings.dns.cluster_dns.clone(),
            ips: settings.node.ips.clone(),
            host_ips: parts.host_ips,
            allocatable: machine.allocatable,
            env_files: settings.gates.env_files,
            pod_cgroups: pod_cgroup_settings(settings, machine),
            resolv_conf: settings.dns.resolv_conf.clone(),
            logs_directory: settings.paths.pod_logs_dir.clone(),
            log_links_directory: PathBuf::from(LOG_LINKS),
            sync_frequency: settings.sync.pod_resync_period,
            gates: Gates {
                restart_rules: if settings.gates.container_restart_rules {
                    RestartRules::Enabled
                } else {
                    RestartRules::Disabled
                },
                stop_signals: settings.gates.container_stop_signals,
                in_place_resize: settings.gates.in_place_pod_vertical_scaling,
                supplemental_groups: settings.gates.supplemental_groups_policy,
            },
            restart_backoff: restart_backoff.with_max(settings.sync.max_container_restart_period),
        },
    }
}

fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from)
}
