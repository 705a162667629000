//! What becomes of containers that have ended: their last words, and their removal when newer ones
//! have taken their place (kubelet CTR-50, GC-10, GC-14).

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use daemon::ErrorChain;
use kubelet_core::{
    ids::ContainerId,
    log_paths,
    observed::{ContainerState, ObservedContainer, ObservedPod},
    reasons::EventReason,
    termination,
};

use super::{PodWorker, kill::StopErrors};
use crate::{
    logs::{links, tail},
    node::cgroups::PodCgroupError,
    pod_dirs::{PodDirError, PodDirs},
    runtime::{client::CriError, observe::ReadError},
    status_store::StatusStore,
    volumes::VolumeError,
};

/// A step of a pass that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// A call to the runtime.
    #[error("{0}")]
    Runtime(#[from] CriError),
    /// Reading the runtime's state.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// Something could not be stopped.
    #[error(transparent)]
    Stop(#[from] StopErrors),
    /// A container was stopped and still runs.
    #[error("detected running containers after a successful KillPod, CRI violation: {0:?}")]
    StillRunning(Vec<String>),
    /// The pod's volumes.
    #[error("{0}")]
    Volume(#[from] VolumeError),
    /// The pod's directories.
    #[error(transparent)]
    Directory(#[from] PodDirError),
    /// The pod's cgroup.
    #[error(transparent)]
    Cgroup(#[from] PodCgroupError),
}

impl Failure {
    /// Reason and text of the event, as upstream's `SyncPod` has them; of what cannot be stopped the log alone
    /// tells, of volumes another event.
    pub(super) fn event(&self) -> Option<(EventReason, String)> {
        let error = ErrorChain(self).to_string();
        match self {
            Self::Cgroup(_) => Some((
                EventReason::FailedCreatePodContainer,
                format!("unable to ensure pod container exists: {error}"),
            )),
            Self::Directory(_) => Some((
                EventReason::Failed,
                format!("error making pod data directories: {error}"),
            )),
            Self::Read(_) => Some((
                EventReason::FailedSync,
                format!("error determining status: {error}"),
            )),
            Self::Runtime(_) | Self::Stop(_) | Self::StillRunning(_) | Self::Volume(_) => None,
        }
    }

    /// Nothing of the pod is wrong: the runtime is not there.
    pub(super) fn is_runtime_down(&self) -> bool {
        match self {
            Self::Runtime(error) | Self::Read(ReadError::Call(error)) => error.is_unavailable(),
            Self::Stop(errors) => errors.is_runtime_down(),
            _ => false,
        }
    }
}

impl PodWorker {
    /// Fills in the last words of containers that have ended. Each is read once; what is
    /// remembered is bounded by the containers that are there.
    pub(super) async fn read_messages(&mut self, observed: &mut ObservedPod) {
        let present: BTreeSet<&ContainerId> = observed
            .containers
            .iter()
            .map(|container| &container.id)
            .collect();
        self.messages.retain(|id, _| present.contains(id));
        let ended = |container: &&mut ObservedContainer| container.state == ContainerState::Exited;
        for container in observed.containers.iter_mut().filter(ended) {
            let message = if let Some(message) = self.messages.get(&container.id) {
                message.clone()
            } else {
                let ended = container.clone();
                let message = daemon::blocking(move || last_words(&ended)).await;
                self.messages.insert(container.id.clone(), message.clone());
                message
            };
            termination::add_message(container, &message);
        }
    }

    /// Links the logs of containers that were started under `/var/log/containers` (CRI-80), each once:
    /// also of those that ended before anybody looked, or that an earlier kubelet started.
    ///
    /// Differs (CRI-80): the log of a container that the runtime could not start is linked too; upstream links
    /// what has started.
    pub(super) async fn link_logs(&mut self, observed: &ObservedPod) {
        self.linked.retain(|id| {
            observed
                .containers
                .iter()
                .any(|container| container.id == *id)
        });
        let todo: Vec<_> = observed
            .containers
            .iter()
            .filter(|container| container.state != ContainerState::Created)
            .filter(|container| !container.log_path.is_empty())
            .filter(|container| !self.linked.contains(&container.id))
            .map(|container| {
                let name = log_paths::legacy_link(&self.key, &container.name, &container.id);
                (
                    container.id.clone(),
                    name,
                    PathBuf::from(&container.log_path),
                )
            })
            .collect();
        if todo.is_empty() {
            return;
        }
        let directory = self.context.node.log_links_directory.clone();
        let linked = daemon::blocking(move || {
            let make = |(id, name, log): (ContainerId, String, PathBuf)| {
                match links::ensure_link(&directory, &name, &log) {
                    // Without a file there is no link yet; the next pass looks again.
                    Ok(()) => log.exists().then_some(id),
                    Err(error) => {
                        let link = directory.join(&name);
                        tracing::warn!(container.id = %id, link = %link.display(), error = %error, "link the container's log");
                        None
                    }
                }
            };
            todo.into_iter().filter_map(make).collect::<Vec<_>>()
        })
        .await;
        self.linked.extend(linked);
    }

    /// Removes dead containers beyond the newest of each name (GC-10) and dead sandboxes that no
    /// container needs any more (GC-11). A failure is left to the next pass. Tells whether a
    /// container went.
    pub(super) async fn remove_excess(&self, observed: &ObservedPod) -> bool {
        let plan = plan_removals(observed);
        let mut removed = false;
        for container in plan.containers {
            match self.remove_container(container).await {
                Ok(()) => removed = true,
                Err(error) => {
                    tracing::warn!(container.id = %container.id, error = %daemon::ErrorChain(&error),
                        "remove a dead container");
                }
            }
        }
        for sandbox in plan.sandboxes {
            let runtime = &self.context.runtime;
            let gone = match runtime.stop_pod_sandbox(sandbox).await {
                Ok(()) => runtime.remove_pod_sandbox(sandbox).await,
                Err(error) => Err(error),
            };
            if let Err(error) = gone {
                tracing::warn!(sandbox.id = sandbox, error = %daemon::ErrorChain(&error),
                    "remove a dead sandbox");
            }
        }
        removed
    }

    /// Removes one dead container, its link and its log files (GC-14). The files go first: what is cut off then is done
    /// again, for the container is still there (Kubernetes kubelet, `removeContainer`).
    pub(super) async fn remove_container(
        &self,
        container: &ObservedContainer,
    ) -> Result<(), CriError> {
        let directory = self.context.node.log_links_directory.clone();
        let link = log_paths::legacy_link(&self.key, &container.name, &container.id);
        let log = container.log_path.clone();
        daemon::blocking(move || {
            if let Err(error) = links::remove_link(&directory, &link) {
                tracing::warn!(link, error = %error, "remove a log link");
            }
            if !log.is_empty() {
                remove_log_files(Path::new(&log));
            }
        })
        .await;
        let runtime = &self.context.runtime;
        runtime.remove_container(container.id.as_str()).await
    }
}

/// What of a pod's past can go.
#[derive(Debug, Default)]
struct Removals<'a> {
    containers: Vec<&'a ObservedContainer>,
    sandboxes: Vec<&'a str>,
}

/// Keeps the newest dead container of each name, whatever came after it, and every container that
/// may run; keeps the newest sandbox, ready ones, and those that kept containers live in.
fn plan_removals(observed: &ObservedPod) -> Removals<'_> {
    let mut kept_names = BTreeSet::new();
    let mut removals = Removals::default();
    let mut needed = BTreeSet::new();
    for container in &observed.containers {
        let dead = matches!(
            container.state,
            ContainerState::Exited | ContainerState::Created
        );
        // A created container is one whose start is under way, unless something newer has its name.
        let newest = observed
            .latest(container.name.as_str())
            .is_some_and(|latest| latest.id == container.id);
        let keep = !dead
            || (container.state == ContainerState::Created && newest)
            || (container.state == ContainerState::Exited && kept_names.insert(&container.name));
        if keep {
            needed.extend(container.sandbox_id.as_ref());
        } else {
            removals.containers.push(container);
        }
    }
    for (index, sandbox) in observed.sandboxes.iter().enumerate() {
        let ready = sandbox.state == kubelet_core::observed::SandboxState::Ready;
        if index > 0 && !ready && !needed.contains(&sandbox.id) {
            removals.sandboxes.push(sandbox.id.as_str());
        }
    }
    removals
}

/// The container's own message, else the end of its log where the policy says so (CTR-50).
fn last_words(container: &ObservedContainer) -> String {
    let Some(source) = termination::message_source(container) else {
        return String::new();
    };
    if let Some(file) = source.file {
        match PodDirs::read_termination_message(&file, termination::MAX_MESSAGE_BYTES) {
            Ok(Some(words)) if !words.is_empty() => return words,
            Ok(_) => {}
            Err(error) => {
                let error = daemon::ErrorChain(&error).to_string();
                return termination::read_error(&file.display().to_string(), &error);
            }
        }
    }
    source.log.map_or_else(String::new, |log| {
        tail::last_lines(&log, termination::MAX_LOG_LINES, termination::MAX_LOG_BYTES)
            .unwrap_or_else(|error| termination::log_error(&log.display().to_string(), &error))
    })
}

/// `<log>` and what rotation made of it.
fn remove_log_files(log: &Path) {
    let (Some(directory), Some(name)) = (log.parent(), log.file_name()) else {
        return;
    };
    let name = name.to_string_lossy();
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let file = entry.file_name();
        let file = file.to_string_lossy();
        if file == name
            || file
                .strip_prefix(name.as_ref())
                .is_some_and(|rest| rest.starts_with('.'))
        {
            // Whoever removed it before us did what we want.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// GC-12 for links whose container was removed behind our back. That of a container that runs stays, for its log
/// comes back: it is being rotated, or somebody removed it and rotation has not looked yet (Kubernetes kubelet,
/// `evictPodLogsDirectories`; kubernetes #52172).
pub(crate) fn remove_dangling_links(links_directory: &Path, logs: &Path, statuses: &StatusStore) {
    let dangling = match links::dangling(links_directory, logs) {
        Ok(dangling) => dangling,
        Err(error) => {
            tracing::warn!(error = %error, "list the log links");
            return;
        }
    };
    // Asked for after the links: whoever had one by then is known.
    let running = statuses.running_logs();
    for (link, log) in dangling {
        if running.iter().all(|running| running.path != log) {
            let _ = fs::remove_file(link);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use cri_api::v1;
    use kubelet_core::{
        ids::{PodKey, PodUid},
        observed::container_from_status,
    };

    use super::*;

    fn container(id: &str, state: v1::ContainerState, log: &Path) -> ObservedContainer {
        let status = v1::ContainerStatus {
            id: id.to_owned(),
            metadata: Some(v1::ContainerMetadata {
                name: id.to_owned(),
                attempt: 0,
            }),
            state: state as i32,
            created_at: 1,
            labels: [("io.kubernetes.pod.uid".to_owned(), "u".to_owned())].into(),
            log_path: log.display().to_string(),
            ..v1::ContainerStatus::default()
        };
        container_from_status(&status, None).unwrap()
    }

    #[test]
    fn gc_12_a_container_that_runs_keeps_its_link_while_its_log_is_away() {
        let root = tempfile::tempdir().unwrap();
        let (links, logs) = (root.path().join("containers"), root.path().join("pods"));
        fs::create_dir(&links).unwrap();
        let states = [
            ("runs", v1::ContainerState::ContainerRunning),
            ("ended", v1::ContainerState::ContainerExited),
        ];
        let containers = states.map(|(id, state)| container(id, state, &logs.join(id)));
        let statuses = StatusStore::default();
        let observed = ObservedPod::new(PodUid::from("u"), Vec::new(), containers.into());
        statuses.set_observed(&PodKey::new("default", "a"), &observed);
        for name in ["runs", "ended", "unknown"] {
            symlink(logs.join(name), links.join(name)).unwrap();
        }
        remove_dangling_links(&links, &logs, &statuses);
        let left: Vec<_> = fs::read_dir(&links)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["runs"]);
    }
}
