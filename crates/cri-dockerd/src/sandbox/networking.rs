//! The network of a sandbox: set up after the start, torn down with the record of it, or with what
//! is left of that.

use cri_api::v1;
use daemon::ErrorChain;

use super::STOP_GRACE;
use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::hub::EngineFacts;
use crate::network::cni::Pod;
use crate::network_kind::Kind;
use crate::runtime::Runtime;
use crate::state::Record;
use crate::translate::sysctls;

impl Runtime {
    /// Has plugins attach a sandbox that has just been started.
    pub(super) async fn set_up_network(
        &self,
        config: &v1::PodSandboxConfig,
        record: &Record,
        engine: &EngineFacts,
    ) -> Result<(), Error> {
        let pod = pod_of_request(&record.id, config);
        let engine = engine.info.id.as_str();
        let done = self.networks.set_up(Kind::Cni, &pod, record.pid(), engine);
        done.await.map_err(|source| Error::Network {
            step: format!(
                "failed to set up sandbox container {:?} network for pod {:?}",
                pod.id, pod.name
            ),
            source: Box::new(source),
        })
    }

    /// Undoes a sandbox whose set-up failed after its start (SBX-16). Differs: it is removed, unless
    /// its network could not be torn down; then it stays, stopped, for the kubelet to try again.
    pub(super) async fn undo_set_up(
        &self,
        id: &str,
        kind: Kind,
        config: &v1::PodSandboxConfig,
    ) -> Result<(), Error> {
        let pod = pod_of_request(id, config);
        let seen = match kind {
            // The process is still there unless the sandbox died by itself.
            Kind::Cni => self.engine.inspect_container(id).await.ok(),
            Kind::Host | Kind::Bridge => None,
        };
        let pid = seen.map(|seen| seen.state.pid);
        let Err(source) = self.networks.tear_down(kind, &pod, pid).await else {
            return self.undo(id).await;
        };
        let torn = Error::Network {
            step: format!(
                "failed to clean up sandbox container {id:?} network for pod {:?}",
                pod.name
            ),
            source: Box::new(source),
        };
        let stopped = self.stop(id, STOP_GRACE).await;
        Error::several([Some(torn), stopped.err()].into_iter().flatten().collect())
    }

    /// Takes down the network of a sandbox that Docker knows.
    pub(super) async fn tear_down_network(&self, record: &Record) -> Result<(), Error> {
        let Some(facts) = record.sandbox() else {
            return Ok(());
        };
        let pod = Pod {
            id: record.id.clone(),
            name: record.name.pod.clone(),
            namespace: record.name.namespace.clone(),
            uid: record.name.uid.clone(),
            ports: facts.ports.clone(),
            ..Pod::default()
        };
        let done = self.networks.tear_down(facts.kind, &pod, record.pid());
        done.await.map_err(|error| Error::Plugin(Box::new(error)))
    }

    /// Takes down and forgets a sandbox that Docker does not know, with what the disk says of it:
    /// a checkpoint, a cached result, or nothing but its id (SBX-30).
    pub(super) async fn forget_lost(&self, id: &str) -> Result<(), Error> {
        let checkpoint = match self.checkpoints.read(id).await {
            Ok(checkpoint) => checkpoint,
            // Corrupt ones go (CKP-08), and what can't be a key has none.
            Err(error) => {
                tracing::debug!(sandbox.id = id, error = %ErrorChain(&error), "no checkpoint");
                None
            }
        };
        let kind = checkpoint.as_ref().and_then(Checkpoint::network);
        let kind = kind.unwrap_or(Kind::Cni);
        // Ids of Docker's are hexadecimal; what else is asked for was never a sandbox.
        let is_id = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
        if is_id {
            let has_left = checkpoint.is_some() || self.networks.is_attached(kind, id).await;
            let checkpoint = checkpoint.unwrap_or_default();
            let pod = Pod {
                id: id.to_owned(),
                name: checkpoint.name,
                namespace: checkpoint.namespace,
                ports: checkpoint.port_mappings,
                ..Pod::default()
            };
            match self.networks.tear_down(kind, &pod, None).await {
                Ok(()) => {}
                Err(error) if has_left => return Err(Error::Plugin(Box::new(error))),
                Err(error) => {
                    let error = ErrorChain(&error);
                    tracing::debug!(sandbox.id = id, %error, "an unknown sandbox has no network");
                }
            }
        }
        self.remove_checkpoint(id).await
    }
}

fn pod_of_request(id: &str, config: &v1::PodSandboxConfig) -> Pod {
    let metadata = config.metadata.clone().unwrap_or_default();
    let linux = config.linux.clone().unwrap_or_default();
    Pod {
        id: id.to_owned(),
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        ports: config.port_mappings.iter().map(Into::into).collect(),
        annotations: config.annotations.clone(),
        dns: config.dns_config.clone(),
        sysctls: sysctls::split(linux.sysctls).0,
    }
}
