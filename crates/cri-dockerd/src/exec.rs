//! ExecSync: a command in a running container, its output and exit code (EXE-01..07).
//!
//! ```text
//!  create ─▶ start ─▶ output ends ─▶ exec_die event (or one inspect) ─▶ answer
//!               │
//!               └─ timeout, or the caller goes ─▶ kill all its processes ─▶ DeadlineExceeded
//! ```
//!
//! A dockerd that is killed takes its execs with it, and its successor knows none of them: the
//! caller gets Unavailable then, and NotFound only for a container that is gone.
//!
//! Differs from upstream: what a timed-out command started is gone before the error is returned
//! (EXE-04), but for what has left both its session and, its parents having ended, its tree; output beyond
//! the limit is dropped instead of failing the call (EXE-05), and the exit code is waited for, not polled.

pub(crate) mod kill;

use std::{sync::Arc, time::Duration};

use cri_api::{Code, MAX_MESSAGE_BYTES, RpcError, v1};
use daemon::ErrorChain;
use tokio::{io::AsyncReadExt as _, time::Instant};

use crate::{
    engine::{Class, Engine, EngineError, FrameDecoder, Hijacked, StreamKind, model::ExecCreate},
    error::Error,
    hub::Hub,
};

/// Most of one stream that is answered (CRI, `ExecSyncResponse`).
const MAX_STREAM: usize = 16 << 20;
/// Most of both streams together: the answer must pass gRPC with its field headers.
const MAX_OUTPUT: usize = MAX_MESSAGE_BYTES - 1024;
/// How long the event about an exec's end may be late, before Docker is asked: for one that could not be
/// started none comes, and for the others mostly at once.
const WAITS: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];
/// How long until Docker is asked again about a command that runs on without output.
const ASK_AGAIN: Duration = Duration::from_mins(1);

/// How long Docker may take to start a command that is to be killed.
const START_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks whether it has.
const START_PAUSE: Duration = Duration::from_millis(50);

/// Runs commands in containers. Cloning is cheap.
#[derive(Debug, Clone)]
pub(crate) struct Execs {
    engine: Engine,
    hub: Arc<Hub>,
    spawner: daemon::Spawner,
}

/// What a command wrote, cut off at the limits.
#[derive(Debug, Default)]
struct Output {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Output {
    fn take(&mut self, stream: StreamKind, data: &[u8]) {
        let room = MAX_OUTPUT - self.stdout.len() - self.stderr.len();
        let buffer = match stream {
            StreamKind::Stdout => &mut self.stdout,
            StreamKind::Stderr => &mut self.stderr,
        };
        let room = room.min(MAX_STREAM - buffer.len());
        buffer.extend_from_slice(&data[..data.len().min(room)]);
    }
}

/// Kills what an exec runs, unless told that it has ended.
pub(crate) struct KillOnDrop {
    pub(crate) execs: Execs,
    pub(crate) exec: String,
    pub(crate) orphans: Orphans,
    pub(crate) armed: bool,
}

/// What becomes of processes that a command left behind when it ended, and that hold its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Orphans {
    /// They are killed with it: the call went on because of them.
    Killed,
    /// They stay, as with upstream: what somebody started by hand and left may be meant to stay.
    Spared,
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if self.armed {
            let (execs, exec) = (self.execs.clone(), std::mem::take(&mut self.exec));
            let (spawner, orphans) = (self.execs.spawner.clone(), self.orphans);
            spawner.spawn_job("kill exec", async move { execs.kill(&exec, orphans).await });
        }
    }
}

impl Execs {
    /// Commands are run through `engine`; killing what a caller left behind is a job of `spawner`.
    pub(crate) fn new(engine: Engine, hub: Arc<Hub>, spawner: daemon::Spawner) -> Self {
        Self {
            engine,
            hub,
            spawner,
        }
    }

    /// ExecSync. When the future is dropped the command is killed.
    ///
    /// Differs: a negative timeout is refused; for upstream it is no limit (EXE-03).
    ///
    /// # Errors
    /// `InvalidArgument` for a bad request, `NotFound` without the container,
    /// `FailedPrecondition` when it doesn't run, `DeadlineExceeded` after the timeout: by then all
    /// that the command started is gone.
    pub(crate) async fn exec_sync(
        &self,
        request: v1::ExecSyncRequest,
    ) -> Result<v1::ExecSyncResponse, RpcError> {
        let invalid = |text: &str| Err(RpcError::new(Code::InvalidArgument, text));
        if request.container_id.is_empty() {
            return invalid("missing required container_id");
        }
        if request.cmd.is_empty() {
            return invalid("cmd: name a command to run");
        }
        let Ok(seconds) = u64::try_from(request.timeout) else {
            return invalid("timeout: must not be negative; 0 is no limit");
        };
        let id = self.running(&request.container_id).await?;
        if seconds == 0 {
            return self.run(&id, request.cmd, None).await;
        }
        self.run(&id, request.cmd, Some(Duration::from_secs(seconds)))
            .await
    }

    /// The full id of a container, which must run (EXE-01).
    pub(crate) async fn running(&self, id: &str) -> Result<String, RpcError> {
        let record = self.hub.find(id).await;
        let record = record
            .map_err(|error| RpcError::from(Error::from(error)))?
            .filter(|record| record.container().is_some())
            .ok_or_else(|| no_such_container(id))?;
        if record.life.is_running() {
            return Ok(record.id.clone());
        }
        Err(not_running(&record.id))
    }

    /// Why Docker knows no end of an exec that it has made: `what` was to come.
    pub(crate) async fn lost(&self, container: &str, what: &str) -> RpcError {
        match self.hub.refresh(container).await {
            Ok(Some(record)) if record.life.is_running() => {
                let text = format!("docker was restarted before {what}: try again");
                RpcError::new(Code::Unavailable, text)
            }
            Ok(Some(record)) => not_running(&record.id),
            Ok(None) => no_such_container(container),
            Err(error) => refuse(&error),
        }
    }

    async fn run(
        &self,
        container: &str,
        cmd: Vec<String>,
        timeout: Option<Duration>,
    ) -> Result<v1::ExecSyncResponse, RpcError> {
        let exec = ExecCreate {
            cmd,
            attach_stdin: false,
            attach_stdout: true,
            attach_stderr: true,
            tty: false,
            detach_keys: String::new(),
        };
        let exec = self
            .engine
            .exec_create(container, &exec)
            .await
            .map_err(|error| {
                let text = "failed to exec in container - Exec setup failed";
                RpcError::new(
                    refuse(&error).code,
                    format!("{text} - {}", ErrorChain(&error)),
                )
            })?;
        // Before the start, or the event could be missed.
        let exit = self.hub.exec_exit(&exec);
        let mut guard = KillOnDrop {
            execs: self.clone(),
            exec: exec.clone(),
            orphans: Orphans::Killed,
            armed: true,
        };
        let work = async {
            let connection = match self.engine.exec_start(&exec, false).await {
                Ok(connection) => connection,
                // Nothing was started.
                Err(error) if error.is_not_found() => {
                    return Err((self.lost(container, "the command was started").await, true));
                }
                Err(error) => {
                    return Err((refuse(&error), matches!(error, EngineError::Api { .. })));
                }
            };
            let output = read(connection)
                .await
                .map_err(|error| (refuse(&error), false))?;
            let code = self
                .exit_code(container, &exec, exit)
                .await
                .map_err(|error| (error, false))?;
            Ok((output, code))
        };
        let done = match timeout {
            None => work.await,
            Some(limit) => {
                let Ok(done) = tokio::time::timeout(limit, work).await else {
                    guard.armed = false;
                    // On a task of its own: a caller that goes away now must not stop it.
                    let (execs, exec) = (self.clone(), exec.clone());
                    let kill = async move { execs.kill(&exec, Orphans::Killed).await };
                    let kill = self.spawner.run("kill exec", kill);
                    // A panic in it is logged with the group.
                    let _ = kill.await;
                    // The words that upstream gives (EXE-03).
                    let text = "context deadline exceeded";
                    return Err(RpcError::new(Code::DeadlineExceeded, text));
                };
                done
            }
        };
        match done {
            Ok((Output { stdout, stderr }, exit_code)) => {
                guard.armed = false;
                Ok(v1::ExecSyncResponse {
                    stdout,
                    stderr,
                    exit_code,
                })
            }
            Err((error, nothing_runs)) => {
                guard.armed = !nothing_runs;
                Err(error)
            }
        }
    }

    /// The exit code of a command of `container` whose output has ended. It may still run: then this
    /// waits, also for a Docker that is away.
    ///
    /// # Errors
    /// As [`Execs::lost`] when Docker has forgotten the exec, or never ran it.
    pub(crate) async fn exit_code(
        &self,
        container: &str,
        exec: &str,
        event: tokio::sync::oneshot::Receiver<i64>,
    ) -> Result<i32, RpcError> {
        let (mut event, mut waits) = (event, WAITS.into_iter());
        loop {
            let wait = waits.next().unwrap_or(ASK_AGAIN);
            match tokio::time::timeout(wait, &mut event).await {
                Ok(Ok(code)) => return Ok(exit_status(code)),
                // The stream of events is lost. Registered for the next one before Docker is asked.
                Ok(Err(_)) => {
                    self.hub.back().await;
                    event = self.hub.exec_exit(exec);
                }
                Err(_) => {}
            }
            let found = match self.engine.exec_inspect(exec).await {
                Ok(found) => found,
                // The events end too, and the timeout of the call bounds this.
                Err(error) if error.class() == Class::Unavailable => continue,
                Err(error) if error.is_not_found() => {
                    return Err(self.lost(container, "the command's end was known").await);
                }
                Err(error) => return Err(refuse(&error)),
            };
            match found.exit_code {
                // It has closed its output and runs on. The event will tell.
                _ if found.running => {}
                Some(code) => return Ok(exit_status(code)),
                // What Docker wrote in place of output says why.
                None => return Err(self.lost(container, "the command was started").await),
            }
        }
    }

    /// Kills all processes of an exec and returns when they are gone.
    async fn kill(&self, exec: &str, orphans: Orphans) {
        let deadline = Instant::now() + START_LIMIT;
        let found = loop {
            match self.engine.exec_inspect(exec).await {
                Ok(found) if found.exit_code.is_some() && !found.running => {
                    // Docker goes on naming its process, whose number its session still has.
                    if orphans == Orphans::Killed && found.pid > 0 {
                        break found;
                    }
                    return;
                }
                Ok(found) if found.running && found.pid > 0 => break found,
                // Docker is at starting it: no event tells when its process is there.
                Ok(_) if Instant::now() < deadline => tokio::time::sleep(START_PAUSE).await,
                Ok(_) => {
                    tracing::warn!(exec, "a command that ran into its timeout has no process");
                    return;
                }
                Err(error) => {
                    let error = ErrorChain(&error).to_string();
                    tracing::warn!(
                        exec,
                        error,
                        "can't find the process of a command to kill it"
                    );
                    return;
                }
            }
        };
        let container = found.container_id.clone();
        let has_ended = !found.running;
        let Ok(pid) = i32::try_from(found.pid) else {
            return;
        };
        let killed = daemon::blocking(move || kill::tree(pid, &container, has_ended)).await;
        match killed {
            Ok(count) => {
                tracing::debug!(container.id = found.container_id, count, "command killed");
            }
            Err(error) => {
                let error = ErrorChain(&error).to_string();
                tracing::warn!(
                    container.id = found.container_id,
                    pid,
                    error,
                    "can't kill a command that ran into its timeout"
                );
            }
        }
    }
}

/// Reads a command's output to its end.
async fn read(mut connection: Hijacked) -> Result<Output, EngineError> {
    let mut output = Output::default();
    let mut frames = FrameDecoder::new(false);
    let mut buffer = vec![0; 32 << 10];
    loop {
        match connection.read(&mut buffer).await {
            Ok(0) => return Ok(output),
            Ok(read) => frames.push(&buffer[..read]),
            Err(source) => {
                let call = "POST /exec/start".to_owned();
                return Err(EngineError::Http {
                    call,
                    source: source.into(),
                });
            }
        }
        while let Some((stream, data)) = frames.next()? {
            output.take(stream, &data);
        }
    }
}

fn exit_status(code: i64) -> i32 {
    i32::try_from(code).unwrap_or(i32::MAX)
}

fn no_such_container(id: &str) -> RpcError {
    let text = format!("Error response from daemon: No such container: {id}");
    RpcError::new(Code::NotFound, text)
}

fn not_running(id: &str) -> RpcError {
    let text = format!("container not running ({id})");
    RpcError::new(Code::FailedPrecondition, text)
}

/// Docker's refusal.
fn refuse(error: &EngineError) -> RpcError {
    let code = match error.class() {
        Class::NotFound => Code::NotFound,
        Class::Conflict => Code::FailedPrecondition,
        Class::Denied => Code::PermissionDenied,
        Class::Unavailable => Code::Unavailable,
        // Not DeadlineExceeded: to a kubelet that is a probe that took too long (KLT-03).
        Class::Invalid | Class::Timeout | Class::Internal => Code::Unknown,
    };
    RpcError::new(code, ErrorChain(error).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_beyond_the_limits_is_dropped() {
        let mut output = Output::default();
        let chunk = vec![b'x'; 5 << 20];
        for _ in 0..4 {
            output.take(StreamKind::Stderr, &chunk);
        }
        assert_eq!(output.stderr.len(), MAX_OUTPUT);
        output.take(StreamKind::Stdout, b"late");
        assert_eq!(output.stdout, b"");
        let response = v1::ExecSyncResponse {
            stdout: output.stdout,
            stderr: output.stderr,
            exit_code: -1,
        };
        assert!(prost::Message::encoded_len(&response) <= MAX_MESSAGE_BYTES);
    }
}
