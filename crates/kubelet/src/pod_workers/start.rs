//! Making containers (kubelet CTR-05, section 4.4).

pub(super) mod not_started;

use std::net::IpAddr;

use cri_api::v1;
use k8s_openapi::api::core::v1::{Container, Pod};
use kubelet_core::{
    actions::ContainerStart,
    env::{self, EnvFacts, EnvFiles},
    hostname, hosts,
    ids::SandboxId,
    reasons::WaitingReason,
    spec::{self, ContainerKind},
    translate::{
        ContainerInput, MountPath, MountSource, NodeFacts, OwnMounts, TranslateError,
        container_config, stop_signal,
    },
};

use self::not_started::NotStarted;
use super::{
    PodWorker,
    exits::Failure,
    mounts::{Prepared, VolumeImages},
};
use crate::{
    events::EventType,
    images,
    pod_dirs::{PodDirError, io_error},
    runtime::client::CriError,
    volumes::VolumeKind,
};

/// What all containers of a pod start in.
pub(super) struct Place<'a> {
    pub(super) sandbox: &'a SandboxId,
    pub(super) config: &'a v1::PodSandboxConfig,
    pub(super) ips: &'a [IpAddr],
    pub(super) prepared: &'a Prepared,
    pub(super) images: &'a VolumeImages,
}

impl PodWorker {
    /// The pod's cgroup, directories and volumes; nothing is done where they stand.
    pub(super) async fn prepare(&mut self, pod: &Pod) -> Result<Prepared, Failure> {
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
        self.set_up_volumes(pod).await
    }

    /// What the translation needs of the node, with what the runtime said that it can for the pod.
    pub(super) fn facts(&self, pod: &Pod) -> NodeFacts {
        let can = self.context.health.now().features;
        NodeFacts {
            recursive_read_only: self.handler_features(pod).recursive_read_only,
            supplemental_groups_policy: can.supplemental_groups_policy,
            ..self.context.node.facts.clone()
        }
    }

    /// Makes and starts one container.
    pub(super) async fn start_container(
        &self,
        pod: &Pod,
        start: &ContainerStart,
        place: &Place<'_>,
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
        let result = Box::pin(self.try_start(pod, &container, start, place)).await;
        if let Err(failed) = &result {
            let reason = failed.reason.as_str();
            self.context
                .metrics
                .started_containers_errors
                .with_label_values(&[kind, reason])
                .inc();
        }
        result
    }

    async fn try_start(
        &self,
        pod: &Pod,
        container: &Container,
        start: &ContainerStart,
        place: &Place<'_>,
    ) -> Result<(), NotStarted> {
        if let Some(missing) = self.missing_image(pod, container, place.images) {
            return Err(missing);
        }
        let image = self
            .context
            .images
            .ensure(pod, container, place.config)
            .await
            .map_err(NotStarted::no_image)?;
        let config = self
            .container_config(pod, container, start, &image, place)
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
        let create = runtime.create_container(place.sandbox.as_str(), config, place.config.clone());
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
        Box::pin(self.post_start(pod, container, start, &id, place.ips)).await
    }

    async fn container_config(
        &self,
        pod: &Pod,
        container: &Container,
        start: &ContainerStart,
        image: &images::EnsuredImage,
        place: &Place<'_>,
    ) -> Result<v1::ContainerConfig, String> {
        let Place { ips, prepared, .. } = *place;
        let node = &self.context.node;
        let own = node.primary_family().of_pod(ips);
        let addresses: Vec<String> = own.iter().map(ToString::to_string).collect();
        let on_node = spec::is_host_network(pod) && addresses.is_empty();
        let host_ips = self.host_ips(container, on_node).await;
        // Differs: a pod on the host's network is told the node's addresses as its own, as in a
        // cluster; upstream tells it none when it stands alone.
        let facts = EnvFacts {
            pod_ips: if on_node { host_ips.clone() } else { addresses },
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
                    source: match place.images.get(&mount.name) {
                        Some(Ok(image)) => MountSource::Image {
                            image: Box::new(image.clone()),
                            sub_path: path.to_string_lossy().into_owned(),
                        },
                        _ => MountSource::Path(path),
                    },
                    relabel: kind.is_some_and(VolumeKind::is_own),
                    read_only: kind.is_some_and(VolumeKind::is_read_only),
                }
            })
            .collect();
        let image_user = image.user.as_ref().map_err(String::clone)?;
        let facts = self.facts(pod);
        let input = ContainerInput {
            pod,
            container,
            attempt: start.attempt,
            image: &image.id,
            image_user,
            environment: &environment,
            mounts: &mounts,
            own_mounts: &OwnMounts::default(),
            facts: &facts,
        };
        let refused = |error: TranslateError| error.to_string();
        // What is refused is refused again and again: not with a new file each time.
        container_config(&input).map_err(refused)?;
        let own_mounts = &self.own_files(pod, container, ips).await?;
        container_config(&ContainerInput {
            own_mounts,
            ..input
        })
        .map_err(refused)
    }

    /// The node's addresses, where a variable of the container is one of them; those of the pod are where
    /// it is `on_node`.
    async fn host_ips(&self, container: &Container, on_node: bool) -> Vec<String> {
        const FIELDS: [&str; 4] = [
            "status.hostIP",
            "status.hostIPs",
            "status.podIP",
            "status.podIPs",
        ];
        let fields = if on_node { &FIELDS[..] } else { &FIELDS[..2] };
        if !env::asks_for(container, fields) {
            return Vec::new();
        }
        let host_ips = self.context.node.host_ips.clone();
        let found = daemon::blocking(move || host_ips.find()).await;
        found.iter().map(ToString::to_string).collect()
    }

    /// Writes `/etc/hosts`, makes the file for last words and the log directory.
    async fn own_files(
        &self,
        pod: &Pod,
        container: &Container,
        ips: &[IpAddr],
    ) -> Result<OwnMounts, String> {
        let facts = &self.context.node.facts;
        let names = hostname::hostname(pod, &facts.cluster_domain, facts.hostname_override)
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
                    let path = hosts::ETC_HOSTS.as_ref();
                    std::fs::read(path).map_err(io_error("read", path))?
                } else {
                    Vec::new()
                };
                let file = hosts::hosts_file(&pod, &names, &ips, &node_file);
                own.etc_hosts = Some(dirs.write_etc_hosts(uid, &file)?);
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
        let mut failed = NotStarted::made(start, WaitingReason::RunContainerError, message);
        failed.runtime_down = error.is_unavailable();
        failed
    }

    fn failed(
        &self,
        pod: &Pod,
        start: &ContainerStart,
        reason: WaitingReason,
        message: &str,
    ) -> NotStarted {
        self.failed_event(pod, start.name.as_str(), message);
        NotStarted::waiting(reason, message.to_owned())
    }

    pub(super) fn failed_event(&self, pod: &Pod, name: &str, message: &str) {
        let message = format!("Error: {message}");
        self.container_event(pod, name, EventType::Warning, "Failed", &message);
    }
}
