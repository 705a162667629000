//! Probes and hooks: what asks containers.

use std::sync::Arc;

use daemon::metrics::{MetricError, Metrics as Registry};

use crate::{
    events::Events,
    lifecycle::Hooks,
    metrics::Metrics,
    probes::{ProbeSeries, Prober, Probes, ProbesConfig},
    runtime::{client::CriClient, wakes::Wakes},
    status_store::StatusStore,
};

/// What they need of the rest.
pub(super) struct Needs<'a> {
    pub(super) runtime: &'a CriClient,
    pub(super) runtime_name: &'a str,
    pub(super) events: &'a Events,
    pub(super) statuses: &'a Arc<StatusStore>,
    pub(super) wakes: &'a Arc<Wakes>,
    pub(super) metrics: &'a Metrics,
    /// Where the series of probes are registered.
    pub(super) registry: &'a Registry,
    /// Major and minor.
    pub(super) version: String,
}

/// The probes' door and task, and the hooks.
pub(super) fn build(needs: Needs<'_>) -> Result<(Probes, Prober, Hooks), MetricError> {
    let hooks = Hooks {
        runtime: needs.runtime.clone(),
        events: needs.events.clone(),
        http_fallbacks: needs.metrics.hook_http_fallbacks.clone(),
        sleeps_cut_short: needs.metrics.hook_sleeps_cut_short.clone(),
        version: needs.version.clone(),
    };
    let (probes, prober) = Probes::new(ProbesConfig {
        runtime: needs.runtime.clone(),
        runtime_name: needs.runtime_name.to_owned(),
        events: needs.events.clone(),
        statuses: needs.statuses.clone(),
        wakes: needs.wakes.clone(),
        series: ProbeSeries::register(needs.registry)?,
        version: needs.version,
    });
    Ok((probes, prober, hooks))
}
