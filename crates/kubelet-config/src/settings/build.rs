//! From a validated configuration and the node's own flags to [`Settings`].

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use daemon::pflag::{Parsed, quote};
use kubelet_core::quantity;
use serde_json::{Value, json};

use super::values::{count, percent, positive, rate, some_path, some_text, std};
use super::{
    ApiSettings, AuthorizationMode, CgroupDriver, CgroupSettings, ContainerGcSettings,
    ContainerLogSettings, DnsSettings, ImagePulls, ImageSettings, LogFormat, LogLine,
    LoggingSettings, NodeSettings, RuntimeSettings, SecuritySettings, ServerSettings, Settings,
    Severity, ShutdownSettings, SourceSettings, StaticPodUrl, SwapBehavior, SyncSettings,
    TlsSettings, eviction, resources,
};
use crate::config::{API_VERSION, KIND, KubeletConfiguration};
use crate::flags::syntax::{labels, parse_ip};
use crate::gates::FeatureGates;
use crate::paths::{Paths, clean};
use crate::version::Version;

/// A start or a restart of a container waits at most this long (CFG-58).
const RESTART_LIMIT: Duration = Duration::from_mins(5);

/// What the builder hands from part to part.
struct Builder<'a> {
    config: &'a KubeletConfiguration,
    flags: &'a Parsed,
    problems: Vec<String>,
    warnings: Vec<LogLine>,
}

/// Builds the settings of a configuration that validation has passed, or that it has not: then the
/// caller wants the further problems only.
///
/// # Errors
/// Problems that upstream meets after validation, with their fields.
pub(crate) fn build(
    config: &KubeletConfiguration,
    flags: &Parsed,
    gates: FeatureGates,
    version: Version,
    warnings: Vec<LogLine>,
) -> Result<Settings, Vec<String>> {
    let mut builder = Builder {
        config,
        flags,
        problems: Vec::new(),
        warnings,
    };
    let ignored = flags.bool("experimental-allocatable-ignore-eviction");
    let settings = Settings {
        version,
        node: builder.node(),
        paths: builder.paths(),
        runtime: builder.runtime(),
        servers: builder.servers(),
        sources: builder.sources(),
        sync: SyncSettings {
            pod_resync_period: std(config.sync_frequency),
            max_container_restart_period: config
                .crash_loop_back_off
                .max_container_restart_period
                .map_or(RESTART_LIMIT, std),
        },
        images: builder.images(),
        container_logs: builder.container_logs(),
        logging: builder.logging(),
        cgroups: builder.cgroups(),
        dns: builder.dns(),
        security: SecuritySettings {
            seccomp_default: config.seccomp_default == Some(true) || flags.bool("seccomp-default"),
            allowed_unsafe_sysctls: config.allowed_unsafe_sysctls.clone().unwrap_or_default(),
            ids_per_pod: config
                .user_namespaces
                .as_ref()
                .and_then(|userns| userns.ids_per_pod)
                .and_then(|ids| u32::try_from(ids).ok())
                .unwrap_or(65536),
        },
        eviction: eviction::build(config, ignored, &mut builder.problems),
        resources: resources::build(config, gates.qos_reserved, &mut builder.problems),
        container_gc: builder.container_gc(),
        shutdown: builder.shutdown(),
        api: builder.api(),
        gates,
        effective: effective(config),
        warnings: builder.warnings,
    };
    if builder.problems.is_empty() {
        Ok(settings)
    } else {
        Err(builder.problems)
    }
}

/// The configuration as JSON, header values masked (PROC-06).
fn effective(config: &KubeletConfiguration) -> Value {
    let mut document = json!({ "kind": KIND, "apiVersion": API_VERSION });
    if let (Ok(Value::Object(fields)), Some(document)) =
        (serde_json::to_value(config), document.as_object_mut())
    {
        document.extend(fields);
        if let Some(Value::Object(headers)) = document.get_mut("staticPodURLHeader") {
            headers
                .values_mut()
                .for_each(|value| *value = json!(["<masked>"]));
        }
    }
    document
}

impl Builder<'_> {
    fn problem(&mut self, problem: &str) {
        self.problems
            .push(format!("invalid configuration: {problem}"));
    }

    /// Absolute and clean; relative paths count from the working directory.
    fn absolute(&mut self, name: &str, path: &str) -> PathBuf {
        if path.is_empty() {
            self.problem(&format!("{name} must not be empty"));
            return PathBuf::new();
        }
        match std::path::absolute(path) {
            Ok(path) => PathBuf::from(clean(&path.to_string_lossy())),
            Err(error) => {
                self.problem(&format!("{name} {path}: {error}"));
                PathBuf::new()
            }
        }
    }

    fn node(&mut self) -> NodeSettings {
        let (config, flags) = (self.config, self.flags);
        let ips = self.node_ips(flags.text("node-ip"));
        let lock_file = some_path(flags.text("lock-file"));
        let exit_on_lock_contention = flags.bool("exit-on-lock-contention");
        NodeSettings {
            hostname_override: some_text(flags.text("hostname-override")),
            ips,
            labels: labels(flags.list("node-labels")),
            taints: config.register_with_taints.clone().unwrap_or_default(),
            register: config.register_node.unwrap_or(true),
            provider_id: some_text(&config.provider_id),
            external_cloud_provider: flags.text("cloud-provider") == "external",
            max_pods: count(config.max_pods),
            pods_per_core: rate(Some(config.pods_per_core)),
            pod_cidr: some_text(&config.pod_cidr),
            oom_score_adj: config.oom_score_adj.unwrap_or(-999),
            max_open_files: u64::try_from(config.max_open_files).unwrap_or_default(),
            protect_kernel_defaults: config.protect_kernel_defaults,
            fail_swap_on: config.fail_swap_on.unwrap_or(true),
            swap: match config.memory_swap.swap_behavior.as_str() {
                "LimitedSwap" => SwapBehavior::LimitedSwap,
                _ => SwapBehavior::NoSwap,
            },
            fail_cgroup_v1: config.fail_cgroup_v1.unwrap_or_default(),
            local_storage_capacity_isolation: config
                .local_storage_capacity_isolation
                .unwrap_or(true),
            lock_file,
            exit_on_lock_contention,
            make_iptables_util_chains: config.make_iptables_util_chains.unwrap_or(true),
        }
    }

    /// FLAG-06
    fn node_ips(&mut self, text: &str) -> Vec<IpAddr> {
        let (mut ips, mut unreadable) = (Vec::new(), Vec::new());
        for word in text.split(',').map(str::trim).filter(|_| !text.is_empty()) {
            match parse_ip(word) {
                Some(ip) => ips.push(ip),
                None => unreadable.push(word.to_owned()),
            }
        }
        if !unreadable.is_empty() {
            let line = LogLine::new(
                Severity::Info,
                "Could not parse some node IP(s), ignoring them",
            );
            self.warnings.push(line.with("IPs", unreadable.join(",")));
        }
        let problem = match ips[..] {
            [] | [_] => return ips,
            [a, b] if a.is_ipv4() != b.is_ipv4() => {
                if !a.is_unspecified() && !b.is_unspecified() {
                    return ips;
                }
                "dual-stack node IP cannot include '0.0.0.0' or '::'"
            }
            _ => "must contain either a single IP or a dual-stack pair of IPs",
        };
        self.problems
            .push(format!("bad --node-ip {}: {problem}", quote(text)));
        Vec::new()
    }

    fn paths(&mut self) -> Paths {
        let (config, flags) = (self.config, self.flags);
        Paths {
            root_dir: self.absolute("--root-dir", flags.text("root-dir")),
            cert_dir: self.absolute("--cert-dir", flags.text("cert-dir")),
            pod_logs_dir: PathBuf::from(&config.pod_logs_dir),
            volume_plugin_dir: PathBuf::from(&config.volume_plugin_dir),
        }
    }

    fn runtime(&mut self) -> RuntimeSettings {
        let endpoint = self.config.container_runtime_endpoint.clone();
        let image_endpoint =
            some_text(&self.config.image_service_endpoint).unwrap_or_else(|| endpoint.clone());
        RuntimeSettings {
            endpoint,
            image_endpoint,
            request_timeout: std(self.config.runtime_request_timeout),
            runtime_cgroups: some_text(self.flags.text("runtime-cgroups")),
        }
    }

    fn address(&mut self, name: &str, text: &str) -> IpAddr {
        parse_ip(text).unwrap_or_else(|| {
            self.problem(&format!("{name} {} is not a valid IP address", quote(text)));
            IpAddr::from([127, 0, 0, 1])
        })
    }

    fn servers(&mut self) -> ServerSettings {
        let config = self.config;
        let address = self.address("address (--address)", &config.address);
        let health = self.address(
            "healthzBindAddress (--healthz-bind-address)",
            &config.healthz_bind_address,
        );
        // A port of 0 is off; validation has judged the range.
        let socket = |address: IpAddr, port: i32| {
            let port = u16::try_from(port).ok().filter(|port| *port > 0);
            port.map(|port| SocketAddr::new(address, port))
        };
        let webhook = &config.authentication.webhook;
        let rules = &config.authorization;
        ServerSettings {
            api: socket(address, config.port).filter(|_| config.enable_server != Some(false)),
            read_only: socket(address, config.read_only_port),
            health: socket(health, config.healthz_port.unwrap_or_default()),
            tls: self.tls(),
            client_ca_file: some_path(&config.authentication.x509.client_ca_file),
            anonymous: config.authentication.anonymous.enabled.unwrap_or_default(),
            webhook_authentication: (webhook.enabled == Some(true)).then(|| std(webhook.cache_ttl)),
            authorization: match rules.mode.as_str() {
                "AlwaysAllow" => AuthorizationMode::AlwaysAllow,
                _ => AuthorizationMode::Webhook {
                    authorized_ttl: std(rules.webhook.cache_authorized_ttl),
                    unauthorized_ttl: std(rules.webhook.cache_unauthorized_ttl),
                },
            },
            debugging_handlers: config.enable_debugging_handlers.unwrap_or(true),
            profiling_handler: config.enable_profiling_handler.unwrap_or(true),
            debug_flags_handler: config.enable_debug_flags_handler.unwrap_or(true),
            system_log_handler: config.enable_system_log_handler.unwrap_or(true),
            system_log_query: config.enable_system_log_query.unwrap_or_default(),
            streaming_idle_timeout: positive(config.streaming_connection_idle_timeout),
            volume_stats_period: positive(config.volume_stats_agg_period),
        }
    }

    /// CFG-08
    fn tls(&mut self) -> TlsSettings {
        const VERSIONS: [&str; 4] = [
            "VersionTLS10",
            "VersionTLS11",
            "VersionTLS12",
            "VersionTLS13",
        ];
        let config = self.config;
        let (certificate, key) = (&config.tls_cert_file, &config.tls_private_key_file);
        if certificate.is_empty() != key.is_empty() {
            self.problem(
                "tlsCertFile (--tls-cert-file) and tlsPrivateKeyFile (--tls-private-key-file) must \
                 be set together",
            );
        }
        let version = config.tls_min_version.as_str();
        if !version.is_empty() && !VERSIONS.contains(&version) {
            self.problem(&format!("unknown tls version {}", quote(version)));
        }
        TlsSettings {
            pair: some_path(certificate).zip(some_path(key)),
            cipher_suites: config.tls_cipher_suites.clone().unwrap_or_default(),
            min_version: some_text(version),
        }
    }

    fn sources(&mut self) -> SourceSettings {
        let config = self.config;
        let path = some_path(&config.static_pod_path);
        SourceSettings {
            // From a flag it may be relative.
            static_pod_path: path.map(|path| {
                self.absolute(
                    "staticPodPath (--pod-manifest-path)",
                    &path.to_string_lossy(),
                )
            }),
            file_check_period: std(config.file_check_frequency),
            static_pod_url: some_text(&config.static_pod_url).map(|url| StaticPodUrl {
                url,
                headers: config.static_pod_url_header.clone().unwrap_or_default(),
            }),
            http_check_period: std(config.http_check_frequency),
        }
    }

    fn images(&mut self) -> ImageSettings {
        let config = self.config;
        ImageSettings {
            pull_qps: rate(config.registry_pull_qps),
            pull_burst: count(config.registry_burst),
            pulls: if config.serialize_image_pulls == Some(false) {
                ImagePulls::Parallel(rate(config.max_parallel_image_pulls))
            } else {
                ImagePulls::Serial
            },
            minimum_gc_age: std(config.image_minimum_gc_age),
            maximum_gc_age: positive(config.image_maximum_gc_age),
            gc_high_percent: percent(config.image_gc_high_threshold_percent),
            gc_low_percent: percent(config.image_gc_low_threshold_percent),
            credentials_verification: some_text(&config.image_pull_credentials_verification_policy),
            verification_allowlist: config
                .preloaded_images_verification_allowlist
                .clone()
                .unwrap_or_default(),
            credential_provider_config: some_path(
                self.flags.text("image-credential-provider-config"),
            ),
            credential_provider_bin_dir: some_path(
                self.flags.text("image-credential-provider-bin-dir"),
            ),
        }
    }

    fn container_logs(&mut self) -> ContainerLogSettings {
        let config = self.config;
        let text = &config.container_log_max_size;
        let name = "containerLogMaxSize (--container-log-max-size)";
        let max_size_bytes = match quantity::parse(text) {
            // Negative turns rotation off.
            Ok(size) if size.is_whole() => u64::try_from(size.value()).ok(),
            Ok(_) => {
                self.problem(&format!("{name} {}: invalid max log size", quote(text)));
                None
            }
            Err(error) => {
                self.problem(&format!("{name} {}: {error}", quote(text)));
                None
            }
        };
        ContainerLogSettings {
            max_size_bytes,
            max_files: count(config.container_log_max_files.unwrap_or_default()),
            workers: count(config.container_log_max_workers.unwrap_or_default()),
            monitor_period: std(config.container_log_monitor_interval.unwrap_or_default()),
        }
    }

    fn logging(&mut self) -> LoggingSettings {
        let logging = &self.config.logging;
        let items = logging.vmodule.iter().flatten();
        LoggingSettings {
            format: match logging.format.as_str() {
                "json" => LogFormat::Json,
                _ => LogFormat::Text,
            },
            verbosity: logging.verbosity,
            vmodule: items
                .map(|item| (item.file_pattern.clone(), item.verbosity))
                .collect(),
        }
    }

    fn cgroups(&mut self) -> CgroupSettings {
        let config = self.config;
        CgroupSettings {
            per_qos: config.cgroups_per_qos.unwrap_or(true),
            driver: match config.cgroup_driver.as_str() {
                "systemd" => CgroupDriver::Systemd,
                _ => CgroupDriver::Cgroupfs,
            },
            root: some_text(&config.cgroup_root).unwrap_or_else(|| "/".to_owned()),
            kubelet_cgroups: some_text(&config.kubelet_cgroups),
            system_cgroups: some_text(&config.system_cgroups),
            cpu_cfs_quota: config.cpu_cfs_quota.unwrap_or(true),
            cpu_cfs_quota_period: std(config.cpu_cfs_quota_period.unwrap_or_default()),
            pod_pids_limit: config
                .pod_pids_limit
                .and_then(|limit| u64::try_from(limit).ok())
                .filter(|limit| *limit > 0),
            single_process_oom_kill: config.single_process_oom_kill,
            memory_throttling_factor: config.memory_throttling_factor.unwrap_or(0.9),
        }
    }

    fn dns(&mut self) -> DnsSettings {
        let config = self.config;
        let mut cluster_dns = Vec::new();
        for text in config.cluster_dns.iter().flatten() {
            match parse_ip(text) {
                Some(ip) => cluster_dns.push(ip),
                None => self.warnings.push(
                    LogLine::new(Severity::Warning, "Invalid clusterDNS IP").with("IP", text),
                ),
            }
        }
        let resolv_conf = config.resolv_conf.as_deref().unwrap_or_default();
        DnsSettings {
            cluster_domain: some_text(&config.cluster_domain),
            cluster_dns,
            resolv_conf: some_path(resolv_conf),
        }
    }

    fn container_gc(&mut self) -> ContainerGcSettings {
        let flags = self.flags;
        let limit = |name: &str| u32::try_from(flags.int(name)).ok();
        ContainerGcSettings {
            min_age: flags
                .duration("minimum-container-ttl-duration")
                .to_std_or_zero(),
            max_per_container: limit("maximum-dead-containers-per-container"),
            max_total: limit("maximum-dead-containers"),
        }
    }

    fn shutdown(&mut self) -> ShutdownSettings {
        let config = self.config;
        let mut by_priority: Vec<(i32, Duration)> = config
            .shutdown_grace_period_by_pod_priority
            .iter()
            .flatten()
            .map(|entry| {
                let seconds = u64::try_from(entry.shutdown_grace_period_seconds);
                (
                    entry.priority,
                    Duration::from_secs(seconds.unwrap_or_default()),
                )
            })
            .collect();
        by_priority.sort();
        ShutdownSettings {
            grace_period: std(config.shutdown_grace_period),
            critical_grace_period: std(config.shutdown_grace_period_critical_pods),
            by_priority,
        }
    }

    fn api(&mut self) -> ApiSettings {
        let config = self.config;
        let lease = u64::from(count(config.node_lease_duration_seconds));
        ApiSettings {
            node_status_update_period: std(config.node_status_update_frequency),
            node_status_report_period: std(config.node_status_report_frequency),
            node_lease_duration: Duration::from_secs(lease),
            node_status_max_images: config
                .node_status_max_images
                .and_then(|images| u32::try_from(images).ok()),
            event_qps: rate(config.event_record_qps),
            event_burst: count(config.event_burst),
            request_qps: rate(config.kube_api_qps),
            request_burst: count(config.kube_api_burst),
            content_type: config.content_type.clone(),
            rotate_certificates: config.rotate_certificates,
            server_tls_bootstrap: config.server_tls_bootstrap,
            object_change_detection: config
                .config_map_and_secret_change_detection_strategy
                .clone(),
            controller_attach_detach: config.enable_controller_attach_detach.unwrap_or(true),
        }
    }
}
