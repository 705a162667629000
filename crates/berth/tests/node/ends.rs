//! How containers and pods end, and that what has ended stays so (kubelet CTR-40 to CTR-53, LIFE-37).

use std::{fs, time::Instant};

use serde_json::Value;

use crate::{
    harness::{Node, SOON, names_in},
    lifecycle::pod,
    probes::kubelet_says,
};

fn first(status: &Value) -> &Value {
    &status["containerStatuses"][0]
}

#[test]
fn hooks_run_after_the_start_and_before_the_stop() {
    let node = Node::start();
    let notes = node.path("notes");
    fs::create_dir(&notes).unwrap();
    let manifest = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  \
        terminationGracePeriodSeconds: 20\n  containers:\n  - name: c\n    image: IMAGE\n    \
        command: [sh, -c, 'trap \"echo term >> /notes/log; exit 0\" TERM; sleep 1000 & wait']\n    \
        lifecycle:\n      postStart: {exec: {command: [sh, -c, 'sleep 1; echo started >> /notes/log']}}\n      \
        preStop: {exec: {command: [sh, -c, 'sleep 1; echo stopping >> /notes/log']}}\n    \
        volumeMounts: [{name: notes, mountPath: /notes}]\n  - name: d\n    image: IMAGE\n    \
        command: [sh, -c, 'echo second >> /notes/log; trap \"exit 0\" TERM; sleep 1000 & wait']\n    \
        lifecycle: {preStop: {sleep: {seconds: 1}}}\n    \
        volumeMounts: [{name: notes, mountPath: /notes}]\n  \
        volumes: [{name: notes, hostPath: {path: DIRECTORY}}]\n";
    node.apply(
        "a.yaml",
        &manifest.replace("DIRECTORY", &notes.display().to_string()),
    );
    node.pod_runs("a");
    node.remove("a.yaml");
    node.pod_is_gone("a");
    let log = fs::read_to_string(notes.join("log")).unwrap();
    assert_eq!(log, "started\nsecond\nstopping\nterm\n");
}

#[test]
fn hooks_that_fail_or_never_end_do_what_the_original_says() {
    let node = Node::start();
    node.apply(
        "a.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  terminationGracePeriodSeconds: 2\n  \
         restartPolicy: Always\n  containers:\n  - name: c\n    image: IMAGE\n    \
         command: [sh, -c, 'sleep 1000']\n    \
         lifecycle: {postStart: {exec: {command: [sh, -c, 'echo out; echo err >&2; exit 7']}}}\n",
    );
    node.apply(
        "b.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: b}\nspec:\n  terminationGracePeriodSeconds: 3\n  \
         containers:\n  - name: c\n    image: IMAGE\n    command: [sh, -c, 'sleep 1000']\n    \
         lifecycle: {preStop: {exec: {command: [sh, -c, 'sleep 1000']}}}\n",
    );
    kubelet_says(&node, "PostStartHook failed");
    kubelet_says(&node, "FailedPostStartHook");
    kubelet_says(&node, "exited with 7: err");
    node.pod_becomes("a", |status| {
        first(status)["restartCount"].as_u64() >= Some(1)
            && first(status)["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    });
    node.pod_runs("b");
    node.remove("b.yaml");
    let began = Instant::now();
    node.pod_is_gone("b");
    // Three seconds for the hook, two for the signal that nobody hears.
    assert!(began.elapsed() < SOON / 3, "{:?}", began.elapsed());
    kubelet_says(&node, "PreStop hook not completed in grace period");
}

#[test]
fn a_pod_that_passes_its_deadline_has_failed_for_good() {
    let mut node = Node::start();
    node.apply(
        "a.yaml",
        &pod("a", "hello").replace("spec:\n", "spec:\n  activeDeadlineSeconds: 3\n"),
    );
    let failed = |status: &Value| {
        status["phase"] == "Failed"
            && status["reason"] == "DeadlineExceeded"
            && first(status)["state"]["terminated"].is_object()
    };
    let pod = node.pod_becomes("a", failed);
    assert_eq!(
        pod["status"]["message"],
        "Pod was active on the node longer than the specified deadline"
    );
    let before = node.container_ids("a");
    assert_eq!(node.kubelet.stop(), Some(0));
    node.start_kubelet();
    node.pod_becomes("a", failed);
    node.apply("other.yaml", &crate::lifecycle::pod("other", "hello"));
    node.pod_runs("other");
    assert_eq!(node.container_ids("a"), before);
}

/// What `docker system prune` does to containers.
fn prune(node: &Node) {
    let answer = node.engine.request("POST", "/containers/prune", None);
    assert_eq!(answer.status, 200);
}

#[test]
fn a_finished_pod_stays_finished_after_its_containers_were_pruned() {
    let mut node = Node::start();
    for (name, policy, code) in [("a", "Never", 3), ("b", "OnFailure", 0)] {
        let manifest = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: {policy}\n  \
             containers:\n  - {{name: c, image: IMAGE, command: [sh, -c, 'exit {code}'], \
             volumeMounts: [{{name: v, mountPath: /v}}]}}\n  volumes: [{{name: v, emptyDir: {{}}}}]\n"
        );
        node.apply(&format!("{name}.yaml"), &manifest);
    }
    let ended = |node: &Node| {
        let a = node.pod_becomes("a", |status| status["phase"] == "Failed");
        let b = node.pod_becomes("b", |status| status["phase"] == "Succeeded");
        let code = |pod: &Value| first(&pod["status"])["state"]["terminated"]["exitCode"].clone();
        assert_eq!((code(&a), code(&b)), (Value::from(3), Value::from(0)));
    };
    ended(&node);
    node.eventually("what the pods held is given back", || {
        let pods = names_in(&node.path("root/pods"));
        let left: Vec<_> = pods
            .iter()
            .filter(|uid| {
                let pod = node.path("root/pods").join(uid);
                !names_in(&pod.join("volumes")).is_empty() || !pod.join("finished.json").exists()
            })
            .collect();
        if left.is_empty() && pods.len() == 2 {
            Ok(())
        } else {
            Err(format!("{pods:?} {left:?}"))
        }
    });
    prune(&node);
    node.apply("other.yaml", &pod("other", "hello"));
    node.pod_runs("other");
    ended(&node);
    assert!(node.containers("a").is_empty() && node.containers("b").is_empty());
    assert_eq!(node.kubelet.stop(), Some(0));
    prune(&node);
    node.start_kubelet();
    node.apply("another.yaml", &pod("another", "hello"));
    node.pod_runs("another");
    ended(&node);
    assert!(node.containers("a").is_empty() && node.containers("b").is_empty());
    // The manifest is what counts: put there anew, the pod runs anew.
    node.remove("a.yaml");
    node.pod_is_gone("a");
    assert!(node.pod("b").is_ok());
}

#[test]
fn the_death_of_a_container_is_acted_on_at_once() {
    let node = Node::start();
    node.apply("a.yaml", &pod("a", "hello"));
    let running = node.pod_runs("a");
    let id = first(&running["status"])["containerID"].as_str().unwrap();
    let id = id.trim_start_matches("docker://");
    node.engine
        .request("POST", &format!("/containers/{id}/kill"), None)
        .expect_success("kill");
    let pod = node.pod_becomes("a", |status| {
        first(status)["restartCount"] == 1 && first(status)["state"]["running"].is_object()
    });
    let new = first(&pod["status"])["containerID"].as_str().unwrap();
    let new = new.trim_start_matches("docker://").to_owned();
    let at = |id: &str, path: [&str; 2]| -> jiff::Timestamp {
        let inspect = node
            .engine
            .json("GET", &format!("/containers/{id}/json"), &Value::Null);
        let value = if path[0].is_empty() {
            &inspect[path[1]]
        } else {
            &inspect[path[0]][path[1]]
        };
        value.as_str().unwrap().parse().unwrap()
    };
    let (ended, created) = (at(id, ["State", "FinishedAt"]), at(&new, ["", "Created"]));
    let wait = created.duration_since(ended);
    // Of 100 ms that a quiet machine keeps to; test machines are not quiet.
    assert!(wait < jiff::SignedDuration::from_millis(1000), "{wait:?}");
}
