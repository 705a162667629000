//! ListMetricDescriptors and ListPodSandboxMetrics (UNI-05, CMP-18): cAdvisor's metrics under
//! cAdvisor's names, with the labels that the kubelet gives them, so that dashboards go on working
//! when the kubelet's `PodAndContainerStatsFromCRI` takes cAdvisor out.
//!
//! The CRI carries whole numbers: seconds are rounded down, as other runtimes do. The kernel's
//! per-task states and CPU load are zero, as they are in a kubelet's cAdvisor, which does not
//! collect them.

use std::collections::BTreeMap;
use std::path::Path;

use cri_api::v1::{self, MetricType};
use node_os::cgroups::{CgroupDetails, CgroupStats, Stall};
use node_os::disk_usage::DiskUsage;
use node_os::proc::{InterfaceCounters, OpenFiles};
use node_os::statfs::{self, FsUsage};

use super::kernel::{Kernel, Reading};
use super::layers::Size;
use super::{Pod, locate};
use crate::hub::now;
use crate::state::{Life, Record};
use crate::translate::CgroupDriver;

mod disk;

/// Labels that every metric has, before its own.
const LABELS: [&str; 6] = ["container", "id", "image", "name", "namespace", "pod"];
/// Docker's label value for a pod's own process.
const POD: &str = "POD";
/// Processes of a container whose open files are counted; the count stops there.
const MAX_PROCESSES: usize = 1024;
const SECOND: u64 = 1_000_000_000;
/// Docker gives a container this period when only a quota is set, and the kernel when none is.
const PERIOD: u64 = 100_000;
/// The kernel's CPU weight of a group that was given none.
const SHARES: u64 = 1024;

/// A value and what it has for the metric's own labels.
type Values = Vec<(Vec<String>, u64)>;

/// A metric of what `T` knows.
struct Metric<T: 'static> {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    labels: &'static [&'static str],
    values: fn(&T) -> Values,
}

/// What is known of a container.
#[derive(Debug, Default)]
struct Seen {
    stats: CgroupStats,
    details: CgroupDetails,
    /// Seconds since 1970.
    now: u64,
    started_at: u64,
    processes: u64,
    open: OpenFiles,
    /// Soft limit of open files of the first process; `u64::MAX` for none.
    open_limit: Option<u64>,
    resources: v1::LinuxContainerResources,
    /// What the container wrote into its layer, if that was measured.
    layer: Option<DiskUsage>,
    /// The file system of Docker's data and its device.
    data: Option<(String, FsUsage)>,
    devices: BTreeMap<(u32, u32), String>,
}

/// One value without labels, if it is known.
fn one(value: Option<u64>) -> Values {
    value.map(|value| (Vec::new(), value)).into_iter().collect()
}

fn labelled<const N: usize>(values: [(&str, Option<u64>); N]) -> Values {
    let known = values
        .into_iter()
        .filter_map(|(label, value)| Some((label, value?)));
    known
        .map(|(label, value)| (vec![label.to_owned()], value))
        .collect()
}

fn seconds(nanos: Option<u64>) -> Values {
    one(nanos.map(|nanos| nanos / SECOND))
}

fn stalled(stall: Option<&Stall>) -> Values {
    one(stall.map(|stall| stall.total_micros / 1_000_000))
}

fn limit(value: i64) -> Option<u64> {
    u64::try_from(value).ok()
}

const fn counter(
    name: &'static str,
    help: &'static str,
    values: fn(&Seen) -> Values,
) -> Metric<Seen> {
    Metric {
        name,
        help,
        kind: MetricType::Counter,
        labels: &[],
        values,
    }
}

const fn gauge(
    name: &'static str,
    help: &'static str,
    values: fn(&Seen) -> Values,
) -> Metric<Seen> {
    Metric {
        name,
        help,
        kind: MetricType::Gauge,
        labels: &[],
        values,
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a table reads best like this"
)]
const fn with(labels: &'static [&'static str], metric: Metric<Seen>) -> Metric<Seen> {
    Metric { labels, ..metric }
}

/// Metrics of containers.
const CONTAINER: &[Metric<Seen>] = &[
    gauge(
        "container_last_seen",
        "When the container was seen last, in seconds since 1970",
        |s| one(Some(s.now)),
    ),
    gauge(
        "container_start_time_seconds",
        "When the container was started, in seconds since 1970",
        |s| one(Some(s.started_at)),
    ),
    // CPU
    counter(
        "container_cpu_user_seconds_total",
        "CPU time spent in user mode, in seconds",
        |s| seconds(s.details.cpu_user_nanos),
    ),
    counter(
        "container_cpu_system_seconds_total",
        "CPU time spent in the kernel, in seconds",
        |s| seconds(s.details.cpu_system_nanos),
    ),
    with(
        &["cpu"],
        counter(
            "container_cpu_usage_seconds_total",
            "CPU time spent, in seconds",
            |s| labelled([("total", s.stats.cpu_usage_nanos.map(|nanos| nanos / SECOND))]),
        ),
    ),
    counter(
        "container_cpu_cfs_periods_total",
        "Scheduling periods under a quota",
        |s| one(s.details.cpu_periods),
    ),
    counter(
        "container_cpu_cfs_throttled_periods_total",
        "Scheduling periods in which the quota was used up",
        |s| one(s.details.cpu_throttled_periods),
    ),
    counter(
        "container_cpu_cfs_throttled_seconds_total",
        "Time for which the container was throttled, in seconds",
        |s| seconds(s.details.cpu_throttled_nanos),
    ),
    gauge(
        "container_cpu_load_average_10s",
        "Always 0: not collected",
        |_| one(Some(0)),
    ),
    with(
        &["state"],
        gauge("container_tasks_state", "Always 0: not collected", |_| {
            [
                "sleeping",
                "running",
                "stopped",
                "uninterruptible",
                "iowaiting",
            ]
            .map(|state| (vec![state.to_owned()], 0))
            .into()
        }),
    ),
    // Memory
    gauge("container_memory_cache", "Page cache, in bytes", |s| {
        one(s.details.cache_bytes)
    }),
    gauge("container_memory_rss", "Anonymous memory, in bytes", |s| {
        one(s.stats.memory_rss_bytes)
    }),
    gauge(
        "container_memory_kernel_usage",
        "Memory of the kernel for the container, in bytes",
        |s| one(s.details.kernel_bytes),
    ),
    gauge(
        "container_memory_mapped_file",
        "Mapped files, in bytes",
        |s| one(s.details.mapped_file_bytes),
    ),
    gauge("container_memory_swap", "Swap in use, in bytes", |s| {
        one(Some(s.stats.swap_usage_bytes.unwrap_or(0)))
    }),
    counter(
        "container_memory_failcnt",
        "Times that the memory limit was hit",
        |s| one(s.details.limit_hits),
    ),
    gauge(
        "container_memory_usage_bytes",
        "Memory in use, page cache included, in bytes",
        |s| one(s.stats.memory_usage_bytes),
    ),
    gauge(
        "container_memory_max_usage_bytes",
        "Most memory ever in use, in bytes",
        |s| one(s.details.max_usage_bytes),
    ),
    gauge(
        "container_memory_working_set_bytes",
        "Memory in use without idle page cache, in bytes",
        |s| one(s.stats.memory_working_set_bytes),
    ),
    gauge(
        "container_memory_total_active_file_bytes",
        "Page cache in use, in bytes",
        |s| one(s.details.active_file_bytes),
    ),
    gauge(
        "container_memory_total_inactive_file_bytes",
        "Idle page cache, in bytes",
        |s| one(s.details.inactive_file_bytes),
    ),
    with(
        &["failure_type", "scope"],
        counter("container_memory_failures_total", "Page faults", |s| {
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
        }),
    ),
    counter(
        "container_oom_events_total",
        "Processes killed for lack of memory",
        |s| one(Some(s.details.oom_kills.unwrap_or(0))),
    ),
    // Processes
    gauge("container_processes", "Processes", |s| {
        one(Some(s.processes))
    }),
    gauge("container_threads", "Threads", |s| one(s.stats.pids)),
    gauge(
        "container_threads_max",
        "Most threads allowed, 0 for any number",
        |s| one(Some(s.details.pids_limit.unwrap_or(0))),
    ),
    gauge("container_file_descriptors", "Open file descriptors", |s| {
        one(Some(s.open.files))
    }),
    gauge("container_sockets", "Open sockets", |s| {
        one(Some(s.open.sockets))
    }),
    with(
        &["ulimit"],
        gauge(
            "container_ulimits_soft",
            "Soft limits of the first process",
            |s| labelled([("max_open_files", s.open_limit)]),
        ),
    ),
    // Settings
    gauge(
        "container_spec_cpu_period",
        "CPU period, in microseconds",
        |s| {
            one(limit(s.resources.cpu_period)
                .map(|period| if period == 0 { PERIOD } else { period }))
        },
    ),
    gauge(
        "container_spec_cpu_quota",
        "CPU quota, in microseconds",
        |s| one(limit(s.resources.cpu_quota).filter(|quota| *quota > 0)),
    ),
    gauge("container_spec_cpu_shares", "CPU shares", |s| {
        one(limit(s.resources.cpu_shares).map(|shares| if shares == 0 { SHARES } else { shares }))
    }),
    gauge(
        "container_spec_memory_limit_bytes",
        "Memory limit, 0 for none",
        |s| one(Some(s.stats.memory_limit_bytes.unwrap_or(0))),
    ),
    gauge(
        "container_spec_memory_reservation_limit_bytes",
        "Always 0: there are no reservations",
        |_| one(Some(0)),
    ),
    gauge(
        "container_spec_memory_swap_limit_bytes",
        "Swap limit, 0 for none",
        |s| one(Some(s.stats.swap_limit_bytes.unwrap_or(0))),
    ),
    // Pressure, version 2 only
    counter(
        "container_pressure_cpu_stalled_seconds_total",
        "Time in which all tasks waited for a CPU, in seconds",
        |s| stalled(s.stats.cpu_pressure.as_ref().map(|p| &p.full)),
    ),
    counter(
        "container_pressure_cpu_waiting_seconds_total",
        "Time in which some tasks waited for a CPU, in seconds",
        |s| stalled(s.stats.cpu_pressure.as_ref().map(|p| &p.some)),
    ),
    counter(
        "container_pressure_memory_stalled_seconds_total",
        "Time in which all tasks waited for memory, in seconds",
        |s| stalled(s.stats.memory_pressure.as_ref().map(|p| &p.full)),
    ),
    counter(
        "container_pressure_memory_waiting_seconds_total",
        "Time in which some tasks waited for memory, in seconds",
        |s| stalled(s.stats.memory_pressure.as_ref().map(|p| &p.some)),
    ),
    counter(
        "container_pressure_io_stalled_seconds_total",
        "Time in which all tasks waited for disks, in seconds",
        |s| stalled(s.stats.io_pressure.as_ref().map(|p| &p.full)),
    ),
    counter(
        "container_pressure_io_waiting_seconds_total",
        "Time in which some tasks waited for disks, in seconds",
        |s| stalled(s.stats.io_pressure.as_ref().map(|p| &p.some)),
    ),
];

type Interfaces = Vec<InterfaceCounters>;

const fn network(
    name: &'static str,
    help: &'static str,
    values: fn(&Interfaces) -> Values,
) -> Metric<Interfaces> {
    Metric {
        name,
        help,
        kind: MetricType::Counter,
        labels: &["interface"],
        values,
    }
}

fn each(all: &Interfaces, value: fn(&InterfaceCounters) -> u64) -> Values {
    all.iter()
        .map(|interface| (vec![interface.name.clone()], value(interface)))
        .collect()
}

/// Metrics of pods.
const NETWORK: &[Metric<Interfaces>] = &[
    network(
        "container_network_receive_bytes_total",
        "Bytes received",
        |all| each(all, |i| i.rx_bytes),
    ),
    network(
        "container_network_receive_packets_total",
        "Packets received",
        |all| each(all, |i| i.rx_packets),
    ),
    network(
        "container_network_receive_packets_dropped_total",
        "Packets dropped while receiving",
        |all| each(all, |i| i.rx_dropped),
    ),
    network(
        "container_network_receive_errors_total",
        "Errors while receiving",
        |all| each(all, |i| i.rx_errors),
    ),
    network(
        "container_network_transmit_bytes_total",
        "Bytes sent",
        |all| each(all, |i| i.tx_bytes),
    ),
    network(
        "container_network_transmit_packets_total",
        "Packets sent",
        |all| each(all, |i| i.tx_packets),
    ),
    network(
        "container_network_transmit_packets_dropped_total",
        "Packets dropped while sending",
        |all| each(all, |i| i.tx_dropped),
    ),
    network(
        "container_network_transmit_errors_total",
        "Errors while sending",
        |all| each(all, |i| i.tx_errors),
    ),
];

/// All metrics, for ListMetricDescriptors.
pub(super) fn descriptors() -> Vec<v1::MetricDescriptor> {
    fn descriptor<T>(metric: &Metric<T>) -> v1::MetricDescriptor {
        v1::MetricDescriptor {
            name: metric.name.to_owned(),
            help: metric.help.to_owned(),
            label_keys: LABELS
                .iter()
                .chain(metric.labels)
                .map(|key| (*key).to_owned())
                .collect(),
        }
    }
    CONTAINER
        .iter()
        .chain(disk::DISK)
        .map(descriptor)
        .chain(NETWORK.iter().map(descriptor))
        .collect()
}

/// The metrics of pods and their containers; `sizes` are those of all containers, in order. Blocks.
pub(super) fn collect(
    kernel: &Kernel,
    pods: &[Pod],
    driver: Option<CgroupDriver>,
    sizes: Vec<Option<Size>>,
    data: Option<&Path>,
) -> Vec<v1::PodSandboxMetrics> {
    let data = data.and_then(|path| {
        let usage = statfs::usage(path).ok()?;
        Some((kernel.proc.block_device(usage.major, usage.minor), usage))
    });
    let mut sizes = sizes.into_iter();
    pods.iter()
        .map(|pod| {
            let reading = kernel.read_pod(pod, driver);
            let sandbox = kernel.read(&locate::target(&pod.sandbox, driver));
            let labels = base_labels(&pod.sandbox, sandbox.as_ref(), POD);
            let network = reading.network.as_ref();
            let containers = pod.containers.iter().zip(reading.containers);
            v1::PodSandboxMetrics {
                pod_sandbox_id: pod.sandbox.id.clone(),
                metrics: network
                    .map(|all| values(NETWORK, all, &labels))
                    .unwrap_or_default(),
                container_metrics: containers
                    .filter_map(|(record, reading)| {
                        let layer = sizes.next().flatten();
                        let reading = reading?;
                        let labels = base_labels(record, Some(&reading), &record.name.container);
                        let seen = see(kernel, record, &reading, layer, data.clone());
                        Some(v1::ContainerMetrics {
                            container_id: record.id.clone(),
                            metrics: of_container(&seen, &labels),
                        })
                    })
                    .collect(),
            }
        })
        .collect()
}

fn see(
    kernel: &Kernel,
    record: &Record,
    reading: &Reading,
    layer: Option<Size>,
    data: Option<(String, FsUsage)>,
) -> Seen {
    let details = kernel.details(&reading.group);
    let pids = kernel.pids(&reading.group);
    let mut open = OpenFiles::default();
    for pid in pids.iter().take(MAX_PROCESSES) {
        // It may have ended.
        if let Ok(files) = kernel.proc.open_files(*pid) {
            open.files += files.files;
            open.sockets += files.sockets;
        }
    }
    let first = super::pid(record).and_then(|pid| kernel.own_pid(&record.id, pid));
    let open_limit = first.and_then(|pid| kernel.proc.open_files_limit(pid).ok());
    let started_at = match record.life {
        Life::Running { started_at, .. } => started_at,
        _ => 0,
    };
    let devices = details.io.iter().map(|io| (io.major, io.minor));
    let whole_seconds = |nanos: i64| u64::try_from(nanos).unwrap_or(0) / SECOND;
    Seen {
        stats: reading.stats,
        now: whole_seconds(now()),
        started_at: whole_seconds(started_at),
        processes: u64::try_from(pids.len()).unwrap_or(u64::MAX),
        open,
        open_limit: open_limit.map(|limit| limit.unwrap_or(u64::MAX)),
        resources: record
            .container()
            .map(|facts| facts.resources.clone())
            .unwrap_or_default(),
        layer: layer.map(|size| size.usage),
        data,
        devices: devices
            .map(|(major, minor)| ((major, minor), kernel.proc.block_device(major, minor)))
            .collect(),
        details,
    }
}

fn base_labels(
    record: &Record,
    reading: Option<&Reading>,
    container: &str,
) -> [String; LABELS.len()] {
    [
        container.to_owned(),
        reading
            .map(|reading| reading.group.to_string())
            .unwrap_or_default(),
        record.image.clone(),
        record.name.to_string(),
        record.name.namespace.clone(),
        record.name.pod.clone(),
    ]
}

fn of_container(seen: &Seen, base: &[String]) -> Vec<v1::Metric> {
    let mut all = values(CONTAINER, seen, base);
    all.extend(values(disk::DISK, seen, base));
    all
}

fn values<T>(table: &[Metric<T>], seen: &T, base: &[String]) -> Vec<v1::Metric> {
    let mut all = Vec::with_capacity(table.len());
    for metric in table {
        for (labels, value) in (metric.values)(seen) {
            all.push(v1::Metric {
                name: metric.name.to_owned(),
                // Zero: read when asked for.
                timestamp: 0,
                metric_type: metric.kind.into(),
                label_values: base.iter().cloned().chain(labels).collect(),
                value: Some(v1::UInt64Value { value }),
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use node_os::cgroups::DeviceIo;

    use super::*;

    #[test]
    fn every_value_fits_its_descriptor() {
        let seen = Seen {
            details: CgroupDetails {
                io: vec![DeviceIo {
                    major: 8,
                    read_bytes: 3,
                    ..DeviceIo::default()
                }],
                cpu_user_nanos: Some(2_900_000_000),
                ..CgroupDetails::default()
            },
            open_limit: Some(1024),
            devices: [((8, 0), "/dev/sda".to_owned())].into(),
            ..Seen::default()
        };
        let base: Vec<String> = LABELS.iter().map(|label| format!("<{label}>")).collect();
        let descriptors = descriptors();
        let names: HashSet<_> = descriptors.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names.len(), descriptors.len(), "no name twice");
        let metrics = of_container(&seen, &base);
        let mut known = HashSet::new();
        for metric in &metrics {
            let descriptor = descriptors.iter().find(|d| d.name == metric.name).unwrap();
            assert_eq!(
                metric.label_values.len(),
                descriptor.label_keys.len(),
                "{}",
                metric.name
            );
            assert!(
                known.insert((&metric.name, &metric.label_values)),
                "{} twice",
                metric.name
            );
        }
        let value = |name: &str| {
            metrics
                .iter()
                .find(|m| m.name == name)
                .map(|m| m.value.unwrap().value)
        };
        assert_eq!(value("container_cpu_user_seconds_total"), Some(2));
        assert_eq!(value("container_fs_reads_bytes_total"), Some(3));
        assert_eq!(value("container_ulimits_soft"), Some(1024));
        assert_eq!(value("container_pressure_cpu_waiting_seconds_total"), None);
        let network = values(
            NETWORK,
            &vec![InterfaceCounters {
                name: "eth0".to_owned(),
                rx_bytes: 7,
                ..Default::default()
            }],
            &base,
        );
        assert_eq!(
            (
                network[0].value.unwrap().value,
                network[0].label_values.last().unwrap().as_str()
            ),
            (7, "eth0")
        );
    }
}
