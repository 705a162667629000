//! Calls about the runtime itself (RTC-01..06).

use std::collections::BTreeMap;

use cri_api::v1;

use crate::cgroup::CgroupDriver;
use crate::engine::API_RECURSIVE_READ_ONLY;
use crate::error::Error;
use crate::hub::{EngineFacts, Health};
use crate::runtime::Runtime;
use crate::state::Record;
use crate::verbose;

/// CRI names and versions that callers know (RTC-01).
const KUBE_API_VERSION: &str = "0.1.0";
const RUNTIME_NAME: &str = "docker";
const RUNTIME_API_VERSION: &str = "v1";

impl Runtime {
    /// Version, from memory.
    pub(crate) async fn version(&self) -> Result<v1::VersionResponse, Error> {
        Ok(v1::VersionResponse {
            version: KUBE_API_VERSION.to_owned(),
            runtime_name: RUNTIME_NAME.to_owned(),
            runtime_version: self.hub.facts().await?.version,
            runtime_api_version: RUNTIME_API_VERSION.to_owned(),
        })
    }

    /// Status, from memory: whether the event stream stands says whether Docker is up.
    pub(crate) async fn status(&self, details: bool) -> v1::StatusResponse {
        let docker = match self.hub.health() {
            Health::Fresh => Ok(()),
            Health::Down(why) => Err(why),
            // First contact or a reconnect: worth the moment it takes.
            Health::Syncing => self.hub.fresh().await.map_err(|error| error.to_string()),
        };
        let network = self.networks.status().await;
        let facts = self.hub.known_facts();
        let info = if details {
            let image = &self.settings.sandbox_image;
            verbose::of_runtime(image, self.networks.name(), facts.as_ref())
        } else {
            BTreeMap::new()
        };
        v1::StatusResponse {
            status: Some(v1::RuntimeStatus {
                conditions: vec![
                    condition("RuntimeReady", "DockerDaemonNotReady", docker),
                    condition(
                        "NetworkReady",
                        "NetworkPluginNotReady",
                        network
                            .map_err(|why| format!("docker: network plugin is not ready: {why}")),
                    ),
                ],
            }),
            info,
            runtime_handlers: facts.as_ref().map(handlers).unwrap_or_default(),
            features: Some(v1::RuntimeFeatures {
                supplemental_groups_policy: true,
            }),
        }
    }

    /// `info` of a status: one inspect when it is asked for, nothing otherwise.
    pub(crate) async fn info(&self, record: &Record, asked_for: bool) -> BTreeMap<String, String> {
        if !asked_for {
            return BTreeMap::new();
        }
        let inspect = self.engine.inspect_container_whole(&record.id).await;
        if let Err(error) = &inspect {
            tracing::debug!(container.id = record.id, %error, "no details for a verbose status");
        }
        verbose::of_record(record, inspect.ok().as_ref())
    }

    /// RuntimeConfig: the cgroup driver, which the kubelet follows (RTC-05).
    pub(crate) async fn runtime_config(&self) -> Result<v1::RuntimeConfigResponse, Error> {
        let driver = match self
            .hub
            .facts()
            .await?
            .cgroup_driver
            .map_err(Error::Invalid)?
        {
            CgroupDriver::Cgroupfs => v1::CgroupDriver::Cgroupfs,
            CgroupDriver::Systemd => v1::CgroupDriver::Systemd,
        };
        let linux = v1::LinuxRuntimeConfiguration {
            cgroup_driver: driver.into(),
        };
        Ok(v1::RuntimeConfigResponse { linux: Some(linux) })
    }
}

fn condition(kind: &str, reason: &str, state: Result<(), String>) -> v1::RuntimeCondition {
    let (status, reason, message) = match state {
        Ok(()) => (true, String::new(), String::new()),
        Err(message) => (false, reason.to_owned(), message),
    };
    v1::RuntimeCondition {
        r#type: kind.to_owned(),
        status,
        reason,
        message,
    }
}

/// The default handler and every runtime that Docker has (RTC-04).
fn handlers(facts: &EngineFacts) -> Vec<v1::RuntimeHandler> {
    let features = v1::RuntimeHandlerFeatures {
        recursive_read_only_mounts: facts.api >= API_RECURSIVE_READ_ONLY
            && kernel_is_at_least(&facts.info.kernel_version, (5, 12)),
        user_namespaces: false,
    };
    let named = facts.info.runtimes.0.iter().map(String::as_str);
    std::iter::once("")
        .chain(named)
        .map(|name| v1::RuntimeHandler {
            name: name.to_owned(),
            features: Some(features),
        })
        .collect()
}

fn kernel_is_at_least(release: &str, wanted: (u32, u32)) -> bool {
    let mut numbers = release
        .split(['.', '-', '+'])
        .map(|part| part.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) >= wanted,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_compare_by_number() {
        assert!(kernel_is_at_least("5.12.0-rc1", (5, 12)));
        assert!(kernel_is_at_least("6.1.0-18-amd64", (5, 12)));
        assert!(!kernel_is_at_least("5.9", (5, 12)));
        assert!(!kernel_is_at_least("", (5, 12)));
    }
}
