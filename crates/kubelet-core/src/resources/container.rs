//! Resources of a container and of a sandbox as the runtime gets them (CRI-40, CRI-70..77).

use std::collections::BTreeMap;

use cri_api::v1::{HugepageLimit, LinuxContainerResources};
use k8s_openapi::api::core::v1::{Container, Pod};

use super::cgroup::{cpu_quota_micros, cpu_shares, page_bytes};
use super::{
    List, Overhead, has_pod_level_resources, limit, pod_level, pod_limits, pod_requests, request,
};
use crate::qos::{QosClass, pod_qos};
use crate::quantity::{Amounts, Quantity};
use crate::spec;

/// `memorySwap.swapBehavior`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SwapBehavior {
    /// Containers get no swap.
    #[default]
    NoSwap,
    /// Burstable pods get a share of the node's.
    LimitedSwap,
}

/// Gate `MemoryQoS` (CRI-76).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MemoryQos {
    /// `memoryThrottlingFactor`.
    pub throttling_factor: f64,
    /// Size of a page in bytes.
    pub page_bytes: i64,
    /// The node's memory less what is reserved, in bytes. Eviction thresholds are not subtracted.
    pub allocatable_bytes: i64,
}

/// A size of huge pages as the kernel of the node has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageSize {
    /// `2MB`, `1GB`, `64KB`: as runtimes name it.
    pub name: String,
    /// Its bytes.
    pub bytes: i64,
}

/// Page sizes in bytes under the names that runtimes use, in units of 1024 each.
pub fn hugepage_sizes(bytes: impl IntoIterator<Item = i64>) -> Vec<PageSize> {
    let mut sizes: Vec<_> = bytes
        .into_iter()
        .map(|bytes| {
            let (mut rest, mut unit) = (bytes, 0);
            while rest >= 1024 && rest % 1024 == 0 && unit < 4 {
                rest /= 1024;
                unit += 1;
            }
            PageSize {
                name: format!("{rest}{}", ["B", "KB", "MB", "GB", "TB"][unit]),
                bytes,
            }
        })
        .collect();
    sizes.sort_by_key(|size| size.bytes);
    sizes
}

/// What about the node bears on a container's resources.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerResourceSettings {
    /// `cpuCFSQuota`.
    pub cpu_quota: bool,
    /// `cpuCFSQuotaPeriod` in microseconds.
    pub cpu_period_micros: u64,
    /// Cgroup version 2.
    pub cgroup_v2: bool,
    /// `singleProcessOOMKill`; default false on version 2.
    pub single_process_oom_kill: bool,
    /// Whether swap can be limited at all.
    pub swap_controller: bool,
    /// `memorySwap.swapBehavior`.
    pub swap: SwapBehavior,
    /// Memory of the node in bytes.
    pub memory_capacity_bytes: i64,
    /// Swap of the node in bytes.
    pub swap_capacity_bytes: i64,
    /// Huge pages that the kernel has.
    pub page_sizes: Vec<PageSize>,
    /// Gate `MemoryQoS` on version 2.
    pub memory_qos: Option<MemoryQos>,
}

impl Default for ContainerResourceSettings {
    /// A node of unknown size with the configuration's defaults.
    fn default() -> Self {
        Self {
            cpu_quota: true,
            cpu_period_micros: 100_000,
            cgroup_v2: false,
            single_process_oom_kill: false,
            swap_controller: false,
            swap: SwapBehavior::NoSwap,
            memory_capacity_bytes: 0,
            swap_capacity_bytes: 0,
            page_sizes: Vec::new(),
            memory_qos: None,
        }
    }
}

/// A container's resources. `exclusive_cpus` lifts the quota (CRI-71).
pub fn container_resources(
    pod: &Pod,
    container: &Container,
    settings: &ContainerResourceSettings,
    exclusive_cpus: bool,
) -> LinuxContainerResources {
    let cpu_request = container
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref())
        .filter(|requests| requests.contains_key("cpu"))
        .map(|_| request(container, "cpu"));
    let cpu_limit = limit_or_pods(pod, container, "cpu");
    let memory_limit = limit_or_pods(pod, container, "memory");
    let mut resources = basic(
        cpu_request,
        cpu_limit,
        memory_limit,
        settings,
        exclusive_cpus,
    );
    resources.oom_score_adj = oom_score_adj(pod, container, settings.memory_capacity_bytes);
    resources.hugepage_limits = hugepage_limits(pod, container, &settings.page_sizes);
    limit_swap(&mut resources, pod, container, settings);
    if let Some(memory_qos) = &settings.memory_qos {
        resources
            .unified
            .extend(memory_qos_files(container, memory_qos));
    }
    resources
}

/// The sandbox's resources: the pod's sum without overhead (CRI-40).
pub fn sandbox_resources(
    pod: &Pod,
    settings: &ContainerResourceSettings,
    exclusive_cpus: bool,
) -> LinuxContainerResources {
    let requests = pod_requests(pod, Overhead::Exclude);
    let limits = pod_limits(pod, Overhead::Exclude);
    let get = |amounts: &Amounts, name: &str| amounts.get(name).copied();
    basic(
        get(&requests, "cpu"),
        get(&limits, "cpu").unwrap_or_default(),
        get(&limits, "memory").unwrap_or_default(),
        settings,
        exclusive_cpus,
    )
}

/// `spec.overhead` as request and limit alike; empty when there is none (CRI-40).
pub fn overhead_resources(
    pod: &Pod,
    settings: &ContainerResourceSettings,
) -> LinuxContainerResources {
    let Some(overhead) = pod.spec.as_ref().and_then(|spec| spec.overhead.as_ref()) else {
        return LinuxContainerResources::default();
    };
    let overhead = super::amounts(overhead);
    let cpu = overhead.get("cpu").copied().unwrap_or_default();
    let memory = overhead.get("memory").copied().unwrap_or_default();
    basic(Some(cpu), cpu, memory, settings, false)
}

/// Kubernetes kubelet, `calculateLinuxResources`.
fn basic(
    cpu_request: Option<Quantity>,
    cpu_limit: Quantity,
    memory_limit: Quantity,
    settings: &ContainerResourceSettings,
    exclusive_cpus: bool,
) -> LinuxContainerResources {
    let shares = cpu_shares(cpu_request.unwrap_or(cpu_limit).milli_value());
    let mut resources = LinuxContainerResources {
        cpu_shares: i64::try_from(shares).unwrap_or(i64::MAX),
        memory_limit_in_bytes: memory_limit.value(),
        ..Default::default()
    };
    if settings.cpu_quota {
        resources.cpu_period = i64::try_from(settings.cpu_period_micros).unwrap_or(i64::MAX);
        resources.cpu_quota = if exclusive_cpus {
            -1
        } else {
            cpu_quota_micros(cpu_limit.milli_value(), settings.cpu_period_micros)
        };
    }
    if settings.cgroup_v2 && !settings.single_process_oom_kill {
        resources
            .unified
            .insert("memory.oom.group".to_owned(), "1".to_owned());
    }
    resources
}

/// The container's limit, or the pod's where the container has none (CRI-72).
fn limit_or_pods(pod: &Pod, container: &Container, resource: &str) -> Quantity {
    let own = limit(container, resource);
    if own.is_zero() && has_pod_level_resources(pod) {
        return pod_level(pod, List::Limits)
            .get(resource)
            .copied()
            .unwrap_or_default();
    }
    own
}

/// CRI-74: every size that the kernel has, 0 where nothing is asked for.
fn hugepage_limits(pod: &Pod, container: &Container, sizes: &[PageSize]) -> Vec<HugepageLimit> {
    let mut wanted: BTreeMap<i64, i64> = BTreeMap::new();
    // The container's own amounts come last and win.
    for amounts in [
        pod_level(pod, List::Limits),
        List::Limits.of(container.resources.as_ref()),
    ] {
        wanted.extend(
            amounts
                .iter()
                .filter_map(|(name, amount)| Some((page_bytes(name)?, amount.value()))),
        );
    }
    sizes
        .iter()
        .map(|size| HugepageLimit {
            page_size: size.name.clone(),
            limit: wanted
                .get(&size.bytes)
                .and_then(|limit| u64::try_from(*limit).ok())
                .unwrap_or(0),
        })
        .collect()
}

/// CRI-73. Kubernetes kubelet, `GetContainerOOMScoreAdjust`.
pub fn oom_score_adj(pod: &Pod, container: &Container, memory_capacity_bytes: i64) -> i64 {
    const GUARANTEED: i64 = -997;
    const BEST_EFFORT: i64 = 1000;
    if spec::is_node_critical(pod) {
        return GUARANTEED;
    }
    match pod_qos(pod) {
        QosClass::Guaranteed => return GUARANTEED,
        QosClass::BestEffort => return BEST_EFFORT,
        QosClass::Burstable => {}
    }
    let remainder = pod_level_remainder(pod);
    let score = |request_bytes: i64| {
        let share = (request_bytes.saturating_add(remainder)).saturating_mul(1000);
        1000 - share / memory_capacity_bytes.max(1)
    };
    let mut adjusted = score(request(container, "memory").value());
    let is_sidecar = spec::init_containers(pod)
        .iter()
        .any(|init| spec::is_sidecar(init) && init.name == container.name);
    if is_sidecar {
        let smallest = spec::containers(pod)
            .iter()
            .map(|c| request(c, "memory").value())
            .min()
            .unwrap_or(0);
        adjusted = adjusted.min(score(smallest));
    }
    adjusted.clamp(1000 + GUARANTEED, BEST_EFFORT - 1)
}

/// Memory that the pod asks for beyond its containers, per container.
fn pod_level_remainder(pod: &Pod) -> i64 {
    let level = pod_level(pod, List::Requests);
    let Some(whole) = level.get("memory").filter(|memory| !memory.is_zero()) else {
        return 0;
    };
    let count = spec::containers(pod).len() + spec::init_containers(pod).len();
    let assigned = super::aggregate(pod, List::Requests, |_| {});
    let assigned = assigned.get("memory").copied().unwrap_or_default();
    let count = i64::try_from(count).unwrap_or(i64::MAX).max(1);
    whole.minus(assigned).value().max(0) / count
}

/// CRI-75.
fn limit_swap(
    resources: &mut LinuxContainerResources,
    pod: &Pod,
    container: &Container,
    settings: &ContainerResourceSettings,
) {
    if !settings.swap_controller {
        return;
    }
    if !settings.cgroup_v2 {
        // Version 1 counts memory and swap together.
        resources.memory_swap_limit_in_bytes = resources.memory_limit_in_bytes;
        return;
    }
    let (request, limit) = (request(container, "memory"), limit(container, "memory"));
    let may_swap = settings.swap == SwapBehavior::LimitedSwap
        && !spec::is_critical(pod)
        && pod_qos(pod) == QosClass::Burstable
        && !(request.is_zero() && limit.is_zero())
        && request != limit
        && request.value() <= settings.memory_capacity_bytes;
    let bytes = if may_swap {
        let share = i128::from(request.value()) * i128::from(settings.swap_capacity_bytes)
            / i128::from(settings.memory_capacity_bytes.max(1));
        i64::try_from(share).unwrap_or(0)
    } else {
        0
    };
    resources
        .unified
        .insert("memory.swap.max".to_owned(), bytes.to_string());
}

/// CRI-76.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "upstream's formula is in floating point; memory sizes fit"
)]
fn memory_qos_files(container: &Container, qos: &MemoryQos) -> BTreeMap<String, String> {
    let request = request(container, "memory").value();
    let limit = limit(container, "memory").value();
    let mut files = BTreeMap::new();
    if request != 0 {
        files.insert("memory.min".to_owned(), request.to_string());
    }
    let ceiling = if limit == 0 {
        qos.allocatable_bytes
    } else {
        limit
    };
    if request != limit && ceiling > 0 {
        let room = (ceiling - request) as f64 * qos.throttling_factor;
        let pages = ((request as f64 + room) / qos.page_bytes as f64).floor() as i64;
        let high = pages * qos.page_bytes;
        if high > request {
            files.insert("memory.high".to_owned(), high.to_string());
        }
    }
    files
}
