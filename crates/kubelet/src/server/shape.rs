//! The shape of Go's JSON (kubelet HTTP-46): a struct that is not behind a pointer is always there,
//! if empty or null, whatever its `omitempty` says. Clients of the original rely on fields that a
//! careful encoder leaves out.

use serde_json::{Map, Value, json};

/// Puts the fields of a pod there that Go always writes.
pub(super) fn as_go_writes(pod: &mut Value) {
    let Some(pod) = pod.as_object_mut() else {
        return;
    };
    pod.shift_remove("kind");
    pod.shift_remove("apiVersion");
    if let Some(Value::Object(spec)) = pod.get_mut("spec") {
        for list in ["containers", "initContainers", "ephemeralContainers"] {
            for container in objects(spec, list) {
                object(container, "resources");
            }
        }
    }
    if let Some(Value::Object(spec)) = pod.get_mut("spec") {
        references(spec);
    }
    let status = object(pod, "status");
    for condition in objects(status, "conditions") {
        null(condition, "lastProbeTime");
        null(condition, "lastTransitionTime");
    }
    for list in [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ] {
        for container in objects(status, list) {
            for state in ["state", "lastState"] {
                times(object(container, state));
            }
        }
    }
}

/// A name that is required in the schema is left out where it is empty, and a list that is not a pointer's own is
/// null. The secret of `scaleIO` is null where there is none.
///
/// Differs: `scaleIO.secretRef: {}`, which names nothing, is null as well, and so are empty sources of `projected`.
fn references(spec: &mut Map<String, Value>) {
    for secret in objects(spec, "imagePullSecrets") {
        drop_empty_name(secret);
    }
    for volume in objects(spec, "volumes") {
        if let Some(Value::Object(projected)) = volume.get_mut("projected") {
            null(projected, "sources");
        }
        if let Some(secret) = volume
            .get_mut("scaleIO")
            .and_then(|source| source.get_mut("secretRef"))
            && secret["name"] == ""
        {
            *secret = Value::Null;
        }
        for source in volume.values_mut().filter_map(Value::as_object_mut) {
            if let Some(Value::Object(secret)) = source.get_mut("secretRef") {
                drop_empty_name(secret);
            }
        }
    }
}

fn drop_empty_name(reference: &mut Map<String, Value>) {
    if reference.get("name").and_then(Value::as_str) == Some("") {
        reference.shift_remove("name");
    }
}

fn times(state: &mut Map<String, Value>) {
    if let Some(Value::Object(running)) = state.get_mut("running") {
        null(running, "startedAt");
    }
    if let Some(Value::Object(end)) = state.get_mut("terminated") {
        null(end, "startedAt");
        null(end, "finishedAt");
    }
}

fn null(object: &mut Map<String, Value>, key: &str) {
    object.entry(key).or_insert(Value::Null);
}

/// The object of a key, made where there is none.
fn object<'a>(parent: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = parent.entry(key).or_insert(Value::Null);
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("made above")
}

fn objects<'a>(
    parent: &'a mut Map<String, Value>,
    key: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    let list = parent.get_mut(key).and_then(Value::as_array_mut);
    list.into_iter().flatten().filter_map(Value::as_object_mut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_always_writes_is_there() {
        let mut pod = json!({
            "kind": "Pod", "apiVersion": "v1",
            "spec": {
                "containers": [{"name": "c"}],
                "imagePullSecrets": [{"name": ""}],
                "volumes": [
                    {"name": "u", "scaleIO": {"secretRef": {"name": ""}}},
                    {"name": "v", "rbd": {"secretRef": {"name": ""}}},
                    {"name": "w", "projected": {}},
                ],
            },
            "status": {
                "conditions": [{"type": "Ready", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
                "containerStatuses": [{"state": {"terminated": {"exitCode": 1}}}],
            },
        });
        as_go_writes(&mut pod);
        assert_eq!(
            pod,
            json!({
                "spec": {
                    "containers": [{"name": "c", "resources": {}}],
                    "imagePullSecrets": [{}],
                    "volumes": [
                        {"name": "u", "scaleIO": {"secretRef": null}},
                        {"name": "v", "rbd": {"secretRef": {}}},
                        {"name": "w", "projected": {"sources": null}},
                    ],
                },
                "status": {
                    "conditions": [{"type": "Ready", "lastProbeTime": null,
                        "lastTransitionTime": "2026-01-01T00:00:00Z"}],
                    "containerStatuses": [{"lastState": {}, "state": {"terminated": {
                        "exitCode": 1, "startedAt": null, "finishedAt": null}}}],
                },
            })
        );
    }
}
