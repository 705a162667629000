//! Probes: who is started, ready and alive (kubelet section 3.6).

use std::fs;

use serde_json::Value;

use crate::harness::Node;

fn first(status: &Value) -> &Value {
    &status["containerStatuses"][0]
}

fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    let conditions = status["conditions"].as_array().unwrap();
    conditions.iter().find(|one| one["type"] == kind).unwrap()
}

/// Waits for a line of the kubelet's log.
#[track_caller]
pub(crate) fn kubelet_says(node: &Node, text: &str) {
    node.eventually(&format!("the kubelet says {text:?}"), || {
        let log = fs::read_to_string(node.path("kubelet.log")).unwrap();
        if log.contains(text) {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    });
}

#[test]
fn a_container_starts_serves_fails_and_is_restarted_as_its_probes_say() {
    let node = Node::start();
    let www = node.path("www");
    fs::create_dir(&www).unwrap();
    let touch = |name: &str| fs::write(www.join(name), "yes\n").unwrap();
    let lose = |name: &str| fs::remove_file(www.join(name)).unwrap();
    touch("live");
    let manifest = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  \
        terminationGracePeriodSeconds: 2\n  containers:\n  - name: c\n    image: IMAGE\n    \
        command: [httpd, -f, -p, '8080', -h, /www]\n    ports: [{name: web, containerPort: 8080}]\n    \
        startupProbe: {exec: {command: [test, -e, /www/started]}, periodSeconds: 1, failureThreshold: 60}\n    \
        readinessProbe: {httpGet: {path: /ready, port: web}, periodSeconds: 1, failureThreshold: 1}\n    \
        livenessProbe:\n      httpGet: {path: /live, port: 8080}\n      periodSeconds: 1\n      \
        failureThreshold: 2\n    volumeMounts: [{name: www, mountPath: /www}]\n  \
        volumes: [{name: www, hostPath: {path: DIRECTORY}}]\n";
    node.apply(
        "a.yaml",
        &manifest.replace("DIRECTORY", &www.display().to_string()),
    );
    let pod = node.pod_runs("a");
    assert_eq!(first(&pod["status"])["started"], false);
    assert_eq!(condition(&pod["status"], "Ready")["status"], "False");
    touch("started");
    touch("ready");
    let pod = node.pod_becomes("a", |status| first(status)["ready"] == true);
    assert_eq!(first(&pod["status"])["started"], true);
    assert_eq!(
        condition(&pod["status"], "ContainersReady")["status"],
        "True"
    );

    lose("ready");
    let pod = node.pod_becomes("a", |status| first(status)["ready"] == false);
    let ready = condition(&pod["status"], "Ready");
    assert_eq!(ready["reason"], "ContainersNotReady");
    assert_eq!(ready["message"], "containers with unready status: [c]");
    assert_eq!(first(&pod["status"])["restartCount"], 0);
    kubelet_says(
        &node,
        "Readiness probe failed: HTTP probe failed with statuscode: 404",
    );

    touch("ready");
    lose("live");
    node.pod_becomes("a", |status| first(status)["restartCount"] == 1);
    kubelet_says(
        &node,
        "Container c failed liveness probe, will be restarted",
    );
    touch("live");
    node.pod_becomes("a", |status| first(status)["ready"] == true);
    let metrics = node.read_only("/metrics/probes").unwrap();
    let wanted = "prober_probe_total{container=\"c\",namespace=\"default\",pod=\"a-n\"";
    assert!(metrics.contains(wanted), "{metrics}");
}

#[test]
fn ports_that_open_late_and_commands_that_take_too_long() {
    let node = Node::start();
    let shared = node.path("shared");
    fs::create_dir(&shared).unwrap();
    let manifest = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  terminationGracePeriodSeconds: 30\n  \
         containers:\n  - name: late\n    image: IMAGE\n    \
         command: [sh, -c, 'until [ -e /shared/go ]; do sleep 0.1; done; exec httpd -f -p 8080']\n    \
         readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}\n    \
         volumeMounts: [{name: shared, mountPath: /shared}]\n  \
         - name: slow\n    image: IMAGE\n    command: [sh, -c, 'trap \"\" TERM; while :; do sleep 1; done']\n    \
         livenessProbe:\n      exec: {command: [sh, -c, 'sleep 1000']}\n      periodSeconds: 1\n      \
         timeoutSeconds: 1\n      failureThreshold: 1\n      terminationGracePeriodSeconds: 1\n  \
         volumes: [{name: shared, hostPath: {path: DIRECTORY}}]\n";
    node.apply(
        "a.yaml",
        &manifest.replace("DIRECTORY", &shared.display().to_string()),
    );
    kubelet_says(&node, "Readiness probe failed: dial tcp");
    kubelet_says(&node, "connect: connection refused");
    fs::write(shared.join("go"), "").unwrap();
    node.pod_becomes("a", |status| first(status)["ready"] == true);
    kubelet_says(&node, "timed out after 1s");
    // Within the probe's grace, not the pod's.
    let pod = node.pod_becomes("a", |status| {
        status["containerStatuses"][1]["restartCount"].as_u64() >= Some(1)
    });
    let last = &pod["status"]["containerStatuses"][1]["lastState"]["terminated"];
    assert_eq!(last["exitCode"], 137, "{last}");
    assert_eq!(first(&pod["status"])["restartCount"], 0);
}

#[test]
fn a_sidecar_holds_the_others_back_until_it_has_started() {
    let node = Node::start();
    let shared = node.path("shared");
    fs::create_dir(&shared).unwrap();
    let manifest = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  \
        terminationGracePeriodSeconds: 2\n  restartPolicy: Never\n  initContainers:\n  - name: side\n    \
        image: IMAGE\n    restartPolicy: Always\n    command: [sh, -c, 'sleep 1000']\n    \
        startupProbe: {exec: {command: [test, -e, /shared/go]}, periodSeconds: 1, failureThreshold: 60}\n    \
        volumeMounts: [{name: shared, mountPath: /shared}]\n  containers:\n  - name: c\n    image: IMAGE\n    \
        command: [sh, -c, 'echo done']\n  volumes: [{name: shared, hostPath: {path: DIRECTORY}}]\n";
    node.apply(
        "a.yaml",
        &manifest.replace("DIRECTORY", &shared.display().to_string()),
    );
    let pod = node.pod_becomes("a", |status| {
        status["initContainerStatuses"][0]["state"]["running"].is_object()
    });
    let status = &pod["status"];
    assert_eq!(status["initContainerStatuses"][0]["started"], false);
    assert_eq!(status["phase"], "Pending");
    assert_eq!(
        first(status)["state"]["waiting"]["reason"],
        "PodInitializing"
    );
    kubelet_says(&node, "Startup probe failed");
    fs::write(shared.join("go"), "").unwrap();
    node.pod_becomes("a", |status| status["phase"] == "Succeeded");
}
