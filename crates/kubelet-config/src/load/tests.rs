use std::fs;

use super::*;

const HEAD: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
/// What a file must say for a kubelet that stands alone (TOP-02).
const ALONE: &str =
    "authentication: {webhook: {enabled: false}}\nauthorization: {mode: AlwaysAllow}\n";
const HOST: HostFacts = HostFacts { cgroup_v2: true };

fn command(args: &[&str]) -> Result<Command, Failure> {
    load(args.iter().map(OsString::from), HOST)
}

fn settings(args: &[&str]) -> Settings {
    match command(args) {
        Ok(Command::Run(run)) => run.settings,
        other => panic!("{args:?}: {other:?}"),
    }
}

fn error(args: &[&str]) -> String {
    command(args).expect_err("must fail").to_string()
}

fn print(args: &[&str]) -> String {
    match command(args) {
        Ok(Command::Print(text)) => text,
        other => panic!("{args:?}: {other:?}"),
    }
}

struct ConfigFile {
    _directory: tempfile::TempDir,
    argument: String,
    path: String,
}

fn file(body: &str) -> ConfigFile {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("kubelet.yaml");
    fs::write(&path, format!("{HEAD}{body}")).expect("written");
    let path = path.display().to_string();
    ConfigFile {
        _directory: directory,
        argument: format!("--config={path}"),
        path,
    }
}

#[test]
fn flags_only_start_has_the_open_legacy_defaults() {
    let settings = settings(&[]);
    let servers = &settings.servers;
    assert!(servers.anonymous && servers.webhook_authentication.is_none());
    assert_eq!(servers.authorization, crate::AuthorizationMode::AlwaysAllow);
    assert_eq!(servers.read_only, "0.0.0.0:10255".parse().ok());
    assert_eq!(servers.health, "127.0.0.1:10248".parse().ok());
    assert_eq!(servers.api, "0.0.0.0:10250".parse().ok());
    assert!(settings.eviction.thresholds.is_empty());
    let [warning] = settings.warnings() else {
        panic!("{:?}", settings.warnings())
    };
    assert_eq!(warning.severity, Severity::Error);
    assert!(
        self::settings(&["--address=127.0.0.1"])
            .warnings()
            .is_empty()
    );
}

#[test]
fn a_file_brings_the_secure_defaults() {
    let file = file(ALONE);
    let settings = settings(&[&file.argument]);
    assert!(!settings.servers.anonymous);
    assert_eq!(settings.servers.read_only, None);
    assert_eq!(settings.eviction.thresholds.len(), 5);
    assert_eq!(settings.node.max_pods, 110);
    assert!(settings.warnings().is_empty(), "{:?}", settings.warnings());
}

#[test]
fn webhooks_need_an_api_server() {
    assert_eq!(
        error(&[&file("").argument]),
        "failed to run Kubelet: no client provided, cannot use webhook authentication"
    );
    assert_eq!(
        error(&[&file("authentication: {webhook: {enabled: false}}\n").argument]),
        "failed to run Kubelet: no client provided, cannot use webhook authorization"
    );
    assert_eq!(
        error(&["--authorization-mode=foo"]),
        "failed to run Kubelet: unknown authorization mode foo"
    );
}

#[test]
fn precedence_is_default_file_drop_in_flag() {
    let file = file(&format!(
        "{ALONE}maxPods: 1\npodsPerCore: 1\nregistryBurst: 1\n"
    ));
    let directory = tempfile::tempdir().expect("a directory");
    let drop_in = format!("{HEAD}podsPerCore: 2\nregistryBurst: 2\n");
    fs::write(directory.path().join("1.conf"), drop_in).expect("written");
    let drop_ins = format!("--config-dir={}", directory.path().display());
    let settings = settings(&[&file.argument, &drop_ins, "--registry-burst=3"]);
    assert_eq!(settings.node.max_pods, 1);
    assert_eq!(settings.node.pods_per_core, Some(2));
    assert_eq!(settings.images.pull_burst, 3);
    assert_eq!(settings.images.pull_qps, Some(5));
}

#[test]
fn gates_merge_key_by_key_and_flags_win() {
    let file = file(&format!(
        "{ALONE}featureGates: {{EnvFiles: true, ImageVolume: false}}\n"
    ));
    let settings = settings(&[
        &file.argument,
        "--feature-gates=EnvFiles=false,EventedPLEG=true",
    ]);
    let gates = settings.gates;
    assert!(!gates.env_files && !gates.image_volume && gates.evented_pleg);
}

#[test]
fn commands_that_print_do_nothing_else() {
    let version = print(&["--version"]);
    assert!(version.starts_with("Kubernetes v1.34."), "{version}");
    assert!(print(&["--version=raw", "--kubeconfig=x"]).starts_with("version.Info{Major:\"1\""));
    let help = print(&["--help", "--version"]);
    assert!(help.contains("Usage:\n  kubelet [flags]\n\nFlags:\n"));
    assert!(help.contains("      --sync-frequency duration "));
    let own = format!("--version={}-mine", Version::built_in());
    assert!(settings(&[&own]).version.as_str().ends_with("-mine"));
}

/// Recorded from upstream's kubelet v1.34 (PROC-03).
#[test]
fn failures_are_worded_as_upstream_words_them() {
    for (args, expected) in [
        (&["foo"][..], "unknown command foo"),
        (
            &["--exit-on-lock-contention"],
            "failed to run Kubelet: cannot exit on lock file contention: no lock file specified",
        ),
        (
            &["--nope"],
            "failed to parse kubelet flag: unknown flag: --nope",
        ),
        (
            &["--feature-gates=SidecarContainers=false"],
            "failed to set feature gates from initial flags-based config: cannot set feature gate \
             SidecarContainers to false, feature is locked to true",
        ),
        (
            &["--feature-gates=Foo=true"],
            "failed to set feature gates from initial flags-based config: unrecognized feature \
             gate: Foo",
        ),
        (
            &["--node-labels=kubernetes.io/x=1"],
            "failed to validate kubelet flags: unknown 'kubernetes.io' or 'k8s.io' labels specified \
             with --node-labels: [kubernetes.io/x]\n--node-labels in the 'kubernetes.io' namespace \
             must begin with an allowed prefix (kubelet.kubernetes.io, node.kubernetes.io) or be in \
             the specifically allowed set (beta.kubernetes.io/arch, \
             beta.kubernetes.io/instance-type, beta.kubernetes.io/os, \
             failure-domain.beta.kubernetes.io/region, failure-domain.beta.kubernetes.io/zone, \
             kubernetes.io/arch, kubernetes.io/hostname, kubernetes.io/os, \
             node.kubernetes.io/instance-type, topology.kubernetes.io/region, \
             topology.kubernetes.io/zone)",
        ),
        (
            &["--config=/nonexistent"],
            "failed to load kubelet config file, path: /nonexistent, error: failed to load Kubelet \
             config file /nonexistent, error failed to read kubelet config file \"/nonexistent\", \
             error: open /nonexistent: no such file or directory",
        ),
        (
            &["--config-dir=/nonexist"],
            "failed to merge kubelet configs: failed to walk through kubelet dropin directory \
             \"/nonexist\": lstat /nonexist: no such file or directory",
        ),
        (
            &["--logging-format=foo"],
            "initialize logging: logging.format: Invalid value: \"foo\": Unsupported log format",
        ),
        (
            &["--healthz-port=70000", "--port=0", "--max-pods=-1"],
            "failed to validate kubelet configuration, error: [invalid configuration: healthzPort \
             (--healthz-port) 70000 must be between 1 and 65535, inclusive, invalid configuration: \
             maxPods (--max-pods) -1 must not be a negative number, invalid configuration: port \
             (--port) 0 must be between 1 and 65535, inclusive], path: {command line}",
        ),
    ] {
        assert_eq!(error(args), expected, "{args:?}");
    }
}

#[test]
fn connected_mode_is_refused_in_one_line() {
    for flag in ["kubeconfig", "bootstrap-kubeconfig"] {
        let message = error(&[&format!("--{flag}=/x")]);
        assert!(
            message.contains("connected mode does not stand yet"),
            "{message}"
        );
        assert_eq!(message.lines().count(), 1);
        assert!(
            command(&[&format!("--{flag}=")]).is_ok(),
            "empty means standalone"
        );
    }
}

#[test]
fn deprecation_notices_come_even_with_a_failure() {
    let notice = "Flag --max-pods has been deprecated, This parameter should be set via the config \
                  file specified by the Kubelet's --config flag. See \
                  https://kubernetes.io/docs/tasks/administer-cluster/kubelet-config-file/ for more \
                  information.";
    let Ok(Command::Run(run)) = command(&["--max-pods=5", "-v=2"]) else {
        panic!("must run")
    };
    assert_eq!(run.notices, [notice]);
    assert_eq!(
        command(&["--max-pods=5", "--nope"])
            .expect_err("unknown")
            .notices,
        [notice]
    );
}

#[test]
fn ignored_options_are_named_once() {
    let file = file(&format!(
        "{ALONE}evictionSoft: {{}}\nshutdownGracePeriod: 5s\nregisterNode: true\n"
    ));
    let args = [
        &file.argument,
        "--register-node=true",
        "--log-cadvisor-usage",
        "--sync-frequency=5s",
    ];
    let settings = settings(&args);
    let options: Vec<&str> = settings
        .warnings()
        .iter()
        .map(|line| line.fields[0].1.as_str())
        .collect();
    assert_eq!(
        options,
        [
            "--log-cadvisor-usage",
            "--register-node",
            "evictionSoft",
            "shutdownGracePeriod"
        ]
    );
    assert!(
        settings
            .warnings()
            .iter()
            .all(|line| line.severity == Severity::Warning)
    );
}

#[test]
fn unknown_fields_are_a_line_in_the_log() {
    let file = file(&format!("{ALONE}foo: 1\n"));
    let settings = settings(&[&file.argument]);
    let [line] = settings.warnings() else {
        panic!("{:?}", settings.warnings())
    };
    assert_eq!(
        line.message,
        "Using lenient decoding as strict decoding failed"
    );
    assert_eq!(
        line.fields[0].1,
        "strict decoding error: unknown field \"foo\""
    );
}

#[test]
fn problems_of_parts_come_with_those_of_validation() {
    let file = file(&format!(
        "{ALONE}port: 70000\nevictionHard: {{foo: \"1\"}}\nsystemReserved: {{gpu: \"1\"}}\n\
         containerLogMaxSize: big\naddress: here\n"
    ));
    let message = error(&[&file.argument, "--node-ip=1.1.1.1,2.2.2.2"]);
    for part in [
        "port (--port) 70000 must be between",
        "evictionHard (--eviction-hard): unsupported eviction signal foo",
        "--system-reserved value failed to parse: cannot reserve \"gpu\" resource",
        "containerLogMaxSize (--container-log-max-size) \"big\"",
        "address (--address) \"here\" is not a valid IP address",
        "bad --node-ip \"1.1.1.1,2.2.2.2\": must contain either a single IP or a dual-stack pair",
        &format!("path: {{{}}}", file.path),
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn node_addresses_follow_flag_06() {
    let ips = |text: &str| settings(&[&format!("--node-ip={text}")]).node.ips;
    assert_eq!(ips("").len(), 0);
    assert_eq!(
        ips("::"),
        ["::".parse::<std::net::IpAddr>().expect("an address")]
    );
    assert_eq!(ips("10.0.0.1, fd00::1").len(), 2);
    assert_eq!(
        ips("x,10.0.0.1").len(),
        1,
        "unreadable ones are logged and left out"
    );
    assert!(error(&["--node-ip=0.0.0.0,fd00::1"]).contains("dual-stack node IP cannot include"));
}

#[test]
fn settings_have_units_and_types() {
    let settings = settings(&[
        "--container-log-max-size=1Mi",
        "--kube-reserved=cpu=1500m,memory=1Gi,pid=10",
        "--eviction-hard=memory.available<1Gi,nodefs.available<10%,imagefs.available<0%",
        "--eviction-soft=memory.available<2Gi",
        "--eviction-soft-grace-period=memory.available=90s",
        "--eviction-minimum-reclaim=memory.available=100Mi",
        "--hostname-override= MyNode ",
        "--cluster-dns=10.0.0.10,nonsense",
        "--resolv-conf=",
        "--pod-max-pids=100",
        "--node-labels=a=b,c",
        "--streaming-connection-idle-timeout=0",
        "--reserved-cpus=0-1",
        "--pod-manifest-path=/etc/kubernetes/manifests/../manifests/",
        "--seccomp-default",
    ]);
    assert_eq!(settings.container_logs.max_size_bytes, Some(1 << 20));
    assert_eq!(settings.resources.kube_reserved.memory_bytes, 1 << 30);
    assert_eq!(
        settings.resources.kube_reserved.cpu_millicores, 0,
        "reserved CPUs replace it"
    );
    assert_eq!(settings.resources.system_reserved.cpu_millicores, 2000);
    let [memory, disk, soft] = settings.eviction.thresholds[..] else {
        panic!("three thresholds")
    };
    assert_eq!(memory.value, crate::ThresholdValue::Amount(1 << 30));
    assert_eq!(
        memory.min_reclaim,
        Some(crate::ThresholdValue::Amount(100 << 20))
    );
    assert_eq!(disk.value, crate::ThresholdValue::Fraction(0.1));
    assert_eq!(soft.grace_period.as_secs(), 90);
    assert_eq!(settings.node_name("host").as_deref(), Some("mynode"));
    assert_eq!(settings.dns.cluster_dns.len(), 1);
    assert_eq!(settings.dns.resolv_conf, None);
    assert_eq!(settings.cgroups.pod_pids_limit, Some(100));
    assert_eq!(settings.node.labels["c"], "");
    assert_eq!(settings.servers.streaming_idle_timeout, None);
    assert_eq!(
        settings.sources.static_pod_path.as_deref(),
        Some(Path::new("/etc/kubernetes/manifests"))
    );
    assert!(settings.security.seccomp_default);
    assert_eq!(settings.paths.root_dir, Path::new("/var/lib/kubelet"));
    assert_eq!(settings.runtime.image_endpoint, settings.runtime.endpoint);
}

#[test]
fn secrets_stay_out_of_logs() {
    let args = [
        "--manifest-url=http://x/",
        "--manifest-url-header=Authorization:s3cr3t",
    ];
    let Ok(Command::Run(run)) = command(&args) else {
        panic!("must run")
    };
    assert!(!format!("{run:?}").contains("s3cr3t"));
    let headers = &run.settings.effective["staticPodURLHeader"];
    assert_eq!(headers, &serde_json::json!({"Authorization": ["<masked>"]}));
    assert_eq!(run.settings.effective["kind"], "KubeletConfiguration");
    let url = run.settings.sources.static_pod_url.expect("set");
    assert_eq!(url.headers["Authorization"], ["s3cr3t"]);
    assert!(
        run.flags
            .contains(&("manifest-url", "http://x/".to_owned()))
    );
}

/// NODE-40, NODE-41.
#[test]
fn the_shipped_configuration_loads() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/dockerd.yml");
    let settings = settings(&[&format!("--config={path}")]);
    assert_eq!(
        settings.runtime.endpoint,
        "unix:///var/run/cri-dockerd.sock"
    );
    assert_eq!(
        settings.sources.static_pod_path.as_deref(),
        Some(Path::new("/etc/kubernetes/manifests"))
    );
    assert_eq!(settings.servers.read_only, "127.0.0.1:10255".parse().ok());
    assert_eq!(settings.servers.health, "127.0.0.1:10248".parse().ok());
    assert_eq!(settings.servers.api, "127.0.0.1:10250".parse().ok());
    assert!(!settings.node.fail_swap_on);
    assert_eq!(settings.logging.verbosity, 2);
    assert_eq!(settings.eviction.thresholds.len(), 5);
    assert!(!settings.servers.anonymous, "nobody unknown gets in");
    let warnings = settings.warnings();
    assert!(
        warnings.is_empty(),
        "what we ship warns of nothing: {warnings:?}"
    );
}

mod any_command_line {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn ends_without_a_panic(
            flag in proptest::sample::select(crate::flag_rows()),
            value in "[a-z0-9=:,<%.-]{0,12}",
        ) {
            let argument = format!("--{}={value}", flag.name);
            let _ = command(&[&argument]);
        }
    }
}
