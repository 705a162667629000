//! Sandboxes that Docker lost, or lost the checkpoint of (SBX-62, CKP-10).

use cri_api::v1;
use daemon::ErrorChain;

use crate::checkpoint::Checkpoint;
use crate::hub::HubError;
use crate::remembered::Known;
use crate::runtime::Runtime;
use crate::state::{self, Record};

impl Runtime {
    /// What the disk knows and Docker does not, as stopped sandboxes: the kubelet then has them
    /// removed.
    pub(super) async fn orphans(&self) -> Vec<v1::PodSandbox> {
        let heal = self.remembered.heal_once(|| self.heal_checkpoints());
        // Docker has gone meanwhile: at the next list then.
        drop(heal.await);
        let facts = self.hub.known_facts();
        let engine = facts.as_ref().map(|facts| facts.info.id.as_str());
        let lost = self
            .remembered
            .lost(engine, |id| self.hub.known(id).is_some());
        lost.into_iter()
            .map(|(id, known)| v1::PodSandbox {
                id,
                metadata: Some(v1::PodSandboxMetadata {
                    name: known.name,
                    namespace: known.namespace,
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
    async fn heal_checkpoints(&self) -> Result<(), HubError> {
        let is_sandbox = |record: &Record| state::matches_sandbox(record, None);
        for record in self.hub.list(is_sandbox).await? {
            let lacks = self.remembered.lacks_checkpoint(&record.id);
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
