//! Numbers about probes, under `/metrics/probes` (PROBE-15).

use daemon::metrics::{MetricError, Metrics as Registry};
use k8s_openapi::api::core::v1::Pod;
use kubelet_core::{
    ids::{PodKey, PodUid},
    probes::ProbeKind,
};
use prometheus::{HistogramVec, IntCounterVec};

use super::{Asked, Verdict};

/// Upstream's default buckets, in seconds.
const BUCKETS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
const RESULTS: [&str; 3] = ["successful", "failed", "unknown"];

/// The series.
#[derive(Debug, Clone)]
pub(crate) struct ProbeSeries {
    total: IntCounterVec,
    duration: HistogramVec,
}

impl ProbeSeries {
    /// Makes and registers them.
    ///
    /// # Errors
    /// When the registry already has one of them.
    pub(crate) fn register(registry: &Registry) -> Result<Self, MetricError> {
        Ok(Self {
            total: registry.counters(
                "prober_probe_total",
                "Answers to probes by result.",
                &[
                    "probe_type",
                    "result",
                    "container",
                    "pod",
                    "namespace",
                    "pod_uid",
                ],
            )?,
            duration: registry.histograms(
                "prober_probe_duration_seconds",
                "How long answers to probes took, in seconds.",
                &["probe_type", "container", "pod", "namespace"],
                &BUCKETS,
            )?,
        })
    }

    pub(super) fn count(&self, pod: &Pod, asked: &Asked) {
        let result = match asked.verdict {
            Verdict::Success | Verdict::Warning(_) => "successful",
            Verdict::Failure(_) => "failed",
            // Thrown away, as upstream throws it away.
            Verdict::Unasked { .. } | Verdict::Gone => return,
        };
        let key = PodKey::of(pod);
        let (kind, container) = (asked.kind.as_str(), asked.container.name.as_str());
        let labels = [
            kind,
            result,
            container,
            &key.name,
            &key.namespace,
            asked.uid.as_str(),
        ];
        self.total.with_label_values(&labels).inc();
        if result == "successful" {
            self.duration
                .with_label_values(&[kind, container, &key.name, &key.namespace])
                .observe(asked.took.as_secs_f64());
        }
    }

    /// Drops the series of a container that is probed no more.
    pub(super) fn forget(&self, pod: &Pod, container: &str) {
        let (key, uid) = (PodKey::of(pod), PodUid::of(pod));
        for kind in ProbeKind::ALL.map(ProbeKind::as_str) {
            for result in RESULTS {
                let labels = [
                    kind,
                    result,
                    container,
                    &key.name,
                    &key.namespace,
                    uid.as_str(),
                ];
                // What never was there need not go.
                let _ = self.total.remove_label_values(&labels);
            }
            let labels = [kind, container, &key.name, &key.namespace];
            let _ = self.duration.remove_label_values(&labels);
        }
    }
}
