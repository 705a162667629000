//! What a group uses.

use std::{collections::BTreeMap, path::Path};

use super::Version;
use crate::read::{self, ReadError};

/// Use of a group and all below it. `None` where the kernel does not tell, such as for the root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CgroupStats {
    /// CPU time in nanoseconds since the group was made.
    pub cpu_usage_nanos: Option<u64>,
    /// Memory in bytes, page cache included.
    pub memory_usage_bytes: Option<u64>,
    /// Memory without what is cached and has not been used for long: usage minus inactive file
    /// pages, as cAdvisor counts (kubelet EVI-02).
    pub memory_working_set_bytes: Option<u64>,
    /// Anonymous memory in bytes.
    pub memory_rss_bytes: Option<u64>,
    /// Swap in bytes.
    pub swap_usage_bytes: Option<u64>,
    /// Page faults.
    pub page_faults: Option<u64>,
    /// Page faults that had to read.
    pub major_page_faults: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// Reads the files in the directories that `directory` gives by controller.
pub(super) fn read_stats(
    version: Version,
    directory: impl Fn(&str) -> Option<std::path::PathBuf>,
) -> Result<CgroupStats, ReadError> {
    let number = |controller: &str, file: &str| -> Result<Option<u64>, ReadError> {
        directory(controller).map_or(Ok(None), |path| optional_number(&path.join(file)))
    };
    let table = |controller: &str, file: &str| -> Result<BTreeMap<String, u64>, ReadError> {
        let Some(path) = directory(controller) else {
            return Ok(BTreeMap::new());
        };
        Ok(read::optional_text(&path.join(file))?
            .map(|text| parse_table(&text))
            .unwrap_or_default())
    };
    let memory = table("memory", "memory.stat")?;
    let mut stats = CgroupStats {
        pids: number("pids", "pids.current")?,
        ..CgroupStats::default()
    };
    let inactive_file = match version {
        Version::V1 => {
            stats.cpu_usage_nanos = number("cpuacct", "cpuacct.usage")?;
            stats.memory_usage_bytes = number("memory", "memory.usage_in_bytes")?;
            stats.memory_rss_bytes = memory.get("total_rss").copied();
            stats.swap_usage_bytes = memory.get("total_swap").copied();
            stats.page_faults = memory.get("total_pgfault").copied();
            stats.major_page_faults = memory.get("total_pgmajfault").copied();
            memory.get("total_inactive_file").copied()
        }
        Version::V2 => {
            let micros = table("cpu", "cpu.stat")?.get("usage_usec").copied();
            stats.cpu_usage_nanos = micros.map(|micros| micros.saturating_mul(1000));
            stats.memory_usage_bytes = number("memory", "memory.current")?;
            stats.memory_rss_bytes = memory.get("anon").copied();
            stats.swap_usage_bytes = number("memory", "memory.swap.current")?;
            stats.page_faults = memory.get("pgfault").copied();
            stats.major_page_faults = memory.get("pgmajfault").copied();
            memory.get("inactive_file").copied()
        }
    };
    stats.memory_working_set_bytes = stats
        .memory_usage_bytes
        .map(|usage| usage.saturating_sub(inactive_file.unwrap_or_default()));
    Ok(stats)
}

fn optional_number(path: &Path) -> Result<Option<u64>, ReadError> {
    let Some(text) = read::optional_text(path)? else {
        return Ok(None);
    };
    text.trim()
        .parse()
        .map(Some)
        .map_err(|_| ReadError::content(path, &text))
}

/// Lines of a name and a number.
fn parse_table(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn working_set_is_usage_without_idle_cache() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("memory.current", "1000\n");
        write(
            "memory.stat",
            "anon 300\nfile 500\ninactive_file 400\npgfault 7\npgmajfault 1\n",
        );
        write("cpu.stat", "usage_usec 12\nuser_usec 10\n");
        write("pids.current", "3\n");
        let stats = read_stats(Version::V2, |_| Some(dir.path().to_owned())).unwrap();
        assert_eq!(stats.memory_working_set_bytes, Some(600));
        assert_eq!(stats.cpu_usage_nanos, Some(12_000));
        assert_eq!((stats.pids, stats.swap_usage_bytes), (Some(3), None));
        write("memory.stat", "inactive_file 5000\n");
        let stats = read_stats(Version::V2, |_| Some(dir.path().to_owned())).unwrap();
        assert_eq!(stats.memory_working_set_bytes, Some(0));
    }

    #[test]
    fn version_1_counts_the_groups_below() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("memory.usage_in_bytes", "1000\n");
        write(
            "memory.stat",
            "rss 1\ntotal_rss 30\ntotal_inactive_file 100\n",
        );
        write("cpuacct.usage", "99\n");
        let stats = read_stats(Version::V1, |_| Some(dir.path().to_owned())).unwrap();
        assert_eq!(stats.memory_rss_bytes, Some(30));
        assert_eq!(stats.memory_working_set_bytes, Some(900));
        assert_eq!(stats.cpu_usage_nanos, Some(99));
    }
}
