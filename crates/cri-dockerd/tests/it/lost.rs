//! Answers that are lost, and what a Docker that was killed has forgotten: the caller is told to try
//! again, and never something old or that what exists does not. Over an engine that is wrong at will.

use std::pin::pin;

use cri_api::v1::{self, ContainerState};
use testkit::eventually_async;
use tonic::{Code, Status};

use crate::fake_engine::{FakeEngine, Trouble};
use crate::harness::{Pod, SOON, Server, reaches};
use crate::truth::states;

struct Node {
    engine: FakeEngine,
    server: Server,
    pod: Pod,
    /// A container that runs.
    id: String,
}

impl Node {
    async fn start(name: &str) -> Self {
        let (engine, server, pod, [id]) = FakeEngine::with_pod(name, ["web"]).await;
        Self {
            engine,
            server,
            pod,
            id,
        }
    }

    async fn exec(&self) -> Result<(i32, String), Status> {
        self.exec_within(60).await
    }

    async fn exec_within(&self, seconds: i64) -> Result<(i32, String), Status> {
        let request = v1::ExecSyncRequest {
            container_id: self.id.clone(),
            cmd: vec!["true".to_owned()],
            timeout: seconds,
        };
        let answer = self.server.client.clone().exec_sync(request).await?;
        let answer = answer.into_inner();
        let output = String::from_utf8(answer.stdout).unwrap();
        Ok((answer.exit_code, output))
    }

    /// An exec during which `happens`, before Docker serves its first request that begins with
    /// `request`.
    async fn exec_while(&self, request: &str, happens: impl FnOnce()) -> Status {
        let before = self.engine.count(request);
        self.engine.trouble(request, Some(Trouble::Held));
        let meanwhile = async {
            self.engine.asked(request, before + 1).await;
            happens();
            self.engine.trouble(request, None);
        };
        tokio::join!(self.exec(), meanwhile).0.unwrap_err()
    }

    /// A call that has its effect while its answer is lost. Until Docker is asked again nothing may
    /// be answered from before.
    async fn unanswered<T>(
        &self,
        request: &str,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<Vec<(String, ContainerState)>, Status> {
        self.engine.trouble(request, Some(Trouble::Unanswered));
        // Whoever looks again has to wait.
        let inspect = format!("GET /containers/{}/json", self.id);
        self.engine.trouble(&inspect, Some(Trouble::Held));
        let Err(status) = call.await else {
            panic!("an answer that nobody gave");
        };
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        let release = async {
            tokio::task::yield_now().await;
            self.engine.trouble(&inspect, None);
            self.engine.trouble(request, None);
        };
        tokio::join!(states(&self.server), release).0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_that_a_restarted_docker_has_forgotten_can_be_asked_for_again() {
    let node = Node::start("forgotten").await;
    let forget = || node.engine.forget_execs();
    let before_start = node.exec_while("POST /exec/", forget).await;
    assert_eq!(before_start.code(), Code::Unavailable, "{before_start:?}");
    let before_end = node.exec_while("GET /exec/", forget).await;
    assert_eq!(before_end.code(), Code::Unavailable, "{before_end:?}");
    assert_eq!(node.exec().await.unwrap(), (0, "it works\n".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_that_its_container_has_outrun_says_what_became_of_the_container() {
    let node = Node::start("outrun").await;
    let end = || node.engine.end(&node.id, 0);
    // Docker took the connection over before it saw that there is nothing to run it in.
    let ended = node.exec_while("POST /exec/", end).await;
    assert_eq!(ended.code(), Code::FailedPrecondition, "{ended:?}");

    let node = Node::start("removed").await;
    let remove = || {
        node.engine.lose(&node.id);
        node.engine.forget_execs();
    };
    let removed = node.exec_while("POST /exec/", remove).await;
    assert_eq!(removed.code(), Code::NotFound, "{removed:?}");
}

/// What has no process yet cannot be killed, and nobody may be told that it is gone.
#[tokio::test(flavor = "multi_thread")]
async fn exec_that_is_late_to_start_has_ended_before_its_timeout_is_told() {
    let node = Node::start("late").await;
    node.engine.trouble("POST /exec/", Some(Trouble::Held));
    let mut exec = pin!(node.exec_within(1));
    let looks = node.engine.count("GET /exec/");
    tokio::select! {
        early = &mut exec => panic!("answered while the command was being started: {early:?}"),
        () = node.engine.asked("GET /exec/", looks + 3) => {}
    }
    node.engine.trouble("POST /exec/", None);
    let late = exec.await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_whose_answer_is_lost_hides_the_past() {
    let node = Node::start("stopped").await;
    let request = format!("POST /containers/{}/stop", node.id);
    let mut client = node.server.client.clone();
    let stop = v1::StopContainerRequest {
        container_id: node.id.clone(),
        timeout: 0,
    };
    if let Ok(seen) = node.unanswered(&request, client.stop_container(stop)).await {
        assert_eq!(seen, [(node.id.clone(), ContainerState::ContainerExited)]);
    }
    reaches(&node.server, &node.id, ContainerState::ContainerExited).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removal_whose_answer_is_lost_hides_the_past() {
    let node = Node::start("gone").await;
    let request = format!("DELETE /containers/{}", node.id);
    let mut client = node.server.client.clone();
    let remove = v1::RemoveContainerRequest {
        container_id: node.id.clone(),
    };
    if let Ok(seen) = node
        .unanswered(&request, client.remove_container(remove))
        .await
    {
        assert_eq!(seen, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn container_whose_create_was_not_answered_during_a_resync_is_found() {
    let node = Node::start("unborn").await;
    let create = "POST /containers/create";
    let inspect = format!("GET /containers/{}/json", node.id);
    node.engine.trouble(create, Some(Trouble::Held));
    let creates = node.engine.count(create);
    let mut client = node.server.client.clone();
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: node.pod.id.clone(),
        config: Some(Pod::container("second", "sleep 1000")),
        sandbox_config: Some(node.pod.config.clone()),
    };
    let meanwhile = async {
        node.engine.asked(create, creates + 1).await;
        // Everything is listed again, without it, and the reading in takes its time.
        let inspects = node.engine.count(&inspect);
        node.engine.trouble(&inspect, Some(Trouble::Held));
        node.engine.cut();
        node.engine.asked(&inspect, inspects + 1).await;
        node.engine.trouble(create, Some(Trouble::Unanswered));
    };
    let (created, ()) = tokio::join!(client.create_container(request), meanwhile);
    assert_eq!(created.unwrap_err().code(), Code::Unavailable);
    node.engine.trouble(&inspect, None);
    eventually_async(SOON, || async {
        match states(&node.server).await {
            Ok(seen) if seen.len() == 2 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn container_that_lacks_something_at_its_start_is_not_called_missing_itself() {
    let mut node = Node::start("lacking").await;
    let id = node.pod.create(&mut node.server, "second", "true").await;
    let request = format!("POST /containers/{id}/start");
    node.engine.trouble(&request, Some(Trouble::Lacking));
    let start = v1::StartContainerRequest { container_id: id };
    let status = node.server.client.start_container(start).await.unwrap_err();
    assert_eq!(status.code(), Code::Unknown, "{status:?}");
    assert!(
        status.message().contains("network x not found"),
        "{status:?}"
    );
}

/// The caller gives up and asks again while the first call is under way: that goes on, and nothing of it
/// is taken away or left behind.
#[tokio::test(flavor = "multi_thread")]
async fn pod_that_is_asked_for_twice_is_made_once() {
    let node = Node::start("twice").await;
    let config = Pod::config("again");
    let request = || v1::RunPodSandboxRequest {
        config: Some(config.clone()),
        ..Default::default()
    };
    let starts = node.engine.count("POST /containers/");
    node.engine
        .trouble("POST /containers/0000", Some(Trouble::Held));
    let mut first = tonic::Request::new(request());
    first.set_timeout(std::time::Duration::from_millis(300));
    let mut client = node.server.client.clone();
    client.run_pod_sandbox(first).await.unwrap_err();
    node.engine.asked("POST /containers/", starts + 2).await;
    let refused = client.run_pod_sandbox(request()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    node.engine.trouble("POST /containers/0000", None);
    eventually_async(SOON, || async {
        let request = v1::ListPodSandboxRequest::default();
        let listed = node.server.client.clone().list_pod_sandbox(request).await;
        let items = listed.unwrap().into_inner().items;
        let ready = |item: &&v1::PodSandbox| item.state() == v1::PodSandboxState::SandboxReady;
        if items.len() == 2 && items.iter().filter(ready).count() == 2 {
            Ok(())
        } else {
            Err(items)
        }
    })
    .await;
    assert_eq!(node.engine.count("DELETE "), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn removal_of_a_dying_container_is_tried_until_it_is_gone() {
    for (status, message) in [
        (409, "removal of container 1 is already in progress"),
        (
            500,
            "Could not kill running container 1, cannot remove - tried to kill container, but did not receive an exit event",
        ),
        (
            500,
            "container 1: driver \"overlay2\" failed to remove root filesystem: unlinkat /x/merged: device or resource busy",
        ),
    ] {
        let node = Node::start("dying").await;
        let request = format!("DELETE /containers/{}", node.id);
        node.engine
            .trouble(&request, Some(Trouble::Answered(status, message)));
        let mut client = node.server.client.clone();
        let remove = v1::RemoveContainerRequest {
            container_id: node.id.clone(),
        };
        let settles = async {
            node.engine.asked(&request, 2).await;
            node.engine.trouble(&request, None);
        };
        let (removed, ()) = tokio::join!(client.remove_container(remove), settles);
        removed.unwrap();
        assert_eq!(states(&node.server).await.unwrap(), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_that_comes_back_after_long_is_noticed_at_once() {
    let node = Node::start("back").await;
    node.engine.down();
    // Until the loss is noticed memory answers.
    eventually_async(SOON, || async {
        match states(&node.server).await {
            Err(status) if status.code() == Code::Unavailable => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    // Away for so long that tries alone would be far apart.
    let long = std::time::Duration::from_millis(3500);
    let served = eventually_async(SOON, || async { states(&node.server).await });
    assert!(tokio::time::timeout(long, served).await.is_err());
    node.engine.up();
    let soon = std::time::Duration::from_secs(2);
    eventually_async(soon, || async { states(&node.server).await }).await;
}

/// A Docker that was told to end ends its containers one after another, and serves the connections that
/// it has all the while: what it would start now it would end too.
#[tokio::test(flavor = "multi_thread")]
async fn deaths_are_not_told_by_a_docker_that_is_going_down() {
    let node = Node::start("closing").await;
    let inspect = format!("GET /containers/{}/json", node.id);
    let inspects = node.engine.count(&inspect);
    node.engine.closes();
    node.engine.end(&node.id, 0);
    node.engine.event("die", &node.id);
    node.engine.asked(&inspect, inspects + 1).await;
    let running = (node.id.clone(), ContainerState::ContainerRunning);
    // Before the death is known the container runs; then nothing is known until Docker is back.
    eventually_async(SOON, || async {
        match states(&node.server).await {
            Err(status) if status.code() == Code::Unavailable => Ok(()),
            Ok(seen) => {
                assert_eq!(seen, std::slice::from_ref(&running));
                Err("served".to_owned())
            }
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let request = v1::RunPodSandboxRequest {
        config: Some(Pod::config("late")),
        ..Default::default()
    };
    let mut client = node.server.client.clone();
    let refused = client.run_pod_sandbox(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    node.engine.down();
    node.engine.up();
    reaches(&node.server, &node.id, ContainerState::ContainerExited).await;
}
