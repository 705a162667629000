//! `/manifests`: the files and the URL that sources look at, with what is wrong with each. Ours alone: upstream
//! tells of it in its log.

use hyper::StatusCode;
use kubelet_core::ids::PodKey;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Answer, with_type};
use crate::sources::ManifestFile;

/// All files by path, then the URL, once for each of its pods; and what the node is called.
pub(super) fn manifests(sources: &[watch::Receiver<Vec<ManifestFile>>], node_name: &str) -> Answer {
    let items: Vec<Value> = sources
        .iter()
        .flat_map(|files| files.borrow().iter().map(item).collect::<Vec<_>>())
        .collect();
    let list = json!({"node": node_name, "items": items});
    with_type(StatusCode::OK, "application/json", list.to_string())
}

fn item(file: &ManifestFile) -> Value {
    let mut item = json!({"path": file.path.display().to_string(), "errors": file.errors});
    if let Some(pod) = &file.pod {
        let PodKey { namespace, name } = PodKey::of(pod);
        item["pod"] = json!({"namespace": namespace, "name": name, "uid": pod.metadata.uid});
    }
    item
}
