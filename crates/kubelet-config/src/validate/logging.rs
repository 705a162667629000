//! Problems of `logging` and `tracing`, in the form of upstream's field errors.

use daemon::pflag::quote;
use kubelet_core::quantity;

use crate::config::{Logging, Tracing};
use crate::gates::FeatureGates;

/// klog takes levels of an `int32`.
const HIGHEST_LEVEL: u32 = i32::MAX.unsigned_abs();

fn level_problem(path: &str, level: u32) -> Option<String> {
    (level > HIGHEST_LEVEL)
        .then(|| format!("{path}: Invalid value: {level}: Must be <= {HIGHEST_LEVEL}"))
}

/// Problems of the `logging` section.
pub(crate) fn logging_problems(logging: &Logging, gates: &FeatureGates) -> Vec<String> {
    let mut problems = Vec::new();
    let format = logging.format.as_str();
    match format {
        "text" => {}
        "json" if gates.logging_beta_options => {}
        "json" => problems.push(
            "logging.format: Forbidden: Log format json is disabled, see LoggingBetaOptions feature"
                .to_owned(),
        ),
        other => problems.push(format!(
            "logging.format: Invalid value: {}: Unsupported log format",
            quote(other)
        )),
    }
    problems.extend(level_problem("logging.verbosity", logging.verbosity));
    let items = logging.vmodule.as_deref().unwrap_or_default();
    if !items.is_empty() && format != "text" {
        problems.push("logging.vmodule: Forbidden: Only supported for text log format".to_owned());
    }
    for (at, item) in items.iter().enumerate() {
        let path = format!("logging.vmodule[{at}]");
        if item.file_pattern.is_empty() {
            problems.push(format!(
                "{path}: Required value: File pattern must not be empty"
            ));
        }
        if item.file_pattern.contains(['=', ',']) {
            problems.push(format!(
                "{path}: Invalid value: {}: File pattern must not contain equal sign or comma",
                quote(&item.file_pattern)
            ));
        }
        problems.extend(level_problem(&path, item.verbosity));
    }
    for (name, output) in [
        ("text", &logging.options.text),
        ("json", &logging.options.json),
    ] {
        let path = format!("logging.options.{name}");
        let size = output
            .info_buffer_size
            .as_ref()
            .map(crate::config::Scalar::text);
        let buffered = match size.as_deref().map(quantity::parse) {
            Some(Err(error)) => {
                problems.push(format!("{path}.infoBufferSize: Invalid value: {error}"));
                false
            }
            Some(Ok(quantity)) => !quantity.is_zero(),
            None => false,
        };
        for (field, set) in [
            ("splitStream", output.split_stream),
            ("infoBufferSize", buffered),
        ] {
            if set && !gates.logging_alpha_options {
                problems.push(format!(
                    "{path}.{field}: Forbidden: Feature LoggingAlphaOptions is disabled"
                ));
            }
        }
    }
    problems
}

/// Problems of the `tracing` section.
pub(super) fn tracing_problems(tracing: Option<&Tracing>) -> Vec<String> {
    const MOST: i32 = 1_000_000;
    let mut problems = Vec::new();
    let Some(tracing) = tracing else {
        return problems;
    };
    if let Some(rate) = tracing.sampling_rate_per_million {
        let path = "tracing.samplingRatePerMillion: Invalid value";
        if rate < 0 {
            problems.push(format!("{path}: {rate}: sampling rate must be positive"));
        }
        if rate > MOST {
            problems.push(format!(
                "{path}: {rate}: sampling rate per million must be less than or equal to one \
                 million"
            ));
        }
    }
    if let Some(endpoint) = &tracing.endpoint
        && endpoint.contains("//")
    {
        let scheme = endpoint.split("://").next().unwrap_or_default();
        if !matches!(scheme, "dns" | "unix" | "unix-abstract") {
            problems.push(format!(
                "tracing.endpoint: Invalid value: {}: unsupported scheme: {scheme}.  Options are \
                 none, dns, unix, or unix-abstract.  See \
                 https://github.com/grpc/grpc/blob/master/doc/naming.md",
                quote(endpoint)
            ));
        }
    }
    problems
}
