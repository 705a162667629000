//! The part of Docker's JSON that we read or write.
//!
//! Reading is lenient: unknown fields are ignored, absent and null mean empty (DKR-05), and no enum
//! can meet a value that it doesn't know. Writing leaves out what is not set, so that Docker's
//! defaults hold.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Reads null as the default.
pub(crate) fn null_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// String map as used for labels.
pub(crate) type Labels = BTreeMap<String, String>;

/// A set that Docker writes as an object whose values say nothing, e.g. `{"80/tcp": {}}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KeySet(pub(crate) BTreeSet<String>);

impl KeySet {
    /// Nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for KeySet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            self.0
                .iter()
                .map(|key| (key, BTreeMap::<&str, &str>::new())),
        )
    }
}

impl<'de> Deserialize<'de> for KeySet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = KeySet;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<KeySet, A::Error> {
                let mut keys = BTreeSet::new();
                while let Some((key, IgnoredAny)) = map.next_entry()? {
                    keys.insert(key);
                }
                Ok(KeySet(keys))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

// ---- system

/// `GET /version`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct SystemVersion {
    /// Engine version, e.g. `20.10.24`.
    pub(crate) version: String,
    /// Newest API.
    pub(crate) api_version: String,
}

/// `GET /info`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct SystemInfo {
    /// Where Docker keeps its data, as the engine sees it.
    pub(crate) docker_root_dir: String,
    /// `cgroupfs`, `systemd`, `none` or empty.
    pub(crate) cgroup_driver: String,
    /// `1` or `2`; empty before API 1.41.
    pub(crate) cgroup_version: String,
    /// Engine version.
    pub(crate) server_version: String,
    /// `name=seccomp`, `name=apparmor`, ...
    #[serde(deserialize_with = "null_default")]
    pub(crate) security_options: Vec<String>,
    /// OCI runtimes by name.
    #[serde(deserialize_with = "null_default")]
    pub(crate) runtimes: KeySet,
    /// Runtime used when none is asked for.
    pub(crate) default_runtime: String,
    /// Storage driver.
    pub(crate) driver: String,
    /// Pairs of name and value about the storage driver.
    #[serde(deserialize_with = "null_default")]
    pub(crate) driver_status: Vec<Vec<String>>,
    /// Kernel release of the engine's host.
    pub(crate) kernel_version: String,
}

// ---- reading containers

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

/// `GET /containers/{id}/stats`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerStats {
    /// CPU.
    #[serde(deserialize_with = "null_default")]
    pub(crate) cpu_stats: CpuStats,
    /// Memory.
    #[serde(deserialize_with = "null_default")]
    pub(crate) memory_stats: MemoryStats,
}

/// CPU counters.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct CpuStats {
    /// Usage.
    #[serde(deserialize_with = "null_default")]
    pub(crate) cpu_usage: CpuUsage,
}

/// CPU time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct CpuUsage {
    /// Nanoseconds of all CPUs together.
    pub(crate) total_usage: u64,
}

/// Memory counters.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct MemoryStats {
    /// Bytes, page cache included.
    pub(crate) usage: u64,
    /// `memory.stat` of the cgroup.
    #[serde(deserialize_with = "null_default")]
    pub(crate) stats: BTreeMap<String, u64>,
}

// ---- creating containers

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
    pub(crate) bind_options: BindOptions,
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
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

// ---- exec

/// Body of `POST /containers/{id}/exec`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ExecCreate {
    pub(crate) cmd: Vec<String>,
    pub(crate) attach_stdin: bool,
    pub(crate) attach_stdout: bool,
    pub(crate) attach_stderr: bool,
    pub(crate) tty: bool,
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

// ---- images

/// One item of `GET /images/json`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ImageSummary {
    /// Image id `sha256:...`.
    pub(crate) id: String,
    /// Tags; old engines put `<none>:<none>` (IMG-03).
    #[serde(deserialize_with = "null_default")]
    pub(crate) repo_tags: Vec<String>,
    /// Digests; old engines put `<none>@<none>`.
    #[serde(deserialize_with = "null_default")]
    pub(crate) repo_digests: Vec<String>,
    /// Bytes.
    pub(crate) size: i64,
    /// Bytes shared with other images, -1 when not computed.
    pub(crate) shared_size: i64,
    /// Labels.
    #[serde(deserialize_with = "null_default")]
    pub(crate) labels: Labels,
}

/// `GET /images/{ref}/json`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ImageInspect {
    /// Image id `sha256:...`.
    pub(crate) id: String,
    /// Tags.
    #[serde(deserialize_with = "null_default")]
    pub(crate) repo_tags: Vec<String>,
    /// Digests.
    #[serde(deserialize_with = "null_default")]
    pub(crate) repo_digests: Vec<String>,
    /// Bytes.
    pub(crate) size: i64,
    /// Creation time; may be empty since API 1.44.
    #[serde(deserialize_with = "null_default")]
    pub(crate) created: String,
    /// Author.
    pub(crate) author: String,
    /// Architecture.
    pub(crate) architecture: String,
    /// Operating system.
    pub(crate) os: String,
    /// Settings for containers; `None` when the image has none.
    pub(crate) config: Option<ImageConfig>,
    /// Layers.
    #[serde(rename = "RootFS", deserialize_with = "null_default")]
    pub(crate) root_fs: RootFs,
}

/// Settings of an image.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ImageConfig {
    /// `user`, `uid`, `user:group`, ... or empty.
    pub(crate) user: String,
    /// Environment.
    #[serde(deserialize_with = "null_default")]
    pub(crate) env: Vec<String>,
    /// Entrypoint.
    #[serde(deserialize_with = "null_default")]
    pub(crate) entrypoint: Vec<String>,
    /// Command.
    #[serde(deserialize_with = "null_default")]
    pub(crate) cmd: Vec<String>,
    /// Labels.
    #[serde(deserialize_with = "null_default")]
    pub(crate) labels: Labels,
    /// Working directory.
    pub(crate) working_dir: String,
    /// Stop signal.
    pub(crate) stop_signal: String,
    /// Ports, as `80/tcp`.
    #[serde(deserialize_with = "null_default")]
    pub(crate) exposed_ports: KeySet,
    /// Volumes.
    #[serde(deserialize_with = "null_default")]
    pub(crate) volumes: KeySet,
}

/// Layers of an image.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct RootFs {
    /// `layers`.
    #[serde(rename = "Type")]
    pub(crate) kind: String,
    /// Diff ids, lowest first.
    #[serde(deserialize_with = "null_default")]
    pub(crate) layers: Vec<String>,
}

/// One layer of `GET /images/{ref}/history`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ImageHistory {
    /// Seconds since 1970.
    pub(crate) created: i64,
    /// Command.
    pub(crate) created_by: String,
    /// Comment.
    pub(crate) comment: String,
    /// Bytes; 0 for layers without content.
    pub(crate) size: i64,
}
