//! A node's pods, as its ports, Docker and the disk show them.

use std::fs;

use serde_json::{Value, json};

use super::{Node, encoded, names_in};

impl Node {
    /// What `/pods` lists for a pod of this name (without the node's suffix).
    pub(crate) fn pod(&self, name: &str) -> Result<Value, String> {
        let body = Self::get(self.read_only_port, "/pods")?;
        let list: Value =
            serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let wanted = format!("{name}-n");
        items
            .into_iter()
            .find(|pod| pod["metadata"]["name"].as_str() == Some(&wanted))
            .ok_or_else(|| format!("no pod {wanted}"))
    }

    /// Waits until the pod's status is as wanted, and returns the pod.
    #[track_caller]
    pub(crate) fn pod_becomes(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.eventually(&format!("pod {name} is as wanted"), || {
            let pod = self.pod(name)?;
            if wanted(&pod["status"]) {
                Ok(pod)
            } else {
                Err(pod["status"].to_string())
            }
        })
    }

    /// Waits until every container of the pod runs and the pod says so.
    #[track_caller]
    pub(crate) fn pod_runs(&self, name: &str) -> Value {
        self.pod_becomes(name, |status| {
            status["phase"] == "Running"
                && status["containerStatuses"]
                    .as_array()
                    .is_some_and(|all| all.iter().all(|one| one["state"]["running"].is_object()))
        })
    }

    /// Waits until the pod runs and Docker runs one sandbox and one container of it, no more.
    #[track_caller]
    pub(crate) fn pod_runs_once(&self, name: &str) {
        self.eventually(&format!("pod {name} runs, once"), || {
            let containers = self.containers(name);
            let running = |kind: &str| {
                let of_kind = containers
                    .iter()
                    .filter(|one| one["Labels"]["io.kubernetes.docker.type"] == kind);
                of_kind.filter(|one| one["State"] == "running").count()
            };
            match (running("podsandbox"), running("container")) {
                (1, 1) => Ok(()),
                other => Err(format!("{other:?} run of {containers:?}")),
            }
        });
        self.pod_runs(name);
    }

    /// Waits until nothing of the pod is left: not in `/pods`, not in Docker, not on disk.
    #[track_caller]
    pub(crate) fn pod_is_gone(&self, name: &str) {
        self.eventually(&format!("pod {name} is gone"), || {
            if self.pod(name).is_ok() {
                return Err("still in /pods".to_owned());
            }
            let containers = self.containers(name);
            if !containers.is_empty() {
                return Err(format!("still in Docker: {containers:?}"));
            }
            for directory in ["root/pods", "logs/pods"] {
                let left: Vec<String> = names_in(&self.path(directory));
                if left
                    .iter()
                    .any(|entry| entry.contains(&format!("_{name}-n_")))
                {
                    return Err(format!("{directory}: {left:?}"));
                }
            }
            Ok(())
        });
    }

    /// Docker's view of the containers of a pod, sandboxes included, newest first.
    pub(crate) fn containers(&self, pod: &str) -> Vec<Value> {
        let filters = json!({"label": [format!("io.kubernetes.pod.name={pod}-n")]}).to_string();
        let path = format!("/containers/json?all=1&filters={}", encoded(&filters));
        self.engine
            .json("GET", &path, &Value::Null)
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    /// What the containers of a pod are now: their ids.
    pub(crate) fn container_ids(&self, pod: &str) -> Vec<String> {
        let mut ids: Vec<String> = self
            .containers(pod)
            .iter()
            .map(|container| container["Id"].as_str().unwrap().to_owned())
            .collect();
        ids.sort();
        ids
    }

    /// The log of a container's n-th instance, as CRI lines; empty when there is none.
    pub(crate) fn log(&self, pod: &str, container: &str, instance: u32) -> String {
        let logs = self.path("logs/pods");
        let Some(directory) = names_in(&logs)
            .into_iter()
            .find(|name| name.contains(&format!("_{pod}-n_")))
        else {
            return String::new();
        };
        fs::read_to_string(
            logs.join(directory)
                .join(format!("{container}/{instance}.log")),
        )
        .unwrap_or_default()
    }

    /// Waits for a line in the container's log.
    #[track_caller]
    pub(crate) fn log_has(&self, pod: &str, container: &str, instance: u32, text: &str) {
        self.eventually(
            &format!("{text:?} is in the log of {pod}/{container}"),
            || {
                let log = self.log(pod, container, instance);
                if log.contains(text) { Ok(()) } else { Err(log) }
            },
        );
    }
}
