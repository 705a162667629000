//! Problems of reservations and their enforcement (VAL-04, VAL-05, VAL-06).

use std::collections::BTreeSet;

use daemon::pflag::quote;
use kubelet_core::quantity;

use super::Problems;
use crate::config::KubeletConfiguration;
use crate::cpu_set::CpuSet;
use crate::flags::syntax::is_reservable_memory;

const FIELD: &str = "enforceNodeAllocatable (--enforce-node-allocatable)";

pub(super) fn enforcement(config: &KubeletConfiguration, problems: &mut Problems) {
    let levels = config
        .enforce_node_allocatable
        .as_deref()
        .unwrap_or_default();
    let has = |level: &str| levels.iter().any(|other| other == level);
    for kind in ["system-reserved", "kube-reserved"] {
        let compressible = format!("{kind}-compressible");
        problems.add_if(has(kind) && has(&compressible), || {
            format!(
                "both {} and {} cannot be specified together in {FIELD}",
                quote(kind),
                quote(&compressible)
            )
        });
    }
    let mut seen = BTreeSet::new();
    for level in levels {
        if !seen.insert(level) {
            problems.add(&format!(
                "duplicated enforcements {} in {FIELD}",
                quote(level)
            ));
            continue;
        }
        match level.as_str() {
            "pods" => {}
            "system-reserved" | "system-reserved-compressible" => {
                problems.add_if(config.system_reserved_cgroup.is_empty(), || {
                    format!(
                        "systemReservedCgroup (--system-reserved-cgroup) must be specified when \
                         \"system-reserved\" or \"system-reserved-compressible\" included in {FIELD}"
                    )
                });
            }
            "kube-reserved" | "kube-reserved-compressible" => {
                problems.add_if(config.kube_reserved_cgroup.is_empty(), || {
                    format!(
                        "kubeReservedCgroup (--kube-reserved-cgroup) must be specified when \
                         \"kube-reserved\" or \"kube-reserved-compressible\" included in {FIELD}"
                    )
                });
            }
            "none" => {
                problems.add_if(levels.len() > 1, || {
                    format!(
                        "{FIELD} may not contain additional enforcements when \"none\" is specified"
                    )
                });
                continue;
            }
            other => {
                problems.add(&format!(
                    "option {} specified for {FIELD}. Valid options are \"pods\", \
                     \"system-reserved\", \"system-reserved-compressible\", \"kube-reserved\", \
                     \"kube-reserved-compressible\" or \"none\"",
                    quote(other)
                ));
                continue;
            }
        }
        problems.add_if(config.cgroups_per_qos != Some(true), || {
            format!(
                "cgroupsPerQOS (--cgroups-per-qos) must be set to true when {} contained in {FIELD}",
                quote(level)
            )
        });
    }
}

pub(super) fn reservations(config: &KubeletConfiguration, problems: &mut Problems) {
    let cpus = config.reserved_system_cpus.as_str();
    if !cpus.is_empty() {
        let cgroup =
            !config.system_reserved_cgroup.is_empty() || !config.kube_reserved_cgroup.is_empty();
        problems.add_if(cgroup, || {
            "can't use reservedSystemCPUs (--reserved-cpus) with systemReservedCgroup \
             (--system-reserved-cgroup) or kubeReservedCgroup (--kube-reserved-cgroup)"
                .to_owned()
        });
        if let Err(error) = CpuSet::parse(cpus) {
            problems.add(&format!(
                "unable to parse reservedSystemCPUs (--reserved-cpus) {cpus}, error: {error}"
            ));
        }
    }
    let mut seen = BTreeSet::new();
    for reservation in config.reserved_memory.iter().flatten() {
        let node = reservation.numa_node;
        for (resource, amount) in &reservation.limits {
            problems.add_if(!is_reservable_memory(resource), || {
                format!(
                    "the limit type {} for NUMA node {node} is not supported, only [memory \
                     hugepages-<HugePageSize>] is accepted",
                    quote(resource)
                )
            });
            match quantity::parse(&amount.text()) {
                Ok(quantity) => problems.add_if(quantity.is_zero(), || {
                    format!(
                        "reserved memory may not be zero for NUMA node {node} and resource {}",
                        quote(resource)
                    )
                }),
                Err(error) => problems.add(&format!(
                    "reservedMemory for NUMA node {node} and resource {}: {error}",
                    quote(resource)
                )),
            }
            problems.add_if(!seen.insert((node, resource)), || {
                format!(
                    "the reserved memory has a duplicate value for NUMA node {node} and resource {}",
                    quote(resource)
                )
            });
        }
    }
}
