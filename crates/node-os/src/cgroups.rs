//! Control groups: where they are, what limits a group has, and the life of a group.
//!
//! [`Hierarchies`] tells from `mountinfo` how this machine mounts them (version 1 with any grouping
//! of controllers, both, or version 2; DEC-47). [`Resources`] are limits in the kubelet's own terms;
//! `writes` turns them into file contents, purely. [`CgroupFs`] acts on the files. All paths are
//! below the mount points given, so tests use a temporary directory.

mod details;
mod fs_driver;
mod hierarchies;
mod path;
mod resources;
mod stats;
mod systemd;
mod writes;

#[cfg(test)]
mod tests;

use std::{io, path::PathBuf};

pub use details::{CgroupDetails, DeviceIo};
pub use fs_driver::CgroupFs;
pub use hierarchies::{Hierarchies, Version};
pub use path::{CgroupPath, CgroupPathError};
pub use resources::{CpuQuota, Limit, Resources, shares_from_weight, weight_from_shares};
pub use stats::{CgroupStats, Pressure, Stall};
pub use systemd::{BusError, SystemdCgroups, SystemdError};

/// An operation on a group failed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No cgroup file system is mounted.
    #[error("no cgroup file system is mounted: mount /sys/fs/cgroup")]
    NotMounted,
    /// A limit was asked for whose controller is not there.
    #[error("cgroup {group}: controller {controller} is not available")]
    NoController {
        /// The group.
        group: CgroupPath,
        /// The controller.
        controller: &'static str,
    },
    /// The group does not exist.
    #[error("cgroup {0} does not exist")]
    NotFound(CgroupPath),
    /// A directory could not be made.
    #[error("create cgroup {0}")]
    Create(PathBuf, #[source] io::Error),
    /// A value was refused.
    #[error("write {value:?} to {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The value.
        value: String,
        /// Why it was refused.
        #[source]
        source: io::Error,
    },
    /// A file could not be read or made no sense.
    #[error(transparent)]
    Read(#[from] crate::read::ReadError),
    /// Processes were left after all rounds of killing.
    #[error("cgroup {group} cannot be removed: {} processes are left: {pids:?}", pids.len())]
    Busy {
        /// The group.
        group: CgroupPath,
        /// The processes.
        pids: Vec<u32>,
    },
    /// systemd did not do what the systemd driver asked for.
    #[error(transparent)]
    Systemd(#[from] SystemdError),
    /// A directory could not be removed.
    #[error("remove cgroup {0}")]
    Remove(PathBuf, #[source] io::Error),
}

pub use crate::read::ReadError;

/// The groups of this machine.
pub trait Cgroups: Send + Sync + std::fmt::Debug {
    /// Which version the controllers are of.
    fn version(&self) -> Version;

    /// The controllers that can be used for groups of ours.
    fn controllers(&self) -> Vec<String>;

    /// Makes the group and its missing parents, with the controllers of CG-04, and applies the
    /// limits. A group that exists is only given the limits.
    ///
    /// Returns the controllers that limits were asked for and that are not there (`pids`, `hugetlb`
    /// and `memory.oom.group` are given up like that, as upstream does).
    ///
    /// # Errors
    /// When the kernel refuses, or the cpu or memory controller is missing and needed.
    fn create(
        &self,
        group: &CgroupPath,
        resources: &Resources,
    ) -> Result<Vec<&'static str>, CgroupError>;

    /// Applies the limits that are set; others stay as they are. Returns as [`Self::create`].
    ///
    /// # Errors
    /// As [`Self::create`], and when there is no such group.
    fn apply(
        &self,
        group: &CgroupPath,
        resources: &Resources,
    ) -> Result<Vec<&'static str>, CgroupError>;

    /// The limits in force.
    ///
    /// # Errors
    /// When there is no such group or its files cannot be read.
    fn read(&self, group: &CgroupPath) -> Result<Resources, CgroupError>;

    /// What the group uses.
    ///
    /// # Errors
    /// When there is no such group or its files cannot be read.
    fn stats(&self, group: &CgroupPath) -> Result<CgroupStats, CgroupError>;

    /// Whether the group exists in each hierarchy that limits are written to.
    fn exists(&self, group: &CgroupPath) -> bool;

    /// Kills what runs in the group and below, in up to five rounds, and removes it (CG-05). A group
    /// that is gone already is fine. Takes up to a third of a second.
    ///
    /// # Errors
    /// When processes are left, or the kernel refuses.
    fn remove(&self, group: &CgroupPath) -> Result<(), CgroupError>;

    /// The names of the groups directly below, of any hierarchy, sorted. None for a group that does
    /// not exist.
    ///
    /// # Errors
    /// When a directory cannot be listed.
    fn children(&self, group: &CgroupPath) -> Result<Vec<String>, CgroupError>;

    /// The processes in the group and below, of any hierarchy, sorted.
    ///
    /// # Errors
    /// When a list cannot be read.
    fn pids(&self, group: &CgroupPath) -> Result<Vec<u32>, CgroupError>;
}
