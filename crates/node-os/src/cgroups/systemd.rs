//! The systemd driver: each group is a slice, made as a transient unit over D-Bus, so that systemd
//! knows of it and leaves its limits alone (CG-02, DEC-47). Values are given to systemd as properties
//! and then written to the files as well, since not every limit has a property.

mod bus;

use std::path::{Path, PathBuf};

pub use bus::BusError;
use bus::{Bus, Value};

use super::{
    CgroupError, CgroupFs, CgroupPath, CgroupStats, Cgroups, CpuQuota, Limit, Resources, Version,
    weight_from_shares,
};

/// Where the system bus listens; the second place is the host's, from a container with its pids.
const SOCKETS: [&str; 2] = [
    "/run/dbus/system_bus_socket",
    "/proc/1/root/run/dbus/system_bus_socket",
];
/// systemd's word for "no limit".
const UNLIMITED: u64 = u64::MAX;
/// The period that systemd uses when none is set; older ones know no other.
const DEFAULT_PERIOD_MICROS: u64 = 100_000;
/// systemd keeps quotas in steps of this.
const QUOTA_STEP_MICROS: u64 = 10_000;

/// A slice could not be made, changed or ended.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// No bus answers: Docker makes the slice when the first container comes (DEC-47).
    #[error("no system bus at {}", tried.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" or "))]
    NoBus {
        /// The sockets that were tried.
        tried: Vec<PathBuf>,
        /// Why the last one failed.
        #[source]
        source: BusError,
    },
    /// The group's last name is not that of a slice.
    #[error("cgroup {0} is not a slice: its name must end in .slice")]
    NotASlice(CgroupPath),
    /// The bus or systemd refused.
    #[error("{operation} unit {unit}")]
    Unit {
        /// What was tried.
        operation: &'static str,
        /// On which unit.
        unit: String,
        /// Why it failed.
        #[source]
        source: BusError,
    },
    /// systemd tried and did not succeed.
    #[error("unit {unit}: systemd's job ended with {result:?}")]
    Job {
        /// The unit.
        unit: String,
        /// systemd's word for the outcome, such as `failed`.
        result: String,
    },
}

/// The systemd driver. Opens a connection for each change and keeps none, so a bus that is
/// restarted does no harm.
#[derive(Debug, Clone)]
pub struct SystemdCgroups {
    files: CgroupFs,
    sockets: Vec<PathBuf>,
}

impl SystemdCgroups {
    /// Works on these hierarchies and the bus of this machine.
    ///
    /// # Errors
    /// [`SystemdError::NoBus`] when none answers.
    pub fn open(files: CgroupFs) -> Result<Self, SystemdError> {
        Self::open_at(files, SOCKETS.map(PathBuf::from).to_vec())
    }

    fn open_at(files: CgroupFs, sockets: Vec<PathBuf>) -> Result<Self, SystemdError> {
        let driver = Self { files, sockets };
        driver.connect()?;
        Ok(driver)
    }

    fn connect(&self) -> Result<Bus, SystemdError> {
        let mut last = None;
        for socket in &self.sockets {
            match Bus::connect(socket) {
                Ok(bus) => return Ok(bus),
                Err(error) => last = Some(error),
            }
        }
        let source = last.unwrap_or(BusError::Closed);
        Err(SystemdError::NoBus {
            tried: self.sockets.clone(),
            source,
        })
    }

    fn start(&self, group: &CgroupPath, resources: &Resources) -> Result<(), SystemdError> {
        let unit = unit_name(group)?;
        let mut properties = vec![
            (
                "Description",
                Value::Text(format!("Kubernetes pods {group}")),
            ),
            ("DefaultDependencies", Value::Bool(false)),
            ("CPUAccounting", Value::Bool(true)),
            ("MemoryAccounting", Value::Bool(true)),
            ("TasksAccounting", Value::Bool(true)),
        ];
        if let Some(parent) = group.parent().and_then(|parent| unit_name(&parent).ok()) {
            properties.push(("Wants", Value::Texts(vec![parent])));
        }
        properties.extend(plan_properties(self.files.version(), resources));
        let mut bus = self.connect()?;
        match bus.start_transient_unit(&unit, &properties) {
            Ok(result) => finished(unit, result),
            Err(error) if error.is_named("org.freedesktop.systemd1.UnitExists") => {
                self.set(&unit, resources)
            }
            Err(source) => Err(SystemdError::Unit {
                operation: "start",
                unit,
                source,
            }),
        }
    }

    fn set(&self, unit: &str, resources: &Resources) -> Result<(), SystemdError> {
        let properties = plan_properties(self.files.version(), resources);
        if properties.is_empty() {
            return Ok(());
        }
        self.connect()?
            .set_unit_properties(unit, &properties)
            .map_err(|source| SystemdError::Unit {
                operation: "change",
                unit: unit.to_owned(),
                source,
            })
    }

    fn stop(&self, group: &CgroupPath) -> Result<(), SystemdError> {
        let unit = unit_name(group)?;
        match self.connect()?.stop_unit(&unit) {
            Ok(result) => finished(unit, result),
            Err(error) if error.is_named("org.freedesktop.systemd1.NoSuchUnit") => Ok(()),
            Err(source) => Err(SystemdError::Unit {
                operation: "stop",
                unit,
                source,
            }),
        }
    }
}

fn finished(unit: String, result: String) -> Result<(), SystemdError> {
    // "skipped" is said of a unit that was there already.
    if matches!(result.as_str(), "done" | "skipped") {
        Ok(())
    } else {
        Err(SystemdError::Job { unit, result })
    }
}

fn unit_name(group: &CgroupPath) -> Result<String, SystemdError> {
    let name = Path::new(group.as_str())
        .file_name()
        .and_then(|name| name.to_str());
    name.filter(|name| {
        name.strip_suffix(".slice")
            .is_some_and(|stem| !stem.is_empty())
    })
    .map(str::to_owned)
    .ok_or_else(|| SystemdError::NotASlice(group.clone()))
}

/// The limits that systemd has properties for.
fn plan_properties(version: Version, resources: &Resources) -> Vec<(&'static str, Value)> {
    let mut properties = Vec::new();
    let bytes = |limit: Limit| match limit {
        Limit::At(value) => Value::Number(value),
        Limit::Max => Value::Number(UNLIMITED),
    };
    if let Some(shares) = resources.cpu_shares {
        properties.push(match version {
            Version::V1 => ("CPUShares", Value::Number(shares.clamp(2, 262_144))),
            Version::V2 => ("CPUWeight", Value::Number(weight_from_shares(shares))),
        });
    }
    if let Some(quota) = resources.cpu_quota {
        if quota.period_micros != DEFAULT_PERIOD_MICROS {
            properties.push(("CPUQuotaPeriodUSec", Value::Number(quota.period_micros)));
        }
        properties.push(("CPUQuotaPerSecUSec", Value::Number(quota_per_second(quota))));
    }
    if let Some(limit) = resources.memory_max_bytes {
        let name = match version {
            Version::V1 => "MemoryLimit",
            Version::V2 => "MemoryMax",
        };
        properties.push((name, bytes(limit)));
    }
    let least = resources.unified.get("memory.min");
    if let (Version::V2, Some(Ok(least))) = (version, least.map(|text| text.parse())) {
        properties.push(("MemoryMin", Value::Number(least)));
    }
    if let Some(limit) = resources.pids_max {
        properties.push(("TasksMax", bytes(limit)));
    }
    properties
}

/// CPU time per second in microseconds, rounded up to systemd's step as upstream does.
fn quota_per_second(quota: CpuQuota) -> u64 {
    match quota.quota_micros {
        Limit::Max => UNLIMITED,
        Limit::At(micros) => {
            let per_second =
                u128::from(micros) * 1_000_000 / u128::from(quota.period_micros.max(1));
            u64::try_from(per_second)
                .unwrap_or(UNLIMITED)
                .checked_next_multiple_of(QUOTA_STEP_MICROS)
                .unwrap_or(UNLIMITED)
        }
    }
}

impl Cgroups for SystemdCgroups {
    fn version(&self) -> Version {
        self.files.version()
    }

    fn controllers(&self) -> Vec<String> {
        self.files.controllers()
    }

    fn create(
        &self,
        group: &CgroupPath,
        resources: &Resources,
    ) -> Result<Vec<&'static str>, CgroupError> {
        self.start(group, resources)?;
        // systemd makes the slice only in the hierarchies that it manages.
        self.files.create(group, resources)
    }

    fn apply(
        &self,
        group: &CgroupPath,
        resources: &Resources,
    ) -> Result<Vec<&'static str>, CgroupError> {
        self.set(&unit_name(group)?, resources)?;
        self.files.apply(group, resources)
    }

    fn read(&self, group: &CgroupPath) -> Result<Resources, CgroupError> {
        self.files.read(group)
    }

    fn stats(&self, group: &CgroupPath) -> Result<CgroupStats, CgroupError> {
        self.files.stats(group)
    }

    fn exists(&self, group: &CgroupPath) -> bool {
        self.files.exists(group)
    }

    fn remove(&self, group: &CgroupPath) -> Result<(), CgroupError> {
        let stopped = self.stop(group);
        // What systemd leaves (other hierarchies, a unit it never knew) goes in any case.
        self.files.remove(group)?;
        Ok(stopped?)
    }

    fn children(&self, group: &CgroupPath) -> Result<Vec<String>, CgroupError> {
        self.files.children(group)
    }

    fn pids(&self, group: &CgroupPath) -> Result<Vec<u32>, CgroupError> {
        self.files.pids(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroups::Hierarchies;

    #[test]
    fn limits_become_properties_of_each_version() {
        let resources = Resources {
            cpu_shares: Some(1024),
            cpu_quota: Some(CpuQuota {
                quota_micros: Limit::At(12_345),
                period_micros: 100_000,
            }),
            memory_max_bytes: Some(Limit::Max),
            pids_max: Some(Limit::At(5)),
            unified: [("memory.min".to_owned(), "4096".to_owned())].into(),
            ..Resources::default()
        };
        let shown = |version| {
            plan_properties(version, &resources)
                .into_iter()
                .map(|(name, value)| format!("{name}={value:?}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            shown(Version::V2),
            [
                "CPUWeight=Number(39)",
                "CPUQuotaPerSecUSec=Number(130000)",
                "MemoryMax=Number(18446744073709551615)",
                "MemoryMin=Number(4096)",
                "TasksMax=Number(5)"
            ]
        );
        assert_eq!(shown(Version::V1).len(), 4);
        assert_eq!(shown(Version::V1)[0], "CPUShares=Number(1024)");
        assert!(shown(Version::V1)[2].starts_with("MemoryLimit"));
    }

    #[test]
    fn group_that_is_no_slice_is_refused() {
        let group = CgroupPath::new("/kubepods/pod1").unwrap();
        assert!(matches!(unit_name(&group), Err(SystemdError::NotASlice(_))));
        let group = CgroupPath::new("/kubepods.slice/kubepods-pod1.slice").unwrap();
        assert_eq!(unit_name(&group).unwrap(), "kubepods-pod1.slice");
    }

    #[test]
    fn machine_without_a_bus_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let files = CgroupFs::new(Hierarchies::v2(dir.path().to_owned()));
        let error = SystemdCgroups::open_at(files, vec![dir.path().join("bus")]).unwrap_err();
        assert!(matches!(error, SystemdError::NoBus { .. }), "{error}");
    }
}
