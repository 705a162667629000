use cri_api::v1::{
    ContainerEventType, PodSandboxState, image_service_client::ImageServiceClient,
    runtime_service_client::RuntimeServiceClient,
};
use tonic::transport::Channel;

use super::*;

const SOON: Duration = Duration::from_secs(5);

async fn connect(fake: &FakeCri) -> RuntimeServiceClient<Channel> {
    RuntimeServiceClient::new(cri_api::connect(&fake.endpoint()).await.unwrap())
}

async fn run(client: &mut RuntimeServiceClient<Channel>, fake: &FakeCri) -> (String, String) {
    fake.add_image("busybox:1");
    let metadata = v1::PodSandboxMetadata {
        name: "web".to_owned(),
        uid: "u1".to_owned(),
        namespace: "default".to_owned(),
        attempt: 0,
    };
    let config = v1::PodSandboxConfig {
        metadata: Some(metadata),
        ..v1::PodSandboxConfig::default()
    };
    let request = v1::RunPodSandboxRequest {
        config: Some(config.clone()),
        ..Default::default()
    };
    let sandbox = client
        .run_pod_sandbox(request)
        .await
        .unwrap()
        .into_inner()
        .pod_sandbox_id;
    let container = v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: "app".to_owned(),
            attempt: 0,
        }),
        image: Some(v1::ImageSpec {
            image: "busybox:1".to_owned(),
            ..Default::default()
        }),
        ..v1::ContainerConfig::default()
    };
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: sandbox.clone(),
        config: Some(container),
        sandbox_config: Some(config),
    };
    let id = client
        .create_container(request)
        .await
        .unwrap()
        .into_inner()
        .container_id;
    let request = v1::StartContainerRequest {
        container_id: id.clone(),
    };
    client.start_container(request).await.unwrap();
    (sandbox, id)
}

#[tokio::test]
async fn pod_lives_and_dies_and_events_tell() {
    use ContainerEventType::{
        ContainerCreatedEvent as Created, ContainerDeletedEvent as Deleted,
        ContainerStartedEvent as Started, ContainerStoppedEvent as Stopped,
    };

    let fake = FakeCri::start();
    let mut client = connect(&fake).await;
    let mut events = client
        .get_container_events(v1::GetEventsRequest {})
        .await
        .unwrap()
        .into_inner();
    let (sandbox, id) = run(&mut client, &fake).await;
    assert_eq!(fake.container("app").unwrap().id, id);
    assert!(fake.sandboxes()[0].ip.starts_with("10.88."));
    fake.exit("app", 3);
    let status = client
        .container_status(v1::ContainerStatusRequest {
            container_id: id.clone(),
            verbose: false,
        })
        .await
        .unwrap()
        .into_inner()
        .status
        .unwrap();
    assert_eq!((status.exit_code, status.reason.as_str()), (3, "Error"));
    let request = v1::RemovePodSandboxRequest {
        pod_sandbox_id: sandbox.clone(),
    };
    client.remove_pod_sandbox(request.clone()).await.unwrap();
    client.remove_pod_sandbox(request).await.unwrap();
    let request = v1::PodSandboxStatusRequest {
        pod_sandbox_id: sandbox,
        verbose: false,
    };
    assert_eq!(
        client.pod_sandbox_status(request).await.unwrap_err().code(),
        Code::NotFound
    );
    let mut seen = Vec::new();
    while seen.last() != Some(&ContainerEventType::ContainerDeletedEvent) || seen.len() < 8 {
        let event = events.message().await.unwrap().unwrap();
        seen.push(event.container_event_type());
    }
    assert_eq!(
        seen,
        [
            Created, Started, Created, Started, Stopped, Stopped, Deleted, Deleted
        ]
    );
}

#[tokio::test]
async fn calls_fail_and_wait_as_asked_and_are_recorded() {
    let fake = FakeCri::start();
    let mut client = connect(&fake).await;
    fake.fail_times(Call::Version, 1, Code::Unavailable, "not yet");
    let request = v1::VersionRequest::default();
    assert_eq!(
        client.version(request.clone()).await.unwrap_err().message(),
        "not yet"
    );
    client.version(request.clone()).await.unwrap();
    let held = fake.hold(Call::Version);
    let mut waiting = client.clone();
    let answer = async { waiting.version(request).await };
    let release = async {
        fake.wait_for(SOON, |fake| {
            (fake.call_count(Call::Version) == 3).then_some(())
        })
        .await;
        drop(held);
    };
    let (answer, ()) = tokio::join!(answer, release);
    answer.unwrap();
    fake.forget_calls();
    assert_eq!(fake.calls(), []);
}

#[tokio::test]
async fn pulls_succeed_unless_refused() {
    let fake = FakeCri::start();
    let mut client = ImageServiceClient::new(cri_api::connect(&fake.endpoint()).await.unwrap());
    let image = |name: &str| v1::PullImageRequest {
        image: Some(v1::ImageSpec {
            image: name.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    fake.refuse_pull("missing:1", Code::NotFound, "no such thing");
    assert_eq!(
        client
            .pull_image(image("missing:1"))
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );
    client.pull_image(image("web:1")).await.unwrap();
    assert_eq!(fake.images(), ["web:1"]);
}

#[tokio::test(start_paused = true)]
async fn stubborn_container_is_killed_after_its_grace_period() {
    let fake = FakeCri::start();
    let mut client = connect(&fake).await;
    let (_, id) = run(&mut client, &fake).await;
    fake.on_stop("app", OnStop::Ignore);
    let request = v1::StopContainerRequest {
        container_id: id.clone(),
        timeout: 30,
    };
    client.stop_container(request.clone()).await.unwrap();
    assert_eq!(fake.container("app").unwrap().exit_code, 137);
    client.stop_container(request).await.unwrap();
}

#[tokio::test]
async fn runtime_goes_away_and_comes_back_with_what_it_had() {
    let fake = FakeCri::start();
    let mut client = connect(&fake).await;
    let (sandbox, _) = run(&mut client, &fake).await;
    fake.stop().await;
    assert!(client.version(v1::VersionRequest::default()).await.is_err());
    assert!(cri_api::connect(&fake.endpoint()).await.is_err());
    fake.serve();
    let mut client = connect(&fake).await;
    client.version(v1::VersionRequest::default()).await.unwrap();
    fake.kill_sandbox(&sandbox);
    assert_eq!(fake.sandboxes()[0].state, PodSandboxState::SandboxNotready);
    assert_eq!(fake.container("app").unwrap().exit_code, 137);
}
