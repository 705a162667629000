//! What belongs to no single pod.
//!
//! Owner task: [`Housekeeping::run`]. Once, when every source has spoken: directories, cgroups, log
//! directories and links that a crash left behind are removed (kubelet VOL-05, CG-05, GC-12); later
//! each worker cleans up its own. The limit of all pods together is set, and tried again each
//! minute while the kernel refuses it (CG-21). Whenever the set of pods changes the classes of
//! service get new weights (CG-12).

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use daemon::ErrorChain;
use kubelet_core::{log_paths, resources::CgroupValues};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    pod_workers::PodContext,
    runtime::observe,
    sources::{SourceSet, any_changed},
};

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
                self.sweep().await;
                loop {
                    self.weigh(&mut sources).await;
                    any_changed(&mut sources).await;
                }
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
            .map(AsRef::as_ref);
        if let Err(error) = self.context.cgroups.refresh_classes(pods).await {
            tracing::warn!(error = %ErrorChain(&error), "weigh the classes of service");
        }
    }

    async fn sweep(&self) {
        let mut health = self.context.health.clone();
        health.up().await;
        let known = match observe::read_pod_names(&self.context.runtime).await {
            Ok(pods) => pods,
            Err(error) => {
                tracing::warn!(error = %ErrorChain(&error), "list pods before sweeping");
                return;
            }
        };
        let desired = self.context.statuses.desired();
        let mut uids: BTreeSet<String> = known.keys().map(ToString::to_string).collect();
        uids.extend(
            desired
                .iter()
                .filter_map(|entry| entry.pod.metadata.uid.clone()),
        );
        self.sweep_volumes(&uids).await;
        self.sweep_cgroups(&uids).await;
        let (context, uids) = (self.context.clone(), uids);
        daemon::blocking(move || sweep_logs(&context, &uids)).await;
    }

    async fn sweep_volumes(&self, uids: &BTreeSet<String>) {
        match self.context.volumes.orphans(uids.clone()).await {
            Ok(orphans) => {
                for uid in orphans {
                    match self.context.volumes.remove_orphan(&uid).await {
                        Ok(()) => {
                            tracing::info!(pod.uid = %uid, "Cleaned up orphaned pod volumes dir");
                        }
                        Err(error) => tracing::error!(pod.uid = %uid, error = %ErrorChain(&error),
                            "orphaned pod directory stays"),
                    }
                }
            }
            Err(error) => tracing::error!(error = %ErrorChain(&error), "list pod directories"),
        }
    }

    async fn sweep_cgroups(&self, uids: &BTreeSet<String>) {
        match self.context.cgroups.orphans(uids.clone()).await {
            Ok(orphans) => {
                for orphan in orphans {
                    let name = orphan.to_string();
                    match self.context.cgroups.remove_orphan(orphan).await {
                        Ok(()) => {
                            tracing::info!(cgroup = %name, "removed the cgroup of a pod that is gone");
                        }
                        Err(error) => tracing::error!(cgroup = %name, error = %ErrorChain(&error),
                            "orphaned pod cgroup stays"),
                    }
                }
            }
            Err(error) => tracing::error!(error = %ErrorChain(&error), "list pod cgroups"),
        }
    }
}

/// Log directories of pods that are gone, and links that point nowhere (GC-12).
fn sweep_logs(context: &PodContext, uids: &BTreeSet<String>) {
    let logs = &context.node.logs_directory;
    for entry in std::fs::read_dir(logs)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((key, uid)) = log_paths::parse_pod_directory(&name) else {
            continue;
        };
        if !uids.contains(uid.as_str())
            && let Err(error) = context
                .dirs
                .remove_logs(&key.namespace, &key.name, uid.as_str())
        {
            tracing::error!(error = %ErrorChain(&error), "orphaned log directory stays");
        }
    }
    crate::pod_workers::remove_dangling_links(&context.node.log_links_directory, logs);
}
