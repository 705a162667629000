//! Container logs in CRI format, at the path that the CRI asked for (DEC-10, LOG-04..10).
//!
//! One pump for all containers: a task that sleeps until Docker writes to a log file it watches (or
//! until a follower of the logs API brings something), copies what is new as CRI lines, and sleeps
//! again. Docker's own copy, a json-file bounded by size and number of files, is what it resumes from.
//!
//! ```text
//!  container ─▶ Docker ─▶ <id>-json.log (.1) ─▶ pump ─▶ /var/log/pods/.../<attempt>.log ─▶ kubelet
//!                            bounded backlog             rotated by the kubelet
//! ```
//!
//! - **Position.** The last complete line of the CRI log says how far copying came
//!   ([`position`]). Nothing else is kept, in memory or on disk, so being killed at any
//!   point neither loses nor repeats a line while Docker's backlog lasts. Where it did not last a
//!   marker line says so, and `cri_dockerd_log_gaps_total` counts. A container may go on in the log of
//!   one before it (same name and attempt): lines from before its creation are no position of its own.
//! - **Format.** One record of Docker is one line: `F`, or `P` for pieces of lines over 16 KiB and for
//!   a last line without newline ([`record`]). Bytes that are not UTF-8 have become U+FFFD in
//!   Docker's file. Differs from upstream, which links Docker's file there (LOG-02).
//! - **Rotation.** The kubelet renames the log and calls [`LogPump::reopen`].
//! - **End.** When Docker reports a container's death all it said is in Docker's copy;
//!   `drained` waits until it is in ours; the hub keeps EXITED back that long.
//! - **Trouble.** What can't be written (disk full) is reported once and tried again at growing
//!   intervals; reading stops meanwhile, and memory stays bounded.

mod error;
mod follow;
mod metrics;
mod orders;
mod position;
mod pump;
mod record;
mod sink;
mod tail;

use std::{io, path::PathBuf, sync::Arc};

use daemon::metrics::{MetricError, Metrics};
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::error::LogError;
use self::{
    metrics::LogMetrics,
    orders::{Command, LogSource, Wish, Wishes},
    pump::Pump,
    record::Stamp,
};
use crate::{
    engine::Engine,
    hub::{ContainerLogs, LogOf},
    paths::PathView,
};

/// Commands under way.
const COMMANDS: usize = 64;

/// The handle to the pump; clones are the same pump. See [`ContainerLogs`] for most of what it does.
#[derive(Debug, Clone)]
pub(crate) struct LogPump {
    wishes: Arc<Wishes>,
    commands: mpsc::Sender<Command>,
}

impl LogPump {
    /// Starts the pump on `spawner`'s group; it ends with the group. Call it in the runtime.
    ///
    /// # Errors
    /// When its metrics are declared already.
    pub(crate) fn start(
        engine: Engine,
        view: Arc<dyn PathView>,
        spawner: &daemon::Spawner,
        metrics: &Metrics,
    ) -> Result<Self, MetricError> {
        let metrics = LogMetrics::new(metrics)?;
        let wishes = Arc::new(Wishes::default());
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let channel = (commands.clone(), receiver);
        let shared = Arc::clone(&wishes);
        let pump = Pump::new(engine, view, spawner.clone(), metrics, shared, channel);
        spawner.spawn("log pump", pump.run());
        Ok(Self { wishes, commands })
    }

    /// Makes the log of a container that is about to start, so that whoever was told of the start
    /// finds a file. The pump may come to it a moment later only.
    ///
    /// # Errors
    /// When it can't be made; the pump goes on trying.
    pub(crate) async fn prepare(&self, log_path: &str) -> io::Result<()> {
        let path = PathBuf::from(log_path);
        daemon::blocking(move || sink::Sink::open(&path).map(drop)).await
    }

    /// Has later lines written to a new file at the log path, after the kubelet has renamed the
    /// old one (LOG-06). When it returns the new file exists.
    ///
    /// # Errors
    /// [`LogError::NotCopied`] for unknown and exited containers; [`LogError::Open`], and lines
    /// go to the old file as before.
    pub(crate) async fn reopen(&self, id: &str) -> Result<(), LogError> {
        self.ask(|reply| Command::Reopen {
            id: id.to_owned(),
            reply,
        })
        .await?
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, LogError> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(command(reply))
            .await
            .map_err(|_| LogError::Stopped)?;
        answer.await.map_err(|_| LogError::Stopped)
    }
}

impl ContainerLogs for LogPump {
    fn started(&self, id: &str, log: LogOf<'_>) {
        let source = LogSource {
            log_path: log.path.into(),
            docker_log: Some(log.docker)
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            tty: log.tty,
            born: Stamp::from_nanoseconds(log.created_at),
        };
        let running = log.running;
        self.wishes
            .leave(id.to_owned(), Wish::Copy { source, running });
    }

    fn drained<'a>(&'a self, id: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async {
            // The pump has ended: the next process copies the rest.
            let _ = self
                .ask(|reply| Command::Drain {
                    id: id.to_owned(),
                    reply,
                })
                .await;
        })
    }

    fn removed(&self, id: &str) {
        self.wishes.leave(id.to_owned(), Wish::Forget);
    }
}

#[cfg(test)]
mod tests;
