//! CNI against plugins that are shell scripts: they record what they are told, and misbehave.

mod detached;
mod hostile;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::eventually_async;
use tokio_util::sync::CancellationToken;

use super::{Cni, CniSettings, Pod};
use crate::checkpoint::PortMapping;

const SOON: Duration = Duration::from_secs(20);
/// The answer of a plugin that gives an address.
const ADDRESS: &str = r#"echo '{"cniVersion":"1.0.0","ips":[{"address":"10.9.0.2/24"}]}'"#;
/// A plugin without an opinion hands on what it was given.
const HAND_ON: &str =
    r#"printf '%s' "$input" | sed 's/.*"prevResult":\({.*\)}$/\1/;s/,"runtimeConfig".*//'"#;
const ID: &str = "0123456789abcdef";

/// Directories of a node, with plugins that record.
struct Node {
    dir: TempDir,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["bin", "calls"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Installs a plugin that knows all versions, with these commands for ADD and DEL.
    fn plugin(&self, name: &str, add: &str, del: &str) {
        let calls = self.path("calls");
        let script = format!(
            r#"#!/bin/sh
input=$(cat)
cd '{calls}' || exit 9
env > {name}.$CNI_COMMAND.env
printf '%s' "$input" > {name}.$CNI_COMMAND.in
echo "$CNI_COMMAND {name}" >> log
case $CNI_COMMAND in
VERSION) echo '{{"cniVersion":"1.0.0","supportedVersions":["0.2.0","0.3.1","0.4.0","1.0.0","1.1.0"]}}';;
ADD) {add};;
DEL) {del};;
STATUS) cat status 2>/dev/null && exit 1; exit 0;;
esac
"#,
            calls = calls.display(),
        );
        self.script(name, &script);
    }

    fn script(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn configure(&self, file: &str, config: &Value) {
        fs::create_dir_all(self.path("conf")).unwrap();
        fs::write(self.path("conf").join(file), config.to_string()).unwrap();
    }

    fn new_cni(&self) -> Cni {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Cni::new(CniSettings {
            conf_dir: self.path("conf"),
            bin_dirs: vec![self.path("none"), self.path("bin")],
            cache_dir: self.path("cache"),
            pod_cidr: String::new(),
            environment: vec![
                ("PATH".into(), path),
                ("NOTIFY_SOCKET".into(), "/run/x".into()),
                ("CNI_NETNS".into(), "mine".into()),
            ],
        })
    }

    async fn cni(&self) -> Cni {
        let cni = self.new_cni();
        cni.reload().await;
        cni
    }

    fn recorded(&self, name: &str) -> String {
        fs::read_to_string(self.path("calls").join(name)).unwrap_or_default()
    }

    fn input(&self, name: &str) -> Value {
        serde_json::from_str(&self.recorded(name)).unwrap()
    }

    /// The calls since the last look, but for VERSION.
    fn calls(&self) -> Vec<String> {
        let log = self.recorded("log");
        drop(fs::remove_file(self.path("calls").join("log")));
        let lines = log.lines().filter(|line| !line.starts_with("VERSION"));
        lines.map(str::to_owned).collect()
    }

    fn cached(&self) -> Vec<String> {
        let files = fs::read_dir(self.path("cache/results"))
            .into_iter()
            .flatten();
        let mut names: Vec<String> = files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn network(version: &str, plugins: &[&str]) -> Value {
    let plugins: Vec<Value> = plugins.iter().map(|kind| json!({ "type": kind })).collect();
    json!({"cniVersion": version, "name": "net", "plugins": plugins})
}

fn pod() -> Pod {
    Pod {
        id: ID.to_owned(),
        name: "web".to_owned(),
        namespace: "default".to_owned(),
        uid: "u-1".to_owned(),
        ports: vec![PortMapping {
            protocol: Some("tcp".to_owned()),
            container_port: Some(80),
            host_port: Some(8080),
            host_ip: String::new(),
        }],
        ..Pod::default()
    }
}

fn text(error: &(dyn std::error::Error + 'static)) -> String {
    daemon::ErrorChain(error).to_string()
}

#[tokio::test]
async fn chain_hands_on_results_arguments_and_declared_capabilities() {
    let node = Node::new();
    node.plugin("loopback", ADDRESS, "");
    node.plugin("first", ADDRESS, "");
    node.plugin("second", HAND_ON, "");
    let mut config = network("1.0.0", &["first", "second"]);
    config["plugins"][1]["capabilities"] = json!({"portMappings": true, "bandwidth": false});
    node.configure("10-net.conflist", &config);
    let cni = node.cni().await;
    cni.ready().unwrap();
    assert!(node.calls().is_empty());

    cni.set_up(&pod(), "/proc/7/ns/net", "engine")
        .await
        .unwrap();
    assert_eq!(node.calls(), ["ADD loopback", "ADD first", "ADD second"]);
    let env = node.recorded("first.ADD.env");
    for line in [
        format!("CNI_CONTAINERID={ID}"),
        "CNI_NETNS=/proc/7/ns/net".to_owned(),
        "CNI_IFNAME=eth0".to_owned(),
        format!(
            "CNI_PATH={}:{}",
            node.path("none").display(),
            node.path("bin").display()
        ),
        format!(
            "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID={ID};K8S_POD_UID=u-1"
        ),
    ] {
        assert!(env.lines().any(|l| l == line), "{line} in {env}");
    }
    assert!(!env.contains("NOTIFY_SOCKET"), "{env}");
    let first = node.input("first.ADD.in");
    assert_eq!(
        first,
        json!({"type": "first", "name": "net", "cniVersion": "1.0.0"})
    );
    let second = node.input("second.ADD.in");
    assert_eq!(second["prevResult"]["ips"][0]["address"], "10.9.0.2/24");
    assert_eq!(
        second["runtimeConfig"],
        json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}]})
    );
    assert_eq!(node.cached(), [format!("net-{ID}-eth0")]);
    assert!(cni.has(ID).await);
    assert_eq!(
        cni.cached_addresses(ID).await,
        ["10.9.0.2".parse::<std::net::IpAddr>().unwrap()]
    );

    // Another process, another configuration: the pod goes as it came, backwards.
    node.configure("10-net.conflist", &network("1.0.0", &["loopback"]));
    let cni = node.cni().await;
    let bare = Pod {
        id: ID.to_owned(),
        ..Pod::default()
    };
    cni.tear_down(&bare, "").await.unwrap();
    assert_eq!(node.calls(), ["DEL second", "DEL first"]);
    let second = node.input("second.DEL.in");
    assert_eq!(second["prevResult"]["ips"][0]["address"], "10.9.0.2/24");
    assert_eq!(second["runtimeConfig"]["portMappings"][0]["hostPort"], 8080);
    let env = node.recorded("second.DEL.env");
    assert!(
        env.contains("K8S_POD_NAME=web") && env.contains("CNI_NETNS=\n"),
        "{env}"
    );
    assert!(node.cached().is_empty());
}

#[tokio::test]
async fn old_versions_get_no_previous_result_on_del() {
    let node = Node::new();
    node.plugin("one", r#"echo '{"ip4":{"ip":"10.9.0.2/24"}}'"#, "");
    node.configure(
        "net.conf",
        &json!({"cniVersion": "0.2.0", "name": "net", "type": "one"}),
    );
    let cni = node.cni().await;
    cni.set_up(&pod(), "/x", "").await.unwrap();
    assert_eq!(cni.cached_addresses(ID).await.len(), 1);
    cni.tear_down(&pod(), "/x").await.unwrap();
    assert_eq!(
        node.input("one.DEL.in"),
        json!({"cniVersion": "0.2.0", "name": "net", "type": "one"})
    );
}

#[tokio::test]
async fn failed_teardown_calls_all_tells_all_and_can_be_repeated() {
    let node = Node::new();
    let fail =
        r#"[ ! -e broken ] || { echo '{"code":7,"msg":"no good","details":"why"}'; exit 1; }"#;
    node.plugin("first", ADDRESS, fail);
    node.plugin("second", HAND_ON, fail);
    node.plugin(
        "third",
        HAND_ON,
        r#"echo '{"code":4,"msg":"open /x: no such file or directory"}'; exit 1"#,
    );
    node.configure(
        "net.conflist",
        &network("1.0.0", &["first", "second", "third"]),
    );
    let cni = node.cni().await;
    cni.set_up(&pod(), "/x", "").await.unwrap();
    node.calls();
    fs::write(node.path("calls/broken"), "").unwrap();
    let error = text(&cni.tear_down(&pod(), "/x").await.unwrap_err());
    assert_eq!(
        error,
        "[plugin type=\"second\" failed (delete): no good; why, plugin type=\"first\" failed (delete): no good; why]"
    );
    assert_eq!(node.calls(), ["DEL third", "DEL second", "DEL first"]);
    assert_eq!(node.cached().len(), 1);
    fs::remove_file(node.path("calls/broken")).unwrap();
    cni.tear_down(&pod(), "").await.unwrap();
    assert!(node.cached().is_empty());
    // Nothing is known any more: the network of now is asked, by the id.
    node.calls();
    cni.tear_down(&pod(), "").await.unwrap();
    assert_eq!(node.calls(), ["DEL third", "DEL second", "DEL first"]);
}

#[tokio::test]
async fn without_configuration_teardown_is_done_and_setup_is_not() {
    let node = Node::new();
    let cni = node.cni().await;
    let why = cni.ready().unwrap_err();
    assert!(
        why.starts_with("cni config uninitialized: no networks found in"),
        "{why}"
    );
    assert!(!cni.is_configured());
    cni.tear_down(&pod(), "").await.unwrap();
    cni.tear_down(
        &Pod {
            id: "../x".to_owned(),
            ..pod()
        },
        "",
    )
    .await
    .unwrap();
    let error = cni.set_up(&pod(), "/x", "").await.unwrap_err();
    assert!(text(&error).contains("uninitialized"));
}

/// Its addresses would stay taken for good: the kubelet is to try again.
#[tokio::test]
async fn teardown_fails_while_neither_cache_nor_directory_has_the_configuration() {
    let node = Node::new();
    node.plugin("one", ADDRESS, "");
    node.configure("net.conflist", &network("1.0.0", &["one"]));
    node.cni().await.set_up(&pod(), "/x", "").await.unwrap();
    let results = node.path("cache/results");
    let entry = format!("net-{ID}-eth0");
    fs::write(results.join(&entry), "{").unwrap();
    // The original's, which is not worth an error.
    let lo = format!("cni-loopback-{ID}-eth0");
    fs::write(results.join(lo), "{").unwrap();
    fs::rename(node.path("conf"), node.path("away")).unwrap();
    node.calls();

    let cni = node.cni().await;
    let error = text(&cni.tear_down(&pod(), "/x").await.unwrap_err());
    assert_eq!(
        error,
        "cni config uninitialized: the cached result of network \"net\" can't be read"
    );
    assert_eq!(node.cached(), [entry]);

    fs::rename(node.path("away"), node.path("conf")).unwrap();
    cni.reload().await;
    cni.tear_down(&pod(), "/x").await.unwrap();
    assert_eq!(node.calls(), ["DEL one"]);
    assert!(node.cached().is_empty());
}

#[tokio::test]
async fn broken_files_yield_to_the_next_and_are_named_when_none_is_left() {
    let node = Node::new();
    node.plugin("good", ADDRESS, "");
    fs::create_dir(node.path("conf")).unwrap();
    fs::write(node.path("conf/00.conf"), "{").unwrap();
    node.configure("10.conflist", &network("1.0.0", &["absent"]));
    node.configure("20.conflist", &network("9.0.0", &["good"]));
    let cni = node.cni().await;
    let why = cni.ready().unwrap_err();
    for part in [
        "00.conf",
        "10.conflist: failed to find plugin \"absent\" in path [",
        "does not support config version \"9.0.0\"",
    ] {
        assert!(why.contains(part), "{part} in {why}");
    }
    assert!(cni.is_configured());
    node.configure("30.conflist", &network("1.0.0", &["good"]));
    cni.reload().await;
    cni.ready().unwrap();
    // What was found stays when the files go (CNI-03).
    fs::remove_dir_all(node.path("conf")).unwrap();
    cni.reload().await;
    cni.ready().unwrap();
}

#[tokio::test]
async fn ranges_wait_for_the_pod_cidr_and_the_first_one_counts() {
    let node = Node::new();
    node.plugin("one", ADDRESS, "");
    let mut config = network("1.0.0", &["one"]);
    config["plugins"][0]["capabilities"] = json!({"ipRanges": true});
    node.configure("net.conflist", &config);
    let cni = node.cni().await;
    assert_eq!(
        cni.ready().unwrap_err(),
        "cni config needs ipRanges but no PodCIDR set"
    );
    for cidr in ["", "10.7.0.0/24", "10.8.0.0/24"] {
        cni.set_pod_cidr(cidr);
    }
    cni.set_up(&pod(), "/x", "").await.unwrap();
    assert_eq!(
        node.input("one.ADD.in")["runtimeConfig"],
        json!({"ipRanges": [[{"subnet": "10.7.0.0/24"}]]})
    );
}

#[tokio::test]
async fn pod_of_the_original_is_torn_down_by_its_cache_file() {
    let node = Node::new();
    node.plugin("one", ADDRESS, "");
    node.plugin("other", ADDRESS, "");
    node.configure("net.conflist", &network("1.0.0", &["other"]));
    let list = network("0.4.0", &["one"]).to_string();
    let file = json!({
        "kind": "cniCacheV1", "containerId": ID, "ifName": "eth0", "networkName": "net",
        "config": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, list),
        "cniArgs": [["IgnoreUnknown", "1"], ["K8S_POD_NAME", "web"]],
        "capabilityArgs": {"ipRanges": [[{"subnet": ""}]], "portMappings": []},
        "result": {"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.1.0.9/24"}], "dns": {}},
    });
    fs::create_dir_all(node.path("cache/results")).unwrap();
    let path = node.path(&format!("cache/results/net-{ID}-eth0"));
    fs::write(&path, file.to_string()).unwrap();
    let cni = node.cni().await;
    assert_eq!(cni.remains().await[0].name, "web");
    cni.tear_down(
        &Pod {
            id: ID.to_owned(),
            ..Pod::default()
        },
        "",
    )
    .await
    .unwrap();
    assert_eq!(node.calls(), ["DEL one"]);
    assert_eq!(
        node.input("one.DEL.in")["prevResult"]["ips"][0]["address"],
        "10.1.0.9/24"
    );
    assert!(!path.exists());

    // Its plugins are gone for good: the present network may help. A broken file is no obstacle.
    fs::write(&path, file.to_string()).unwrap();
    fs::remove_file(node.path("bin/one")).unwrap();
    cni.tear_down(&pod(), "").await.unwrap();
    assert_eq!(node.calls(), ["DEL other"]);
    fs::write(&path, "{").unwrap();
    cni.tear_down(&pod(), "").await.unwrap();
    assert_eq!(node.calls(), ["DEL other"]);
    assert!(node.cached().is_empty());
}

#[tokio::test]
async fn missing_plugin_without_a_replacement_is_an_error() {
    let node = Node::new();
    node.plugin("one", ADDRESS, "");
    node.configure("net.conflist", &network("1.0.0", &["one"]));
    let cni = node.cni().await;
    cni.set_up(&pod(), "/x", "").await.unwrap();
    fs::remove_file(node.path("bin/one")).unwrap();
    let error = text(&cni.tear_down(&pod(), "").await.unwrap_err());
    assert!(error.contains("failed to find plugin \"one\""), "{error}");
    assert_eq!(node.cached().len(), 1);
}

#[tokio::test]
async fn status_of_new_plugins_is_asked_and_kept_for_a_while() {
    let node = Node::new();
    node.plugin("one", ADDRESS, "");
    node.configure("net.conflist", &network("1.1.0", &["one"]));
    fs::write(
        node.path("calls/status"),
        r#"{"code":50,"msg":"no link yet"}"#,
    )
    .unwrap();
    let cni = node.cni().await;
    let why = cni.status().await.unwrap_err();
    assert_eq!(why, "plugin type=\"one\" failed (status): no link yet");
    assert_eq!(cni.status().await.unwrap_err(), why);
    assert_eq!(node.calls(), ["STATUS one"]);
    // Old networks have no such question.
    node.configure("net.conflist", &network("1.0.0", &["one"]));
    cni.reload().await;
    cni.status().await.unwrap();
    assert!(node.calls().is_empty());
}

#[tokio::test]
async fn configuration_and_plugins_are_noticed_when_they_appear() {
    let node = Node::new();
    let deep = node.path("etc/cni");
    let cni = Arc::new(Cni {
        conf_dir: deep.clone(),
        ..node.new_cni()
    });
    let tasks = daemon::TaskGroup::new("test");
    let token = CancellationToken::new();
    tasks.spawn_job("cni", Arc::clone(&cni).run(token.clone()));
    let becomes = |part: &'static str| {
        let cni = Arc::clone(&cni);
        eventually_async(SOON, move || {
            let state = cni.ready().err().unwrap_or_default();
            async move {
                if state.contains(part) == part.is_empty() && !state.is_empty() {
                    return Err(state);
                }
                if part.is_empty() && !state.is_empty() {
                    Err(state)
                } else {
                    Ok(())
                }
            }
        })
    };
    becomes("no networks found").await;
    fs::create_dir_all(&deep).unwrap();
    // Written elsewhere and moved in, as installers do.
    let file = node.path("new");
    fs::write(&file, network("1.0.0", &["late"]).to_string()).unwrap();
    fs::rename(&file, deep.join("10.conflist")).unwrap();
    becomes("failed to find plugin \"late\"").await;
    node.plugin("late", ADDRESS, "");
    becomes("").await;
    token.cancel();
    tasks.joined().await;
}

fn running(path: &Path) -> bool {
    let pid = fs::read_to_string(path).unwrap_or_default();
    !pid.trim().is_empty() && Path::new("/proc").join(pid.trim()).join("stat").exists()
}
