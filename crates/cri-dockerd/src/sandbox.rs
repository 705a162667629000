//! Pod sandboxes: RunPodSandbox, StopPodSandbox, RemovePodSandbox, status and list.

mod lost;
mod networking;

use std::path::Path;
use std::time::Duration;

use cri_api::v1;
use futures_util::future::join_all;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::clock::now;
use crate::engine::{Class, EngineError};
use crate::error::{Error, not_found, required};
use crate::hub::EngineFacts;
use crate::names::Name;
use crate::network;
use crate::network_kind::Kind;
use crate::remembered::Known;
use crate::runtime::Runtime;
use crate::state::{self, Record};
use crate::translate::sandbox as translate;

/// Grace of the pause process (SBX-32); it ends at once on SIGTERM.
const STOP_GRACE: Duration = Duration::from_secs(10);

impl Runtime {
    /// RunPodSandbox: create, start, one inspect; with CNI a second one when the plugins are done,
    /// since the sandbox may have died meanwhile. What a failed call created, it removes (SBX-18
    /// BEAT). Runs to its end even if the caller goes away.
    pub(crate) async fn run_pod_sandbox(
        &self,
        request: v1::RunPodSandboxRequest,
    ) -> Result<String, Error> {
        let config = required(request.config, "config")?;
        let metadata = required(config.metadata.clone(), "config.metadata")?;
        let name = Name::sandbox(&metadata)?;
        let pod = metadata.name.as_str();
        let engine = self.hub.facts().await?;
        self.hub.fresh().await?;
        let kind = if translate::on_host_network(&config) {
            Kind::Host
        } else {
            self.networks.choose().map_err(Error::Unavailable)?
        };
        self.images.ensure_sandbox_image().await?;
        let runtime = runtime_of_handler(&request.runtime_handler, &engine)?;
        let plan = translate::Plan {
            image: &self.settings.sandbox_image,
            network_mode: self.networks.docker_mode(kind),
            network: kind.as_str(),
            user_defined: self.networks.user_defined(kind),
            runtime: &runtime,
            handler: &request.runtime_handler,
        };

        // A second round only for a host that turns out to forbid negative OOM scores.
        let mut rounds = 0;
        let (id, operation) = loop {
            rounds += 1;
            let body = translate::translate(&config, plan, &self.translation_facts(&engine)?)?;
            let (id, operation) = self.create(&name, &body).await.map_err(Error::at(format!(
                "failed to create a sandbox for pod {pod:?}"
            )))?;
            // Side by side: the disk may take as long as the start, and a sandbox without its
            // checkpoint is found by its labels.
            let (saved, started) = tokio::join!(
                self.save_checkpoint(&id, &config, kind),
                self.start_sandbox(&id, plan.user_defined)
            );
            let started = match (saved, started) {
                (Ok(()), Ok(())) => Ok(()),
                (_, Err(source)) => {
                    let clamp = rounds == 1
                        && self.learns_oom_limit(&source, body.host_config.oom_score_adj);
                    Err((
                        self.start_failure(pod, &config.port_mappings, source),
                        clamp,
                    ))
                }
                (Err(error), Ok(())) => Err((error, false)),
            };
            match started {
                Ok(()) => break (id, operation),
                Err((error, clamp)) => {
                    let undone = self.undo(&id).await;
                    if undone.is_ok() {
                        operation.removed();
                    }
                    if !clamp || undone.is_err() {
                        return Err(with_clean_up(error, undone));
                    }
                }
            }
        };

        let ready = async {
            let inspect = format!("failed to inspect sandbox container for pod {pod:?}");
            let vanished = || Error::NotFound(format!("sandbox {id} of pod {pod:?} vanished"));
            if kind == Kind::Cni {
                let seen = self.engine.inspect_container(&id).await;
                let seen = seen.map_err(Error::at(inspect.clone()))?;
                let record = Record::from_inspect(&seen).ok_or_else(vanished)?;
                self.write_resolv_conf(&config, &record).await?;
                self.set_up_network(&config, &record, &engine).await?;
            }
            let record = operation.finish().await.map_err(Error::at(inspect))?;
            let record = record.ok_or_else(vanished)?;
            if kind != Kind::Cni && plan.user_defined.is_none() {
                self.write_resolv_conf(&config, &record).await?;
            }
            Ok(())
        };
        match ready.await {
            Ok(()) => {
                let known = Known {
                    name: metadata.name,
                    namespace: metadata.namespace,
                    engine: None,
                };
                self.remembered.insert(&id, known);
                Ok(id)
            }
            Err(error) => {
                let undone = self.undo_set_up(&id, kind, &config).await;
                Err(with_clean_up(error, undone))
            }
        }
    }

    /// Starts a sandbox; the user-defined network that it is on is made when there is none.
    async fn start_sandbox(&self, id: &str, network: Option<&str>) -> Result<(), EngineError> {
        let started = self.engine.start_container(id).await;
        let (Err(error), Some(network)) = (&started, network) else {
            return started;
        };
        let lacks_network =
            error.is_not_found() && error.to_string().contains(&format!("network {network}"));
        if !lacks_network {
            return started;
        }
        match self.engine.create_network(network).await {
            Ok(()) => tracing::info!(network, "made the network of pods"),
            // Another pod's call was first.
            Err(error) if error.class() == Class::Conflict => {}
            Err(error) => return Err(error),
        }
        self.engine.start_container(id).await
    }

    /// What a failed start is to the caller; a host port that is taken is named, and who has it.
    fn start_failure(&self, pod: &str, ports: &[v1::PortMapping], source: EngineError) -> Error {
        let mut step = format!("failed to start sandbox container for pod {pod:?}");
        if let Some(port) = network::host_port_conflict(&source.to_string(), ports) {
            let holder = self.hub.holder_of_port(&port);
            let holder = holder.unwrap_or_else(|| "another process or container".to_owned());
            step = format!("{step}: host port {port} is in use by {holder}");
        }
        Error::Docker { step, source }
    }

    async fn save_checkpoint(
        &self,
        id: &str,
        config: &v1::PodSandboxConfig,
        kind: Kind,
    ) -> Result<(), Error> {
        let metadata = config.metadata.clone().unwrap_or_default();
        let checkpoint = Checkpoint {
            name: metadata.name,
            namespace: metadata.namespace,
            port_mappings: config.port_mappings.iter().map(Into::into).collect(),
            host_network: kind == Kind::Host,
            ..Checkpoint::default()
        };
        self.checkpoints
            .write(id, &checkpoint.with_network(kind))
            .await
            .map_err(Error::Checkpoint)
    }

    /// Forgets a sandbox that is gone.
    async fn remove_checkpoint(&self, id: &str) -> Result<(), Error> {
        self.remembered.remove(id);
        self.networks.forget(id);
        match self.checkpoints.remove(id).await {
            // What can't be a key has no checkpoint.
            Ok(()) | Err(CheckpointError::Key(_)) => Ok(()),
            Err(error) => Err(Error::Checkpoint(error)),
        }
    }

    async fn undo(&self, id: &str) -> Result<(), Error> {
        let removed = self.remove(id).await.map_err(Error::at(format!(
            "failed to remove sandbox container {id:?}"
        )));
        let forgotten = self.remove_checkpoint(id).await;
        Error::several(
            [removed, forgotten]
                .into_iter()
                .filter_map(Result::err)
                .collect(),
        )
    }

    /// Puts the pod's DNS settings into the file that all its containers share, keeping its inode
    /// because it is bind-mounted (SBX-12).
    async fn write_resolv_conf(
        &self,
        config: &v1::PodSandboxConfig,
        record: &Record,
    ) -> Result<(), Error> {
        let Some(content) = translate::resolv_conf(config) else {
            return Ok(());
        };
        let Some(facts) = record
            .sandbox()
            .filter(|facts| !facts.resolv_conf.is_empty())
        else {
            tracing::warn!(
                sandbox.id = record.id,
                "docker names no resolv.conf for the sandbox"
            );
            return Ok(());
        };
        let file = Path::new(&facts.resolv_conf);
        let Some(path) = self.paths.from_host(file) else {
            return Err(Error::Invalid(format!(
                "cannot write the DNS settings of pod {:?}: {} cannot be seen from this container: \
                 mount docker's data directory at the same path",
                record.name.pod,
                file.display()
            )));
        };
        daemon::blocking(move || {
            use std::io::Write as _;
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .truncate(true)
                .open(&path)?;
            file.write_all(content.as_bytes())
        })
        .await
        .map_err(|source| {
            let pod = &record.name.pod;
            Error::File {
                step: format!("rewrite resolv.conf failed for pod {pod:?}"),
                source,
            }
        })
    }

    /// StopPodSandbox: workload killed (SBX-33 BEAT), network down while the sandbox still has its
    /// namespace, pause stopped. Idempotent; an unknown sandbox is a stopped one.
    ///
    /// Differs: a container is no sandbox, and stays as it is when StopPodSandbox or RemovePodSandbox names
    /// it, as with containerd; upstream ends whatever has the id.
    pub(crate) async fn stop_pod_sandbox(&self, id: &str) -> Result<(), Error> {
        let Some(record) = self.hub.find_to_end(id).await? else {
            return self.forget_lost(id).await;
        };
        if record.sandbox().is_none() {
            return Ok(());
        }
        let id = record.id.as_str();
        let mut errors = Vec::new();
        let containers = self.hub.containers_of(id);
        let running = containers
            .iter()
            .filter(|record| record.life.is_running() || self.hub.is_doubted(&record.id));
        let stops = running.map(|container| self.stop(&container.id, Duration::ZERO));
        errors.extend(join_all(stops).await.into_iter().filter_map(Result::err));
        errors.extend(self.tear_down_network(&record).await.err());
        if (record.life.is_running() || self.hub.is_doubted(id))
            && let Err(error) = self.stop(id, STOP_GRACE).await
        {
            errors.push(error);
        }
        Error::several(errors)
    }

    /// RemovePodSandbox: its containers, its network if that still stands (SBX-40 BEAT), itself, its
    /// checkpoint. Idempotent.
    ///
    /// Differs: while one of its containers cannot be removed the sandbox stays, and is there to be
    /// removed again (SBX-40); upstream goes on.
    pub(crate) async fn remove_pod_sandbox(&self, id: &str) -> Result<(), Error> {
        let Some(record) = self.hub.find_to_end(id).await? else {
            return self.forget_lost(id).await;
        };
        if record.sandbox().is_none() {
            return Ok(());
        }
        let id = record.id.as_str();
        let containers = self.hub.containers_of(id);
        let removals = containers
            .iter()
            .map(|container| self.remove(&container.id));
        let failed = join_all(removals).await.into_iter().filter_map(Result::err);
        let mut errors: Vec<Error> = failed.map(Error::from).collect();
        if record
            .sandbox()
            .is_some_and(|facts| facts.kind == Kind::Cni)
            && self.networks.is_attached(Kind::Cni, id).await
        {
            errors.extend(self.tear_down_network(&record).await.err());
        }
        if errors.is_empty() {
            match self.remove(id).await {
                Ok(()) => errors.extend(self.remove_checkpoint(id).await.err()),
                Err(error) => errors.push(error.into()),
            }
        }
        Error::several(errors)
    }

    /// PodSandboxStatus, from memory.
    pub(crate) async fn pod_sandbox_status(
        &self,
        request: &v1::PodSandboxStatusRequest,
    ) -> Result<v1::PodSandboxStatusResponse, Error> {
        // Before the first look: what happens from now on may be missing, and kubelets take nothing
        // older than this time for new (Kubernetes `GenericPLEG`, `updateCache`).
        let timestamp = now();
        let record = self.hub.find(&request.pod_sandbox_id).await?;
        let status = record
            .as_ref()
            .and_then(|record| state::sandbox_status(record));
        let (Some(record), Some(status)) = (record, status) else {
            return Err(not_found(&request.pod_sandbox_id));
        };
        let mut containers = Vec::new();
        for container in self.hub.containers_of(&record.id) {
            // What Docker can't tell of is left out; the pod is told of all the same.
            if self.hub.certain(&container.id).await.is_ok() {
                self.hub.load_image_names(&container.image_id).await;
                containers.extend(self.hub.known(&container.id));
            }
        }
        Ok(v1::PodSandboxStatusResponse {
            status: Some(status),
            info: self.info(&record, request.verbose).await,
            containers_statuses: containers
                .iter()
                .filter_map(|container| self.hub.container_status(container))
                .collect(),
            timestamp,
        })
    }

    /// ListPodSandbox, from memory.
    pub(crate) async fn list_pod_sandbox(
        &self,
        filter: Option<v1::PodSandboxFilter>,
    ) -> Result<Vec<v1::PodSandbox>, Error> {
        let taken = |record: &Record| state::matches_sandbox(record, filter.as_ref());
        let records = self.hub.list(taken).await?;
        let mut items: Vec<_> = records.iter().map(|r| state::sandbox_item(r)).collect();
        if filter.is_none() {
            items.extend(self.orphans().await);
        }
        Ok(items)
    }

    /// Stops one container of either kind; gone already is fine.
    pub(crate) async fn stop(&self, id: &str, grace: Duration) -> Result<(), Error> {
        let operation = self.hub.begin(id, Some(id));
        self.hub.kills(id);
        match self.engine.stop_container(id, grace).await {
            Ok(()) => {}
            Err(error) if error.is_not_found() => {
                operation.removed();
                return Ok(());
            }
            Err(source) => {
                operation.failed(&source).await;
                let step = format!("failed to stop container {id:?}");
                return Err(Error::Docker { step, source });
            }
        }
        match operation.finish().await {
            // It is stopped, by Docker's word, whatever else can't be told of it now.
            Err(error) if !error.is_lost() => Ok(()),
            ended => Ok(ended.map(drop)?),
        }
    }
}

/// Docker's runtime for a CRI handler. Differs: upstream knows only the default (SBX-03, CMP-13).
pub(crate) fn runtime_of_handler(handler: &str, engine: &EngineFacts) -> Result<String, Error> {
    match handler {
        "" | "docker" => Ok(String::new()),
        name if engine.info.runtimes.0.contains(name) => Ok(name.to_owned()),
        name => Err(Error::Invalid(format!(
            "RuntimeHandler {name:?} not supported"
        ))),
    }
}

/// The first error, and the failures of cleaning up behind it.
fn with_clean_up(error: Error, undone: Result<(), Error>) -> Error {
    match undone {
        Ok(()) => error,
        Err(second) => Error::Several(vec![error, second]),
    }
}
