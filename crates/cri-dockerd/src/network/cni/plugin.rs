//! One call of one plugin: a child process that is told by its environment and stdin and answers on
//! stdout.
//!
//! A plugin is a stranger's program: it may hang, flood, crash or leave children behind. It runs in
//! a process group of its own, has a deadline, and its output is bounded; when it overstays, the
//! group is killed.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout, timeout_at};

use super::pod::INTERFACE;

/// The most that a plugin may answer; results are a few KB.
const MAX_STDOUT: usize = 1 << 20;
/// How much of the end of its stderr is kept.
const KEPT_STDERR: usize = 2 << 10;
/// How long output is waited for once the plugin has ended: a child of it may hold the pipe.
const LINGER: Duration = Duration::from_millis(500);
/// A plugin that is just being installed can't be executed until its writer closes it.
const BUSY_PAUSE: Duration = Duration::from_millis(200);
/// Upstream tries for five seconds.
const BUSY_TRIES: u32 = 25;

/// A plugin could not be run or did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PluginError {
    /// A name that is a path.
    #[error("invalid plugin name: {0}")]
    Name(String),
    /// Not installed.
    #[error("failed to find plugin {kind:?} in path [{}]", show(.directories))]
    NotFound {
        /// Its type.
        kind: String,
        /// Where it was looked for.
        directories: Vec<PathBuf>,
    },
    /// Could not be executed.
    #[error("execute {}", .0.display())]
    Spawn(PathBuf, #[source] io::Error),
    /// It is there, and what the kernel runs it with is not: in an image without a C library most
    /// often.
    #[error("execute {}: its interpreter or dynamic linker is not here; install a static plugin", .0.display())]
    Interpreter(PathBuf),
    /// Could not be waited for.
    #[error("wait for {}", .0.display())]
    Wait(PathBuf, #[source] io::Error),
    /// Still running at its deadline; killed.
    #[error("{} did not end within {:?} and was killed", .0.display(), .1)]
    Timeout(PathBuf, Duration),
    /// Prints without end; killed.
    #[error("{} printed more than {MAX_STDOUT} bytes and was killed", .0.display())]
    Flood(PathBuf),
    /// It ended with an error of its own.
    #[error("{text}{}", show_stderr(.stderr))]
    Failed {
        /// What it said.
        text: String,
        /// CNI's error code, when it gave one.
        code: Option<u64>,
        /// The end of its stderr, when it is not in `text` already.
        stderr: String,
    },
}

fn show(directories: &[PathBuf]) -> String {
    let names: Vec<_> = directories.iter().map(|d| d.to_string_lossy()).collect();
    names.join(" ")
}

fn show_stderr(stderr: &str) -> String {
    if stderr.is_empty() {
        String::new()
    } else {
        format!(" (stderr: {stderr:?})")
    }
}

impl PluginError {
    /// On DEL: what was to be removed is gone already (CNI-09).
    pub(super) fn says_gone(&self) -> bool {
        matches!(self, Self::Failed { text, .. } if text.contains("no such file or directory"))
    }
}

/// The words of CNI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Add,
    Del,
    Version,
    Status,
}

impl Verb {
    fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Version => "VERSION",
            Self::Status => "STATUS",
        }
    }
}

/// What a plugin is told by its environment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) verb: Verb,
    /// The sandbox; empty where the verb is not about one.
    pub(super) container: &'a str,
    /// Path of its network namespace; empty when that is gone.
    pub(super) netns: &'a str,
    /// `CNI_ARGS`.
    pub(super) args: &'a [[String; 2]],
}

/// Where plugins are, and how they are run.
#[derive(Debug, Clone)]
pub(super) struct Plugins {
    /// Looked through in order.
    pub(super) directories: Vec<PathBuf>,
    /// What they inherit.
    pub(super) environment: Vec<(OsString, OsString)>,
    /// The longest that one call may take; ADD has its deadline alone.
    pub(super) limit: Duration,
}

/// What plugins get of our environment: all but what is addressed to us and what CNI sets.
/// Differs: upstream passes everything.
pub(super) fn inherited(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Vec<(OsString, OsString)> {
    const OURS: [&str; 6] = [
        "CNI_",
        "LISTEN_",
        "NOTIFY_",
        "WATCHDOG_",
        "DOCKER_",
        "CONCURRENTLY_",
    ];
    let kept = |name: &OsString| {
        let name = name.to_string_lossy();
        !OURS.iter().any(|prefix| name.starts_with(prefix))
    };
    environment
        .into_iter()
        .filter(|(name, _)| kept(name))
        .collect()
}

impl Plugins {
    /// The program of a type. Blocks.
    ///
    /// # Errors
    /// [`PluginError::Name`], [`PluginError::NotFound`].
    pub(super) fn find(&self, kind: &str) -> Result<PathBuf, PluginError> {
        if kind.is_empty() || kind.contains('/') || kind == "." || kind == ".." {
            return Err(PluginError::Name(kind.to_owned()));
        }
        let candidates = self
            .directories
            .iter()
            .map(|directory| directory.join(kind));
        let is_file = |path: &PathBuf| path.metadata().is_ok_and(|m| m.is_file());
        let found = candidates.into_iter().find(is_file);
        found.ok_or_else(|| PluginError::NotFound {
            kind: kind.to_owned(),
            directories: self.directories.clone(),
        })
    }

    /// Runs a plugin and answers its stdout. Dropping the future kills it.
    ///
    /// # Errors
    /// See [`PluginError`].
    pub(super) async fn run(
        &self,
        kind: &str,
        call: Call<'_>,
        stdin: &[u8],
        deadline: Instant,
    ) -> Result<Vec<u8>, PluginError> {
        let (plugins, name) = (self.clone(), kind.to_owned());
        let path = daemon::blocking(move || plugins.find(&name)).await?;
        let started = Instant::now();
        let deadline = match call.verb {
            Verb::Add => deadline,
            Verb::Del | Verb::Version | Verb::Status => deadline.min(started + self.limit),
        };
        let mut child = self.spawn(&path, call, deadline).await?;
        let mut group = Group::of(&child);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let ended = {
            let work = attend(&path, &mut child, stdin, &mut out, &mut err);
            timeout_at(deadline, work).await
        };
        let status = match ended {
            Ok(status) => status?,
            Err(_) => {
                return Err(PluginError::Timeout(path, started.elapsed()));
            }
        };
        group.ended();
        tracing::debug!(
            plugin = kind,
            command = call.verb.as_str(),
            container.id = call.container,
            elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            stderr = %String::from_utf8_lossy(&err),
            "CNI plugin ended"
        );
        if status.success() {
            Ok(out)
        } else {
            Err(failure(status, &out, &err))
        }
    }

    async fn spawn(
        &self,
        path: &Path,
        call: Call<'_>,
        deadline: Instant,
    ) -> Result<Child, PluginError> {
        let args: Vec<String> = call.args.iter().map(|pair| pair.join("=")).collect();
        let mut command = Command::new(path);
        command
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("CNI_COMMAND", call.verb.as_str())
            .env("CNI_PATH", self.search_path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if matches!(call.verb, Verb::Add | Verb::Del) {
            command
                .env("CNI_CONTAINERID", call.container)
                .env("CNI_NETNS", call.netns)
                .env("CNI_IFNAME", INTERFACE)
                .env("CNI_ARGS", args.join(";"));
        } else if call.verb == Verb::Version {
            // Old plugins want these before they look at the command.
            command
                .env("CNI_CONTAINERID", "dummy")
                .env("CNI_NETNS", "dummy")
                .env("CNI_IFNAME", "dummy");
        }
        let mut tries = 0;
        loop {
            match command.spawn() {
                Err(error)
                    if error.kind() == io::ErrorKind::ExecutableFileBusy
                        && tries < BUSY_TRIES
                        && Instant::now() + BUSY_PAUSE < deadline =>
                {
                    // No event tells when the writer is done with it.
                    tries += 1;
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && path.exists() => {
                    return Err(PluginError::Interpreter(path.to_owned()));
                }
                child => return child.map_err(|error| PluginError::Spawn(path.to_owned(), error)),
            }
        }
    }

    fn search_path(&self) -> OsString {
        // A directory with a colon in its name can't be said in CNI_PATH.
        std::env::join_paths(&self.directories).unwrap_or_default()
    }
}

/// Feeds, reads and waits.
async fn attend(
    path: &Path,
    child: &mut Child,
    stdin: &[u8],
    out: &mut Vec<u8>,
    err: &mut Vec<u8>,
) -> Result<ExitStatus, PluginError> {
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut to), Some(from), Some(errors)) = pipes else {
        unreachable!("all three are pipes");
    };
    let feed = async move {
        // A plugin need not read it.
        let _ = to.write_all(stdin).await;
        Ok(())
    };
    let mut streams = pin!(async {
        let read = async {
            read_whole(from, out)
                .await
                .map_err(|Flooded| PluginError::Flood(path.to_owned()))
        };
        tokio::try_join!(feed, read, read_end(errors, err)).map(drop)
    });
    let mut read = false;
    let status = loop {
        tokio::select! {
            biased;
            // cancel-safe: tokio's wait is.
            status = child.wait() => {
                break status.map_err(|error| PluginError::Wait(path.to_owned(), error))?;
            }
            // Pinned outside the loop: goes on where it was.
            done = &mut streams, if !read => {
                done?;
                read = true;
            }
        }
    };
    if !read {
        // Late: what is there by now counts.
        if let Ok(done) = timeout(LINGER, streams).await {
            done?;
        }
    }
    Ok(status)
}

struct Flooded;

async fn read_whole(mut from: impl AsyncRead + Unpin, into: &mut Vec<u8>) -> Result<(), Flooded> {
    let mut chunk = vec![0; 4096];
    // An unreadable pipe is an ended one.
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        if into.len() + count > MAX_STDOUT {
            return Err(Flooded);
        }
        into.extend_from_slice(&chunk[..count]);
    }
    Ok(())
}

async fn read_end(mut from: impl AsyncRead + Unpin, into: &mut Vec<u8>) -> Result<(), PluginError> {
    let mut chunk = vec![0; 4096];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        into.extend_from_slice(&chunk[..count]);
        let excess = into.len().saturating_sub(KEPT_STDERR);
        into.drain(..excess);
    }
    Ok(())
}

/// What a plugin that ended badly says, in the words of CNI's library (CNI-11).
fn failure(status: ExitStatus, out: &[u8], err: &[u8]) -> PluginError {
    #[derive(Deserialize)]
    struct Told {
        #[serde(default)]
        code: Option<u64>,
        #[serde(default)]
        msg: String,
        #[serde(default)]
        details: String,
    }
    let stderr = String::from_utf8_lossy(err).trim().to_owned();
    let (text, code, stderr) = if out.trim_ascii().is_empty() {
        let text = if stderr.is_empty() {
            format!("netplugin failed with no error message: {status}")
        } else {
            format!("netplugin failed: {stderr:?}")
        };
        (text, None, String::new())
    } else {
        match serde_json::from_slice::<Told>(out) {
            Ok(Told { code, msg, details }) if details.is_empty() => (msg, code, stderr),
            Ok(Told { code, msg, details }) => (format!("{msg}; {details}"), code, stderr),
            Err(error) => {
                let said = String::from_utf8_lossy(out);
                let said: String = said.chars().take(KEPT_STDERR).collect();
                let text = format!(
                    "netplugin failed but error parsing its diagnostic message {said:?}: {error}"
                );
                (text, None, stderr)
            }
        }
    };
    PluginError::Failed { text, code, stderr }
}

/// Kills a plugin's process group unless it has ended.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }

    /// What it left behind is meant to stay, and its number may be another's soon.
    fn ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Before the child is reaped (it is dropped later), so the number is still its own.
        if let Some(group) = self.0.take() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
