use proptest::prelude::*;
use serde_json::Value;

use super::*;

#[test]
fn answers_are_those_of_upstream() {
    let mut wrong = Vec::new();
    for row in include_str!("table.jsonl").lines() {
        let row: Value = serde_json::from_str(row).unwrap();
        let ours = parse(row["in"].as_str().unwrap());
        let text = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default();
        let same = match &ours {
            Ok(ours) => {
                row.get("err").is_none()
                    && ours.name() == text("repo")
                    && ours.effective_tag().unwrap_or_default() == text("tag")
                    && ours.digest.as_deref().unwrap_or_default() == text("digest")
                    && ours.familiar_name() == text("familiar")
                    && ours.to_string() == text("string")
            }
            Err(error) => error.to_string() == text("err"),
        };
        if !same {
            wrong.push(format!("{row}\n   ours {ours:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn the_default_tag_is_put_behind_the_name_as_written() {
    assert_eq!(apply_default_tag("nginx").unwrap(), "nginx:latest");
    assert_eq!(
        apply_default_tag("host:5000/a").unwrap(),
        "host:5000/a:latest"
    );
    assert_eq!(apply_default_tag("nginx:1").unwrap(), "nginx:1");
    let digest = format!("nginx@sha256:{}", "0".repeat(64));
    assert_eq!(apply_default_tag(&digest).unwrap(), digest);
    assert_eq!(
        apply_default_tag("a b").unwrap_err().to_string(),
        "couldn't parse image name \"a b\": invalid reference format"
    );
}

proptest! {
    #[test]
    fn normalised_names_read_back_as_themselves(text in "[a-zA-Z0-9_.:/@\\[\\]-]{0,40}") {
        if let Ok(reference) = parse(&text) {
            prop_assert_eq!(parse(&reference.to_string()).unwrap(), reference);
        }
    }
}
