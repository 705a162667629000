//! Containers as Docker describes them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Labels, PortBinding, null_default};

/// One item of `GET /containers/json`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ContainerSummary {
    /// Full id.
    pub(crate) id: String,
    /// Names with leading slash.
    #[serde(deserialize_with = "null_default")]
    pub(crate) names: Vec<String>,
    /// Labels.
    #[serde(deserialize_with = "null_default")]
    pub(crate) labels: Labels,
    /// Exact state word (DKR-08).
    pub(crate) state: String,
    /// Seconds since 1970.
    pub(crate) created: i64,
    /// Image as named at create, or its id.
    pub(crate) image: String,
    /// Image id.
    #[serde(rename = "ImageID")]
    pub(crate) image_id: String,
    /// The little that a list tells of these.
    #[serde(deserialize_with = "null_default")]
    pub(crate) host_config: SummaryHostConfig,
}

/// Host settings in a list.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct SummaryHostConfig {
    /// As in an inspect, but `default` for the default bridge.
    pub(crate) network_mode: String,
}

/// `GET /containers/{id}/json`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ContainerInspect {
    /// Full id.
    pub(crate) id: String,
    /// Name with leading slash.
    pub(crate) name: String,
    /// Creation time, RFC 3339 with nanoseconds.
    pub(crate) created: String,
    /// Image id.
    pub(crate) image: String,
    /// Life cycle.
    pub(crate) state: State,
    /// The file that becomes `/etc/resolv.conf`, as the engine sees it; empty before the first start.
    pub(crate) resolv_conf_path: String,
    /// The json-file log, as the engine sees it; empty for other drivers.
    pub(crate) log_path: String,
    /// Mounts in effect.
    #[serde(deserialize_with = "null_default")]
    pub(crate) mounts: Vec<MountPoint>,
    /// Portable settings.
    #[serde(deserialize_with = "null_default")]
    pub(crate) config: InspectConfig,
    /// Host settings.
    #[serde(deserialize_with = "null_default")]
    pub(crate) host_config: InspectHostConfig,
    /// Networks.
    #[serde(deserialize_with = "null_default")]
    pub(crate) network_settings: NetworkSettings,
    /// Where the root file system is; absent with containerd's image store.
    #[serde(deserialize_with = "null_default")]
    pub(crate) graph_driver: GraphDriver,
}

/// Where a container's root file system is.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct GraphDriver {
    /// Its directories.
    #[serde(deserialize_with = "null_default")]
    pub(crate) data: GraphDriverData,
}

/// Directories of an overlay.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct GraphDriverData {
    /// What the container wrote, as the engine sees it.
    pub(crate) upper_dir: String,
}

/// Life cycle of a container.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct State {
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead`.
    pub(crate) status: String,
    /// Has a process; also while paused or restarting.
    pub(crate) running: bool,
    /// Some process of it was killed for lack of memory (STS-13).
    #[serde(rename = "OOMKilled")]
    pub(crate) oom_killed: bool,
    /// Process id in the engine's namespace, 0 when not running.
    pub(crate) pid: i64,
    /// Exit code of the last run.
    pub(crate) exit_code: i64,
    /// Why the last start failed.
    pub(crate) error: String,
    /// RFC 3339; year 1 when never.
    pub(crate) started_at: String,
    /// RFC 3339; year 1 when never.
    pub(crate) finished_at: String,
}

/// A mount in effect.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct MountPoint {
    /// `bind`, `volume`, `tmpfs`, ...
    #[serde(rename = "Type")]
    pub(crate) kind: String,
    /// Path on the engine's host.
    pub(crate) source: String,
    /// Path in the container.
    pub(crate) destination: String,
    /// Options as given in `Binds`, e.g. `ro,Z`.
    pub(crate) mode: String,
    /// Writable.
    #[serde(rename = "RW")]
    pub(crate) rw: bool,
    /// `rprivate`, `rslave`, `rshared`, ... or empty.
    pub(crate) propagation: String,
}

/// A mount as asked for, as far as the one in effect does not tell it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct AskedMount {
    /// `bind`, `image`, ...
    #[serde(rename = "Type")]
    pub(crate) kind: String,
    /// Path on the engine's host, or the image.
    pub(crate) source: String,
    /// Path in the container.
    pub(crate) target: String,
    /// Of a bind mount.
    #[serde(deserialize_with = "null_default")]
    pub(crate) bind_options: AskedBindOptions,
}

/// Options of a mount as asked for.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct AskedBindOptions {
    /// Read-only with all below it.
    pub(crate) read_only_force_recursive: bool,
}

/// Portable settings as inspected.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct InspectConfig {
    /// Image as asked for at create.
    pub(crate) image: String,
    /// Labels.
    #[serde(deserialize_with = "null_default")]
    pub(crate) labels: Labels,
    /// Has a terminal.
    pub(crate) tty: bool,
    /// Stdin is open.
    pub(crate) open_stdin: bool,
    /// Stdin closes after the first attach.
    pub(crate) stdin_once: bool,
    /// `user`, `uid`, `uid:gid`, ... or empty.
    pub(crate) user: String,
    /// Signal that stop sends; empty is SIGTERM.
    pub(crate) stop_signal: String,
}

/// Host settings as inspected.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct InspectHostConfig {
    /// `host`, `none`, `default`, `container:<id>`, a network's name.
    pub(crate) network_mode: String,
    /// Published ports, by `80/tcp`.
    #[serde(deserialize_with = "null_default")]
    pub(crate) port_bindings: BTreeMap<String, Option<Vec<PortBinding>>>,
    /// Mounts in the long form, as asked for.
    #[serde(deserialize_with = "null_default")]
    pub(crate) mounts: Vec<AskedMount>,
    /// `host`, `private`, `shareable`, `container:<id>`.
    pub(crate) ipc_mode: String,
    /// `host`, empty, `container:<id>`.
    pub(crate) pid_mode: String,
    /// Cgroup parent as given.
    pub(crate) cgroup_parent: String,
    /// OCI runtime.
    pub(crate) runtime: String,
    /// Privileged.
    pub(crate) privileged: bool,
    /// Extra groups.
    #[serde(deserialize_with = "null_default")]
    pub(crate) group_add: Vec<String>,
    /// Log driver and options.
    #[serde(deserialize_with = "null_default")]
    pub(crate) log_config: LogConfig,
    /// Memory limit in bytes, 0 is none.
    #[serde(deserialize_with = "null_default")]
    pub(crate) memory: i64,
    /// Memory plus swap in bytes, 0 unset, -1 unlimited.
    #[serde(deserialize_with = "null_default")]
    pub(crate) memory_swap: i64,
    /// CPU weight, 0 unset.
    #[serde(deserialize_with = "null_default")]
    pub(crate) cpu_shares: i64,
    /// Microseconds per period, 0 unset.
    #[serde(deserialize_with = "null_default")]
    pub(crate) cpu_quota: i64,
    /// Microseconds, 0 unset.
    #[serde(deserialize_with = "null_default")]
    pub(crate) cpu_period: i64,
    /// CPUs.
    pub(crate) cpuset_cpus: String,
    /// Memory nodes.
    pub(crate) cpuset_mems: String,
    /// Score adjustment.
    #[serde(deserialize_with = "null_default")]
    pub(crate) oom_score_adj: i64,
}

/// Log driver and options.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct LogConfig {
    /// Driver.
    #[serde(rename = "Type")]
    pub(crate) kind: String,
    /// Options.
    #[serde(deserialize_with = "null_default")]
    pub(crate) config: BTreeMap<String, String>,
}

/// Networks of a container. The top-level address fields are not read: API 1.52 has none (DEC-21).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct NetworkSettings {
    /// By network name.
    #[serde(deserialize_with = "null_default")]
    pub(crate) networks: BTreeMap<String, Endpoint>,
}

/// Attachment to one network.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Endpoint {
    /// IPv4 or empty.
    #[serde(rename = "IPAddress")]
    pub(crate) ipv4: String,
    /// IPv6 or empty.
    #[serde(rename = "GlobalIPv6Address")]
    pub(crate) ipv6: String,
}
