//! The least that Docker itself takes for a pod: pause and one container in its network namespace,
//! straight through the Engine API, without mounts, limits or log files.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use testkit::DockerEngine;

use crate::{
    events::{Events, PART_LABEL, POD_LABEL},
    figures::{now, since},
    node::PAUSE_IMAGE,
};

/// Containers removed at a time.
const REMOVALS: usize = 8;

/// A pod of the floor: the ids of its two containers.
type Pod = [String; 2];

/// Runs one pod; the time until Docker calls its container running.
pub(crate) fn one(engine: &DockerEngine, events: &Events, name: &str) -> (Duration, Pod) {
    let begin = now();
    let pod = run(engine, name);
    let running = events.running(&[name.to_owned()]);
    (since(begin, &running), pod)
}

/// Runs many pods, `parallel` at a time; the time until the last runs.
pub(crate) fn batch(
    engine: &DockerEngine,
    events: &Events,
    names: &[String],
    parallel: usize,
) -> (Duration, Vec<Pod>) {
    let next = AtomicUsize::new(0);
    let begin = now();
    let pods = thread::scope(|scope| {
        let worker = || {
            let mut pods = Vec::new();
            while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                pods.push(run(engine, name));
            }
            pods
        };
        let workers: Vec<_> = (0..parallel).map(|_| scope.spawn(worker)).collect();
        let ends = workers
            .into_iter()
            .map(|worker| worker.join().expect("Docker runs pods"));
        ends.flatten().collect()
    });
    let running = events.running(names);
    (since(begin, &running), pods)
}

/// Removes pods and waits until they are gone.
pub(crate) fn remove(engine: &DockerEngine, pods: &[Pod]) {
    // The app first, since it lives in the other's network namespace.
    for part in [1, 0] {
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..REMOVALS {
                scope.spawn(|| {
                    while let Some(pod) = pods.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let path = format!("/containers/{}?force=1&v=1", pod[part]);
                        engine.json("DELETE", &path, &Value::Null);
                    }
                });
            }
        });
    }
}

fn run(engine: &DockerEngine, name: &str) -> Pod {
    let pause = start(engine, name, "pause", &json!({}));
    let app = start(
        engine,
        name,
        "app",
        &json!({"NetworkMode": format!("container:{pause}")}),
    );
    [pause, app]
}

fn start(engine: &DockerEngine, pod: &str, part: &str, host: &Value) -> String {
    let body = json!({
        "Image": PAUSE_IMAGE,
        "Labels": {POD_LABEL: pod, PART_LABEL: part},
        "HostConfig": host,
    });
    let created = engine.json("POST", "/containers/create", &body);
    let id = created["Id"]
        .as_str()
        .expect("Docker names what it made")
        .to_owned();
    engine.json("POST", &format!("/containers/{id}/start"), &Value::Null);
    id
}
