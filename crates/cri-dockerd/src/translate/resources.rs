//! Limits (CTR-07, CTR-40).

use cri_api::v1::LinuxContainerResources;

use crate::engine::model::{Resources, UpdateContainer};

/// Version 2's limit of swap, beside that of memory.
const SWAP_MAX: &str = "memory.swap.max";

/// Limits for create.
///
/// Memory and swap together default to the memory limit, so there is no swap. Differs: a swap
/// limit in the request is honoured, upstream drops it.
///
/// A limit of swap among the files of the cgroup (`unified`) is told to Docker too, so that the OCI runtime
/// and systemd keep it when they write the limits anew; without a limit of memory Docker takes none.
pub(super) fn limits(cri: &LinuxContainerResources) -> Resources {
    Resources {
        memory: cri.memory_limit_in_bytes,
        memory_swap: memory_and_swap(cri),
        cpu_shares: cri.cpu_shares,
        cpu_quota: cri.cpu_quota,
        cpu_period: cri.cpu_period,
        cpuset_cpus: cri.cpuset_cpus.clone(),
        cpuset_mems: cri.cpuset_mems.clone(),
    }
}

/// Docker's limit of memory and swap together; -1 is none.
fn memory_and_swap(cri: &LinuxContainerResources) -> i64 {
    let memory = cri.memory_limit_in_bytes;
    if memory > 0
        && let Some(swap) = cri.unified.get(SWAP_MAX)
    {
        match (swap.trim(), swap.trim().parse::<i64>()) {
            ("max", _) => return -1,
            (_, Ok(bytes)) if bytes >= 0 => return memory.saturating_add(bytes),
            // The kernel will say what is wrong with it.
            _ => {}
        }
    }
    match cri.memory_swap_limit_in_bytes {
        0 => memory,
        both => both,
    }
}

/// Limits for update; 0 and empty leave a limit as it is, which is Docker's meaning too.
pub(crate) fn update(cri: &LinuxContainerResources) -> UpdateContainer {
    limits(cri)
}
