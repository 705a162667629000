//! Volumes of a pod that starts or runs, and the objects that content and variables come from (kubelet CTR-01,
//! VOL-01, VOL-34, VOL-50).

use std::collections::BTreeMap;

use cri_api::v1;
use k8s_openapi::api::core::v1::{Container, Pod};
use kubelet_core::{env::EnvObjects, projection, resources::pod_cgroup_values};

use super::{PodWorker, exits::Failure, start::not_started::NotStarted};
use crate::{
    control_plane::ControlPlane,
    events::EventType,
    volumes::{PreparedVolume, VolumeError, VolumeKind},
};

/// What has to stand before anything of the pod is started.
pub(super) type Prepared = BTreeMap<String, PreparedVolume>;

/// Images that a container mounts, by volume.
pub(super) type VolumeImages = BTreeMap<String, v1::ImageSpec>;

impl PodWorker {
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
    pub(super) fn mount_failed(&self, pod: &Pod, error: VolumeError) -> Failure {
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
    pub(super) fn memory_limit(&self, pod: &Pod) -> Option<u64> {
        let values = pod_cgroup_values(pod, &self.context.node.pod_cgroups);
        values
            .memory_max_bytes
            .and_then(|bytes| u64::try_from(bytes).ok())
    }

    /// The images that the container mounts, by volume (VOL-34).
    pub(super) async fn volume_images(
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
                    NotStarted::no_image(error)
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

    pub(super) fn objects(&self) -> Objects<'_> {
        Objects {
            control_plane: self.context.control_plane.as_ref(),
            namespace: &self.key.namespace,
        }
    }
}

/// ConfigMaps and Secrets of one namespace, where the control plane has any.
pub(super) struct Objects<'a> {
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

/// Values that are no text cannot be variables.
fn texts(data: BTreeMap<String, Vec<u8>>) -> BTreeMap<String, String> {
    data.into_iter()
        .filter_map(|(key, value)| Some((key, String::from_utf8(value).ok()?)))
        .collect()
}
