//! ListMetricDescriptors and ListPodSandboxMetrics (UNI-05, CMP-18): cAdvisor's metrics under
//! cAdvisor's names, with the labels that the kubelet gives them, so that dashboards go on working
//! when the kubelet's `PodAndContainerStatsFromCRI` takes cAdvisor out.
//!
//! The CRI carries whole numbers: seconds are rounded down, as other runtimes do. The kernel's
//! per-task states and CPU load are zero, as they are in a kubelet's cAdvisor, which does not
//! collect them.

mod container;
mod disk;
mod metric;
mod network;

use std::path::Path;

use cri_api::v1;
use node_os::proc::OpenFiles;
use node_os::statfs::{self, FsUsage};

use self::container::CONTAINER;
use self::disk::DISK;
use self::metric::{Metric, SECOND, Seen, values};
use self::network::NETWORK;
use super::kernel::{Kernel, Pod, Reading, Target, pid};
use super::layers::Size;
use crate::cgroup::CgroupDriver;
use crate::clock::now;
use crate::state::{Life, Record};

/// Labels that every metric has, before its own.
const LABELS: [&str; 6] = ["container", "id", "image", "name", "namespace", "pod"];
/// Docker's label value for a pod's own process.
const POD: &str = "POD";
/// Processes of a container whose open files are counted; the count stops there.
const MAX_PROCESSES: usize = 1024;
/// All metrics, for ListMetricDescriptors.
pub(crate) fn descriptors() -> Vec<v1::MetricDescriptor> {
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
        .chain(DISK)
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
            let sandbox = kernel.read(&Target::of(&pod.sandbox, driver));
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
    let first = pid(record).and_then(|pid| kernel.own_pid(&record.id, pid));
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
    all.extend(values(DISK, seen, base));
    all
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use node_os::cgroups::{CgroupDetails, DeviceIo};
    use node_os::proc::InterfaceCounters;

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
