//! Metrics of a container's disks and of its layer (CMP-18).
//!
//! As in cAdvisor, the inodes are those of the layer, none of them free, and what the kernel counts
//! per group (bytes, reads, writes) is joined by zeros for the file system of the layer.

use cri_api::v1::MetricType::{Counter, Gauge};
use node_os::cgroups::DeviceIo;
use node_os::statfs::FsUsage;

use super::metric::{Metric, Seen, Values, metric, with};

impl Seen {
    fn by_device(&self, value: fn(&DeviceIo) -> u64) -> Values {
        let device = |io: &DeviceIo| {
            self.devices
                .get(&(io.major, io.minor))
                .cloned()
                .unwrap_or_default()
        };
        self.details
            .io
            .iter()
            .map(|io| (vec![device(io)], value(io)))
            .collect()
    }

    /// What the kernel counted, and zero for the file system of the layer if that is not among it.
    fn by_device_or_none(&self, value: fn(&DeviceIo) -> u64) -> Values {
        let mut all = self.by_device(value);
        for none in self.of_data(|_| Some(0)) {
            if all.iter().all(|(labels, _)| *labels != none.0) {
                all.push(none);
            }
        }
        all
    }

    fn of_data(&self, value: impl Fn(&FsUsage) -> Option<u64>) -> Values {
        let data = self
            .data
            .iter()
            .filter_map(|(device, usage)| Some((vec![device.clone()], value(usage)?)));
        data.collect()
    }
}

const NOT_COUNTED: &str = "Always 0: not counted for containers";

fn no_io(seen: &Seen) -> Values {
    seen.of_data(|_| Some(0))
}

/// Metrics of containers.
pub(super) const DISK: &[Metric<Seen>] = &[
    with(
        &["device"],
        metric(
            Counter,
            "container_fs_reads_bytes_total",
            "Bytes read",
            |s| s.by_device(|io| io.read_bytes),
        ),
    ),
    with(
        &["device"],
        metric(Counter, "container_fs_reads_total", "Reads", |s| {
            s.by_device_or_none(|io| io.reads)
        }),
    ),
    with(
        &["device"],
        metric(
            Counter,
            "container_fs_writes_bytes_total",
            "Bytes written",
            |s| s.by_device(|io| io.write_bytes),
        ),
    ),
    with(
        &["device"],
        metric(Counter, "container_fs_writes_total", "Writes", |s| {
            s.by_device_or_none(|io| io.writes)
        }),
    ),
    with(
        &["device", "major", "minor", "operation"],
        metric(
            Counter,
            "container_blkio_device_usage_total",
            "Bytes by device and operation",
            |s| {
                let mut all = Values::new();
                for io in &s.details.io {
                    let device = s
                        .devices
                        .get(&(io.major, io.minor))
                        .cloned()
                        .unwrap_or_default();
                    for (operation, bytes) in [("Read", io.read_bytes), ("Write", io.write_bytes)] {
                        let labels = vec![
                            device.clone(),
                            io.major.to_string(),
                            io.minor.to_string(),
                            operation.to_owned(),
                        ];
                        all.push((labels, bytes));
                    }
                }
                all
            },
        ),
    ),
    with(
        &["device"],
        metric(
            Gauge,
            "container_fs_usage_bytes",
            "Size of what the container wrote, in bytes",
            |s| s.of_data(|_| s.layer.map(|layer| layer.bytes)),
        ),
    ),
    with(
        &["device"],
        metric(
            Gauge,
            "container_fs_limit_bytes",
            "Size of the file system of containers, in bytes",
            |s| s.of_data(|data| Some(data.capacity_bytes)),
        ),
    ),
    with(
        &["device"],
        metric(
            Gauge,
            "container_fs_inodes_total",
            "Inodes of what the container wrote",
            |s| s.of_data(|_| s.layer.map(|layer| layer.inodes)),
        ),
    ),
    with(
        &["device"],
        metric(
            Gauge,
            "container_fs_inodes_free",
            "Always 0: a layer has no limit of inodes",
            |s| s.of_data(|_| Some(0)),
        ),
    ),
    // Which cAdvisor has of the node alone
    with(
        &["device"],
        metric(
            Counter,
            "container_fs_sector_reads_total",
            NOT_COUNTED,
            no_io,
        ),
    ),
    with(
        &["device"],
        metric(
            Counter,
            "container_fs_sector_writes_total",
            NOT_COUNTED,
            no_io,
        ),
    ),
    with(
        &["device"],
        metric(
            Counter,
            "container_fs_reads_merged_total",
            NOT_COUNTED,
            no_io,
        ),
    ),
    with(
        &["device"],
        metric(
            Counter,
            "container_fs_writes_merged_total",
            NOT_COUNTED,
            no_io,
        ),
    ),
    with(
        &["device"],
        metric(
            Counter,
            "container_fs_read_seconds_total",
            NOT_COUNTED,
            no_io,
        ),
    ),
    with(
        &["device"],
        metric(
            Counter,
            "container_fs_write_seconds_total",
            NOT_COUNTED,
            no_io,
        ),
    ),
    with(
        &["device"],
        metric(Gauge, "container_fs_io_current", NOT_COUNTED, no_io),
    ),
    with(
        &["device"],
        metric(
            Counter,
            "container_fs_io_time_seconds_total",
            NOT_COUNTED,
            no_io,
        ),
    ),
    with(
        &["device"],
        metric(
            Counter,
            "container_fs_io_time_weighted_seconds_total",
            NOT_COUNTED,
            no_io,
        ),
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use node_os::cgroups::CgroupDetails;
    use node_os::disk_usage::DiskUsage;

    use super::super::metric::values;
    use super::*;

    const COUNTED_BY_DEVICE: [&str; 2] = ["container_fs_reads_total", "container_fs_writes_total"];
    const NEVER_COUNTED: [&str; 9] = [
        "container_fs_sector_reads_total",
        "container_fs_sector_writes_total",
        "container_fs_reads_merged_total",
        "container_fs_writes_merged_total",
        "container_fs_read_seconds_total",
        "container_fs_write_seconds_total",
        "container_fs_io_current",
        "container_fs_io_time_seconds_total",
        "container_fs_io_time_weighted_seconds_total",
    ];

    fn idle() -> Seen {
        let data = FsUsage {
            device: 0,
            major: 0,
            minor: 0,
            capacity_bytes: 1 << 30,
            available_bytes: 0,
            used_bytes: 0,
            inodes: 1000,
            inodes_free: 900,
        };
        Seen {
            layer: Some(DiskUsage {
                bytes: 4096,
                inodes: 2,
            }),
            data: Some(("/dev/sda1".to_owned(), data)),
            ..Seen::default()
        }
    }

    fn shown(seen: &Seen) -> HashMap<(String, String), u64> {
        let mut all = HashMap::new();
        for metric in values(DISK, seen, &[]) {
            let key = (metric.name, metric.label_values.join(" "));
            let twice = all.insert(key.clone(), metric.value.unwrap().value);
            assert_eq!(twice, None, "{key:?}");
        }
        all
    }

    fn of(shown: &HashMap<(String, String), u64>, name: &str, device: &str) -> Option<u64> {
        shown.get(&(name.to_owned(), device.to_owned())).copied()
    }

    #[test]
    fn inodes_are_those_of_the_layer() {
        let shown = shown(&idle());
        assert_eq!(
            of(&shown, "container_fs_inodes_total", "/dev/sda1"),
            Some(2)
        );
        assert_eq!(of(&shown, "container_fs_inodes_free", "/dev/sda1"), Some(0));
        assert_eq!(
            of(&shown, "container_fs_usage_bytes", "/dev/sda1"),
            Some(4096)
        );
    }

    #[test]
    fn a_container_that_used_no_disk_has_zeros_for_that_of_its_layer() {
        let shown = shown(&idle());
        for name in COUNTED_BY_DEVICE.into_iter().chain(NEVER_COUNTED) {
            assert_eq!(of(&shown, name, "/dev/sda1"), Some(0), "{name}");
        }
    }

    #[test]
    fn what_the_kernel_counted_stands_once() {
        let counted = Seen {
            details: CgroupDetails {
                io: vec![DeviceIo {
                    major: 8,
                    minor: 1,
                    reads: 5,
                    ..DeviceIo::default()
                }],
                ..CgroupDetails::default()
            },
            devices: [((8, 1), "/dev/sda1".to_owned())].into(),
            ..idle()
        };
        assert_eq!(
            of(&shown(&counted), "container_fs_reads_total", "/dev/sda1"),
            Some(5)
        );
    }
}
