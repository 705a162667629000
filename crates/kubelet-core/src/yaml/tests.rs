use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn read_text(text: &str) -> Result<Document, YamlError> {
    read(text.as_bytes(), Limits::MANIFEST)
}

fn error(text: &str) -> String {
    read_text(text).unwrap_err().to_string()
}

/// Differs: inputs on which our answer is not upstream's, so that the list can only get shorter.
const DIFFERS: &[&str] = &[
    // More lenient: escaped slash, surrogate pairs (both JSON), YAML's own later version.
    "a: \"x\\/y\"\n",
    "{\"a\": \"\\ud83d\\ude00\"}",
    "%YAML 1.2\n---\na: yes\n",
    // We take any text for a timestamp.
    "a: !!timestamp abc\n",
    // Two keys become one only as text; upstream keeps either.
    "1: a\n\"1\": b\n",
    // A key that a merge has set may be set again; upstream's strict reader refuses.
    "a: &x {p: 1, q: 2}\nb:\n  <<: *x\n  q: 3\n",
    "a: &x {p: 1, q: 2}\nb:\n  q: 3\n  <<: *x\n",
    "a: &x {p: 1}\nc: &y {p: 2, r: 3}\nb:\n  <<: [*x, *y]\n  q: 3\n",
];

/// Each row of the table is an input and the answer of `sigs.k8s.io/yaml` v1.6 (`YAMLToJSON`; `strict: false` where
/// `YAMLToJSONStrict` refuses what the former accepts).
#[test]
fn answers_are_those_of_upstream() {
    let mut wrong = Vec::new();
    for row in include_str!("table.jsonl").lines() {
        let row: Value = serde_json::from_str(row).unwrap();
        let input = row["in"].as_str().unwrap();
        let ours = read_text(input);
        let same = match (&ours, row.get("out")) {
            (Ok(document), Some(theirs)) => {
                let strict = row.get("strict").is_none();
                same(&document.value, theirs) && document.duplicates.is_empty() == strict
            }
            (Err(_), None) => true,
            _ => false,
        };
        if same == DIFFERS.contains(&input) {
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

/// Equal as JSON: `1e20` and `100000000000000000000` are one number.
fn same(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| same(v, w)))
        }
        _ => ours == theirs,
    }
}

#[test]
fn errors_name_line_and_column() {
    assert_eq!(
        error("a: 1\nb: [x\n"),
        "yaml: line 3, column 1: while parsing a flow sequence, did not find expected ',' or ']'"
    );
    assert_eq!(
        error("a: 1\nb: \u{1}\n"),
        "yaml: line 2, column 4: control characters are not allowed (found U+0001)"
    );
    assert_eq!(
        error("a:\n  .inf: .inf\n"),
        "yaml: line 2, column 9: unsupported value: +Inf"
    );
    assert_eq!(
        error("a:\n  <<: 1\n"),
        "yaml: line 2, column 7: map merge requires map or sequence of maps as the value"
    );
    assert_eq!(
        error("a:\n- !!int x\n"),
        "yaml: line 2, column 3: cannot decode !!str `x` as a !!int"
    );
    let invalid = read(b"a: 1\nb: \xFF\n", Limits::MANIFEST).unwrap_err();
    assert_eq!(
        invalid.to_string(),
        "yaml: line 2, column 4: invalid UTF-8 text"
    );
}

#[test]
fn repeated_keys_are_listed_and_the_last_counts() {
    let document = read_text("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n").unwrap();
    assert_eq!(document.value, json!({"a": 3, "b": {"c": 2}}));
    let listed: Vec<String> = document
        .duplicates
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        listed,
        [
            "line 4: key \"c\" already set in map",
            "line 5: key \"a\" already set in map"
        ]
    );
}

#[test]
fn repeated_keys_in_json_are_listed_too() {
    let document = read_text("{\"a\": 1,\n\"a\": 2}").unwrap();
    assert_eq!(document.value, json!({"a": 2}));
    assert_eq!(document.duplicates[0].at.line, 2);
}

#[test]
fn only_the_first_document_counts() {
    assert_eq!(read_text("a: 1\n---\nb: [").unwrap().value, json!({"a": 1}));
    assert_eq!(read_text("---\n---\na: 1\n").unwrap().value, Value::Null);
    let further = |text: &str| read_text(text).unwrap().further.map(|at| at.line);
    assert_eq!(further("a: 1\n---\nb: ["), Some(2));
    assert_eq!(further("a: 1\n---\n\n---\nb: 1\n"), Some(4));
    assert_eq!(further("a: 1\n---\n...\n"), None);
}

#[test]
fn utf16_and_byte_order_marks_are_read() {
    let wide = |unit: fn(u16) -> [u8; 2]| -> Vec<u8> {
        "\u{FEFF}a: é".encode_utf16().flat_map(unit).collect()
    };
    for bytes in [
        wide(u16::to_le_bytes),
        wide(u16::to_be_bytes),
        "\u{FEFF}a: é".into(),
    ] {
        assert_eq!(
            to_json(&bytes, Limits::MANIFEST).unwrap(),
            json!({"a": "é"})
        );
    }
    assert!(to_json(b"\xFF\xFEa", Limits::MANIFEST).is_err());
}

#[test]
fn limits_hold() {
    let bomb: String = (1..30).fold("a0: &a0 [x, x]\n".to_owned(), |text, n| {
        text + &format!("a{n}: &a{n} [*a{0}, *a{0}, *a{0}]\n", n - 1)
    });
    assert!(matches!(
        read_text(&bomb).unwrap_err().problem,
        Problem::TooMany(_)
    ));
    let long = format!(
        "a: &a {}\nb: [{}]",
        "x".repeat(1 << 20),
        vec!["*a"; 100].join(",")
    );
    assert!(matches!(
        read_text(&long).unwrap_err().problem,
        Problem::TooMany(_)
    ));
    let big = vec![b' '; Limits::MANIFEST.bytes + 1];
    assert!(matches!(
        to_json(&big, Limits::MANIFEST).unwrap_err().problem,
        Problem::TooLarge { .. }
    ));
    for open in ["[", "{a: ", "- ", "{\"a\":"] {
        let deep = open.repeat(100_000);
        assert!(read_text(&deep).is_err(), "{open}");
    }
    let deep = format!("{}{}", "[".repeat(101), "]".repeat(101));
    assert!(matches!(
        read_text(&deep).unwrap_err().problem,
        Problem::TooDeep(100)
    ));
    // Refused once the limit is met, however much follows on the same line.
    for item in ["a,", "{a: b},", "[],"] {
        let long = format!("a: [{}", item.repeat((9 << 20) / item.len()));
        let refused = read_text(&long).unwrap_err();
        assert!(matches!(refused.problem, Problem::TooMany(_)), "{refused}");
        assert!(refused.at.unwrap().column < 1_000_000, "{refused}");
    }
    let chain: String = (1..200).fold("a0: &a0 [x]\n".to_owned(), |text, n| {
        text + &format!("a{n}: &a{n} [*a{}]\n", n - 1)
    });
    assert!(matches!(
        read_text(&chain).unwrap_err().problem,
        Problem::TooDeep(100)
    ));
}

#[test]
fn ten_megabytes_are_read_in_reasonable_time() {
    let item = "- name: some value here\n  \"quoted\": 'text'\n  list: [a, b]\n";
    let text = item.repeat(10_000);
    assert!(read_text(&text).is_ok());
    let block = format!(
        "a: |\n{}",
        "  some text in a block\n".repeat((9 << 20) / 23)
    );
    assert!(read_text(&block).is_ok());
}

#[test]
fn a_block_may_end_the_text_without_a_line_break() {
    for (text, value) in [
        ("a: |\n  x", "x"),
        ("a: |\n  x\n", "x\n"),
        ("a: |+\n  x", "x"),
        ("a: |+\n  x\n", "x\n"),
        ("a: |-\n  x", "x"),
        ("a: >\n  x\n  y", "x y"),
        ("a: |\n  x\n\n  y", "x\n\ny"),
        ("a: |\n  x\n ", "x\n"),
        ("a: |\n  x\n# c", "x\n"),
        ("a: |\n  x\n    ", "x\n  "),
        ("a: |+\n  x\n ", "x\n"),
        ("a: |\n  x\r", "x\n"),
        ("a: |\n  é", "é"),
        ("a: x", "x"),
        ("a: 'x'", "x"),
    ] {
        assert_eq!(
            read_text(text).unwrap().value,
            json!({"a": value}),
            "{text:?}"
        );
    }
}

#[test]
fn a_tag_that_ends_at_a_comma_is_an_error() {
    assert!(read_text("a: [!!str, b]\n").is_err());
    assert!(read_text("a: [!!str b]\n").is_ok());
}

proptest! {
    #[test]
    fn any_bytes_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = to_json(&bytes, Limits::MANIFEST);
    }

    #[test]
    fn yaml_like_text_gives_an_answer(text in "[-a&*!?:,{}\\[\\]|>'\"#%\t\n .~<1_]{0,60}") {
        let _ = to_json(text.as_bytes(), Limits::MANIFEST);
    }

    #[test]
    fn json_text_is_its_own_value(text in "[ -~é\n]{0,20}", number in any::<i64>(), flag: bool) {
        let value = json!({"k": [text, number, flag, null, {"n": {}}]});
        prop_assert_eq!(&to_json(value.to_string().as_bytes(), Limits::MANIFEST).unwrap(), &value);
        // The same through the YAML reader: a leading comment keeps it off the fast path.
        let yaml = format!("# x\n{value}");
        prop_assert_eq!(&to_json(yaml.as_bytes(), Limits::MANIFEST).unwrap(), &value);
    }
}
