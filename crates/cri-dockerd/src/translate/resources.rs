//! Limits (CTR-07, CTR-40).

use cri_api::v1::LinuxContainerResources;

use crate::engine::model::{Resources, UpdateContainer};

/// Limits for create.
///
/// Memory and swap together default to the memory limit, so there is no swap. Differs: a swap
/// limit in the request is honoured, upstream drops it.
pub(super) fn limits(cri: &LinuxContainerResources) -> Resources {
    Resources {
        memory: cri.memory_limit_in_bytes,
        memory_swap: match cri.memory_swap_limit_in_bytes {
            0 => cri.memory_limit_in_bytes,
            swap => swap,
        },
        cpu_shares: cri.cpu_shares,
        cpu_quota: cri.cpu_quota,
        cpu_period: cri.cpu_period,
        cpuset_cpus: cri.cpuset_cpus.clone(),
        cpuset_mems: cri.cpuset_mems.clone(),
    }
}

/// Limits for update; 0 and empty leave a limit as it is, which is Docker's meaning too.
pub(crate) fn update(cri: &LinuxContainerResources) -> UpdateContainer {
    limits(cri)
}
