//! Docker away, killed, back again; cri-dockerd killed.

use cri_api::v1::{self, ContainerState};
use serde_json::Value;
use testkit::{DockerEngine, EngineOptions, eventually_async};

use crate::harness::{Pod, SOON, Server, reaches, start, status};

async fn ready(server: &Server) -> (bool, String) {
    let request = v1::StatusRequest { verbose: false };
    let answer = server
        .client
        .clone()
        .status(request)
        .await
        .unwrap()
        .into_inner();
    let condition = answer.status.unwrap().conditions.remove(0);
    (condition.status, condition.reason)
}

async fn becomes_ready(server: &Server) {
    eventually_async(SOON, || async {
        let state = ready(server).await;
        if state.0 { Ok(()) } else { Err(state) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn socket_answers_while_docker_is_down_and_work_resumes_by_itself() {
    let engine = tokio::task::block_in_place(|| {
        let engine = DockerEngine::start();
        testkit::test_image(&engine);
        engine.stop();
        engine
    });
    let mut server = Server::start(&engine.host()).await;
    assert_eq!(
        ready(&server).await,
        (false, "DockerDaemonNotReady".to_owned())
    );
    let listed = server
        .client
        .list_containers(v1::ListContainersRequest::default())
        .await;
    assert_eq!(listed.unwrap_err().code(), tonic::Code::Unavailable);

    tokio::task::block_in_place(|| engine.restart());
    becomes_ready(&server).await;
    let pod = Pod::run(&mut server, Pod::config("resume")).await;
    let id = pod.create(&mut server, "web", "sleep 1000").await;
    start(&mut server, &id).await;

    // Gone again: the stream breaks at once, and what it did meanwhile is read in again.
    tokio::task::block_in_place(|| engine.stop());
    eventually_async(SOON, || async {
        let state = ready(&server).await;
        if state.0 { Err(state) } else { Ok(()) }
    })
    .await;
    tokio::task::block_in_place(|| engine.restart());
    becomes_ready(&server).await;
    reaches(&server, &id, ContainerState::ContainerExited).await;
    pod.remove(&mut server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarted_server_knows_all_pods_again() {
    let engine = crate::harness::engine_with_image(DockerEngine::shared()).await;
    let mut server = Server::start(&engine.host()).await;
    let pod = Pod::run(&mut server, Pod::config("again")).await;
    let id = pod.create(&mut server, "web", "sleep 1000").await;
    start(&mut server, &id).await;
    let before = status(&mut server, &id).await;
    let mut server = server.crash_and_restart(&engine.host()).await;
    assert_eq!(status(&mut server, &id).await, before);
    pod.remove(&mut server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_during_which_docker_is_killed_can_be_asked_for_again() {
    let engine = tokio::task::block_in_place(|| {
        let engine = DockerEngine::start_with(EngineOptions {
            arguments: vec!["--live-restore".to_owned()],
        });
        testkit::test_image(&engine);
        engine
    });
    let mut server = Server::start(&engine.host()).await;
    let pod = Pod::run(&mut server, Pod::config("exec")).await;
    let id = pod.create(&mut server, "web", "sleep 1000").await;
    start(&mut server, &id).await;
    let mut client = server.client.clone();
    let mut exec = async |command: &str| {
        let request = v1::ExecSyncRequest {
            container_id: id.clone(),
            cmd: ["sh", "-c", command].map(str::to_owned).to_vec(),
            timeout: 60,
        };
        client.exec_sync(request).await
    };
    let meanwhile = async {
        eventually_async(SOON, || async {
            tokio::task::block_in_place(|| {
                let path = format!("/containers/{id}/json");
                let found = engine.json("GET", &path, &Value::Null);
                found["ExecIDs"].is_array().then_some(()).ok_or(found)
            })
        })
        .await;
        tokio::task::block_in_place(|| {
            engine.kill();
            engine.restart();
        });
    };
    let (lost, ()) = tokio::join!(exec("sleep 1000"), meanwhile);
    let lost = lost.unwrap_err();
    assert_eq!(lost.code(), tonic::Code::Unavailable, "{lost:?}");
    becomes_ready(&server).await;
    let again = exec("echo again").await.unwrap().into_inner();
    assert_eq!(
        (again.exit_code, again.stdout.as_slice()),
        (0, &b"again\n"[..])
    );
    pod.remove(&mut server).await;
}
