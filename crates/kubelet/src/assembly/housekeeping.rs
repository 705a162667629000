//! What belongs to no single pod.
//!
//! Owner task: [`Housekeeping::run`]. When every source has spoken, once if all goes well: directories, cgroups, log
//! directories and links that a crash left behind are removed (kubelet VOL-05, CG-05, GC-12); later
//! each worker cleans up its own. The limit of all pods together is set, and tried again each
//! minute while the kernel refuses it (CG-21). Whenever the set of pods changes the classes of
//! service get new weights (CG-12). What is left of a sandbox that the engine lost is removed at the start and
//! whenever a sandbox has gone (GC-11).

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use daemon::ErrorChain;
use kubelet_core::{
    ids::{PodKey, PodUid, SandboxId},
    log_paths,
    resources::CgroupValues,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    node::cgroups::FoundCgroup,
    pod_workers::PodContext,
    runtime::observe,
    sources::{SourceSet, any_changed},
    volumes::VolumeError,
};

/// Between two tries to remove what could not be removed, such as a directory in which something is mounted (VOL-05).
const SWEEP_RETRY: Duration = Duration::from_mins(1);

/// A sandbox that the engine does not know for so long is lost.
const LOST_AFTER: Duration = Duration::from_secs(2);

/// How a sweep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Swept {
    /// Nothing of pods that are gone is left.
    Clean,
    /// Something could not be removed, or looked at.
    Leftovers,
}

/// Between two tries to limit all pods together (CG-21).
const ENFORCE_RETRY: Duration = Duration::from_mins(1);

/// The housekeeper.
#[derive(Debug)]
pub(super) struct Housekeeping {
    pub(super) context: Arc<PodContext>,
    /// What all pods together may have; `None` where that is not enforced.
    pub(super) node_values: Option<CgroupValues>,
}

impl Housekeeping {
    /// Works until the token is cancelled.
    pub(super) async fn run(
        self,
        sources: Vec<watch::Receiver<SourceSet>>,
        shutdown: CancellationToken,
    ) {
        let work = async {
            tokio::join!(self.enforce(), async {
                let mut sources = sources;
                for source in &mut sources {
                    if source.wait_for(Option::is_some).await.is_err() {
                        return std::future::pending().await;
                    }
                }
                let swept = self.sweep(&sources).await;
                tokio::join!(self.follow(sources, swept), self.remove_lost_sandboxes());
            });
        };
        tokio::select! {
            biased;
            // cancel-safe: a token.
            () = shutdown.cancelled() => {}
            // cancel-safe: every removal is found again by the next sweep.
            () = work => {}
        }
    }

    async fn follow(&self, mut sources: Vec<watch::Receiver<SourceSet>>, mut swept: Swept) {
        loop {
            self.weigh(&mut sources).await;
            tokio::select! {
                biased;
                // cancel-safe: a change stays in its watch.
                () = any_changed(&mut sources) => {}
                // cancel-safe: a permit stays for the next wait.
                () = self.context.statuses.ended() => {}
                // cancel-safe: a timer.
                () = tokio::time::sleep(SWEEP_RETRY), if swept == Swept::Leftovers => {
                    swept = self.sweep(&sources).await;
                }
            }
        }
    }

    async fn remove_lost_sandboxes(&self) {
        let mut before = BTreeSet::new();
        loop {
            let (found, swept) = self.look_for_lost_sandboxes(&before).await;
            let fresh = found.iter().any(|id| !before.contains(id));
            before = found;
            let retry = match (fresh, swept) {
                (true, _) => Some(LOST_AFTER),
                (false, Swept::Leftovers) => Some(SWEEP_RETRY),
                (false, Swept::Clean) => None,
            };
            tokio::select! {
                biased;
                // cancel-safe: a timer.
                () = tokio::time::sleep(retry.unwrap_or_default()), if retry.is_some() => {}
                // cancel-safe: a ring that is not heard stays.
                () = self.context.wakes.gone_sandbox(), if retry.is_none() => {}
            }
        }
    }

    /// Removes the lost ones that were lost at the last look too: a sandbox that is just being made or removed
    /// may look like one. Tells which ones there are.
    async fn look_for_lost_sandboxes(
        &self,
        before: &BTreeSet<SandboxId>,
    ) -> (BTreeSet<SandboxId>, Swept) {
        let mut health = self.context.health.clone();
        health.up().await;
        let runtime = &self.context.runtime;
        let mut found = match observe::read_lost_sandboxes(runtime).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(error = %ErrorChain(&error), "list sandboxes");
                return (BTreeSet::new(), Swept::Leftovers);
            }
        };
        let mut swept = Swept::Clean;
        for id in before {
            if !found.contains(id) {
                continue;
            }
            let removed = match runtime.stop_pod_sandbox(id.as_str()).await {
                Ok(()) => runtime.remove_pod_sandbox(id.as_str()).await,
                Err(error) => Err(error),
            };
            match removed {
                Ok(()) => {
                    found.remove(id);
                    tracing::info!(sandbox.id = %id, "removed what was left of a sandbox that the engine lost");
                }
                Err(error) => {
                    swept = Swept::Leftovers;
                    tracing::error!(sandbox.id = %id, error = %ErrorChain(&error),
                        "what is left of a sandbox that the engine lost stays");
                }
            }
        }
        (found, swept)
    }

    async fn enforce(&self) {
        let Some(values) = &self.node_values else {
            return;
        };
        while self
            .context
            .cgroups
            .enforce_node(values.clone())
            .await
            .is_err()
        {
            tokio::time::sleep(ENFORCE_RETRY).await;
        }
    }

    async fn weigh(&self, sources: &mut [watch::Receiver<SourceSet>]) {
        let sets: Vec<SourceSet> = sources
            .iter_mut()
            .map(|source| source.borrow_and_update().clone())
            .collect();
        let pods = sets
            .iter()
            .flatten()
            .flat_map(|set| set.iter())
            // Refused and finished pods hold nothing.
            .filter(|pod| !self.context.statuses.is_over(&PodUid::of(pod)))
            .map(AsRef::as_ref);
        if let Err(error) = self.context.cgroups.refresh_classes(pods).await {
            tracing::warn!(error = %ErrorChain(&error), "weigh the classes of service");
        }
    }

    /// What there is is listed before it is asked who is there, so that nothing of a pod that comes meanwhile is
    /// ever taken for something left over (Kubernetes kubelet, `HandlePodCleanups`).
    async fn sweep(&self, sources: &[watch::Receiver<SourceSet>]) -> Swept {
        let found = match self.find().await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(error = %ErrorChain(&error), "list pod directories");
                return Swept::Leftovers;
            }
        };
        let Ok(known) = self.known(sources).await else {
            return Swept::Leftovers;
        };
        let swept = self
            .sweep_volumes(&found.directories, &known, sources)
            .await;
        self.sweep_cgroups(found.cgroups, &known).await;
        let context = self.context.clone();
        daemon::blocking(move || sweep_logs(&context, &found.logs, &known)).await;
        swept
    }

    async fn find(&self) -> Result<Found, VolumeError> {
        let directories = self.context.volumes.orphans(BTreeSet::new()).await;
        let cgroups = self.context.cgroups.found().await;
        let logs = self.context.node.logs_directory.clone();
        Ok(Found {
            directories: directories?,
            // Where they cannot be listed the others are swept all the same.
            cgroups: cgroups.unwrap_or_else(|error| {
                tracing::error!(error = %ErrorChain(&error), "list pod cgroups");
                Vec::new()
            }),
            logs: daemon::blocking(move || find_logs(&logs)).await,
        })
    }

    /// The uids that the runtime has something of, or that are to run. Waits for the runtime.
    async fn known(&self, sources: &[watch::Receiver<SourceSet>]) -> Result<BTreeSet<String>, ()> {
        let mut health = self.context.health.clone();
        health.up().await;
        let pods = observe::read_pod_names(&self.context.runtime).await;
        let pods = pods.map_err(|error| {
            tracing::warn!(error = %ErrorChain(&error), "list pods before sweeping");
        })?;
        let mut uids: BTreeSet<String> = pods.keys().map(ToString::to_string).collect();
        uids.extend(self.desired(sources));
        Ok(uids)
    }

    /// What the sources want now, and what the sync loop works on.
    fn desired(&self, sources: &[watch::Receiver<SourceSet>]) -> BTreeSet<String> {
        let mut uids = BTreeSet::new();
        for source in sources {
            let set = source.borrow();
            let pods = set.iter().flat_map(|set| set.iter());
            uids.extend(pods.filter_map(|pod| pod.metadata.uid.clone()));
        }
        let desired = self.context.statuses.desired();
        uids.extend(
            desired
                .into_iter()
                .filter_map(|entry| entry.pod.metadata.uid.clone()),
        );
        uids
    }

    async fn sweep_volumes(
        &self,
        directories: &[String],
        known: &BTreeSet<String>,
        sources: &[watch::Receiver<SourceSet>],
    ) -> Swept {
        let mut swept = Swept::Clean;
        for uid in directories.iter().filter(|uid| !known.contains(*uid)) {
            if self.desired(sources).contains(uid) {
                continue;
            }
            match self.context.volumes.remove_orphan(uid).await {
                Ok(()) => tracing::info!(pod.uid = %uid, "Cleaned up orphaned pod volumes dir"),
                Err(error) => {
                    swept = Swept::Leftovers;
                    tracing::error!(pod.uid = %uid, error = %ErrorChain(&error),
                        "orphaned pod directory stays");
                }
            }
        }
        swept
    }

    async fn sweep_cgroups(&self, found: Vec<FoundCgroup>, known: &BTreeSet<String>) {
        let cgroups = &self.context.cgroups;
        for orphan in found {
            if !cgroups.is_orphan(&orphan, known) {
                continue;
            }
            let name = orphan.to_string();
            match cgroups.remove_orphan(orphan).await {
                Ok(()) => {
                    tracing::info!(cgroup = %name, "removed the cgroup of a pod that is gone");
                }
                Err(error) => tracing::error!(cgroup = %name, error = %ErrorChain(&error),
                    "orphaned pod cgroup stays"),
            }
        }
    }
}

/// What there is of pods beside what the runtime has.
struct Found {
    /// Uids.
    directories: Vec<String>,
    cgroups: Vec<FoundCgroup>,
    logs: Vec<(PodKey, PodUid)>,
}

fn find_logs(directory: &Path) -> Vec<(PodKey, PodUid)> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| log_paths::parse_pod_directory(&entry.file_name().to_string_lossy()))
        .collect()
}

/// Log directories of pods that are gone, and links that point nowhere (GC-12).
fn sweep_logs(context: &PodContext, found: &[(PodKey, PodUid)], known: &BTreeSet<String>) {
    for (key, uid) in found {
        if !known.contains(uid.as_str())
            && let Err(error) = context
                .dirs
                .remove_logs(&key.namespace, &key.name, uid.as_str())
        {
            tracing::error!(error = %ErrorChain(&error), "orphaned log directory stays");
        }
    }
    let (links, logs) = (
        &context.node.log_links_directory,
        &context.node.logs_directory,
    );
    crate::pod_workers::remove_dangling_links(links, logs, &context.statuses);
}
