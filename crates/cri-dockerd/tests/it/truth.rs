//! What is answered from memory is true: never older than the caller's own last action, and whole
//! again after a gap in Docker's events. Over an engine that can be slow and wrong at will.

use cri_api::v1::{self, ContainerState, PodSandboxState};
use testkit::eventually_async;

use crate::fake_engine::{FakeEngine, Trouble};
use crate::harness::{Pod, SOON, Server, reaches, start, status};

pub(crate) async fn states(
    server: &Server,
) -> Result<Vec<(String, ContainerState)>, tonic::Status> {
    let request = v1::ListContainersRequest::default();
    let answer = server.client.clone().list_containers(request).await?;
    let items = answer.into_inner().containers.into_iter();
    Ok(items.map(|item| (item.id.clone(), item.state())).collect())
}

async fn sandboxes(server: &Server) -> Result<Vec<(String, PodSandboxState)>, tonic::Status> {
    let request = v1::ListPodSandboxRequest::default();
    let answer = server.client.clone().list_pod_sandbox(request).await?;
    let items = answer.into_inner().items.into_iter();
    Ok(items.map(|item| (item.id.clone(), item.state())).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn death_while_the_start_is_being_answered_is_not_lost() {
    let engine = FakeEngine::start();
    let mut server = Server::start(&engine.host()).await;
    let pod = Pod::run(&mut server, Pod::config("quick")).await;
    let id = pod.create(&mut server, "web", "true").await;
    // The image's names are asked for anew, after the inspect that saw the container run.
    let looks = format!("GET /containers/{}/json", pod.id);
    let seen = engine.count(&looks);
    engine.event("tag", "");
    // Heard of by the time that the event after it is.
    engine.event("update", &pod.id);
    engine.asked(&looks, seen + 1).await;
    let images = engine.count("GET /images/sha256:1");
    engine.trouble("GET /images/sha256:1", Some(Trouble::Held));
    let call = start(&mut server, &id);
    let meanwhile = async {
        engine.asked("GET /images/sha256:1", images + 1).await;
        engine.end(&id, 3);
        engine.event("die", &id);
        // The death was heard of before the start is through: events come in order.
        engine.event("create", &pod.id);
        engine.trouble("GET /images/sha256:1", None);
    };
    tokio::join!(call, meanwhile);
    let ended = reaches(&server, &id, ContainerState::ContainerExited).await;
    assert_eq!(ended.exit_code, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn call_whose_outcome_could_not_be_read_hides_the_past() {
    let engine = FakeEngine::start();
    let mut server = Server::start(&engine.host()).await;
    let pod = Pod::run(&mut server, Pod::config("blind")).await;
    let id = pod.create(&mut server, "web", "sleep 1000").await;
    start(&mut server, &id).await;

    // Docker stops it and then can't say so.
    let inspect = format!("GET /containers/{id}/json");
    engine.trouble(&inspect, Some(Trouble::Failing));
    let stop = v1::StopContainerRequest {
        container_id: id.clone(),
        timeout: 0,
    };
    server.client.stop_container(stop).await.unwrap();
    // It was stopped: no answer may have it running, however often one asks.
    for _ in 0..20 {
        let seen = states(&server).await.unwrap();
        assert_eq!(seen, [(id.clone(), ContainerState::ContainerExited)]);
        let request = v1::ContainerStatusRequest {
            container_id: id.clone(),
            verbose: false,
        };
        let asked = server.client.container_status(request).await.unwrap_err();
        assert_eq!(asked.code(), tonic::Code::Unavailable, "{asked:?}");
    }
    engine.trouble(&inspect, None);
    reaches(&server, &id, ContainerState::ContainerExited).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gap_in_the_events_is_healed_by_reading_everything_again() {
    let engine = FakeEngine::start();
    let mut server = Server::start(&engine.host()).await;
    let pod = Pod::run(&mut server, Pod::config("gap")).await;
    let kept = pod.create(&mut server, "kept", "sleep 1000").await;
    let gone = pod.create(&mut server, "gone", "sleep 1000").await;
    start(&mut server, &kept).await;
    start(&mut server, &gone).await;

    // While nobody listens one ends and one vanishes, and the new list is slow.
    let lists = engine.count("GET /containers/json");
    engine.trouble("GET /containers/json", Some(Trouble::Held));
    engine.cut();
    engine.end(&kept, 5);
    engine.lose(&gone);
    engine.asked("GET /containers/json", lists + 1).await;
    // Not known again yet: readers wait, they are not told the old story.
    let reader = states(&server);
    let release = async {
        tokio::task::yield_now().await;
        engine.trouble("GET /containers/json", None);
    };
    let (seen, ()) = tokio::join!(reader, release);
    assert_eq!(
        seen.unwrap(),
        [(kept.clone(), ContainerState::ContainerExited)]
    );
    assert_eq!(status(&mut server, &kept).await.exit_code, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn list_that_fails_or_is_late_never_brings_back_what_was_removed() {
    let engine = FakeEngine::start();
    let mut server = Server::start(&engine.host()).await;
    let pod = Pod::run(&mut server, Pod::config("late")).await;
    let id = pod.create(&mut server, "web", "sleep 1000").await;
    // An event has it inspected; the answer hangs while the caller removes it.
    let inspect = format!("GET /containers/{id}/json");
    let before = engine.count(&inspect);
    engine.trouble(&inspect, Some(Trouble::Held));
    engine.event("update", &id);
    engine.asked(&inspect, before + 1).await;
    let remove = v1::RemoveContainerRequest {
        container_id: id.clone(),
    };
    server.client.remove_container(remove).await.unwrap();
    assert_eq!(states(&server).await.unwrap(), []);
    engine.trouble(&inspect, None);
    for _ in 0..10 {
        assert_eq!(states(&server).await.unwrap(), []);
    }

    // The sandbox is lost behind our back: shown as stopped by its checkpoint, until it is removed.
    engine.lose(&pod.id);
    engine.cut();
    eventually_async(SOON, || async {
        match sandboxes(&server).await {
            Ok(seen) if seen == [(pod.id.clone(), PodSandboxState::SandboxNotready)] => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    pod.remove(&mut server).await;
    assert_eq!(sandboxes(&server).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_of_a_pod_is_of_the_time_before_the_first_look() {
    let (engine, server, pod, []) = FakeEngine::with_pod("stamp", []).await;
    let inspect = format!("GET /containers/{}/json", pod.id);
    let looks = engine.count(&inspect);
    engine.trouble(&inspect, Some(Trouble::Held));
    let mut client = server.client.clone();
    let status = client.pod_sandbox_status(v1::PodSandboxStatusRequest {
        pod_sandbox_id: pod.id.clone(),
        verbose: true,
    });
    let meanwhile = async {
        engine.asked(&inspect, looks + 1).await;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        engine.trouble(&inspect, None);
        i64::try_from(now.unwrap().as_nanos()).unwrap()
    };
    let (status, asked) = tokio::join!(status, meanwhile);
    let timestamp = status.unwrap().into_inner().timestamp;
    assert!(timestamp > 0 && timestamp < asked, "{timestamp} {asked}");
}
