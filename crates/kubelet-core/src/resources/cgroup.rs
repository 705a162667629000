//! Values of the node's, the QoS classes' and the pods' cgroups (CG-10..17).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use super::{Overhead, has_pod_level_resources, limits_with, pod_requests};
use crate::qos::{QosClass, pod_qos};
use crate::quantity::{self, Amounts};

/// Fewest CPU shares, and those of what asks for nothing (CRI-70).
const MIN_SHARES: u64 = 2;
/// Most CPU shares (CRI-70).
const MAX_SHARES: u64 = 262_144;
/// Shortest CPU quota, in microseconds (CRI-71).
const MIN_QUOTA_MICROS: i64 = 1000;

/// Values of one cgroup. `None` leaves the file as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CgroupValues {
    /// CPU shares of version 1; [`cpu_weight`] gives version 2's weight.
    pub cpu_shares: Option<u64>,
    /// Microseconds of CPU per period; −1 is no bound.
    pub cpu_quota_micros: Option<i64>,
    /// The period in microseconds.
    pub cpu_period_micros: Option<u64>,
    /// Memory limit in bytes.
    pub memory_max_bytes: Option<i64>,
    /// Most processes.
    pub pids_max: Option<i64>,
    /// Limits in bytes by page size in bytes.
    pub hugepage_max_bytes: BTreeMap<i64, i64>,
    /// Further files of version 2, such as `memory.min`.
    pub unified: BTreeMap<String, String>,
}

/// Settings of the node that bear on a pod's cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodCgroupSettings {
    /// `cpuCFSQuota`, and no exclusive CPUs for the pod.
    pub enforce_cpu_quota: bool,
    /// `cpuCFSQuotaPeriod` in microseconds; 100000 unless gate `CPUCFSQuotaPeriod` is on.
    pub cpu_period_micros: u64,
    /// `podPidsLimit`; not positive is no limit.
    pub pids_limit: i64,
    /// Gate `MemoryQoS` on version 2.
    pub memory_qos: bool,
}

/// Shares of so many thousandths of a core (CRI-70).
pub fn cpu_shares(millicores: i64) -> u64 {
    let shares = millicores.max(0).saturating_mul(1024) / 1000;
    u64::try_from(shares)
        .unwrap_or(MIN_SHARES)
        .clamp(MIN_SHARES, MAX_SHARES)
}

/// Microseconds per period of so many thousandths of a core; 0 for no limit (CRI-71).
pub fn cpu_quota_micros(millicores: i64, period_micros: u64) -> i64 {
    if millicores == 0 {
        return 0;
    }
    let period = i64::try_from(period_micros).unwrap_or(i64::MAX);
    (millicores.saturating_mul(period) / 1000).max(MIN_QUOTA_MICROS)
}

/// Version 2's weight of version 1's shares (CG-04).
pub fn cpu_weight(shares: u64) -> u64 {
    1 + (shares.clamp(MIN_SHARES, MAX_SHARES) - MIN_SHARES) * 9999 / (MAX_SHARES - MIN_SHARES)
}

/// A pod's cgroup (CG-14..17). Kubernetes kubelet, `ResourceConfigForPod`.
pub fn pod_cgroup_values(pod: &Pod, settings: &PodCgroupSettings) -> CgroupValues {
    let requests = pod_requests(pod, Overhead::Include);
    // A limit counts for the pod only if no container goes without.
    let (mut all_cpu, mut all_memory) = (true, true);
    let limits = limits_with(pod, Overhead::Include, |own| {
        all_cpu &= own.get("cpu").is_some_and(|amount| !amount.is_zero());
        all_memory &= own.get("memory").is_some_and(|amount| !amount.is_zero());
    });
    if has_pod_level_resources(pod) {
        let level = super::pod_level(pod, super::List::Limits);
        all_cpu |= level.get("cpu").is_some_and(|amount| !amount.is_zero());
        all_memory |= level.get("memory").is_some_and(|amount| !amount.is_zero());
    }
    let shares = cpu_shares(millis(&requests, "cpu"));
    let period = settings.cpu_period_micros;
    let quota = if settings.enforce_cpu_quota {
        cpu_quota_micros(millis(&limits, "cpu"), period)
    } else {
        -1
    };
    let memory = bytes(&limits, "memory");

    let mut values = CgroupValues {
        hugepage_max_bytes: hugepages(&requests),
        ..Default::default()
    };
    let (bound_cpu, bound_memory) = match pod_qos(pod) {
        QosClass::Guaranteed => (true, true),
        QosClass::Burstable => (all_cpu, all_memory),
        QosClass::BestEffort => (false, false),
    };
    values.cpu_shares = Some(if pod_qos(pod) == QosClass::BestEffort {
        MIN_SHARES
    } else {
        shares
    });
    if bound_cpu {
        values.cpu_quota_micros = Some(quota);
        values.cpu_period_micros = Some(period);
    }
    values.memory_max_bytes = bound_memory.then_some(memory);
    values.pids_max = (settings.pids_limit > 0).then_some(settings.pids_limit);
    values.unified = memory_min(
        settings,
        Some(bytes(&requests, "memory")).filter(|bytes| *bytes > 0),
    );
    values
}

/// Values that follow from the pods that are active.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClassValues {
    /// Of the root of all pods, where guaranteed pods are too.
    pub all: CgroupValues,
    /// Of the burstable group.
    pub burstable: CgroupValues,
    /// Of the best-effort group.
    pub best_effort: CgroupValues,
}

/// Values of the classes' groups (CG-11, CG-12), from the pods that are active. Kubernetes kubelet, `UpdateCgroups`.
///
/// Differs (CRI-76): with gate `MemoryQoS`, once no pod of a class asks for memory any more, `memory.min` of its group
/// is set to 0; upstream leaves what the last one asked for.
pub fn qos_cgroup_values<'a>(
    active: impl IntoIterator<Item = &'a Pod>,
    settings: &PodCgroupSettings,
) -> ClassValues {
    let (mut millicores, mut burstable_bytes, mut all_bytes) = (0_i64, 0_i64, 0_i64);
    for pod in active {
        let class = pod_qos(pod);
        if class == QosClass::BestEffort {
            continue;
        }
        let requests = pod_requests(pod, Overhead::Include);
        let memory = bytes(&requests, "memory");
        all_bytes = all_bytes.saturating_add(memory);
        if class == QosClass::Burstable {
            millicores = millicores.saturating_add(millis(&requests, "cpu"));
            burstable_bytes = burstable_bytes.saturating_add(memory);
        }
    }
    let values = |cpu_shares, memory_min_bytes: Option<i64>| CgroupValues {
        cpu_shares,
        unified: memory_min(settings, memory_min_bytes),
        ..CgroupValues::default()
    };
    ClassValues {
        all: values(None, Some(all_bytes)),
        burstable: values(Some(cpu_shares(millicores)), Some(burstable_bytes)),
        best_effort: values(Some(MIN_SHARES), None),
    }
}

/// What the kernel is not to reclaim, with gate `MemoryQoS`.
fn memory_min(settings: &PodCgroupSettings, bytes: Option<i64>) -> BTreeMap<String, String> {
    let bytes = bytes.filter(|_| settings.memory_qos);
    let file = bytes.map(|bytes| ("memory.min".to_owned(), bytes.to_string()));
    file.into_iter().collect()
}

/// Values of the root of all pods (CG-10): capacity less what is reserved, where `pods` is enforced;
/// else the capacity. Eviction thresholds are not subtracted. Negative amounts become 0.
pub fn node_cgroup_values(
    capacity: &Amounts,
    reserved: &Amounts,
    pids_max: Option<i64>,
) -> CgroupValues {
    let left = |name: &str| {
        capacity.get(name).map(|amount| {
            let left = reserved
                .get(name)
                .map_or(*amount, |taken| amount.minus(*taken));
            if left.is_negative() {
                quantity::Quantity::default()
            } else {
                left
            }
        })
    };
    CgroupValues {
        cpu_shares: left("cpu").map(|amount| cpu_shares(amount.milli_value())),
        memory_max_bytes: left("memory").map(quantity::Quantity::value),
        pids_max,
        hugepage_max_bytes: capacity
            .keys()
            .filter_map(|name| Some((page_bytes(name)?, left(name)?.value())))
            .collect(),
        ..Default::default()
    }
}

fn millis(amounts: &Amounts, name: &str) -> i64 {
    amounts.get(name).map_or(0, |amount| amount.milli_value())
}

fn bytes(amounts: &Amounts, name: &str) -> i64 {
    amounts.get(name).map_or(0, |amount| amount.value())
}

fn hugepages(amounts: &Amounts) -> BTreeMap<i64, i64> {
    amounts
        .iter()
        .filter_map(|(name, amount)| Some((page_bytes(name)?, amount.value())))
        .collect()
}

/// Page size in bytes of `hugepages-2Mi`.
pub(super) fn page_bytes(resource: &str) -> Option<i64> {
    let size = resource.strip_prefix("hugepages-")?;
    quantity::parse(size).ok().map(quantity::Quantity::value)
}
