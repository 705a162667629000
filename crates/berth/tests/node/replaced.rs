//! A manifest changed in every way: the old is gone before the new starts (kubelet SRC-40 to SRC-43).

use serde_json::Value;

use crate::{harness::Node, lifecycle::pod};

/// A pod that holds a host port and a host file as long as it runs, and says when it finds another
/// that does.
fn holder(image: &str, container: &str, port: u16, directory: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec:\n  hostNetwork: true\n  \
         terminationGracePeriodSeconds: 10\n  containers:\n  - name: {container}\n    image: {image}\n    \
         ports: [{{containerPort: {port}}}]\n    command: [sh, -c]\n    args:\n    - |\n      \
         trap 'sleep 2; rm /held/lock; exit 0' TERM\n      \
         mkdir /held/lock || {{ echo clash; touch /held/clash; }}\n      \
         httpd -f -p {port} & wait\n      \
         echo gone; touch /held/clash; sleep 1000\n    \
         volumeMounts: [{{name: held, mountPath: /held}}]\n  \
         volumes: [{{name: held, hostPath: {{path: {directory}}}}}]\n"
    )
    .replace("rm /held/lock", "rmdir /held/lock")
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn ports_and_files_of_the_old_are_free_when_the_new_starts() {
    let node = Node::start();
    let held = node.path("held");
    std::fs::create_dir(&held).unwrap();
    let directory = held.display().to_string();
    let port = free_port();
    node.apply("a.yaml", &holder("IMAGE", "one", port, &directory));
    node.pod_runs("a");
    let mut last = Value::Null;
    // Another container name, and twice in a row another: what never started is dropped.
    for (name, times) in [("two", 1), ("three", 1), ("five", 2)] {
        if times == 2 {
            node.apply("a.yaml", &holder("IMAGE", "four", port, &directory));
        }
        node.apply("a.yaml", &holder("IMAGE", name, port, &directory));
        let pod = node.pod_becomes("a", |status| {
            status["containerStatuses"][0]["name"] == name
                && status["containerStatuses"][0]["state"]["running"].is_object()
        });
        assert_ne!(pod["metadata"]["uid"], last);
        last = pod["metadata"]["uid"].clone();
    }
    assert!(!held.join("clash").exists());
    node.remove("a.yaml");
    node.pod_is_gone("a");
}

#[test]
fn a_pod_in_two_files_runs_once() {
    let node = Node::start();
    node.apply("a.yaml", &pod("a", "first"));
    node.pod_runs("a");
    node.apply("b.yaml", &pod("a", "second"));
    node.log_has("a", "c", 0, "second");
    node.eventually("one pod is left", || {
        let containers = node.containers("a");
        let uids: std::collections::BTreeSet<String> = containers
            .iter()
            .map(|container| container["Labels"]["io.kubernetes.pod.uid"].to_string())
            .collect();
        if uids.len() == 1 {
            Ok(())
        } else {
            Err(format!("{uids:?}"))
        }
    });
    node.remove("b.yaml");
    node.log_has("a", "c", 0, "first");
}

#[test]
fn an_edit_under_a_uid_of_its_own_changes_the_pod_in_place() {
    let node = Node::start();
    let own = |say: &str, image: &str| {
        pod("a", say)
            .replace("{name: a}", "{name: a, uid: my-own-uid}")
            .replace("image: IMAGE", &format!("image: {image}"))
    };
    node.apply("a.yaml", &own("one", "IMAGE"));
    let before = node.pod_runs("a");
    let sandbox = |node: &Node| -> Vec<String> {
        let all = node.containers("a");
        let sandboxes = all
            .iter()
            .filter(|one| one["Labels"]["io.kubernetes.docker.type"] == "podsandbox");
        sandboxes.map(|one| one["Id"].to_string()).collect()
    };
    let old = sandbox(&node);
    // Another command alone waits for the next start; another image restarts (CTR-12).
    let other = "berth.test/other:1";
    let tag = format!("/images/{}/tag?repo=berth.test/other&tag=1", node.image);
    node.engine
        .request("POST", &tag, None)
        .expect_success("tag");
    node.apply("a.yaml", &own("two", other));
    let after = node.pod_becomes("a", |status| {
        status["containerStatuses"][0]["restartCount"] == 1
            && status["containerStatuses"][0]["state"]["running"].is_object()
    });
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);
    assert_eq!(sandbox(&node), old);
    node.log_has("a", "c", 1, "two");
}
