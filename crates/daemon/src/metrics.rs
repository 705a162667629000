//! The metrics of one process: a registry that is handed down, and its text form.
//!
//! Declare a crate's metrics in one `metrics.rs` as a struct whose constructor takes
//! [`&Metrics`](Metrics). Names and labels are upstream's; label values come from bounded sets.

mod process;

pub use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    core::Collector,
};
use prometheus::{HistogramOpts, Opts, Registry, TextEncoder};

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A metric could not be declared, or the metrics could not be shown.
#[derive(Debug, thiserror::Error)]
#[error("metric {name}")]
pub struct MetricError {
    name: String,
    #[source]
    source: prometheus::Error,
}

/// A registry; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `process_*` (CPU, memory, descriptors, start time) of this process, read from `/proc`
    /// each time the metrics are shown.
    ///
    /// # Errors
    /// When they are declared already.
    pub fn add_process(&self) -> Result<(), MetricError> {
        let process = process::Process::new().map_err(fail("process"))?;
        self.registry
            .register(Box::new(process))
            .map_err(fail("process"))
    }

    /// Adds metrics that are computed when shown.
    ///
    /// # Errors
    /// When one of its names is taken.
    pub fn add(&self, name: &str, collector: impl Collector + 'static) -> Result<(), MetricError> {
        self.registry
            .register(Box::new(collector))
            .map_err(fail(name))
    }

    /// A count that only grows.
    ///
    /// # Errors
    /// When the name is malformed or taken; the same holds for all the others.
    pub fn counter(&self, name: &str, help: &str) -> Result<IntCounter, MetricError> {
        self.keep(name, IntCounter::new(name, help))
    }

    /// Counts by labels.
    ///
    /// # Errors
    /// As [`Self::counter`].
    pub fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, MetricError> {
        self.keep(name, IntCounterVec::new(Opts::new(name, help), labels))
    }

    /// A whole number that goes up and down.
    ///
    /// # Errors
    /// As [`Self::counter`].
    pub fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricError> {
        self.keep(name, IntGauge::new(name, help))
    }

    /// Whole numbers by labels.
    ///
    /// # Errors
    /// As [`Self::counter`].
    pub fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, MetricError> {
        self.keep(name, IntGaugeVec::new(Opts::new(name, help), labels))
    }

    /// Numbers with a fraction by labels.
    ///
    /// # Errors
    /// As [`Self::counter`].
    pub fn float_gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<GaugeVec, MetricError> {
        self.keep(name, GaugeVec::new(Opts::new(name, help), labels))
    }

    /// A distribution over `buckets` (upper bounds, ascending).
    ///
    /// # Errors
    /// As [`Self::counter`].
    pub fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
    ) -> Result<Histogram, MetricError> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.keep(name, Histogram::with_opts(options))
    }

    /// Distributions by labels.
    ///
    /// # Errors
    /// As [`Self::counter`].
    pub fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec, MetricError> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.keep(name, HistogramVec::new(options, labels))
    }

    /// All metrics in Prometheus' text format. May read files; call it through
    /// [`crate::blocking`].
    ///
    /// # Errors
    /// When two collectors gave metrics of one name and different kinds.
    pub fn render(&self) -> Result<String, MetricError> {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .map_err(fail("(all)"))
    }

    fn keep<C: Collector + Clone + 'static>(
        &self,
        name: &str,
        collector: Result<C, prometheus::Error>,
    ) -> Result<C, MetricError> {
        let collector = collector.map_err(fail(name))?;
        self.registry
            .register(Box::new(collector.clone()))
            .map_err(fail(name))?;
        Ok(collector)
    }
}

fn fail(name: &str) -> impl FnOnce(prometheus::Error) -> MetricError {
    let name = name.to_owned();
    move |source| MetricError { name, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_metrics_are_shown_with_their_labels() {
        let metrics = Metrics::new();
        metrics
            .counters("pulls_total", "Pulls.", &["result"])
            .unwrap()
            .with_label_values(&["ok"])
            .inc();
        metrics
            .histogram("pull_seconds", "Time.", &[0.1, 1.0])
            .unwrap()
            .observe(0.5);
        let text = metrics.render().unwrap();
        assert!(text.contains("pulls_total{result=\"ok\"} 1\n"), "{text}");
        assert!(text.contains("pull_seconds_bucket{le=\"1\"} 1\n"), "{text}");
    }

    #[test]
    fn taken_name_is_an_error_that_names_it() {
        let metrics = Metrics::new();
        metrics.gauge("pods", "Pods.").unwrap();
        assert_eq!(
            metrics.gauge("pods", "Pods.").unwrap_err().to_string(),
            "metric pods"
        );
    }

    #[test]
    fn process_metrics_are_read_from_proc() {
        let metrics = Metrics::new();
        metrics.add_process().unwrap();
        let text = metrics.render().unwrap();
        let value = |name: &str| -> f64 {
            let line = text
                .lines()
                .find(|line| line.starts_with(&format!("{name} ")))
                .unwrap();
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_start_time_seconds") > 1.6e9);
        assert!(
            text.contains("# TYPE process_cpu_seconds_total counter"),
            "{text}"
        );
    }
}
