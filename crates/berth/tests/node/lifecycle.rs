//! Pods come, change and go with their manifests (kubelet section 2.6).

use serde_json::Value;

use crate::harness::{Node, names_in};

/// A pod whose one container says what it is told and waits, and ends at once when asked to.
pub(crate) fn pod(name: &str, say: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  \
         terminationGracePeriodSeconds: 5\n  containers:\n  - name: c\n    image: IMAGE\n    \
         command: [sh, -c, 'trap \"exit 0\" TERM; echo {say}; sleep 1000 & wait']\n"
    )
}

#[test]
fn a_manifest_becomes_a_running_pod_and_its_removal_leaves_nothing() {
    let node = Node::start();
    node.apply("a.yaml", &pod("a", "hello"));
    let running = node.pod_runs("a");
    let status = &running["status"];
    assert_eq!(status["qosClass"], "BestEffort");
    assert!(
        status["podIP"].as_str().is_some_and(|ip| ip.contains('.')),
        "{status}"
    );
    let container = &status["containerStatuses"][0];
    assert_eq!(
        (&container["restartCount"], &container["ready"]),
        (&Value::from(0), &Value::from(true))
    );
    assert!(
        container["containerID"]
            .as_str()
            .unwrap()
            .starts_with("docker://")
    );
    node.log_has("a", "c", 0, "stdout F hello");
    let id = container["containerID"]
        .as_str()
        .unwrap()
        .trim_start_matches("docker://");
    let link = format!("/var/log/containers/a-n_default_c-{id}.log");
    node.eventually("the log is linked", || {
        let log = std::fs::read_to_string(&link).map_err(|error| error.to_string())?;
        if log.contains("hello") {
            Ok(())
        } else {
            Err(log)
        }
    });
    node.remove("a.yaml");
    node.pod_is_gone("a");
    assert!(!std::path::Path::new(&link).is_symlink());
    assert!(names_in(&node.path("root/pods")).is_empty());
    assert!(names_in(&node.path("cri/sandbox")).is_empty());
}

#[test]
fn an_edited_manifest_replaces_its_pod_after_the_old_one_has_ended() {
    let node = Node::start();
    node.apply("a.yaml", &pod("a", "one"));
    let old = node.pod_runs("a")["metadata"]["uid"].clone();
    node.apply("a.yaml", &pod("a", "two"));
    let new = node.eventually("the new pod runs", || {
        let pod = node.pod("a")?;
        let running = pod["status"]["phase"] == "Running" && pod["metadata"]["uid"] != old;
        if running {
            Ok(pod)
        } else {
            Err(pod["status"].to_string())
        }
    });
    node.log_has("a", "c", 0, "two");
    node.eventually("only the new pod is left", || {
        let uids: Vec<Value> = node
            .containers("a")
            .iter()
            .map(|container| container["Labels"]["io.kubernetes.pod.uid"].clone())
            .collect();
        if uids.iter().all(|uid| *uid == new["metadata"]["uid"]) {
            Ok(())
        } else {
            Err(format!("{uids:?}"))
        }
    });
}

#[test]
fn a_broken_manifest_is_an_error_and_leaves_every_pod_alone() {
    let node = Node::start();
    node.apply("a.yaml", &pod("a", "one"));
    node.pod_runs("a");
    let before = node.container_ids("a");
    node.apply(
        "b.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: b}\nspec: {containers: [{image: x}]}\n",
    );
    node.apply("c.yaml", &pod("c", "fine"));
    node.pod_runs("c");
    node.eventually("the error names file and field", || {
        let log = std::fs::read_to_string(node.path("kubelet.log")).unwrap();
        if log.contains("b.yaml") && log.contains("spec.containers[0].name: Required value") {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    });
    node.apply("a.yaml", "this is not a pod");
    node.apply("d.yaml", &pod("d", "fine"));
    node.pod_runs("d");
    assert_eq!(node.container_ids("a"), before);
    let status = node.status();
    let path = |file: &str| node.path("manifests").join(file).display().to_string();
    let row = |start: &str| status.lines().find(|line| line.starts_with(start));
    let kept = format!(
        "as before an edit broke {}: couldn't parse as pod",
        path("a.yaml")
    );
    assert!(row("default/a-n ").unwrap().contains(&kept), "{status}");
    let none = format!(
        "no pod  {}: spec.containers[0].name: Required",
        path("b.yaml")
    );
    assert!(row(&none).is_some(), "{status}");
    assert!(!row("default/c-n ").unwrap().contains("yaml"), "{status}");
}

#[test]
fn a_crashed_container_is_restarted_at_once_and_then_backs_off() {
    let node = Node::start();
    node.apply(
        "a.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - name: c\n    \
         image: IMAGE\n    command: [sh, -c, 'echo dying; echo because > /dev/termination-log; exit 3']\n",
    );
    let pod = node.pod_becomes("a", |status| {
        status["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    });
    let container = &pod["status"]["containerStatuses"][0];
    assert!(
        container["restartCount"].as_u64().unwrap() >= 1,
        "{container}"
    );
    let last = &container["lastState"]["terminated"];
    assert_eq!(
        (&last["exitCode"], &last["reason"]),
        (&Value::from(3), &Value::from("Error"))
    );
    assert_eq!(last["message"], "because\n");
    assert_eq!(pod["status"]["phase"], "Running");
}

#[test]
fn a_finished_pod_stays_finished_over_a_restart_of_the_kubelet() {
    let mut node = Node::start();
    node.apply(
        "a.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  restartPolicy: Never\n  \
         containers:\n  - {name: c, image: IMAGE, command: [sh, -c, 'echo once']}\n",
    );
    node.pod_becomes("a", |status| status["phase"] == "Succeeded");
    let before = node.container_ids("a");
    assert_eq!(node.kubelet.stop(), Some(0));
    node.start_kubelet();
    node.pod_becomes("a", |status| status["phase"] == "Succeeded");
    assert_eq!(node.container_ids("a"), before);
}
