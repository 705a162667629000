mod resources;

use serde_json::{Value, json};

use super::*;

const V1: HostFacts = HostFacts { cgroup_v2: false };
const V2: HostFacts = HostFacts { cgroup_v2: true };

fn problems(said: Value, host: HostFacts) -> Vec<String> {
    let mut config: KubeletConfiguration = serde_json::from_value(said).expect("decodes");
    config.set_defaults();
    config.set_default_eviction_hard();
    let gates = FeatureGates::resolve(
        config
            .feature_gates
            .as_ref()
            .unwrap_or(&std::collections::BTreeMap::new()),
    );
    validate(&config, &gates, host)
}

#[track_caller]
fn refused(said: &Value, expected: &[&str]) {
    let expected: Vec<String> = expected
        .iter()
        .map(|text| format!("invalid configuration: {text}"))
        .collect();
    assert_eq!(problems(said.clone(), V1), expected, "{said}");
}

#[test]
fn defaults_are_valid() {
    assert_eq!(problems(json!({}), V1), Vec::<String>::new());
    assert_eq!(problems(json!({}), V2), Vec::<String>::new());
    let config = KubeletConfiguration::legacy_defaults();
    assert_eq!(
        validate(&config, &FeatureGates::default(), V1),
        Vec::<String>::new()
    );
}

#[test]
fn val_01_numbers_have_ranges() {
    for (field, flag, bad, range) in [
        (
            "healthzPort",
            "--healthz-port",
            65536,
            "be between 1 and 65535, inclusive",
        ),
        ("port", "--port", -1, "be between 1 and 65535, inclusive"),
        (
            "readOnlyPort",
            "--read-only-port",
            70000,
            "be between 0 and 65535, inclusive",
        ),
        (
            "oomScoreAdj",
            "--oom-score-adj",
            -1001,
            "be between -1000 and 1000, inclusive",
        ),
        (
            "maxOpenFiles",
            "--max-open-files",
            -1,
            "not be a negative number",
        ),
        ("maxPods", "--max-pods", -1, "not be a negative number"),
        (
            "podsPerCore",
            "--pods-per-core",
            -1,
            "not be a negative number",
        ),
        (
            "eventRecordQPS",
            "--event-qps",
            -1,
            "not be a negative number",
        ),
        (
            "eventBurst",
            "--event-burst",
            -1,
            "not be a negative number",
        ),
        (
            "kubeAPIQPS",
            "--kube-api-qps",
            -1,
            "not be a negative number",
        ),
        (
            "kubeAPIBurst",
            "--kube-api-burst",
            -1,
            "not be a negative number",
        ),
        (
            "registryPullQPS",
            "--registry-qps",
            -1,
            "not be a negative number",
        ),
        (
            "registryBurst",
            "--registry-burst",
            -1,
            "not be a negative number",
        ),
        (
            "nodeStatusMaxImages",
            "--node-status-max-images",
            -2,
            "be -1 or greater",
        ),
        (
            "iptablesMasqueradeBit",
            "--iptables-masquerade-bit",
            32,
            "be between 0 and 31, inclusive",
        ),
        (
            "iptablesDropBit",
            "--iptables-drop-bit",
            -1,
            "be between 0 and 31, inclusive",
        ),
    ] {
        refused(
            &json!({field: bad}),
            &[&format!("{field} ({flag}) {bad} must {range}")],
        );
    }
    refused(
        &json!({"nodeLeaseDurationSeconds": -1}),
        &["nodeLeaseDurationSeconds must be greater than 0"],
    );
    for fine in [
        json!({"healthzPort": 0}),
        json!({"nodeStatusMaxImages": -1}),
    ] {
        refused(&fine, &[]);
    }
}

#[test]
fn val_02_image_collection_is_consistent() {
    let high = "imageGCHighThresholdPercent (--image-gc-high-threshold)";
    let low = "imageGCLowThresholdPercent (--image-gc-low-threshold)";
    refused(
        &json!({"imageGCHighThresholdPercent": 101}),
        &[&format!("{high} 101 must be between 0 and 100, inclusive")],
    );
    refused(
        &json!({"imageGCLowThresholdPercent": -1}),
        &[&format!("{low} -1 must be between 0 and 100, inclusive")],
    );
    refused(
        &json!({"imageGCLowThresholdPercent": 85}),
        &[&format!("{low} 85 must be less than {high} 85")],
    );
    refused(
        &json!({"imageMaximumGCAge": "-1s"}),
        &["imageMaximumGCAge -1s must not be negative"],
    );
    refused(
        &json!({"imageMaximumGCAge": "2m"}),
        &["imageMaximumGCAge 2m0s must be greater than imageMinimumGCAge 2m0s"],
    );
    refused(
        &json!({"imageMaximumGCAge": "1h", "featureGates": {"ImageMaximumGCAge": false}}),
        &[
            "ImageMaximumGCAge feature gate is required for Kubelet configuration option \
           imageMaximumGCAge",
        ],
    );
}

#[test]
fn val_03_parallel_pulls_need_serial_off() {
    refused(
        &json!({"maxParallelImagePulls": 0}),
        &["maxParallelImagePulls 0 must be a positive number"],
    );
    refused(
        &json!({"maxParallelImagePulls": 2, "serializeImagePulls": true}),
        &[
            "maxParallelImagePulls cannot be larger than 1 unless SerializeImagePulls \
           (--serialize-image-pulls) is set to false",
        ],
    );
    refused(
        &json!({"maxParallelImagePulls": 2, "serializeImagePulls": false}),
        &[],
    );
}

#[test]
fn val_07_choices_and_the_host_are_respected() {
    refused(
        &json!({"memorySwap": {"swapBehavior": "x"}}),
        &["memorySwap.swapBehavior \"x\" must be one of: \"\", \"LimitedSwap\" or \"NoSwap\""],
    );
    refused(
        &json!({"hairpinMode": "x"}),
        &[
            "option \"x\" specified for hairpinMode (--hairpin-mode). Valid options are \"none\", \
           \"hairpin-veth\" or \"promiscuous-bridge\"",
        ],
    );
    refused(
        &json!({"runOnce": true}),
        &["runOnce (--runOnce) true, Runonce mode has been deprecated and should not be set"],
    );
    let kill = json!({"singleProcessOOMKill": false});
    refused(
        &kill,
        &["singleProcessOOMKill must not be explicitly set to false when using cgroup v1"],
    );
    assert!(problems(kill, V2).is_empty());
    let fail = json!({"failCgroupV1": true});
    assert_eq!(
        problems(fail.clone(), V1),
        [
            "kubelet is configured to not run on a host using cgroup v1. cgroup v1 support is in \
          maintenance mode"
        ]
    );
    assert!(problems(fail, V2).is_empty());
    refused(
        &json!({"cgroupDriver": "x", "configMapAndSecretChangeDetectionStrategy": "y"}),
        &[
            "cgroupDriver (--cgroup-driver) \"x\" must be one of: \"cgroupfs\", or \"systemd\"",
            "configMapAndSecretChangeDetectionStrategy \"y\" must be one of: \"Get\", \"Cache\", \
             or \"Watch\"",
        ],
    );
}

#[test]
fn val_08_gated_values_need_their_gates() {
    let period = "cpuCFSQuotaPeriod (--cpu-cfs-quota-period)";
    let gate = "CustomCPUCFSQuotaPeriod";
    refused(
        &json!({"cpuCFSQuotaPeriod": "5ms"}),
        &[&format!("{period} {{5ms}} requires feature gate {gate}")],
    );
    refused(
        &json!({"cpuCFSQuotaPeriod": "2s", "featureGates": {gate: true}}),
        &[&format!(
            "{period} {{2s}} must be between 1ms and 1sec, inclusive"
        )],
    );
    refused(
        &json!({"cpuCFSQuotaPeriod": "5ms", "featureGates": {gate: true}}),
        &[],
    );
    let restart = |period: &str| json!({"crashLoopBackOff": {"maxContainerRestartPeriod": period}});
    refused(
        &restart("5s"),
        &["FeatureGate KubeletCrashLoopBackOffMax not enabled, \
           CrashLoopBackOff.MaxContainerRestartPeriod must not be set"],
    );
    let mut said = restart("500ms");
    said["featureGates"] = json!({"KubeletCrashLoopBackOffMax": true});
    refused(
        &said,
        &[
            "CrashLoopBackOff.MaxContainerRestartPeriod (got: 0.5 seconds) must be set between 1s \
           and 300s",
        ],
    );
    refused(
        &json!({"memoryThrottlingFactor": 1.5}),
        &["memoryThrottlingFactor 1.5 must be greater than 0 and less than or equal to 1.0"],
    );
    for (ids, problem) in [
        (5, "userNamespaces.idsPerPod must not be less than 65536"),
        (
            65537,
            "userNamespaces.idsPerPod must be a multiple of 65536",
        ),
        (
            1_i64 << 32,
            "userNamespaces.idsPerPod must not be more than 4294967295",
        ),
    ] {
        refused(&json!({"userNamespaces": {"idsPerPod": ids}}), &[problem]);
    }
    refused(
        &json!({
            "imagePullCredentialsVerificationPolicy": "AlwaysVerify",
            "preloadedImagesVerificationAllowlist": ["x"],
        }),
        &[
            "`imagePullCredentialsVerificationPolicy` must not be set if \
             KubeletEnsureSecretPulledImages feature gate is not enabled",
            "`preloadedImagesVerificationAllowlist` must not be set if \
             KubeletEnsureSecretPulledImages feature gate is not enabled",
        ],
    );
    refused(
        &json!({
            "featureGates": {"KubeletEnsureSecretPulledImages": true},
            "imagePullCredentialsVerificationPolicy": "Never",
        }),
        &[
            "option \"Never\" specified for imagePullCredentialsVerificationPolicy. Valid options \
           are \"NeverVerify\", \"NeverVerifyPreloadedImages\", \"NeverVerifyAllowlistedImages\" or \
           \"AlwaysVerify\"",
        ],
    );
}

#[test]
fn val_09_shutdown_periods_fit() {
    refused(
        &json!({"shutdownGracePeriodCriticalPods": "5s"}),
        &["shutdownGracePeriodCriticalPods {5s} must be <= shutdownGracePeriod {0s}"],
    );
    refused(
        &json!({"shutdownGracePeriod": "10ms"}),
        &["shutdownGracePeriod {10ms} must be either zero or otherwise >= 1 sec"],
    );
    let by_priority = json!([{"priority": 1, "shutdownGracePeriodSeconds": 2}]);
    refused(
        &json!({"shutdownGracePeriod": "10s", "shutdownGracePeriodByPodPriority": by_priority}),
        &[
            "Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the \
           same time",
        ],
    );
    refused(
        &json!({"shutdownGracePeriod": "10s", "featureGates": {"GracefulNodeShutdown": false}}),
        &[
            "specifying shutdownGracePeriod or shutdownGracePeriodCriticalPods requires feature gate \
           GracefulNodeShutdown",
        ],
    );
    refused(
        &json!({
            "shutdownGracePeriodByPodPriority": by_priority,
            "featureGates": {"GracefulNodeShutdownBasedOnPodPriority": false},
        }),
        &[
            "Specifying shutdownGracePeriodByPodPriority requires feature gate \
           GracefulNodeShutdownBasedOnPodPriority",
        ],
    );
}

#[test]
fn val_10_logs_and_endpoint_are_usable() {
    refused(
        &json!({"containerLogMaxFiles": 1}),
        &["containerLogMaxFiles must be greater than 1"],
    );
    refused(
        &json!({"containerLogMaxWorkers": 0}),
        &["containerLogMaxWorkers must be greater than or equal to 1"],
    );
    refused(
        &json!({"containerLogMonitorInterval": "2s"}),
        &[
            "containerLogMonitorInterval must be a positive time duration greater than or equal to 3s",
        ],
    );
    refused(
        &json!({"podLogsDir": "a"}),
        &["pod logs path \"a\" must be absolute path"],
    );
    refused(
        &json!({"podLogsDir": "/a//b"}),
        &["pod logs path \"/a//b\" must be normalized"],
    );
    refused(
        &json!({"podLogsDir": "/\u{e9}"}),
        &["pod logs path \"/\u{e9}\" mut contains ASCII characters only"],
    );
    let mut config = KubeletConfiguration::legacy_defaults();
    config.container_runtime_endpoint.clear();
    assert_eq!(
        validate(&config, &FeatureGates::default(), V1),
        ["invalid configuration: the containerRuntimeEndpoint was not specified or empty"]
    );
    refused(
        &json!({"syncFrequency": "-5s"}),
        &["syncFrequency (--sync-frequency) -5s must be greater than 0"],
    );
}

#[test]
fn val_11_log_query_bootstrap_and_taints_are_checked() {
    refused(
        &json!({"enableSystemLogQuery": true, "enableSystemLogHandler": false}),
        &["enableSystemLogHandler is required for enableSystemLogQuery"],
    );
    refused(
        &json!({"enableSystemLogQuery": true, "featureGates": {"NodeLogQuery": false}}),
        &["NodeLogQuery feature gate is required for enableSystemLogHandler"],
    );
    refused(
        &json!({"serverTLSBootstrap": true, "featureGates": {"RotateKubeletServerCertificate": false}}),
        &["serverTLSBootstrap true requires feature gate RotateKubeletServerCertificate"],
    );
    let taint =
        json!({"key": "a b", "value": "x", "effect": "NoSchedule", "timeAdded": "2020-01-01"});
    assert_eq!(
        problems(json!({"registerWithTaints": [taint]}), V1),
        [
            "invalid taint: {a b x NoSchedule 2020-01-01}",
            "invalid configuration: taint.TimeAdded is not nil",
        ]
    );
    assert_eq!(
        problems(json!({"showHiddenMetricsForVersion": "1.30"}), V1),
        [
            "--show-hidden-metrics-for-version must be omitted or have the value '1.33'. Only the \
          previous minor version is allowed"
        ]
    );
    refused(&json!({"showHiddenMetricsForVersion": "1.33"}), &[]);
}

#[test]
fn logging_and_tracing_problems_name_their_fields() {
    assert_eq!(
        problems(
            json!({"logging": {
                "format": "foo",
                "vmodule": [{"filePattern": "a=b", "verbosity": 1}, {"filePattern": ""}],
                "options": {"text": {"splitStream": true}, "json": {"infoBufferSize": "1Ki"}},
            }}),
            V1
        ),
        [
            "logging.format: Invalid value: \"foo\": Unsupported log format",
            "logging.vmodule: Forbidden: Only supported for text log format",
            "logging.vmodule[0]: Invalid value: \"a=b\": File pattern must not contain equal sign or \
             comma",
            "logging.vmodule[1]: Required value: File pattern must not be empty",
            "logging.options.text.splitStream: Forbidden: Feature LoggingAlphaOptions is disabled",
            "logging.options.json.infoBufferSize: Forbidden: Feature LoggingAlphaOptions is disabled",
        ]
    );
    assert_eq!(
        problems(
            json!({"tracing": {"samplingRatePerMillion": 2_000_000, "endpoint": "http://a"}}),
            V1
        ),
        [
            "tracing.samplingRatePerMillion: Invalid value: 2000000: sampling rate per million must \
             be less than or equal to one million",
            "tracing.endpoint: Invalid value: \"http://a\": unsupported scheme: http.  Options are \
             none, dns, unix, or unix-abstract.  See \
             https://github.com/grpc/grpc/blob/master/doc/naming.md",
        ]
    );
}

#[test]
fn all_problems_come_out_together() {
    let found = problems(
        json!({"port": 70000, "maxPods": -1, "containerLogMaxFiles": 1}),
        V1,
    );
    assert_eq!(found.len(), 3);
}
