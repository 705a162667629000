//! Transcripts seen on concurrently 9.2.1 (TST-01). Commands that run side by side are made to end one after another,
//! or their lines are compared without order (OUT-22).

use crate::harness::{is_original, number_after, run, run_with};

#[test]
fn ends_are_shown_and_one_failure_is_a_failure() {
    run(&["echo a", "sh -c 'exit 3'"]).assert_sorted(
        1,
        &[
            "[0] a",
            "[0] echo a exited with code 0",
            "[1] sh -c 'exit 3' exited with code 3",
        ],
    );
}

#[test]
fn kill_others_ends_the_rest() {
    run(&["-k", "echo a", "sleep 5"]).assert(
        1,
        "[0] a\n[0] echo a exited with code 0\n--> Sending SIGTERM to other processes..\n\
         [1] sleep 5 exited with code SIGTERM\n",
    );
    run(&[
        "-k",
        "-s",
        "first",
        "--ks",
        "SIGINT",
        "sh -c 'sleep 0.1'",
        "sleep 5",
    ])
    .assert(
        0,
        "[0] sh -c 'sleep 0.1' exited with code 0\n--> Sending SIGINT to other processes..\n\
         [1] sleep 5 exited with code SIGINT\n",
    );
}

#[test]
fn kill_others_on_fail_leaves_success_alone() {
    run(&["--kill-others-on-fail", "echo a", "sleep 0.2"]).assert(
        0,
        "[0] a\n[0] echo a exited with code 0\n[1] sleep 0.2 exited with code 0\n",
    );
}

#[test]
fn kill_timeout_follows_with_sigkill() {
    run(&["-k", "--kill-timeout", "300", "sleep 0.3", "trap '' TERM; sleep 3"]).assert(
        1,
        "[0] sleep 0.3 exited with code 0\n--> Sending SIGTERM to other processes..\n\
         --> Sending SIGKILL to 1 processes..\n[1] trap '' TERM; sleep 3 exited with code SIGKILL\n",
    );
}

#[test]
fn group_shows_outputs_one_after_another() {
    run(&[
        "-g",
        "sleep 0.4; echo a; echo b",
        "echo c; printf d",
        "echo e",
    ])
    .assert(
        0,
        "[0] a\n[0] b\n[0] sleep 0.4; echo a; echo b exited with code 0\n[1] c\n[1] d\n\
         [1] echo c; printf d exited with code 0\n[2] e\n[2] echo e exited with code 0\n",
    );
}

#[test]
fn group_tells_of_the_others_before_it_shows_them() {
    run(&["-g", "-k", "sleep 0.3", "echo b; exec sleep 5"]).assert(
        1,
        "[0] sleep 0.3 exited with code 0\n--> Sending SIGTERM to other processes..\n[1] b\n\
         [1] echo b; exec sleep 5 exited with code SIGTERM\n",
    );
}

#[test]
fn raw_shows_only_what_commands_write() {
    run(&["-r", "echo a", "exit 2"]).assert(1, "a\n");
}

#[test]
fn hidden_commands_are_silent() {
    run(&["--hide", "0", "echo a", "echo b"]).assert(0, "[1] b\n[1] echo b exited with code 0\n");
    run(&["--hide", "x", "-n", "x,y", "echo a", "echo b"])
        .assert(0, "[y] b\n[y] echo b exited with code 0\n");
}

#[test]
fn teardown_commands_run_in_turn_and_do_not_count() {
    run(&["--teardown", "echo bye", "--teardown", "exit 3", "echo a"]).assert(
        0,
        "[0] a\n[0] echo a exited with code 0\n--> Running teardown command \"echo bye\"\nbye\n\
         --> Teardown command \"echo bye\" exited with code 0\n--> Running teardown command \"exit 3\"\n\
         --> Teardown command \"exit 3\" exited with code 3\n",
    );
}

#[test]
fn failed_commands_are_restarted() {
    run(&["--restart-tries", "2", "--restart-after", "50", "exit 1"]).assert(
        1,
        "[0] exit 1 exited with code 1\n[0] exit 1 restarted\n[0] exit 1 exited with code 1\n\
         [0] exit 1 restarted\n[0] exit 1 exited with code 1\n",
    );
    run(&["--restart-tries", "1", "-m", "1", "exit 1", "echo 2"]).assert(
        1,
        "[0] exit 1 exited with code 1\n[0] exit 1 restarted\n[0] exit 1 exited with code 1\n[1] 2\n\
         [1] echo 2 exited with code 0\n",
    );
}

#[test]
fn prefixes_are_made_from_templates() {
    let outcome = run(&[
        "-p",
        "{time} {index} {name} {pid}",
        "-n",
        "x",
        "-t",
        "'T'yy",
        "echo hi",
    ]);
    let pid = number_after(&outcome.stdout, " 0 x ");
    let year = &outcome.stdout[1..3];
    outcome.assert(
        0,
        &format!("T{year} 0 x {pid} hi\nT{year} 0 x {pid} echo hi exited with code 0\n"),
    );
}

#[test]
fn command_prefixes_are_shortened() {
    run(&["-p", "command", "-l", "6", "echo abcdefghijk"]).assert(
        0,
        "[ec..jk] abcdefghijk\n[ec..jk] echo abcdefghijk exited with code 0\n",
    );
    run(&["-p", "none", "echo a"]).assert(0, "a\necho a exited with code 0\n");
}

#[test]
fn prefixes_are_padded() {
    run(&["--pad-prefix", "-n", "a,bbb", "-m", "1", "echo 1", "echo 2"]).assert(
        0,
        "[a  ] 1\n[a  ] echo 1 exited with code 0\n[bbb] 2\n[bbb] echo 2 exited with code 0\n",
    );
}

#[test]
fn placeholders_are_filled_in_quoted() {
    run(&["-P", "-m", "1", "echo {1}", "echo {@}", "echo {*}", "echo \\{1}", "--", "a b", "c'd"]).assert(
        0,
        "[0] a b\n[0] echo 'a b' exited with code 0\n[1] a b c'd\n[1] echo 'a b' \"c'd\" exited with code 0\n\
         [2] a b c'd\n[2] echo \"a b c'd\" exited with code 0\n[3] {1}\n[3] echo {1} exited with code 0\n",
    );
}

#[test]
fn the_shell_tells_of_unknown_commands() {
    let outcome = run(&["nosuchcmd-x"]);
    assert!(outcome.stdout.starts_with("[0] /bin/sh: "), "{outcome:?}");
    assert!(
        outcome.stdout.contains("nosuchcmd-x: not found\n"),
        "{outcome:?}"
    );
    assert!(
        outcome
            .stdout
            .ends_with("\n[0] nosuchcmd-x exited with code 127\n"),
        "{outcome:?}"
    );
    assert_eq!(outcome.code, Some(1));
}

#[test]
fn timings_are_told_and_listed() {
    let outcome = run(&["--timings", "-t", "yyyy", "-n", "x", "sleep 0.1", "exit 2"]);
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    let year = &lines[0][lines[0].len() - 4..];
    assert_eq!(lines[0], format!("[x] sleep 0.1 started at {year}"));
    assert!(
        outcome
            .stdout
            .contains(&format!("[1] exit 2 stopped at {year} after ")),
        "{outcome:?}"
    );
    let table = &lines[lines.len() - 7..];
    assert_eq!(
        &table[..4],
        [
            "--> Timings:",
            "--> ┌──────┬──────────┬───────────┬────────┬───────────┐",
            "--> │ name │ duration │ exit code │ killed │ command   │",
            "--> ├──────┼──────────┼───────────┼────────┼───────────┤",
        ]
    );
    assert!(table[4].starts_with("--> │ x    │ 1"), "{outcome:?}");
    assert!(
        table[4].ends_with("│ 0         │ false  │ sleep 0.1 │"),
        "{outcome:?}"
    );
    assert!(
        table[5].ends_with("│ 2         │ false  │ exit 2    │"),
        "{outcome:?}"
    );
    assert_eq!(
        table[6],
        "--> └──────┴──────────┴───────────┴────────┴───────────┘"
    );
}

#[test]
fn success_rules_look_at_names_and_indexes() {
    for (rule, code) in [
        ("command-1", 0),
        ("command-7", 1),
        ("!command-a", 0),
        ("command-a", 1),
        ("last", 0),
        ("first", 1),
    ] {
        let outcome = run(&["-s", rule, "-n", "a", "-m", "1", "exit 1", "exit 0"]);
        assert_eq!(outcome.code, Some(code), "{rule}: {outcome:?}");
    }
}

#[test]
fn the_environment_sets_options() {
    run_with(&["echo 1"], &[("CONCURRENTLY_NAMES", "q")])
        .assert(0, "[q] 1\n[q] echo 1 exited with code 0\n");
    run_with(&["-n", "w", "echo 1"], &[("CONCURRENTLY_NAMES", "q")])
        .assert(0, "[w] 1\n[w] echo 1 exited with code 0\n");
    run_with(&["echo 1", "-n"], &[("CONCURRENTLY_TIMINGS", "1")])
        .assert(0, "[0] 1\n[0] echo 1 exited with code 0\n");
}

#[test]
fn stderr_and_stray_line_ends_get_prefixes() {
    run(&["-m", "1", "-n", "a", "printf 'x\\n\\ny'", "echo 1 >&2"]).assert(
        0,
        "[a] x\n[a] \n[a] y\n[a] printf 'x\\n\\ny' exited with code 0\n[1] 1\n[1] echo 1 >&2 exited with code 0\n",
    );
}

#[test]
fn colours_follow_level_and_names() {
    run_with(
        &[
            "-c",
            "red,auto,#ff8800",
            "-m",
            "1",
            "echo 1",
            "echo 2",
            "echo 3",
        ],
        &[("FORCE_COLOR", "1")],
    )
    .assert(
        0,
        "\x1b[31m[0]\x1b[39m 1\n\x1b[31m[0]\x1b[39m \x1b[0mecho 1 exited with code 0\x1b[0m\n\
             \x1b[36m[1]\x1b[39m 2\n\x1b[36m[1]\x1b[39m \x1b[0mecho 2 exited with code 0\x1b[0m\n\
             \x1b[93m[2]\x1b[39m 3\n\x1b[93m[2]\x1b[39m \x1b[0mecho 3 exited with code 0\x1b[0m\n",
    );
    run_with(
        &["-c", "bgBlue.bold,#ff8800", "-m", "1", "echo 1", "echo 2"],
        &[("FORCE_COLOR", "3"), ("TERM", "xterm-256color")],
    )
    .assert(
        0,
        "\x1b[44m\x1b[1m[0]\x1b[22m\x1b[49m 1\n\
         \x1b[44m\x1b[1m[0]\x1b[22m\x1b[49m \x1b[0mecho 1 exited with code 0\x1b[0m\n\
         \x1b[38;5;214m[1]\x1b[39m 2\n\x1b[38;5;214m[1]\x1b[39m \x1b[0mecho 2 exited with code 0\x1b[0m\n",
    );
    run(&["-k", "echo 1", "sleep 3", "--color"]).assert(
        1,
        "\x1b[0m[0]\x1b[0m 1\n\x1b[0m[0]\x1b[0m \x1b[0mecho 1 exited with code 0\x1b[0m\n\
         \x1b[0m-->\x1b[0m \x1b[0mSending SIGTERM to other processes..\x1b[0m\n\
         \x1b[0m[1]\x1b[0m \x1b[0msleep 3 exited with code SIGTERM\x1b[0m\n",
    );
}

#[test]
fn children_learn_of_colours() {
    run(&["-p", "none", "echo \"level $FORCE_COLOR\""]).assert(
        0,
        "level \necho \"level $FORCE_COLOR\" exited with code 0\n",
    );
    let outcome = run(&["-r", "--color=256", "echo \"level $FORCE_COLOR\""]);
    outcome.assert(0, "level 2\n");
}

#[test]
fn help_and_version() {
    let nothing = run(&[]);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (Some(0), ""));
    assert!(
        nothing
            .stderr
            .contains("concurrently [options] <command ...>"),
        "{nothing:?}"
    );
    let help = run(&["--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    assert!(help.stdout.contains("--restart-after"), "{help:?}");
    run(&["-V"]).assert(0, "9.2.1\n");
}

#[test]
fn input_goes_to_targets() {
    use crate::harness::Running;
    let mut running = Running::start_args(&[
        "-i",
        "-n",
        "a,b",
        "read x; echo got $x",
        "read y; echo got $y",
    ]);
    running.write("b:two\n");
    running.wait_for("[b] got two");
    running.write("one\n");
    running.wait_for("[a] got one");
    running.finish().assert_sorted(
        0,
        &[
            "[a] got one",
            "[a] read x; echo got $x exited with code 0",
            "[b] got two",
            "[b] read y; echo got $y exited with code 0",
        ],
    );
}

#[test]
fn input_for_nobody_is_told() {
    use crate::harness::Running;
    let mut running = Running::start_args(&["-i", "--default-input-target", "9", "read x"]);
    running.write("lost\n");
    running.wait_for("--> Unable to find command \"9\", or it has no stdin open\n--> \n");
    running.write("0:found\n");
    assert_eq!(running.finish().code, Some(0));
}

#[test]
fn without_input_handling_stdin_stays_open_and_silent() {
    let outcome = run(&["-k", "-s", "first", "sleep 0.3", "cat"]);
    outcome.assert(
        0,
        "[0] sleep 0.3 exited with code 0\n--> Sending SIGTERM to other processes..\n\
         [1] cat exited with code SIGTERM\n",
    );
}

#[test]
fn bad_usage_ends_with_1() {
    for args in [&["-t", "QQQ", "echo 1"][..], &[""]] {
        let outcome = run(args);
        assert_eq!(
            (outcome.code, outcome.stdout.as_str()),
            (Some(1), ""),
            "{args:?}"
        );
        assert!(!outcome.stderr.is_empty());
    }
    if !is_original() {
        let outcome = run(&["--bogus", "1", "echo 1"]);
        assert_eq!(
            outcome.stderr,
            "concurrently: unknown option --bogus; see --help\n"
        );
        assert_eq!(outcome.code, Some(1));
    }
}
