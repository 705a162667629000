//! Every series of the kubelet, by upstream's names and labels (kubelet MET-50 to MET-57).

use daemon::metrics::{MetricError, Metrics as Registry};
use prometheus::{GaugeVec, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use crate::status_store::Counts;

/// Buckets of the runtime operation durations, in seconds: 5 ms growing by 2.5.
const OPERATION_BUCKETS: [f64; 14] = [
    0.005,
    0.0125,
    0.031_25,
    0.078_125,
    0.195_312_5,
    0.488_281_25,
    1.220_703_125,
    3.051_757_812,
    7.629_394_531,
    19.073_486_328,
    47.683_715_82,
    119.209_289_55,
    298.023_223_875,
    745.058_059_69,
];

/// Buckets of the durations of pulls, in seconds.
const PULL_BUCKETS: [f64; 18] = [
    1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0, 600.0, 900.0,
    1200.0, 1800.0, 2700.0, 3600.0,
];

/// The series, registered once on the registry handed in.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) runtime_operations: IntCounterVec,
    pub(crate) runtime_operations_errors: IntCounterVec,
    pub(crate) runtime_operations_duration: HistogramVec,
    pub(crate) running_pods: IntGauge,
    pub(crate) running_containers: IntGaugeVec,
    pub(crate) desired_pods: IntGaugeVec,
    pub(crate) active_pods: IntGaugeVec,
    pub(crate) started_pods: IntCounter,
    pub(crate) started_containers: IntCounterVec,
    pub(crate) started_containers_errors: IntCounterVec,
    pub(crate) pod_start_duration: HistogramVec,
    pub(crate) pod_worker_duration: HistogramVec,
    pub(crate) orphaned_runtime_pods: IntCounter,
    pub(crate) pleg_last_seen: GaugeVec,
    pub(crate) evented_pleg_connections: IntCounter,
    pub(crate) evented_pleg_errors: IntCounter,
    pub(crate) cri_losing_support: IntGaugeVec,
    pub(crate) log_rotation_errors: IntCounter,
    pub(crate) admission_rejections: IntCounterVec,
    pub(crate) preemptions: IntCounterVec,
    pub(crate) image_pull_duration: HistogramVec,
    pub(crate) hook_http_fallbacks: IntCounter,
    pub(crate) hook_sleeps_cut_short: IntCounter,
    /// With the gate `InPlacePodVerticalScaling`.
    pub(crate) resizes: Option<ResizeMetrics>,
}

/// Edits of resources of pods that run. Upstream's two of edits that are carried out have no series here.
#[derive(Debug, Clone)]
pub(crate) struct ResizeMetrics {
    pub(crate) requested: IntCounterVec,
    pub(crate) pending: IntGaugeVec,
    pub(crate) infeasible: IntCounterVec,
    /// Always 0: nothing is resized in place.
    _in_progress: IntGauge,
}

impl ResizeMetrics {
    fn register(registry: &Registry) -> Result<Self, MetricError> {
        Ok(Self {
            requested: registry.counters(
                "kubelet_container_requested_resizes_total",
                "Changes of single amounts of containers that were asked for.",
                &["resource", "requirement", "operation"],
            )?,
            pending: registry.gauges(
                "kubelet_pod_pending_resizes",
                "Pods that have something else than they ask for.",
                &["reason"],
            )?,
            infeasible: registry.counters(
                "kubelet_pod_infeasible_resizes_total",
                "Resizes of pods that are not carried out.",
                &["reason_detail"],
            )?,
            _in_progress: registry.gauge(
                "kubelet_pod_in_progress_resizes",
                "Resizes of pods under way.",
            )?,
        })
    }
}

impl Metrics {
    /// Makes and registers every series.
    ///
    /// # Errors
    /// When the registry already has one of them.
    pub(crate) fn register(registry: &Registry) -> Result<Self, MetricError> {
        let counters = |name, help, labels: &[&str]| registry.counters(name, help, labels);
        let histograms = |name, help, labels: &[&str]| {
            registry.histograms(name, help, labels, &OPERATION_BUCKETS)
        };
        let operation = ["operation_type"];
        Ok(Self {
            runtime_operations: counters(
                "kubelet_runtime_operations_total",
                "CRI calls made.",
                &operation,
            )?,
            runtime_operations_errors: counters(
                "kubelet_runtime_operations_errors_total",
                "CRI calls that failed.",
                &operation,
            )?,
            runtime_operations_duration: histograms(
                "kubelet_runtime_operations_duration_seconds",
                "How long CRI calls took, in seconds.",
                &operation,
            )?,
            running_pods: registry.gauge("kubelet_running_pods", "Pods with a running sandbox.")?,
            running_containers: registry.gauges(
                "kubelet_running_containers",
                "Containers by state.",
                &["container_state"],
            )?,
            desired_pods: registry.gauges(
                "kubelet_desired_pods",
                "Pods that the sources ask for.",
                &["static"],
            )?,
            active_pods: registry.gauges(
                "kubelet_active_pods",
                "Pods that the sources ask for and that have not ended.",
                &["static"],
            )?,
            started_pods: registry.counter("kubelet_started_pods_total", "Sandboxes asked for.")?,
            started_containers: counters(
                "kubelet_started_containers_total",
                "Containers asked for.",
                &["container_type"],
            )?,
            started_containers_errors: counters(
                "kubelet_started_containers_errors_total",
                "Containers that did not start.",
                &["container_type", "code"],
            )?,
            pod_start_duration: histograms(
                "kubelet_pod_start_duration_seconds",
                "From first seeing a pod to its running, in seconds.",
                &[],
            )?,
            pod_worker_duration: histograms(
                "kubelet_pod_worker_duration_seconds",
                "How long one pass over a pod took, in seconds.",
                &operation,
            )?,
            orphaned_runtime_pods: registry.counter(
                "kubelet_orphaned_runtime_pods_total",
                "Pods found in the runtime that no source asks for.",
            )?,
            pleg_last_seen: registry.float_gauges(
                "kubelet_pleg_last_seen_seconds",
                "When the runtime's state was last known to be current, in seconds since the epoch.",
                &[],
            )?,
            evented_pleg_connections: registry.counter(
                "kubelet_evented_pleg_connection_success_count",
                "Event streams opened to the runtime.",
            )?,
            evented_pleg_errors: registry.counter(
                "kubelet_evented_pleg_connection_error_count",
                "Event streams to the runtime that broke.",
            )?,
            cri_losing_support: registry.gauges(
                "kubelet_cri_losing_support",
                "1 where the runtime misses a call that a later kubelet needs.",
                &["version"],
            )?,
            log_rotation_errors: registry.counter(
                "kubelet_log_rotation_errors_total",
                "Container logs that could not be rotated.",
            )?,
            admission_rejections: counters(
                "kubelet_admission_rejections_total",
                "Pods that were not admitted.",
                &["reason"],
            )?,
            preemptions: counters(
                "kubelet_preemptions",
                "Pods that were killed to make room for a critical pod.",
                &["preemption_signal"],
            )?,
            image_pull_duration: registry.histograms(
                "kubelet_image_pull_duration_seconds",
                "How long images took to pull, with waiting, by their size.",
                &["image_size_in_bytes"],
                &PULL_BUCKETS,
            )?,
            hook_http_fallbacks: registry.counter(
                "kubelet_lifecycle_handler_http_fallbacks_total",
                "HTTPS hooks that were run without TLS because the server spoke HTTP.",
            )?,
            hook_sleeps_cut_short: registry.counter(
                "kubelet_sleep_action_terminated_early_total",
                "Sleeps of hooks that were cut short.",
            )?,
            resizes: None,
        })
    }

    /// Makes and registers those of resizes too.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub(crate) fn with_resizes(mut self, registry: &Registry) -> Result<Self, MetricError> {
        self.resizes = Some(ResizeMetrics::register(registry)?);
        Ok(self)
    }

    /// Sets the numbers that are counted when somebody asks.
    pub(crate) fn set_counts(&self, counts: Counts) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.running_pods.set(number(counts.running_pods));
        self.active_pods
            .with_label_values(&["true"])
            .set(number(counts.active_pods));
        for (state, count) in [
            ("created", counts.created),
            ("running", counts.running),
            ("exited", counts.exited),
            ("unknown", counts.unknown),
        ] {
            self.running_containers
                .with_label_values(&[state])
                .set(number(count));
        }
    }
}
