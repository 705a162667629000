//! Metrics of a container's CPU, memory, processes, settings and pressure (CMP-18).

use cri_api::v1::MetricType::{Counter, Gauge};
use node_os::cgroups::Stall;

use super::metric::{Metric, SECOND, Seen, Values, labelled, metric, one, seconds, with};

/// Docker gives a container this period when only a quota is set, and the kernel when none is.
const PERIOD: u64 = 100_000;
/// The kernel's CPU weight of a group that was given none.
const SHARES: u64 = 1024;

fn stalled(stall: Option<&Stall>) -> Values {
    one(stall.map(|stall| stall.total_micros / 1_000_000))
}

fn limit(value: i64) -> Option<u64> {
    u64::try_from(value).ok()
}

/// Metrics of containers.
pub(super) const CONTAINER: &[Metric<Seen>] = &[
    metric(
        Gauge,
        "container_last_seen",
        "When the container was seen last, in seconds since 1970",
        |s| one(Some(s.now)),
    ),
    metric(
        Gauge,
        "container_start_time_seconds",
        "When the container was started, in seconds since 1970",
        |s| one(Some(s.started_at)),
    ),
    // CPU
    metric(
        Counter,
        "container_cpu_user_seconds_total",
        "CPU time spent in user mode, in seconds",
        |s| seconds(s.details.cpu_user_nanos),
    ),
    metric(
        Counter,
        "container_cpu_system_seconds_total",
        "CPU time spent in the kernel, in seconds",
        |s| seconds(s.details.cpu_system_nanos),
    ),
    with(
        &["cpu"],
        metric(
            Counter,
            "container_cpu_usage_seconds_total",
            "CPU time spent, in seconds",
            |s| labelled([("total", s.stats.cpu_usage_nanos.map(|nanos| nanos / SECOND))]),
        ),
    ),
    metric(
        Counter,
        "container_cpu_cfs_periods_total",
        "Scheduling periods under a quota",
        |s| one(s.details.cpu_periods),
    ),
    metric(
        Counter,
        "container_cpu_cfs_throttled_periods_total",
        "Scheduling periods in which the quota was used up",
        |s| one(s.details.cpu_throttled_periods),
    ),
    metric(
        Counter,
        "container_cpu_cfs_throttled_seconds_total",
        "Time for which the container was throttled, in seconds",
        |s| seconds(s.details.cpu_throttled_nanos),
    ),
    metric(
        Gauge,
        "container_cpu_load_average_10s",
        "Always 0: not collected",
        |_| one(Some(0)),
    ),
    with(
        &["state"],
        metric(
            Gauge,
            "container_tasks_state",
            "Always 0: not collected",
            |_| {
                [
                    "sleeping",
                    "running",
                    "stopped",
                    "uninterruptible",
                    "iowaiting",
                ]
                .map(|state| (vec![state.to_owned()], 0))
                .into()
            },
        ),
    ),
    // Memory
    metric(
        Gauge,
        "container_memory_cache",
        "Page cache, in bytes",
        |s| one(s.details.cache_bytes),
    ),
    metric(
        Gauge,
        "container_memory_rss",
        "Anonymous memory, in bytes",
        |s| one(s.stats.memory_rss_bytes),
    ),
    metric(
        Gauge,
        "container_memory_kernel_usage",
        "Memory of the kernel for the container, in bytes",
        |s| one(s.details.kernel_bytes),
    ),
    metric(
        Gauge,
        "container_memory_mapped_file",
        "Mapped files, in bytes",
        |s| one(s.details.mapped_file_bytes),
    ),
    metric(
        Gauge,
        "container_memory_swap",
        "Swap in use, in bytes",
        |s| one(Some(s.stats.swap_usage_bytes.unwrap_or(0))),
    ),
    metric(
        Counter,
        "container_memory_failcnt",
        "Times that the memory limit was hit",
        |s| one(s.details.limit_hits),
    ),
    metric(
        Gauge,
        "container_memory_usage_bytes",
        "Memory in use, page cache included, in bytes",
        |s| one(s.stats.memory_usage_bytes),
    ),
    metric(
        Gauge,
        "container_memory_max_usage_bytes",
        "Most memory ever in use, in bytes",
        |s| one(s.details.max_usage_bytes),
    ),
    metric(
        Gauge,
        "container_memory_working_set_bytes",
        "Memory in use without idle page cache, in bytes",
        |s| one(s.stats.memory_working_set_bytes),
    ),
    metric(
        Gauge,
        "container_memory_total_active_file_bytes",
        "Page cache in use, in bytes",
        |s| one(s.details.active_file_bytes),
    ),
    metric(
        Gauge,
        "container_memory_total_inactive_file_bytes",
        "Idle page cache, in bytes",
        |s| one(s.details.inactive_file_bytes),
    ),
    with(
        &["failure_type", "scope"],
        metric(
            Counter,
            "container_memory_failures_total",
            "Page faults",
            |s| {
                let faults = [
                    ("pgfault", s.stats.page_faults),
                    ("pgmajfault", s.stats.major_page_faults),
                ];
                let scopes = |(kind, value): (&str, Option<u64>)| {
                    let value = value.unwrap_or(0);
                    ["container", "hierarchy"]
                        .map(|scope| (vec![kind.to_owned(), scope.to_owned()], value))
                };
                faults.into_iter().flat_map(scopes).collect()
            },
        ),
    ),
    metric(
        Counter,
        "container_oom_events_total",
        "Processes killed for lack of memory",
        |s| one(Some(s.details.oom_kills.unwrap_or(0))),
    ),
    // Processes
    metric(Gauge, "container_processes", "Processes", |s| {
        one(Some(s.processes))
    }),
    metric(Gauge, "container_threads", "Threads", |s| one(s.stats.pids)),
    metric(
        Gauge,
        "container_threads_max",
        "Most threads allowed, 0 for any number",
        |s| one(Some(s.details.pids_limit.unwrap_or(0))),
    ),
    metric(
        Gauge,
        "container_file_descriptors",
        "Open file descriptors",
        |s| one(Some(s.open.files)),
    ),
    metric(Gauge, "container_sockets", "Open sockets", |s| {
        one(Some(s.open.sockets))
    }),
    with(
        &["ulimit"],
        metric(
            Gauge,
            "container_ulimits_soft",
            "Soft limits of the first process",
            |s| labelled([("max_open_files", s.open_limit)]),
        ),
    ),
    // Settings
    metric(
        Gauge,
        "container_spec_cpu_period",
        "CPU period, in microseconds",
        |s| {
            one(limit(s.resources.cpu_period)
                .map(|period| if period == 0 { PERIOD } else { period }))
        },
    ),
    metric(
        Gauge,
        "container_spec_cpu_quota",
        "CPU quota, in microseconds",
        |s| one(limit(s.resources.cpu_quota).filter(|quota| *quota > 0)),
    ),
    metric(Gauge, "container_spec_cpu_shares", "CPU shares", |s| {
        one(limit(s.resources.cpu_shares).map(|shares| if shares == 0 { SHARES } else { shares }))
    }),
    metric(
        Gauge,
        "container_spec_memory_limit_bytes",
        "Memory limit, 0 for none",
        |s| one(Some(s.stats.memory_limit_bytes.unwrap_or(0))),
    ),
    metric(
        Gauge,
        "container_spec_memory_reservation_limit_bytes",
        "Always 0: there are no reservations",
        |_| one(Some(0)),
    ),
    metric(
        Gauge,
        "container_spec_memory_swap_limit_bytes",
        "Swap limit, 0 for none",
        |s| one(Some(s.stats.swap_limit_bytes.unwrap_or(0))),
    ),
    // Pressure, version 2 only
    metric(
        Counter,
        "container_pressure_cpu_stalled_seconds_total",
        "Time in which all tasks waited for a CPU, in seconds",
        |s| stalled(s.stats.cpu_pressure.as_ref().map(|p| &p.full)),
    ),
    metric(
        Counter,
        "container_pressure_cpu_waiting_seconds_total",
        "Time in which some tasks waited for a CPU, in seconds",
        |s| stalled(s.stats.cpu_pressure.as_ref().map(|p| &p.some)),
    ),
    metric(
        Counter,
        "container_pressure_memory_stalled_seconds_total",
        "Time in which all tasks waited for memory, in seconds",
        |s| stalled(s.stats.memory_pressure.as_ref().map(|p| &p.full)),
    ),
    metric(
        Counter,
        "container_pressure_memory_waiting_seconds_total",
        "Time in which some tasks waited for memory, in seconds",
        |s| stalled(s.stats.memory_pressure.as_ref().map(|p| &p.some)),
    ),
    metric(
        Counter,
        "container_pressure_io_stalled_seconds_total",
        "Time in which all tasks waited for disks, in seconds",
        |s| stalled(s.stats.io_pressure.as_ref().map(|p| &p.full)),
    ),
    metric(
        Counter,
        "container_pressure_io_waiting_seconds_total",
        "Time in which some tasks waited for disks, in seconds",
        |s| stalled(s.stats.io_pressure.as_ref().map(|p| &p.some)),
    ),
];
