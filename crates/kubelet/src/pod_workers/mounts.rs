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
    images::ImageError,
    volumes::{PreparedVolume, VolumeError},
};

/// What has to stand before anything of the pod is started.
pub(super) type Prepared = BTreeMap<String, PreparedVolume>;

/// The images of a pod's volumes, by volume: there, or why not (VOL-34).
pub(super) type VolumeImages = BTreeMap<String, Result<v1::ImageSpec, ImageError>>;

impl PodWorker {
    /// Sets up the volumes of the pod. A host path that has been looked at is not looked at again (VOL-20):
    /// what has become of it keeps no other container from starting. Source of behaviour: Kubernetes hostPath
    /// plugin, `RequiresRemount`.
    pub(super) async fn set_up_volumes(&mut self, pod: &Pod) -> Result<Prepared, Failure> {
        let limit = self.memory_limit(pod);
        let (volumes, unlooked) = (&self.context.volumes, self.seen_host_paths.untyped(pod));
        let prepared = volumes.prepare(&unlooked, limit, &self.objects()).await;
        match prepared {
            Ok(prepared) => {
                self.seen_host_paths
                    .note(pod, |name| prepared.contains_key(name));
                Ok(prepared)
            }
            Err(error) => {
                if let VolumeError::SetUp(failures) = &error {
                    let failed = |name: &str| failures.iter().any(|failure| failure.volume == name);
                    self.seen_host_paths.note(pod, |name| !failed(name));
                }
                Err(self.mount_failed(pod, error))
            }
        }
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

    /// Sees to the images of all the pod's volumes, whoever mounts them (Kubernetes, `getImageVolumes`). One that
    /// is not there keeps those containers from starting that mount it.
    ///
    /// Differs: this is done before containers start; upstream does it at each of its passes, and pulls anew where the
    /// policy is `Always`.
    pub(super) async fn volume_images(
        &self,
        pod: &Pod,
        sandbox_config: &v1::PodSandboxConfig,
    ) -> VolumeImages {
        let mut images = VolumeImages::new();
        for (volume, source) in self.context.volumes.images(pod) {
            let reference = source.reference.as_deref().unwrap_or_default();
            let policy = source.pull_policy.as_deref();
            let ensured = self
                .context
                .images
                .ensure_volume(pod, reference, policy, sandbox_config)
                .await;
            if let Err(error) = &ensured {
                tracing::error!(volume, image = reference, reason = %error.reason, error = %error,
                    "Failed to ensure image");
            }
            let spec = ensured.map(|ensured| v1::ImageSpec {
                image: ensured.id,
                user_specified_image: ensured.requested,
                annotations: pod.metadata.annotations.clone().unwrap_or_default(),
                ..v1::ImageSpec::default()
            });
            images.insert(volume.to_owned(), spec);
        }
        images
    }

    /// Of the images that the container mounts the last that is not there, with an event for each
    /// (Kubernetes, `toKubeContainerImageVolumes`).
    pub(super) fn missing_image(
        &self,
        pod: &Pod,
        container: &Container,
        images: &VolumeImages,
    ) -> Option<NotStarted> {
        let mut missing = None;
        for mount in container.volume_mounts.iter().flatten() {
            if let Some(Err(error)) = images.get(&mount.name) {
                self.failed_event(pod, &container.name, error.reason.as_str());
                missing = Some(NotStarted::no_image(error.clone()));
            }
        }
        missing
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
