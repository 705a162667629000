//! Starts the program, watches its output, waits for levels with a deadline.

use std::{
    io::{Read, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) fn is_original() -> bool {
    std::env::var_os("CONCURRENTLY_UNDER_TEST").is_some()
}

pub(crate) fn binary() -> PathBuf {
    std::env::var_os("CONCURRENTLY_UNDER_TEST").map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_concurrently")),
        PathBuf::from,
    )
}

/// Whether tests that need root can run; they must where `REQUIRE` names it.
pub(crate) fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let root = status.lines().any(|line| line.starts_with("Uid:\t0\t0"));
    let required = std::env::var_os("REQUIRE").is_some_and(|required| {
        required
            .to_string_lossy()
            .split(',')
            .any(|name| name == "root")
    });
    assert!(root || !required, "this test needs root");
    root
}

/// A command with a small environment of its own.
pub(crate) fn command(program: impl AsRef<Path>) -> Command {
    #[expect(clippy::disallowed_methods, reason = "tests start programs")]
    let mut command = Command::new(program.as_ref());
    command.env_clear().env("TZ", "UTC");
    for name in ["PATH", "HOME", "CONCURRENTLY_UNDER_TEST"] {
        if let Some(value) = std::env::var_os(name).filter(|_| name != "CONCURRENTLY_UNDER_TEST") {
            command.env(name, value);
        }
    }
    command
}

/// How a run went.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    #[track_caller]
    pub(crate) fn assert(&self, code: i32, stdout: &str) {
        assert_eq!(self.stdout, stdout, "stderr: {}", self.stderr);
        assert_eq!(self.code, Some(code), "stderr: {}", self.stderr);
    }

    /// For commands side by side, whose lines have no order.
    #[track_caller]
    pub(crate) fn assert_sorted(&self, code: i32, lines: &[&str]) {
        let mut got: Vec<&str> = self.stdout.lines().collect();
        got.sort_unstable();
        let mut wanted = lines.to_vec();
        wanted.sort_unstable();
        assert_eq!(got, wanted, "stderr: {}", self.stderr);
        assert_eq!(self.code, Some(code));
    }
}

/// Runs to the end.
pub(crate) fn run(args: &[&str]) -> Outcome {
    run_with(args, &[])
}

pub(crate) fn run_with(args: &[&str], environment: &[(&str, &str)]) -> Outcome {
    let mut command = command(binary());
    command.args(args).envs(environment.iter().copied());
    Running::start(command).finish()
}

#[derive(Default)]
struct Text {
    bytes: Mutex<Vec<u8>>,
    grown: Condvar,
}

impl Text {
    fn read_from(self: &Arc<Self>, mut from: impl Read + Send + 'static) -> JoinHandle<()> {
        let text = Arc::clone(self);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                text.bytes
                    .lock()
                    .unwrap()
                    .extend_from_slice(&buffer[..count]);
                text.grown.notify_all();
            }
        })
    }

    fn get(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }
}

/// A program that is running.
pub(crate) struct Running {
    child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    stdout: Arc<Text>,
    stderr: Arc<Text>,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    /// Standard input is a pipe that stays open until `stdin` is dropped.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdout, stderr) = (Arc::<Text>::default(), Arc::<Text>::default());
        let readers = vec![
            stdout.read_from(child.stdout.take().unwrap()),
            stderr.read_from(child.stderr.take().unwrap()),
        ];
        Self {
            stdin: child.stdin.take(),
            child,
            stdout,
            stderr,
            readers,
        }
    }

    pub(crate) fn start_args(args: &[&str]) -> Self {
        let mut command = command(binary());
        command.args(args);
        Self::start(command)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn write(&mut self, text: &str) {
        self.stdin
            .as_mut()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }

    /// Waits until the output has `wanted` in it; gives the output.
    #[track_caller]
    pub(crate) fn wait_for(&self, wanted: &str) -> String {
        let until = Instant::now() + DEADLINE;
        let mut bytes = self.stdout.bytes.lock().unwrap();
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if text.contains(wanted) {
                return text;
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "no {wanted:?} in {text:?}; stderr: {}",
                self.stderr.get()
            );
            bytes = self.stdout.grown.wait_timeout(bytes, left).unwrap().0;
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        send_signal(self.pid(), name);
    }

    #[track_caller]
    pub(crate) fn finish(mut self) -> Outcome {
        let status = wait_with_deadline(&mut self.child, &self.stdout);
        for reader in self.readers {
            // Others may hold the pipe; then it is as complete as it gets.
            if reader.is_finished() || eventually(Duration::from_secs(2), || reader.is_finished()) {
                reader.join().unwrap();
            }
        }
        Outcome {
            code: status
                .code()
                .or_else(|| status.signal().map(|signal| 128 + signal)),
            stdout: self.stdout.get(),
            stderr: self.stderr.get(),
        }
    }
}

#[track_caller]
fn wait_with_deadline(child: &mut Child, stdout: &Text) -> ExitStatus {
    let mut status = None;
    let ended = eventually(DEADLINE, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    if !ended {
        send_signal(child.id(), "KILL");
        panic!("still running; output: {:?}", stdout.get());
    }
    status.unwrap()
}

/// Looks again and again until `condition` holds or the time is over.
pub(crate) fn eventually(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

pub(crate) fn send_signal(pid: u32, name: &str) {
    let status = command("/bin/sh")
        .args(["-c", &format!("kill -{name} {pid}")])
        .status()
        .unwrap();
    assert!(status.success());
}

pub(crate) fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// The number behind `label ` in the output.
#[track_caller]
pub(crate) fn number_after(text: &str, label: &str) -> u32 {
    let rest = text.split_once(label).unwrap().1;
    rest.split_whitespace().next().unwrap().parse().unwrap()
}
