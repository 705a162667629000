//! Sandboxes that the disk knows: so that those which Docker lost are shown, torn down and removed
//! (SBX-62, CKP-10).
//!
//! Read once, before the first call; kept in step by the calls. Two places know of a sandbox: its
//! checkpoint, and, with CNI, the cache of results. Either is enough. A corrupt checkpoint goes, and
//! is written anew from what Docker knows.

use std::collections::BTreeMap;
use std::sync::Mutex;

use cri_api::v1;
use daemon::ErrorChain;
use tokio::sync::OnceCell;

use crate::checkpoint::{Checkpoint, CheckpointStore};
use crate::error::Error;
use crate::hub::lock;
use crate::network::cni::Cni;
use crate::runtime::Runtime;
use crate::state::{self, Record};

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
}

impl Runtime {
    /// What the disk knows and Docker does not, as stopped sandboxes: the kubelet then has them
    /// removed.
    pub(super) async fn orphans(&self) -> Vec<v1::PodSandbox> {
        let heal = self
            .remembered
            .healed
            .get_or_try_init(|| self.heal_checkpoints());
        // Docker has gone meanwhile: at the next list then.
        drop(heal.await);
        let engine = self.hub.known_facts().map(|facts| facts.info.id.clone());
        let sandboxes = lock(&self.remembered.sandboxes);
        let lost = sandboxes.iter().filter(|(id, known)| {
            let here = known.engine.is_none()
                || (engine.as_ref() == known.engine.as_ref()
                    && known.engine.as_deref() != Some(""));
            here && self.hub.known(id).is_none()
        });
        lost.map(|(id, known)| v1::PodSandbox {
            id: id.clone(),
            metadata: Some(v1::PodSandboxMetadata {
                name: known.name.clone(),
                namespace: known.namespace.clone(),
                ..Default::default()
            }),
            state: v1::PodSandboxState::SandboxNotready.into(),
            ..Default::default()
        })
        .collect()
    }

    /// Writes the checkpoints that sandboxes lack, from what Docker knows of them.
    ///
    /// # Errors
    /// As [`crate::hub::Hub::list`].
    async fn heal_checkpoints(&self) -> Result<(), Error> {
        let is_sandbox = |record: &Record| state::matches_sandbox(record, None);
        for record in self.hub.list(is_sandbox).await? {
            let lacks = lock(&self.remembered.sandboxes)
                .get(&record.id)
                .is_none_or(|known| known.engine.is_some());
            let Some(facts) = record.sandbox().filter(|_| lacks) else {
                continue;
            };
            let checkpoint = Checkpoint {
                name: record.name.pod.clone(),
                namespace: record.name.namespace.clone(),
                port_mappings: facts.ports.clone(),
                host_network: facts.network == v1::NamespaceMode::Node,
                ..Checkpoint::default()
            }
            .with_network(facts.kind);
            match self.checkpoints.write(&record.id, &checkpoint).await {
                Ok(()) => {
                    tracing::info!(sandbox.id = record.id, "made a lost checkpoint anew");
                    self.remembered.insert(&record.id, Known::of(&checkpoint));
                }
                Err(error) => {
                    let error = ErrorChain(&error);
                    tracing::warn!(sandbox.id = record.id, %error, "can't write a checkpoint");
                }
            }
        }
        Ok(())
    }
}
