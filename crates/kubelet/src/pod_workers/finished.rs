//! Pods that have ended for good: a record beside the pod's files, and what they held given back.
//!
//! Upstream knows a finished pod by its dead containers and runs it again when somebody removed these
//! (`docker system prune`). The record, `<root>/pods/<uid>/finished.json`, lasts as long as the pod's
//! manifest: it goes with the pod's directory (LIFE-37).
//!
//! Differs (STAT-20): a finished pod keeps its addresses over a restart of the kubelet; upstream's are lost.

use std::path::PathBuf;

use daemon::{
    ErrorChain,
    versioned::{self, Versioned},
};
use k8s_openapi::api::core::v1::PodStatus;
use kubelet_core::{ids::PodUid, observed::ObservedPod, spec};
use serde::{Deserialize, Serialize};

use super::{PodWorker, exits::Failure};
use crate::pod_dirs::PodDirs;

const FILE: &str = "finished.json";

/// How a pod ended.
#[derive(Debug, Serialize, Deserialize)]
struct Finished {
    status: PodStatus,
}

impl Versioned for Finished {
    const VERSION: u32 = 1;
}

/// What has been done about a pod's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum End {
    /// Nobody has looked for a record yet.
    #[default]
    Unknown,
    /// The pod is under way.
    Open,
    /// It has ended, which is on record; what it held is still to be given back.
    Recorded,
    /// What it held has been given back.
    Settled,
}

/// Whether the end of a pod is on record: it holds nothing any more.
pub(crate) async fn is_on_record(dirs: &PodDirs, uid: &PodUid) -> bool {
    let path = record_path(dirs, uid);
    daemon::blocking(move || path.exists()).await
}

fn record_path(dirs: &PodDirs, uid: &PodUid) -> PathBuf {
    dirs.pod(uid.as_str()).join(FILE)
}

impl PodWorker {
    /// Remembers a pod that ended under an earlier process.
    pub(super) async fn recall(&mut self) {
        if self.end != End::Unknown {
            return;
        }
        self.end = End::Open;
        let path = record_path(&self.context.dirs, &self.uid);
        match daemon::blocking(move || versioned::read::<Finished>(&path)).await {
            Ok(None) => {}
            Ok(Some(record)) => {
                tracing::info!(phase = record.status.phase, "the pod has ended before");
                self.context.statuses.set_status(&self.uid, &record.status);
                self.status = Some(record.status);
                self.end = End::Recorded;
            }
            // Then the runtime's containers have to tell.
            Err(error) => tracing::warn!(error = %ErrorChain(&error), "read how the pod ended"),
        }
    }

    /// Whether the pod has ended for good, whatever the runtime has of it.
    pub(super) fn is_finished(&self) -> bool {
        let phase = self
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        spec::is_terminal_phase(phase)
    }

    /// Writes down how the pod ended before anybody is shown: from then on nothing of it starts again,
    /// however long it takes to stop what is left, and whatever is removed meanwhile. What is shown after that of its
    /// containers' ends is written down too.
    pub(super) async fn record_end(&mut self, status: &PodStatus) {
        let news = match self.end {
            End::Open => true,
            End::Recorded => self.status.as_ref() != Some(status),
            End::Unknown | End::Settled => false,
        };
        if news && spec::is_terminal_phase(status.phase.as_deref()) {
            self.write_record(status).await;
            self.end = End::Recorded;
        }
    }

    async fn write_record(&self, status: &PodStatus) {
        let (dirs, uid, path) = (
            self.context.dirs.clone(),
            self.uid.clone(),
            record_path(&self.context.dirs, &self.uid),
        );
        let record = Finished {
            status: status.clone(),
        };
        let written = daemon::blocking(move || {
            dirs.ensure_pod(uid.as_str()).map_err(Failure::from)?;
            Ok::<_, Failure>(versioned::write(&path, &record, 0o600))
        });
        // The runtime's containers still tell, until somebody removes them.
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = %ErrorChain(&error), "record how the pod ended");
            }
            Err(error) => {
                tracing::warn!(error = %ErrorChain(&error), "record how the pod ended");
            }
        }
    }

    /// Gives back what a finished pod held; its logs, dead containers and record stay (LIFE-34).
    pub(super) async fn settle_end(&mut self, observed: &ObservedPod) -> Result<(), Failure> {
        let Some(status) = self.status.clone().filter(|_| self.end != End::Settled) else {
            return Ok(());
        };
        self.stop_dead_sandboxes(observed).await?;
        self.context.volumes.teardown(self.uid.as_str()).await?;
        self.context.cgroups.remove_pod(self.uid.as_str()).await?;
        self.write_record(&status).await;
        self.end = End::Settled;
        Ok(())
    }
}
