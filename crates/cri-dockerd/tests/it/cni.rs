//! Pods on CNI, with the plugins that distributions ship, over a real Docker Engine.
//!
//! The plugins' own state is looked at, since that is where leaks hide: leases, ports of the bridge,
//! chains of the host's packet filter, cached results.

mod network;

use std::collections::BTreeMap;
use std::fs;

use cri_api::v1;
use serde_json::{Value, json};
use testkit::{DockerEngine, eventually_async};

use self::network::{Network, plugins_are_installed, run};
use crate::harness::{Pod, SOON, Server, engine_with_image, has_sysctls, start, with_sysctls};

async fn sandbox(server: &Server, id: &str) -> v1::PodSandboxStatus {
    let request = v1::PodSandboxStatusRequest {
        pod_sandbox_id: id.to_owned(),
        verbose: false,
    };
    let answer = server.client.clone().pod_sandbox_status(request).await;
    answer.unwrap().into_inner().status.unwrap()
}

async fn ip(server: &Server, id: &str) -> String {
    sandbox(server, id).await.network.unwrap().ip
}

async fn stop(server: &mut Server, id: &str) -> Result<(), tonic::Status> {
    let request = v1::StopPodSandboxRequest {
        pod_sandbox_id: id.to_owned(),
    };
    server.client.stop_pod_sandbox(request).await.map(drop)
}

async fn remove(server: &mut Server, id: &str) {
    let request = v1::RemovePodSandboxRequest {
        pod_sandbox_id: id.to_owned(),
    };
    server.client.remove_pod_sandbox(request).await.unwrap();
}

async fn listed(server: &Server) -> BTreeMap<String, v1::PodSandbox> {
    let request = v1::ListPodSandboxRequest::default();
    let answer = server.client.clone().list_pod_sandbox(request).await;
    let items = answer.unwrap().into_inner().items.into_iter();
    items.map(|item| (item.id.clone(), item)).collect()
}

/// A port that nobody uses, nor a test that failed before: its rules may still be there.
fn free_port() -> i32 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().into()
}

fn with_port(name: &str, container_port: i32, host_port: i32) -> v1::PodSandboxConfig {
    let mut config = Pod::config(name);
    config.port_mappings = vec![v1::PortMapping {
        protocol: v1::Protocol::Tcp.into(),
        container_port,
        host_port,
        host_ip: String::new(),
    }];
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn pod_on_cni_lives_through_a_crash_of_ours_and_leaves_no_trace() {
    if !plugins_are_installed() {
        return;
    }
    let engine = engine_with_image(DockerEngine::shared()).await;
    let network = Network::new(&[]);
    let mut server = Server::start_with(&engine.host(), network.flags()).await;
    let status = server
        .client
        .status(v1::StatusRequest { verbose: false })
        .await;
    let conditions = status.unwrap().into_inner().status.unwrap().conditions;
    assert!(
        conditions.iter().all(|condition| condition.status),
        "{conditions:?}"
    );

    let port = free_port();
    let pod = Pod::run(&mut server, with_port("cni", 8000, port)).await;
    let address = ip(&server, &pod.id).await;
    assert!(address.starts_with(&network.prefix), "{address}");
    assert_eq!(network.leases(), std::slice::from_ref(&address));
    let id = pod
        .create(
            &mut server,
            "web",
            "echo hello > /tmp/index.html; httpd -f -p 8000 -h /tmp",
        )
        .await;
    start(&mut server, &id).await;
    // Over lo, over the pod's address from the node, and over the host port.
    eventually_async(SOON, || {
        let client = server.client.clone();
        let id = id.clone();
        async move {
            let request = v1::ExecSyncRequest {
                container_id: id,
                cmd: ["wget", "-q", "-O-", "http://127.0.0.1:8000/index.html"]
                    .map(str::to_owned)
                    .to_vec(),
                timeout: 5,
            };
            let answer = client
                .clone()
                .exec_sync(request)
                .await
                .map_err(|e| e.to_string())?;
            let text = String::from_utf8_lossy(&answer.get_ref().stdout).into_owned();
            if text == "hello\n" { Ok(()) } else { Err(text) }
        }
    })
    .await;
    let fetch = |url: String| run("curl", &["-s", "-m", "5", &url]);
    assert_eq!(
        fetch(format!("http://{address}:8000/index.html")),
        "hello\n"
    );
    assert_eq!(
        fetch(format!("http://{}.1:{port}/index.html", network.prefix)),
        "hello\n"
    );
    let rules = run("iptables-save", &["-t", "nat"]);
    assert!(
        rules.contains(&pod.id),
        "portmap names the sandbox in its rules"
    );

    let mut server = server.crash_and_restart(&engine.host()).await;
    assert_eq!(ip(&server, &pod.id).await, address);
    let other = Pod::run(&mut server, Pod::config("other")).await;
    let ids = [pod.id.clone(), other.id.clone()];
    let ids = [ids[0].as_str(), ids[1].as_str()];
    for id in ids {
        stop(&mut server, id).await.unwrap();
        stop(&mut server, id).await.unwrap();
        assert_eq!(ip(&server, id).await, "");
    }
    assert_eq!(network.traces(&ids), Vec::<String>::new());
    // Repeated by a process that does not remember it, and once more after everything is gone.
    let mut server = server.crash_and_restart(&engine.host()).await;
    for id in ids {
        stop(&mut server, id).await.unwrap();
        remove(&mut server, id).await;
        stop(&mut server, id).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sysctls_of_the_pods_interface_are_set_once_plugins_have_made_it() {
    if !plugins_are_installed() {
        return;
    }
    let engine = engine_with_image(DockerEngine::shared()).await;
    let network = Network::new(&[]);
    let mut server = Server::start_with(&engine.host(), network.flags()).await;
    let pod = Pod::run(&mut server, with_sysctls("sysctls")).await;
    has_sysctls(&engine, &pod);
    let id = pod.id.clone();
    pod.remove(&mut server).await;

    let mut config = with_sysctls("unknown");
    let unknown = "net.ipv4.conf.eth0.no_such_thing".to_owned();
    config
        .linux
        .as_mut()
        .unwrap()
        .sysctls
        .insert(unknown, "1".to_owned());
    let request = v1::RunPodSandboxRequest {
        config: Some(config),
        ..Default::default()
    };
    let error = server.client.run_pod_sandbox(request).await.unwrap_err();
    let wanted = "set sysctl net.ipv4.conf.eth0.no_such_thing: No such file or directory";
    assert!(error.message().contains(wanted), "{error}");
    assert_eq!(network.traces(&[&id]), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_plugin_is_named_and_what_came_before_it_is_undone() {
    if !plugins_are_installed() {
        return;
    }
    let engine = engine_with_image(DockerEngine::shared()).await;
    let network = Network::new(&[json!({"type": "moody"})]);
    network.plugin(
        "moody",
        "ADD) echo '{\"code\":11,\"msg\":\"not today\"}'; exit 1;;\nDEL) [ ! -e stuck ] || exit 1;;",
    );
    let mut server = Server::start_with(&engine.host(), network.flags()).await;
    let run_pod = v1::RunPodSandboxRequest {
        config: Some(with_port("moody", 80, free_port())),
        ..Default::default()
    };
    let error = server
        .client
        .run_pod_sandbox(run_pod.clone())
        .await
        .unwrap_err();
    for part in [
        "failed to set up sandbox container",
        "network for pod \"moody\": networkPlugin cni failed to set up pod \"moody_it\" network: ",
        "plugin type=\"moody\" failed (add): not today",
    ] {
        assert!(error.message().contains(part), "{part} in {error}");
    }
    assert_eq!(network.traces(&["moody"]), Vec::<String>::new());
    let of_test = |items: BTreeMap<String, v1::PodSandbox>| {
        let mut items = items.into_values();
        items.find(|item| item.metadata.as_ref().unwrap().name == "moody")
    };
    assert!(
        of_test(listed(&server).await).is_none(),
        "nothing is left of it"
    );

    // It can't be torn down either: the sandbox stays, stopped, until that works.
    fs::write(network.path("stuck"), "").unwrap();
    let error = server.client.run_pod_sandbox(run_pod).await.unwrap_err();
    assert!(
        error
            .message()
            .contains("failed to clean up sandbox container"),
        "{error}"
    );
    let left = eventually_async(SOON, || async {
        of_test(listed(&server).await).ok_or("not listed")
    })
    .await;
    assert_eq!(left.state(), v1::PodSandboxState::SandboxNotready);
    assert!(
        stop(&mut server, &left.id)
            .await
            .unwrap_err()
            .message()
            .contains("moody")
    );
    fs::remove_file(network.path("stuck")).unwrap();
    stop(&mut server, &left.id).await.unwrap();
    assert_eq!(network.traces(&[&left.id]), Vec::<String>::new());
    remove(&mut server, &left.id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sandbox_cut_short_by_our_death_has_no_address_and_goes_without_a_trace() {
    if !plugins_are_installed() {
        return;
    }
    let engine = engine_with_image(DockerEngine::shared()).await;
    let network = Network::new(&[json!({"type": "slow"})]);
    network.plugin(
        "slow",
        "ADD) echo $$ > adding; exec sleep 1000;;\nDEL) echo >> deleted; [ ! -e slowly ] || { echo $$ > deleting; exec sleep 1000; };;",
    );
    let server = Server::start_with(&engine.host(), network.flags()).await;
    let request = v1::RunPodSandboxRequest {
        config: Some(Pod::config("cut")),
        ..Default::default()
    };
    let mut client = server.client.clone();
    let adding = network.path("adding");
    tokio::select! {
        answer = client.run_pod_sandbox(request) => panic!("{answer:?}"),
        () = eventually_async(SOON, || async { if adding.exists() { Ok(()) } else { Err("not yet") } }) => {}
    }
    // Killed in the middle of ADD: bridge and ports are set up, the last plugin is not.
    assert_eq!(network.leases().len(), 1);
    let mut server = server.crash_and_restart(&engine.host()).await;
    let items = listed(&server).await;
    let item = items
        .values()
        .find(|item| item.metadata.as_ref().unwrap().name == "cut");
    let id = item.expect("docker has it").id.clone();
    assert_eq!(ip(&server, &id).await, "", "half a network is none");

    // Killed in the middle of DEL as well.
    fs::write(network.path("slowly"), "").unwrap();
    let deleting = network.path("deleting");
    let mut client = server.client.clone();
    let stop_request = v1::StopPodSandboxRequest {
        pod_sandbox_id: id.clone(),
    };
    tokio::select! {
        answer = client.stop_pod_sandbox(stop_request) => panic!("{answer:?}"),
        () = eventually_async(SOON, || async { if deleting.exists() { Ok(()) } else { Err("not yet") } }) => {}
    }
    server = server.crash_and_restart(&engine.host()).await;
    fs::remove_file(network.path("slowly")).unwrap();
    stop(&mut server, &id).await.unwrap();
    assert_eq!(network.traces(&[&id]), Vec::<String>::new());
    remove(&mut server, &id).await;
    // Plugins that outlived us.
    for file in ["adding", "deleting"] {
        let pid = fs::read_to_string(network.path(file)).unwrap();
        run("kill", &["-9", pid.trim()]);
    }
}

/// Waits until a sandbox is listed like this.
async fn shown(server: &Server, id: &str, state: v1::PodSandboxState) -> v1::PodSandbox {
    eventually_async(SOON, || async {
        match listed(server).await.get(id) {
            Some(item) if item.state() == state => Ok(item.clone()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

/// Runs two pods; Docker loses the first one and kills the second.
async fn lose_one_and_end_one(server: &mut Server, engine: &DockerEngine) -> [String; 2] {
    let lost = Pod::run(server, with_port("lost", 80, free_port()))
        .await
        .id;
    let ended = Pod::run(server, with_port("ended", 80, free_port()))
        .await
        .id;
    engine.json(
        "DELETE",
        &format!("/containers/{lost}?force=1"),
        &Value::Null,
    );
    engine.json("POST", &format!("/containers/{ended}/kill"), &Value::Null);
    for id in [&lost, &ended] {
        shown(server, id, v1::PodSandboxState::SandboxNotready).await;
    }
    [lost, ended]
}

#[tokio::test(flavor = "multi_thread")]
async fn sandbox_that_died_is_torn_down_inside_the_namespace_that_is_held() {
    if !plugins_are_installed() {
        return;
    }
    let engine = engine_with_image(DockerEngine::shared()).await;
    let network = Network::new(&[]);
    let mut server = Server::start_with(&engine.host(), network.flags()).await;
    let ids = lose_one_and_end_one(&mut server, &engine).await;
    let ids = [ids[0].as_str(), ids[1].as_str()];
    assert_eq!(network.leases().len(), 2);
    for id in ids {
        stop(&mut server, id).await.unwrap();
        remove(&mut server, id).await;
    }
    // The bridge plugin finds its masquerading rules only by the addresses inside.
    assert_eq!(network.traces(&ids), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_checkpoints_are_made_good_and_lost_sandboxes_leave_nothing() {
    if !plugins_are_installed() {
        return;
    }
    let engine = engine_with_image(DockerEngine::shared()).await;
    let network = Network::with(&[], false);
    let mut server = Server::start_with(&engine.host(), network.flags()).await;
    let ids = lose_one_and_end_one(&mut server, &engine).await;
    let ids = [ids[0].as_str(), ids[1].as_str()];
    let file = |server: &Server, id: &str| server.path("root/sandbox").join(id);
    fs::remove_file(file(&server, ids[0])).unwrap();
    fs::write(file(&server, ids[1]), "{").unwrap();
    let mut server = server.crash_and_restart(&engine.host()).await;
    let lost = listed(&server).await.remove(ids[0]);
    let lost = lost.expect("found by its cached result");
    assert_eq!(lost.metadata.unwrap().name, "lost");
    let healed = fs::read_to_string(file(&server, ids[1])).unwrap();
    assert!(
        healed.contains("\"host_port\":") && healed.contains("\"name\":\"ended\""),
        "{healed}"
    );
    for id in ids {
        stop(&mut server, id).await.unwrap();
        remove(&mut server, id).await;
    }
    // Nobody held the namespaces over the crash: the kernel takes them away in its own time.
    eventually_async(SOON, || async {
        let left = network.traces(&ids);
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
    let left = listed(&server).await;
    assert!(ids.iter().all(|id| !left.contains_key(*id)));
}
