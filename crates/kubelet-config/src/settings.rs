//! [`Settings`]: everything a kubelet was told, typed, with defaults filled in, and fixed.
//!
//! Units are in the types or in the names. Groups follow the parts that read them. Building settings
//! finds the problems that upstream only meets while it starts its parts; they come out together.

mod build;
mod eviction;
mod resources;
mod values;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::config::Taint;
use crate::gates::FeatureGates;
use crate::paths::Paths;
use crate::version::Version;

pub(crate) use build::build;
pub use eviction::{EvictionSettings, Signal, Threshold, ThresholdValue};
pub use resources::{Enforcement, MemoryReserve, Reservation, ResourceSettings};

/// What the kubelet was told. Built by [`load`](crate::load), never changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Version to report.
    pub version: Version,
    /// Identity, limits and labels of this node.
    pub node: NodeSettings,
    /// Where files lie.
    pub paths: Paths,
    /// The container runtime.
    pub runtime: RuntimeSettings,
    /// Ports and who may use them.
    pub servers: ServerSettings,
    /// Where pods come from.
    pub sources: SourceSettings,
    /// How often things are looked at without a reason.
    pub sync: SyncSettings,
    /// Pulling and collecting images.
    pub images: ImageSettings,
    /// Rotation of container logs.
    pub container_logs: ContainerLogSettings,
    /// The kubelet's own log.
    pub logging: LoggingSettings,
    /// Cgroups of pods.
    pub cgroups: CgroupSettings,
    /// Names inside pods.
    pub dns: DnsSettings,
    /// Security of pods.
    pub security: SecuritySettings,
    /// When pods are evicted.
    pub eviction: EvictionSettings,
    /// What pods don't get, and who gets whole CPUs.
    pub resources: ResourceSettings,
    /// Dead containers.
    pub container_gc: ContainerGcSettings,
    /// The machine going down.
    pub shutdown: ShutdownSettings,
    /// Talking to an API server.
    pub api: ApiSettings,
    /// Feature gates, resolved.
    pub gates: FeatureGates,
    /// The whole configuration as `KubeletConfiguration` JSON, defaults included and header values
    /// masked: for `/configz` (PROC-40) and the V(5) line (PROC-06).
    pub effective: Value,
    pub(crate) warnings: Vec<LogLine>,
}

impl Settings {
    /// What to log once at start: each option that is set and has no effect, unknown fields, gates on
    /// their way out, addresses that count for nothing, an open configuration (DEC-34).
    pub fn warnings(&self) -> &[LogLine] {
        &self.warnings
    }

    /// Name of this node: `--hostname-override`, else the host's name, trimmed and in lower case
    /// (PROC-31). `None` when that leaves nothing.
    pub fn node_name(&self, host_name: &str) -> Option<String> {
        let name = self
            .node
            .hostname_override
            .as_deref()
            .unwrap_or(host_name)
            .trim();
        (!name.is_empty()).then(|| name.to_lowercase())
    }
}

/// How grave a [`LogLine`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Something is not as told.
    Warning,
    /// Somebody should act.
    Error,
}

/// A line for the log, written once logging stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How grave.
    pub severity: Severity,
    /// Constant text.
    pub message: String,
    /// What varies.
    pub fields: Vec<(&'static str, String)>,
}

impl LogLine {
    pub(crate) fn new(severity: Severity, message: &str) -> Self {
        Self {
            severity,
            message: message.to_owned(),
            fields: Vec::new(),
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }
}

/// Identity, limits and labels of the node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSettings {
    /// `--hostname-override`
    pub hostname_override: Option<String>,
    /// `--node-ip`: none, one, or one of each family; unspecified means "choose by family".
    pub ips: Vec<IpAddr>,
    /// `--node-labels`
    pub labels: BTreeMap<String, String>,
    /// Taints to register with.
    pub taints: Vec<Taint>,
    /// Register with the API server.
    pub register: bool,
    /// Identity at the provider.
    pub provider_id: Option<String>,
    /// `--cloud-provider=external`
    pub external_cloud_provider: bool,
    /// Pods that may run at once.
    pub max_pods: u32,
    /// Pods per core, within `max_pods`; `None` for no such limit.
    pub pods_per_core: Option<u32>,
    /// Addresses for pods, told to the runtime (CFG-33).
    pub pod_cidr: Option<String>,
    /// Own `oom_score_adj`.
    pub oom_score_adj: i32,
    /// Own limit of open files.
    pub max_open_files: u64,
    /// Fail where a kernel parameter differs, instead of writing it.
    pub protect_kernel_defaults: bool,
    /// Refuse to start with swap on.
    pub fail_swap_on: bool,
    /// May pods swap?
    pub swap: SwapBehavior,
    /// Refuse to start on cgroup v1.
    pub fail_cgroup_v1: bool,
    /// Account ephemeral storage.
    pub local_storage_capacity_isolation: bool,
    /// File to hold a lock on.
    pub lock_file: Option<PathBuf>,
    /// End when somebody else opens the lock file.
    pub exit_on_lock_contention: bool,
    /// Keep the kubelet's iptables chains.
    pub make_iptables_util_chains: bool,
}

/// `memorySwap.swapBehavior`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwapBehavior {
    /// Pods don't swap.
    NoSwap,
    /// Burstable pods swap in proportion to their memory requests.
    LimitedSwap,
}

/// The container runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeSettings {
    /// Runtime service, as given: `unix:///path` or a bare path.
    pub endpoint: String,
    /// Image service; the runtime's when not given.
    pub image_endpoint: String,
    /// Limit of a call, except pulls and streams.
    pub request_timeout: Duration,
    /// Cgroup whose numbers are the runtime's.
    pub runtime_cgroups: Option<String>,
}

/// Ports and who may use them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// The API (10250); `None` when turned off.
    pub api: Option<SocketAddr>,
    /// The read-only port (10255); `None` when turned off. As upstream, `enableServer: false` does
    /// not close it.
    pub read_only: Option<SocketAddr>,
    /// Health (10248); `None` when turned off.
    pub health: Option<SocketAddr>,
    /// TLS of the API.
    pub tls: TlsSettings,
    /// Certificate authorities of clients.
    pub client_ca_file: Option<PathBuf>,
    /// Let requests without credentials in.
    pub anonymous: bool,
    /// How tokens are checked by the API server: lifetime of an answer; `None` for not at all.
    pub webhook_authentication: Option<Duration>,
    /// Who may do what.
    pub authorization: AuthorizationMode,
    /// Serve logs, exec, attach, port-forward.
    pub debugging_handlers: bool,
    /// Serve `/debug/pprof`.
    pub profiling_handler: bool,
    /// Serve `/debug/flags`.
    pub debug_flags_handler: bool,
    /// Serve `/logs/`.
    pub system_log_handler: bool,
    /// Let `/logs/` be queried.
    pub system_log_query: bool,
    /// Idle time of a stream; `None` for no limit.
    pub streaming_idle_timeout: Option<Duration>,
    /// Age of volume numbers; `None` when they are not taken.
    pub volume_stats_period: Option<Duration>,
}

/// TLS of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// Certificate and key; `None` for a self-signed pair in the certificate directory.
    pub pair: Option<(PathBuf, PathBuf)>,
    /// Suites by Go's names; empty for the default.
    pub cipher_suites: Vec<String>,
    /// Lowest version by Go's name; `None` for TLS 1.2.
    pub min_version: Option<String>,
}

/// Who may do what on the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorizationMode {
    /// Everybody, everything.
    AlwaysAllow,
    /// Ask the API server.
    Webhook {
        /// Time that a yes holds.
        authorized_ttl: Duration,
        /// Time that a no holds.
        unauthorized_ttl: Duration,
    },
}

/// Where pods come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSettings {
    /// File or directory of static pods.
    pub static_pod_path: Option<PathBuf>,
    /// Time between two full readings of it.
    pub file_check_period: Duration,
    /// URL of static pods, with its headers.
    pub static_pod_url: Option<StaticPodUrl>,
    /// Time between two readings of it.
    pub http_check_period: Duration,
}

/// A URL of static pods. Header values are secrets and not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct StaticPodUrl {
    /// The URL.
    pub url: String,
    /// Headers of the request.
    pub headers: BTreeMap<String, Vec<String>>,
}

impl std::fmt::Debug for StaticPodUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&String> = self.headers.keys().collect();
        f.debug_struct("StaticPodUrl")
            .field("url", &self.url)
            .field("headers", &names)
            .finish()
    }
}

/// Periods without another reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncSettings {
    /// Longest time between two looks at a pod.
    pub pod_resync_period: Duration,
    /// Longest wait before a crashed container is started again.
    pub max_container_restart_period: Duration,
}

/// Pulling and collecting images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSettings {
    /// Pulls per second; `None` for no limit.
    pub pull_qps: Option<u32>,
    /// Pulls at once under `pull_qps`.
    pub pull_burst: u32,
    /// One after the other, or side by side.
    pub pulls: ImagePulls,
    /// Age under which an unused image is kept.
    pub minimum_gc_age: Duration,
    /// Age over which an unused image goes; `None` for never.
    pub maximum_gc_age: Option<Duration>,
    /// Percent of the disk at which images are collected.
    pub gc_high_percent: u8,
    /// Percent of the disk down to which they are.
    pub gc_low_percent: u8,
    /// Who may use an image that is present (gate KubeletEnsureSecretPulledImages).
    pub credentials_verification: Option<String>,
    /// Images that need no check under `NeverVerifyAllowlistedImages`.
    pub verification_allowlist: Vec<String>,
    /// Configuration of credential plugins: file or directory.
    pub credential_provider_config: Option<PathBuf>,
    /// Directory of credential plugins.
    pub credential_provider_bin_dir: Option<PathBuf>,
}

/// How images are pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImagePulls {
    /// One at a time.
    Serial,
    /// Side by side, at most that many.
    Parallel(Option<u32>),
}

/// Rotation of container logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerLogSettings {
    /// Size at which a log is rotated; `None` for never.
    pub max_size_bytes: Option<u64>,
    /// Files kept, the current one included.
    pub max_files: u32,
    /// Rotations at once.
    pub workers: u32,
    /// Time between two looks.
    pub monitor_period: Duration,
}

/// The kubelet's own log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggingSettings {
    /// Form of a line.
    pub format: LogFormat,
    /// `-v`
    pub verbosity: u32,
    /// Verbosity by file pattern, first match wins.
    pub vmodule: Vec<(String, u32)>,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// klog's.
    Text,
    /// One JSON object per line.
    Json,
}

/// Cgroups of pods.
#[derive(Debug, Clone, PartialEq)]
pub struct CgroupSettings {
    /// Keep pods in cgroups by quality of service.
    pub per_qos: bool,
    /// Who makes cgroups, unless the runtime says otherwise.
    pub driver: CgroupDriver,
    /// Cgroup above all pods; `/` when not given.
    pub root: String,
    /// Cgroup for the kubelet.
    pub kubelet_cgroups: Option<String>,
    /// Cgroup for processes in none.
    pub system_cgroups: Option<String>,
    /// Enforce CPU limits.
    pub cpu_cfs_quota: bool,
    /// CFS period.
    pub cpu_cfs_quota_period: Duration,
    /// Processes per pod; `None` for no limit of its own.
    pub pod_pids_limit: Option<u64>,
    /// Kill one process instead of the container on OOM; `None` when not said (CFG-28).
    pub single_process_oom_kill: Option<bool>,
    /// Factor of `memory.high` (gate MemoryQoS).
    pub memory_throttling_factor: f64,
}

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupDriver {
    /// The kubelet writes the files.
    Cgroupfs,
    /// systemd's slices.
    Systemd,
}

/// Names inside pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsSettings {
    /// Domain that pods search.
    pub cluster_domain: Option<String>,
    /// Servers for `ClusterFirst`.
    pub cluster_dns: Vec<IpAddr>,
    /// The host's resolver file; `None` for `resolvConf: ""`.
    pub resolv_conf: Option<PathBuf>,
}

/// Security of pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecuritySettings {
    /// `RuntimeDefault` where a pod names no seccomp profile.
    pub seccomp_default: bool,
    /// Unsafe sysctls that pods may set; a trailing `*` matches the rest.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// User and group ids of a pod with a user namespace of its own.
    pub ids_per_pod: u32,
}

/// Dead containers (FLAG-33).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerGcSettings {
    /// Age under which a dead container is kept.
    pub min_age: Duration,
    /// Dead instances kept per container; `None` for all.
    pub max_per_container: Option<u32>,
    /// Dead containers kept; `None` for no limit.
    pub max_total: Option<u32>,
}

/// The machine going down (CFG-57).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShutdownSettings {
    /// Time for all pods.
    pub grace_period: Duration,
    /// The part of it for critical pods.
    pub critical_grace_period: Duration,
    /// Time by priority, ascending; excludes the other two.
    pub by_priority: Vec<(i32, Duration)>,
}

/// Talking to an API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiSettings {
    /// Time between two computations of the node's status.
    pub node_status_update_period: Duration,
    /// Time between two reports of an unchanged status.
    pub node_status_report_period: Duration,
    /// Lifetime of the node's lease.
    pub node_lease_duration: Duration,
    /// Images in the node's status; `None` for all.
    pub node_status_max_images: Option<u32>,
    /// Events per second; `None` for no limit.
    pub event_qps: Option<u32>,
    /// Events at once.
    pub event_burst: u32,
    /// Requests per second; `None` for no limit.
    pub request_qps: Option<u32>,
    /// Requests at once.
    pub request_burst: u32,
    /// Content type of requests.
    pub content_type: String,
    /// Renew the client certificate.
    pub rotate_certificates: bool,
    /// Get the serving certificate from the API server.
    pub server_tls_bootstrap: bool,
    /// How ConfigMaps and Secrets are kept current: `Get`, `Cache`, `Watch`.
    pub object_change_detection: String,
    /// Leave attaching volumes to the controller.
    pub controller_attach_detach: bool,
}
