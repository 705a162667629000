//! Pods on Docker's own networks: host ports, names, both families.

use std::net::{Ipv6Addr, TcpListener};

use cri_api::v1;
use serde_json::Value;
use testkit::{DockerEngine, EngineOptions, eventually_async};

use crate::harness::{Pod, SOON, Server, engine_with_image, start};

fn config_with_port(name: &str, host_port: i32, host_ip: &str) -> v1::PodSandboxConfig {
    let mut config = Pod::config(name);
    config.port_mappings = vec![v1::PortMapping {
        protocol: v1::Protocol::Tcp.into(),
        container_port: 8000,
        host_port,
        host_ip: host_ip.to_owned(),
    }];
    config
}

async fn serve(server: &mut Server, pod: &Pod) {
    let script = "echo hello > /tmp/index.html; httpd -f -p 8000 -h /tmp";
    let id = pod.create(server, "web", script).await;
    start(server, &id).await;
}

async fn fetches(host: &str) {
    let request = format!("GET /index.html HTTP/1.0\r\nHost: {host}\r\n\r\n");
    eventually_async(SOON, || async {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let fetch = async {
            let mut stream = tokio::net::TcpStream::connect(host).await?;
            stream.write_all(request.as_bytes()).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            Ok::<_, std::io::Error>(text)
        };
        let text = fetch.await.map_err(|error| error.to_string())?;
        if text.ends_with("hello\n") {
            Ok(())
        } else {
            Err(text)
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn host_ports_listen_where_asked_and_a_taken_one_names_its_holder() {
    let engine = engine_with_image(DockerEngine::shared()).await;
    let mut server = Server::start(&engine.host()).await;
    let first = Pod::run(&mut server, config_with_port("holder", 18741, "127.0.0.1")).await;
    serve(&mut server, &first).await;
    fetches("127.0.0.1:18741").await;

    let second = v1::RunPodSandboxRequest {
        config: Some(config_with_port("latecomer", 18741, "127.0.0.1")),
        ..Default::default()
    };
    let error = server.client.run_pod_sandbox(second).await.unwrap_err();
    let wanted = "host port 127.0.0.1:18741 is in use by pod \"it/holder\"";
    assert!(error.message().contains(wanted), "{error}");
    first.remove(&mut server).await;

    // A process of the host has it, and the machine may lack IPv6.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = i32::from(taken.local_addr().unwrap().port());
    let third = v1::RunPodSandboxRequest {
        config: Some(config_with_port("third", port, "127.0.0.1")),
        ..Default::default()
    };
    let error = server.client.run_pod_sandbox(third).await.unwrap_err();
    assert!(
        error.message().contains("is in use by another process"),
        "{error}"
    );
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        let sixth = Pod::run(&mut server, config_with_port("sixth", 18742, "::1")).await;
        serve(&mut server, &sixth).await;
        fetches("[::1]:18742").await;
        sixth.remove(&mut server).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_on_a_user_defined_network_find_each_other_by_name() {
    let engine = engine_with_image(DockerEngine::shared()).await;
    let network = format!("berthit{}", std::process::id());
    let flags = vec![
        "--network-plugin=".to_owned(),
        format!("--bridge-network={network}"),
    ];
    let mut server = Server::start_with(&engine.host(), flags).await;
    let mut config = Pod::config("named");
    config.dns_config = Some(v1::DnsConfig {
        searches: vec!["example.test".to_owned()],
        ..Default::default()
    });
    let named = Pod::run(&mut server, config).await;
    serve(&mut server, &named).await;
    let asking = Pod::run(&mut server, Pod::config("asking")).await;
    let id = asking.create(&mut server, "ask", "sleep 1000").await;
    start(&mut server, &id).await;
    let request = v1::PodSandboxStatusRequest {
        pod_sandbox_id: named.id.clone(),
        verbose: false,
    };
    let status = server.client.pod_sandbox_status(request).await.unwrap();
    let address = status.into_inner().status.unwrap().network.unwrap().ip;
    for name in ["named", "named.it"] {
        let request = v1::ExecSyncRequest {
            container_id: id.clone(),
            cmd: ["nslookup", name].map(str::to_owned).to_vec(),
            timeout: 10,
        };
        let answer = server.client.exec_sync(request).await.unwrap().into_inner();
        let text = String::from_utf8_lossy(&answer.stdout);
        assert!(text.contains(&address), "{name} is {address}: {text}");
    }
    named.remove(&mut server).await;
    asking.remove(&mut server).await;
    engine.json("DELETE", &format!("/networks/{network}"), &Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_families_are_reported_v4_first() {
    let engine = tokio::task::block_in_place(|| {
        DockerEngine::start_with(EngineOptions {
            arguments: ["--ipv6", "--fixed-cidr-v6=fd00:be27::/64"]
                .map(str::to_owned)
                .to_vec(),
        })
    });
    let mut server = Server::start(&engine.host()).await;
    let pod = Pod::run(&mut server, Pod::config("dual")).await;
    let request = v1::PodSandboxStatusRequest {
        pod_sandbox_id: pod.id.clone(),
        verbose: false,
    };
    let status = server.client.pod_sandbox_status(request).await.unwrap();
    let network = status.into_inner().status.unwrap().network.unwrap();
    assert!(
        network.ip.parse::<std::net::Ipv4Addr>().is_ok(),
        "{network:?}"
    );
    let second: Vec<&str> = network
        .additional_ips
        .iter()
        .map(|ip| ip.ip.as_str())
        .collect();
    assert!(
        second.len() == 1 && second[0].starts_with("fd00:be27:"),
        "{second:?}"
    );
    pod.remove(&mut server).await;
}
