//! Containers: create, start, stop, remove, status, list, update.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cri_api::{Code, RpcError, v1};
use daemon::ErrorChain;
use node_os::cgroups::CgroupError;

use crate::engine::model::CreateContainer;
use crate::error::{Error, not_found, required};
use crate::hub::Operation;
use crate::names::Name;
use crate::runtime::Runtime;
use crate::state::{self, Life, Record};
use crate::translate::container as translate;
use crate::translate::identity::{self, ImageUsers};
use crate::translate::security::{self, AppArmor, Seccomp};
use crate::unified::{self, Files, Written};

/// Larger seccomp profiles are refused; the largest known are some 20 KiB.
const MAX_PROFILE: u64 = 4 << 20;
/// The AppArmor profiles that the kernel holds.
const APPARMOR_PROFILES: &str = "/sys/kernel/security/apparmor/profiles";

impl Runtime {
    /// CreateContainer: one create and one inspect. Runs to its end even if the caller goes away.
    ///
    /// Differs: a sandbox that is not there is NotFound at once (CTR-01); upstream finds out at the start.
    pub(crate) async fn create_container(
        &self,
        request: v1::CreateContainerRequest,
    ) -> Result<String, Error> {
        let Some(mut config) = request.config else {
            return Err(Error::Invalid("container config is nil".to_owned()));
        };
        let metadata = required(config.metadata.clone(), "config.metadata")?;
        let container = metadata.name.as_str();
        let Some(sandbox_config) = request.sandbox_config else {
            let text = format!("sandbox config is nil for container {container:?}");
            return Err(Error::Invalid(text));
        };
        let pod = required(sandbox_config.metadata.clone(), "sandbox_config.metadata")?;
        let name = Name::container(&metadata, &pod)?;
        let engine = self.hub.facts().await?;
        let sandbox = self.hub.find(&request.pod_sandbox_id).await?;
        let Some(sandbox) = sandbox.filter(|record| record.sandbox().is_some()) else {
            return Err(not_found(&request.pod_sandbox_id));
        };

        let mounts = std::mem::take(&mut config.mounts);
        config.mounts = self.on_host(container, mounts).await?;
        let image = config.image.as_ref().map(|image| image.image.as_str());
        let users = image.and_then(|image| self.users.get(image));
        let seccomp_json = self.check_profiles(&config).await?;
        let runtime = if sandbox.runtime == engine.info.default_runtime {
            ""
        } else {
            &sandbox.runtime
        };
        let plan = translate::Plan {
            sandbox_id: &sandbox.id,
            runtime,
            seccomp_json: seccomp_json.as_deref(),
            users: users.as_deref(),
            log_config: &self.settings.log_config,
        };
        let facts = self.translation_facts(&engine)?;
        let body = translate::translate(&config, &sandbox_config, plan, &facts)?;
        let (id, operation) = self.create(&name, &body).await?;
        let context = translate::security_context(&config);
        if !identity::resolve(&context, users.as_deref())?.needs_image {
            operation.finish().await?;
            return Ok(id);
        }
        let again = |users: &ImageUsers| {
            let users = Some(users);
            let plan = translate::Plan { users, ..plan };
            Ok(translate::translate(
                &config,
                &sandbox_config,
                plan,
                &facts,
            )?)
        };
        Box::pin(self.fit_users(id, operation, &name, &body, again)).await
    }

    /// What the image says about users matters and was not known: asks the container that was made,
    /// and makes it again if that changes the request.
    async fn fit_users(
        &self,
        id: String,
        operation: Operation,
        name: &Name,
        body: &CreateContainer,
        again: impl Fn(&ImageUsers) -> Result<CreateContainer, Error>,
    ) -> Result<String, Error> {
        let learned = self.users.learn(&self.engine, &id).await;
        let again = learned
            .map_err(Error::from)
            .and_then(|users| again(&users).map(Box::new));
        if again.as_ref().is_ok_and(|again| **again == *body) {
            operation.finish().await?;
            return Ok(id);
        }
        self.remove(&id).await?;
        operation.removed();
        let (id, operation) = self.create(name, &*again?).await?;
        operation.finish().await?;
        Ok(id)
    }

    /// Mounts with their sources as Docker's host names them (DEC-11).
    async fn on_host(
        &self,
        container: &str,
        mut mounts: Vec<v1::Mount>,
    ) -> Result<Vec<v1::Mount>, Error> {
        let (paths, container) = (Arc::clone(&self.paths), container.to_owned());
        daemon::blocking(move || {
            for mount in &mut mounts {
                // Nothing to translate, and refused in words of its own.
                if mount.host_path.is_empty() {
                    continue;
                }
                let host = paths
                    .to_host(Path::new(&mount.host_path))
                    .map_err(|error| {
                        let at = &mount.container_path;
                        let why = ErrorChain(&error);
                        Error::Invalid(format!("container {container:?}: mount at {at:?}: {why}"))
                    })?;
                mount.host_path = host.to_string_lossy().into_owned();
            }
            Ok(mounts)
        })
        .await
    }

    /// Reads the seccomp profile, if a file is named, and makes sure that a named AppArmor profile
    /// is loaded: Docker would find out at start only (SEC-05, SEC-06).
    async fn check_profiles(&self, config: &v1::ContainerConfig) -> Result<Option<String>, Error> {
        let context = translate::security_context(config);
        if let AppArmor::Profile(name) = security::apparmor(&context) {
            let name = name.to_owned();
            daemon::blocking(move || check_apparmor(&name)).await?;
        }
        let Seccomp::File(path) = security::seccomp(&context) else {
            return Ok(None);
        };
        if !path.starts_with('/') {
            return Err(Error::Invalid(format!(
                "seccomp profile path must be absolute, but got relative path {path:?}"
            )));
        }
        let path = path.to_owned();
        daemon::blocking(move || read_seccomp(&path))
            .await
            .map(Some)
    }

    /// StartContainer: one start and one inspect.
    ///
    /// Differs: files of the container's cgroup that a request names (`unified`, cgroup v2: memory.oom.group,
    /// memory.swap.max, memory.high) are written by cri-dockerd right behind the start, for Docker can't set
    /// them, and a value that the kernel refuses is logged; upstream drops them all, other runtimes set them
    /// before the first process runs and fail the start.
    pub(crate) async fn start_container(&self, id: &str) -> Result<(), Error> {
        let record = self.container(id).await?;
        let id = record.id.as_str();
        if record.life == Life::Created
            && let Some(path) = record.container().map(|facts| facts.log_path.as_str())
            && !path.is_empty()
            && let Err(error) = self.logs.prepare(path).await
        {
            tracing::warn!(container.id = id, path, %error, "can't make the container's log");
        }
        let operation = self.hub.begin(id, Some(id));
        let started = self.engine.start_container(id).await;
        let mut written = Written::Done;
        if started.is_ok() {
            written = self.set_unified(&record).await;
        }
        // Also after a failure: Docker keeps exit code and message of it (CTR-22).
        let looked = operation.finish().await;
        if let Err(source) = started {
            let asked = record.container().map(|facts| &facts.resources);
            self.learns_oom_limit(&source, asked.map_or(0, |asked| asked.oom_score_adj));
            let step = format!("failed to start container {id:?}");
            if source.is_not_found() && matches!(looked, Ok(Some(_))) {
                // A network or a volume of it is: the container itself is there.
                let text = format!("{step}: {}", ErrorChain(&source));
                return Err(RpcError::new(Code::Unknown, text).into());
            }
            return Err(Error::Docker { step, source });
        }
        // By its process now, which was not known before.
        if let Some(seen) = looked?
            && written == Written::OutOfSight
            && seen.life.is_running()
            && self.set_unified(&seen).await == Written::OutOfSight
        {
            self.unified.warn_out_of_sight(id);
        }
        Ok(())
    }

    /// Sets the limits that Docker can't, as asked for at create. What is refused is logged.
    async fn set_unified(&self, record: &Record) -> Written {
        let Some(facts) = record.container() else {
            return Written::Done;
        };
        let written = self.write_unified(record, &facts.unified).await;
        written.unwrap_or(Written::Done)
    }

    async fn write_unified(&self, record: &Record, files: &Files) -> Result<Written, CgroupError> {
        self.unified.write(record, self.driver().await, files).await
    }

    /// StopContainer; an unknown container is a stopped one (CRT-16), and of one that has ended Docker
    /// is asked nothing. A negative grace is none.
    pub(crate) async fn stop_container(&self, id: &str, grace: i64) -> Result<(), Error> {
        let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        let Some(record) = self.container_to_end(id).await? else {
            return Ok(());
        };
        if matches!(record.life, Life::Exited { .. }) && !self.hub.is_doubted(&record.id) {
            return Ok(());
        }
        self.stop(&record.id, grace).await
    }

    /// RemoveContainer, running or not (CTR-27); an unknown container is a removed one (CRT-17).
    pub(crate) async fn remove_container(&self, id: &str) -> Result<(), Error> {
        let Some(record) = self.container_to_end(id).await? else {
            return Ok(());
        };
        let id = &record.id;
        self.remove(id)
            .await
            .map_err(Error::at(format!("failed to remove container {id:?}")))
    }

    /// A container that is to end, if there is one of that id.
    ///
    /// Differs: a sandbox is no container, and stays as it is when StopContainer or RemoveContainer names
    /// it, as with containerd; upstream ends whatever has the id, and leaves the pod's network behind.
    async fn container_to_end(&self, id: &str) -> Result<Option<Arc<Record>>, Error> {
        let record = self.hub.find_to_end(id).await?;
        Ok(record.filter(|record| record.container().is_some()))
    }

    /// UpdateContainerResources (CTR-40).
    pub(crate) async fn update_container(
        &self,
        request: v1::UpdateContainerResourcesRequest,
    ) -> Result<(), Error> {
        let mut limits = required(request.linux, "linux")?;
        unified::check(&limits.unified)?;
        let record = self.container(&request.container_id).await?;
        // What is set stays where this request says nothing of it.
        let mut files = self.unified.current(&record, self.driver().await).await;
        files.append(&mut limits.unified);
        limits.unified = files;
        let id = record.id.as_str();
        let operation = self.hub.begin(id, Some(id));
        let update = crate::translate::update(&limits);
        if let Err(source) = self.engine.update_container(id, &update).await {
            operation.failed(&source).await;
            let step = format!("failed to update container {id:?}");
            return Err(Error::Docker { step, source });
        }
        let written = if record.life.is_running() {
            self.write_unified(&record, &limits.unified).await
        } else {
            Ok(Written::Done)
        };
        operation.finish().await?;
        match written {
            Ok(Written::Done) => {}
            Ok(Written::OutOfSight) => self.unified.warn_out_of_sight(id),
            Err(error) => {
                let text = format!("failed to update container {id:?}: {}", ErrorChain(&error));
                return Err(RpcError::new(Code::Unknown, text).into());
            }
        }
        Ok(())
    }

    /// ContainerStatus, from memory; the image's names may take one call.
    pub(crate) async fn container_status(
        &self,
        request: &v1::ContainerStatusRequest,
    ) -> Result<v1::ContainerStatusResponse, Error> {
        let record = self.container(&request.container_id).await?;
        self.hub.load_image_names(&record.image_id).await;
        Ok(v1::ContainerStatusResponse {
            status: self.hub.container_status(&record),
            info: self.info(&record, request.verbose).await,
        })
    }

    /// ListContainers, from memory.
    pub(crate) async fn list_containers(
        &self,
        mut filter: Option<v1::ContainerFilter>,
    ) -> Result<Vec<v1::Container>, Error> {
        if let Some(filter) = &mut filter {
            self.complete_pod_id(&mut filter.pod_sandbox_id).await?;
        }
        let taken = |record: &Record| state::matches_container(record, filter.as_ref());
        let records = self.hub.list(taken).await?;
        Ok(records
            .iter()
            .filter_map(|record| state::container_item(record))
            .collect())
    }

    /// Makes the beginning of a sandbox's id, as a filter names it, the whole.
    ///
    /// Differs: filters of ListContainers and ListContainerStats may name a pod by the beginning of its
    /// id where that is one pod's alone, as crictl prints it and containerd takes it; for upstream
    /// nothing matches then.
    pub(crate) async fn complete_pod_id(&self, id: &mut String) -> Result<(), Error> {
        if id.is_empty() || id.len() >= state::WHOLE_ID {
            return Ok(());
        }
        let begun = |record: &Record| record.pod_id().starts_with(id.as_str());
        let records = self.hub.list(begun).await?;
        if let Some(whole) = state::only_pod(&records) {
            whole.clone_into(id);
        }
        Ok(())
    }

    /// ReopenContainerLog: the new file is there when it returns (LOG-06).
    pub(crate) async fn reopen_log(&self, id: &str) -> Result<(), Error> {
        let record = self.container(id).await?;
        self.logs.reopen(&record.id).await.map_err(Error::Log)
    }

    /// The record of a container that must be there.
    pub(crate) async fn container(&self, id: &str) -> Result<Arc<Record>, Error> {
        let record = self.hub.find(id).await?;
        record
            .filter(|record| record.container().is_some())
            .ok_or_else(|| not_found(id))
    }
}

fn check_apparmor(name: &str) -> Result<(), Error> {
    let Ok(loaded) = std::fs::read_to_string(APPARMOR_PROFILES) else {
        // Not readable from here: Docker decides at start.
        return Ok(());
    };
    let is_loaded = loaded.lines().any(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(" ("))
    });
    if is_loaded {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "apparmor profile {name:?} is not loaded: load it with apparmor_parser"
    )))
}

/// The profile as compact JSON, as it goes into Docker's security option.
fn read_seccomp(path: &str) -> Result<String, Error> {
    use std::io::Read as _;
    let step = || format!("cannot load seccomp profile {path:?}");
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_PROFILE).read_to_string(&mut text))
        .map_err(|source| Error::File {
            step: step(),
            source,
        })?;
    let profile: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| Error::Invalid(format!("{}: {error}", step())))?;
    Ok(profile.to_string())
}
