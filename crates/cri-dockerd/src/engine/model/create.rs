//! What containers and execs are made of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{KeySet, Labels, LogConfig, is_default, null_default};

/// Body of `POST /containers/create`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CreateContainer {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) hostname: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) user: String,
    #[serde(skip_serializing_if = "KeySet::is_empty")]
    pub(crate) exposed_ports: KeySet,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) tty: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) open_stdin: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) stdin_once: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) env: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) entrypoint: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) cmd: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) healthcheck: Option<Healthcheck>,
    pub(crate) image: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) working_dir: String,
    pub(crate) labels: Labels,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) stop_signal: String,
    pub(crate) host_config: HostConfig,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) networking_config: NetworkingConfig,
}

/// Settings on the networks of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct NetworkingConfig {
    /// By the network's name.
    pub(crate) endpoints_config: BTreeMap<String, EndpointConfig>,
}

/// Settings on one network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct EndpointConfig {
    /// Names that the network's DNS answers with the container's address.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) aliases: Vec<String>,
    /// Options of the network's driver.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) driver_opts: BTreeMap<String, String>,
}

/// Health check settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Healthcheck {
    /// `["NONE"]` switches the image's own off.
    pub(crate) test: Vec<String>,
}

/// Host settings at create.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HostConfig {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) binds: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) mounts: Vec<Mount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log_config: Option<LogConfig>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) network_mode: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) port_bindings: BTreeMap<String, Vec<PortBinding>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) dns: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) dns_search: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) dns_options: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) restart_policy: Option<RestartPolicy>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) cap_add: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) cap_drop: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) group_add: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) ipc_mode: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) pid_mode: String,
    #[serde(rename = "UTSMode", skip_serializing_if = "String::is_empty")]
    pub(crate) uts_mode: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) cgroup_parent: String,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) oom_score_adj: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) privileged: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) readonly_rootfs: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) security_opt: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) sysctls: BTreeMap<String, String>,
    pub(crate) shm_size: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) runtime: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) devices: Vec<Device>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) device_requests: Vec<DeviceRequest>,
    /// `None` keeps Docker's list, an empty list masks nothing (SEC-08).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) masked_paths: Option<Vec<String>>,
    /// As [`HostConfig::masked_paths`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) readonly_paths: Option<Vec<String>>,
    #[serde(flatten)]
    pub(crate) resources: Resources,
}

/// Limits, in create and update.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Resources {
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) memory: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) memory_swap: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) cpu_shares: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) cpu_quota: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) cpu_period: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) cpuset_cpus: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) cpuset_mems: String,
}

/// Body of `POST /containers/{id}/update`; what is 0 or empty stays as it is.
pub(crate) type UpdateContainer = Resources;

/// A mount in the long form, which can say things that `Binds` can't (CTR-06).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Mount {
    #[serde(rename = "Type")]
    pub(crate) kind: String,
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) read_only: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) bind_options: BindOptions,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image_options: Option<ImageOptions>,
}

/// Options of a mounted image (API 1.48).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ImageOptions {
    /// A directory of the image instead of its root.
    pub(crate) subpath: String,
}

/// Options of a bind mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct BindOptions {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) propagation: String,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) create_mountpoint: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) read_only_non_recursive: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) read_only_force_recursive: bool,
}

/// A published port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct PortBinding {
    pub(crate) host_ip: String,
    pub(crate) host_port: String,
}

/// Restart policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RestartPolicy {
    pub(crate) name: String,
}

/// A device node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Device {
    pub(crate) path_on_host: String,
    pub(crate) path_in_container: String,
    pub(crate) cgroup_permissions: String,
}

/// A request to a device driver, here always CDI.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DeviceRequest {
    pub(crate) driver: String,
    #[serde(rename = "DeviceIDs")]
    pub(crate) device_ids: Vec<String>,
}

/// Body of `POST /containers/{id}/exec`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ExecCreate {
    pub(crate) cmd: Vec<String>,
    pub(crate) attach_stdin: bool,
    pub(crate) attach_stdout: bool,
    pub(crate) attach_stderr: bool,
    pub(crate) tty: bool,
    /// Keys that detach; empty for Docker's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) detach_keys: String,
}

/// `GET /exec/{id}/json`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ExecInspect {
    /// Not finished.
    pub(crate) running: bool,
    /// Set once finished.
    pub(crate) exit_code: Option<i64>,
    /// Process id in the engine's namespace, 0 when unknown.
    #[serde(deserialize_with = "null_default")]
    pub(crate) pid: i64,
    /// The container.
    #[serde(rename = "ContainerID")]
    pub(crate) container_id: String,
}
