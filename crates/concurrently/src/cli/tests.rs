//! The command line as upstream reads it, and where it is stricter.

use super::{config::MaxProcesses, *};
use crate::{
    behaviours::restart::{Delay, Tries},
    signal::Signal,
};

fn parse_words(words: &[&str], environment: &[(&str, &str)]) -> Result<Invocation, Vec<Problem>> {
    parse(
        words.iter().map(OsString::from),
        environment
            .iter()
            .map(|&(name, value)| (name.into(), value.into())),
        false,
        &|name| {
            (name == "package.json")
                .then(|| r#"{"scripts": {"watch-a": "x", "watch-b": "y"}}"#.to_owned())
        },
    )
}

fn config(words: &[&str]) -> Config {
    config_with(words, &[])
}

fn config_with(words: &[&str], environment: &[(&str, &str)]) -> Config {
    match parse_words(words, environment) {
        Ok(Invocation::Run(config)) => *config,
        other => panic!("{words:?} gave {other:?}"),
    }
}

fn texts(config: &Config) -> Vec<&str> {
    config
        .commands
        .iter()
        .map(|command| command.text.as_str())
        .collect()
}

fn complaint(words: &[&str]) -> String {
    parse_words(words, &[])
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

#[test]
fn options_and_commands_mix_in_any_order() {
    let config = config(&[
        "a",
        "-k",
        "b",
        "--names",
        "x,y",
        "--restart-tries",
        "-1",
        "c",
    ]);
    assert_eq!(texts(&config), ["a", "b", "c"]);
    assert_eq!(config.commands[1].name, "y");
    assert_eq!(config.commands[2].name, "");
    assert_eq!(config.kill_on, KillOn::AnyEnd);
    assert_eq!(config.restart.tries, Tries::Unlimited);
}

#[test]
fn spellings_of_one_option_are_equal() {
    for words in [
        &["--kill-others", "a"][..],
        &["--killOthers", "a"],
        &["-k", "a"],
        &["-rk", "a"],
        &["--kill-others=true", "a"],
        &["--kill-others", "true", "a"],
        &["--no-kill-others", "a", "--kill-others"],
    ] {
        let config = config(words);
        assert_eq!(config.kill_on, KillOn::AnyEnd, "{words:?}");
        assert_eq!(texts(&config), ["a"], "{words:?}");
    }
    for words in [
        &["-n", "x,y", "a", "b"][..],
        &["-n=x,y", "a", "b"],
        &["-kn", "x,y", "a", "b"],
        &["--names=x,y", "a", "b"],
    ] {
        assert_eq!(config(words).commands[1].name, "y", "{words:?}");
    }
    let row = config(&["-nk", "-m2", "-p{time}", "a"]);
    assert_eq!(row.commands[0].name, "");
    assert_eq!(row.kill_on, KillOn::AnyEnd);
    assert_eq!(row.max_processes, MaxProcesses::Count(2));
    assert_eq!(row.prefix.as_deref(), Some("{time}"));
    assert_eq!(config(&["--ks", "SIGKILL", "a"]).kill_signal, Signal::KILL);
    assert_eq!(
        config(&["--killOthers", "--no-kill-others", "a"]).kill_on,
        KillOn::Never
    );
}

#[test]
fn words_after_dashes_are_commands_or_values() {
    assert_eq!(texts(&config(&["a", "--", "-k", "b"])), ["a", "-k", "b"]);
    let config = config(&[
        "-P",
        "cri-dockerd",
        "kubelet {@}",
        "--",
        "--v=5",
        "--hostname-override=mynode",
    ]);
    assert_eq!(
        texts(&config),
        ["cri-dockerd", r"kubelet --v\=5 --hostname-override\=mynode"]
    );
}

#[test]
fn the_environment_speaks_where_the_command_line_is_silent() {
    let environment = [
        ("CONCURRENTLY_KILL_OTHERS", "true"),
        ("CONCURRENTLY_N", "x"),
        ("CONCURRENTLY_RESTART_TRIES", "-1"),
        ("CONCURRENTLY_RESTART_AFTER", "exponential"),
        ("CONCURRENTLY_VERSION", "9.2.1"),
        ("CONCURRENTLY_UNKNOWN", "1"),
        ("CONCURRENTLY_TEARDOWN", "echo bye"),
    ];
    let from_environment = config_with(&["a"], &environment);
    assert_eq!(from_environment.kill_on, KillOn::AnyEnd);
    assert_eq!(from_environment.commands[0].name, "x");
    assert_eq!(from_environment.restart.tries, Tries::Unlimited);
    assert_eq!(from_environment.restart.delay, Delay::Exponential);
    assert_eq!(from_environment.teardown, ["echo bye"]);

    let both = config_with(
        &["a", "--no-kill-others", "--restart-tries", "2"],
        &environment,
    );
    assert_eq!(both.kill_on, KillOn::Never);
    assert_eq!(both.restart.tries, Tries::Limited(2));
}

#[test]
fn every_problem_is_reported_with_its_place() {
    let text = complaint(&["--bogus", "1", "-kx", "--restart-after", "soon", ""]);
    for wanted in [
        "unknown option --bogus; see --help",
        "unknown option -x (in -kx)",
        "--restart-after is \"soon\", but should be a number of milliseconds, or \"exponential\"",
        "command 1 is empty",
    ] {
        assert!(text.contains(wanted), "{wanted:?} is not in {text:?}");
    }
    let wrong = parse_words(&["a"], &[("CONCURRENTLY_KS", "FOO")]).unwrap_err();
    assert_eq!(
        wrong[0].to_string(),
        "CONCURRENTLY_KS is \"FOO\", but should be the name of a signal, such as SIGTERM"
    );
    assert!(complaint(&["-t", "QQQ", "a"]).contains("QQQ"));
    assert!(complaint(&["--kill-signal", "FOO", "a"]).contains("--kill-signal is \"FOO\""));
    assert!(complaint(&["npm:*(![)"]).contains("command 0 (\"npm:*(![)\"): the filter \"[\""));
    assert!(complaint(&["--restart-after", "-5", "a"]).contains("milliseconds"));
}

#[test]
fn an_option_without_its_value_is_as_if_not_given() {
    let environment = [
        ("CONCURRENTLY_NAMES", "x"),
        ("CONCURRENTLY_TEARDOWN", "echo bye"),
    ];
    for last in FLAGS {
        if matches!(last.value, ValueKind::One(_)) {
            let words = ["-n", "--raw", "a", &format!("--{}", last.name)];
            let config = config_with(&words, &environment);
            assert!(config.raw, "{words:?}");
            assert_eq!(config.commands[0].name, "", "{words:?}");
            assert_eq!(texts(&config), ["a"], "{words:?}");
        }
    }
    assert!(
        config_with(&["a", "--teardown"], &environment)
            .teardown
            .is_empty()
    );
}

#[test]
fn switches_are_on_by_the_word_true_alone() {
    for (value, on) in [
        ("true", true),
        ("false", false),
        ("1", false),
        ("yes", false),
        ("TRUE", false),
        ("", false),
    ] {
        assert_eq!(config(&[&format!("--timings={value}"), "a"]).timings, on);
        let environment = [("CONCURRENTLY_TIMINGS", value)];
        assert_eq!(config_with(&["a"], &environment).timings, on, "{value}");
    }
}

#[test]
fn no_commands_is_not_an_error_but_asks_for_help() {
    assert!(matches!(
        parse_words(&[], &[]),
        Ok(Invocation::NothingToRun)
    ));
    assert!(matches!(
        parse_words(&["-P", "--", "x"], &[]),
        Ok(Invocation::NothingToRun)
    ));
    assert!(matches!(
        parse_words(&["-h", "a"], &[]),
        Ok(Invocation::Help)
    ));
    assert!(matches!(parse_words(&["-V"], &[]), Ok(Invocation::Version)));
    assert!(matches!(
        parse_words(&["--version"], &[]),
        Ok(Invocation::Version)
    ));
}

#[test]
fn a_pattern_of_scripts_becomes_one_command_each() {
    let some = config(&["-n", "w-,z", "npm:watch-*", "echo"]);
    assert_eq!(texts(&some), ["npm run watch-a", "npm run watch-b", "echo"]);
    let names: Vec<&str> = some.commands.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["w-a", "w-b", "z"]);
    assert_eq!(texts(&config(&["npm:nothing-*"])), [""; 0]);
}

#[test]
fn the_number_of_processes_is_at_least_one() {
    for (value, wanted) in [
        ("2", 2),
        ("0", 5),
        ("", 5),
        ("50%", 2),
        ("1%", 5),
        ("-3", 1),
        ("200%", 8),
        ("abc", 5),
        ("abc%", 5),
        ("2x", 5),
        ("1.5", 2),
        ("0.1", 1),
        (" 3 ", 3),
        ("0x2", 2),
        ("1e0", 1),
        ("nan", 5),
        ("-0", 5),
    ] {
        let config = config(&["-m", value, "a"]);
        assert_eq!(config.max_processes.resolve(4, 5), wanted, "{value}");
    }
    assert_eq!(config(&["-m", "-1", "a"]).max_processes.resolve(4, 5), 1);
}

#[test]
fn numbers_as_commands_stay_as_typed() {
    assert_eq!(texts(&config(&["1", "-2", "0x10"])), ["1", "-2", "0x10"]);
}

#[test]
fn a_strange_separator_works_and_warns() {
    let config = config(&["--name-separator", "|", "-n", "a|b", "x", "y"]);
    assert_eq!(config.commands[1].name, "b");
    assert_eq!(config.warnings.len(), 1);
}

#[test]
fn the_help_shows_every_option_but_the_hidden_ones() {
    let help = help("9.2.1");
    for flag in FLAGS.iter().filter(|flag| flag.group != Group::Hidden) {
        assert!(help.contains(&format!("--{}", flag.name)), "{}", flag.name);
    }
    assert!(help.lines().all(|line| line.len() <= 80));
    assert!(help.contains("tree/v9.2.1/docs"));
}

#[test]
fn no_two_options_share_a_spelling() {
    let mut spellings: Vec<String> = FLAGS.iter().flat_map(Flag::spellings).collect();
    let count = spellings.len();
    spellings.sort();
    spellings.dedup();
    assert_eq!(spellings.len(), count);
}
