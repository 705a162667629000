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
    // Stricter: an escaped apostrophe, which is nothing that YAML has.
    "a: \"x\\'y\"\n",
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
        let ours = read_yaml(input.as_bytes(), Limits::MANIFEST);
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

/// Kubernetes, `yaml.ToJSON`: what begins with a brace is JSON, and Go's decoder says what is wrong with it.
#[test]
fn what_begins_with_a_brace_is_json_only() {
    let wrong = |text: &str| {
        let text = error(text);
        let prefix = "couldn't get version/kind; json parse error: ";
        text.strip_prefix(prefix).unwrap_or(&text).to_owned()
    };
    for (text, problem) in [
        (
            "{a: 1}",
            "invalid character 'a' looking for beginning of object key string",
        ),
        (
            "{'a': 1}",
            r"invalid character '\'' looking for beginning of object key string",
        ),
        ("{", "unexpected end of JSON input"),
        ("{}\n---\n{}", "invalid character '-' after top-level value"),
        ("{} # x", "invalid character '#' after top-level value"),
        (
            "{\"a\": 1,}",
            "invalid character '}' looking for beginning of object key string",
        ),
        ("{\"a\" 1}", "invalid character '1' after object key"),
        (
            "{\"a\": 1 \"b\"}",
            "invalid character '\"' after object key:value pair",
        ),
        (
            "{\"a\": [1 2]}",
            "invalid character '2' after array element",
        ),
        (
            "{\"a\": [1,]}",
            "invalid character ']' looking for beginning of value",
        ),
        (
            "{\"a\": yes}",
            "invalid character 'y' looking for beginning of value",
        ),
        (
            "{\"a\": trye}",
            "invalid character 'y' in literal true (expecting 'u')",
        ),
        ("{\"a\": nul", "unexpected end of JSON input"),
        (
            "{\"a\": 01}",
            "invalid character '1' after object key:value pair",
        ),
        ("{\"a\": -x}", "invalid character 'x' in numeric literal"),
        (
            "{\"a\": 1.}",
            "invalid character '}' after decimal point in numeric literal",
        ),
        (
            "{\"a\": 1e+}",
            "invalid character '}' in exponent of numeric literal",
        ),
        (
            "{\"a\": \"\n\"}",
            r"invalid character '\n' in string literal",
        ),
        (
            "{\"a\": \"\u{1}\"}",
            r"invalid character '\x01' in string literal",
        ),
        (
            "{\"a\": \"\\x\"}",
            "invalid character 'x' in string escape code",
        ),
        (
            "{\"a\": \"\\u12g4\"}",
            "invalid character 'g' in \\u hexadecimal character escape",
        ),
        (
            "{\"a\": \"\\ud83d\\u00g\"}",
            "invalid character 'g' in \\u hexadecimal character escape",
        ),
        (
            "{\"a\": é}",
            "invalid character 'Ã' looking for beginning of value",
        ),
        (
            "\u{a0}{}",
            "invalid character 'Â' looking for beginning of value",
        ),
        (
            "\u{b}{}",
            r"invalid character '\v' looking for beginning of value",
        ),
    ] {
        assert_eq!(wrong(text), problem, "{text}");
    }
    assert_eq!(read_text(" \t\r\n{} \n").unwrap().value, json!({}));
    // A list is YAML, and so is a map behind a mark.
    assert_eq!(read_text("[{a: 1}]").unwrap().value, json!([{"a": 1}]));
    assert_eq!(read_text("\u{feff}{a: 1}").unwrap().value, json!({"a": 1}));
}

#[test]
fn json_is_read_as_go_reads_it() {
    let value = |bytes: &[u8]| to_json(bytes, Limits::MANIFEST).unwrap()["a"].take();
    for (text, expected) in [
        (r#"{"a": "\ud83d\ude00"}"#, "😀"),
        (r#"{"a": "\ud83d"}"#, "\u{fffd}"),
        (r#"{"a": "\ude00x"}"#, "\u{fffd}x"),
        (r#"{"a": "\ud83d\u0041"}"#, "\u{fffd}A"),
        (r#"{"a": "\ud83d\ud83d\ude00"}"#, "\u{fffd}😀"),
        (r#"{"a": "\ud83d\n"}"#, "\u{fffd}\n"),
        (
            r#"{"a": "\"\\\/\b\f\n\r\t\u00e9\u0000"}"#,
            "\"\\/\u{8}\u{c}\n\r\té\0",
        ),
        ("{\"a\": \"\u{7f}\u{85}\"}", "\u{7f}\u{85}"),
    ] {
        assert_eq!(value(text.as_bytes()), json!(expected), "{text}");
    }
    let bytes = b"{\"a\": \"x\xe2\x82y\xff\"}";
    assert_eq!(value(bytes), json!("x\u{fffd}\u{fffd}y\u{fffd}"));
    for (text, expected) in [
        ("80.0", json!(80.0)),
        ("-0", json!(0)),
        ("18446744073709551615", json!(u64::MAX)),
        ("18446744073709551616", json!(18_446_744_073_709_551_616.0)),
        ("1E3", json!(1000.0)),
        ("1e999", json!("1e999")),
    ] {
        assert_eq!(value(format!("{{\"a\": {text}}}").as_bytes()), expected);
    }
    let twice =
        br#"{"a": {"b": 1, "c": [{"e": 1}, 2]}, "a": {"c": [{"f": 2}], "d": null}, "a": null}"#;
    assert_eq!(
        value(twice),
        json!({"b": 1, "c": [{"e": 1, "f": 2}], "d": null})
    );
}

/// `go.yaml.in/yaml/v2`, `yaml_parser_process_directives`: version 1.1 and no other.
#[test]
fn directives_are_those_of_version_1_1() {
    assert_eq!(
        read_text("%YAML 1.1\n---\na: 1\n").unwrap().value,
        json!({"a": 1})
    );
    let tagged = "%TAG !y! tag:yaml.org,2002:\n---\na: !y!str 1\n";
    assert_eq!(read_text(tagged).unwrap().value, json!({"a": "1"}));
    for version in ["1.0", "1.2", "1.3", "2.0"] {
        assert_eq!(
            error(&format!("# x\n%YAML {version}\n---\na: 1\n")),
            "yaml: line 2, column 1: found incompatible YAML document",
            "{version}"
        );
    }
    assert!(read_text("%YAML 1.1\n%YAML 1.1\n---\na: 1\n").is_err());
    assert!(read_text("%FOO x\n---\na: 1\n").is_err());
    assert!(read_text("%YAML 1.1\na: 1\n").is_err());
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
