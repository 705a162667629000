//! Pulls from a real registry (IMG-08 to IMG-12, CMP-09).

use cri_api::v1;
use cri_api::v1::image_service_client::ImageServiceClient;
use testkit::DockerEngine;
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::{Pod, Server, engine_with_image};
use crate::registry::{PASSWORD, Registry, Throttle, USER};

async fn pull(
    images: &mut ImageServiceClient<Channel>,
    image: &str,
    auth: Option<v1::AuthConfig>,
) -> Result<String, tonic::Status> {
    let request = v1::PullImageRequest {
        image: Some(v1::ImageSpec {
            image: image.to_owned(),
            ..Default::default()
        }),
        auth,
        ..Default::default()
    };
    Ok(images.pull_image(request).await?.into_inner().image_ref)
}

async fn status(images: &mut ImageServiceClient<Channel>, image: &str) -> Option<v1::Image> {
    let request = v1::ImageStatusRequest {
        image: Some(v1::ImageSpec {
            image: image.to_owned(),
            ..Default::default()
        }),
        verbose: false,
    };
    let answer = images.image_status(request).await.unwrap();
    answer.into_inner().image
}

async fn listed(images: &mut ImageServiceClient<Channel>, id: &str) -> Option<v1::Image> {
    let request = v1::ListImagesRequest::default();
    let answer = images.list_images(request).await.unwrap().into_inner();
    answer.images.into_iter().find(|image| image.id == id)
}

async fn remove(images: &mut ImageServiceClient<Channel>, image: &str) {
    let request = v1::RemoveImageRequest {
        image: Some(v1::ImageSpec {
            image: image.to_owned(),
            ..Default::default()
        }),
    };
    images.remove_image(request).await.unwrap();
}

fn login(username: &str, password: &str) -> v1::AuthConfig {
    v1::AuthConfig {
        username: username.to_owned(),
        password: password.to_owned(),
        ..Default::default()
    }
}

/// Base64 of `user:right`.
const ENCODED: &str = "dXNlcjpyaWdodA==";

#[tokio::test(flavor = "multi_thread")]
async fn credentials_open_the_registry_in_every_form_and_wrong_ones_do_not() {
    let engine = engine_with_image(DockerEngine::shared()).await;
    let server = Server::start(&engine.host()).await;
    let mut images = ImageServiceClient::new(server.channel().await);
    let (registry, image) = tokio::task::block_in_place(|| {
        let registry = Registry::start(&engine);
        let image = registry.publish(&engine, &registry.host(), "private", 100_000);
        (registry, image)
    });
    let encoded = v1::AuthConfig {
        auth: ENCODED.to_owned(),
        ..Default::default()
    };
    let named = v1::AuthConfig {
        server_address: registry.host(),
        ..login(USER, PASSWORD)
    };
    for auth in [login(USER, PASSWORD), encoded, named] {
        let id = pull(&mut images, &image, Some(auth)).await.unwrap();
        let seen = status(&mut images, &image).await.unwrap();
        assert_eq!(id, seen.id, "as ImageStatus says it");
        let [digest] = seen.repo_digests.as_slice() else {
            panic!("one digest: {seen:?}");
        };
        assert!(
            digest.starts_with(&format!("{}/private@sha256:", registry.host())),
            "{digest}"
        );
        let by_digest = pull(&mut images, digest, Some(login(USER, PASSWORD)))
            .await
            .unwrap();
        assert_eq!(by_digest, id);
        remove(&mut images, &id).await;
        assert_eq!(status(&mut images, &image).await, None);
    }
    // Registry and identity tokens mean nothing to a registry with plain passwords.
    let token = v1::AuthConfig {
        registry_token: "token".to_owned(),
        ..Default::default()
    };
    for auth in [
        None,
        Some(login(USER, "wrong")),
        Some(login("nobody", PASSWORD)),
        Some(token),
    ] {
        let error = pull(&mut images, &image, auth.clone()).await.unwrap_err();
        let denied = [Code::Unauthenticated, Code::PermissionDenied];
        assert!(denied.contains(&error.code()), "{auth:?}: {error:?}");
        assert!(
            !error.message().contains(PASSWORD),
            "no secret in {error:?}"
        );
    }
    let garbage = v1::AuthConfig {
        auth: "no base64!".to_owned(),
        ..Default::default()
    };
    let error = pull(&mut images, &image, Some(garbage)).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let missing = format!("{}/missing:1", registry.host());
    let error = pull(&mut images, &missing, Some(login(USER, PASSWORD)))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::NotFound, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn image_that_was_pulled_by_digest_has_no_tags_and_goes_whole() {
    let engine = engine_with_image(DockerEngine::shared()).await;
    let mut server = Server::start(&engine.host()).await;
    let mut images = ImageServiceClient::new(server.channel().await);
    let auth = || Some(login(USER, PASSWORD));
    let (_registry, image) = tokio::task::block_in_place(|| {
        let registry = Registry::start(&engine);
        let image = registry.publish(&engine, &registry.host(), "bydigest", 100_000);
        (registry, image)
    });
    pull(&mut images, &image, auth()).await.unwrap();
    let tagged = status(&mut images, &image).await.unwrap();
    assert_eq!(tagged.repo_tags, [image.as_str()]);
    let digest = tagged.repo_digests[0].clone();
    remove(&mut images, &image).await;

    let id = pull(&mut images, &digest, auth()).await.unwrap();
    let seen = status(&mut images, &digest).await.unwrap();
    assert_eq!((&seen.id, &seen.repo_tags), (&id, &Vec::new()));
    assert_eq!(seen.repo_digests, [digest.as_str()]);
    let item = listed(&mut images, &id).await.unwrap();
    assert_eq!(
        (item.repo_tags, item.repo_digests),
        (Vec::new(), seen.repo_digests)
    );

    // Its containers are named as they were asked for.
    let pod = Pod::run(&mut server, Pod::config("bydigest")).await;
    let mut config = Pod::container("web", "true");
    config.image.as_mut().unwrap().image.clone_from(&id);
    let container = pod.create_with(&mut server, config).await.unwrap();
    let shown = crate::harness::status(&mut server, &container).await;
    assert_eq!(shown.image.unwrap().image, id);
    assert_eq!(shown.image_ref, format!("docker-pullable://{digest}"));
    pod.remove(&mut server).await;

    // With a tag beside it, either name takes all away.
    for name in [&image, &digest] {
        pull(&mut images, &digest, auth()).await.unwrap();
        pull(&mut images, &image, auth()).await.unwrap();
        let both = status(&mut images, name).await.unwrap();
        assert_eq!(both.repo_tags, [image.as_str()]);
        assert_eq!(both.repo_digests, [digest.as_str()]);
        remove(&mut images, name).await;
        assert_eq!(status(&mut images, &digest).await, None, "by {name}");
        assert_eq!(listed(&mut images, &id).await, None, "by {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_layer_ends_the_pull_and_the_next_one_succeeds() {
    let engine = engine_with_image(DockerEngine::shared()).await;
    let flags = ["--network-plugin=", "--image-pull-progress-deadline=3s"];
    let flags = flags.map(str::to_owned).to_vec();
    let server = Server::start_with(&engine.host(), flags).await;
    let mut images = ImageServiceClient::new(server.channel().await);
    let (mut registry, throttle, image) = tokio::task::block_in_place(|| {
        let mut registry = Registry::start(&engine);
        // Enough for handshakes and manifests, not for the layer.
        let throttle = Throttle::start(&mut registry, 2 << 20);
        let image = registry.publish(&engine, &throttle.host, "large", 8 << 20);
        (registry, throttle, image)
    });
    let auth = || Some(login(USER, PASSWORD));
    let begun = std::time::Instant::now();
    let error = pull(&mut images, &image, auth()).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error:?}");
    assert!(
        error.message().contains("--image-pull-progress-deadline"),
        "{error:?}"
    );
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());

    throttle.open();
    let id = pull(&mut images, &image, auth()).await.unwrap();
    remove(&mut images, &id).await;

    registry.vanish();
    let error = pull(&mut images, &image, auth()).await.unwrap_err();
    assert_ne!(error.code(), Code::Ok);
    assert!(
        error.message().contains(&throttle.host),
        "names the registry: {error:?}"
    );
}
