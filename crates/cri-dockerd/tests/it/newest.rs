//! Engines newer than any that can be had here, over faked answers: API 1.52 and nothing below 1.44, as
//! its changelog tells it.

use cri_api::v1::image_service_client::ImageServiceClient;
use cri_api::v1::{self, ContainerState};

use crate::fake_engine::{Dialect, FakeEngine, Trouble};
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

#[tokio::test(flavor = "multi_thread")]
async fn engine_in_the_place_of_another_is_spoken_to_in_its_own_version() {
    for (first, second) in [(Dialect::New, Dialect::Old), (Dialect::Old, Dialect::New)] {
        let engine = FakeEngine::speaking(first);
        let mut server = Server::start(&engine.host()).await;
        let version = v1::VersionRequest::default();
        server.client.version(version).await.unwrap();
        let mut images = ImageServiceClient::new(server.channel().await);
        engine.becomes(second);
        let image = |name: &str| {
            Some(v1::ImageSpec {
                image: name.to_owned(),
                ..Default::default()
            })
        };
        let request = v1::ImageStatusRequest {
            image: image("berth.test/one:1"),
            verbose: false,
        };
        let seen = images.image_status(request).await.unwrap().into_inner();
        assert!(seen.image.is_some(), "from {first:?} to {second:?}");
        engine.becomes(first);
        let request = v1::RemoveImageRequest {
            image: image("berth.test/two:1"),
        };
        images.remove_image(request).await.unwrap();
        assert_eq!(engine.count("DELETE /images/berth.test/two:1"), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn image_is_not_missing_where_the_engine_takes_no_version_that_is_spoken() {
    let engine = FakeEngine::speaking(Dialect::New);
    let mut server = Server::start(&engine.host()).await;
    let version = v1::VersionRequest::default();
    server.client.version(version).await.unwrap();
    let refused = "client version 1.52 is too old. Minimum supported API version is 1.53";
    let trouble = Trouble::Answered(400, refused);
    engine.trouble("GET /images/", Some(trouble));
    let mut images = ImageServiceClient::new(server.channel().await);
    let request = v1::ImageStatusRequest {
        image: Some(v1::ImageSpec {
            image: IMAGE.to_owned(),
            ..Default::default()
        }),
        verbose: false,
    };
    let error = images.image_status(request).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unavailable, "{error:?}");
    assert!(error.message().contains(refused), "{error:?}");
}
