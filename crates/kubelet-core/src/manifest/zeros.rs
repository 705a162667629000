//! Zero values, which in Go are one with absent fields (SRC-25): `tty: false` says nothing, is not
//! shown on `/pods`, and makes no other pod of a manifest (SRC-30).
//!
//! Source of behaviour: `omitempty` in `k8s.io/api/core/v1`. What Go holds behind a pointer
//! (`enableServiceLinks`, `runAsUser`) keeps its zero, and so does an object: `emptyDir: {}` says much.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value};

/// Numbers, flags and texts behind a pointer, wherever they are; and the port of a handler, which is
/// a text or a number, and an empty text not the number 0.
const POINTERS: [&str; 54] = [
    "activeDeadlineSeconds",
    "allowPrivilegeEscalation",
    "apiGroup",
    "automountServiceAccountToken",
    "blockOwnerDeletion",
    "cachingMode",
    "controller",
    "defaultMode",
    "deletionGracePeriodSeconds",
    "enableServiceLinks",
    "expirationSeconds",
    "fsGroup",
    "fsGroupChangePolicy",
    "gmsaCredentialSpec",
    "gmsaCredentialSpecName",
    "hostProcess",
    "hostUsers",
    "hostnameOverride",
    "initiatorName",
    "localhostProfile",
    "lun",
    "maxExpirationSeconds",
    "minDomains",
    "mode",
    "mountPropagation",
    "nodeAffinityPolicy",
    "nodeTaintsPolicy",
    "optional",
    "port",
    "preemptionPolicy",
    "priority",
    "privileged",
    "procMount",
    "readOnlyRootFilesystem",
    "recursiveReadOnly",
    "resourceClaimName",
    "resourceClaimTemplateName",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
    "runAsUserName",
    "runtimeClassName",
    "seLinuxChangePolicy",
    "service",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "sizeLimit",
    "stopSignal",
    "storageClassName",
    "supplementalGroupsPolicy",
    "terminationGracePeriodSeconds",
    "tolerationSeconds",
    "volumeAttributesClassName",
    "volumeMode",
];

/// Names that stand for a pointer in some objects only.
const POINTERS_BELOW: [(&str, &str); 13] = [
    ("azureDisk", "fsType"),
    ("azureDisk", "kind"),
    ("azureDisk", "readOnly"),
    ("clusterTrustBundle", "name"),
    ("clusterTrustBundle", "signerName"),
    ("containers", "restartPolicy"),
    ("csi", "fsType"),
    ("csi", "readOnly"),
    ("dataSourceRef", "namespace"),
    ("ephemeralContainers", "restartPolicy"),
    ("hostPath", "type"),
    ("initContainers", "restartPolicy"),
    ("options", "value"),
];

/// Objects whose names people choose: nothing when empty, and what is in them is theirs.
const MAPS: [&str; 9] = [
    "annotations",
    "labels",
    "limits",
    "matchLabels",
    "nodeSelector",
    "options",
    "overhead",
    "requests",
    "volumeAttributes",
];

/// Drops every zero value that upstream leaves out.
pub(super) fn drop_zeros(pod: &mut Pod) {
    const INVARIANT: &str = "a pod without its zero values is a pod";
    let mut value = serde_json::to_value(&*pod).expect(INVARIANT);
    if let Value::Object(fields) = &mut value {
        drop_below("", fields);
    }
    *pod = serde_json::from_value(value).expect(INVARIANT);
}

/// `parent` is the name of the field that holds the object, alone or in a list.
fn drop_below(parent: &str, fields: &mut Map<String, Value>) {
    fields.retain(|name, value| match value {
        // Kept as it is written (`FieldsV1.Raw`).
        _ if name == "fieldsV1" => true,
        Value::Object(map) if MAPS.contains(&name.as_str()) => !map.is_empty(),
        Value::Object(fields) => {
            drop_below(name, fields);
            true
        }
        Value::Array(items) => {
            for item in items.iter_mut() {
                if let Value::Object(fields) = item {
                    drop_below(name, fields);
                }
            }
            !items.is_empty()
        }
        Value::Bool(false) => is_pointer(parent, name),
        Value::Number(number) if number.as_i64() == Some(0) => is_pointer(parent, name),
        Value::String(text) if text.is_empty() => is_pointer(parent, name),
        _ => true,
    });
}

fn is_pointer(parent: &str, name: &str) -> bool {
    POINTERS.contains(&name) || POINTERS_BELOW.contains(&(parent, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `path` with `value` in it and nothing else, each list with one item.
    fn nested(path: &str, value: Value) -> Value {
        path.rsplit('.').fold(value, |value, name| {
            let (name, value) = match name.strip_suffix("[]") {
                Some(name) => (name, Value::Array(vec![value])),
                None => (name, value),
            };
            Value::Object([(name.to_owned(), value)].into_iter().collect())
        })
    }

    /// Each row is the path of a field of a pod, and its type in Go if it is one that `omitempty` is
    /// about: made from `k8s.io/api` 1.34 by reflection.
    #[test]
    fn src_25_what_is_left_out_and_what_is_kept_is_as_in_upstream() {
        let mut wrong = Vec::new();
        for row in include_str!("zeros/fields.txt").lines() {
            let (path, type_) = row.split_once(' ').unwrap();
            let (kept, kind) = match type_.strip_prefix('*') {
                Some(kind) => (true, kind),
                None => (false, type_),
            };
            let zero = match kind {
                "bool" => Value::Bool(false),
                "string" => "".into(),
                "slice" => Value::Array(Vec::new()),
                "map" => Value::Object(Map::new()),
                _ => 0.into(),
            };
            let (parent, name) = path.rsplit_once('.').unwrap();
            let object = |field: Option<Value>| {
                let field = field.map(|value| (name.to_owned(), value));
                let object = nested(parent, Value::Object(field.into_iter().collect()));
                serde_json::from_value::<Pod>(object).unwrap()
            };
            let (mut with, mut without) = (object(Some(zero)), object(None));
            let pointer = format!("/{}", path.replace("[]", "/0").replace('.', "/"));
            let is_field = serde_json::to_value(&with)
                .unwrap()
                .pointer(&pointer)
                .is_some();
            drop_zeros(&mut with);
            drop_zeros(&mut without);
            if !is_field || (with != without) != kept {
                wrong.push(row);
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn src_25_zeros_deep_in_a_pod_are_left_out() {
        let pod = |term: &str, toleration: &str, quobyte: &str| {
            let text = format!(
                r#"{{"spec": {{"containers": [],
                "affinity": {{"podAffinity": {{"preferredDuringSchedulingIgnoredDuringExecution": [
                    {{"weight": 1, "podAffinityTerm": {{"topologyKey": "k"{term}}}}}]}}}},
                "tolerations": [{{"operator": "Exists"{toleration}}}],
                "volumes": [{{"name": "v", "quobyte": {{"registry": "r", "volume": "v"{quobyte}}}}}]}}}}"#
            );
            let mut pod: Pod = serde_json::from_str(&text).unwrap();
            drop_zeros(&mut pod);
            pod
        };
        let written = pod(
            r#", "namespaces": []"#,
            r#", "key": "", "value": "", "effect": """#,
            r#", "readOnly": false, "user": """#,
        );
        assert_eq!(written, pod("", "", ""));
    }

    #[test]
    fn src_25_what_people_name_is_theirs() {
        let pod = r#"{"metadata": {"labels": {"a": ""}}, "spec": {
            "containers": [{"name": "c", "args": [""], "resources": {"limits": {"x/y": "0"}}}],
            "nodeSelector": {"optional": ""}, "volumes": [{"name": "v", "emptyDir": {}}]}}"#;
        let pod: Pod = serde_json::from_str(pod).unwrap();
        let mut dropped = pod.clone();
        drop_zeros(&mut dropped);
        assert_eq!(dropped, pod);
    }
}
