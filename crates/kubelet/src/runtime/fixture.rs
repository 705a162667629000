//! For tests: a client of a fake runtime, and containers that run there.

use std::time::Duration;

use cri_api::v1;
use testkit::FakeCri;

use super::client::CriClient;
use crate::metrics::Metrics;

/// A client of the fake, with series of its own.
pub(crate) async fn client(cri: &FakeCri) -> (CriClient, Metrics) {
    let metrics = Metrics::register(&daemon::metrics::Metrics::new()).unwrap();
    let endpoint = cri.endpoint();
    let limit = Duration::from_secs(5);
    let client = CriClient::connect(&endpoint, &endpoint, limit, metrics.clone())
        .await
        .unwrap();
    (client, metrics)
}

/// The id of a container that runs, in a sandbox of its own.
pub(crate) async fn running_container(cri: &FakeCri, client: &CriClient, name: &str) -> String {
    cri.add_image("image");
    let sandbox = v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name.to_owned(),
            uid: name.to_owned(),
            namespace: "default".to_owned(),
            attempt: 0,
        }),
        ..v1::PodSandboxConfig::default()
    };
    let config = v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: name.to_owned(),
            attempt: 0,
        }),
        image: Some(v1::ImageSpec {
            image: "image".to_owned(),
            ..v1::ImageSpec::default()
        }),
        ..v1::ContainerConfig::default()
    };
    let sandbox_id = client.run_pod_sandbox(sandbox.clone(), "").await.unwrap();
    let id = client
        .create_container(&sandbox_id, config, sandbox)
        .await
        .unwrap();
    client.start_container(&id).await.unwrap();
    id
}
