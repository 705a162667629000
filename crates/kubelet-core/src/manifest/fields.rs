//! What becomes of each field of a manifest. One table: `COMPATIBILITY.md` shows it, pods that set a field
//! without effect are told of by it, and a test holds it to the Pod type field by field, so that none is dropped
//! in silence.

mod table;

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use table::{CONTAINER_FIELDS, POD_FIELDS};

/// What becomes of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// Acts as upstream's kubelet acts.
    Supported,
    /// Has no effect on a pod from a file or a URL, as upstream: it is the scheduler's, the API server's, or of
    /// another operating system.
    NoEffect,
    /// Read and checked, then without effect; the log names it once for each pod.
    Ignored,
    /// The pod is refused or waits, and says why.
    Refused,
}

impl Support {
    /// The word in the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::NoEffect => "no effect",
            Self::Ignored => "ignored",
            Self::Refused => "refused",
        }
    }
}

/// A field, with all below it that has no row of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Field {
    /// Path from the pod, or from a container; `[]` behind a list.
    path: &'static str,
    /// What becomes of it.
    support: Support,
    /// What a reader should know.
    note: &'static str,
}

/// Where containers are: their fields are the same.
const CONTAINERS: [&str; 2] = ["spec.containers[]", "spec.initContainers[]"];

/// The row that speaks of a path: of several the one that goes deepest.
fn row(path: &str) -> Option<&'static Field> {
    let of_container = CONTAINERS
        .iter()
        .find_map(|list| path.strip_prefix(list)?.strip_prefix('.'));
    let deepest = |rows: &'static [Field], path: &str| {
        rows.iter()
            .filter(|field| is_at_or_below(path, field.path))
            .max_by_key(|field| field.path.len())
    };
    match of_container {
        Some(path) => deepest(CONTAINER_FIELDS, path),
        None => deepest(POD_FIELDS, path),
    }
}

fn is_at_or_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The paths of the fields that the pod sets and that have no effect here though upstream gives them one.
pub fn ignored_fields(pod: &Pod) -> Vec<String> {
    let mut found = Vec::new();
    // A pod is always JSON.
    let json = serde_json::to_value(pod).unwrap_or_default();
    walk(&json, &mut String::new(), &mut String::new(), &mut found);
    found
}

/// `shown` has the indices of lists, `path` does not. A field is told of at the depth of its row.
fn walk(value: &Value, shown: &mut String, path: &mut String, found: &mut Vec<String>) {
    let (shown_length, path_length) = (shown.len(), path.len());
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if !path.is_empty() {
                    shown.push('.');
                    path.push('.');
                }
                shown.push_str(name);
                path.push_str(name);
                let row = row(path);
                if row.is_some_and(|row| row.support == Support::Ignored) {
                    if is_set(value) {
                        found.push(shown.clone());
                    }
                } else {
                    walk(value, shown, path, found);
                }
                shown.truncate(shown_length);
                path.truncate(path_length);
            }
        }
        Value::Array(items) => {
            path.push_str("[]");
            for (index, value) in items.iter().enumerate() {
                // Writing to a string cannot fail.
                let _ = write!(shown, "[{index}]");
                walk(value, shown, path, found);
                shown.truncate(shown_length);
            }
            path.truncate(path_length);
        }
        _ => {}
    }
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => fields.values().any(is_set),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

/// The table in Markdown.
pub fn manifest_fields_markdown() -> String {
    let mut out = String::from("| field | status | note |\n|---|---|---|\n");
    let rows = POD_FIELDS
        .iter()
        .map(|field| ("", field))
        .chain(CONTAINER_FIELDS.iter().map(|field| ("container: ", field)));
    for (of, field) in rows {
        let Field {
            path,
            support,
            note,
        } = field;
        // Writing to a string cannot fail.
        let _ = writeln!(out, "| {of}`{path}` | {} | {note} |", support.as_str());
    }
    out
}

#[cfg(test)]
mod schema;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The Pod type's own word on what fields there are.
    fn schema() -> Vec<String> {
        schema::paths::<Pod>()
    }

    #[test]
    fn every_field_of_a_pod_has_a_row() {
        let paths = schema();
        assert!(paths.len() > 900, "{}", paths.len());
        let missing: Vec<&String> = paths.iter().filter(|path| row(path).is_none()).collect();
        assert!(missing.is_empty(), "no row in the table: {missing:#?}");
    }

    #[test]
    fn every_row_is_about_a_field_that_there_is() {
        let paths = schema();
        let used: BTreeSet<&str> = paths
            .iter()
            .filter_map(|path| row(path))
            .map(|row| row.path)
            .collect();
        for field in POD_FIELDS.iter().chain(CONTAINER_FIELDS) {
            assert!(used.contains(field.path), "{} is no field", field.path);
        }
    }

    #[test]
    fn rows_say_why() {
        for field in POD_FIELDS.iter().chain(CONTAINER_FIELDS) {
            assert!(
                field.support == Support::Supported || !field.note.is_empty(),
                "{}",
                field.path
            );
        }
    }

    #[test]
    fn fields_without_effect_are_named_by_path() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "spec": {
                "containers": [{"name": "a"}, {"name": "b", "resizePolicy": [], "image": "x"}],
                "securityContext": {"windowsOptions": {"runAsUserName": "x"}, "runAsUser": 1},
                "volumes": [{"name": "v", "emptyDir": {}}],
            }
        }))
        .unwrap();
        assert_eq!(
            ignored_fields(&pod),
            ["spec.securityContext.windowsOptions"]
        );
        assert!(ignored_fields(&Pod::default()).is_empty());
    }
}
