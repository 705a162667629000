//! While nothing changes nothing is asked.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cri_api::v1;
use cri_api::v1::image_service_client::ImageServiceClient;
use testkit::{DockerEngine, eventually_async};

use crate::harness::{IMAGE, Pod, SOON, Server, engine_with_image, start, status};

/// Passes everything on to Docker and counts requests.
struct Proxy {
    requests: Arc<AtomicUsize>,
    socket: PathBuf,
    _directory: tempfile::TempDir,
}

impl Proxy {
    fn start(docker: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let (docker, count) = (docker.to_owned(), Arc::clone(&requests));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = UnixStream::connect(&docker) else {
                    continue;
                };
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let count = Arc::clone(&count);
                std::thread::spawn(move || {
                    let mut buffer = [0; 8192];
                    while let Ok(size @ 1..) = from.read(&mut buffer) {
                        // hyper writes a request's head in one piece.
                        let text = &buffer[..size];
                        if [&b"GET "[..], b"POST ", b"DELETE "]
                            .iter()
                            .any(|m| text.starts_with(m))
                        {
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                        if to.write_all(text).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
                let (mut from, mut to) = (server, client);
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            }
        });
        Self {
            requests,
            socket,
            _directory: directory,
        }
    }

    fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    fn count(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Waits until no request has come for a while, and answers their number.
    async fn settled(&self) -> usize {
        let mut last = usize::MAX;
        eventually_async(SOON, || {
            let now = self.count();
            let same = std::mem::replace(&mut last, now) == now;
            async move {
                tokio::time::sleep(Duration::from_millis(150)).await;
                if same { Ok(now) } else { Err(now) }
            }
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_cost_docker_nothing_and_changes_cost_little() {
    let engine =
        engine_with_image(Arc::new(tokio::task::block_in_place(DockerEngine::start))).await;
    let proxy = Proxy::start(&engine.socket());
    let mut server = Server::start(&proxy.host()).await;
    // The first pod loads the pause image, the second one sees that it is there.
    for _ in 0..2 {
        Pod::run(&mut server, Pod::config("first"))
            .await
            .remove(&mut server)
            .await;
        proxy.settled().await;
    }

    let before = proxy.settled().await;
    let pod = Pod::run(&mut server, Pod::config("quiet")).await;
    assert_eq!(
        proxy.settled().await - before,
        3,
        "RunPodSandbox: create, start, inspect"
    );
    let before = proxy.count();
    let id = pod
        .create(&mut server, "web", "trap 'exit 0' TERM; sleep 1000 & wait")
        .await;
    // The first container of an image asks for the image's names, once.
    let created = proxy.settled().await;
    assert!(
        created - before <= 3,
        "CreateContainer: create, inspect, image"
    );
    start(&mut server, &id).await;
    let started = proxy.settled().await;
    assert_eq!(started - created, 2, "StartContainer: start, inspect");

    for _ in 0..20 {
        status(&mut server, &id).await;
        let client = &mut server.client;
        client
            .list_containers(v1::ListContainersRequest::default())
            .await
            .unwrap();
        client
            .list_pod_sandbox(v1::ListPodSandboxRequest::default())
            .await
            .unwrap();
        let request = v1::PodSandboxStatusRequest {
            pod_sandbox_id: pod.id.clone(),
            verbose: false,
        };
        client.pod_sandbox_status(request).await.unwrap();
        let request = v1::ListContainerStatsRequest::default();
        client.list_container_stats(request).await.unwrap();
        let request = v1::ListPodSandboxStatsRequest::default();
        client.list_pod_sandbox_stats(request).await.unwrap();
        let request = v1::ListPodSandboxMetricsRequest {};
        client.list_pod_sandbox_metrics(request).await.unwrap();
        client
            .status(v1::StatusRequest { verbose: true })
            .await
            .unwrap();
        client.version(v1::VersionRequest::default()).await.unwrap();
        client
            .runtime_config(v1::RuntimeConfigRequest {})
            .await
            .unwrap();
    }
    assert_eq!(
        proxy.settled().await,
        started,
        "reads are answered from memory"
    );

    let stop = v1::StopContainerRequest {
        container_id: id.clone(),
        timeout: 10,
    };
    server.client.stop_container(stop).await.unwrap();
    let stopped = proxy.settled().await;
    // Newer engines may answer a stop before they date the death: what we read then could be older
    // than the event, so it is read again.
    assert!(
        (2..=3).contains(&(stopped - started)),
        "StopContainer: stop, inspect, at most one more; {}",
        stopped - started
    );
    let stop = v1::StopContainerRequest {
        container_id: id.clone(),
        timeout: 10,
    };
    server.client.stop_container(stop).await.unwrap();
    assert_eq!(
        proxy.settled().await,
        stopped,
        "a container that has ended is stopped"
    );
    let remove = v1::RemoveContainerRequest { container_id: id };
    server.client.remove_container(remove).await.unwrap();
    assert_eq!(
        proxy.settled().await - stopped,
        1,
        "RemoveContainer: remove"
    );
    pod.remove(&mut server).await;

    let before = proxy.settled().await;
    let request = v1::RemoveImageRequest {
        image: Some(v1::ImageSpec {
            image: IMAGE.to_owned(),
            ..Default::default()
        }),
    };
    let mut images = ImageServiceClient::new(server.channel().await);
    images.remove_image(request).await.unwrap();
    assert_eq!(
        proxy.count() - before,
        2,
        "RemoveImage: inspect, and one remove of its only name"
    );
}
