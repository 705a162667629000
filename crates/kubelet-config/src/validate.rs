//! What a configuration may not say (rows VAL-01..11; upstream `ValidateKubeletConfiguration`).
//!
//! Pure: the configuration, the gates and one fact about the host go in, every problem comes out, in
//! upstream's order and words. Users and tests match on these texts.

mod logging;
mod pods;
mod resources;

use daemon::pflag::{GoDuration, quote};

use crate::config::{ConfigDuration, KubeletConfiguration};
use crate::flags::syntax::is_taint_effect;
use crate::gates::FeatureGates;
use crate::names;
use crate::version::Version;

pub(crate) use logging::logging_problems;

/// What validation must know about the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostFacts {
    /// `/sys/fs/cgroup` is a cgroup2 file system.
    pub cgroup_v2: bool,
}

/// Collects problems that begin with `invalid configuration: `.
struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, problem: &str) {
        self.0.push(format!("invalid configuration: {problem}"));
    }

    fn add_if(&mut self, wrong: bool, problem: impl FnOnce() -> String) {
        if wrong {
            self.add(&problem());
        }
    }

    fn not_negative(&mut self, name: &str, value: i64) {
        self.add_if(value < 0, || {
            format!("{name} {value} must not be a negative number")
        });
    }

    /// A port, or 0 where that turns it off; `least` is what the message says.
    fn port(&mut self, name: &str, value: i32, zero_allowed: bool, least: i32) {
        let fine = (zero_allowed && value == 0) || (1..=65535).contains(&value);
        self.add_if(!fine, || {
            format!("{name} {value} must be between {least} and 65535, inclusive")
        });
    }

    fn range(&mut self, name: &str, value: i32, low: i32, high: i32) {
        self.add_if(!(low..=high).contains(&value), || {
            format!("{name} {value} must be between {low} and {high}, inclusive")
        });
    }
}

/// Go prints the struct around a duration with braces.
fn braced(duration: ConfigDuration) -> String {
    format!("{{{duration}}}")
}

/// Every problem of a defaulted configuration.
pub(crate) fn validate(
    config: &KubeletConfiguration,
    gates: &FeatureGates,
    host: HostFacts,
) -> Vec<String> {
    let mut problems = Problems(Vec::new());
    numbers(config, gates, &mut problems);
    taints(config, &mut problems);
    policies(config, gates, &mut problems);
    pods::shutdown(config, gates, &mut problems);
    pods::swap_and_restarts(config, gates, &mut problems);
    resources::enforcement(config, &mut problems);
    problems.add_if(
        !matches!(
            config.hairpin_mode.as_str(),
            "none" | "hairpin-veth" | "promiscuous-bridge"
        ),
        || {
            format!(
                "option {} specified for hairpinMode (--hairpin-mode). Valid options are \"none\", \
                 \"hairpin-veth\" or \"promiscuous-bridge\"",
                quote(&config.hairpin_mode)
            )
        },
    );
    pods::pulled_images(config, gates, &mut problems);
    resources::reservations(config, &mut problems);
    host_dependent(config, host, &mut problems);
    hidden_metrics(config, &mut problems);
    problems.0.extend(logging_problems(&config.logging, gates));
    problems
        .0
        .extend(logging::tracing_problems(config.tracing.as_ref()));
    the_rest(config, gates, &mut problems);
    paths(config, &mut problems);
    problems.0
}

fn numbers(config: &KubeletConfiguration, gates: &FeatureGates, problems: &mut Problems) {
    problems.add_if(config.node_lease_duration_seconds <= 0, || {
        "nodeLeaseDurationSeconds must be greater than 0".to_owned()
    });
    problems.add_if(
        !config.system_cgroups.is_empty() && config.cgroup_root.is_empty(),
        || {
            "systemCgroups (--system-cgroups) was specified and cgroupRoot (--cgroup-root) was not \
         specified"
                .to_owned()
        },
    );
    problems.not_negative("eventBurst (--event-burst)", config.event_burst.into());
    let event_qps = config.event_record_qps.unwrap_or_default();
    problems.not_negative("eventRecordQPS (--event-qps)", event_qps.into());
    let healthz_port = config.healthz_port.unwrap_or_default();
    problems.port("healthzPort (--healthz-port)", healthz_port, true, 1);
    quota_period(config, gates, problems);
    image_collection(config, gates, problems);
    let bit = config.iptables_drop_bit.unwrap_or_default();
    problems.range("iptablesDropBit (--iptables-drop-bit)", bit, 0, 31);
    let bit = config.iptables_masquerade_bit.unwrap_or_default();
    problems.range(
        "iptablesMasqueradeBit (--iptables-masquerade-bit)",
        bit,
        0,
        31,
    );
    problems.not_negative(
        "kubeAPIBurst (--kube-api-burst)",
        config.kube_api_burst.into(),
    );
    let api_qps = config.kube_api_qps.unwrap_or_default();
    problems.not_negative("kubeAPIQPS (--kube-api-qps)", api_qps.into());
    let images = config.node_status_max_images.unwrap_or_default();
    problems.add_if(images < -1, || {
        format!("nodeStatusMaxImages (--node-status-max-images) {images} must be -1 or greater")
    });
    problems.not_negative("maxOpenFiles (--max-open-files)", config.max_open_files);
    problems.not_negative("maxPods (--max-pods)", config.max_pods.into());
    let score = config.oom_score_adj.unwrap_or_default();
    problems.range("oomScoreAdj (--oom-score-adj)", score, -1000, 1000);
    problems.not_negative("podsPerCore (--pods-per-core)", config.pods_per_core.into());
    problems.port("port (--port)", config.port, false, 1);
    problems.port(
        "readOnlyPort (--read-only-port)",
        config.read_only_port,
        true,
        0,
    );
    problems.not_negative(
        "registryBurst (--registry-burst)",
        config.registry_burst.into(),
    );
    let pull_qps = config.registry_pull_qps.unwrap_or_default();
    problems.not_negative("registryPullQPS (--registry-qps)", pull_qps.into());
    let pulls = config.max_parallel_image_pulls.unwrap_or(1);
    problems.add_if(pulls < 1, || {
        format!("maxParallelImagePulls {pulls} must be a positive number")
    });
    problems.add_if(
        config.serialize_image_pulls == Some(true) && pulls > 1,
        || {
            "maxParallelImagePulls cannot be larger than 1 unless SerializeImagePulls \
         (--serialize-image-pulls) is set to false"
                .to_owned()
        },
    );
    problems.add_if(
        config.server_tls_bootstrap && !gates.rotate_kubelet_server_certificate,
        || {
            "serverTLSBootstrap true requires feature gate RotateKubeletServerCertificate"
                .to_owned()
        },
    );
    problems.add_if(config.run_once, || {
        "runOnce (--runOnce) true, Runonce mode has been deprecated and should not be set"
            .to_owned()
    });
}

fn quota_period(config: &KubeletConfiguration, gates: &FeatureGates, problems: &mut Problems) {
    const USUAL: GoDuration = GoDuration::from_millis(100);
    let period = config.cpu_cfs_quota_period.unwrap_or(ConfigDuration(USUAL));
    if gates.custom_cpu_cfs_quota_period {
        let range = GoDuration::from_millis(1)..=GoDuration::from_secs(1);
        problems.add_if(!range.contains(&period.0), || {
            format!(
                "cpuCFSQuotaPeriod (--cpu-cfs-quota-period) {} must be between 1ms and 1sec, \
                 inclusive",
                braced(period)
            )
        });
    } else {
        problems.add_if(period.0 != USUAL, || {
            format!(
                "cpuCFSQuotaPeriod (--cpu-cfs-quota-period) {} requires feature gate \
                 CustomCPUCFSQuotaPeriod",
                braced(period)
            )
        });
    }
}

fn image_collection(config: &KubeletConfiguration, gates: &FeatureGates, problems: &mut Problems) {
    let high = config.image_gc_high_threshold_percent.unwrap_or_default();
    let low = config.image_gc_low_threshold_percent.unwrap_or_default();
    problems.range(
        "imageGCHighThresholdPercent (--image-gc-high-threshold)",
        high,
        0,
        100,
    );
    problems.range(
        "imageGCLowThresholdPercent (--image-gc-low-threshold)",
        low,
        0,
        100,
    );
    problems.add_if(low >= high, || {
        format!(
            "imageGCLowThresholdPercent (--image-gc-low-threshold) {low} must be less than \
             imageGCHighThresholdPercent (--image-gc-high-threshold) {high}"
        )
    });
    let (oldest, youngest) = (config.image_maximum_gc_age, config.image_minimum_gc_age);
    problems.add_if(!oldest.is_zero() && !gates.image_maximum_gc_age, || {
        "ImageMaximumGCAge feature gate is required for Kubelet configuration option \
         imageMaximumGCAge"
            .to_owned()
    });
    problems.add_if(oldest.0.is_negative(), || {
        format!("imageMaximumGCAge {oldest} must not be negative")
    });
    problems.add_if(oldest.0 > GoDuration::ZERO && oldest <= youngest, || {
        format!("imageMaximumGCAge {oldest} must be greater than imageMinimumGCAge {youngest}")
    });
}

fn taints(config: &KubeletConfiguration, problems: &mut Problems) {
    for taint in config.register_with_taints.iter().flatten() {
        let (key, value, effect) = (&taint.key, &taint.value, &taint.effect);
        let valid = is_taint_effect(effect)
            && names::qualified_name_problems(key).is_empty()
            && names::label_value_problems(value).is_empty();
        if !valid {
            let added = taint.time_added.as_deref().unwrap_or("<nil>");
            problems
                .0
                .push(format!("invalid taint: {{{key} {value} {effect} {added}}}"));
        }
        problems.add_if(taint.time_added.is_some(), || {
            "taint.TimeAdded is not nil".to_owned()
        });
    }
}

fn policies(config: &KubeletConfiguration, gates: &FeatureGates, problems: &mut Problems) {
    const TOPOLOGY: [&str; 4] = ["none", "best-effort", "restricted", "single-numa-node"];
    let policy = config.topology_manager_policy.as_str();
    problems.add_if(!TOPOLOGY.contains(&policy), || {
        format!(
            "topologyManagerPolicy (--topology-manager-policy) {} must be one of: [{}]",
            quote(policy),
            TOPOLOGY.map(quote).join(" ")
        )
    });
    let scope = config.topology_manager_scope.as_str();
    problems.add_if(!matches!(scope, "container" | "pod"), || {
        format!(
            "topologyManagerScope (--topology-manager-scope) {} must be one of: \"container\", or \
             \"pod\"",
            quote(scope)
        )
    });
    // Upstream finds the following ones while it starts its managers (VAL-06, CFG-25, CFG-26).
    let policy = config.cpu_manager_policy.as_str();
    problems.add_if(!matches!(policy, "none" | "static"), || {
        format!(
            "cpuManagerPolicy (--cpu-manager-policy) {} must be one of: \"none\", or \"static\"",
            quote(policy)
        )
    });
    let policy = config.memory_manager_policy.as_str();
    problems.add_if(!matches!(policy, "None" | "Static"), || {
        format!(
            "memoryManagerPolicy (--memory-manager-policy) {} must be one of: \"None\", or \
             \"Static\"",
            quote(policy)
        )
    });
    let options = |map: &crate::config::TextMap| map.as_ref().is_some_and(|map| !map.is_empty());
    problems.add_if(
        options(&config.topology_manager_policy_options) && !gates.topology_manager_policy_options,
        || {
            "topologyManagerPolicyOptions (--topology-manager-policy-options) requires feature \
             gate TopologyManagerPolicyOptions"
                .to_owned()
        },
    );
    let driver = config.cgroup_driver.as_str();
    problems.add_if(!matches!(driver, "cgroupfs" | "systemd"), || {
        format!(
            "cgroupDriver (--cgroup-driver) {} must be one of: \"cgroupfs\", or \"systemd\"",
            quote(driver)
        )
    });
    let strategy = config
        .config_map_and_secret_change_detection_strategy
        .as_str();
    problems.add_if(!matches!(strategy, "Get" | "Cache" | "Watch"), || {
        format!(
            "configMapAndSecretChangeDetectionStrategy {} must be one of: \"Get\", \"Cache\", or \
             \"Watch\"",
            quote(strategy)
        )
    });
}

/// Upstream stops at the first of these.
fn host_dependent(config: &KubeletConfiguration, host: HostFacts, problems: &mut Problems) {
    const UNIT: i64 = 65536;
    if !host.cgroup_v2 && config.fail_cgroup_v1 == Some(true) {
        problems.0.push(
            "kubelet is configured to not run on a host using cgroup v1. cgroup v1 support is in \
             maintenance mode"
                .to_owned(),
        );
        return;
    }
    if !host.cgroup_v2 && config.single_process_oom_kill == Some(false) {
        problems
            .add("singleProcessOOMKill must not be explicitly set to false when using cgroup v1");
        return;
    }
    let Some(ids) = config
        .user_namespaces
        .as_ref()
        .and_then(|userns| userns.ids_per_pod)
    else {
        return;
    };
    if ids < UNIT {
        problems.add(&format!(
            "userNamespaces.idsPerPod must not be less than {UNIT}"
        ));
    } else if ids % UNIT != 0 {
        problems.add(&format!(
            "userNamespaces.idsPerPod must be a multiple of {UNIT}"
        ));
    } else if ids > i64::from(u32::MAX) {
        problems.add(&format!(
            "userNamespaces.idsPerPod must not be more than {}",
            u32::MAX
        ));
    }
}

fn hidden_metrics(config: &KubeletConfiguration, problems: &mut Problems) {
    let asked = &config.show_hidden_metrics_for_version;
    let (major, minor, _) = Version::built_in().numbers().unwrap_or((1, 34, 0));
    let previous = format!("{major}.{}", minor.saturating_sub(1));
    if !asked.is_empty() && *asked != previous {
        problems.0.push(format!(
            "--show-hidden-metrics-for-version must be omitted or have the value '{previous}'. Only \
             the previous minor version is allowed"
        ));
    }
}

fn the_rest(config: &KubeletConfiguration, gates: &FeatureGates, problems: &mut Problems) {
    match config.memory_throttling_factor {
        None => problems.add_if(gates.memory_qos, || {
            "memoryThrottlingFactor is required when MemoryQoS feature flag is enabled".to_owned()
        }),
        Some(factor) => problems.add_if(factor <= 0.0 || factor > 1.0, || {
            format!(
                "memoryThrottlingFactor {factor} must be greater than 0 and less than or equal to \
                 1.0"
            )
        }),
    }
    problems.add_if(config.container_runtime_endpoint.is_empty(), || {
        "the containerRuntimeEndpoint was not specified or empty".to_owned()
    });
    let query = config.enable_system_log_query == Some(true);
    problems.add_if(query && !gates.node_log_query, || {
        "NodeLogQuery feature gate is required for enableSystemLogHandler".to_owned()
    });
    problems.add_if(
        query && config.enable_system_log_handler != Some(true),
        || "enableSystemLogHandler is required for enableSystemLogQuery".to_owned(),
    );
    problems.add_if(
        config.container_log_max_workers.unwrap_or_default() < 1,
        || "containerLogMaxWorkers must be greater than or equal to 1".to_owned(),
    );
    let interval = config.container_log_monitor_interval.unwrap_or_default();
    problems.add_if(interval < ConfigDuration::secs(3), || {
        "containerLogMonitorInterval must be a positive time duration greater than or equal to 3s"
            .to_owned()
    });
    problems.add_if(
        config.container_log_max_files.unwrap_or_default() <= 1,
        || "containerLogMaxFiles must be greater than 1".to_owned(),
    );
    // The reference's CFG-06: a period of no time would be a busy loop.
    for (name, period) in [
        ("syncFrequency (--sync-frequency)", config.sync_frequency),
        (
            "fileCheckFrequency (--file-check-frequency)",
            config.file_check_frequency,
        ),
        (
            "httpCheckFrequency (--http-check-frequency)",
            config.http_check_frequency,
        ),
        (
            "runtimeRequestTimeout (--runtime-request-timeout)",
            config.runtime_request_timeout,
        ),
    ] {
        problems.add_if(period.0 <= GoDuration::ZERO, || {
            format!("{name} {period} must be greater than 0")
        });
    }
}

fn paths(config: &KubeletConfiguration, problems: &mut Problems) {
    let logs = config.pod_logs_dir.as_str();
    problems.add_if(logs.is_empty(), || {
        "podLogsDir was not specified".to_owned()
    });
    problems.add_if(!logs.starts_with('/'), || {
        format!("pod logs path {} must be absolute path", quote(logs))
    });
    problems.add_if(crate::paths::clean(logs) != logs, || {
        format!("pod logs path {} must be normalized", quote(logs))
    });
    problems.add_if(!logs.is_ascii(), || {
        format!(
            "pod logs path {} mut contains ASCII characters only",
            quote(logs)
        )
    });
}

#[cfg(test)]
mod tests;
