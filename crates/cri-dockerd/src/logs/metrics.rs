//! Counters of the pump.

use daemon::metrics::{IntCounter, MetricError, Metrics};

/// Counters of the pump.
#[derive(Debug, Clone)]
pub(super) struct LogMetrics {
    pub(super) gaps: IntCounter,
    pub(super) malformed: IntCounter,
    pub(super) failures: IntCounter,
}

impl LogMetrics {
    pub(super) fn new(metrics: &Metrics) -> Result<Self, MetricError> {
        Ok(Self {
            gaps: metrics.counter(
                "cri_dockerd_log_gaps_total",
                "Places in container logs where Docker dropped lines before they were copied.",
            )?,
            malformed: metrics.counter(
                "cri_dockerd_log_malformed_lines_total",
                "Lines of Docker's log files that are no records and were left out.",
            )?,
            failures: metrics.counter(
                "cri_dockerd_log_write_failures_total",
                "Attempts at copying a container's log that failed and are repeated.",
            )?,
        })
    }
}
