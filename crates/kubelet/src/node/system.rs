//! The machine at start: kernel settings, the kubelet's own limits, swap, the cgroup version
//! (PROC-35 to PROC-38). What only lacks a right is warned of (DEC-48); what the user asked to be
//! an error is one.

use std::path::Path;

use daemon::ErrorChain;
use kubelet_config::SwapBehavior;
use node_os::{
    cgroups::Version,
    mounts::{Mounts, Swap},
    proc::{self, Proc, ReadError},
};

use crate::events::{EventType, Events, ObjectRef};

/// Kernel settings with the values that a node wants (PROC-35), by upstream's names.
const KERNEL_SETTINGS: [(&str, i64); 6] = [
    ("vm/overcommit_memory", 1),
    ("vm/panic_on_oom", 0),
    ("kernel/panic", 10),
    ("kernel/panic_on_oops", 1),
    ("kernel/keys/root_maxkeys", 1_000_000),
    ("kernel/keys/root_maxbytes", 25_000_000),
];

const CGROUP_V1: &str = "cgroup v1 support is in maintenance mode, please migrate to cgroup v2";
const SWAPPABLE: &str = "The tmpfs noswap option is not supported. Memory-backed volumes (e.g. \
                         secrets, emptyDirs, etc.) might be swapped to disk and should no longer \
                         be considered secure.";

/// What the checks are told.
#[derive(Debug, Clone)]
pub(crate) struct SystemConfig {
    /// A kernel setting that differs is an error instead of being written.
    pub(crate) protect_kernel_defaults: bool,
    /// Own `oom_score_adj`.
    pub(crate) oom_score_adj: i32,
    /// Own limit of open files.
    pub(crate) max_open_files: u64,
    /// Refuse to start with swap on.
    pub(crate) fail_swap_on: bool,
    /// May pods swap?
    pub(crate) swap: SwapBehavior,
    /// Refuse to start on cgroup v1.
    pub(crate) fail_cgroup_v1: bool,
    /// Which version there is; `None`: no cgroups are mounted.
    pub(crate) cgroup_version: Option<Version>,
    /// For events.
    pub(crate) node_name: String,
}

/// What the checks found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SystemFacts {
    /// What a tmpfs is to be mounted with (VOL-11).
    pub(crate) tmpfs_swap: Swap,
}

/// The machine is not as the configuration demands.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SystemError {
    /// `protectKernelDefaults`.
    #[error("[{}]", .0.join(", "))]
    KernelSettings(Vec<String>),
    /// `failSwapOn`.
    #[error(
        "running with swap on is not supported, please disable swap or set --fail-swap-on flag to \
         false. /proc/swaps contained: {}", .0.join(", ")
    )]
    SwapOn(Vec<String>),
    /// The list of swap devices cannot be read.
    #[error("failed to determine if swap is on")]
    Swaps(#[source] ReadError),
    /// `failCgroupV1`.
    #[error("{CGROUP_V1}")]
    CgroupV1,
    /// `memorySwap.swapBehavior: LimitedSwap`.
    #[error(
        "swap behavior LimitedSwap is not supported on cgroup v1: set NoSwap, or use cgroup v2"
    )]
    LimitedSwap,
}

/// Sets the machine and this process up, checks what was asked to be checked. `scratch` is a
/// directory of ours to try a mount in. Blocks.
///
/// # Errors
/// See [`SystemError`]; nothing else stops the start.
pub(crate) fn prepare(
    config: &SystemConfig,
    proc: &Proc,
    mounts: &dyn Mounts,
    scratch: &Path,
    events: &Events,
) -> Result<SystemFacts, SystemError> {
    let warn = |reason: &str, message: &str| {
        let node = ObjectRef::node(&config.node_name);
        events.record(&node, EventType::Warning, reason, message);
    };
    set_own_limits(config);
    if config.cgroup_version == Some(Version::V1) {
        if config.fail_cgroup_v1 {
            return Err(SystemError::CgroupV1);
        }
        if config.swap == SwapBehavior::LimitedSwap {
            return Err(SystemError::LimitedSwap);
        }
        warn("CgroupV1", CGROUP_V1);
    }
    let swaps = proc.swaps().map_err(SystemError::Swaps)?;
    let tmpfs_swap = noswap(mounts, scratch);
    if !swaps.is_empty() {
        if config.fail_swap_on {
            let devices = swaps
                .iter()
                .map(|swap| swap.path.display().to_string())
                .collect();
            return Err(SystemError::SwapOn(devices));
        }
        if tmpfs_swap == Swap::Allowed {
            warn("PossibleMemoryBackedVolumesOnDisk", SWAPPABLE);
        }
    }
    set_kernel(config.protect_kernel_defaults, proc)?;
    Ok(SystemFacts { tmpfs_swap })
}

/// Survive a shortage of memory; have files for every pod (PROC-36).
fn set_own_limits(config: &SystemConfig) {
    if let Err(error) = proc::set_oom_score_adj(std::process::id(), config.oom_score_adj) {
        tracing::warn!(score = config.oom_score_adj, error = %ErrorChain(&error),
            "own OOM score stays as it is");
    }
    if let Err(error) = proc::raise_open_files(config.max_open_files) {
        tracing::warn!(error = %ErrorChain(&error), "limit of open files stays lower than wanted");
    }
}

fn noswap(mounts: &dyn Mounts, scratch: &Path) -> Swap {
    match mounts.supports_noswap(scratch) {
        Ok(true) => Swap::Forbidden,
        Ok(false) => Swap::Allowed,
        Err(error) => {
            tracing::warn!(error = %ErrorChain(&error),
                "cannot try the tmpfs noswap option, taken for not supported");
            Swap::Allowed
        }
    }
}

/// A setting that is not as wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Difference {
    setting: &'static str,
    wanted: i64,
    actual: i64,
}

/// Compares the settings that can be read; the others come back as their errors.
fn differences(
    read: impl Fn(&'static str) -> Result<String, ReadError>,
) -> (Vec<Difference>, Vec<(&'static str, ReadError)>) {
    let (mut different, mut unreadable) = (Vec::new(), Vec::new());
    for (setting, wanted) in KERNEL_SETTINGS {
        match read(setting) {
            Ok(text) => {
                // A value that is no number is not the wanted one.
                let actual = text.trim().parse().unwrap_or(-1);
                if actual != wanted {
                    different.push(Difference {
                        setting,
                        wanted,
                        actual,
                    });
                }
            }
            Err(error) => unreadable.push((setting, error)),
        }
    }
    (different, unreadable)
}

fn set_kernel(protect: bool, proc: &Proc) -> Result<(), SystemError> {
    let (different, unreadable) = differences(|setting| proc.sysctl(setting));
    for (setting, error) in unreadable {
        tracing::warn!(setting, error = %ErrorChain(&error), "kernel setting cannot be read");
    }
    if protect && !different.is_empty() {
        let problems = different.iter().map(|one| {
            let Difference {
                setting,
                wanted,
                actual,
            } = one;
            format!(
                "invalid kernel flag: {setting}, expected value: {wanted}, actual value: {actual}"
            )
        });
        return Err(SystemError::KernelSettings(problems.collect()));
    }
    for Difference {
        setting,
        wanted,
        actual,
    } in different
    {
        match proc::write_sysctl(setting, &wanted.to_string()) {
            Ok(()) => tracing::info!(setting, wanted, actual, "Updating kernel flag"),
            Err(error) => tracing::warn!(setting, wanted, actual, error = %ErrorChain(&error),
                "kernel setting stays as it is"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc};

    use node_os::mounts::KernelMounts;

    use super::*;
    use crate::events::EventSink;

    /// Events that nobody reads.
    #[derive(Debug)]
    struct Silent;

    impl EventSink for Silent {
        fn record(&self, _: &ObjectRef, _: EventType, _: &str, _: &str) {}
    }

    /// A machine whose settings are all as wanted, in a directory.
    fn machine() -> tempfile::TempDir {
        let machine = tempfile::tempdir().unwrap();
        for (setting, value) in KERNEL_SETTINGS {
            let path = machine.path().join("proc/sys").join(setting);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{value}\n")).unwrap();
        }
        machine
    }

    fn swap_on(machine: &tempfile::TempDir) {
        let text = "Filename Type Size Used Priority\n/dev/sda2 partition 1024 0 -2\n";
        fs::write(machine.path().join("proc/swaps"), text).unwrap();
    }

    fn config() -> SystemConfig {
        SystemConfig {
            protect_kernel_defaults: true,
            // What every process may set.
            oom_score_adj: 1000,
            max_open_files: 1,
            fail_swap_on: true,
            swap: SwapBehavior::NoSwap,
            fail_cgroup_v1: false,
            cgroup_version: Some(Version::V2),
            node_name: "node".to_owned(),
        }
    }

    fn checked(machine: &tempfile::TempDir, config: &SystemConfig) -> Result<(), SystemError> {
        let events: Events = Arc::new(Silent);
        let proc = Proc::at(machine.path());
        prepare(config, &proc, &KernelMounts, machine.path(), &events).map(drop)
    }

    #[test]
    fn machine_as_wanted_passes() {
        checked(&machine(), &config()).unwrap();
    }

    #[test]
    fn protected_settings_that_differ_are_all_named() {
        let machine = machine();
        fs::write(machine.path().join("proc/sys/vm/overcommit_memory"), "0\n").unwrap();
        fs::write(machine.path().join("proc/sys/kernel/panic"), "0\n").unwrap();
        let error = checked(&machine, &config()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "[invalid kernel flag: vm/overcommit_memory, expected value: 1, actual value: 0, \
             invalid kernel flag: kernel/panic, expected value: 10, actual value: 0]"
        );
    }

    #[test]
    fn setting_that_the_kernel_lacks_does_not_stop_the_start() {
        let machine = machine();
        fs::remove_file(machine.path().join("proc/sys/kernel/panic_on_oops")).unwrap();
        checked(&machine, &config()).unwrap();
    }

    #[test]
    fn swap_stops_the_start_only_where_asked() {
        let machine = machine();
        swap_on(&machine);
        let error = checked(&machine, &config()).unwrap_err().to_string();
        assert!(
            error.contains("swap") && error.contains("/dev/sda2"),
            "{error}"
        );
        checked(
            &machine,
            &SystemConfig {
                fail_swap_on: false,
                ..config()
            },
        )
        .unwrap();
    }

    #[test]
    fn old_cgroups_stop_the_start_only_where_asked() {
        let machine = machine();
        let old = SystemConfig {
            cgroup_version: Some(Version::V1),
            ..config()
        };
        checked(&machine, &old).unwrap();
        let strict = SystemConfig {
            fail_cgroup_v1: true,
            ..old.clone()
        };
        assert!(matches!(
            checked(&machine, &strict),
            Err(SystemError::CgroupV1)
        ));
        let swapping = SystemConfig {
            swap: SwapBehavior::LimitedSwap,
            ..old
        };
        assert!(matches!(
            checked(&machine, &swapping),
            Err(SystemError::LimitedSwap)
        ));
    }
}
