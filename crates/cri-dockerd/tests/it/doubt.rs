//! One container that Docker can't tell of: it is distrusted by itself, all others go on being served,
//! and it is served again as soon as Docker can.

use cri_api::v1::{self, ContainerState};
use testkit::eventually_async;
use tonic::{Code, Status};

use crate::fake_engine::{FakeEngine, Trouble};
use crate::harness::{Pod, SOON, Server, reaches, status};
use crate::truth::states;

/// A pod of two running containers.
struct Node {
    engine: FakeEngine,
    server: Server,
    pod: Pod,
    healthy: String,
    sick: String,
}

impl Node {
    async fn start(name: &str) -> Self {
        let (engine, server, pod, [healthy, sick]) =
            FakeEngine::with_pod(name, ["healthy", "sick"]).await;
        Self {
            engine,
            server,
            pod,
            healthy,
            sick,
        }
    }

    fn inspect(&self) -> String {
        format!("GET /containers/{}/json", self.sick)
    }

    async fn ask(&self, id: &str) -> Result<ContainerState, Status> {
        let request = v1::ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: false,
        };
        let answer = self.server.client.clone().container_status(request).await?;
        Ok(answer.into_inner().status.unwrap().state())
    }

    /// The sick one is asked for until it is called unknown, when the healthy one is served.
    async fn sick_is_unknown_and_the_other_is_not(&self) {
        eventually_async(SOON, || async {
            let seen = (self.ask(&self.sick).await, self.ask(&self.healthy).await);
            match seen {
                (Err(status), Ok(ContainerState::ContainerRunning))
                    if status.code() == Code::Unavailable =>
                {
                    Ok(())
                }
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        let ready = self
            .server
            .client
            .clone()
            .status(v1::StatusRequest::default())
            .await
            .unwrap()
            .into_inner();
        assert!(ready.status.unwrap().conditions[0].status);
    }

    async fn listed(&self) -> Vec<(String, ContainerState)> {
        let mut listed = states(&self.server).await.unwrap();
        listed.sort();
        listed
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn container_whose_inspect_fails_or_hangs_is_unknown_by_itself() {
    for trouble in [Trouble::Failing, Trouble::Held, Trouble::Unanswered] {
        let node = Node::start("sick").await;
        node.engine.trouble(&node.inspect(), Some(trouble));
        if trouble == Trouble::Unanswered {
            // Everything is read in again.
            node.engine.cut();
        } else {
            let inspects = node.engine.count(&node.inspect());
            node.engine.event("update", &node.sick);
            node.engine.asked(&node.inspect(), inspects + 1).await;
            // All the time.
            node.ask(&node.healthy).await.unwrap();
        }
        node.sick_is_unknown_and_the_other_is_not().await;
        // What Docker's list tells goes on being listed, and is not of old.
        node.engine.end(&node.sick, 3);
        let expected = [
            (node.healthy.clone(), ContainerState::ContainerRunning),
            (node.sick.clone(), ContainerState::ContainerExited),
        ];
        assert_eq!(node.listed().await, expected, "{trouble:?}");
        node.engine.trouble(&node.inspect(), None);
        let ended = reaches(&node.server, &node.sick, ContainerState::ContainerExited).await;
        assert_eq!(ended.exit_code, 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn server_starts_beside_a_container_that_cannot_be_inspected() {
    let mut node = Node::start("born").await;
    node.engine.trouble(&node.inspect(), Some(Trouble::Failing));
    node.server = node.server.crash_and_restart(&node.engine.host()).await;
    node.sick_is_unknown_and_the_other_is_not().await;
    let expected = [
        (node.healthy.clone(), ContainerState::ContainerRunning),
        (node.sick.clone(), ContainerState::ContainerRunning),
    ];
    assert_eq!(node.listed().await, expected);
    let listed = v1::ListPodSandboxRequest::default();
    let pods = node.server.client.list_pod_sandbox(listed).await.unwrap();
    assert_eq!(pods.into_inner().items.len(), 1);
    // It goes with its pod.
    node.pod.remove(&mut node.server).await;
    assert_eq!(states(&node.server).await.unwrap(), []);
    assert_eq!(
        node.engine
            .count(&format!("DELETE /containers/{}", node.sick)),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn container_that_cannot_be_inspected_can_be_stopped_and_removed() {
    let mut node = Node::start("ended").await;
    node.engine.trouble(&node.inspect(), Some(Trouble::Failing));
    node.engine.event("update", &node.sick);
    node.sick_is_unknown_and_the_other_is_not().await;
    let stop = v1::StopContainerRequest {
        container_id: node.sick.clone(),
        timeout: 0,
    };
    node.server.client.stop_container(stop).await.unwrap();
    let expected = [
        (node.healthy.clone(), ContainerState::ContainerRunning),
        (node.sick.clone(), ContainerState::ContainerExited),
    ];
    assert_eq!(node.listed().await, expected);
    let remove = v1::RemoveContainerRequest {
        container_id: node.sick.clone(),
    };
    node.server.client.remove_container(remove).await.unwrap();
    assert_eq!(
        node.listed().await,
        [(node.healthy.clone(), ContainerState::ContainerRunning)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sandbox_that_cannot_be_inspected_harms_no_other_pod() {
    let mut node = Node::start("other").await;
    let second = Pod::run(&mut node.server, Pod::config("second")).await;
    let inspect = format!("GET /containers/{}/json", second.id);
    node.engine.trouble(&inspect, Some(Trouble::Failing));
    node.engine.cut();
    let ask = |id: &str| {
        let request = v1::PodSandboxStatusRequest {
            pod_sandbox_id: id.to_owned(),
            verbose: false,
        };
        let mut client = node.server.client.clone();
        async move { client.pod_sandbox_status(request).await }
    };
    eventually_async(SOON, || async {
        match (ask(&second.id).await, ask(&node.pod.id).await) {
            (Err(status), Ok(_)) if status.code() == Code::Unavailable => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let listed = v1::ListPodSandboxRequest::default();
    let pods = node.server.client.list_pod_sandbox(listed).await.unwrap();
    let pods = pods.into_inner().items;
    assert_eq!(pods.len(), 2);
    assert!(
        pods.iter()
            .all(|pod| pod.state() == v1::PodSandboxState::SandboxReady)
    );
    assert_eq!(
        status(&mut node.server, &node.healthy).await.state(),
        ContainerState::ContainerRunning
    );
}
