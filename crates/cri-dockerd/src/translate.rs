//! CRI requests as Docker requests: pure functions, no I/O.

pub(crate) mod container;
pub(crate) mod identity;
mod mounts;
mod resources;
pub(crate) mod sandbox;
pub(crate) mod security;
pub(crate) mod sysctls;
#[cfg(test)]
mod tests;

pub(crate) use resources::update;

use crate::cgroup::CgroupDriver;
use crate::engine::ApiVersion;

/// Docker gives every container 64 MiB of `/dev/shm` unless told otherwise (SBX-05).
const SHM_SIZE: i64 = 64 << 20;

/// Facts about engine and host that a translation depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Negotiated API.
    pub(crate) api: ApiVersion,
    /// Cgroup driver.
    pub(crate) cgroup_driver: CgroupDriver,
    /// Lowest OOM score that the host lets a container have (DEC-48).
    pub(crate) lowest_oom_score: i64,
    /// The engine hands out devices by CDI.
    pub(crate) has_cdi: bool,
    /// The engine labels files for SELinux.
    pub(crate) has_selinux: bool,
}

impl Facts {
    fn oom_score(&self, wanted: i64) -> i64 {
        wanted.max(self.lowest_oom_score)
    }
}
