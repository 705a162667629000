//! A metric as a table holds it, and what the tables are filled from.

use std::collections::BTreeMap;

use cri_api::v1::{self, MetricType};
use node_os::cgroups::{CgroupDetails, CgroupStats};
use node_os::disk_usage::DiskUsage;
use node_os::proc::OpenFiles;
use node_os::statfs::FsUsage;

/// Nanoseconds.
pub(super) const SECOND: u64 = 1_000_000_000;

/// A value and what it has for the metric's own labels.
pub(super) type Values = Vec<(Vec<String>, u64)>;

/// A metric of what `T` knows.
pub(super) struct Metric<T: 'static> {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: MetricType,
    pub(super) labels: &'static [&'static str],
    pub(super) values: fn(&T) -> Values,
}

/// What is known of a container.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) stats: CgroupStats,
    pub(super) details: CgroupDetails,
    /// Seconds since 1970.
    pub(super) now: u64,
    pub(super) started_at: u64,
    pub(super) processes: u64,
    pub(super) open: OpenFiles,
    /// Soft limit of open files of the first process; `u64::MAX` for none.
    pub(super) open_limit: Option<u64>,
    pub(super) resources: v1::LinuxContainerResources,
    /// What the container wrote into its layer, if that was measured.
    pub(super) layer: Option<DiskUsage>,
    /// The file system of Docker's data and its device.
    pub(super) data: Option<(String, FsUsage)>,
    pub(super) devices: BTreeMap<(u32, u32), String>,
}

/// One value without labels, if it is known.
pub(super) fn one(value: Option<u64>) -> Values {
    value.map(|value| (Vec::new(), value)).into_iter().collect()
}

pub(super) fn labelled<const N: usize>(values: [(&str, Option<u64>); N]) -> Values {
    let known = values
        .into_iter()
        .filter_map(|(label, value)| Some((label, value?)));
    known
        .map(|(label, value)| (vec![label.to_owned()], value))
        .collect()
}

pub(super) fn seconds(nanos: Option<u64>) -> Values {
    one(nanos.map(|nanos| nanos / SECOND))
}

/// A metric without labels of its own.
pub(super) const fn metric<T>(
    kind: MetricType,
    name: &'static str,
    help: &'static str,
    values: fn(&T) -> Values,
) -> Metric<T> {
    Metric {
        name,
        help,
        kind,
        labels: &[],
        values,
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a table reads best like this"
)]
pub(super) const fn with<T>(labels: &'static [&'static str], metric: Metric<T>) -> Metric<T> {
    Metric { labels, ..metric }
}

/// The values of a table's metrics; `base` are the labels before their own.
pub(super) fn values<T>(table: &[Metric<T>], seen: &T, base: &[String]) -> Vec<v1::Metric> {
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
