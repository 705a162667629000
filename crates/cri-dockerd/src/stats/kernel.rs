//! One blocking look at cgroups and `/proc`. The paths are given, so tests use directories.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use node_os::cgroups::{CgroupDetails, CgroupFs, CgroupPath, CgroupStats};
use node_os::proc::{InterfaceCounters, Proc};

use crate::cgroup::{self, CgroupDriver};
use crate::clock::now;
use crate::state::Record;

/// What is to be read: by group, else by process.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) id: String,
    pub(super) group: Option<CgroupPath>,
    pub(super) pid: Option<u32>,
}

impl Target {
    /// What is to be read for a container.
    pub(super) fn of(record: &Record, driver: Option<CgroupDriver>) -> Self {
        let parent = &record.cgroup_parent;
        Self {
            id: record.id.clone(),
            group: driver.and_then(|driver| cgroup::of_container(driver, parent, &record.id)),
            pid: pid(record),
        }
    }
}

/// The first process of a container that runs.
pub(super) fn pid(record: &Record) -> Option<u32> {
    u32::try_from(record.pid()?).ok().filter(|pid| *pid > 0)
}

/// A pod as it is asked about.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) sandbox: Arc<Record>,
    pub(crate) containers: Vec<Arc<Record>>,
}

/// What a group uses at a moment.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) group: CgroupPath,
    pub(super) stats: CgroupStats,
    /// Nanoseconds since 1970, for the reader.
    pub(super) at: i64,
    /// Since an origin of ours, for rates: no clock that is set changes them.
    pub(super) since: Duration,
}

/// What a pod uses at a moment.
#[derive(Debug, Clone)]
pub(super) struct PodReading {
    /// The pod's own group, or the sum of its members where it has none.
    pub(super) own: Option<Reading>,
    /// Its containers, in order.
    pub(super) containers: Vec<Option<Reading>>,
    /// The sandbox's interfaces but loopback; `None` on the host's network and when the process is
    /// out of sight.
    pub(super) network: Option<Vec<InterfaceCounters>>,
    /// Nanoseconds since 1970.
    pub(super) at: i64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Kernel {
    cgroups: Option<CgroupFs>,
    pub(super) proc: Proc,
    origin: Instant,
}

impl Kernel {
    /// Reads these hierarchies, if any are there, and this `/proc`.
    pub(crate) fn new(cgroups: Option<CgroupFs>, proc: Proc) -> Self {
        Self {
            cgroups,
            proc,
            origin: Instant::now(),
        }
    }

    /// This machine's. Blocks.
    pub(crate) fn open() -> Self {
        let cgroups = CgroupFs::open()
            .inspect_err(|error| tracing::warn!(%error, "no statistics of containers"))
            .ok();
        Self::new(cgroups, Proc::new())
    }

    /// Reads one container; `None` when it doesn't run or its group is out of sight.
    pub(super) fn read(&self, target: &Target) -> Option<Reading> {
        let pid = target.pid?;
        let by_name = target
            .group
            .as_ref()
            .and_then(|group| self.read_group(group));
        by_name.or_else(|| {
            let memberships = self.proc.cgroups(pid).ok()?;
            self.read_group(&cgroup::of_process(&memberships, &target.id)?)
        })
    }

    fn read_group(&self, group: &CgroupPath) -> Option<Reading> {
        let stats = self.cgroups.as_ref()?.usage(group).unwrap_or_else(|error| {
            tracing::debug!(%group, %error, "no statistics");
            CgroupStats::default()
        });
        (!stats.is_empty()).then(|| Reading {
            group: group.clone(),
            stats,
            at: now(),
            since: self.origin.elapsed(),
        })
    }

    /// Reads a pod that runs, with its containers.
    pub(super) fn read_pod(&self, pod: &Pod, driver: Option<CgroupDriver>) -> PodReading {
        let containers: Vec<_> = pod
            .containers
            .iter()
            .map(|record| self.read(&Target::of(record, driver)))
            .collect();
        let running = pod.sandbox.life.is_running();
        let group = driver.and_then(|driver| cgroup::of_pod(driver, &pod.sandbox.cgroup_parent));
        let own = group
            .filter(|_| running)
            .and_then(|group| self.read_group(&group));
        let own = own.or_else(|| {
            let sandbox = self.read(&Target::of(&pod.sandbox, driver))?;
            let members = containers.iter().flatten();
            Some(members.fold(sandbox, |sum, member| add(sum, &member.stats)))
        });
        PodReading {
            own,
            containers,
            network: self.network(pod),
            at: now(),
        }
    }

    /// The interfaces of a pod with a network of its own, without loopback.
    pub(super) fn network(&self, pod: &Pod) -> Option<Vec<InterfaceCounters>> {
        let facts = pod.sandbox.sandbox()?;
        if facts.network == cri_api::v1::NamespaceMode::Node {
            return None;
        }
        let pid = self.own_pid(&pod.sandbox.id, pid(&pod.sandbox)?)?;
        let mut all = self.proc.network(pid).ok()?;
        all.retain(|interface| interface.name != "lo");
        // The default one first; the kernel's order changes.
        all.sort_by(|a, b| (a.name != "eth0", &a.name).cmp(&(b.name != "eth0", &b.name)));
        Some(all)
    }

    /// `pid`, if it is the container's in our pid namespace too.
    pub(super) fn own_pid(&self, id: &str, pid: u32) -> Option<u32> {
        let memberships = self.proc.cgroups(pid).ok()?;
        cgroup::is_of(&memberships, id).then_some(pid)
    }

    /// What metrics show beyond a reading.
    pub(super) fn details(&self, group: &CgroupPath) -> CgroupDetails {
        let cgroups = self.cgroups.as_ref();
        cgroups
            .and_then(|cgroups| cgroups.details(group).ok())
            .unwrap_or_default()
    }

    /// The processes of a group and below.
    pub(super) fn pids(&self, group: &CgroupPath) -> Vec<u32> {
        use node_os::cgroups::Cgroups as _;
        let cgroups = self.cgroups.as_ref();
        cgroups
            .and_then(|cgroups| cgroups.pids(group).ok())
            .unwrap_or_default()
    }

    /// The upper directory of a running container's root, on the engine's host. The way for
    /// containerd's snapshots, whose place Docker does not tell.
    pub(super) fn upper_dir(&self, pid: u32, id: &str) -> Option<PathBuf> {
        let pid = self.own_pid(id, pid)?;
        let mounts = self.proc.mounts(pid).ok()?;
        let root = mounts
            .iter()
            .rfind(|mount| mount.mount_point.as_os_str() == "/")?;
        let mut options = root.super_options.iter();
        let upper = options.find_map(|option| option.strip_prefix("upperdir="))?;
        (root.fs_type == "overlay" && upper.starts_with('/')).then(|| PathBuf::from(upper))
    }
}

/// The use of a group and of another one together. Limits and pressure have no sum.
fn add(sum: Reading, other: &CgroupStats) -> Reading {
    let plus = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (Some(a), Some(b)) => Some(a.saturating_add(b)),
        (a, b) => a.or(b),
    };
    let a = &sum.stats;
    let stats = CgroupStats {
        cpu_usage_nanos: plus(a.cpu_usage_nanos, other.cpu_usage_nanos),
        memory_usage_bytes: plus(a.memory_usage_bytes, other.memory_usage_bytes),
        memory_working_set_bytes: plus(a.memory_working_set_bytes, other.memory_working_set_bytes),
        memory_rss_bytes: plus(a.memory_rss_bytes, other.memory_rss_bytes),
        swap_usage_bytes: plus(a.swap_usage_bytes, other.swap_usage_bytes),
        page_faults: plus(a.page_faults, other.page_faults),
        major_page_faults: plus(a.major_page_faults, other.major_page_faults),
        pids: plus(a.pids, other.pids),
        ..CgroupStats::default()
    };
    Reading { stats, ..sum }
}
