//! Signals from outside (TST-02) and the order of a stop.

use std::time::{Duration, Instant};

use crate::harness::{Running, eventually, exists, is_original, number_after};

#[test]
fn interrupt_is_a_success_and_termination_is_not() {
    for (name, code) in [("INT", 0), ("TERM", 1), ("HUP", 1)] {
        let running = Running::start_args(&["echo ready; exec sleep 50"]);
        running.wait_for("ready");
        running.signal(name);
        running.finish().assert(
            code,
            &format!("[0] ready\n[0] echo ready; exec sleep 50 exited with code SIG{name}\n"),
        );
    }
}

#[test]
fn codes_decide_after_termination() {
    let running =
        Running::start_args(&["trap 'exit 0' TERM; echo ready; while :; do read x; done"]);
    running.wait_for("ready");
    running.signal("TERM");
    assert_eq!(running.finish().code, Some(0));
}

#[test]
fn a_signal_keeps_waiting_commands_from_starting_and_runs_teardown() {
    let running = Running::start_args(&[
        "-m",
        "1",
        "--teardown",
        "echo bye",
        "echo ready; exec sleep 50",
        "echo b",
    ]);
    running.wait_for("ready");
    running.signal("TERM");
    running.finish().assert(
        1,
        "[0] ready\n[0] echo ready; exec sleep 50 exited with code SIGTERM\n\
         --> Running teardown command \"echo bye\"\nbye\n--> Teardown command \"echo bye\" exited with code 0\n",
    );
}

#[test]
fn kill_others_also_holds_after_a_signal() {
    let slow = "trap 'sleep 0.5; exit 0' INT; trap '' TERM; echo ready0; while :; do read x; done";
    let running = Running::start_args(&["-k", "-p", "index", slow, "echo ready1; exec sleep 9"]);
    running.wait_for("ready0");
    running.wait_for("ready1");
    running.signal("INT");
    let outcome = running.finish();
    assert!(
        outcome.stdout.ends_with(&format!(
            "[1] echo ready1; exec sleep 9 exited with code SIGINT\n\
             --> Sending SIGTERM to other processes..\n[0] {slow} exited with code 0\n"
        )),
        "{}",
        outcome.stdout
    );
    assert_eq!(outcome.code, Some(0));
}

#[test]
fn commands_are_stopped_from_last_to_first() {
    if is_original() {
        return;
    }
    let slow =
        "trap 'echo got; sleep 0.3; echo done; exit 0' TERM; echo ready1; while :; do read x; done";
    let quick = "trap 'echo got; exit 0' TERM; echo ready0; while :; do read x; done";
    let running = Running::start_args(&["-p", "index", quick, slow]);
    running.wait_for("ready0");
    running.wait_for("ready1");
    running.signal("TERM");
    let outcome = running.finish();
    // The line that tells of an end waits for the rest of the output; the next is stopped meanwhile.
    let at = |line: &str| {
        let found = outcome.stdout.lines().position(|it| it == line);
        found.unwrap_or_else(|| panic!("{line:?} is not in {:?}", outcome.stdout))
    };
    assert!(at("[1] got") < at("[1] done"));
    assert!(at("[1] done") < at("[0] got"), "{}", outcome.stdout);
    assert!(at("[1] done") < at(&format!("[1] {slow} exited with code 0")));
    assert!(at("[0] got") < at(&format!("[0] {quick} exited with code 0")));
    assert_eq!(outcome.code, Some(0));
}

#[test]
fn one_that_does_not_stop_holds_the_others_up_only_for_its_grace() {
    if is_original() {
        return;
    }
    let deaf = "trap '' TERM; echo ready1; while :; do read x; done";
    let quick = "trap 'echo got; exit 0' TERM; echo ready0; while :; do read x; done";
    let running =
        Running::start_args(&["--stop-grace", "200", "--kill-timeout", "700", quick, deaf]);
    running.wait_for("ready0");
    running.wait_for("ready1");
    running.signal("TERM");
    let outcome = running.finish();
    let tail: Vec<&str> = outcome.stdout.lines().skip(2).collect();
    assert_eq!(
        tail,
        [
            "[0] got",
            &format!("[0] {quick} exited with code 0"),
            "--> Sending SIGKILL to 1 processes..",
            &format!("[1] {deaf} exited with code SIGKILL"),
        ]
    );
    assert_eq!(outcome.code, Some(1));
}

#[test]
fn a_second_signal_ends_at_once() {
    if is_original() {
        return;
    }
    let deaf = "trap 'echo got' TERM; (trap '' TERM HUP; echo child $(exec sh -c 'echo $PPID'); exec sleep 50) & \
                echo ready; while :; do read x; done";
    let running = Running::start_args(&["--teardown", "echo bye", deaf]);
    let text = running.wait_for("child ");
    running.wait_for("ready");
    let child = number_after(&running.wait_for("\n"), "child ");
    assert!(text.contains(&child.to_string()));
    running.signal("TERM");
    running.wait_for("got");
    let before = Instant::now();
    running.signal("HUP");
    let outcome = running.finish();
    assert!(before.elapsed() < Duration::from_secs(5));
    assert!(
        outcome.stdout.ends_with("exited with code SIGKILL\n"),
        "{outcome:?}"
    );
    assert_eq!(outcome.code, Some(1));
    assert!(eventually(Duration::from_secs(5), || !exists(child)));
}

#[test]
fn the_same_signal_twice_in_a_moment_is_one() {
    if is_original() {
        return;
    }
    let calm = "trap 'sleep 0.4; echo calm; exit 0' INT; echo ready; while :; do read x; done";
    let running = Running::start_args(&[calm]);
    running.wait_for("ready");
    // As a terminal and a package manager do.
    crate::harness::send_signal(running.pid(), "INT");
    let again = format!("INT {}; kill -INT", running.pid());
    crate::harness::send_signal(running.pid(), &again);
    let outcome = running.finish();
    assert!(outcome.stdout.contains("[0] calm\n"), "{outcome:?}");
    assert_eq!(outcome.code, Some(0));
}
