//! The engine dies under a whole node: pods are adopted, or brought back once.

use testkit::{DockerEngine, EngineOptions};

use crate::{
    harness::{Node, Setup, names_in},
    lifecycle::pod,
};

const PODS: [&str; 3] = ["a", "b", "c"];

fn node_on(arguments: &[&str]) -> Node {
    let engine = DockerEngine::start_with(EngineOptions {
        arguments: arguments.iter().map(ToString::to_string).collect(),
    });
    Node::set_up(Setup {
        engine: Some(engine),
        ..Setup::default()
    })
}

fn apply(node: &Node, names: &[&str]) {
    for name in names {
        node.apply(&format!("{name}.yaml"), &pod(name, "x"));
    }
}

/// Takes the pods away and checks that nothing at all is left of them.
#[track_caller]
fn ends_clean(node: &Node, names: &[&str]) {
    for name in names {
        node.remove(&format!("{name}.yaml"));
    }
    for name in names {
        node.pod_is_gone(name);
    }
    for directory in ["root/pods", "cri/sandbox", "logs/pods"] {
        let left = names_in(&node.path(directory));
        assert!(left.is_empty(), "{directory}: {left:?}");
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    // The root directory itself may stay a mount: a shared one of itself, until the next boot.
    let pods = node.path("root/pods").display().to_string();
    assert!(!mounts.contains(&pods), "{mounts}");
}

#[test]
fn pods_that_live_through_a_killed_dockerd_are_adopted_untouched() {
    let node = node_on(&["--live-restore"]);
    apply(&node, &PODS);
    for name in PODS {
        node.pod_runs(name);
    }
    let before = PODS.map(|name| node.container_ids(name));
    node.engine.kill();
    apply(&node, &["late"]);
    node.remove("c.yaml");
    node.engine.restart();
    node.pod_runs_once("late");
    node.pod_is_gone("c");
    for (name, before) in PODS.iter().zip(before).take(2) {
        node.pod_runs_once(name);
        assert_eq!(node.container_ids(name), before);
    }
    ends_clean(&node, &["a", "b", "late"]);
}

#[test]
fn pods_that_die_with_dockerd_are_brought_back_once() {
    let node = node_on(&[]);
    apply(&node, &PODS);
    for name in PODS {
        node.pod_runs(name);
    }
    node.engine.kill();
    node.engine.restart();
    for name in PODS {
        node.pod_runs_once(name);
    }
    // And in order: a stop that the node sees coming is no other matter.
    node.engine.restart();
    for name in PODS {
        node.pod_runs_once(name);
    }
    ends_clean(&node, &PODS);
}

#[test]
fn a_dockerd_killed_in_the_middle_of_starts_leaves_each_pod_once() {
    let node = node_on(&[]);
    apply(&node, &PODS);
    node.eventually("something of the first pod is there", || {
        if node.containers("a").is_empty() {
            Err("nothing")
        } else {
            Ok(())
        }
        .map_err(str::to_owned)
    });
    node.engine.kill();
    node.engine.restart();
    for name in PODS {
        node.pod_runs_once(name);
    }
    ends_clean(&node, &PODS);
}

#[test]
fn after_a_power_cut_each_pod_is_brought_back_once() {
    let mut node = node_on(&[]);
    apply(&node, &PODS);
    for name in PODS {
        node.pod_runs(name);
    }
    apply(&node, &["begun"]);
    node.kubelet.kill();
    node.cri_dockerd.kill();
    node.engine.cut_power();
    // What was on its way to the disk is lost.
    let checkpoints = node.path("cri/sandbox");
    let torn = names_in(&checkpoints).remove(0);
    std::fs::write(checkpoints.join(torn), "").unwrap();
    node.remove("c.yaml");

    node.start_cri_dockerd();
    node.engine.restart();
    node.start_kubelet();
    for name in ["a", "b", "begun"] {
        node.pod_runs_once(name);
    }
    node.pod_is_gone("c");
    ends_clean(&node, &["a", "b", "begun"]);
}
