//! The machine: memory, CPUs, swap, start, names.

use std::path::PathBuf;

use super::Proc;
use crate::read::{self, ReadError};

/// Memory of the machine in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Meminfo {
    /// All of it.
    pub total_bytes: u64,
    /// Not in use at all.
    pub free_bytes: u64,
    /// What new work could get without swapping.
    pub available_bytes: u64,
    /// Cached file pages that have not been used for long.
    pub inactive_file_bytes: u64,
    /// Swap space.
    pub swap_total_bytes: u64,
    /// Swap space that is free.
    pub swap_free_bytes: u64,
}

/// A line of `/proc/swaps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwapDevice {
    /// The device or file.
    pub path: PathBuf,
    /// `partition`, `file` or the like.
    pub kind: String,
    /// Its size in bytes.
    pub size_bytes: u64,
}

/// A kernel's version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelVersion {
    /// As `uname -r` shows it.
    pub release: String,
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

/// What os-release(5) tells of a distribution.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OsRelease {
    /// Such as `debian`.
    pub id: String,
    /// Such as `Debian GNU/Linux 12 (bookworm)`.
    pub pretty_name: String,
}

impl Proc {
    /// The directories of processors that tell of their heat, in the order of the processors
    /// (kubelet SPEC-50). None where the machine does not say.
    pub fn thermal_throttle(&self) -> Vec<String> {
        const CPUS: &str = "sys/devices/system/cpu";
        let mut cpus: Vec<u32> = std::fs::read_dir(self.path(CPUS))
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                entry
                    .ok()?
                    .file_name()
                    .to_str()?
                    .strip_prefix("cpu")?
                    .parse()
                    .ok()
            })
            .collect();
        cpus.sort_unstable();
        cpus.into_iter()
            .map(|cpu| format!("{CPUS}/cpu{cpu}/thermal_throttle"))
            .filter(|path| self.path(path).exists())
            .map(|path| format!("/{path}"))
            .collect()
    }
}

impl Proc {
    /// Memory of the machine.
    ///
    /// # Errors
    /// When the file is missing or has no total.
    pub fn meminfo(&self) -> Result<Meminfo, ReadError> {
        let path = self.path("proc/meminfo");
        let text = read::text(&path)?;
        let mut info = Meminfo::default();
        for line in text.lines() {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            let slot = match name {
                "MemTotal" => &mut info.total_bytes,
                "MemFree" => &mut info.free_bytes,
                "MemAvailable" => &mut info.available_bytes,
                "Inactive(file)" => &mut info.inactive_file_bytes,
                "SwapTotal" => &mut info.swap_total_bytes,
                "SwapFree" => &mut info.swap_free_bytes,
                _ => continue,
            };
            let kib = value
                .split_whitespace()
                .next()
                .and_then(|word| word.parse::<u64>().ok());
            *slot = kib
                .ok_or_else(|| ReadError::content(&path, line))?
                .saturating_mul(1024);
        }
        if info.total_bytes == 0 {
            return Err(ReadError::content(&path, &text));
        }
        Ok(info)
    }

    /// CPUs that are online.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn cpu_count(&self) -> Result<u32, ReadError> {
        let path = self.path("sys/devices/system/cpu/online");
        let text = read::text(&path)?;
        parse_cpu_count(text.trim()).ok_or_else(|| ReadError::content(&path, &text))
    }

    /// The swap devices in use; none where the kernel has no swap.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn swaps(&self) -> Result<Vec<SwapDevice>, ReadError> {
        let text = read::optional_text(&self.path("proc/swaps"))?.unwrap_or_default();
        Ok(text.lines().skip(1).filter_map(parse_swap).collect())
    }

    /// When the machine was started, in seconds since the epoch.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn boot_time_seconds(&self) -> Result<u64, ReadError> {
        let path = self.path("proc/stat");
        let text = read::text(&path)?;
        text.lines()
            .find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
            .ok_or_else(|| ReadError::content(&path, "no btime"))
    }

    /// An id that is new at each start of the machine.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn boot_id(&self) -> Result<String, ReadError> {
        self.word("proc/sys/kernel/random/boot_id")
    }

    /// The id that the distribution gave this installation, if it did.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn machine_id(&self) -> Result<Option<String>, ReadError> {
        for file in ["etc/machine-id", "var/lib/dbus/machine-id"] {
            let text = read::optional_text(&self.path(file))?.unwrap_or_default();
            let id = text.trim();
            if !id.is_empty() {
                return Ok(Some(id.to_owned()));
            }
        }
        Ok(None)
    }

    /// The id that the firmware gives the machine, if it does and we may read it.
    pub fn system_uuid(&self) -> Option<String> {
        [
            "sys/class/dmi/id/product_uuid",
            "proc/device-tree/system-id",
            "proc/device-tree/vm,uuid",
        ]
        .iter()
        .find_map(|file| read::text(&self.path(file)).ok())
        .map(|text| text.trim_matches(['\0', '\n', ' ']).to_owned())
        .filter(|text| !text.is_empty())
    }

    /// The distribution; defaults where it does not say.
    ///
    /// # Errors
    /// When its file is there and cannot be read.
    pub fn os_release(&self) -> Result<OsRelease, ReadError> {
        for file in ["etc/os-release", "usr/lib/os-release"] {
            if let Some(text) = read::optional_text(&self.path(file))? {
                return Ok(parse_os_release(&text));
            }
        }
        Ok(OsRelease {
            id: "linux".to_owned(),
            pretty_name: "Linux".to_owned(),
        })
    }

    /// Largest number of processes and threads: the smaller one of `pid_max` and `threads-max`
    /// (kubelet CG-20).
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn pid_limit(&self) -> Result<u64, ReadError> {
        let pids: u64 = read::number(&self.path("proc/sys/kernel/pid_max"))?;
        let threads: u64 = read::number(&self.path("proc/sys/kernel/threads-max"))?;
        Ok(pids.min(threads))
    }

    /// Processes and threads that exist now (kubelet EVI-02).
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn pid_count(&self) -> Result<u64, ReadError> {
        let path = self.path("proc/loadavg");
        let text = read::text(&path)?;
        text.split_whitespace()
            .nth(3)
            .and_then(|word| word.split_once('/')?.1.parse().ok())
            .ok_or_else(|| ReadError::content(&path, &text))
    }

    /// A kernel setting by its name, such as `vm.overcommit_memory` or `vm/overcommit_memory`.
    ///
    /// # Errors
    /// When there is no such setting or it cannot be read.
    pub fn sysctl(&self, name: &str) -> Result<String, ReadError> {
        self.word(&format!("proc/sys/{}", sysctl_path(name)))
    }

    /// The name of a block device, such as `/dev/sda`; its numbers, such as `8:0`, where it has none.
    pub fn block_device(&self, major: u32, minor: u32) -> String {
        let link = self.path(&format!("sys/dev/block/{major}:{minor}"));
        let name = std::fs::read_link(link).ok();
        let name = name
            .as_deref()
            .and_then(|target| target.file_name()?.to_str());
        name.map_or_else(|| format!("{major}:{minor}"), |name| format!("/dev/{name}"))
    }

    fn word(&self, below: &str) -> Result<String, ReadError> {
        Ok(read::text(&self.path(below))?.trim().to_owned())
    }
}

/// `net.ipv4.ip_forward` -> `net/ipv4/ip_forward`; a name with a slash before its first dot is a
/// path already, whose dots (in names of interfaces) stay, as sysctl(8) reads it.
pub(super) fn sysctl_path(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name[at..].starts_with('.') => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

/// The node's name as the kernel has it.
pub fn hostname() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// The running kernel's version; `None` for a release that begins with no two numbers.
pub fn kernel_version() -> Option<KernelVersion> {
    parse_kernel_version(&rustix::system::uname().release().to_string_lossy())
}

pub(super) fn parse_kernel_version(release: &str) -> Option<KernelVersion> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some(KernelVersion {
        release: release.to_owned(),
        major: numbers.next()?.parse().ok()?,
        minor: numbers.next()?.parse().ok()?,
    })
}

/// `0-3,8` -> 5.
fn parse_cpu_count(list: &str) -> Option<u32> {
    list.split(',').try_fold(0u32, |sum, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

fn parse_swap(line: &str) -> Option<SwapDevice> {
    let mut words = line.split_whitespace();
    Some(SwapDevice {
        path: words.next()?.into(),
        kind: words.next()?.to_owned(),
        size_bytes: words.next()?.parse::<u64>().ok()?.saturating_mul(1024),
    })
}

fn parse_os_release(text: &str) -> OsRelease {
    let value = |name: &str| {
        text.lines()
            .filter_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='))
            .next_back()
            .map(|value| value.trim_matches(['"', '\'']).to_owned())
    };
    OsRelease {
        id: value("ID").unwrap_or_else(|| "linux".to_owned()),
        pretty_name: value("PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned()),
    }
}

/// Size of a page of memory in bytes.
pub fn page_bytes() -> usize {
    rustix::param::page_size()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_counted() {
        for (list, count) in [
            ("0", Some(1)),
            ("0-3", Some(4)),
            ("0-1,4,6-7", Some(5)),
            ("", None),
            ("3-1", None),
        ] {
            assert_eq!(parse_cpu_count(list), count, "{list}");
        }
    }

    #[test]
    fn kernel_releases_of_all_kinds() {
        let numbers = |release: &str| {
            parse_kernel_version(release).map(|version| (version.major, version.minor))
        };
        assert_eq!(numbers("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(numbers("5.15-rc1"), Some((5, 15)));
        assert_eq!(numbers("4.18.0-553.el8.x86_64"), Some((4, 18)));
        assert_eq!(numbers("x"), None);
        assert!(kernel_version().is_some());
        assert!(!hostname().is_empty());
    }

    #[test]
    fn settings_are_named_with_dots_or_slashes() {
        assert_eq!(sysctl_path("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(
            sysctl_path("net/ipv4/conf/eth0.1/forwarding"),
            "net/ipv4/conf/eth0.1/forwarding"
        );
        assert_eq!(
            sysctl_path("net.ipv4.conf.eth0/1.forwarding"),
            "net/ipv4/conf/eth0.1/forwarding"
        );
    }

    #[test]
    fn os_release_values_lose_their_quotes() {
        let release = parse_os_release("NAME=x\nID=debian\nPRETTY_NAME=\"Debian 12\"\n");
        assert_eq!(
            (release.id.as_str(), release.pretty_name.as_str()),
            ("debian", "Debian 12")
        );
        assert_eq!(parse_os_release("").id, "linux");
    }
}
