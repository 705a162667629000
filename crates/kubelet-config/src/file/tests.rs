use serde_json::json;

use super::*;

const HEAD: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";

struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().expect("a directory"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("inside")).expect("made");
        fs::write(&path, text).expect("written");
        path
    }
}

fn load_text(text: &str) -> Result<Loaded, FileError> {
    let files = Files::new();
    load(&files.write("kubelet.yaml", text))
}

fn config_of(body: &str) -> KubeletConfiguration {
    load_text(&format!("{HEAD}{body}"))
        .unwrap_or_else(|error| panic!("{body}: {error}"))
        .config
}

#[test]
fn yaml_and_json_are_read_and_defaulted() {
    let config = config_of("maxPods: 7\nsyncFrequency: 90s\nauthentication:\n  webhook: {}\n");
    assert_eq!(config.max_pods, 7);
    assert_eq!(config.sync_frequency.to_string(), "1m30s");
    assert_eq!(config.authentication.webhook.enabled, Some(true));
    assert_eq!(config.read_only_port, 0);
    let text = json!({"apiVersion": API_VERSION, "kind": KIND, "maxPods": 7}).to_string();
    assert_eq!(load_text(&text).expect("valid").config.max_pods, 7);
}

#[test]
fn null_means_not_said() {
    let config = config_of("maxPods: null\nlogging: null\nevictionHard: null\nenableServer: ~\n");
    assert_eq!((config.max_pods, config.enable_server), (110, Some(true)));
    assert_eq!(config.eviction_hard.expect("defaulted").len(), 5);
}

#[test]
fn thresholds_default_unless_said() {
    assert_eq!(
        config_of("").eviction_hard.expect("defaulted")["memory.available"],
        "100Mi"
    );
    let own = config_of("evictionHard: {memory.available: 1Gi}\n")
        .eviction_hard
        .expect("said");
    assert_eq!(own.len(), 1);
    let merged =
        config_of("evictionHard: {memory.available: 1Gi}\nmergeDefaultEvictionSettings: true\n");
    let merged = merged.eviction_hard.expect("merged");
    assert_eq!(
        (merged.len(), merged["memory.available"].as_str()),
        (5, "1Gi")
    );
    assert_eq!(KubeletConfiguration::legacy_defaults().eviction_hard, None);
}

#[test]
fn status_report_follows_the_update_frequency() {
    assert_eq!(
        config_of("").node_status_report_frequency.to_string(),
        "5m0s"
    );
    let config = config_of("nodeStatusUpdateFrequency: 7s\n");
    assert_eq!(config.node_status_report_frequency.to_string(), "7s");
}

#[test]
fn parallel_pulls_turn_serial_pulls_off() {
    assert_eq!(config_of("").serialize_image_pulls, Some(true));
    assert_eq!(
        config_of("maxParallelImagePulls: 1\n").serialize_image_pulls,
        Some(true)
    );
    assert_eq!(
        config_of("maxParallelImagePulls: 2\n").serialize_image_pulls,
        Some(false)
    );
}

#[test]
fn gates_bring_their_defaults() {
    assert_eq!(
        config_of("")
            .crash_loop_back_off
            .max_container_restart_period,
        None
    );
    let config = config_of("featureGates: {KubeletCrashLoopBackOffMax: true}\n");
    let period = config
        .crash_loop_back_off
        .max_container_restart_period
        .expect("defaulted");
    assert_eq!(period.to_string(), "5m0s");
    let config = config_of("featureGates: {KubeletEnsureSecretPulledImages: true}\n");
    assert_eq!(
        config.image_pull_credentials_verification_policy,
        "NeverVerifyPreloadedImages"
    );
}

#[test]
fn unknown_fields_and_repeated_keys_are_only_noted() {
    let text = format!("{HEAD}foo: 1\nport: 1\nport: 2\nauthentication: {{bar: 2}}\n");
    let loaded = load_text(&text).expect("lenient");
    assert_eq!(loaded.config.port, 2);
    assert_eq!(
        loaded.lenient.expect("noted"),
        "strict decoding error: yaml: unmarshal errors:\n  line 5: key \"port\" already set in \
         map, unknown field \"authentication.bar\", unknown field \"foo\""
    );
    let set: Vec<&str> = loaded.set.iter().map(|field| field.path).collect();
    assert_eq!(set, ["port"]);
}

#[test]
fn wrong_files_are_refused() {
    for (text, expected) in [
        ("", "was empty"),
        ("# x\n", "failed to decode: Object 'Kind' is missing"),
        ("port: 1\n", "failed to decode: Object 'Kind' is missing"),
        (
            "kind: KubeletConfiguration\n",
            "failed to decode: Object 'apiVersion' is missing",
        ),
        ("a", "json: cannot unmarshal string into an object"),
        (
            "apiVersion: kubelet.config.k8s.io/v1\nkind: KubeletConfiguration\n",
            "failed to decode: no kind \"KubeletConfiguration\" is registered for version \
             \"kubelet.config.k8s.io/v1\"",
        ),
        ("a: [", "failed to decode: yaml: "),
    ] {
        let message = load_text(text).expect_err(text).to_string();
        assert!(message.contains(expected), "{text:?}: {message}");
    }
    let message = load_text(&format!("{HEAD}port: abc\nmaxPods: x\n")).expect_err("types");
    assert_eq!(
        message.to_string(),
        "failed to decode: [json: port: cannot unmarshal string into a field of type int32, json: \
         maxPods: cannot unmarshal string into a field of type int32]"
    );
    let message = load(Path::new("/nonexistent"))
        .expect_err("absent")
        .to_string();
    assert_eq!(
        message,
        "failed to read kubelet config file \"/nonexistent\", error: open /nonexistent: no such \
         file or directory"
    );
    assert!(
        load(Path::new("/"))
            .expect_err("a directory")
            .to_string()
            .contains("is a directory")
    );
}

#[test]
fn a_huge_file_is_refused() {
    let text = format!("{HEAD}staticPodPath: {}\n", "a".repeat(2 << 20));
    let message = load_text(&text).expect_err("too large").to_string();
    assert!(message.contains("over the limit"), "{message}");
}

#[test]
fn relative_paths_count_from_the_file() {
    let files = Files::new();
    let body = "staticPodPath: manifests\nresolvConf: ../resolv.conf\npodLogsDir: /logs\n\
                authentication: {x509: {clientCAFile: ca.crt}}\n";
    let path = files.write("etc/kubelet.yaml", &format!("{HEAD}{body}"));
    let config = load(&path).expect("valid").config;
    let at = |name: &str| files.path(name).display().to_string();
    assert_eq!(config.static_pod_path, at("etc/manifests"));
    assert_eq!(config.resolv_conf, Some(at("resolv.conf")));
    assert_eq!(config.authentication.x509.client_ca_file, at("etc/ca.crt"));
    assert_eq!(config.pod_logs_dir, "/logs");
    assert_eq!(config.tls_cert_file, "");
    let empty = load(&files.write("e.yaml", &format!("{HEAD}resolvConf: \"\"\n"))).expect("valid");
    assert_eq!(empty.config.resolv_conf.as_deref(), Some(""));
}

#[test]
fn drop_ins_merge_in_lexical_order() {
    let files = Files::new();
    let mut config =
        config_of("maxPods: 1\nevictionHard: {a: \"1\"}\nclusterDNS: [1.1.1.1, 2.2.2.2]\n");
    files.write(
        "d/20.conf",
        &format!("{HEAD}maxPods: 20\nevictionHard: {{c: \"3\"}}\n"),
    );
    files.write(
        "d/10.conf",
        &format!("{HEAD}maxPods: 10\npodsPerCore: 10\nevictionHard: {{b: \"2\"}}\n"),
    );
    files.write(
        "d/15.d/x.conf",
        &format!("{HEAD}podsPerCore: 15\nclusterDNS: [3.3.3.3]\nfoo: 1\n"),
    );
    files.write("d/99.yaml", "not read");
    let set = merge_drop_ins(&mut config, &files.path("d")).expect("valid");
    assert_eq!((config.max_pods, config.pods_per_core), (20, 15));
    assert_eq!(
        config
            .eviction_hard
            .expect("merged")
            .into_keys()
            .collect::<String>(),
        "abc"
    );
    assert_eq!(config.cluster_dns.expect("replaced"), ["3.3.3.3"]);
    assert!(set.iter().any(|field| field.path == "podsPerCore"));
}

#[test]
fn null_in_a_drop_in_brings_the_default_back() {
    let files = Files::new();
    let mut config = config_of("maxPods: 1\nevictionHard: {a: \"1\"}\nstaticPodPath: /x\n");
    let body = "maxPods: null\nevictionHard: null\nstaticPodPath: null\n";
    files.write("d/1.conf", &format!("{HEAD}{body}"));
    merge_drop_ins(&mut config, &files.path("d")).expect("valid");
    assert_eq!(
        (config.max_pods, config.static_pod_path.as_str()),
        (110, "")
    );
    assert_eq!(
        config.eviction_hard, None,
        "only a file's own silence brings thresholds"
    );
}

#[test]
fn drop_ins_keep_legacy_defaults_without_a_file() {
    let files = Files::new();
    let mut config = KubeletConfiguration::legacy_defaults();
    files.write(
        "d/1.conf",
        &format!("{HEAD}maxPods: 5\nstaticPodPath: rel\n"),
    );
    merge_drop_ins(&mut config, &files.path("d")).expect("valid");
    assert_eq!((config.max_pods, config.read_only_port), (5, 10255));
    assert_eq!(config.authorization.mode, "AlwaysAllow");
    assert_eq!(config.static_pod_path, "rel", "not resolved");
}

#[test]
fn wrong_drop_ins_are_refused() {
    let directory = "failed to walk through kubelet dropin directory";
    for (text, expected) in [
        ("maxPods: 1\n".to_owned(), "no apiVersion/kind"),
        (
            "apiVersion: v1\nkind: Pod\n".to_owned(),
            "unknown apiVersion/kind: v1, Kind=Pod",
        ),
        (
            format!("{HEAD}maxPods: 1\nmaxPods: 2\n"),
            "error: strict decoding error: yaml: unmarshal errors:\n  line 4: key \"maxPods\" \
             already set in map",
        ),
        (String::new(), "was empty"),
    ] {
        let files = Files::new();
        files.write("d/1.conf", &text);
        let mut config = config_of("");
        let message = merge_drop_ins(&mut config, &files.path("d"))
            .expect_err("bad")
            .to_string();
        assert!(
            message.starts_with(directory) && message.contains(expected),
            "{message}"
        );
        assert!(
            message.contains("failed to load kubelet dropin file, path: "),
            "{message}"
        );
    }
    let message = merge_drop_ins(&mut config_of(""), Path::new("/nonexist")).expect_err("absent");
    assert_eq!(
        message.to_string(),
        format!("{directory} \"/nonexist\": lstat /nonexist: no such file or directory")
    );
    let files = Files::new();
    files.write("d/1.conf", &format!("{HEAD}maxPods: x\n"));
    let message = merge_drop_ins(&mut config_of(""), &files.path("d")).expect_err("types");
    assert!(
        message
            .to_string()
            .starts_with("failed to unmarshal merged JSON"),
        "{message}"
    );
}

#[test]
fn patches_follow_rfc_7386() {
    // The RFC's own examples.
    for (target, patch, expected) in [
        (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
        (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
        (json!({"a":"b"}), json!({"a":null}), json!({})),
        (
            json!({"a":"b","b":"c"}),
            json!({"a":null}),
            json!({"b":"c"}),
        ),
        (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
        (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
        (
            json!({"a":{"b":"c"}}),
            json!({"a":{"b":"d","c":null}}),
            json!({"a":{"b":"d"}}),
        ),
        (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
        (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
        (json!({"a":"b"}), json!(["c"]), json!(["c"])),
        (json!({"a":"foo"}), json!(null), json!(null)),
        (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
        (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
        (
            json!({}),
            json!({"a":{"bb":{"ccc":null}}}),
            json!({"a":{"bb":{}}}),
        ),
    ] {
        let mut merged = target.clone();
        merge_patch(&mut merged, &patch);
        assert_eq!(merged, expected, "{target} with {patch}");
    }
}
