//! `/pods` and `/runningpods/` (kubelet HTTP-21, HTTP-22, HTTP-46).

use hyper::StatusCode;
use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::Serialize;

use super::{Answer, shape, with_type};
use crate::status_store::StatusStore;

/// A PodList whose items carry no kind and no apiVersion, as upstream writes it.
#[derive(Serialize)]
struct PodList {
    kind: &'static str,
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    metadata: Empty,
    /// `null` when there are none.
    items: Option<Vec<serde_json::Value>>,
}

#[derive(Serialize)]
struct Empty {}

/// Every pod that the sources ask for, with its status.
pub(super) fn pods(statuses: &StatusStore) -> Answer {
    let items = statuses
        .desired()
        .into_iter()
        .map(|entry| {
            let mut pod = Pod::clone(&entry.pod);
            pod.status = Some(entry.status);
            pod
        })
        .collect();
    list(items)
}

/// The pods that the runtime has running, rebuilt from what it tells.
pub(super) fn running_pods(statuses: &StatusStore) -> Answer {
    let items = statuses
        .observed()
        .into_iter()
        .filter(|entry| !entry.running_containers.is_empty())
        .map(|entry| Pod {
            metadata: ObjectMeta {
                name: Some(entry.name),
                namespace: Some(entry.namespace),
                uid: Some(entry.uid),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                containers: entry
                    .running_containers
                    .into_iter()
                    .map(|(name, image)| Container {
                        name,
                        image: Some(image),
                        ..Container::default()
                    })
                    .collect(),
                ..PodSpec::default()
            }),
            status: Some(k8s_openapi::api::core::v1::PodStatus::default()),
        })
        .collect();
    list(items)
}

fn list(pods: Vec<Pod>) -> Answer {
    let items: Vec<serde_json::Value> = pods
        .into_iter()
        .filter_map(|pod| serde_json::to_value(&pod).ok())
        .map(|mut value| {
            shape::as_go_writes(&mut value);
            value
        })
        .collect();
    let list = PodList {
        kind: "PodList",
        api_version: "v1",
        metadata: Empty {},
        items: (!items.is_empty()).then_some(items),
    };
    match serde_json::to_vec(&list) {
        Ok(body) => with_type(StatusCode::OK, "application/json", body),
        Err(error) => super::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}
