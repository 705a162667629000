//! Pods and containers through their life, and what lists say right after each step.

use cri_api::v1::runtime_service_client::RuntimeServiceClient;
use cri_api::v1::{self, ContainerEventType as Event, ContainerState, PodSandboxState};
use testkit::{DockerEngine, eventually_async};
use tonic::{Code, transport::Channel};

use crate::fake_engine::FakeEngine;
use crate::harness::{Pod, SOON, Server, engine_with_image, reaches, start, status};

async fn list(server: &mut Server, pod: &str) -> Vec<(String, ContainerState)> {
    let filter = v1::ContainerFilter {
        pod_sandbox_id: pod.to_owned(),
        ..Default::default()
    };
    let request = v1::ListContainersRequest {
        filter: Some(filter),
    };
    let answer = server
        .client
        .list_containers(request)
        .await
        .unwrap()
        .into_inner();
    answer
        .containers
        .into_iter()
        .map(|c| (c.id.clone(), c.state()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_is_visible_to_the_very_next_call() {
    let engine = engine_with_image(DockerEngine::shared()).await;
    let mut server = Server::start(&engine.host()).await;
    let pod = Pod::run(&mut server, Pod::config("steps")).await;

    let request = v1::PodSandboxStatusRequest {
        pod_sandbox_id: pod.id.clone(),
        verbose: true,
    };
    let answer = server
        .client
        .pod_sandbox_status(request)
        .await
        .unwrap()
        .into_inner();
    let sandbox = answer.status.unwrap();
    assert_eq!(sandbox.state(), PodSandboxState::SandboxReady);
    assert_eq!(sandbox.metadata, pod.config.metadata);
    assert_eq!(sandbox.annotations, pod.config.annotations);
    assert!(!sandbox.network.unwrap().ip.is_empty());
    assert!(answer.info["info"].contains("\"pid\""));

    let id = pod.create(&mut server, "web", "sleep 1000").await;
    assert_eq!(
        list(&mut server, &pod.id).await,
        [(id.clone(), ContainerState::ContainerCreated)]
    );
    start(&mut server, &id).await;
    assert_eq!(
        list(&mut server, &pod.id).await,
        [(id.clone(), ContainerState::ContainerRunning)]
    );
    assert!(status(&mut server, &id).await.started_at > 0);
    let stop = v1::StopContainerRequest {
        container_id: id.clone(),
        timeout: 0,
    };
    server.client.stop_container(stop.clone()).await.unwrap();
    let ended = status(&mut server, &id).await;
    assert_eq!(ended.state(), ContainerState::ContainerExited);
    assert!(ended.exit_code > 128, "{ended:?}");
    server.client.stop_container(stop).await.unwrap();
    let remove = v1::RemoveContainerRequest { container_id: id };
    server
        .client
        .remove_container(remove.clone())
        .await
        .unwrap();
    assert_eq!(list(&mut server, &pod.id).await, []);
    server.client.remove_container(remove).await.unwrap();
    pod.remove(&mut server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_outside_is_seen_through_events() {
    let engine = engine_with_image(DockerEngine::shared()).await;
    let mut server = Server::start(&engine.host()).await;
    let pod = Pod::run(&mut server, Pod::config("outside")).await;
    let id = pod.create(&mut server, "web", "exit 3").await;
    start(&mut server, &id).await;
    let ended = reaches(&server, &id, ContainerState::ContainerExited).await;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (3, "Error"));

    let other = pod.create(&mut server, "other", "sleep 1000").await;
    start(&mut server, &other).await;
    engine.json(
        "POST",
        &format!("/containers/{other}/kill"),
        &serde_json::Value::Null,
    );
    let ended = reaches(&server, &other, ContainerState::ContainerExited).await;
    assert_eq!(ended.exit_code, 137);
    engine.json(
        "DELETE",
        &format!("/containers/{other}"),
        &serde_json::Value::Null,
    );
    let client = server.client.clone();
    eventually_async(SOON, || {
        let (mut client, id) = (client.clone(), other.clone());
        async move {
            let request = v1::ContainerStatusRequest {
                container_id: id,
                verbose: false,
            };
            match client.container_status(request).await {
                Err(error) if error.code() == Code::NotFound => Ok(()),
                other => Err(format!("{other:?}")),
            }
        }
    })
    .await;
    pod.remove(&mut server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriber_gets_the_whole_life_with_statuses() {
    let engine = engine_with_image(DockerEngine::shared()).await;
    let mut server = Server::start(&engine.host()).await;
    let mut events = server
        .client
        .get_container_events(v1::GetEventsRequest {})
        .await
        .unwrap()
        .into_inner();
    let pod = Pod::run(&mut server, Pod::config("events")).await;
    let id = pod.create(&mut server, "web", "sleep 1000").await;
    start(&mut server, &id).await;
    let pod_id = pod.id.clone();
    pod.remove(&mut server).await;

    let mut seen = Vec::new();
    while !seen.contains(&(pod_id.clone(), Event::ContainerDeletedEvent)) {
        let event = tokio::time::timeout(SOON, events.message())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        let kind = event.container_event_type();
        // The engine is shared: other tests' pods show up too.
        if event.container_id == id || event.container_id == pod_id {
            let sandbox = event
                .pod_sandbox_status
                .expect("the pod comes with each event");
            assert_eq!(sandbox.id, pod_id);
            if kind == Event::ContainerStartedEvent && event.container_id == id {
                assert_eq!(
                    event.containers_statuses[0].state(),
                    ContainerState::ContainerRunning
                );
            }
            seen.push((event.container_id, kind));
        }
    }
    let of = |who: &str| -> Vec<Event> {
        seen.iter()
            .filter(|(id, _)| id == who)
            .map(|(_, kind)| *kind)
            .collect()
    };
    let whole = [
        Event::ContainerCreatedEvent,
        Event::ContainerStartedEvent,
        Event::ContainerStoppedEvent,
        Event::ContainerDeletedEvent,
    ];
    assert_eq!(of(&id), whole);
    // A sandbox is created and started within one call.
    assert_eq!(of(&pod_id), whole);
}

async fn stop_and_remove(
    client: &mut RuntimeServiceClient<Channel>,
    sandbox: &str,
    container: &str,
) {
    let stop = v1::StopContainerRequest {
        container_id: container.to_owned(),
        timeout: 1,
    };
    client.stop_container(stop).await.unwrap();
    let remove = v1::RemoveContainerRequest {
        container_id: container.to_owned(),
    };
    client.remove_container(remove).await.unwrap();
    let stop = v1::StopPodSandboxRequest {
        pod_sandbox_id: sandbox.to_owned(),
    };
    client.stop_pod_sandbox(stop).await.unwrap();
    let remove = v1::RemovePodSandboxRequest {
        pod_sandbox_id: sandbox.to_owned(),
    };
    client.remove_pod_sandbox(remove).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_ids_are_stopped_and_removed_but_have_no_status() {
    let engine = DockerEngine::shared();
    let mut server = Server::start(&engine.host()).await;
    let id = "c0ffee00-0000-4000-8000-000000000000".to_owned();
    let client = &mut server.client;
    stop_and_remove(client, &id, &id).await;
    let status = v1::ContainerStatusRequest {
        container_id: id.clone(),
        verbose: false,
    };
    assert_eq!(
        client.container_status(status).await.unwrap_err().code(),
        Code::NotFound
    );
    let status = v1::PodSandboxStatusRequest {
        pod_sandbox_id: id,
        verbose: false,
    };
    assert_eq!(
        client.pod_sandbox_status(status).await.unwrap_err().code(),
        Code::NotFound
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_for_containers_spare_sandboxes_and_the_other_way_round() {
    let (engine, mut server, pod, [id]) = FakeEngine::with_pod("kinds", ["web"]).await;
    stop_and_remove(&mut server.client, &id, &pod.id).await;
    for (request, id) in [
        ("POST", &pod.id),
        ("DELETE", &pod.id),
        ("POST", &id),
        ("DELETE", &id),
    ] {
        let what = if request == "POST" { "/stop" } else { "" };
        let count = engine.count(&format!("{request} /containers/{id}{what}"));
        assert_eq!(count, 0, "{request} {id}");
    }
    let state = status(&mut server, &id).await.state();
    assert_eq!(state, ContainerState::ContainerRunning);
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_a_pod_are_listed_by_the_beginning_of_its_id() {
    let (_engine, mut server, pod, [id]) = FakeEngine::with_pod("short", ["web"]).await;
    let of = |beginning: &str| v1::ListContainersRequest {
        filter: Some(v1::ContainerFilter {
            pod_sandbox_id: beginning.to_owned(),
            ..Default::default()
        }),
    };
    for (beginning, expected) in [
        (pod.id.as_str(), vec![id.clone()]),
        (&pod.id[..13], vec![id.clone()]),
        ("ffff", Vec::new()),
    ] {
        let answer = server.client.list_containers(of(beginning)).await.unwrap();
        let found = answer.into_inner().containers.into_iter();
        let found: Vec<_> = found.map(|container| container.id).collect();
        assert_eq!(found, expected, "{beginning}");
        let request = v1::ListContainerStatsRequest {
            filter: Some(v1::ContainerStatsFilter {
                pod_sandbox_id: beginning.to_owned(),
                ..Default::default()
            }),
        };
        let answer = server.client.list_container_stats(request).await.unwrap();
        assert_eq!(
            answer.into_inner().stats.len(),
            expected.len(),
            "{beginning}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn name_held_by_a_leftover_is_freed_within_the_call() {
    let engine = engine_with_image(DockerEngine::shared()).await;
    let mut server = Server::start(&engine.host()).await;
    let config = Pod::config("leftover");
    let first = Pod::run(&mut server, config.clone()).await;
    let stop = v1::StopPodSandboxRequest {
        pod_sandbox_id: first.id.clone(),
    };
    server.client.stop_pod_sandbox(stop).await.unwrap();
    let second = Pod::run(&mut server, config).await;
    assert_ne!(first.id, second.id);
    second.remove(&mut server).await;
}

/// As upstream and containerd: a kubelet that lost the answer of the first call lists the pod.
#[tokio::test(flavor = "multi_thread")]
async fn name_held_by_a_running_pod_is_refused_and_the_pod_goes_on() {
    let engine = engine_with_image(DockerEngine::shared()).await;
    let mut server = Server::start(&engine.host()).await;
    let pod = Pod::run(&mut server, Pod::config("twice")).await;
    let id = pod.create(&mut server, "web", "sleep 1000").await;
    start(&mut server, &id).await;
    let request = v1::RunPodSandboxRequest {
        config: Some(pod.config.clone()),
        ..Default::default()
    };
    let refused = server.client.run_pod_sandbox(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains(&pod.id), "{refused}");
    let refused = pod.create_with(&mut server, Pod::container("web", "true"));
    let refused = refused.await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    let filter = v1::PodSandboxFilter {
        label_selector: pod.config.labels.clone(),
        ..Default::default()
    };
    let request = v1::ListPodSandboxRequest {
        filter: Some(filter),
    };
    let listed = server.client.list_pod_sandbox(request).await.unwrap();
    let listed = listed.into_inner().items;
    let ids: Vec<_> = listed.iter().map(|item| item.id.as_str()).collect();
    assert_eq!(ids, [pod.id.as_str()]);
    assert_eq!(
        status(&mut server, &id).await.state(),
        ContainerState::ContainerRunning
    );
    pod.remove(&mut server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_a_sandbox_kills_its_containers() {
    let engine = engine_with_image(DockerEngine::shared()).await;
    let mut server = Server::start(&engine.host()).await;
    let pod = Pod::run(&mut server, Pod::config("kill")).await;
    let id = pod
        .create(
            &mut server,
            "web",
            "trap '' TERM; while :; do sleep 1000; done",
        )
        .await;
    start(&mut server, &id).await;
    let stop = v1::StopPodSandboxRequest {
        pod_sandbox_id: pod.id.clone(),
    };
    server.client.stop_pod_sandbox(stop).await.unwrap();
    assert_eq!(
        status(&mut server, &id).await.state(),
        ContainerState::ContainerExited
    );
    pod.remove(&mut server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn container_that_cannot_start_says_why() {
    let engine = engine_with_image(DockerEngine::shared()).await;
    let mut server = Server::start(&engine.host()).await;
    let pod = Pod::run(&mut server, Pod::config("nostart")).await;
    let config = v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: "web".to_owned(),
            attempt: 0,
        }),
        image: Some(v1::ImageSpec {
            image: crate::harness::IMAGE.to_owned(),
            ..Default::default()
        }),
        command: vec!["/no/such/program".to_owned()],
        ..Default::default()
    };
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: pod.id.clone(),
        config: Some(config),
        sandbox_config: Some(pod.config.clone()),
    };
    let id = server
        .client
        .create_container(request)
        .await
        .unwrap()
        .into_inner()
        .container_id;
    let request = v1::StartContainerRequest {
        container_id: id.clone(),
    };
    let error = server.client.start_container(request).await.unwrap_err();
    assert!(
        error.message().starts_with("failed to start container"),
        "{error}"
    );
    let status = status(&mut server, &id).await;
    assert_eq!(status.state(), ContainerState::ContainerExited);
    assert_eq!(status.reason, "ContainerCannotRun");
    assert!(
        status.message.contains("no such file"),
        "{}",
        status.message
    );
    pod.remove(&mut server).await;
}

/// Docker's own default runtime, which the tests' engine replaces on hosts without
/// CAP_SYS_RESOURCE.
#[tokio::test(flavor = "multi_thread")]
async fn sandbox_of_a_named_runtime_starts_where_the_host_forbids_its_oom_score_and_shows_it() {
    let engine = engine_with_image(DockerEngine::shared()).await;
    let mut server = Server::start(&engine.host()).await;
    let config = Pod::config("score");
    let request = v1::RunPodSandboxRequest {
        config: Some(config.clone()),
        runtime_handler: "runc".to_owned(),
    };
    let id = server
        .client
        .run_pod_sandbox(request)
        .await
        .unwrap()
        .into_inner()
        .pod_sandbox_id;
    let pod = Pod { config, id };
    let request = v1::PodSandboxStatusRequest {
        pod_sandbox_id: pod.id.clone(),
        verbose: false,
    };
    let answer = server.client.pod_sandbox_status(request).await.unwrap();
    let status = answer.into_inner().status.unwrap();
    assert_eq!(status.runtime_handler, "runc");
    assert!(
        !status.labels.contains_key("io.berth.runtime-handler"),
        "{status:?}"
    );
    let filter = v1::PodSandboxFilter {
        id: pod.id.clone(),
        ..Default::default()
    };
    let request = v1::ListPodSandboxRequest {
        filter: Some(filter),
    };
    let answer = server.client.list_pod_sandbox(request).await.unwrap();
    assert_eq!(answer.into_inner().items[0].runtime_handler, "runc");
    pod.remove(&mut server).await;
}
