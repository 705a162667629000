use serde_json::json;

use super::*;
use crate::config::{
    KubeletConfiguration, MemoryReservation, ShutdownGracePeriodByPodPriority, Taint, Tracing,
    UserNamespaces, VmoduleItem,
};

/// Paths of all leaves of a JSON value, lists taken by their first element.
fn leaves(prefix: &str, value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(entries) => {
            for (name, value) in entries {
                let path = if prefix.is_empty() {
                    name.clone()
                } else {
                    format!("{prefix}.{name}")
                };
                leaves(&path, value, out);
            }
        }
        Value::Array(items) if items.first().is_some_and(Value::is_object) => {
            out.push(prefix.to_owned());
            leaves(&format!("{prefix}[]"), &items[0], out);
        }
        _ => out.push(prefix.to_owned()),
    }
}

/// A document that gives every row of the table a value of its kind.
fn full_document() -> Value {
    let mut document = json!({});
    for field in FIELDS.iter().filter(|field| !field.path.contains("[]")) {
        let mut at = &mut document;
        for name in field.path.split('.') {
            at = &mut at[name];
        }
        *at = sample(field);
    }
    document
}

fn sample(field: &Field) -> Value {
    match field.kind {
        FieldKind::Bool => json!(true),
        FieldKind::Int32 | FieldKind::Int64 | FieldKind::Uint32 => json!(7),
        FieldKind::Float => json!(0.5),
        FieldKind::Text => json!("x"),
        FieldKind::Duration | FieldKind::DurationOrNanos => json!("7s"),
        FieldKind::Quantity => json!("7Mi"),
        FieldKind::TextList => json!(["x"]),
        FieldKind::TextMap => json!({"k": "v"}),
        FieldKind::BoolMap => json!({"k": true}),
        FieldKind::TextListMap => json!({"k": ["v"]}),
        FieldKind::QuantityMap => json!({"memory": "7Mi"}),
        FieldKind::ObjectList => {
            let prefix = format!("{}[].", field.path);
            let entries: Map<String, Value> = FIELDS
                .iter()
                .filter_map(|row| Some((row.path.strip_prefix(&prefix)?.to_owned(), sample(row))))
                .collect();
            json!([entries])
        }
    }
}

#[test]
fn table_and_structs_have_the_same_fields() {
    let document = full_document();
    let findings = inspect(document.as_object().expect("an object"));
    assert_eq!(findings.unknown, Vec::<String>::new());
    assert_eq!(findings.mistyped, Vec::<String>::new());
    assert_eq!(findings.set.len(), FIELDS.len());
    // A struct without a row's field would lose its value here, one with more would keep a default.
    let config: KubeletConfiguration = serde_json::from_value(document.clone()).expect("decodes");
    let back = serde_json::to_value(&config).expect("encodes");
    let (mut here, mut there) = (Vec::new(), Vec::new());
    leaves("", &document, &mut here);
    leaves("", &back, &mut there);
    here.sort();
    there.sort();
    assert_eq!(here, there);
}

#[test]
fn structs_have_no_field_beyond_the_table() {
    // Everything optional present, everything plain non-zero by way of Debug: names of all fields.
    let config = KubeletConfiguration {
        tracing: Some(Tracing::default()),
        user_namespaces: Some(UserNamespaces::default()),
        ..KubeletConfiguration::default()
    };
    let text = format!(
        "{config:?} {:?} {:?} {:?} {:?}",
        MemoryReservation::default(),
        ShutdownGracePeriodByPodPriority::default(),
        Taint::default(),
        VmoduleItem::default()
    );
    let mut names: Vec<&str> = text
        .split([' ', '{', ',', '('])
        .filter_map(|word| word.strip_suffix(':'))
        .collect();
    names.sort_unstable();
    names.dedup();
    // Inside of a duration.
    names.retain(|name| *name != "nanos");
    let mut rows: Vec<String> = FIELDS
        .iter()
        .flat_map(|field| field.path.split('.'))
        .map(|name| name.trim_end_matches("[]").replace('_', "").to_lowercase())
        .collect();
    rows.sort();
    rows.dedup();
    for name in names {
        let plain = name.replace('_', "").to_lowercase();
        assert!(rows.contains(&plain), "no row for {name}");
    }
}

#[test]
fn defaults_in_the_table_are_those_of_a_file() {
    let mut config = KubeletConfiguration::default();
    config.set_defaults();
    config.set_default_eviction_hard();
    let value = serde_json::to_value(&config).expect("encodes");
    for field in FIELDS.iter().filter(|field| !field.path.contains("[]")) {
        let mut at = &value;
        for name in field.path.split('.') {
            at = &at[name];
        }
        let text = match at {
            Value::Null => match field.kind {
                FieldKind::Bool if field.default == "false" => "false".to_owned(),
                FieldKind::Int32 | FieldKind::Uint32 if field.default == "0" => "0".to_owned(),
                FieldKind::Duration if field.default == "0s" => "0s".to_owned(),
                _ => String::new(),
            },
            Value::String(text) => text.clone(),
            Value::Array(items) => items
                .iter()
                .filter_map(Value::as_str)
                .collect::<Vec<_>>()
                .join(","),
            Value::Object(entries) => {
                let pairs = entries
                    .iter()
                    .map(|(k, v)| format!("{k}<{}", v.as_str().expect("text")));
                pairs.collect::<Vec<_>>().join(",")
            }
            other => other.to_string(),
        };
        assert_eq!(text, field.default, "{}", field.path);
    }
}

#[test]
fn defaulting_twice_changes_nothing_and_survives_encoding() {
    let mut config = KubeletConfiguration::legacy_defaults();
    let first = config.clone();
    config.set_defaults();
    assert_eq!(config, first);
    let mut back: KubeletConfiguration =
        serde_json::from_value(serde_json::to_value(&first).expect("encodes")).expect("decodes");
    back.set_defaults();
    assert_eq!(back, first);
}

#[test]
fn unknown_and_mistyped_fields_are_all_found() {
    let document = json!({
        "apiVersion": "x", "kind": "y", "foo": 1, "port": "abc", "maxPods": 99_999_999_999_i64,
        "authentication": {"bar": 2, "webhook": {"enabled": "yes"}},
        "syncFrequency": "5x", "fileCheckFrequency": 5, "evictionHard": {"a": 1},
        "reservedMemory": [{"numaNode": 0, "limit": {}}, 3], "logging": [],
        "clusterDNS": ["1.1.1.1", 2], "podsPerCore": null, "healthzPort": 1.5,
    });
    let findings = inspect(document.as_object().expect("an object"));
    assert_eq!(
        findings.unknown,
        ["authentication.bar", "foo", "reservedMemory[0].limit"]
    );
    assert_eq!(
        findings.mistyped,
        [
            "json: port: cannot unmarshal string into a field of type int32",
            "json: maxPods: cannot unmarshal number 99999999999 into a field of type int32",
            "json: authentication.webhook.enabled: cannot unmarshal string into a field of type bool",
            "json: syncFrequency: time: unknown unit \"x\" in duration \"5x\"",
            "json: fileCheckFrequency: cannot unmarshal number 5 into a field of type duration",
            "json: evictionHard: key \"a\": cannot unmarshal number 1 into a field of type string",
            "json: reservedMemory[1]: cannot unmarshal number 3 into a field of type object",
            "json: logging: cannot unmarshal array into a field of type object",
            "json: clusterDNS: element 1: cannot unmarshal number 2 into a field of type string",
            "json: healthzPort: cannot unmarshal number 1.5 into a field of type int32",
        ]
    );
}
