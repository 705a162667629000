//! The fake's sandboxes, containers and images. No I/O but log files, no waiting.

use std::{collections::BTreeMap, fs, path::PathBuf, time::UNIX_EPOCH};

use cri_api::v1::{self, ContainerEventType, ContainerState, NamespaceMode, PodSandboxState};
use tokio::sync::mpsc;
use tonic::Status;

use super::objects::{FakeContainer, FakeSandbox};

/// Events that a reader may be behind before the stream is cut, as a real runtime would.
const EVENT_QUEUE: usize = 256;

#[derive(Debug)]
pub(super) struct Model {
    counter: u64,
    last_time: i64,
    pub(super) sandboxes: BTreeMap<String, FakeSandbox>,
    pub(super) containers: BTreeMap<String, FakeContainer>,
    /// By name.
    pub(super) images: BTreeMap<String, v1::Image>,
    pub(super) conditions: Vec<v1::RuntimeCondition>,
    pub(super) cgroup_driver: v1::CgroupDriver,
    pub(super) streaming_base: String,
    listeners: Vec<mpsc::Sender<Result<v1::ContainerEventResponse, Status>>>,
}

impl Default for Model {
    fn default() -> Self {
        let condition = |kind: &str| v1::RuntimeCondition {
            r#type: kind.to_owned(),
            status: true,
            ..v1::RuntimeCondition::default()
        };
        Self {
            counter: 0,
            last_time: 0,
            sandboxes: BTreeMap::new(),
            containers: BTreeMap::new(),
            images: BTreeMap::new(),
            conditions: vec![condition("RuntimeReady"), condition("NetworkReady")],
            cgroup_driver: v1::CgroupDriver::Cgroupfs,
            streaming_base: "http://127.0.0.1:1".to_owned(),
            listeners: Vec::new(),
        }
    }
}

impl Model {
    /// 64 hexadecimal digits that sort by age.
    fn id(&mut self, prefix: &str) -> String {
        self.counter += 1;
        format!("{prefix}{:062x}", self.counter)
    }

    /// Now in nanoseconds since the epoch, and later than any time given before.
    pub(super) fn now(&mut self) -> i64 {
        let now = crate::replay::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_nanos();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        self.last_time = now.max(self.last_time + 1);
        self.last_time
    }

    pub(super) fn run_sandbox(
        &mut self,
        request: v1::RunPodSandboxRequest,
    ) -> Result<String, Status> {
        let config = request
            .config
            .ok_or_else(|| Status::invalid_argument("no config"))?;
        if config.metadata.is_none() {
            return Err(Status::invalid_argument("sandbox config has no metadata"));
        }
        let id = self.id("5a");
        let mut sandbox = FakeSandbox {
            id: id.clone(),
            config,
            runtime_handler: request.runtime_handler,
            state: PodSandboxState::SandboxReady,
            created_at: self.now(),
            ip: String::new(),
        };
        let host = i32::from(NamespaceMode::Node);
        if sandbox
            .namespaces()
            .is_none_or(|options| options.network != host)
        {
            sandbox.ip = format!("10.88.{}.{}", self.counter / 250, self.counter % 250 + 1);
        }
        self.sandboxes.insert(id.clone(), sandbox);
        self.tell(&id, &id, ContainerEventType::ContainerCreatedEvent);
        self.tell(&id, &id, ContainerEventType::ContainerStartedEvent);
        Ok(id)
    }

    /// One that is gone or stopped already is fine.
    pub(super) fn stop_sandbox(&mut self, id: &str) {
        let inside: Vec<_> = self
            .inside(id)
            .map(|container| container.id.clone())
            .collect();
        for container in inside {
            self.end(&container, 137, "Error");
        }
        if let Some(sandbox) = self.sandboxes.get_mut(id)
            && sandbox.state == PodSandboxState::SandboxReady
        {
            sandbox.state = PodSandboxState::SandboxNotready;
            sandbox.ip.clear();
            self.tell(id, id, ContainerEventType::ContainerStoppedEvent);
        }
    }

    pub(super) fn remove_sandbox(&mut self, id: &str) {
        self.stop_sandbox(id);
        let inside: Vec<_> = self
            .inside(id)
            .map(|container| container.id.clone())
            .collect();
        for container in inside {
            self.remove_container(&container);
        }
        if self.sandboxes.contains_key(id) {
            self.tell(id, id, ContainerEventType::ContainerDeletedEvent);
            self.sandboxes.remove(id);
        }
    }

    pub(super) fn create_container(
        &mut self,
        request: v1::CreateContainerRequest,
    ) -> Result<String, Status> {
        let sandbox_id = request.pod_sandbox_id;
        let sandbox = self.sandbox(&sandbox_id)?;
        if sandbox.state != PodSandboxState::SandboxReady {
            return Err(Status::failed_precondition(format!(
                "sandbox {sandbox_id} is not ready"
            )));
        }
        let logs = sandbox.config.log_directory.clone();
        let config = request
            .config
            .ok_or_else(|| Status::invalid_argument("no config"))?;
        if config.metadata.is_none() {
            return Err(Status::invalid_argument("container config has no metadata"));
        }
        let twin = self
            .inside(&sandbox_id)
            .any(|known| known.config.metadata == config.metadata);
        if twin {
            return Err(Status::already_exists(format!(
                "name of {:?} is taken",
                config.metadata
            )));
        }
        let wanted = config
            .image
            .as_ref()
            .map(|image| image.image.clone())
            .unwrap_or_default();
        let image = self
            .image(&wanted)
            .ok_or_else(|| Status::not_found(format!("No such image: {wanted}")))?;
        let image_id = image.id.clone();
        let has_log = !logs.is_empty() && !config.log_path.is_empty();
        let log_path = has_log.then(|| PathBuf::from(logs).join(&config.log_path));
        let id = self.id("c0");
        let container = FakeContainer {
            id: id.clone(),
            sandbox_id: sandbox_id.clone(),
            resources: config
                .linux
                .as_ref()
                .and_then(|linux| linux.resources.clone()),
            config,
            image_id,
            state: ContainerState::ContainerCreated,
            created_at: self.now(),
            started_at: 0,
            finished_at: 0,
            exit_code: 0,
            reason: String::new(),
            log_path,
        };
        self.containers.insert(id.clone(), container);
        self.tell(&sandbox_id, &id, ContainerEventType::ContainerCreatedEvent);
        Ok(id)
    }

    pub(super) fn start_container(&mut self, id: &str) -> Result<(), Status> {
        let now = self.now();
        let home = self.container(id)?.sandbox_id.clone();
        let ready = self.sandbox(&home)?.state == PodSandboxState::SandboxReady;
        let container = self.container_mut(id)?;
        if !ready {
            return Err(Status::unknown(format!(
                "cannot join network of a non running container: {home}"
            )));
        }
        if container.state != ContainerState::ContainerCreated {
            return Err(Status::failed_precondition(format!(
                "container {id} was started before"
            )));
        }
        if let Some(path) = &container.log_path {
            let directory = path.parent().unwrap_or(path);
            fs::create_dir_all(directory)
                .and_then(|()| fs::File::options().create(true).append(true).open(path))
                .map_err(|error| Status::unknown(format!("{}: {error}", path.display())))?;
        }
        container.state = ContainerState::ContainerRunning;
        container.started_at = now;
        let sandbox = container.sandbox_id.clone();
        self.tell(&sandbox, id, ContainerEventType::ContainerStartedEvent);
        Ok(())
    }

    /// Ends a running container; `false` when it does not run.
    pub(super) fn end(&mut self, id: &str, exit_code: i32, reason: &str) -> bool {
        let now = self.now();
        let Some(container) = self.containers.get_mut(id) else {
            return false;
        };
        if container.state != ContainerState::ContainerRunning {
            return false;
        }
        container.state = ContainerState::ContainerExited;
        container.finished_at = now;
        container.exit_code = exit_code;
        reason.clone_into(&mut container.reason);
        let sandbox = container.sandbox_id.clone();
        self.tell(&sandbox, id, ContainerEventType::ContainerStoppedEvent);
        true
    }

    /// One that is gone is fine; one that runs is killed first.
    pub(super) fn remove_container(&mut self, id: &str) {
        self.end(id, 137, "Error");
        if let Some(container) = self.containers.remove(id) {
            self.tell(
                &container.sandbox_id,
                id,
                ContainerEventType::ContainerDeletedEvent,
            );
        }
    }

    /// Removes containers that do not run and sandboxes that are not ready.
    pub(super) fn prune(&mut self) {
        let running = v1::ContainerState::ContainerRunning;
        let ended = self.containers.values().filter(|c| c.state != running);
        let ended: Vec<_> = ended.map(|container| container.id.clone()).collect();
        for id in ended {
            self.remove_container(&id);
        }
        let ready = PodSandboxState::SandboxReady;
        let dead = self.sandboxes.values().filter(|s| s.state != ready);
        let dead: Vec<_> = dead.map(|sandbox| sandbox.id.clone()).collect();
        for id in dead {
            self.remove_sandbox(&id);
        }
    }

    /// The engine below has lost a sandbox and what was in it: all that is known of it is that it was there.
    pub(super) fn lose_sandbox(&mut self, id: &str) {
        self.tell(id, id, ContainerEventType::ContainerDeletedEvent);
        self.containers
            .retain(|_, container| container.sandbox_id != id);
        if let Some(sandbox) = self.sandboxes.get_mut(id) {
            sandbox.state = PodSandboxState::SandboxNotready;
            sandbox.ip.clear();
            sandbox.config.labels.clear();
            sandbox.config.annotations.clear();
            if let Some(metadata) = &mut sandbox.config.metadata {
                metadata.uid.clear();
                metadata.attempt = 0;
            }
        }
    }

    pub(super) fn sandbox(&self, id: &str) -> Result<&FakeSandbox, Status> {
        self.sandboxes
            .get(id)
            .ok_or_else(|| Status::not_found(format!("no sandbox {id}")))
    }

    pub(super) fn container(&self, id: &str) -> Result<&FakeContainer, Status> {
        self.containers
            .get(id)
            .ok_or_else(|| Status::not_found(format!("no container {id}")))
    }

    pub(super) fn container_mut(&mut self, id: &str) -> Result<&mut FakeContainer, Status> {
        self.containers
            .get_mut(id)
            .ok_or_else(|| Status::not_found(format!("no container {id}")))
    }

    pub(super) fn running(&self, id: &str) -> Result<&FakeContainer, Status> {
        let container = self.container(id)?;
        if container.state == ContainerState::ContainerRunning {
            Ok(container)
        } else {
            Err(Status::failed_precondition(format!(
                "container {id} is not running"
            )))
        }
    }

    pub(super) fn newest_container(&self, name: &str) -> Option<&FakeContainer> {
        self.containers
            .values()
            .rev()
            .find(|container| container.name() == name)
    }

    pub(super) fn inside(&self, sandbox: &str) -> impl Iterator<Item = &FakeContainer> {
        self.containers
            .values()
            .filter(move |container| container.sandbox_id == sandbox)
    }

    /// By name, digest or id.
    pub(super) fn image(&self, wanted: &str) -> Option<&v1::Image> {
        self.images.values().find(|image| {
            image.id == wanted
                || image
                    .repo_tags
                    .iter()
                    .chain(&image.repo_digests)
                    .any(|name| name == wanted)
        })
    }

    pub(super) fn add_image(&mut self, name: &str) -> String {
        if let Some(known) = self.image(name) {
            return known.id.clone();
        }
        self.counter += 1;
        let digest = format!("sha256:{:064x}", self.counter);
        let mut image = v1::Image {
            id: digest.clone(),
            size: 1 << 20,
            ..v1::Image::default()
        };
        if name.contains('@') {
            image.repo_digests.push(name.to_owned());
        } else {
            image.repo_tags.push(name.to_owned());
            let repository = name
                .rsplit_once(':')
                .map_or(name, |(repository, _)| repository);
            image.repo_digests.push(format!("{repository}@{digest}"));
        }
        self.images.insert(name.to_owned(), image);
        digest
    }

    pub(super) fn remove_image(&mut self, wanted: &str) {
        if let Some(id) = self.image(wanted).map(|image| image.id.clone()) {
            self.images.retain(|_, image| image.id != id);
        }
    }

    pub(super) fn listen(&mut self) -> mpsc::Receiver<Result<v1::ContainerEventResponse, Status>> {
        let (sender, receiver) = mpsc::channel(EVENT_QUEUE);
        self.listeners.push(sender);
        receiver
    }

    /// Ends all event streams.
    pub(super) fn drop_listeners(&mut self) {
        self.listeners.clear();
    }

    /// Tells the listeners of a change of a container, or of a sandbox (whose event carries its own
    /// id).
    fn tell(&mut self, sandbox: &str, container: &str, kind: ContainerEventType) {
        let event = v1::ContainerEventResponse {
            container_id: container.to_owned(),
            container_event_type: kind.into(),
            created_at: self.now(),
            pod_sandbox_status: self.sandboxes.get(sandbox).map(FakeSandbox::status),
            containers_statuses: self.inside(sandbox).map(FakeContainer::status).collect(),
        };
        // A listener that does not keep up loses its stream and has to look for itself.
        self.listeners
            .retain(|listener| listener.try_send(Ok(event.clone())).is_ok());
    }
}
