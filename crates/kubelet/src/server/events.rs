//! `/events`: the newest events as a v1 EventList. Ours alone: a standalone node has no API server
//! that could be asked for them.

use hyper::StatusCode;
use jiff::Timestamp;
use kubelet_core::event_ring::SeenEvent;
use serde_json::{Value, json};

use super::{Answer, with_type};
use crate::events::keeper::EventStore;

/// All events, the last seen last.
pub(super) fn events(store: &EventStore, node_name: &str) -> Answer {
    let items: Vec<Value> = store
        .events()
        .iter()
        .map(|seen| item(seen, node_name))
        .collect();
    let list = json!({"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": items});
    with_type(StatusCode::OK, "application/json", list.to_string())
}

fn item(seen: &SeenEvent, node_name: &str) -> Value {
    let event = &seen.event;
    let time = |seconds: i64| {
        Timestamp::from_second(seconds)
            .unwrap_or_default()
            .to_string()
    };
    let namespace = if event.namespace.is_empty() {
        "default"
    } else {
        &event.namespace
    };
    let mut object = json!({
        "kind": event.kind,
        "namespace": event.namespace,
        "name": event.name,
        "uid": event.uid,
        "apiVersion": "v1",
        "fieldPath": event.field_path,
    });
    if let Some(object) = object.as_object_mut() {
        object.retain(|_, value| !value.is_null() && value != "");
    }
    json!({
        "metadata": {
            "name": format!("{}.{:x}", event.name, seen.first_seconds),
            "namespace": namespace,
        },
        "involvedObject": object,
        "reason": event.reason,
        "message": event.message,
        "source": {"component": "kubelet", "host": node_name},
        "firstTimestamp": time(seen.first_seconds),
        "lastTimestamp": time(seen.last_seconds),
        "count": seen.count,
        "type": event.type_,
    })
}
