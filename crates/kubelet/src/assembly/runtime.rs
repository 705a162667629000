//! Getting hold of the runtime: its socket, its version, its cgroup driver.

use std::time::Duration;

use cri_api::{Endpoint, v1};
use daemon::ErrorChain;
use kubelet_config::{CgroupDriver, Settings};
use kubelet_core::cgroup_name;

use crate::{
    metrics::Metrics,
    runtime::{client::CriClient, health::HealthView},
};

/// Between two tries to reach the runtime at start (NODE-52).
const CONNECT_RETRY: Duration = Duration::from_millis(50);
/// The longest such wait.
const CONNECT_RETRY_MAX: Duration = Duration::from_secs(1);
/// Tries to learn the runtime's cgroup driver (PROC-34).
const DRIVER_TRIES: u32 = 3;
/// Between two of them.
const DRIVER_RETRY: Duration = Duration::from_secs(2);

/// Waits for the runtime's socket (NODE-52).
pub(super) async fn connect(
    endpoint: &Endpoint,
    image_endpoint: &Endpoint,
    settings: &Settings,
    metrics: &Metrics,
) -> CriClient {
    let mut wait = CONNECT_RETRY;
    let mut told = false;
    loop {
        let timeout = settings.runtime.request_timeout;
        match CriClient::connect(endpoint, image_endpoint, timeout, metrics.clone()).await {
            Ok(client) => return client,
            Err(error) => {
                if !told && wait >= CONNECT_RETRY_MAX {
                    tracing::warn!(endpoint = %endpoint, error = %ErrorChain(&error),
                        "waiting for the container runtime");
                    told = true;
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(CONNECT_RETRY_MAX);
            }
        }
    }
}

pub(super) async fn wait_for_version(
    runtime: &CriClient,
    health: &HealthView,
) -> v1::VersionResponse {
    let mut health = health.clone();
    let mut told = false;
    loop {
        health.up().await;
        match runtime.version().await {
            Ok(version) => return version,
            Err(error) => {
                if !told {
                    tracing::warn!(error = %ErrorChain(&error), "waiting for the runtime's version");
                    told = true;
                }
                health.doubt();
                tokio::time::sleep(CONNECT_RETRY_MAX).await;
            }
        }
    }
}

/// The runtime's driver is before the configured one (PROC-34, CG-03).
///
/// Differs (CRI-11): where three questions fail the configured driver is taken; upstream ends.
pub(super) async fn cgroup_driver(
    runtime: &CriClient,
    settings: &Settings,
    metrics: &Metrics,
) -> cgroup_name::CgroupDriver {
    let configured = match settings.cgroups.driver {
        CgroupDriver::Cgroupfs => cgroup_name::CgroupDriver::Cgroupfs,
        CgroupDriver::Systemd => cgroup_name::CgroupDriver::Systemd,
    };
    for attempt in 1..=DRIVER_TRIES {
        match runtime.cgroup_driver().await {
            Ok(Some(v1::CgroupDriver::Systemd)) => return cgroup_name::CgroupDriver::Systemd,
            Ok(Some(v1::CgroupDriver::Cgroupfs)) => return cgroup_name::CgroupDriver::Cgroupfs,
            Ok(None) => return configured,
            Err(error) if error.is_unimplemented() => {
                metrics
                    .cri_losing_support
                    .with_label_values(&["1.36.0"])
                    .set(1);
                return configured;
            }
            Err(error) => {
                tracing::warn!(attempt, error = %ErrorChain(&error), "ask the runtime for its cgroup driver");
                if attempt < DRIVER_TRIES {
                    tokio::time::sleep(DRIVER_RETRY).await;
                }
            }
        }
    }
    configured
}
