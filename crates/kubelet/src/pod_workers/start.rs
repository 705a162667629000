//! Making sandboxes and containers (kubelet CTR-02, CTR-05, section 4).

use std::{collections::BTreeMap, net::IpAddr};

use cri_api::v1;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use kubelet_core::{
    actions::{ContainerStart, SandboxCreate, SandboxReason, StartFailure},
    backoff::later,
    dns::{self, DnsSettings},
    env::{self, EnvFacts, EnvFiles, EnvObjects},
    hostname, hosts,
    ids::SandboxId,
    observed, projection,
    reasons::WaitingReason,
    resources::pod_cgroup_values,
    spec::{self, ContainerKind},
    translate::{
        ContainerInput, ImageUser, MountPath, MountSource, NodeFacts, OwnMounts, SandboxInput,
        TranslateError, container_config, sandbox_config, stop_signal,
    },
};

use super::{PodWorker, exits::Failure, sync::start_retry};
use crate::{
    control_plane::ControlPlane,
    events::EventType,
    images,
    pod_dirs::PodDirError,
    runtime::client::CriError,
    volumes::{PreparedVolume, VolumeError, VolumeKind},
};

/// What has to stand before anything of the pod is started.
pub(super) type Prepared = BTreeMap<String, PreparedVolume>;
/// A sandbox with its addresses, and what it was made from.
pub(super) type Made = ((SandboxId, Vec<IpAddr>), v1::PodSandboxConfig);

/// Images that a container mounts, by volume.
type VolumeImages = BTreeMap<String, v1::ImageSpec>;

/// No sandbox was made.
pub(super) enum SandboxError {
    /// Something of the node failed.
    Failure(Failure),
    /// The pod's own fault, or the runtime's refusal; told as an event.
    Refused,
}

impl From<Failure> for SandboxError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// A container that did not start.
pub(super) struct NotStarted {
    pub(super) failure: StartFailure,
    /// Nothing is wrong with the container: the runtime is not there.
    pub(super) runtime_down: bool,
}

impl PodWorker {
    /// The pod's cgroup, directories and volumes; nothing is done where they stand.
    pub(super) async fn prepare(&self, pod: &Pod) -> Result<Prepared, Failure> {
        self.context.cgroups.ensure_pod(pod).await?;
        let (dirs, key, uid) = (
            self.context.dirs.clone(),
            self.key.clone(),
            self.uid.clone(),
        );
        daemon::blocking(move || -> Result<(), PodDirError> {
            dirs.ensure_pod(uid.as_str())?;
            dirs.ensure_log_dirs(&key.namespace, &key.name, uid.as_str(), None)
                .map(drop)
        })
        .await?;
        let limit = self.memory_limit(pod);
        let prepared = self
            .context
            .volumes
            .prepare(pod, limit, &self.objects())
            .await;
        prepared.map_err(|error| self.mount_failed(pod, error))
    }

    /// Brings volumes up to date whose content is the kubelet's (VOL-50).
    pub(super) async fn refresh_volumes(&self, pod: &Pod) -> Result<(), Failure> {
        let limit = self.memory_limit(pod);
        let refreshed = self
            .context
            .volumes
            .refresh(pod, limit, &self.objects())
            .await;
        refreshed.map_err(|error| self.mount_failed(pod, error))
    }

    /// One event for each volume that is not ready.
    fn mount_failed(&self, pod: &Pod, error: VolumeError) -> Failure {
        if let VolumeError::SetUp(failures) = &error {
            for failure in failures {
                self.event(pod, EventType::Warning, "FailedMount", &failure.to_string());
            }
        } else {
            let text = daemon::ErrorChain(&error).to_string();
            self.event(pod, EventType::Warning, "FailedMount", &text);
        }
        error.into()
    }

    /// What the pod's group may use, in bytes, if that is limited.
    fn memory_limit(&self, pod: &Pod) -> Option<u64> {
        let values = pod_cgroup_values(pod, &self.context.node.pod_cgroups);
        values
            .memory_max_bytes
            .and_then(|bytes| u64::try_from(bytes).ok())
    }

    /// What the translation needs of the node, with what the runtime said that it can.
    pub(super) fn facts(&self) -> NodeFacts {
        let can = self.context.health.now().features;
        NodeFacts {
            recursive_read_only: can.recursive_read_only,
            supplemental_groups_policy: can.supplemental_groups_policy,
            ..self.context.node.facts.clone()
        }
    }

    /// What the sandbox is made from; warnings of the resolver settings become events.
    pub(super) async fn sandbox_config(
        &self,
        pod: &Pod,
        attempt: u32,
        _prepared: &Prepared,
    ) -> Result<v1::PodSandboxConfig, TranslateError> {
        let node = &self.context.node;
        let resolv_conf = match node.resolv_conf.clone() {
            None => None,
            Some(path) => {
                let text = daemon::blocking(move || std::fs::read_to_string(path)).await;
                Some(dns::parse_resolv_conf(&text.unwrap_or_default()))
            }
        };
        let settings = DnsSettings {
            resolv_conf: resolv_conf.as_ref(),
            cluster_dns: &node.cluster_dns,
            cluster_domain: &node.facts.cluster_domain,
            node_ips: &node.ips,
        };
        let (dns, warnings) = dns::pod_dns(pod, &settings);
        for warning in warnings {
            self.event(
                pod,
                EventType::Warning,
                warning.reason.as_str(),
                &warning.message,
            );
        }
        let cgroup_parent = self.context.cgroups.parent_of(pod).map_err(|error| {
            TranslateError::NotSupported(format!("the cgroup of this pod ({error})"))
        })?;
        sandbox_config(&SandboxInput {
            pod,
            attempt,
            dns: &dns,
            cgroup_parent: &cgroup_parent,
            facts: &self.facts(),
        })
    }

    /// Makes the sandbox and reads its addresses.
    pub(super) async fn create_sandbox(
        &self,
        pod: &Pod,
        create: &SandboxCreate,
        prepared: &Prepared,
    ) -> Result<Made, SandboxError> {
        if create.reason != SandboxReason::Missing {
            let message = "Pod sandbox changed, it will be killed and re-created.";
            self.event(pod, EventType::Normal, "SandboxChanged", message);
        }
        let refused = |message: &str| {
            let message = format!("Failed to create pod sandbox: {message}");
            tracing::error!(error = %message, "CreatePodSandbox for pod failed");
            self.event(pod, EventType::Warning, "FailedCreatePodSandBox", &message);
            SandboxError::Refused
        };
        let config = self
            .sandbox_config(pod, create.attempt, prepared)
            .await
            .map_err(|error| refused(&error.to_string()))?;
        self.context.metrics.started_pods.inc();
        let runtime = &self.context.runtime;
        let id = match runtime.run_pod_sandbox(config.clone(), "").await {
            Ok(id) => id,
            Err(error) if error.is_unavailable() => return Err(Failure::from(error).into()),
            Err(error) => return Err(refused(&error.runtime_message())),
        };
        let answer = runtime
            .pod_sandbox_status(&id)
            .await
            .map_err(Failure::from)?;
        let ips = answer
            .status
            .as_ref()
            .and_then(|status| observed::sandbox_from_status(status).ok())
            .and_then(|sandbox| sandbox.ips)
            .unwrap_or_default();
        tracing::info!(sandbox.id = %id, attempt = create.attempt, ips = ?ips, "sandbox is ready");
        Ok(((SandboxId::from(id), ips), config))
    }

    /// Makes and starts one container.
    pub(super) async fn start_container(
        &self,
        pod: &Pod,
        start: &ContainerStart,
        sandbox: &SandboxId,
        sandbox_config: &v1::PodSandboxConfig,
        ips: &[IpAddr],
        prepared: &Prepared,
    ) -> Result<(), NotStarted> {
        let Some((_, container)) = spec::find_container(pod, &start.name) else {
            return Ok(());
        };
        let kind = match start.kind {
            ContainerKind::Regular => "container",
            ContainerKind::Ephemeral => "ephemeral_container",
            ContainerKind::Init | ContainerKind::Sidecar => "init_container",
        };
        self.context
            .metrics
            .started_containers
            .with_label_values(&[kind])
            .inc();
        let result = Box::pin(self.try_start(
            pod,
            &container,
            start,
            sandbox,
            sandbox_config,
            ips,
            prepared,
        ))
        .await;
        if let Err(failed) = &result {
            let reason = failed.failure.reason.as_str();
            self.context
                .metrics
                .started_containers_errors
                .with_label_values(&[kind, reason])
                .inc();
        }
        result
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one start, each its own thing"
    )]
    async fn try_start(
        &self,
        pod: &Pod,
        container: &Container,
        start: &ContainerStart,
        sandbox: &SandboxId,
        sandbox_config: &v1::PodSandboxConfig,
        ips: &[IpAddr],
        prepared: &Prepared,
    ) -> Result<(), NotStarted> {
        let volume_images = self
            .volume_images(pod, container, sandbox_config, prepared)
            .await?;
        let image = self
            .context
            .images
            .ensure(pod, container, sandbox_config)
            .await
            .map_err(no_image)?;
        let images = (&image, &volume_images);
        let config = self
            .container_config(pod, container, start, images, ips, prepared)
            .await
            .map_err(|message| {
                self.failed(
                    pod,
                    start,
                    WaitingReason::CreateContainerConfigError,
                    &message,
                )
            })?;
        let mut config = config;
        if self.context.node.gates.stop_signals {
            config.stop_signal = stop_signal(container).into();
        }
        let runtime = &self.context.runtime;
        let create = runtime.create_container(sandbox.as_str(), config, sandbox_config.clone());
        let id = Box::pin(create).await.map_err(|error| {
            self.refused(pod, start, WaitingReason::CreateContainerError, &error)
        })?;
        let name = start.name.as_str();
        let created = format!("Created container: {name}");
        self.container_event(pod, name, EventType::Normal, "Created", &created);
        if let Err(error) = runtime.start_container(&id).await {
            return Err(self.not_started(pod, start, &id, &error));
        }
        let started = format!("Started container {name}");
        self.container_event(pod, name, EventType::Normal, "Started", &started);
        tracing::info!(container = name, container.id = %id, attempt = start.attempt,
            reason = ?start.reason, "container is started");
        Box::pin(self.post_start(pod, container, &id, ips)).await
    }

    /// The images that the container mounts, by volume (VOL-34).
    async fn volume_images(
        &self,
        pod: &Pod,
        container: &Container,
        sandbox_config: &v1::PodSandboxConfig,
        prepared: &Prepared,
    ) -> Result<VolumeImages, NotStarted> {
        let mut images = VolumeImages::new();
        for mount in container.volume_mounts.iter().flatten() {
            let Some(VolumeKind::Image {
                reference,
                pull_policy,
            }) = prepared.get(&mount.name).map(|volume| &volume.kind)
            else {
                continue;
            };
            let policy = pull_policy.as_deref();
            let ensured = self
                .context
                .images
                .ensure_volume(pod, reference, policy, sandbox_config)
                .await
                .map_err(|error| {
                    self.failed_event(pod, &container.name, error.reason.as_str());
                    no_image(error)
                })?;
            let spec = v1::ImageSpec {
                image: ensured.id,
                user_specified_image: ensured.requested,
                annotations: pod.metadata.annotations.clone().unwrap_or_default(),
                ..v1::ImageSpec::default()
            };
            images.insert(mount.name.clone(), spec);
        }
        Ok(images)
    }

    async fn container_config(
        &self,
        pod: &Pod,
        container: &Container,
        start: &ContainerStart,
        (image, volume_images): (&images::EnsuredImage, &VolumeImages),
        ips: &[IpAddr],
        prepared: &Prepared,
    ) -> Result<v1::ContainerConfig, String> {
        let node = &self.context.node;
        let addresses: Vec<String> = ips.iter().map(ToString::to_string).collect();
        let host_ips: Vec<String> = node.host_ips.iter().map(ToString::to_string).collect();
        let on_node = spec::is_host_network(pod);
        let facts = EnvFacts {
            pod_ips: if on_node && addresses.is_empty() {
                host_ips.clone()
            } else {
                addresses
            },
            host_ips,
            allocatable: node.allocatable,
            files: if node.env_files {
                self.context.volumes.env_files(container, prepared).await
            } else {
                EnvFiles::Disabled
            },
        };
        let environment = env::environment(pod, container, &facts, &self.objects())
            .map_err(|error| error.to_string())?;
        let paths = self
            .context
            .volumes
            .mount_paths(pod, container, prepared, &environment)
            .await
            .map_err(|error| error.to_string())?;
        let mounts: Vec<MountPath> = container
            .volume_mounts
            .iter()
            .flatten()
            .zip(paths)
            .map(|(mount, path)| {
                let kind = prepared.get(&mount.name).map(|volume| &volume.kind);
                MountPath {
                    source: match volume_images.get(&mount.name) {
                        Some(image) => MountSource::Image {
                            image: Box::new(image.clone()),
                            sub_path: path.to_string_lossy().into_owned(),
                        },
                        None => MountSource::Path(path),
                    },
                    relabel: kind.is_some_and(VolumeKind::is_own),
                    read_only: kind.is_some_and(VolumeKind::is_read_only),
                }
            })
            .collect();
        let own_mounts = self.own_files(pod, container, ips).await?;
        let image_user = match &image.user {
            images::ImageUser::Uid(uid) => ImageUser::Uid(*uid),
            images::ImageUser::Name(name) => ImageUser::Name(name.clone()),
        };
        container_config(&ContainerInput {
            pod,
            container,
            attempt: start.attempt,
            image: &image.id,
            image_user: &image_user,
            environment: &environment,
            mounts: &mounts,
            own_mounts: &own_mounts,
            facts: &self.facts(),
        })
        .map_err(|error| error.to_string())
    }

    fn objects(&self) -> Objects<'_> {
        Objects {
            control_plane: self.context.control_plane.as_ref(),
            namespace: &self.key.namespace,
        }
    }

    /// Writes `/etc/hosts`, makes the file for last words and the log directory.
    async fn own_files(
        &self,
        pod: &Pod,
        container: &Container,
        ips: &[IpAddr],
    ) -> Result<OwnMounts, String> {
        let names = hostname::hostname(pod, &self.context.node.facts.cluster_domain)
            .map_err(|error| error.to_string())?;
        let wants_hosts = hosts::mounts_hosts_file(pod, container, ips);
        let wants_message = container
            .termination_message_path
            .as_ref()
            .is_some_and(|path| !path.is_empty());
        let (dirs, key, uid) = (
            self.context.dirs.clone(),
            self.key.clone(),
            self.uid.clone(),
        );
        let (pod, name, ips) = (pod.clone(), container.name.clone(), ips.to_vec());
        daemon::blocking(move || -> Result<OwnMounts, PodDirError> {
            let uid = uid.as_str();
            dirs.ensure_log_dirs(&key.namespace, &key.name, uid, Some(&name))?;
            let mut own = OwnMounts::default();
            if wants_hosts {
                let node_file = if spec::is_host_network(&pod) {
                    std::fs::read_to_string(hosts::ETC_HOSTS).unwrap_or_default()
                } else {
                    String::new()
                };
                let text = hosts::hosts_file(&pod, &names, &ips, &node_file);
                own.etc_hosts = Some(dirs.write_etc_hosts(uid, &text)?);
            }
            if wants_message {
                own.termination_message = Some(dirs.new_termination_file(uid, &name)?);
            }
            Ok(own)
        })
        .await
        .map_err(|error| daemon::ErrorChain(&error).to_string())
    }

    fn refused(
        &self,
        pod: &Pod,
        start: &ContainerStart,
        reason: WaitingReason,
        error: &CriError,
    ) -> NotStarted {
        let mut failed = self.failed(pod, start, reason, &error.runtime_message());
        failed.runtime_down = error.is_unavailable();
        failed
    }

    /// The container was made and did not start. Its id changes from try to try: the event names
    /// the container instead, so that equal events stay equal (as upstream); the status keeps it.
    fn not_started(
        &self,
        pod: &Pod,
        start: &ContainerStart,
        id: &str,
        error: &CriError,
    ) -> NotStarted {
        let (name, message) = (start.name.as_str(), error.runtime_message());
        self.failed_event(pod, name, &message.replace(id, name));
        NotStarted {
            runtime_down: error.is_unavailable(),
            ..Self::waiting(WaitingReason::RunContainerError, message)
        }
    }

    fn failed(
        &self,
        pod: &Pod,
        start: &ContainerStart,
        reason: WaitingReason,
        message: &str,
    ) -> NotStarted {
        self.failed_event(pod, start.name.as_str(), message);
        Self::waiting(reason, message.to_owned())
    }

    fn failed_event(&self, pod: &Pod, name: &str, message: &str) {
        let message = format!("Error: {message}");
        self.container_event(pod, name, EventType::Warning, "Failed", &message);
    }

    pub(super) fn waiting(reason: WaitingReason, message: String) -> NotStarted {
        NotStarted {
            failure: StartFailure {
                reason,
                message,
                retry_at: Some(retry_at()),
            },
            runtime_down: false,
        }
    }
}

/// ConfigMaps and Secrets of one namespace, where the control plane has any.
struct Objects<'a> {
    control_plane: &'a dyn ControlPlane,
    namespace: &'a str,
}

impl EnvObjects for Objects<'_> {
    fn config_map(&self, name: &str) -> Option<BTreeMap<String, String>> {
        Some(texts(self.control_plane.config_map(self.namespace, name)?))
    }

    fn secret(&self, name: &str) -> Option<BTreeMap<String, String>> {
        Some(texts(self.control_plane.secret(self.namespace, name)?))
    }
}

impl projection::Objects for Objects<'_> {
    fn config_map(&self, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        self.control_plane.config_map(self.namespace, name)
    }

    fn secret(&self, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        self.control_plane.secret(self.namespace, name)
    }
}

/// The container waits for an image.
fn no_image(error: images::ImageError) -> NotStarted {
    NotStarted {
        failure: StartFailure {
            reason: error.reason,
            message: error.message,
            retry_at: error.retry_at.or_else(|| Some(retry_at())),
        },
        runtime_down: false,
    }
}

/// Values that are no text cannot be variables.
fn texts(data: BTreeMap<String, Vec<u8>>) -> BTreeMap<String, String> {
    data.into_iter()
        .filter_map(|(key, value)| Some((key, String::from_utf8(value).ok()?)))
        .collect()
}

fn retry_at() -> Timestamp {
    later(Timestamp::now(), start_retry())
}
