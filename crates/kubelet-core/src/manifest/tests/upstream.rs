//! Answers recorded from upstream.

use serde_json::{Value, json};

use super::*;

/// Without what Go omits: nulls, zeros, and empty texts, lists and maps.
fn pruned(value: &Value) -> Value {
    let is_zero = |value: &Value| match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    };
    match value {
        Value::Array(list) => list.iter().map(pruned).collect(),
        Value::Object(map) => {
            let kept = map.iter().map(|(key, value)| (key.clone(), pruned(value)));
            Value::Object(kept.filter(|(_, value)| !is_zero(value)).collect())
        }
        other => other.clone(),
    }
}

/// Differs: where an error shows a whole object, upstream shows its internal form, with Go's field names.
fn masked(answer: &Value) -> String {
    let text = answer.to_string();
    let (mut kept, mut rest) = (String::new(), &text[..]);
    while let Some(start) = ["Invalid value: {", "Invalid value: [{"]
        .iter()
        .find_map(|m| rest.find(m))
    {
        let end = rest[start..]
            .find("}: ")
            .or(rest[start..].find("}]: "))
            .map_or(rest.len(), |at| start + at);
        kept.push_str(&rest[..start]);
        rest = &rest[end..];
    }
    kept + rest
}

/// Each row is a manifest and what upstream's packages (v1.34) make of it: `error` (no pod at all), `errors` of
/// fields, the `reference` refused, or the defaulted `pod`.
#[test]
fn answers_are_those_of_upstream() {
    let mut wrong = Vec::new();
    for row in include_str!("../../../tests/corpus/upstream.jsonl").lines() {
        let row: Value = serde_json::from_str(row).unwrap();
        let answer = load(&row["in"].to_string());
        let mut ours = json!({});
        match &answer {
            Ok(loaded) => {
                let mut pod = loaded.pod.clone();
                pod.metadata.annotations.as_mut().unwrap().retain(|key, _| {
                    !matches!(key.as_str(), CONFIG_HASH | CONFIG_SOURCE | CONFIG_SEEN)
                });
                pod.metadata.uid = row["pod"]["metadata"]["uid"].as_str().map(str::to_owned);
                pod.metadata.creation_timestamp = None;
                ours["pod"] = pruned(&json!({"metadata": pod.metadata, "spec": pod.spec}));
            }
            Err(ManifestError::Invalid(errors)) => {
                let mut errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
                errors.sort();
                ours["errors"] = json!(errors);
            }
            Err(ManifestError::Unknown(text)) => {
                ours["reference"] = json!(format!("error: {text}"));
            }
            Err(ManifestError::Reference(what)) => ours["reference"] = json!(what),
            Err(ManifestError::NameMissing) => {
                ours["error"] = json!(answer.unwrap_err().to_string());
            }
            Err(_) => ours["error"] = json!(true),
        }
        let mut theirs = row.clone();
        let row = theirs.as_object_mut().unwrap();
        let input = row.remove("in").unwrap();
        if row.contains_key("reference") {
            row.remove("pod");
            row.remove("errors");
        }
        if let Some(pod) = row.get_mut("pod") {
            pod["metadata"]["annotations"]
                .as_object_mut()
                .unwrap()
                .remove(CONFIG_HASH);
            *pod = pruned(pod);
            row.remove("errors");
        }
        if masked(&ours) != masked(&theirs) {
            wrong.push(format!("{input}\n   ours   {ours}\n   theirs {theirs}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
