//! What Docker's list tells of a container: enough for our own lists, and to end it.

use std::collections::HashMap;
use std::mem::discriminant;
use std::sync::Arc;

use cri_api::v1::{LinuxContainerResources, NamespaceMode};

use super::record::{ContainerFacts, Role, SandboxFacts};
use super::{Life, Record};
use crate::engine::model::ContainerSummary;
use crate::labels;
use crate::names::Name;
use crate::network_kind::Kind;

impl Record {
    /// Reads an item of Docker's list. `None` as for [`Record::from_inspect`].
    pub(crate) fn from_summary(summary: &ContainerSummary) -> Option<Self> {
        let docker_labels = &summary.labels;
        let label = |key: &str| docker_labels.get(key).cloned().unwrap_or_default();
        let network_mode = summary.host_config.network_mode.as_str();
        let role = match docker_labels.get(labels::TYPE)?.as_str() {
            labels::TYPE_SANDBOX => {
                let network = docker_labels.get(labels::NETWORK).map(String::as_str);
                Role::Sandbox(SandboxFacts {
                    network: if network_mode == "host" {
                        NamespaceMode::Node
                    } else {
                        NamespaceMode::Pod
                    },
                    pid: NamespaceMode::Container,
                    ipc: NamespaceMode::Pod,
                    ips: Vec::new(),
                    ports: Vec::new(),
                    resolv_conf: String::new(),
                    kind: Kind::of_sandbox(network, network_mode),
                    is_ours: network.is_some(),
                    handler: labels::handler(docker_labels),
                })
            }
            labels::TYPE_CONTAINER => Role::Container(Box::new(ContainerFacts {
                sandbox_id: label(labels::SANDBOX_ID),
                log_path: label(labels::LOG_PATH),
                docker_log: String::new(),
                tty: false,
                mounts: Vec::new(),
                resources: LinuxContainerResources::default(),
                stop_signal: 0,
                user: None,
                unified: labels::unified(docker_labels),
                kills_before: None,
            })),
            _ => return None,
        };
        let created_at = summary.created.saturating_mul(1_000_000_000);
        let (labels, annotations) = labels::split(docker_labels);
        Some(Self {
            id: summary.id.clone(),
            // NAM-04.
            name: Name::parse(summary.names.first()?).ok()?,
            labels,
            annotations,
            created_at,
            life: life(&summary.state, created_at),
            image: summary.image.clone(),
            image_id: summary.image_id.clone(),
            runtime: String::new(),
            cgroup_parent: String::new(),
            upper_dir: String::new(),
            role,
        })
    }
}

/// Docker's word (DKR-08) as far as it tells a [`Life`].
fn life(word: &str, created_at: i64) -> Life {
    match word {
        "created" => Life::Created,
        "running" | "paused" | "restarting" => Life::Running {
            started_at: created_at,
            pid: 0,
        },
        _ => Life::Exited {
            started_at: created_at,
            finished_at: created_at,
            exit_code: 0,
            reason: "Completed",
            message: String::new(),
        },
    }
}

/// `all`, with the doubted ones as the sketches have them: those without one are gone. What an inspect
/// has told before stays, but for a life that has gone on since.
pub(crate) fn with_sketches(
    mut all: Vec<Arc<Record>>,
    doubted: &[String],
    sketches: Vec<Record>,
) -> Vec<Arc<Record>> {
    let mut sketches: HashMap<String, Record> = sketches
        .into_iter()
        .filter(|record| doubted.contains(&record.id))
        .map(|record| (record.id.clone(), record))
        .collect();
    all.retain_mut(|record| {
        if !doubted.contains(&record.id) {
            return true;
        }
        let Some(sketch) = sketches.remove(&record.id) else {
            return false;
        };
        if discriminant(&record.life) != discriminant(&sketch.life) {
            Arc::make_mut(record).life = sketch.life;
        }
        true
    });
    all.extend(sketches.into_values().map(Arc::new));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(state: &str) -> ContainerSummary {
        let text = serde_json::json!({
            "Id": "c1", "Names": ["/k8s_web_pod_ns_uid_2"], "State": state, "Created": 7,
            "Image": "busybox:1", "ImageID": "sha256:1", "HostConfig": {"NetworkMode": "default"},
            "Labels": {
                labels::TYPE: labels::TYPE_CONTAINER, labels::SANDBOX_ID: "s1",
                labels::LOG_PATH: "/log", "app": "x", "annotation.note": "y",
            },
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn list_tells_what_our_lists_show() {
        let record = Record::from_summary(&summary("running")).unwrap();
        assert_eq!(record.container().unwrap().sandbox_id, "s1");
        assert_eq!(record.labels["app"], "x");
        assert_eq!(record.annotations["note"], "y");
        assert_eq!(record.name.attempt, 2);
        assert_eq!(record.created_at, 7_000_000_000);
        assert_eq!(record.image_id, "sha256:1");
        for (word, running) in [
            ("created", false),
            ("running", true),
            ("paused", true),
            ("exited", false),
            ("dead", false),
        ] {
            let record = Record::from_summary(&summary(word)).unwrap();
            assert_eq!(record.life.is_running(), running, "{word}");
        }
    }

    #[test]
    fn doubted_ones_live_as_the_list_says_and_those_that_it_lacks_are_gone() {
        let record = |id: &str, state: &str, image: &str| {
            let mut record = Record::from_summary(&summary(state)).unwrap();
            (record.id, record.image) = (id.to_owned(), image.to_owned());
            record
        };
        let all = ["sure", "ended", "lost"].map(|id| Arc::new(record(id, "running", "told")));
        let doubted = ["ended", "lost", "new"].map(str::to_owned);
        let sketches = vec![
            record("ended", "exited", "x"),
            record("new", "running", "x"),
        ];
        let seen = with_sketches(all.to_vec(), &doubted, sketches);
        let seen: Vec<_> = seen
            .iter()
            .map(|r| (r.id.as_str(), r.life.is_running(), r.image.as_str()))
            .collect();
        assert_eq!(
            seen,
            [
                ("sure", true, "told"),
                ("ended", false, "told"),
                ("new", true, "x")
            ]
        );
    }
}
