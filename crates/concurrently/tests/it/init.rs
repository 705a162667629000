//! As the first process of a container. These need root.

use std::fs;

use crate::harness::{Running, binary, command, is_original, is_root};

fn skipped() -> bool {
    is_original() || !is_root()
}

#[test]
fn as_pid_1_orphans_are_reaped_and_stdin_is_null() {
    if skipped() {
        return;
    }
    let mut command = command("/usr/bin/unshare");
    // The second command waits until the adopted orphan of the first has left no zombie behind.
    command.args(["--pid", "--fork", "--mount-proc", "--"]).arg(binary()).args([
        "-m",
        "1",
        "sh -c 'sh -c \"setsid sleep 0.1 & echo \\$! > /proc/self/fd/1\"'",
        "echo parent $PPID; readlink /proc/self/fd/0",
        "while grep -qs sleep /proc/[0-9]*/comm; do sleep 0.0; done; grep -ls 'State:.Z' /proc/[0-9]*/status || echo none",
    ]);
    let outcome = Running::start(command).finish();
    assert!(
        outcome.stdout.contains("[1] parent 1\n[1] /dev/null\n"),
        "{outcome:?}"
    );
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
}

#[test]
fn without_a_shell_programs_run() {
    if skipped() {
        return;
    }
    // Nothing but the program itself, as in an image from scratch (DEC-32).
    let root = tempfile::tempdir().unwrap();
    fs::copy(binary(), root.path().join("concurrently")).unwrap();
    let mut chroot = command("/usr/sbin/chroot");
    chroot.arg(root.path()).args([
        "/concurrently",
        "-P",
        "-m",
        "1",
        "-n",
        "a,b,c,d",
        "/concurrently --version",
        "/concurrently --hide {@}",
        "echo a && echo b",
        "/nothing",
        "--",
        "x y",
        "--bogus",
    ]);
    let outcome = Running::start(chroot).finish();
    outcome.assert(
        1,
        "[a] 9.2.1\n[a] /concurrently --version exited with code 0\n\
         [b] concurrently: unknown option --bogus; see --help\n\
         [b] /concurrently --hide 'x y' --bogus exited with code 1\n\
         [c] Error occurred when executing command: echo a && echo b\n\
         [c] cannot execute /bin/sh, which this command needs: No such file or directory (os error 2)\n\
         [c] echo a && echo b exited with code 127\n\
         [d] Error occurred when executing command: /nothing\n\
         [d] cannot execute /nothing: No such file or directory (os error 2)\n\
         [d] /nothing exited with code 127\n",
    );
}
