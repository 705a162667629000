//! What must differ from the original (TST-03), and what it has no word for.

use std::{
    io::Read,
    process::Stdio,
    time::{Duration, Instant},
};

use crate::harness::{
    Running, binary, command, eventually, exists, is_original, number_after, run, send_signal,
};

#[test]
fn killed_commands_are_not_restarted_rst_05() {
    if is_original() {
        return;
    }
    run(&["--kill-others-on-fail", "--restart-tries", "2", "exit 1", "sleep 9"]).assert(
        1,
        "[0] exit 1 exited with code 1\n[0] exit 1 restarted\n[0] exit 1 exited with code 1\n\
         [0] exit 1 restarted\n[0] exit 1 exited with code 1\n--> Sending SIGTERM to other processes..\n\
         [1] sleep 9 exited with code SIGTERM\n",
    );
}

#[test]
fn a_signal_cancels_the_wait_for_a_restart_rst_06() {
    if is_original() {
        return;
    }
    let running = Running::start_args(&[
        "--restart-tries",
        "-1",
        "--restart-after",
        "60000",
        "exit 3",
    ]);
    running.wait_for("exited with code 3");
    running.signal("TERM");
    running
        .finish()
        .assert(1, "[0] exit 3 exited with code 3\n");
}

#[test]
fn failing_without_delay_leaves_room_for_signals() {
    if is_original() {
        return;
    }
    let running = Running::start_args(&["--restart-tries", "-1", "/nonexistent/program"]);
    running.wait_for("restarted");
    running.signal("INT");
    assert_eq!(running.finish().code, Some(0));
}

#[test]
fn the_orphan_of_a_killed_shell_is_killed_too_kil_04() {
    if is_original() {
        return;
    }
    let shell = "(trap '' TERM; exec sleep 50) & echo child $!; wait";
    let before = Instant::now();
    let outcome = run(&["-k", "--kill-timeout", "300", "sleep 0.5", shell]);
    assert!(before.elapsed() < Duration::from_secs(10));
    let child = number_after(&outcome.stdout, "child ");
    assert!(eventually(Duration::from_secs(5), || !exists(child)));
    assert!(
        outcome
            .stdout
            .contains("--> Sending SIGKILL to 1 processes..\n"),
        "{outcome:?}"
    );
    assert!(
        outcome.stdout.ends_with("exited with code SIGTERM\n"),
        "{outcome:?}"
    );
}

#[test]
fn a_daemon_that_keeps_the_pipe_does_not_keep_us_kil_06() {
    if is_original() {
        return;
    }
    let before = Instant::now();
    let outcome = run(&["sleep 50 & echo daemon $!"]);
    assert!(before.elapsed() < Duration::from_secs(10));
    outcome_ends_well(&outcome.stdout, outcome.code);
    // It lives on as a daemon may; only a stop would have ended it.
    let daemon = number_after(&outcome.stdout, "daemon ");
    assert!(exists(daemon));
    send_signal(daemon, "KILL");
}

fn outcome_ends_well(stdout: &str, code: Option<i32>) {
    assert!(stdout.ends_with("exited with code 0\n"), "{stdout}");
    assert_eq!(code, Some(0));
}

#[test]
fn no_ps_is_needed_kil_05() {
    if is_original() {
        return;
    }
    let mut command = command(binary());
    command
        .env("PATH", "/nowhere")
        .args(["-k", "exit 0", "/bin/sleep 50; :"]);
    let outcome = Running::start(command).finish();
    assert!(
        outcome.stdout.ends_with("exited with code SIGTERM\n"),
        "{outcome:?}"
    );
}

#[test]
fn each_line_of_input_has_its_target_and_the_end_is_passed_on_inp_02_inp_04() {
    if is_original() {
        return;
    }
    let mut running = Running::start_args(&["-i", "cat", "cat"]);
    running.write("0:a\n1:b\n0:c");
    running.wait_for("[1] b\n");
    running.stdin = None;
    running.finish().assert_sorted(
        0,
        &[
            "[0] a",
            "[0] c",
            "[0] cat exited with code 0",
            "[1] b",
            "[1] cat exited with code 0",
        ],
    );
}

#[test]
fn orphans_are_waited_for() {
    if is_original() {
        return;
    }
    // The inner shell leaves at once, its child is adopted and ends; without us waiting it would stay a zombie.
    let running = Running::start_args(&["sh -c 'sleep 0.2 & echo orphan $!'; exec sleep 50"]);
    let orphan = number_after(&running.wait_for("\n"), "orphan ");
    assert!(eventually(Duration::from_secs(10), || !exists(orphan)));
    running.signal("INT");
    assert_eq!(running.finish().code, Some(0));
}

#[test]
fn lines_of_two_commands_never_mix() {
    if is_original() {
        return;
    }
    let halves = "for i in 1 2 3 4 5; do printf aaaa; printf 'bbbb\\n'; done";
    let outcome = run(&["-p", "none", halves, halves, halves]);
    let whole = outcome
        .stdout
        .lines()
        .filter(|line| *line == "aaaabbbb")
        .count();
    assert_eq!(whole, 15, "{}", outcome.stdout);
}

#[test]
fn prompts_without_line_end_appear() {
    let running = Running::start_args(&["printf 'name: '; exec sleep 50"]);
    running.wait_for("[0] name: ");
    running.signal("INT");
    running.finish().assert(
        0,
        "[0] name: \n[0] printf 'name: '; exec sleep 50 exited with code SIGINT\n",
    );
}

#[test]
fn a_closed_output_ends_everything_out_21() {
    let mut child = command(binary())
        .args(["echo started; while :; do echo x; sleep 0.01; done"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut first = [0; 8];
    stdout.read_exact(&mut first).unwrap();
    drop(stdout);
    let mut status = None;
    assert!(eventually(Duration::from_secs(10), || {
        status = child.try_wait().unwrap();
        status.is_some()
    }));
    assert_eq!(status.unwrap().code(), Some(1));
}

#[test]
fn a_reader_that_does_not_read_does_not_keep_signals_from_working_ini_13() {
    if is_original() {
        return;
    }
    let mut child = command(binary())
        .args(["yes"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut first = [0; 64];
    stdout.read_exact(&mut first).unwrap();
    send_signal(child.id(), "TERM");
    let mut status = None;
    assert!(eventually(Duration::from_secs(10), || {
        status = child.try_wait().unwrap();
        status.is_some()
    }));
    assert_eq!(status.unwrap().code(), Some(1));
}

#[test]
fn everything_the_dead_have_written_is_shown() {
    // The original was seen to leave with most of it unwritten.
    if is_original() {
        return;
    }
    let outcome = run(&["-p", "none", "seq 1 200000"]);
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines.len(), 200_001);
    assert!(
        lines[..200_000]
            .iter()
            .zip(1..)
            .all(|(line, number)| *line == number.to_string())
    );
    assert_eq!(outcome.code, Some(0));
}

#[test]
fn commands_end_with_us() {
    if is_original() {
        return;
    }
    let running = Running::start_args(&["echo child $$; exec sleep 50"]);
    let child = number_after(&running.wait_for("\n"), "child ");
    running.signal("KILL");
    assert_eq!(running.finish().code, Some(128 + 9));
    assert!(eventually(Duration::from_secs(5), || !exists(child)));
}

#[test]
fn too_long_a_command_is_a_failed_command_ext_05() {
    if is_original() {
        return;
    }
    // Each argument that we get is short enough; the command made of two of them is not.
    let half = "x".repeat(100 * 1024);
    let outcome = run(&["-m", "1", "-P", "echo a", ": {1} {1}", "--", &half]);
    assert!(
        outcome
            .stdout
            .contains("\n[1] Error occurred when executing command: : xxx"),
        "lost"
    );
    assert!(outcome.stdout.contains("cannot execute /bin/sh"), "lost");
    assert!(outcome.stdout.ends_with("exited with code 126\n"), "lost");
    assert_eq!(outcome.code, Some(1));
}
