//! Figures: what the kernel says of a process, and what to make of several measurements.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    time::{Duration, SystemTime},
};

/// Memory in kB (of 1024 bytes, as the kernel counts).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    pub(crate) rss: u32,
    pub(crate) pss: u32,
}

impl Memory {
    /// Of one process. It is read once: a look costs the process nothing.
    pub(crate) fn of(pid: u32) -> Self {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self {
            rss: field(&text, "Rss:"),
            pss: field(&text, "Pss:"),
        }
    }
}

impl std::iter::Sum for Memory {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            rss: sum.rss + one.rss,
            pss: sum.pss + one.pss,
        })
    }
}

/// Megabytes of 1,000,000 bytes.
pub(crate) fn megabytes(kilobytes: u32) -> f64 {
    f64::from(kilobytes) * 1024.0 / 1e6
}

/// What a process did since its start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Work {
    cpu: Duration,
    /// How often each of its threads went to sleep, by thread.
    waits: BTreeMap<OsString, u32>,
}

impl Work {
    /// Of one process.
    pub(crate) fn of(pid: u32) -> Self {
        let path = format!("/proc/{pid}/stat");
        let stat = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let tasks = fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten();
        let waits = tasks.map(|task| {
            // A thread may end between the two looks.
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            (task.file_name(), field(&status, "voluntary_ctxt_switches:"))
        });
        Self {
            cpu: cpu_time(&stat),
            waits: waits.collect(),
        }
    }

    /// CPU time since an earlier look.
    pub(crate) fn cpu_since(&self, earlier: &Self) -> Duration {
        self.cpu.saturating_sub(earlier.cpu)
    }

    /// Wake-ups since an earlier look, without those of threads that ended.
    pub(crate) fn waits_since(&self, earlier: &Self) -> u32 {
        let each = self.waits.iter().map(|(thread, waits)| {
            waits.saturating_sub(earlier.waits.get(thread).copied().unwrap_or_default())
        });
        each.sum()
    }
}

/// User and system time of `/proc/PID/stat`, of all threads, also those that ended.
fn cpu_time(stat: &str) -> Duration {
    // The second field is the name, which may hold blanks and brackets.
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: u64 = rest
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|word| word.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

/// What all processors of the machine have done since it was started.
pub(crate) fn busy() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    busy_of(&stat)
}

/// Of the first line all but idle, iowait, and the guests' time, which is counted twice.
fn busy_of(stat: &str) -> Duration {
    let words = stat.lines().next().unwrap_or_default().split_whitespace();
    let ticks: u64 = words
        .skip(1)
        .take(8)
        .enumerate()
        .filter(|(at, _)| !matches!(at, 3 | 4))
        .filter_map(|(_, word)| word.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

/// The number after a word at the beginning of a line; 0 when there is none.
fn field(text: &str, name: &str) -> u32 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|word| word.parse().ok())
        .unwrap_or_default()
}

/// Nanoseconds since the epoch, by the clock that Docker stamps its events with.
pub(crate) fn now() -> i64 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or_default()
}

/// From a moment to the latest of several, in nanoseconds since the epoch.
pub(crate) fn since(begin: i64, moments: &[i64]) -> Duration {
    let last = moments.iter().copied().max().unwrap_or(begin);
    Duration::from_nanos(u64::try_from(last - begin).unwrap_or_default())
}

/// The one in the middle; of an even number the lower of the two, and 0 of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
        .get(sorted.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or_default()
}

/// The counters of one metric in Prometheus' text form, by the value of its first label.
pub(crate) fn counters(text: &str, metric: &str) -> BTreeMap<String, u32> {
    let values = text.lines().filter_map(|line| {
        let (labels, value) = line
            .strip_prefix(metric)?
            .strip_prefix('{')?
            .split_once('}')?;
        Some((
            labels.split('"').nth(1)?.to_owned(),
            value.trim().parse().ok()?,
        ))
    });
    values.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_a_strange_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 500 0 0 0 150 50 0 0 20 0 4 0 100";
        let ticks = rustix::param::clock_ticks_per_second();
        assert_eq!(cpu_time(stat), Duration::from_millis(200 * 1000 / ticks));
    }

    #[test]
    fn a_machine_that_waits_is_not_busy() {
        let stat = "cpu  100 0 50 9000 700 0 30 20 5 5\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        let ticks = rustix::param::clock_ticks_per_second();
        assert_eq!(busy_of(stat), Duration::from_millis(200 * 1000 / ticks));
    }

    #[test]
    fn median_of_few() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!(median(&[]).abs() < f64::EPSILON);
    }

    #[test]
    fn counters_are_told_apart_by_their_label() {
        let text =
            "# TYPE a_total counter\na_total{operation_type=\"status\"} 3\nb_total{x=\"y\"} 1\n";
        assert_eq!(
            counters(text, "a_total"),
            BTreeMap::from([("status".to_owned(), 3)])
        );
    }
}
