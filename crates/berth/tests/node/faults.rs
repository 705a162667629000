//! Programs are killed at bad moments: pods are adopted or brought back once, none doubled, none
//! restarted without cause, nothing leaked.

use std::fs;

use crate::{
    harness::{Node, names_in},
    lifecycle::pod,
};

#[test]
fn a_killed_kubelet_adopts_its_pods_and_ends_those_whose_manifest_went_meanwhile() {
    let mut node = Node::start();
    for name in ["stays", "goes"] {
        node.apply(&format!("{name}.yaml"), &pod(name, "x"));
        node.pod_runs(name);
    }
    let before = node.container_ids("stays");
    node.kubelet.kill();
    node.remove("goes.yaml");
    node.apply("comes.yaml", &pod("comes", "x"));
    node.start_kubelet();
    node.pod_runs("comes");
    node.pod_runs("stays");
    node.pod_is_gone("goes");
    assert_eq!(node.container_ids("stays"), before);
}

#[test]
fn a_killed_cri_dockerd_is_met_again_without_a_restart_of_any_pod() {
    let mut node = Node::start();
    node.apply("a.yaml", &pod("a", "x"));
    node.pod_runs("a");
    let before = node.container_ids("a");
    node.cri_dockerd.kill();
    node.apply("b.yaml", &pod("b", "x"));
    node.start_cri_dockerd();
    node.pod_runs("b");
    assert_eq!(node.container_ids("a"), before);
}

#[test]
fn everything_killed_at_once_in_the_middle_of_a_start_leaves_each_pod_once() {
    let mut node = Node::start();
    for index in 0..5 {
        node.apply(&format!("p{index}.yaml"), &pod(&format!("p{index}"), "x"));
    }
    node.eventually("the first sandbox is there", || {
        if node.containers("p0").is_empty() {
            Err("none".to_owned())
        } else {
            Ok(())
        }
    });
    node.kubelet.kill();
    node.cri_dockerd.kill();
    node.start_cri_dockerd();
    node.start_kubelet();
    for index in 0..5 {
        let name = format!("p{index}");
        node.pod_runs(&name);
        node.eventually("one sandbox and one container run", || {
            let running = node
                .containers(&name)
                .iter()
                .filter(|one| one["State"] == "running")
                .count();
            if running == 2 {
                Ok(())
            } else {
                Err(format!("{running} run"))
            }
        });
        node.remove(&format!("{name}.yaml"));
    }
    for index in 0..5 {
        node.pod_is_gone(&format!("p{index}"));
    }
    assert!(names_in(&node.path("root/pods")).is_empty());
}

#[test]
fn a_container_killed_behind_our_back_comes_back_and_a_killed_sandbox_too() {
    let node = Node::start();
    node.apply("a.yaml", &pod("a", "x"));
    let first = node.pod_runs("a");
    let id = first["status"]["containerStatuses"][0]["containerID"]
        .as_str()
        .unwrap();
    let id = id.trim_start_matches("docker://").to_owned();
    node.engine
        .request("POST", &format!("/containers/{id}/kill"), None);
    node.pod_becomes("a", |status| {
        let container = &status["containerStatuses"][0];
        container["restartCount"] == 1 && container["state"]["running"].is_object()
    });
    let sandbox = node
        .containers("a")
        .into_iter()
        .find(|one| one["Labels"]["io.kubernetes.docker.type"] == "podsandbox")
        .unwrap();
    let path = format!("/containers/{}?force=1", sandbox["Id"].as_str().unwrap());
    node.engine.request("DELETE", &path, None);
    node.eventually("a new sandbox carries the pod", || {
        let sandboxes: Vec<_> = node
            .containers("a")
            .into_iter()
            .filter(|one| one["Labels"]["io.kubernetes.docker.type"] == "podsandbox")
            .filter(|one| one["State"] == "running" && one["Id"] != sandbox["Id"])
            .collect();
        if sandboxes.len() == 1 {
            Ok(())
        } else {
            Err(format!("{sandboxes:?}"))
        }
    });
    node.pod_runs("a");
}

#[test]
fn a_second_node_on_the_same_engine_ends_and_touches_no_pod() {
    let mut node = Node::start();
    node.apply("a.yaml", &pod("a", "x"));
    node.pod_runs("a");
    let before = node.container_ids("a");
    let (mut kubelet, _cri_dockerd) = node.another();
    let code = node.eventually("the second kubelet ends", || kubelet.ended());
    assert_eq!(code, Some(1));
    let log = fs::read_to_string(node.path("another/kubelet.log")).unwrap();
    let said = format!("another kubelet (pid {}: ", node.kubelet.id());
    assert!(log.contains(&said), "{said:?} in {log}");
    assert!(log.contains("stop one of the two"), "{log}");
    // With the same root directory it would be the first one's.
    assert!(!node.path("another/root/events.json").exists());
    assert_eq!(node.container_ids("a"), before);
    // The place is free once the first is gone, however it went.
    node.kubelet.kill();
    node.start_kubelet();
    node.pod_runs("a");
    assert_eq!(node.container_ids("a"), before);
}

#[test]
fn a_vanished_manifest_directory_is_one_error_and_no_loss() {
    let node = Node::start();
    node.apply("a.yaml", &pod("a", "x"));
    node.pod_runs("a");
    let before = node.container_ids("a");
    fs::rename(node.path("manifests"), node.path("away")).unwrap();
    let said = || {
        fs::read_to_string(node.path("kubelet.log"))
            .unwrap()
            .matches("manifest path cannot be read")
            .count()
    };
    node.eventually("the error is said", || {
        if said() == 1 {
            Ok(())
        } else {
            Err(said().to_string())
        }
    });
    fs::rename(node.path("away"), node.path("manifests")).unwrap();
    node.apply("b.yaml", &pod("b", "x"));
    node.pod_runs("b");
    assert_eq!(node.container_ids("a"), before);
    assert_eq!(said(), 1);
}
