//! A Docker Engine of our own (DEC-50): own data, exec root, socket, pid file, bridge and cgroup
//! parent, in one directory. Nobody else's engine is touched.
//!
//! ```text
//!  test processes ── shared lock ──▶ DIR.lock ◀── waits for the exclusive lock ── keeper (sh)
//!        │ start, stop, kill                                                        │ once nobody
//!        ▼                                                                          ▼ is left
//!     dockerd (DIR/docker.pid)                            kill what is left, unmount, remove DIR
//! ```
//!
//! The keeper outlives the tests, however they end, so that a crashed test leaves nothing behind.
//! Firewall rules stay off: two engines in one network namespace would rewrite each other's.
//! Published ports go through Docker's own proxy, pods reach each other over the bridge.

mod choice;
mod http;
mod launch;
mod power_cut;

use std::{
    fs::{self, File},
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    process::Child,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

pub use http::Reply;

/// How long dockerd may take to answer after its start, and to end when asked.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long an engine that test processes share waits for the next one.
const LINGER: Duration = Duration::from_secs(5);
/// How often dockerd is started until its containerd is there in time.
const LAUNCHES: u32 = 4;
/// Its last words when it is not.
const CONTAINERD_TOO_SLOW: &str = "timeout waiting for containerd to start";

/// How to start an engine.
#[derive(Debug, Clone, Default)]
pub struct EngineOptions {
    /// Further arguments for dockerd.
    pub arguments: Vec<String>,
}

/// A running dockerd. Dropping the last handle removes it and all it made.
#[derive(Debug)]
pub struct DockerEngine {
    directory: PathBuf,
    options: EngineOptions,
    sharing: Sharing,
    /// Held shared: tells the keeper that somebody needs the engine.
    in_use: File,
    /// The process that cleans up, when it was started here.
    keeper: Option<Child>,
    daemon: Mutex<Option<OwnedFd>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// One test has it to itself.
    Private,
    /// All tests of a test binary use it.
    TestBinary,
}

static SHARED: Mutex<Weak<DockerEngine>> = Mutex::new(Weak::new());

impl DockerEngine {
    /// Starts an engine for one test, with a bridge of its own.
    ///
    /// # Panics
    /// When Docker is not installed, we are not root, or it does not come up.
    pub fn start() -> Self {
        Self::start_with(EngineOptions::default())
    }

    /// Starts an engine for one test.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_with(options: EngineOptions) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("berth-engine-")
            .tempdir()
            .expect("a temporary directory can be made")
            .keep();
        Self::open(directory, options, Sharing::Private)
    }

    /// The engine that all tests of this test binary share, also when the runner gives each test a
    /// process of its own. Tests use names of their own and remove what they make; it cannot be
    /// stopped.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = shared.upgrade() {
            return engine;
        }
        let program = std::env::current_exe().expect("a test knows its own path");
        let name = program
            .file_name()
            .expect("a program has a name")
            .to_string_lossy();
        // The end of the name is the build's hash; socket paths are short.
        let start = name.len().saturating_sub(24);
        let directory = std::env::temp_dir().join(format!(
            "berth-engine-shared-{}-{}",
            choice::fingerprint(),
            &name[start..]
        ));
        let engine = Arc::new(Self::open(
            directory,
            EngineOptions::default(),
            Sharing::TestBinary,
        ));
        *shared = Arc::downgrade(&engine);
        engine
    }

    /// The engine's socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("docker.sock")
    }

    /// The engine's socket as `DOCKER_HOST` wants it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Docker's data root.
    pub fn data_root(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Docker's exec root.
    pub fn exec_root(&self) -> PathBuf {
        self.directory.join("exec")
    }

    /// The name of the default bridge's network device.
    ///
    /// # Panics
    /// When the engine's directory is gone.
    pub fn bridge(&self) -> String {
        fs::read_to_string(self.directory.join("bridge")).expect("made before the start")
    }

    /// The last lines of dockerd's log.
    pub fn log_tail(&self, lines: usize) -> String {
        launch::tail(&self.directory.join("log"), lines)
    }

    /// Whether dockerd runs.
    pub fn is_running(&self) -> bool {
        self.daemon()
            .as_ref()
            .is_some_and(|daemon| !ended(daemon, Duration::ZERO))
    }

    /// Stops dockerd in order, and with it its containers. Does nothing when it does not run.
    ///
    /// # Panics
    /// When it does not end, or is shared.
    pub fn stop(&self) {
        self.end(Signal::TERM);
    }

    /// Kills dockerd where it stands. Its containers go on; the next start stops them, which may
    /// take ten seconds each, unless the engine was started with `--live-restore`.
    ///
    /// # Panics
    /// When it does not end, or is shared.
    pub fn kill(&self) {
        self.end(Signal::KILL);
    }

    /// Everything of the engine is dead at once: dockerd, containerd, shims and containers, and what
    /// they kept in memory-backed directories is gone. The next start finds only what is on disk.
    ///
    /// # Panics
    /// When something does not die, or the engine is shared.
    pub fn cut_power(&self) {
        self.end(Signal::KILL);
        power_cut::kill_all(&self.directory);
        power_cut::forget_run_time_state(&self.directory, &self.exec_root());
    }

    /// Starts dockerd again, after stopping it in order if it runs.
    ///
    /// # Panics
    /// When it does not end or does not come up, or is shared.
    pub fn restart(&self) {
        self.stop();
        *self.daemon() = Some(self.launch());
    }

    /// Sends one request to the engine's API; `body` is its content type and bytes. Blocks until
    /// the whole answer is there.
    ///
    /// # Panics
    /// When the engine cannot be reached.
    pub fn request(&self, method: &str, path: &str, body: Option<(&str, &[u8])>) -> Reply {
        http::request(&self.socket(), method, path, body).unwrap_or_else(|error| {
            panic!(
                "{method} {path}: {error}; dockerd said:\n{}",
                self.log_tail(20)
            )
        })
    }

    /// Sends a request with a JSON body and reads a JSON answer (`null` for an empty one).
    ///
    /// # Panics
    /// When the engine cannot be reached or answers with an error.
    pub fn json(&self, method: &str, path: &str, body: &serde_json::Value) -> serde_json::Value {
        let bytes = body.to_string().into_bytes();
        let body = (!body.is_null()).then_some(("application/json", bytes.as_slice()));
        self.request(method, path, body)
            .expect_success(&format!("{method} {path}"))
    }

    fn open(directory: PathBuf, options: EngineOptions, sharing: Sharing) -> Self {
        launch::check_machine();
        // First say that we need it (waits while a keeper removes an earlier one) ...
        let lock = beside(&directory, "lock");
        let in_use = need(&lock);
        // ... then one at a time looks whether it is there.
        let starting = open_lock(&beside(&directory, "start"));
        starting.lock().expect("a lock can be taken");
        let mut engine = Self {
            directory,
            options,
            sharing,
            in_use,
            keeper: None,
            daemon: Mutex::new(None),
        };
        if let Some(daemon) = engine.running_daemon() {
            *engine.daemon() = Some(daemon);
            return engine;
        }
        launch::prepare(&engine.directory);
        let linger = match sharing {
            Sharing::Private => Duration::ZERO,
            Sharing::TestBinary => LINGER,
        };
        engine.keeper = Some(launch::start_keeper(&engine.directory, &lock, linger));
        *engine.daemon() = Some(engine.launch());
        engine
    }

    /// A daemon that another process of the same test binary has started.
    fn running_daemon(&self) -> Option<OwnedFd> {
        let pid = read_pid(&self.directory)?;
        let daemon = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let answers = http::request(&self.socket(), "GET", "/_ping", None).is_ok();
        answers.then_some(daemon)
    }

    /// Starts dockerd and waits until it answers; again when its containerd was too slow for it,
    /// which says something of the machine's load only.
    fn launch(&self) -> OwnedFd {
        let mut tries = 0;
        loop {
            tries += 1;
            let daemon = self.launch_once();
            if let Some(daemon) = daemon {
                return daemon;
            }
            assert!(
                tries < LAUNCHES,
                "containerd starts too slowly, {tries} times"
            );
        }
    }

    /// `None`: it has given up waiting for its containerd.
    fn launch_once(&self) -> Option<OwnedFd> {
        let pid = launch::start_dockerd(&self.directory, &self.options);
        let daemon = pidfd_open(pid, PidfdFlags::empty()).unwrap_or_else(|error| {
            panic!("dockerd ended at once ({error}):\n{}", self.log_tail(20))
        });
        crate::eventually(PATIENCE, || {
            if ended(&daemon, Duration::ZERO) {
                let log = self.log_tail(20);
                assert!(
                    log.ends_with(CONTAINERD_TOO_SLOW),
                    "dockerd ended while starting:\n{log}"
                );
                return Ok(false);
            }
            match http::request(&self.socket(), "GET", "/_ping", None) {
                Ok(reply) if reply.status == 200 => Ok(true),
                Ok(reply) => Err(format!("status {}\n{}", reply.status, self.log_tail(20))),
                Err(error) => Err(format!("{error}\n{}", self.log_tail(20))),
            }
        })
        .then_some(daemon)
    }

    fn end(&self, signal: Signal) {
        assert!(
            self.keeper.is_some(),
            "a shared engine must not be stopped: start one of your own"
        );
        let Some(daemon) = self.daemon().take() else {
            return;
        };
        // It may have ended by itself.
        let _ = pidfd_send_signal(&daemon, signal);
        assert!(
            ended(&daemon, PATIENCE),
            "dockerd does not end:\n{}",
            self.log_tail(20)
        );
    }

    fn daemon(&self) -> MutexGuard<'_, Option<OwnedFd>> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for DockerEngine {
    fn drop(&mut self) {
        if let Some(keeper) = &mut self.keeper
            && self.sharing == Sharing::Private
        {
            // The keeper sees that nobody is left and removes everything; wait for that, so that the
            // next test finds a clean machine.
            drop(self.in_use.unlock());
            drop(keeper.wait());
        }
    }
}

/// Takes the lock that says that somebody needs the engine. A keeper removes the file with everything
/// else, so what is locked in the end must still be the file of that name.
fn need(path: &Path) -> File {
    loop {
        let lock = open_lock(path);
        lock.lock_shared().expect("a lock can be taken");
        let ours = lock.metadata().expect("an open file has them").ino();
        if fs::metadata(path).is_ok_and(|there| there.ino() == ours) {
            return lock;
        }
    }
}

fn open_lock(path: &Path) -> File {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn beside(directory: &Path, end: &str) -> PathBuf {
    directory.with_added_extension(end)
}

fn read_pid(directory: &Path) -> Option<Pid> {
    let text = fs::read_to_string(directory.join("docker.pid")).ok()?;
    Pid::from_raw(text.trim().parse().ok()?)
}

/// Waits until the process has ended.
fn ended(process: &OwnedFd, patience: Duration) -> bool {
    let patience = patience.try_into().expect("a minute is a time");
    let mut waiting = [PollFd::new(process, PollFlags::IN)];
    matches!(poll(&mut waiting, Some(&patience)), Ok(1))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{TEST_IMAGE, test_image};

    fn run(engine: &DockerEngine, command: &[&str], network: &str) -> String {
        let body = json!({
            "Image": TEST_IMAGE,
            "Cmd": command,
            "HostConfig": {"NetworkMode": network},
        });
        let id = engine.json("POST", "/containers/create", &body)["Id"]
            .as_str()
            .unwrap()
            .to_owned();
        engine.json("POST", &format!("/containers/{id}/start"), &Value::Null);
        id
    }

    /// Whether this machine has a device called docker0, and which.
    fn default_bridge() -> Option<String> {
        fs::read_to_string("/sys/class/net/docker0/ifindex").ok()
    }

    #[test]
    fn engine_runs_containers_survives_a_kill_and_leaves_nothing() {
        let docker0 = default_bridge();
        let engine = DockerEngine::start_with(EngineOptions {
            arguments: vec!["--live-restore".to_owned()],
        });
        test_image(&engine);
        assert_eq!(test_image(&engine), TEST_IMAGE, "a second time is free");
        let id = run(&engine, &["sleep", "1000"], "default");
        let inspect = engine.json("GET", &format!("/containers/{id}/json"), &Value::Null);
        let pid = inspect["State"]["Pid"].as_u64().unwrap();
        assert!(inspect["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].is_string());

        engine.kill();
        assert!(!engine.is_running());
        assert!(
            Path::new(&format!("/proc/{pid}")).exists(),
            "containers survive"
        );
        engine.restart();
        assert!(engine.is_running());
        let inspect = engine.json("GET", &format!("/containers/{id}/json"), &Value::Null);
        assert_eq!(inspect["State"]["Pid"], pid, "and are adopted");

        let directory = engine.directory.clone();
        let bridge = engine.bridge();
        drop(engine);
        for left in [
            directory.clone(),
            beside(&directory, "lock"),
            beside(&directory, "start"),
        ] {
            assert!(!left.exists(), "{}", left.display());
        }
        assert!(!Path::new("/sys/class/net").join(bridge).exists());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(directory.to_str().unwrap()), "{mounts}");
        assert!(
            !Path::new(&format!("/proc/{pid}")).exists(),
            "no container is left"
        );
        assert_eq!(default_bridge(), docker0, "another engine keeps its bridge");
    }

    #[test]
    fn two_users_share_one_engine() {
        let one = DockerEngine::shared();
        let two = DockerEngine::shared();
        assert!(Arc::ptr_eq(&one, &two));
        assert_eq!(two.request("GET", "/_ping", None).status, 200);
    }
}
