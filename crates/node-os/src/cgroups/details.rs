//! What a group uses, at length: what only metrics show, read when these are asked for.

use std::path::PathBuf;

use super::{
    Version,
    stats::{Files, Table},
};
use crate::read::ReadError;

/// Counters and settings of a group beyond [`super::CgroupStats`]. `None` where the kernel does not
/// tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgroupDetails {
    /// CPU time in user mode in nanoseconds.
    pub cpu_user_nanos: Option<u64>,
    /// CPU time in the kernel in nanoseconds.
    pub cpu_system_nanos: Option<u64>,
    /// Periods in which it ran under a quota.
    pub cpu_periods: Option<u64>,
    /// Of these, those in which the quota was used up.
    pub cpu_throttled_periods: Option<u64>,
    /// Nanoseconds for which it was held back.
    pub cpu_throttled_nanos: Option<u64>,
    /// Page cache in bytes.
    pub cache_bytes: Option<u64>,
    /// Mapped files in bytes.
    pub mapped_file_bytes: Option<u64>,
    /// Cached file pages in use, in bytes.
    pub active_file_bytes: Option<u64>,
    /// Cached file pages that have not been used for long, in bytes.
    pub inactive_file_bytes: Option<u64>,
    /// The kernel's own memory for it, in bytes.
    pub kernel_bytes: Option<u64>,
    /// Most memory that it ever used, in bytes.
    pub max_usage_bytes: Option<u64>,
    /// Times that the memory limit was hit.
    pub limit_hits: Option<u64>,
    /// Processes killed for lack of memory.
    pub oom_kills: Option<u64>,
    /// Most processes and threads that it may have; `None` for no limit.
    pub pids_limit: Option<u64>,
    /// Reads and writes by device.
    pub io: Vec<DeviceIo>,
}

/// What was read from and written to a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceIo {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

/// Reads the files in the directories that `directory` gives by controller.
pub(super) fn read_details(
    version: Version,
    directory: impl Fn(&str) -> Option<PathBuf>,
) -> Result<CgroupDetails, ReadError> {
    let files = Files(directory);
    let memory = files.table("memory", "memory.stat")?;
    let cpu = files.table("cpu", "cpu.stat")?;
    let pids_limit = files.number("pids", "pids.max")?;
    Ok(match version {
        Version::V1 => {
            let oom = files.table("memory", "memory.oom_control")?;
            let mut io = Vec::new();
            for (names, slots) in [
                (
                    [
                        "blkio.throttle.io_service_bytes_recursive",
                        "blkio.throttle.io_service_bytes",
                    ],
                    BYTES,
                ),
                (
                    [
                        "blkio.throttle.io_serviced_recursive",
                        "blkio.throttle.io_serviced",
                    ],
                    TIMES,
                ),
            ] {
                let mut text = files.text("blkio", names[0])?;
                if text.is_none() {
                    text = files.text("blkio", names[1])?;
                }
                parse_blkio(&text.unwrap_or_default(), slots, &mut io);
            }
            CgroupDetails {
                cpu_user_nanos: files.number("cpuacct", "cpuacct.usage_user")?,
                cpu_system_nanos: files.number("cpuacct", "cpuacct.usage_sys")?,
                cpu_throttled_nanos: cpu.get("throttled_time"),
                cache_bytes: memory.get("total_cache"),
                mapped_file_bytes: memory.get("total_mapped_file"),
                active_file_bytes: memory.get("total_active_file"),
                inactive_file_bytes: memory.get("total_inactive_file"),
                kernel_bytes: files.number("memory", "memory.kmem.usage_in_bytes")?,
                max_usage_bytes: files.number("memory", "memory.max_usage_in_bytes")?,
                limit_hits: files.number("memory", "memory.failcnt")?,
                oom_kills: oom.get("oom_kill"),
                io,
                ..shared(&cpu, pids_limit)
            }
        }
        Version::V2 => {
            let events = files.table("memory", "memory.events")?;
            let nanos = |name| cpu.get(name).map(|micros: u64| micros.saturating_mul(1000));
            let io = files.text("io", "io.stat")?.unwrap_or_default();
            CgroupDetails {
                cpu_user_nanos: nanos("user_usec"),
                cpu_system_nanos: nanos("system_usec"),
                cpu_throttled_nanos: nanos("throttled_usec"),
                cache_bytes: memory.get("file"),
                mapped_file_bytes: memory.get("file_mapped"),
                active_file_bytes: memory.get("active_file"),
                inactive_file_bytes: memory.get("inactive_file"),
                kernel_bytes: memory.get("kernel"),
                max_usage_bytes: files.number("memory", "memory.peak")?,
                limit_hits: events.get("max"),
                oom_kills: events.get("oom_kill"),
                io: io.lines().filter_map(parse_io_stat).collect(),
                ..shared(&cpu, pids_limit)
            }
        }
    })
}

/// What `memory.events` says of kills in a group and below.
pub(super) fn memory_kills(events: &str) -> Option<u64> {
    Table(events.to_owned()).get("oom_kill")
}

fn shared(cpu: &Table, pids_limit: Option<u64>) -> CgroupDetails {
    CgroupDetails {
        cpu_periods: cpu.get("nr_periods"),
        cpu_throttled_periods: cpu.get("nr_throttled"),
        pids_limit,
        ..CgroupDetails::default()
    }
}

/// Where a line's number for reads and for writes goes.
type Slots = [fn(&mut DeviceIo) -> &mut u64; 2];
const BYTES: Slots = [|io| &mut io.read_bytes, |io| &mut io.write_bytes];
const TIMES: Slots = [|io| &mut io.reads, |io| &mut io.writes];

/// `8:0 Read 4096` and `8:0 Write 0`, among other operations.
fn parse_blkio(text: &str, [reads, writes]: Slots, all: &mut Vec<DeviceIo>) {
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(device), Some(operation), Some(number)) =
            (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let slot = match operation {
            "Read" => reads,
            "Write" => writes,
            _ => continue,
        };
        let (Some((major, minor)), Ok(number)) = (parse_device(device), number.parse()) else {
            continue;
        };
        let known = all
            .iter()
            .position(|io| (io.major, io.minor) == (major, minor));
        let at = known.unwrap_or_else(|| {
            all.push(DeviceIo {
                major,
                minor,
                ..DeviceIo::default()
            });
            all.len() - 1
        });
        *slot(&mut all[at]) = number;
    }
}

/// `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`.
fn parse_io_stat(line: &str) -> Option<DeviceIo> {
    let (device, values) = line.split_once(' ')?;
    let (major, minor) = parse_device(device)?;
    let value = |name: &str| {
        let mut pairs = values
            .split_whitespace()
            .filter_map(|word| word.split_once('='));
        pairs.find(|(key, _)| *key == name)?.1.parse().ok()
    };
    Some(DeviceIo {
        major,
        minor,
        read_bytes: value("rbytes")?,
        write_bytes: value("wbytes")?,
        reads: value("rios")?,
        writes: value("wios")?,
    })
}

fn parse_device(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn both_versions_tell_of_disks() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write(
            "blkio.throttle.io_service_bytes",
            "8:0 Read 4096\n8:0 Write 10\n8:0 Sync 4106\n8:0 Total 4106\nTotal 4106\n",
        );
        write(
            "blkio.throttle.io_serviced_recursive",
            "8:0 Read 1\n8:0 Write 2\nTotal 3\n",
        );
        write(
            "io.stat",
            "8:0 rbytes=4096 wbytes=10 rios=1 wios=2 dbytes=0 dios=0\n7:0 \n",
        );
        write("memory.events", "low 0\nmax 5\noom 1\noom_kill 2\n");
        write(
            "memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
        );
        write(
            "cpu.stat",
            "user_usec 7\nnr_periods 9\nnr_throttled 1\nthrottled_time 4\n",
        );
        write("pids.max", "max\n");
        let expected = DeviceIo {
            major: 8,
            minor: 0,
            read_bytes: 4096,
            write_bytes: 10,
            reads: 1,
            writes: 2,
        };
        let read = |version| read_details(version, |_| Some(dir.path().to_owned())).unwrap();
        let one = read(Version::V1);
        assert_eq!(one.io, [expected]);
        assert_eq!(
            (one.oom_kills, one.cpu_throttled_nanos, one.pids_limit),
            (Some(3), Some(4), None)
        );
        let two = read(Version::V2);
        assert_eq!(two.io, [expected]);
        assert_eq!((two.oom_kills, two.limit_hits), (Some(2), Some(5)));
        assert_eq!((two.cpu_user_nanos, two.cpu_periods), (Some(7000), Some(9)));
    }
}
