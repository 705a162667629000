//! Defaults (rows CFG-01..66, PROC-12, PROC-13; upstream `SetDefaults_KubeletConfiguration`).

use std::collections::BTreeMap;

use super::{ConfigDuration, FlushFrequency, KubeletConfiguration, Scalar};
use crate::gates::FeatureGates;

/// `evictionHard` of a configuration file that says nothing about it.
pub(crate) const DEFAULT_EVICTION_HARD: [(&str, &str); 5] = [
    ("memory.available", "100Mi"),
    ("nodefs.available", "10%"),
    ("nodefs.inodesFree", "5%"),
    ("imagefs.available", "15%"),
    ("imagefs.inodesFree", "5%"),
];

/// Fills a plain value that is zero.
fn value<T: Default + PartialEq>(field: &mut T, default: T) {
    if *field == T::default() {
        *field = default;
    }
}

fn text(field: &mut String, default: &str) {
    if field.is_empty() {
        default.clone_into(field);
    }
}

fn option<T>(field: &mut Option<T>, default: T) {
    field.get_or_insert(default);
}

impl KubeletConfiguration {
    /// A start with flags only: the defaults, and upstream's open legacy ones (PROC-12, DEC-34).
    pub(crate) fn legacy_defaults() -> Self {
        let mut config = Self::default();
        config.set_defaults();
        config.authentication.anonymous.enabled = Some(true);
        config.authentication.webhook.enabled = Some(false);
        "AlwaysAllow".clone_into(&mut config.authorization.mode);
        config.read_only_port = 10255;
        config
    }

    /// Fills what is not said. Doing it twice changes nothing.
    pub(crate) fn set_defaults(&mut self) {
        let gates = FeatureGates::resolve(self.feature_gates.as_ref().unwrap_or(&BTreeMap::new()));
        self.default_sources_and_servers();
        self.default_node();
        self.default_images_and_logs();
        self.default_cgroups_and_resources();
        if gates.kubelet_crash_loop_back_off_max {
            option(
                &mut self.crash_loop_back_off.max_container_restart_period,
                ConfigDuration::secs(300),
            );
        }
        if gates.kubelet_ensure_secret_pulled_images {
            text(
                &mut self.image_pull_credentials_verification_policy,
                "NeverVerifyPreloadedImages",
            );
        }
    }

    fn default_sources_and_servers(&mut self) {
        option(&mut self.enable_server, true);
        value(&mut self.sync_frequency, ConfigDuration::secs(60));
        value(&mut self.file_check_frequency, ConfigDuration::secs(20));
        value(&mut self.http_check_frequency, ConfigDuration::secs(20));
        text(&mut self.address, "0.0.0.0");
        value(&mut self.port, 10250);
        option(&mut self.authentication.anonymous.enabled, false);
        option(&mut self.authentication.webhook.enabled, true);
        value(
            &mut self.authentication.webhook.cache_ttl,
            ConfigDuration::secs(120),
        );
        text(&mut self.authorization.mode, "Webhook");
        value(
            &mut self.authorization.webhook.cache_authorized_ttl,
            ConfigDuration::secs(300),
        );
        value(
            &mut self.authorization.webhook.cache_unauthorized_ttl,
            ConfigDuration::secs(30),
        );
        option(&mut self.event_record_qps, 50);
        value(&mut self.event_burst, 100);
        option(&mut self.enable_debugging_handlers, true);
        option(&mut self.healthz_port, 10248);
        text(&mut self.healthz_bind_address, "127.0.0.1");
        value(
            &mut self.streaming_connection_idle_timeout,
            ConfigDuration::secs(4 * 3600),
        );
        text(
            &mut self.content_type,
            "application/vnd.kubernetes.protobuf",
        );
        option(&mut self.kube_api_qps, 50);
        value(&mut self.kube_api_burst, 100);
        option(&mut self.enable_system_log_handler, true);
        option(&mut self.enable_profiling_handler, true);
        option(&mut self.enable_debug_flags_handler, true);
        text(
            &mut self.container_runtime_endpoint,
            "unix:///run/containerd/containerd.sock",
        );
    }

    fn default_node(&mut self) {
        option(&mut self.oom_score_adj, -999);
        if self.node_status_report_frequency.is_zero() {
            // Said about updates alone, the report follows the updates.
            self.node_status_report_frequency = if self.node_status_update_frequency.is_zero() {
                ConfigDuration::secs(300)
            } else {
                self.node_status_update_frequency
            };
        }
        value(
            &mut self.node_status_update_frequency,
            ConfigDuration::secs(10),
        );
        value(&mut self.node_lease_duration_seconds, 40);
        value(&mut self.max_pods, 110);
        if self.resolv_conf.is_none() {
            self.resolv_conf = Some("/etc/resolv.conf".to_owned());
        }
        option(&mut self.node_status_max_images, 50);
        value(&mut self.max_open_files, 1_000_000);
        option(&mut self.enable_controller_attach_detach, true);
        option(&mut self.make_iptables_util_chains, true);
        option(&mut self.iptables_masquerade_bit, 14);
        option(&mut self.iptables_drop_bit, 15);
        option(&mut self.fail_swap_on, true);
        text(
            &mut self.config_map_and_secret_change_detection_strategy,
            "Watch",
        );
        text(
            &mut self.volume_plugin_dir,
            "/usr/libexec/kubernetes/kubelet-plugins/volume/exec/",
        );
        option(&mut self.seccomp_default, false);
        option(&mut self.fail_cgroup_v1, false);
        option(&mut self.register_node, true);
        option(&mut self.local_storage_capacity_isolation, true);
        text(&mut self.hairpin_mode, "promiscuous-bridge");
        value(&mut self.runtime_request_timeout, ConfigDuration::secs(120));
    }

    fn default_images_and_logs(&mut self) {
        option(&mut self.registry_pull_qps, 5);
        value(&mut self.registry_burst, 10);
        value(&mut self.image_minimum_gc_age, ConfigDuration::secs(120));
        option(&mut self.image_gc_high_threshold_percent, 85);
        option(&mut self.image_gc_low_threshold_percent, 80);
        value(&mut self.volume_stats_agg_period, ConfigDuration::secs(60));
        let parallel = self
            .max_parallel_image_pulls
            .is_some_and(|pulls| pulls >= 2);
        option(&mut self.serialize_image_pulls, !parallel);
        text(&mut self.container_log_max_size, "10Mi");
        option(&mut self.container_log_max_files, 5);
        option(&mut self.container_log_max_workers, 1);
        option(
            &mut self.container_log_monitor_interval,
            ConfigDuration::secs(10),
        );
        text(&mut self.pod_logs_dir, "/var/log/pods");
        text(&mut self.logging.format, "text");
        let unsaid = match self.logging.flush_frequency {
            FlushFrequency::Text(duration) => duration.is_zero(),
            FlushFrequency::Nanoseconds(nanos) => nanos == 0,
        };
        if unsaid {
            self.logging.flush_frequency = FlushFrequency::Text(ConfigDuration::secs(5));
        }
        for output in [
            &mut self.logging.options.text,
            &mut self.logging.options.json,
        ] {
            option(&mut output.info_buffer_size, Scalar::Text("0".to_owned()));
        }
    }

    fn default_cgroups_and_resources(&mut self) {
        option(&mut self.cgroups_per_qos, true);
        text(&mut self.cgroup_driver, "cgroupfs");
        text(&mut self.cpu_manager_policy, "none");
        value(
            &mut self.cpu_manager_reconcile_period,
            ConfigDuration::secs(10),
        );
        text(&mut self.memory_manager_policy, "None");
        text(&mut self.topology_manager_policy, "none");
        text(&mut self.topology_manager_scope, "container");
        if self.pod_pids_limit.is_none_or(|limit| limit < 0) {
            self.pod_pids_limit = Some(-1);
        }
        option(&mut self.cpu_cfs_quota, true);
        option(&mut self.cpu_cfs_quota_period, ConfigDuration::millis(100));
        value(
            &mut self.eviction_pressure_transition_period,
            ConfigDuration::secs(300),
        );
        option(&mut self.merge_default_eviction_settings, false);
        if self.enforce_node_allocatable.is_none() {
            self.enforce_node_allocatable = Some(vec!["pods".to_owned()]);
        }
        option(&mut self.memory_throttling_factor, 0.9);
    }

    /// Gives a file's configuration its thresholds: all when it has none, the missing ones when it
    /// asks for merging (PROC-13). A start with flags only has none.
    pub(crate) fn set_default_eviction_hard(&mut self) {
        let merge = self.merge_default_eviction_settings == Some(true);
        match &mut self.eviction_hard {
            Some(thresholds) if merge => {
                for (signal, value) in DEFAULT_EVICTION_HARD {
                    thresholds
                        .entry(signal.to_owned())
                        .or_insert_with(|| value.to_owned());
                }
            }
            Some(_) => {}
            none => {
                let defaults = DEFAULT_EVICTION_HARD.map(|(s, v)| (s.to_owned(), v.to_owned()));
                *none = Some(BTreeMap::from(defaults));
            }
        }
    }
}
