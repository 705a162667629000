//! `process_*`, with the names and meanings of Prometheus' client libraries.

use std::fs;

use prometheus::{
    Counter, Gauge,
    core::{Collector, Desc},
    proto::MetricFamily,
};

/// The unit of times in `/proc/<pid>/stat`: `USER_HZ`, 100 on every architecture we build for.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug)]
pub(super) struct Process {
    cpu: Counter,
    open_fds: Gauge,
    max_fds: Gauge,
    virtual_memory: Gauge,
    max_virtual_memory: Gauge,
    resident_memory: Gauge,
    start_time: Gauge,
    threads: Gauge,
}

impl Process {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            cpu: Counter::new(
                "process_cpu_seconds_total",
                "Total user and system CPU time spent in seconds.",
            )?,
            open_fds: Gauge::new("process_open_fds", "Number of open file descriptors.")?,
            max_fds: Gauge::new(
                "process_max_fds",
                "Maximum number of open file descriptors.",
            )?,
            virtual_memory: Gauge::new(
                "process_virtual_memory_bytes",
                "Virtual memory size in bytes.",
            )?,
            max_virtual_memory: Gauge::new(
                "process_virtual_memory_max_bytes",
                "Maximum amount of virtual memory available in bytes.",
            )?,
            resident_memory: Gauge::new(
                "process_resident_memory_bytes",
                "Resident memory size in bytes.",
            )?,
            start_time: Gauge::new(
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds.",
            )?,
            threads: Gauge::new("process_threads", "Number of threads of the process.")?,
        })
    }

    fn parts(&self) -> [&dyn Collector; 8] {
        [
            &self.cpu,
            &self.open_fds,
            &self.max_fds,
            &self.virtual_memory,
            &self.max_virtual_memory,
            &self.resident_memory,
            &self.start_time,
            &self.threads,
        ]
    }

    /// What cannot be read keeps its last value: a half-hidden `/proc` is no reason for no metrics.
    fn read(&self) {
        if let Some(stat) = fs::read_to_string("/proc/self/stat")
            .ok()
            .as_deref()
            .and_then(Stat::parse)
        {
            self.cpu.reset();
            self.cpu.inc_by(stat.cpu_ticks / TICKS_PER_SECOND);
            if let Some(boot) = boot_time() {
                self.start_time
                    .set(boot + stat.start_ticks / TICKS_PER_SECOND);
            }
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            // One of them is the listing's own.
            self.open_fds.set(count(entries.count().saturating_sub(1)));
        }
        if let Ok(text) = fs::read_to_string("/proc/self/status") {
            for line in text.lines() {
                let Some((name, value)) = line.split_once(':') else {
                    continue;
                };
                let number = value
                    .split_whitespace()
                    .next()
                    .and_then(|n| n.parse::<f64>().ok());
                match (name, number) {
                    ("VmSize", Some(kib)) => self.virtual_memory.set(kib * 1024.0),
                    ("VmRSS", Some(kib)) => self.resident_memory.set(kib * 1024.0),
                    ("Threads", Some(threads)) => self.threads.set(threads),
                    _ => {}
                }
            }
        }
        if let Ok(text) = fs::read_to_string("/proc/self/limits") {
            for (name, gauge) in [
                ("Max open files", &self.max_fds),
                ("Max address space", &self.max_virtual_memory),
            ] {
                let soft = text
                    .lines()
                    .find_map(|line| line.strip_prefix(name))
                    .and_then(|rest| rest.split_whitespace().next());
                match soft {
                    // The client libraries show "no limit" as the largest 64-bit number.
                    Some("unlimited") => gauge.set(18_446_744_073_709_551_615.0),
                    Some(number) => gauge.set(number.parse().unwrap_or(-1.0)),
                    None => {}
                }
            }
        }
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.parts().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.read();
        self.parts()
            .into_iter()
            .flat_map(Collector::collect)
            .collect()
    }
}

#[derive(Debug, PartialEq)]
struct Stat {
    cpu_ticks: f64,
    start_ticks: f64,
}

impl Stat {
    /// Fields 14, 15 and 22 of proc(5)'s `stat`. The name in field 2 may hold anything, so counting
    /// starts behind the last parenthesis.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu_ticks: number(14)? + number(15)?,
            start_ticks: number(22)?,
        })
    }
}

/// When the machine was started, in seconds since the epoch.
fn boot_time() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a count of descriptors is far below 2^52"
)]
fn count(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_name_with_parentheses_does_not_shift_the_fields() {
        let text = "7 (a) (b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0 4200 0 0";
        assert_eq!(
            Stat::parse(text),
            Some(Stat {
                cpu_ticks: 200.0,
                start_ticks: 4200.0
            })
        );
        assert_eq!(Stat::parse("7 (x) S 1"), None);
    }
}
