//! Expansion as observed on concurrently 9.2.1, and the promise that a shell gives the words back.

use proptest::prelude::*;

use super::{words::Words, *};

fn values(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[test]
fn one_pair_of_quotes_is_taken_off() {
    for (given, wanted) in [
        ("\"echo a\"", "echo a"),
        ("'echo a'", "echo a"),
        ("echo a", "echo a"),
        ("\"\"", "\"\""),
        ("\"", "\""),
        ("\"a'", "\"a'"),
        // Not asked whether they belong together, as upstream.
        ("\"echo a\" \"echo b\"", "echo a\" \"echo b"),
        ("\"a\nb\"", "\"a\nb\""),
        ("\"'x'\"", "'x'"),
    ] {
        assert_eq!(strip_quotes(given), wanted, "{given}");
    }
}

/// One command, in a directory without scripts.
fn expand_one(name: &str, text: &str, values: Option<&[String]>) -> Expanded {
    let scripts = Scripts::new(&|_| None);
    let mut commands = expand(name, text, values, &scripts).expect("no filter is given");
    assert_eq!(commands.len(), 1, "{text}");
    commands.remove(0)
}

#[test]
fn shortcuts_become_runner_commands_and_name_the_command() {
    for (given, name, text) in [
        ("npm:build", "build", "npm run build"),
        ("yarn:a -- -x 'y z'", "a", "yarn run a -- -x 'y z'"),
        ("node:start --flag", "start", "node --run start --flag"),
        ("deno:dev", "dev", "deno task dev"),
        ("npm: build", "", "npm: build"),
        ("npm:", "", "npm:"),
        ("make:build", "", "make:build"),
    ] {
        let wanted = Expanded {
            name: name.to_owned(),
            text: text.to_owned(),
        };
        assert_eq!(expand_one("", given, None), wanted);
    }
    assert_eq!(expand_one("mine", "npm:build", None).name, "mine");
}

#[test]
fn placeholders_become_quoted_words_pas_07() {
    let given = values(&["a b", "c'd"]);
    for (text, wanted) in [
        ("echo {1}", "echo 'a b'"),
        ("echo {@}", "echo 'a b' \"c'd\""),
        ("echo {*}", "echo \"a b c'd\""),
        ("echo {3}", "echo "),
        ("echo {99999999999999999999999}", "echo "),
        ("echo \\{1} \\{@}", "echo {1} {@}"),
        ("echo \\\\{1}", "echo \\{1}"),
        ("echo {0} {01} {x} {} {1", "echo {0} {01} {x} {} {1"),
        ("echo {{1}}", "echo {'a b'}"),
        ("{1}{2}", "'a b'\"c'd\""),
        ("echo '{1}'", "echo ''a b''"),
    ] {
        assert_eq!(expand_placeholders(text, &given), wanted, "{text}");
    }
}

#[test]
fn without_values_placeholders_become_empty() {
    assert_eq!(expand_placeholders("a {1} {@} {*} \\{1}", &[]), "a    {1}");
    assert_eq!(expand_one("", "a {1}", None).text, "a {1}");
    assert_eq!(expand_one("", "kubelet {@}", Some(&[])).text, "kubelet ");
}

#[test]
fn words_are_quoted_as_upstream_does() {
    for (word, wanted) in [
        ("", "''"),
        ("plain", "plain"),
        ("a b", "'a b'"),
        ("a\\b", "'a\\b'"),
        ("a\"b", "'a\"b'"),
        ("c'd", "\"c'd\""),
        ("c'd $x `y`", "\"c'd \\$x \\`y\\`\""),
        ("--v=5", "--v\\=5"),
        ("a=b", "a\\=b"),
        ("C:\\x", "'C:\\x'"),
        ("C:=x", "C:\\=x"),
        ("a:b", "a\\:b"),
        ("%+/.-_é", "%+/.-_é"),
        ("{1}", "\\{1\\}"),
        // Differs from upstream, see `quote`.
        ("it's!", "\"it's!\""),
        ("~x", "\\~x"),
        ("x~", "x~"),
    ] {
        assert_eq!(quote(word), wanted, "{word}");
    }
}

#[test]
fn simple_texts_need_no_shell() {
    for (text, wanted) in [
        ("kubelet --v\\=5 'a b'", &["kubelet", "--v=5", "a b"][..]),
        ("  sleep\t5  ", &["sleep", "5"]),
        ("a \"b \\\" \\x\"c ''", &["a", "b \" \\xc", ""]),
        (
            "./run x=y a#b a~ ^ % ]",
            &["./run", "x=y", "a#b", "a~", "^", "%", "]"],
        ),
    ] {
        assert_eq!(words::split(text), Words::Program(values(wanted)), "{text}");
    }
    assert_eq!(
        words::split("exit 3"),
        Words::Builtin(values(&["exit", "3"]))
    );
}

#[test]
fn whatever_a_shell_treats_specially_goes_to_the_shell() {
    for text in [
        "",
        "  ",
        "a && b",
        "a; b",
        "a | b",
        "a > f",
        "a $x",
        "a \"$x\"",
        "a `b`",
        "a *",
        "a ?",
        "a [x]",
        "a {b,c}",
        "A=1 b",
        "a ~",
        "~/a",
        "a # b",
        "a 'b",
        "a \"b",
        "a \\",
        "a\nb",
        "a \"\\\n\"",
        "(a)",
        "a &",
    ] {
        assert_eq!(words::split(text), Words::Shell, "{text}");
    }
}

fn through_shell(text: &str) -> Vec<u8> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the real shell is the judge here"
    )]
    let output = std::process::Command::new("/bin/sh")
        .args(["-c", text])
        .output()
        .unwrap();
    assert!(output.status.success(), "{text}: {output:?}");
    output.stdout
}

fn any_words() -> impl Strategy<Value = Vec<String>> {
    let letters = r"[ -~\t\néü…]{0,12}";
    prop::collection::vec(letters, 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_shell_gives_the_same_words_back(given in any_words()) {
        let text = expand_placeholders(r"printf '%s\0' x {@}", &given);
        let mut wanted = b"x\0".to_vec();
        for word in &given {
            wanted.extend(word.as_bytes());
            wanted.push(0);
        }
        prop_assert_eq!(through_shell(&text), wanted);
    }

    #[test]
    fn all_words_as_one_are_one(given in any_words()) {
        prop_assume!(!given.is_empty());
        let text = expand_placeholders(r"printf '%s\0' x {*}", &given);
        let wanted = format!("x\0{}\0", given.join(" "));
        prop_assert_eq!(through_shell(&text), wanted.into_bytes());
    }

    #[test]
    fn quoted_words_are_read_back_without_a_shell(given in any_words()) {
        let text = expand_placeholders("prog {@}", &given);
        let mut wanted = vec!["prog".to_owned()];
        wanted.extend(given);
        prop_assert_eq!(words::split(&text), Words::Program(wanted));
    }

    #[test]
    fn what_is_read_without_a_shell_is_what_the_shell_reads(tail in r"[ -~\t]{0,16}") {
        let text = format!(r"printf '%s\0' x {tail}");
        if let Words::Builtin(words) = words::split(&text) {
            let wanted = [&words[2..].join("\0"), "\0"].concat();
            prop_assert_eq!(through_shell(&text), wanted.into_bytes());
        }
    }
}
