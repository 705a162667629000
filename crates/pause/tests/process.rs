//! The pause program as a process.

#![expect(clippy::unwrap_used, reason = "a test: failing is its way to speak")]

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, set_child_subreaper};

/// Set for the run of this test program that turns itself into pause.
const BECOME_PAUSE: &str = "PAUSE_TEST_BECOME";

/// The program as a file, written once and before any test starts a process: one that is being
/// written, or whose writer's descriptor a fork has copied, cannot be executed.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(std::process::id().to_string());
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("pause");
        fs::write(&path, pause::PAUSE).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    })
}

#[expect(clippy::disallowed_methods, reason = "the test is about a process")]
fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(program)
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Waits until `condition` holds.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        thread::yield_now();
    }
}

/// Reads the warning that pause prints once its signals are blocked (PAU-04).
fn await_start(stderr: &mut impl BufRead) {
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert_eq!(line, "Warning: pause should be the first process\n");
}

/// A field of `/proc/<pid>/status`; none when the process is gone.
fn status(pid: &str, field: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim_start_matches(':').trim().to_owned())
}

#[test]
fn stops_with_success_and_a_notice() {
    let path = program();
    for (signal, name) in [(Signal::TERM, "Terminated"), (Signal::INT, "Interrupt")] {
        let mut child = command(path).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        await_start(&mut stderr);
        kill_process(pid(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let mut text = String::new();
        stderr.read_to_string(&mut text).unwrap();
        assert_eq!(text, format!("Shutting down, got signal: {name}\n"));
    }
}

#[test]
fn tells_its_version() {
    let path = program();
    for argument in ["-v", "-V"] {
        let output = command(path).args(["x", argument]).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(
            output.stdout,
            format!("pause {}\n", env!("CARGO_PKG_VERSION")).as_bytes()
        );
    }
}

#[test]
fn needs_little_memory() {
    let path = program();
    let mut child = command(path).stderr(Stdio::piped()).spawn().unwrap();
    let id = child.id().to_string();
    await_start(&mut BufReader::new(child.stderr.take().unwrap()));
    let size: u64 = status(&id, "VmSize")
        .unwrap()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kill_process(pid(&child), Signal::TERM).unwrap();
    child.wait().unwrap();
    assert!(size <= 300, "{size} kB of address space (PAU-07)");
}

/// Not a test of its own: the next one runs it to get a pause that adopts orphans without being
/// the first process of a namespace.
#[test]
fn become_pause() {
    let Some(path) = std::env::var_os(BECOME_PAUSE) else {
        return;
    };
    set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    // The shell prints the process id of a child that outlives it.
    drop(
        command("sh")
            .args(["-c", "sleep 1000 >&2 & echo orphan $!"])
            .spawn()
            .unwrap(),
    );
    panic!("can't run pause: {}", command(path).exec());
}

#[test]
fn reaps_orphans() {
    let path = program();
    let mut child = command(std::env::current_exe().unwrap())
        .args(["become_pause", "--exact", "--nocapture", "--test-threads=1"])
        .env(BECOME_PAUSE, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let orphan = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .find_map(|line| line.split_once("orphan ").map(|(_, pid)| pid.to_owned()))
        .expect("the shell names its child");
    let parent = child.id().to_string();
    eventually("pause adopts the orphan", || {
        status(&orphan, "PPid") == Some(parent.clone())
            && status(&parent, "Name").as_deref() == Some("pause")
    });
    kill_process(
        Pid::from_raw(orphan.parse().unwrap()).unwrap(),
        Signal::KILL,
    )
    .unwrap();
    eventually("pause reaps the orphan", || {
        status(&orphan, "PPid").is_none()
    });
    kill_process(pid(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
