//! Both daemons under `concurrently`, as shipped.

use crate::{
    harness::{Node, Program},
    lifecycle::pod,
};

/// Waits until there is one of each daemon, started by this `concurrently`, and they answer.
#[track_caller]
fn is_whole(node: &Node, supervisor: &Program) {
    let wanted = ["cri-dockerd", "kubelet"].map(|name| (name.to_owned(), supervisor.id()));
    node.eventually("one of each daemon runs, ours", || {
        let daemons = node.daemons();
        if daemons == wanted {
            Ok(())
        } else {
            Err(format!("{daemons:?}"))
        }
    });
    node.wait_until_up();
}

#[test]
fn a_killed_concurrently_leaves_no_second_daemon_and_no_pod_is_touched() {
    let mut node = Node::start();
    node.apply("a.yaml", &pod("a", "x"));
    node.pod_runs("a");
    let before = node.container_ids("a");
    node.kubelet.kill();
    node.cri_dockerd.kill();

    let mut supervisor = node.supervise();
    is_whole(&node, &supervisor);
    for _ in 0..3 {
        supervisor.kill();
        // At once: those of before may still be about to end.
        supervisor = node.supervise();
        is_whole(&node, &supervisor);
    }
    node.apply("b.yaml", &pod("b", "x"));
    node.pod_runs_once("b");
    assert_eq!(node.container_ids("a"), before);

    assert_eq!(supervisor.stop(), Some(0));
    assert!(node.daemons().is_empty(), "{:?}", node.daemons());
    node.start_cri_dockerd();
    node.start_kubelet();
    node.pod_runs_once("a");
    assert_eq!(node.container_ids("a"), before);
}
