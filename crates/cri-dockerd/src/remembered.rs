//! Sandboxes that the disk knows: so that those which Docker lost are shown, torn down and removed
//! (SBX-62, CKP-10).
//!
//! Read once, before the first call; kept in step by the calls. Two places know of a sandbox: its
//! checkpoint, and, with CNI, the cache of results. Either is enough. A corrupt checkpoint goes, and
//! is written anew from what Docker knows.

use std::collections::BTreeMap;
use std::sync::Mutex;

use daemon::ErrorChain;
use tokio::sync::OnceCell;

use crate::checkpoint::{Checkpoint, CheckpointStore};
use crate::lock::lock;
use crate::network::cni::Cni;

/// What is known of a sandbox without Docker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// The pod's name, if it can be told.
    pub(crate) name: String,
    /// The pod's namespace, likewise.
    pub(crate) namespace: String,
    /// The Docker Engine that it must be on to be ours; `None` for those with a checkpoint.
    pub(crate) engine: Option<String>,
}

impl Known {
    pub(crate) fn of(checkpoint: &Checkpoint) -> Self {
        Self {
            name: checkpoint.name.clone(),
            namespace: checkpoint.namespace.clone(),
            engine: None,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    sandboxes: Mutex<BTreeMap<String, Known>>,
    healed: OnceCell<()>,
}

impl Remembered {
    /// Reads the disk.
    pub(crate) async fn load(checkpoints: &CheckpointStore, cni: &Cni) -> Self {
        let mut sandboxes = BTreeMap::new();
        for remains in cni.remains().await {
            let known = Known {
                name: remains.name,
                namespace: remains.namespace,
                engine: Some(remains.engine),
            };
            sandboxes.insert(remains.id, known);
        }
        let ids = checkpoints.list().await.unwrap_or_else(|error| {
            tracing::warn!(error = %ErrorChain(&error), "can't list checkpoints");
            Vec::new()
        });
        for id in ids {
            match checkpoints.read(&id).await {
                Ok(Some(checkpoint)) => {
                    sandboxes.insert(id, Known::of(&checkpoint));
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(error = %ErrorChain(&error), "unusable checkpoint");
                    if error.is_corrupt() {
                        // Tried again at the next start.
                        drop(checkpoints.remove(&id).await);
                    }
                }
            }
        }
        Self {
            sandboxes: Mutex::new(sandboxes),
            healed: OnceCell::new(),
        }
    }

    pub(crate) fn insert(&self, id: &str, known: Known) {
        lock(&self.sandboxes).insert(id.to_owned(), known);
    }

    pub(crate) fn remove(&self, id: &str) {
        lock(&self.sandboxes).remove(id);
    }

    /// Sandboxes that are on the Docker Engine `engine`, if on any, with their ids; `is_there` tells
    /// which ones it has.
    pub(crate) fn lost(
        &self,
        engine: Option<&str>,
        is_there: impl Fn(&str) -> bool,
    ) -> Vec<(String, Known)> {
        let sandboxes = lock(&self.sandboxes);
        let lost = sandboxes.iter().filter(|(id, known)| {
            let here = known.engine.is_none()
                || (engine == known.engine.as_deref() && known.engine.as_deref() != Some(""));
            here && !is_there(id)
        });
        lost.map(|(id, known)| (id.clone(), known.clone()))
            .collect()
    }

    /// Whether a sandbox has no checkpoint.
    pub(crate) fn lacks_checkpoint(&self, id: &str) -> bool {
        lock(&self.sandboxes)
            .get(id)
            .is_none_or(|known| known.engine.is_some())
    }

    /// Does `heal`, unless that was done before.
    ///
    /// # Errors
    /// As `heal`, which is done again at the next call then.
    pub(crate) async fn heal_once<E, F>(&self, heal: impl FnOnce() -> F) -> Result<(), E>
    where
        F: Future<Output = Result<(), E>>,
    {
        self.healed.get_or_try_init(heal).await.copied()
    }
}
