//! Pods on Docker's own networks: host ports, names, both families.

use std::{
    net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket},
    time::Duration,
};

use cri_api::v1;
use serde_json::Value;
use testkit::{DockerEngine, EngineOptions, eventually_async};

use crate::harness::{Pod, SOON, Server, engine_with_image, has_sysctls, start, with_sysctls};

fn config_with_port(name: &str, host_port: i32, host_ip: &str) -> v1::PodSandboxConfig {
    config_with(v1::Protocol::Tcp, name, host_port, host_ip)
}

fn config_with(
    protocol: v1::Protocol,
    name: &str,
    host_port: i32,
    host_ip: &str,
) -> v1::PodSandboxConfig {
    let mut config = Pod::config(name);
    config.port_mappings = vec![v1::PortMapping {
        protocol: protocol.into(),
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
    let wanted = "host port 127.0.0.1:18741/tcp is in use by pod \"it/holder\"";
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

/// Answers each datagram at a pod's port 8000, until the pod's user has said `end`. The test's image
/// has no program that would.
fn echo_datagrams(engine: &DockerEngine, pod: &Pod) -> std::thread::JoinHandle<()> {
    let path = format!("/containers/{}/json", pod.id);
    let inspect = engine.json("GET", &path, &Value::Null);
    let pid = inspect["State"]["Pid"].as_u64().unwrap();
    let network = node_os::netns::of_process(u32::try_from(pid).unwrap());
    let bind = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 8000));
    let socket = node_os::netns::run(&network, bind).unwrap().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            socket.send_to(&buffer[..length], from).unwrap();
            if &buffer[..length] == b"end" {
                return;
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_to_a_udp_host_port_reach_the_pod_and_its_answers_come_back() {
    let engine = engine_with_image(DockerEngine::shared()).await;
    let mut server = Server::start(&engine.host()).await;
    let config = config_with(v1::Protocol::Udp, "datagrams", 18743, "127.0.0.1");
    let pod = Pod::run(&mut server, config).await;
    let echo = echo_datagrams(&engine, &pod);
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    client.connect((Ipv4Addr::LOCALHOST, 18743)).unwrap();
    client
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    for text in ["first", "end"] {
        eventually_async(SOON, async || {
            // A datagram may be lost.
            client.send(text.as_bytes()).map_err(|e| e.to_string())?;
            let mut buffer = [0; 64];
            let length = client.recv(&mut buffer).map_err(|e| e.to_string())?;
            if &buffer[..length] == text.as_bytes() {
                Ok(())
            } else {
                Err(String::from_utf8_lossy(&buffer[..length]).into_owned())
            }
        })
        .await;
    }
    echo.join().unwrap();

    // TCP's port of the same number is another one, UDP's is taken.
    let other = Pod::run(&mut server, config_with_port("tcp", 18743, "127.0.0.1")).await;
    let late = config_with(v1::Protocol::Udp, "late", 18743, "127.0.0.1");
    let request = v1::RunPodSandboxRequest {
        config: Some(late),
        ..Default::default()
    };
    let error = server.client.run_pod_sandbox(request).await.unwrap_err();
    let wanted = "host port 127.0.0.1:18743/udp is in use by pod \"it/datagrams\"";
    assert!(error.message().contains(wanted), "{error}");
    other.remove(&mut server).await;
    pod.remove(&mut server).await;
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 18743)).expect("the port is free again");
}

/// Whether the kernel knows SCTP; many do not.
fn has_sctp() -> bool {
    use rustix::net::{AddressFamily, SocketType, ipproto, socket};
    socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::SCTP)).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn sctp_host_port_is_dockers_or_the_kernels_refusal_is_told() {
    let engine = engine_with_image(DockerEngine::shared()).await;
    let mut server = Server::start(&engine.host()).await;
    let config = config_with(v1::Protocol::Sctp, "sctp", 18744, "127.0.0.1");
    if has_sctp() {
        let pod = Pod::run(&mut server, config).await;
        let path = format!("/containers/{}/json", pod.id);
        let inspect = engine.json("GET", &path, &Value::Null);
        let bound = &inspect["NetworkSettings"]["Ports"]["8000/sctp"][0];
        assert_eq!(bound["HostPort"], "18744", "{inspect}");
        pod.remove(&mut server).await;
        return;
    }
    let request = v1::RunPodSandboxRequest {
        config: Some(config),
        ..Default::default()
    };
    let error = server.client.run_pod_sandbox(request).await.unwrap_err();
    assert!(
        error.message().contains("protocol not supported"),
        "{error}"
    );
    let filter = v1::ListPodSandboxRequest::default();
    let left = server.client.list_pod_sandbox(filter).await.unwrap();
    let names = left.into_inner().items.into_iter();
    let names: Vec<_> = names.filter_map(|pod| Some(pod.metadata?.name)).collect();
    assert!(!names.contains(&"sctp".to_owned()), "{names:?}");
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
async fn sysctls_of_the_pods_interface_are_set_on_either_bridge() {
    let engine = engine_with_image(DockerEngine::shared()).await;
    let network = format!("berthsysctl{}", std::process::id());
    for flag in [String::new(), format!("--bridge-network={network}")] {
        let flags = ["--network-plugin=".to_owned(), flag];
        let flags = flags.into_iter().filter(|flag| !flag.is_empty());
        let mut server = Server::start_with(&engine.host(), flags.collect()).await;
        let pod = Pod::run(&mut server, with_sysctls("sysctls")).await;
        has_sysctls(&engine, &pod);
        pod.remove(&mut server).await;
    }
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
