//! Whatever comes, an answer is given, and soon.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

#[test]
fn a_refused_manifest_of_ten_megabytes_is_refused_at_once() {
    let mut text = NGINX.to_owned();
    text.push_str(&"# padding\n".repeat(2 << 20));
    let error = load(&text).unwrap_err().to_string();
    assert!(error.contains("is over the limit of 10485760"), "{error}");
}

proptest! {
    #[test]
    fn any_bytes_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = load_static(&bytes, &source());
    }

    /// A good manifest with one value anywhere replaced by another one.
    #[test]
    fn any_broken_manifest_gives_an_answer(place in any::<prop::sample::Index>(), value in junk()) {
        let text = include_str!("../../../tests/corpus/sidecar.yaml");
        let mut pod = crate::yaml::to_json(text.as_bytes(), crate::yaml::Limits::MANIFEST).unwrap();
        let paths = pointers(&pod, "");
        *pod.pointer_mut(&paths[place.index(paths.len())]).unwrap() = value;
        let answer = load(&pod.to_string());
        // What is accepted is stable: defaults and validation have nothing to add.
        if let Ok(loaded) = answer {
            let mut again = loaded.pod.clone();
            default_pod(&mut again);
            prop_assert_eq!(&again, &loaded.pod);
            prop_assert_eq!(validate_pod(&again), []);
        }
    }
}

fn junk() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-2i64..70_000).prop_map(Value::from),
        "[a-zA-Z0-9./:_ -]{0,20}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([null])),
        Just(json!({"a": null})),
    ]
}

fn pointers(value: &Value, at: &str) -> Vec<String> {
    let mut all = vec![at.to_owned()];
    match value {
        Value::Array(list) => {
            for (index, item) in list.iter().enumerate() {
                all.extend(pointers(item, &format!("{at}/{index}")));
            }
        }
        Value::Object(map) => {
            for (key, item) in map {
                let key = key.replace('~', "~0").replace('/', "~1");
                all.extend(pointers(item, &format!("{at}/{key}")));
            }
        }
        _ => {}
    }
    all
}
