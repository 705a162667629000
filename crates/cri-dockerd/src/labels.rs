//! CRI labels and annotations as Docker labels (LBL-01..04).

use std::collections::BTreeMap;

use crate::names::SANDBOX;

type Map = BTreeMap<String, String>;

/// `podsandbox` or `container`; what makes a container ours.
pub(crate) const TYPE: &str = "io.kubernetes.docker.type";
/// [`TYPE`] of sandboxes.
pub(crate) const TYPE_SANDBOX: &str = "podsandbox";
/// [`TYPE`] of containers.
pub(crate) const TYPE_CONTAINER: &str = "container";
/// Absolute path of a container's log.
pub(crate) const LOG_PATH: &str = "io.kubernetes.container.logpath";
/// Sandbox of a container.
pub(crate) const SANDBOX_ID: &str = "io.kubernetes.sandbox.id";
/// Network that a sandbox was put on (DEC-20). Differs: ours alone; upstream shows it as one more
/// pod label.
pub(crate) const NETWORK: &str = "io.berth.network";
/// Runtime handler that a sandbox was asked for with, where one was named: Docker tells only which
/// runtime it took. Differs: ours alone, as [`NETWORK`].
pub(crate) const RUNTIME_HANDLER: &str = "io.berth.runtime-handler";
/// Files of a container's cgroup with their values (CRI `unified`) as JSON, where any were asked for:
/// Docker can't keep them.
///
/// Differs: files of a container's cgroup that a request names are kept in a Docker label of ours; upstream
/// shows it as one more label of the container.
pub(crate) const UNIFIED: &str = "io.berth.unified";
const CONTAINER_NAME: &str = "io.kubernetes.container.name";
const ANNOTATION: &str = "annotation.";

/// Docker labels of a sandbox on `network`; `handler` is empty for the default runtime.
pub(crate) fn for_sandbox(labels: &Map, annotations: &Map, network: &str, handler: &str) -> Map {
    let mut all = merge(labels, annotations);
    // Where none was named none is shown, whatever the user's labels say.
    all.remove(RUNTIME_HANDLER);
    if !handler.is_empty() {
        all.insert(RUNTIME_HANDLER.to_owned(), handler.to_owned());
    }
    // Last, so that they win over equal keys of the user (LBL-04).
    all.insert(TYPE.to_owned(), TYPE_SANDBOX.to_owned());
    all.insert(CONTAINER_NAME.to_owned(), SANDBOX.to_owned());
    all.insert(NETWORK.to_owned(), network.to_owned());
    all
}

/// Docker labels of a container; `unified` are files of its cgroup.
pub(crate) fn for_container(
    labels: &Map,
    annotations: &Map,
    sandbox_id: &str,
    log_path: &str,
    unified: &Map,
) -> Map {
    let mut all = merge(labels, annotations);
    // Where none are asked for none are set, whatever the user's labels say.
    all.remove(UNIFIED);
    if !unified.is_empty() {
        let text = serde_json::json!(unified).to_string();
        all.insert(UNIFIED.to_owned(), text);
    }
    all.insert(TYPE.to_owned(), TYPE_CONTAINER.to_owned());
    all.insert(SANDBOX_ID.to_owned(), sandbox_id.to_owned());
    all.insert(LOG_PATH.to_owned(), log_path.to_owned());
    all
}

/// [`RUNTIME_HANDLER`] in a sandbox's Docker labels.
pub(crate) fn handler(docker: &Map) -> String {
    docker.get(RUNTIME_HANDLER).cloned().unwrap_or_default()
}

/// [`UNIFIED`] in a container's Docker labels.
pub(crate) fn unified(docker: &Map) -> Map {
    let text = docker.get(UNIFIED).map(String::as_str).unwrap_or_default();
    serde_json::from_str(text).unwrap_or_default()
}

fn merge(labels: &Map, annotations: &Map) -> Map {
    let annotations = annotations
        .iter()
        .map(|(key, value)| (format!("{ANNOTATION}{key}"), value));
    let labels = labels.iter().map(|(key, value)| (key.clone(), value));
    labels
        .chain(annotations)
        .map(|(key, value)| (key, value.clone()))
        .collect()
}

/// Labels and annotations as the CRI shows them, from Docker's (LBL-03).
pub(crate) fn split(docker: &Map) -> (Map, Map) {
    let is_sandbox = docker.get(TYPE).is_some_and(|kind| kind == TYPE_SANDBOX);
    let mut labels = Map::new();
    let mut annotations = Map::new();
    for (key, value) in docker {
        if let Some(key) = key.strip_prefix(ANNOTATION) {
            annotations.insert(key.to_owned(), value.clone());
        } else if !is_internal(key, is_sandbox) {
            labels.insert(key.clone(), value.clone());
        }
    }
    (labels, annotations)
}

fn is_internal(key: &str, of_sandbox: bool) -> bool {
    match key {
        TYPE | LOG_PATH | SANDBOX_ID | NETWORK => true,
        CONTAINER_NAME | RUNTIME_HANDLER => of_sandbox,
        UNIFIED => !of_sandbox,
        _ => false,
    }
}

/// Every pair of `selector` is in `labels`; an empty selector takes all.
pub(crate) fn matches(selector: &Map, labels: &Map) -> bool {
    selector
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map() -> impl Strategy<Value = Map> {
        proptest::collection::btree_map("[a-z./-]{1,12}", "[ -~]{0,12}", 0..6).prop_map(|m| {
            m.into_iter()
                .filter(|(k, _)| !k.starts_with(ANNOTATION))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn labels_and_annotations_survive_docker(labels in map(), annotations in map()) {
            let docker = for_container(&labels, &annotations, "s", "/l", &labels);
            prop_assert_eq!(split(&docker), (labels.clone(), annotations.clone()));
            prop_assert_eq!(&unified(&docker), &labels);
            let docker = for_sandbox(&labels, &annotations, "bridge", "kata");
            prop_assert_eq!(split(&docker), (labels, annotations));
        }
    }

    #[test]
    fn internal_keys_win_over_the_users() {
        let labels = Map::from([(TYPE.to_owned(), "x".to_owned())]);
        assert_eq!(
            for_container(&labels, &Map::new(), "s", "/l", &Map::new())[TYPE],
            TYPE_CONTAINER
        );
        let labels = Map::from([(UNIFIED.to_owned(), r#"{"memory.high":"1"}"#.to_owned())]);
        let docker = for_container(&labels, &Map::new(), "s", "/l", &Map::new());
        assert_eq!(unified(&docker), Map::new());
    }

    #[test]
    fn container_name_stays_on_containers_and_leaves_sandboxes() {
        let labels = Map::from([(CONTAINER_NAME.to_owned(), "web".to_owned())]);
        let (seen, _) = split(&for_container(&labels, &Map::new(), "s", "/l", &Map::new()));
        assert_eq!(seen, labels);
        let (seen, _) = split(&for_sandbox(&Map::new(), &Map::new(), "bridge", ""));
        assert!(seen.is_empty());
    }
}
