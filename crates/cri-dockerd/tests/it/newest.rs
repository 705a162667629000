//! Engines newer than any that can be had here, over faked answers: API 1.52 and nothing below 1.44, as
//! its changelog tells it.

use cri_api::v1::image_service_client::ImageServiceClient;
use cri_api::v1::{self, ContainerState};

use crate::fake_engine::{Dialect, FakeEngine};
use crate::harness::{IMAGE, Pod, Server, start, status};

#[tokio::test(flavor = "multi_thread")]
async fn engine_without_the_fields_that_newer_apis_lack_carries_a_pod() {
    let engine = FakeEngine::speaking(Dialect::New);
    let mut server = Server::start(&engine.host()).await;
    let version = v1::VersionRequest::default();
    server.client.version(version).await.unwrap();
    let pod = Pod::run(&mut server, Pod::config("newest")).await;
    let id = pod.create(&mut server, "web", "sleep 1000").await;
    start(&mut server, &id).await;
    let seen = status(&mut server, &id).await;
    assert_eq!(seen.state(), ContainerState::ContainerRunning);
    assert_eq!(
        seen.image_ref,
        "docker-pullable://berth.test/busybox@sha256:1"
    );

    // The address is the network's: there is none at the top any more.
    let request = v1::PodSandboxStatusRequest {
        pod_sandbox_id: pod.id.clone(),
        verbose: true,
    };
    let answer = server.client.pod_sandbox_status(request).await.unwrap();
    let sandbox = answer.into_inner().status.unwrap();
    assert_eq!(sandbox.network.unwrap().ip, "172.17.0.9");

    let mut images = ImageServiceClient::new(server.channel().await);
    let listed = images.list_images(v1::ListImagesRequest::default()).await;
    let listed = listed.unwrap().into_inner().images;
    assert_eq!((listed.len(), listed[0].size), (1, 7));
    let request = v1::ImageStatusRequest {
        image: Some(v1::ImageSpec {
            image: IMAGE.to_owned(),
            ..Default::default()
        }),
        verbose: true,
    };
    let image = images.image_status(request).await.unwrap().into_inner();
    let image = image.image.unwrap();
    assert_eq!((image.size, image.repo_tags), (7, vec![IMAGE.to_owned()]));
    let usage = images.image_fs_info(v1::ImageFsInfoRequest {}).await;
    let usage = usage.unwrap().into_inner().image_filesystems.remove(0);
    assert_eq!(usage.used_bytes.unwrap().value, 7);
    let stats = v1::ListContainerStatsRequest::default();
    let stats = server.client.list_container_stats(stats).await.unwrap();
    assert_eq!(stats.into_inner().stats.len(), 1);
    pod.remove(&mut server).await;
}
