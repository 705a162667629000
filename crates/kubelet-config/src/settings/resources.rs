//! What pods don't get, and who gets whole CPUs and NUMA nodes (CFG-25..29, CFG-49).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use daemon::pflag::quote;
use kubelet_core::quantity;

use super::values::some_text;
use crate::config::{KubeletConfiguration, TextMap};
use crate::cpu_set::CpuSet;

/// Reservations and the managers of CPUs, memory and topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceSettings {
    /// Kept for the system.
    pub system_reserved: Reservation,
    /// Kept for Kubernetes' daemons.
    pub kube_reserved: Reservation,
    /// CPUs kept for both; replaces the `cpu` of the reservations (PROC-36).
    pub reserved_cpus: CpuSet,
    /// What the reservations are enforced on; empty for nothing.
    pub enforcement: BTreeSet<Enforcement>,
    /// Cgroup of the system's daemons.
    pub system_reserved_cgroup: Option<String>,
    /// Cgroup of Kubernetes' daemons.
    pub kube_reserved_cgroup: Option<String>,
    /// CPU manager policy is `static`.
    pub static_cpus: bool,
    /// Options of the CPU manager policy.
    pub cpu_policy_options: BTreeMap<String, String>,
    /// Time between two checks of CPU sets.
    pub cpu_reconcile_period: Duration,
    /// Memory manager policy is `Static`.
    pub static_memory: bool,
    /// Memory kept by NUMA node.
    pub reserved_memory: Vec<MemoryReserve>,
    /// Topology manager policy: `none`, `best-effort`, `restricted`, `single-numa-node`.
    pub topology_policy: String,
    /// Align whole pods, not single containers.
    pub topology_by_pod: bool,
    /// Options of the topology manager policy.
    pub topology_policy_options: BTreeMap<String, String>,
    /// Percent of memory requests reserved by quality of service (gate QOSReserved).
    pub qos_reserved_memory_percent: Option<u8>,
}

/// Resources kept back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reservation {
    /// CPU in thousandths.
    pub cpu_millicores: u64,
    /// Memory.
    pub memory_bytes: u64,
    /// Ephemeral storage.
    pub ephemeral_storage_bytes: u64,
    /// Processes.
    pub pids: u64,
}

/// Memory of a NUMA node that pods don't get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryReserve {
    /// The NUMA node.
    pub numa_node: u32,
    /// Bytes by `memory` or `hugepages-<size>`.
    pub limits_bytes: BTreeMap<String, u64>,
}

/// What a reservation is enforced on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Enforcement {
    /// The cgroup of all pods.
    Pods,
    /// The system's cgroup.
    SystemReserved,
    /// The system's cgroup, CPU only.
    SystemReservedCompressible,
    /// The cgroup of Kubernetes' daemons.
    KubeReserved,
    /// The cgroup of Kubernetes' daemons, CPU only.
    KubeReservedCompressible,
}

pub(super) fn build(
    config: &KubeletConfiguration,
    gate_qos_reserved: bool,
    problems: &mut Vec<String>,
) -> ResourceSettings {
    // Validation has spoken about CPU lists and levels that don't parse.
    let reserved_cpus = CpuSet::parse(&config.reserved_system_cpus).unwrap_or_default();
    let mut system_reserved = reservation("--system-reserved", &config.system_reserved, problems);
    let mut kube_reserved = reservation("--kube-reserved", &config.kube_reserved, problems);
    if !reserved_cpus.is_empty() {
        kube_reserved.cpu_millicores = 0;
        system_reserved.cpu_millicores = u64::try_from(reserved_cpus.len())
            .unwrap_or(u64::MAX)
            .saturating_mul(1000);
    }
    let qos = qos_reserved(config, problems);
    ResourceSettings {
        system_reserved,
        kube_reserved,
        reserved_cpus,
        enforcement: enforcement(
            config
                .enforce_node_allocatable
                .as_deref()
                .unwrap_or_default(),
        ),
        system_reserved_cgroup: some_text(&config.system_reserved_cgroup),
        kube_reserved_cgroup: some_text(&config.kube_reserved_cgroup),
        static_cpus: config.cpu_manager_policy == "static",
        cpu_policy_options: config
            .cpu_manager_policy_options
            .clone()
            .unwrap_or_default(),
        cpu_reconcile_period: config.cpu_manager_reconcile_period.0.to_std_or_zero(),
        static_memory: config.memory_manager_policy == "Static",
        reserved_memory: reserved_memory(config, problems),
        topology_policy: config.topology_manager_policy.clone(),
        topology_by_pod: config.topology_manager_scope == "pod",
        topology_policy_options: config
            .topology_manager_policy_options
            .clone()
            .unwrap_or_default(),
        qos_reserved_memory_percent: qos.filter(|_| gate_qos_reserved),
    }
}

fn reservation(flag: &str, map: &TextMap, problems: &mut Vec<String>) -> Reservation {
    let mut reservation = Reservation::default();
    for (resource, text) in map.iter().flatten() {
        if let Err(problem) = reserve(&mut reservation, resource, text) {
            problems.push(format!("{flag} value failed to parse: {problem}"));
        }
    }
    reservation
}

fn reserve(reservation: &mut Reservation, resource: &str, text: &str) -> Result<(), String> {
    let field = match resource {
        "cpu" => &mut reservation.cpu_millicores,
        "memory" => &mut reservation.memory_bytes,
        "ephemeral-storage" => &mut reservation.ephemeral_storage_bytes,
        "pid" => &mut reservation.pids,
        other => return Err(format!("cannot reserve {} resource", quote(other))),
    };
    let quantity = quantity::parse(text).map_err(|error| {
        format!(
            "failed to parse quantity {} for {} resource: {error}",
            quote(text),
            quote(resource)
        )
    })?;
    if quantity.is_negative() {
        return Err(format!(
            "resource quantity for {} cannot be negative: {text}",
            quote(resource)
        ));
    }
    let value = if resource == "cpu" {
        quantity.milli_value()
    } else {
        quantity.value()
    };
    *field = u64::try_from(value).unwrap_or_default();
    Ok(())
}

fn enforcement(levels: &[String]) -> BTreeSet<Enforcement> {
    levels
        .iter()
        .filter_map(|level| match level.as_str() {
            "pods" => Some(Enforcement::Pods),
            "system-reserved" => Some(Enforcement::SystemReserved),
            "system-reserved-compressible" => Some(Enforcement::SystemReservedCompressible),
            "kube-reserved" => Some(Enforcement::KubeReserved),
            "kube-reserved-compressible" => Some(Enforcement::KubeReservedCompressible),
            _ => None,
        })
        .collect()
}

fn reserved_memory(
    config: &KubeletConfiguration,
    problems: &mut Vec<String>,
) -> Vec<MemoryReserve> {
    let mut reserves = Vec::new();
    for reservation in config.reserved_memory.iter().flatten() {
        let Ok(numa_node) = u32::try_from(reservation.numa_node) else {
            problems.push(format!(
                "invalid configuration: reservedMemory: NUMA node {} must not be negative",
                reservation.numa_node
            ));
            continue;
        };
        let limits_bytes = reservation
            .limits
            .iter()
            .filter_map(|(resource, amount)| {
                let bytes = quantity::parse(&amount.text()).ok()?.value();
                Some((resource.clone(), u64::try_from(bytes).ok()?))
            })
            .collect();
        reserves.push(MemoryReserve {
            numa_node,
            limits_bytes,
        });
    }
    reserves
}

fn qos_reserved(config: &KubeletConfiguration, problems: &mut Vec<String>) -> Option<u8> {
    let mut memory = None;
    for (resource, text) in config.qos_reserved.iter().flatten() {
        let percent = text.strip_suffix('%').map(str::parse::<i64>);
        let problem = match (resource.as_str(), percent) {
            ("memory", Some(Ok(percent @ 0..=100))) => {
                memory = u8::try_from(percent).ok();
                continue;
            }
            ("memory", None) => format!(
                "failed to parse percentage {} for \"memory\" resource: percentage expected, got \
                 '{text}'",
                quote(text)
            ),
            ("memory", Some(Err(_))) => format!(
                "failed to parse percentage {} for \"memory\" resource: invalid number in \
                 percentage '{text}'",
                quote(text)
            ),
            ("memory", Some(Ok(_))) => format!(
                "failed to parse percentage {} for \"memory\" resource: percentage must be between \
                 0 and 100",
                quote(text)
            ),
            (other, _) => format!("cannot reserve {} resource", quote(other)),
        };
        problems.push(format!("--qos-reserved value failed to parse: {problem}"));
    }
    memory
}
