//! Log rotation (kubelet section 7.4, LOG-01 and LOG-02).
//!
//! Owner task: [`LogRotation::run`]. Input: the running containers of the status store, the sizes
//! of their log files each `containerLogMonitorInterval`: one `stat` per running container, no call
//! to the runtime unless a log is due. What survives a restart is on disk: a rotation that was cut
//! off leaves `*.tmp` files, which the next one removes.

use std::{
    fs, io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use daemon::ErrorChain;
use futures_util::StreamExt;
use jiff::{Timestamp, tz::TimeZone};
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::Metrics,
    runtime::client::{CriClient, CriError},
    status_store::StatusStore,
};

/// Time layout of a rotated file's suffix, local time: `20060102-150405` upstream.
const SUFFIX_LAYOUT: &str = "%Y%m%d-%H%M%S";
const COMPRESSED: &str = ".gz";
const TEMPORARY: &str = ".tmp";

/// What rotation is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogRotationConfig {
    /// A log of at least this size is rotated; `None` disables.
    pub(crate) max_bytes: Option<u64>,
    /// Files per container, the current one included. At least 2.
    pub(crate) max_files: usize,
    /// Rotations at once.
    pub(crate) workers: usize,
    /// How often the sizes are looked at.
    pub(crate) interval: Duration,
}

/// A rotation that did not happen. The log goes on as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotateError {
    /// A file could not be listed, compressed, renamed or removed.
    #[error("{step} {}", path.display())]
    File {
        /// What was being done.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The runtime did not start a new file; the rename was taken back.
    #[error("reopen container log")]
    Reopen(#[source] CriError),
}

/// The rotation loop.
#[derive(Debug)]
pub(crate) struct LogRotation {
    pub(crate) config: LogRotationConfig,
    pub(crate) statuses: Arc<StatusStore>,
    pub(crate) runtime: CriClient,
    pub(crate) metrics: Metrics,
}

impl LogRotation {
    /// Looks at the logs at each interval until the token is cancelled.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let Some(max_bytes) = self.config.max_bytes else {
            return;
        };
        let mut ticks = tokio::time::interval(self.config.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                // cancel-safe: a token.
                () = shutdown.cancelled() => return,
                // cancel-safe: a timer.
                _ = ticks.tick() => {}
            }
            let logs = self.statuses.running_logs();
            if logs.is_empty() {
                continue;
            }
            let due = daemon::blocking(move || {
                logs.into_iter()
                    .filter(|log| is_due(&log.path, max_bytes))
                    .collect::<Vec<_>>()
            })
            .await;
            let this = &self;
            futures_util::stream::iter(due)
                .for_each_concurrent(self.config.workers, |log| async move {
                    if let Err(error) = this.rotate(&log.container_id, log.path).await {
                        this.metrics.log_rotation_errors.inc();
                        tracing::error!(container.id = %log.container_id, error = %ErrorChain(&error),
                            "Failed to rotate log for container");
                    }
                })
                .await;
        }
    }

    async fn rotate(&self, container_id: &str, log: PathBuf) -> Result<(), RotateError> {
        if !log.exists() {
            // Somebody removed it: the runtime writes into nowhere until it opens a new one.
            return self
                .runtime
                .reopen_container_log(container_id)
                .await
                .map_err(RotateError::Reopen);
        }
        let rotated = rotated_name(&log, Timestamp::now());
        let max_files = self.config.max_files;
        let (current, target) = (log.clone(), rotated.clone());
        daemon::blocking(move || {
            make_room(&current, max_files)?;
            rename(&current, &target)
        })
        .await?;
        if let Err(error) = self.runtime.reopen_container_log(container_id).await {
            // Nothing is lost: the writer still writes to the same file, give it its name back.
            daemon::blocking(move || {
                if log.exists() {
                    Ok(())
                } else {
                    rename(&rotated, &log)
                }
            })
            .await?;
            return Err(RotateError::Reopen(error));
        }
        Ok(())
    }
}

/// Due when missing (LOG-02) or at least as large as the limit.
fn is_due(log: &Path, max_bytes: u64) -> bool {
    match fs::metadata(log) {
        Ok(metadata) => metadata.len() >= max_bytes,
        Err(error) => {
            error.kind() == io::ErrorKind::NotFound && log.parent().is_some_and(Path::exists)
        }
    }
}

fn rotated_name(log: &Path, now: Timestamp) -> PathBuf {
    let suffix = now
        .to_zoned(TimeZone::system())
        .strftime(SUFFIX_LAYOUT)
        .to_string();
    with_suffix(log, &format!(".{suffix}"))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn rename(from: &Path, to: &Path) -> Result<(), RotateError> {
    fs::rename(from, to).map_err(|source| RotateError::File {
        step: "rename",
        path: from.to_path_buf(),
        source,
    })
}

/// What to do with the files of earlier rotations before the next.
#[derive(Debug, PartialEq, Eq, Default)]
pub(crate) struct RotationPlan {
    /// Half-written files, and the oldest rotations that are one too many.
    pub(crate) remove: Vec<PathBuf>,
    /// Rotations that are still plain text.
    pub(crate) compress: Vec<PathBuf>,
}

/// Keeps `max_files - 2` rotations, since the current file and the one about to be made count too;
/// all but the one about to be made are compressed (LOG-01).
pub(crate) fn plan_rotation(mut rotations: Vec<PathBuf>, max_files: usize) -> RotationPlan {
    rotations.sort();
    let is = |path: &PathBuf, end: &str| path.as_os_str().to_string_lossy().ends_with(end);
    let (mut remove, kept): (Vec<_>, Vec<_>) =
        rotations.into_iter().partition(|path| is(path, TEMPORARY));
    // A rotation that was compressed but whose original was not yet removed: the archive is whole
    // (it was renamed into place), so the original goes.
    let compressed: Vec<PathBuf> = kept
        .iter()
        .filter(|path| is(path, COMPRESSED))
        .cloned()
        .collect();
    let (done, mut kept): (Vec<_>, Vec<_>) = kept
        .into_iter()
        .partition(|path| compressed.contains(&with_suffix(path, COMPRESSED)));
    remove.extend(done);
    let surplus = kept.len().saturating_sub(max_files.saturating_sub(2));
    remove.extend(kept.drain(..surplus));
    let compress = kept
        .into_iter()
        .filter(|path| !is(path, COMPRESSED))
        .collect();
    RotationPlan { remove, compress }
}

/// Applies the plan to the files on disk.
fn make_room(log: &Path, max_files: usize) -> Result<(), RotateError> {
    let directory = log.parent().unwrap_or(Path::new("/"));
    let file = |step, path: &Path| {
        let path = path.to_path_buf();
        move |source| RotateError::File { step, path, source }
    };
    let mut prefix = log.file_name().unwrap_or_default().to_owned();
    prefix.push(".");
    let prefix = prefix.to_string_lossy().into_owned();
    let rotations = fs::read_dir(directory)
        .map_err(file("list", directory))?
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect();
    let plan = plan_rotation(rotations, max_files);
    for path in &plan.remove {
        fs::remove_file(path).map_err(file("remove", path))?;
    }
    for path in &plan.compress {
        compress(path).map_err(file("compress", path))?;
    }
    Ok(())
}

/// The archive may be read by whom the log may be read by (upstream, `compressLog`).
fn compress(path: &Path) -> io::Result<()> {
    let archive = with_suffix(path, COMPRESSED);
    let temporary = with_suffix(&archive, TEMPORARY);
    let mut input = fs::File::open(path)?;
    let permissions = input.metadata()?.permissions();
    let output = fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(permissions.mode() & 0o7777)
        .open(&temporary)?;
    output.set_permissions(permissions)?;
    let mut encoder = flate2::write::GzEncoder::new(output, flate2::Compression::default());
    io::copy(&mut input, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    fs::rename(&temporary, &archive)?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn five_files_are_the_current_one_the_fresh_one_and_three_archives() {
        let plan = plan_rotation(
            paths(&[
                "0.log.20260101-000004",
                "0.log.20260101-000001.gz",
                "0.log.20260101-000003.gz",
                "0.log.20260101-000002.gz",
            ]),
            5,
        );
        assert_eq!(plan.remove, paths(&["0.log.20260101-000001.gz"]));
        assert_eq!(plan.compress, paths(&["0.log.20260101-000004"]));
    }

    #[test]
    fn two_files_keep_no_archive() {
        let plan = plan_rotation(paths(&["0.log.20260101-000004"]), 2);
        assert_eq!(plan.remove, paths(&["0.log.20260101-000004"]));
        assert!(plan.compress.is_empty());
    }

    #[test]
    fn a_rotation_that_was_cut_off_is_finished_by_the_next() {
        let plan = plan_rotation(
            paths(&[
                "0.log.20260101-000001.gz.tmp",
                "0.log.20260101-000002",
                "0.log.20260101-000002.gz",
            ]),
            5,
        );
        assert_eq!(
            plan.remove,
            paths(&["0.log.20260101-000001.gz.tmp", "0.log.20260101-000002"])
        );
        assert!(plan.compress.is_empty());
    }

    #[test]
    fn an_archive_holds_what_the_log_held() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("0.log");
        fs::write(with_suffix(&log, ".20260101-000000"), "old\n").unwrap();
        make_room(&log, 5).unwrap();
        let archive = directory.path().join("0.log.20260101-000000.gz");
        let mut text = String::new();
        let mut decoder = flate2::read::GzDecoder::new(fs::File::open(archive).unwrap());
        io::Read::read_to_string(&mut decoder, &mut text).unwrap();
        assert_eq!(text, "old\n");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_archive_is_read_by_those_who_may_read_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("0.log");
        let rotated = with_suffix(&log, ".20260101-000000");
        fs::write(&rotated, "secret\n").unwrap();
        fs::set_permissions(&rotated, fs::Permissions::from_mode(0o640)).unwrap();
        make_room(&log, 5).unwrap();
        let archive = fs::metadata(with_suffix(&rotated, COMPRESSED)).unwrap();
        assert_eq!(archive.permissions().mode() & 0o7777, 0o640);
    }

    #[test]
    fn a_missing_log_is_due_while_its_directory_stands() {
        let directory = tempfile::tempdir().unwrap();
        assert!(is_due(&directory.path().join("0.log"), 10));
        assert!(!is_due(Path::new("/nowhere/at/all/0.log"), 10));
        let log = directory.path().join("1.log");
        fs::write(&log, [0_u8; 9]).unwrap();
        assert!(!is_due(&log, 10));
        fs::write(&log, [0_u8; 10]).unwrap();
        assert!(is_due(&log, 10));
    }
}
