//! `KubeletConfiguration` of `kubelet.config.k8s.io/v1beta1`, as the file has it (rows CFG-01..66).
//!
//! The types follow upstream's, because its defaults do: where Go has a pointer, a slice or a map,
//! `None` is "not said"; where it has a plain value, the zero value is. [`set_defaults`] fills both.
//! Serialised form leaves out what is zero or empty, as Go's `omitempty` does: drop-ins are merged
//! over that form (PROC-23).
//!
//! [`set_defaults`]: KubeletConfiguration::set_defaults

mod defaults;
mod duration;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(crate) use duration::ConfigDuration;

/// Group and version of the file.
pub(crate) const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
/// Kind of the file.
pub(crate) const KIND: &str = "KubeletConfiguration";

/// Map of texts, `None` when not said.
pub(crate) type TextMap = Option<BTreeMap<String, String>>;

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[expect(clippy::ref_option, reason = "the signature that serde calls")]
fn is_empty_list<T>(value: &Option<Vec<T>>) -> bool {
    value.as_ref().is_none_or(Vec::is_empty)
}

#[expect(clippy::ref_option, reason = "the signature that serde calls")]
fn is_empty_map<T>(value: &Option<BTreeMap<String, T>>) -> bool {
    value.as_ref().is_none_or(BTreeMap::is_empty)
}

/// Declares a part of the configuration: serde attributes are the same for each field of a kind.
macro_rules! config_struct {
    (
        $(#[$meta:meta])*
        $name:ident {
            $( values { $( $(#[$value_meta:meta])* $value:ident: $value_type:ty, )* } )?
            $( options { $( $(#[$option_meta:meta])* $option:ident: $option_type:ty, )* } )?
            $( lists { $( $(#[$list_meta:meta])* $list:ident: $list_type:ty, )* } )?
            $( maps { $( $(#[$map_meta:meta])* $map:ident: $map_type:ty, )* } )?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub(crate) struct $name {
            $($(
                $(#[$value_meta])*
                #[serde(skip_serializing_if = "is_zero")]
                pub(crate) $value: $value_type,
            )*)?
            $($(
                $(#[$option_meta])*
                #[serde(skip_serializing_if = "Option::is_none")]
                pub(crate) $option: Option<$option_type>,
            )*)?
            $($(
                $(#[$list_meta])*
                #[serde(skip_serializing_if = "is_empty_list")]
                pub(crate) $list: Option<Vec<$list_type>>,
            )*)?
            $($(
                $(#[$map_meta])*
                #[serde(skip_serializing_if = "is_empty_map")]
                pub(crate) $map: Option<BTreeMap<String, $map_type>>,
            )*)?
        }
    };
}

config_struct! {
    /// The whole file, without `apiVersion` and `kind`.
    KubeletConfiguration {
        values {
            static_pod_path: String,
            pod_logs_dir: String,
            sync_frequency: ConfigDuration,
            file_check_frequency: ConfigDuration,
            http_check_frequency: ConfigDuration,
            #[serde(rename = "staticPodURL")]
            static_pod_url: String,
            address: String,
            port: i32,
            read_only_port: i32,
            tls_cert_file: String,
            tls_private_key_file: String,
            tls_min_version: String,
            rotate_certificates: bool,
            #[serde(rename = "serverTLSBootstrap")]
            server_tls_bootstrap: bool,
            authentication: Authentication,
            authorization: Authorization,
            registry_burst: i32,
            image_pull_credentials_verification_policy: String,
            event_burst: i32,
            enable_contention_profiling: bool,
            healthz_bind_address: String,
            cluster_domain: String,
            streaming_connection_idle_timeout: ConfigDuration,
            node_status_update_frequency: ConfigDuration,
            node_status_report_frequency: ConfigDuration,
            node_lease_duration_seconds: i32,
            #[serde(rename = "imageMinimumGCAge")]
            image_minimum_gc_age: ConfigDuration,
            #[serde(rename = "imageMaximumGCAge")]
            image_maximum_gc_age: ConfigDuration,
            volume_stats_agg_period: ConfigDuration,
            kubelet_cgroups: String,
            system_cgroups: String,
            cgroup_root: String,
            cgroup_driver: String,
            cpu_manager_policy: String,
            cpu_manager_reconcile_period: ConfigDuration,
            memory_manager_policy: String,
            topology_manager_policy: String,
            topology_manager_scope: String,
            runtime_request_timeout: ConfigDuration,
            hairpin_mode: String,
            max_pods: i32,
            #[serde(rename = "podCIDR")]
            pod_cidr: String,
            run_once: bool,
            max_open_files: i64,
            content_type: String,
            #[serde(rename = "kubeAPIBurst")]
            kube_api_burst: i32,
            eviction_pressure_transition_period: ConfigDuration,
            eviction_max_pod_grace_period: i32,
            pods_per_core: i32,
            protect_kernel_defaults: bool,
            memory_swap: MemorySwap,
            container_log_max_size: String,
            config_map_and_secret_change_detection_strategy: String,
            #[serde(rename = "reservedSystemCPUs")]
            reserved_system_cpus: String,
            show_hidden_metrics_for_version: String,
            system_reserved_cgroup: String,
            kube_reserved_cgroup: String,
            volume_plugin_dir: String,
            #[serde(rename = "providerID")]
            provider_id: String,
            kernel_memcg_notification: bool,
            logging: Logging,
            shutdown_grace_period: ConfigDuration,
            shutdown_grace_period_critical_pods: ConfigDuration,
            crash_loop_back_off: CrashLoopBackOff,
            container_runtime_endpoint: String,
            image_service_endpoint: String,
        }
        options {
            enable_server: bool,
            #[serde(rename = "registryPullQPS")]
            registry_pull_qps: i32,
            #[serde(rename = "eventRecordQPS")]
            event_record_qps: i32,
            enable_debugging_handlers: bool,
            healthz_port: i32,
            oom_score_adj: i32,
            #[serde(rename = "imageGCHighThresholdPercent")]
            image_gc_high_threshold_percent: i32,
            #[serde(rename = "imageGCLowThresholdPercent")]
            image_gc_low_threshold_percent: i32,
            #[serde(rename = "cgroupsPerQOS")]
            cgroups_per_qos: bool,
            #[serde(rename = "singleProcessOOMKill")]
            single_process_oom_kill: bool,
            pod_pids_limit: i64,
            resolv_conf: String,
            #[serde(rename = "cpuCFSQuota")]
            cpu_cfs_quota: bool,
            #[serde(rename = "cpuCFSQuotaPeriod")]
            cpu_cfs_quota_period: ConfigDuration,
            node_status_max_images: i32,
            #[serde(rename = "kubeAPIQPS")]
            kube_api_qps: i32,
            serialize_image_pulls: bool,
            max_parallel_image_pulls: i32,
            merge_default_eviction_settings: bool,
            enable_controller_attach_detach: bool,
            #[serde(rename = "makeIPTablesUtilChains")]
            make_iptables_util_chains: bool,
            iptables_masquerade_bit: i32,
            iptables_drop_bit: i32,
            fail_swap_on: bool,
            container_log_max_files: i32,
            container_log_max_workers: i32,
            container_log_monitor_interval: ConfigDuration,
            enable_system_log_handler: bool,
            enable_system_log_query: bool,
            enable_profiling_handler: bool,
            enable_debug_flags_handler: bool,
            seccomp_default: bool,
            memory_throttling_factor: f64,
            register_node: bool,
            tracing: Tracing,
            local_storage_capacity_isolation: bool,
            fail_cgroup_v1: bool,
            user_namespaces: UserNamespaces,
        }
        lists {
            tls_cipher_suites: String,
            preloaded_images_verification_allowlist: String,
            #[serde(rename = "clusterDNS")]
            cluster_dns: String,
            enforce_node_allocatable: String,
            allowed_unsafe_sysctls: String,
            shutdown_grace_period_by_pod_priority: ShutdownGracePeriodByPodPriority,
            reserved_memory: MemoryReservation,
            register_with_taints: Taint,
        }
        maps {
            #[serde(rename = "staticPodURLHeader")]
            static_pod_url_header: Vec<String>,
            cpu_manager_policy_options: String,
            topology_manager_policy_options: String,
            qos_reserved: String,
            eviction_hard: String,
            eviction_soft: String,
            eviction_soft_grace_period: String,
            eviction_minimum_reclaim: String,
            feature_gates: bool,
            system_reserved: String,
            kube_reserved: String,
        }
    }
}

config_struct! {
    /// `authentication`
    Authentication {
        values {
            x509: X509Authentication,
            webhook: WebhookAuthentication,
            anonymous: AnonymousAuthentication,
        }
    }
}

config_struct! {
    /// `authentication.x509`
    X509Authentication {
        values {
            #[serde(rename = "clientCAFile")]
            client_ca_file: String,
        }
    }
}

config_struct! {
    /// `authentication.webhook`
    WebhookAuthentication {
        values {
            #[serde(rename = "cacheTTL")]
            cache_ttl: ConfigDuration,
        }
        options { enabled: bool, }
    }
}

config_struct! {
    /// `authentication.anonymous`
    AnonymousAuthentication {
        options { enabled: bool, }
    }
}

config_struct! {
    /// `authorization`
    Authorization {
        values {
            mode: String,
            webhook: WebhookAuthorization,
        }
    }
}

config_struct! {
    /// `authorization.webhook`
    WebhookAuthorization {
        values {
            #[serde(rename = "cacheAuthorizedTTL")]
            cache_authorized_ttl: ConfigDuration,
            #[serde(rename = "cacheUnauthorizedTTL")]
            cache_unauthorized_ttl: ConfigDuration,
        }
    }
}

config_struct! {
    /// `memorySwap`
    MemorySwap {
        values { swap_behavior: String, }
    }
}

config_struct! {
    /// `crashLoopBackOff`
    CrashLoopBackOff {
        options { max_container_restart_period: ConfigDuration, }
    }
}

config_struct! {
    /// `tracing`
    Tracing {
        options {
            endpoint: String,
            sampling_rate_per_million: i32,
        }
    }
}

config_struct! {
    /// `userNamespaces`
    UserNamespaces {
        options { ids_per_pod: i64, }
    }
}

config_struct! {
    /// `logging`
    Logging {
        values {
            format: String,
            flush_frequency: FlushFrequency,
            verbosity: u32,
            options: FormatOptions,
        }
        lists {
            #[serde(rename = "vmodule")]
            vmodule: VmoduleItem,
        }
    }
}

config_struct! {
    /// `logging.options`
    FormatOptions {
        values {
            text: OutputOptions,
            json: OutputOptions,
        }
    }
}

config_struct! {
    /// `logging.options.text`, `logging.options.json`
    OutputOptions {
        values { split_stream: bool, }
        options { info_buffer_size: Scalar, }
    }
}

/// One of `logging.vmodule`: files of that name log that much.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct VmoduleItem {
    /// Glob over file names without suffix.
    pub(crate) file_pattern: String,
    /// As `--v`.
    pub(crate) verbosity: u32,
}

/// One of `shutdownGracePeriodByPodPriority`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ShutdownGracePeriodByPodPriority {
    /// Pods of this priority and up to the next entry's.
    pub(crate) priority: i32,
    /// Their time to end, in seconds.
    pub(crate) shutdown_grace_period_seconds: i64,
}

/// One of `reservedMemory`: memory of one NUMA node that pods don't get.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct MemoryReservation {
    /// The NUMA node.
    pub(crate) numa_node: i32,
    /// Quantity by resource: `memory`, `hugepages-<size>`.
    pub(crate) limits: BTreeMap<String, Scalar>,
}

/// One of `registerWithTaints`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Taint {
    /// Qualified name.
    pub key: String,
    /// Label value.
    #[serde(skip_serializing_if = "is_zero")]
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
    /// Must not be set here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_added: Option<String>,
}

/// A quantity as written: text, or a plain number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Scalar {
    /// `512Mi`
    Text(String),
    /// `1024`
    Number(serde_json::Number),
}

impl Scalar {
    /// The text of either form.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
        }
    }
}

/// `logging.flushFrequency`: a duration text, or nanoseconds as a number (upstream's old form).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum FlushFrequency {
    /// `5s`
    Text(ConfigDuration),
    /// `5000000000`
    Nanoseconds(i64),
}

impl Default for FlushFrequency {
    fn default() -> Self {
        Self::Text(ConfigDuration::default())
    }
}
