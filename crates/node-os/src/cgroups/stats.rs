//! What a group uses.

use std::path::{Path, PathBuf};

use super::Version;
use crate::read::{self, ReadError};

/// Version 1 writes "no limit" as the largest multiple of a page that fits into 63 bits; all that is
/// this large is none (as cAdvisor has it).
const NO_LIMIT: u64 = 1 << 62;

/// Use of a group and all below it. `None` where the kernel does not tell, such as for the root, and
/// for limits that are not set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CgroupStats {
    /// CPU time in nanoseconds since the group was made.
    pub cpu_usage_nanos: Option<u64>,
    /// Memory in bytes, page cache included.
    pub memory_usage_bytes: Option<u64>,
    /// Memory without what is cached and has not been used for long: usage minus inactive file
    /// pages, as cAdvisor counts (kubelet EVI-02).
    pub memory_working_set_bytes: Option<u64>,
    /// Most memory that it may use.
    pub memory_limit_bytes: Option<u64>,
    /// Anonymous memory in bytes.
    pub memory_rss_bytes: Option<u64>,
    /// Swap in bytes.
    pub swap_usage_bytes: Option<u64>,
    /// Most swap that it may use.
    pub swap_limit_bytes: Option<u64>,
    /// Page faults.
    pub page_faults: Option<u64>,
    /// Page faults that had to read.
    pub major_page_faults: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Waiting for a CPU; version 2 only, as the other two.
    pub cpu_pressure: Option<Pressure>,
    /// Waiting for memory.
    pub memory_pressure: Option<Pressure>,
    /// Waiting for disks.
    pub io_pressure: Option<Pressure>,
}

impl CgroupStats {
    /// Whether the kernel told nothing: there is no such group.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Pressure stall information of one resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Some tasks waited.
    pub some: Stall,
    /// All tasks waited.
    pub full: Stall,
}

/// How much was waited. Averages are hundredths of a percent, as exactly as the kernel gives them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stall {
    /// Over the last 10 seconds.
    pub average_10: u32,
    /// Over the last 60 seconds.
    pub average_60: u32,
    /// Over the last 300 seconds.
    pub average_300: u32,
    /// Microseconds since the group was made.
    pub total_micros: u64,
}

/// The files of one group, by the directory of each controller.
pub(super) struct Files<F>(pub(super) F);

impl<F: Fn(&str) -> Option<PathBuf>> Files<F> {
    /// A file's text; `None` when file or controller are not there.
    pub(super) fn text(&self, controller: &str, file: &str) -> Result<Option<String>, ReadError> {
        self.0(controller).map_or(Ok(None), |path| read::optional_text(&path.join(file)))
    }

    /// A file of one number; `max` and no file are none.
    pub(super) fn number(&self, controller: &str, file: &str) -> Result<Option<u64>, ReadError> {
        let Some(path) = self.0(controller).map(|path| path.join(file)) else {
            return Ok(None);
        };
        match read::optional_text(&path)?.as_deref().map(str::trim) {
            None | Some("max") => Ok(None),
            Some(text) => parse_number(&path, text).map(Some),
        }
    }

    /// A file of lines of a name and a number.
    pub(super) fn table(&self, controller: &str, file: &str) -> Result<Table, ReadError> {
        Ok(Table(self.text(controller, file)?.unwrap_or_default()))
    }

    fn pressure(&self, file: &str) -> Result<Option<Pressure>, ReadError> {
        let Some(path) = self.0("cpu").map(|path| path.join(file)) else {
            return Ok(None);
        };
        // A kernel that was started with `psi=0` has the files and refuses to read them.
        match read::optional_text(&path) {
            Ok(text) => Ok(text.as_deref().map(parse_pressure)),
            Err(ReadError::Io(_, error))
                if error.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Lines of a name and a number.
pub(super) struct Table(pub(super) String);

impl Table {
    pub(super) fn get(&self, name: &str) -> Option<u64> {
        let value = |line: &str| {
            line.strip_prefix(name)?
                .strip_prefix(' ')?
                .trim()
                .parse()
                .ok()
        };
        self.0.lines().find_map(value)
    }
}

/// Reads the files in the directories that `directory` gives by controller.
pub(super) fn read_stats(
    version: Version,
    directory: impl Fn(&str) -> Option<PathBuf>,
) -> Result<CgroupStats, ReadError> {
    let files = Files(directory);
    let limit = |file| Ok::<_, ReadError>(files.number("memory", file)?.filter(|n| *n < NO_LIMIT));
    let memory = files.table("memory", "memory.stat")?;
    let mut stats = CgroupStats {
        pids: files.number("pids", "pids.current")?,
        ..CgroupStats::default()
    };
    let inactive_file = match version {
        Version::V1 => {
            stats.cpu_usage_nanos = files.number("cpuacct", "cpuacct.usage")?;
            stats.memory_usage_bytes = files.number("memory", "memory.usage_in_bytes")?;
            stats.memory_limit_bytes = limit("memory.limit_in_bytes")?;
            stats.memory_rss_bytes = memory.get("total_rss");
            stats.swap_usage_bytes = memory.get("total_swap");
            // The file holds memory and swap together; it is missing without swap accounting.
            if let Some(memory_limit) = stats.memory_limit_bytes {
                stats.swap_limit_bytes = limit("memory.memsw.limit_in_bytes")?
                    .map(|both| both.saturating_sub(memory_limit));
            }
            stats.page_faults = memory.get("total_pgfault");
            stats.major_page_faults = memory.get("total_pgmajfault");
            memory.get("total_inactive_file")
        }
        Version::V2 => {
            let micros = files.table("cpu", "cpu.stat")?.get("usage_usec");
            stats.cpu_usage_nanos = micros.map(|micros| micros.saturating_mul(1000));
            stats.memory_usage_bytes = files.number("memory", "memory.current")?;
            stats.memory_limit_bytes = limit("memory.max")?;
            stats.memory_rss_bytes = memory.get("anon");
            stats.swap_usage_bytes = files.number("memory", "memory.swap.current")?;
            stats.swap_limit_bytes = limit("memory.swap.max")?;
            stats.page_faults = memory.get("pgfault");
            stats.major_page_faults = memory.get("pgmajfault");
            stats.cpu_pressure = files.pressure("cpu.pressure")?;
            stats.memory_pressure = files.pressure("memory.pressure")?;
            stats.io_pressure = files.pressure("io.pressure")?;
            memory.get("inactive_file")
        }
    };
    stats.memory_working_set_bytes = stats
        .memory_usage_bytes
        .map(|usage| usage.saturating_sub(inactive_file.unwrap_or_default()));
    Ok(stats)
}

fn parse_number(path: &Path, text: &str) -> Result<u64, ReadError> {
    text.parse().map_err(|_| ReadError::content(path, text))
}

/// `some avg10=0.12 avg60=0.00 avg300=0.00 total=345` and the same for `full`. Before Linux 5.13
/// cpu.pressure had no `full`.
fn parse_pressure(text: &str) -> Pressure {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let (kind, values) = line.split_once(' ').unwrap_or_default();
        let stall = match kind {
            "some" => &mut pressure.some,
            "full" => &mut pressure.full,
            _ => continue,
        };
        for (name, value) in values
            .split_whitespace()
            .filter_map(|word| word.split_once('='))
        {
            match name {
                "avg10" => stall.average_10 = hundredths(value),
                "avg60" => stall.average_60 = hundredths(value),
                "avg300" => stall.average_300 = hundredths(value),
                "total" => stall.total_micros = value.parse().unwrap_or_default(),
                _ => {}
            }
        }
    }
    pressure
}

/// `1.05` -> 105; the kernel always writes two decimals.
fn hundredths(text: &str) -> u32 {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "00"));
    let number = |text: &str| text.parse::<u32>().unwrap_or_default();
    number(whole)
        .saturating_mul(100)
        .saturating_add(number(decimals))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(version: Version, files: &[(&str, &str)]) -> CgroupStats {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        read_stats(version, |_| Some(dir.path().to_owned())).unwrap()
    }

    #[test]
    fn working_set_is_usage_without_idle_cache() {
        let stats = read(
            Version::V2,
            &[
                ("memory.current", "1000\n"),
                ("memory.max", "2000\n"),
                ("memory.swap.max", "max\n"),
                (
                    "memory.stat",
                    "anon 300\nfile 500\ninactive_file 400\npgfault 7\npgmajfault 1\n",
                ),
                ("cpu.stat", "usage_usec 12\nuser_usec 10\n"),
                ("pids.current", "3\n"),
            ],
        );
        assert_eq!(stats.memory_working_set_bytes, Some(600));
        assert_eq!(
            (stats.memory_limit_bytes, stats.swap_limit_bytes),
            (Some(2000), None)
        );
        assert_eq!(stats.cpu_usage_nanos, Some(12_000));
        assert_eq!(
            (stats.page_faults, stats.major_page_faults),
            (Some(7), Some(1))
        );
        assert_eq!((stats.pids, stats.swap_usage_bytes), (Some(3), None));
        let stats = read(
            Version::V2,
            &[
                ("memory.current", "1000"),
                ("memory.stat", "inactive_file 5000\n"),
            ],
        );
        assert_eq!(stats.memory_working_set_bytes, Some(0));
        assert!(read(Version::V2, &[]).is_empty());
    }

    #[test]
    fn version_1_counts_the_groups_below() {
        let stats = read(
            Version::V1,
            &[
                ("memory.usage_in_bytes", "1000\n"),
                ("memory.limit_in_bytes", "5000\n"),
                ("memory.memsw.limit_in_bytes", "7000\n"),
                (
                    "memory.stat",
                    "rss 1\ntotal_rss 30\ntotal_swap 4\ntotal_inactive_file 100\n",
                ),
                ("cpuacct.usage", "99\n"),
            ],
        );
        assert_eq!(stats.memory_rss_bytes, Some(30));
        assert_eq!(stats.memory_working_set_bytes, Some(900));
        assert_eq!(stats.memory_limit_bytes, Some(5000));
        assert_eq!(
            (stats.swap_usage_bytes, stats.swap_limit_bytes),
            (Some(4), Some(2000))
        );
        assert_eq!(stats.cpu_usage_nanos, Some(99));
        let unlimited = [("memory.limit_in_bytes", "9223372036854771712\n")];
        assert_eq!(read(Version::V1, &unlimited).memory_limit_bytes, None);
    }

    #[test]
    fn pressure_is_read_to_the_last_digit() {
        let stats = read(
            Version::V2,
            &[
                (
                    "cpu.pressure",
                    "some avg10=1.05 avg60=100.00 avg300=0.20 total=345\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=6\n",
                ),
                (
                    "memory.pressure",
                    "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n",
                ),
            ],
        );
        let cpu = stats.cpu_pressure.unwrap();
        assert_eq!((cpu.some.average_10, cpu.some.average_60), (105, 10_000));
        assert_eq!(
            (
                cpu.some.average_300,
                cpu.some.total_micros,
                cpu.full.total_micros
            ),
            (20, 345, 6)
        );
        assert_eq!(stats.memory_pressure.unwrap().full, Stall::default());
        assert_eq!(stats.io_pressure, None);
    }
}
