//! Volumes of pods: made before the containers, removed after them (kubelet section 6).
//!
//! ```text
//! pod ── plan (pure) ──▶ per volume: set up ──▶ PreparedVolume ──▶ mount_paths (subPath) ──▶ CRI
//! no container left ──▶ teardown: unmount all, then remove content, then the pod directory
//! ```
//!
//! Owner: the pod's worker calls [`Volumes::prepare`] and [`Volumes::teardown`] one after the other
//! for a pod. Nothing is remembered here: what is on disk and in the mount table is the state, so a
//! crash anywhere is resumed by calling again. Served: `emptyDir`, `hostPath`, `image`, and content that the
//! kubelet writes: `downwardAPI`, `projected`, and `configMap` and `secret` where there are such objects.
//!
//! Differs (VOL-32): where the engine does not see the kubelet's mounts, the content of `downwardAPI` and
//! `projected` volumes is on disk; secrets are refused then.
//!
//! Differs (VOL-60): where the engine does not see the kubelet's mounts ([`Visibility::Private`]), a
//! `subPath` is passed as the path it resolved to, without the bind mount that pins it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use daemon::ErrorChain;
use k8s_openapi::api::core::v1::{Container, ImageVolumeSource, Pod, Volume};
use kubelet_core::{
    env::{self, EnvError, EnvFiles},
    ids::PodUid,
    projection::{ContentKind, Objects},
};
use node_os::{mounts::MountError, tree::TreeError};
use tokio_util::sync::CancellationToken;

use crate::pod_dirs::PodDirError;

mod atomic_writer;
mod config;
mod content;
mod empty_dir;
mod host_path;
mod plan;
mod prepared;
mod reach;
mod seen;
mod set_up;
mod sub_path;
mod teardown;

pub(crate) use config::{ImageVolumes, Visibility, VolumesConfig};
use plan::MemoryBounds;
pub(crate) use prepared::{PreparedVolume, VolumeKind};
use reach::{read_in_volume, resolve};
pub(crate) use seen::SeenHostPaths;
pub(crate) use set_up::SetUpFailure;
use set_up::{SetUpError, fs_group, set_up};
use teardown::tear_down;

/// Something about a pod's volumes failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    /// Volumes that could not be set up; each is worth an event. The others are ready.
    #[error("{}", joined(.0))]
    SetUp(Vec<SetUpFailure>),
    /// A mount of a container that cannot be made, in upstream's words (CreateContainerConfigError).
    #[error("{0}")]
    Mount(String),
    /// The mounts cannot be listed, or one cannot be removed: it is in use, by a process that
    /// outlived its container.
    #[error(transparent)]
    Unmount(#[from] MountError),
    /// Something is mounted in the pod's directory that is not ours to unmount. Nothing is deleted.
    #[error("{path} is still mounted: unmount it, then the pod's directory is removed")]
    StillMounted {
        /// The mount point.
        path: PathBuf,
    },
    /// A directory cannot be removed.
    #[error("remove {path}")]
    Remove {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: node_os::tree::TreeError,
    },
    /// A place for a mount cannot be removed.
    #[error("remove {path}")]
    RemovePlace {
        /// The place.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// See there.
    #[error(transparent)]
    Directory(#[from] PodDirError),
}

fn joined(failures: &[SetUpFailure]) -> String {
    failures
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Does work on volumes; where a path of the host is among them it may never come back.
async fn on_disk<T: Send + 'static>(on_host: bool, work: impl FnOnce() -> T + Send + 'static) -> T {
    if on_host {
        daemon::on_own_thread(work).await
    } else {
        daemon::blocking(work).await
    }
}

/// Sets up and removes volumes. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Volumes {
    config: Arc<VolumesConfig>,
}

impl Volumes {
    /// Starts nothing.
    pub(crate) fn new(config: VolumesConfig) -> Self {
        Self {
            config: Arc::new(config),
        }
    }

    /// Sets up the volumes that containers of the pod mount (VOL-02); what is ready is left as it
    /// is, content is brought up to date. `pod_memory_limit_bytes` is the pod's cgroup limit, if it has one (VOL-11).
    ///
    /// # Errors
    /// [`VolumeError::SetUp`] with each volume that failed, after all were tried.
    pub(crate) async fn prepare(
        &self,
        pod: &Pod,
        pod_memory_limit_bytes: Option<u64>,
        objects: &(dyn Objects + Sync),
    ) -> Result<BTreeMap<String, PreparedVolume>, VolumeError> {
        let wanted = plan::mounted(pod);
        self.set_up(pod, wanted, pod_memory_limit_bytes, objects)
            .await
    }

    /// The pod's volumes that are images, mounted or not; none without the gate `ImageVolume` (VOL-34).
    pub(crate) fn images<'a>(
        &self,
        pod: &'a Pod,
    ) -> impl Iterator<Item = (&'a str, &'a ImageVolumeSource)> + use<'a> {
        let enabled = self.config.image_volumes == ImageVolumes::Enabled;
        let spec = pod.spec.as_ref().filter(|_| enabled);
        let volumes = spec.and_then(|spec| spec.volumes.as_deref());
        let images = |volume: &'a Volume| Some((volume.name.as_str(), volume.image.as_ref()?));
        volumes.unwrap_or_default().iter().filter_map(images)
    }

    /// Brings the content of volumes up to date that the kubelet writes (VOL-50); does nothing for a pod without.
    ///
    /// # Errors
    /// As [`Self::prepare`]; the old content stands then.
    pub(crate) async fn refresh(
        &self,
        pod: &Pod,
        pod_memory_limit_bytes: Option<u64>,
        objects: &(dyn Objects + Sync),
    ) -> Result<(), VolumeError> {
        let mut wanted = plan::mounted(pod);
        wanted.retain(|volume| ContentKind::of(volume).is_some());
        self.set_up(pod, wanted, pod_memory_limit_bytes, objects)
            .await
            .map(drop)
    }

    async fn set_up(
        &self,
        pod: &Pod,
        wanted: Vec<&Volume>,
        pod_memory_limit_bytes: Option<u64>,
        objects: &(dyn Objects + Sync),
    ) -> Result<BTreeMap<String, PreparedVolume>, VolumeError> {
        if wanted.is_empty() {
            return Ok(BTreeMap::new());
        }
        let allocatable = &self.config.allocatable;
        let given = plan::Given {
            pod,
            bounds: MemoryBounds {
                allocatable_bytes: u64::try_from(allocatable.memory_bytes).unwrap_or(0),
                pod_limit_bytes: pod_memory_limit_bytes,
            },
            allocatable,
            objects,
            image_volumes: self.config.image_volumes,
        };
        let on_host = wanted.iter().any(|volume| volume.host_path.is_some());
        let plans: Vec<_> = wanted
            .into_iter()
            .map(|volume| (volume.name.clone(), plan::plan(volume, &given)))
            .collect();
        let uid = PodUid::of(pod);
        let fs_group = fs_group(pod);
        let config = Arc::clone(&self.config);
        // Whoever gives up waiting may take the pod down next: nothing more is made for it then.
        let given_up = CancellationToken::new();
        let _waits = given_up.clone().drop_guard();
        let work = move || {
            let mut ready = BTreeMap::new();
            let mut failures = Vec::new();
            for (volume, plan) in plans {
                if given_up.is_cancelled() {
                    break;
                }
                let outcome = plan
                    .map_err(SetUpError::from)
                    .and_then(|plan| set_up(&config, uid.as_str(), &volume, plan, fs_group));
                match outcome {
                    Ok(prepared) => {
                        ready.insert(volume, prepared);
                    }
                    Err(source) => failures.push(SetUpFailure { volume, source }),
                }
            }
            if failures.is_empty() {
                Ok(ready)
            } else {
                Err(VolumeError::SetUp(failures))
            }
        };
        on_disk(on_host, work).await
    }

    /// The files that the container's variables come from (SPEC-33). What is wrong with one is in its place.
    pub(crate) async fn env_files(
        &self,
        container: &Container,
        prepared: &BTreeMap<String, PreparedVolume>,
    ) -> EnvFiles {
        let files: Vec<_> = env::files_of(container)
            .filter_map(|(volume, path)| {
                let found = prepared.get(volume)?.clone();
                Some(((volume.to_owned(), path.to_owned()), found))
            })
            .collect();
        if files.is_empty() {
            return EnvFiles::Read(BTreeMap::new());
        }
        let config = Arc::clone(&self.config);
        daemon::blocking(move || {
            let read = files.into_iter().map(|(place, volume)| {
                let file = read_in_volume(&config, &volume, Path::new(&place.1));
                let file = file.map_err(|error| {
                    tracing::error!(volume = %place.0, path = %place.1, error = %error,
                        "read a file of variables");
                    EnvError::File
                });
                (place, file)
            });
            EnvFiles::Read(read.collect())
        })
        .await
    }

    /// The runtime's path for each of the container's `volumeMounts`, in their order, with `subPath`
    /// and `subPathExpr` found and mounted (VOL-60). `environment` is the container's. Of an image it is the path
    /// inside, or empty.
    ///
    /// # Errors
    /// [`VolumeError::Mount`] with the text for the container's waiting state.
    pub(crate) async fn mount_paths(
        &self,
        pod: &Pod,
        container: &Container,
        prepared: &BTreeMap<String, PreparedVolume>,
        environment: &BTreeMap<String, String>,
    ) -> Result<Vec<PathBuf>, VolumeError> {
        let mut paths = Vec::new();
        for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
            let Some(volume) = prepared.get(&mount.name) else {
                return Err(VolumeError::Mount(format!(
                    "cannot find volume {:?} to mount into container {:?}",
                    mount.name, container.name
                )));
            };
            let requested = sub_path::requested(
                mount.sub_path.as_deref(),
                mount.sub_path_expr.as_deref(),
                environment,
            )
            .map_err(|error| VolumeError::Mount(error.to_string()))?;
            // Of an image the runtime finds the part.
            let is_image = matches!(volume.kind, VolumeKind::Image);
            let requested = match requested {
                Some(requested) if is_image => {
                    paths.push(requested.into());
                    continue;
                }
                Some(requested) => requested,
                None => {
                    paths.push(volume.path.clone());
                    continue;
                }
            };
            let target = self
                .config
                .dirs
                .subpaths(PodUid::of(pod).as_str())
                .join(&mount.name)
                .join(&container.name)
                .join(index.to_string());
            let config = Arc::clone(&self.config);
            let volume = volume.clone();
            let on_host = matches!(volume.kind, VolumeKind::Host);
            let find = move || resolve(&config, &volume, &requested, &target);
            let found = on_disk(on_host, find).await;
            paths.push(found.map_err(|error| {
                tracing::error!(
                    pod.uid = %PodUid::of(pod), container = %container.name,
                    volume = %mount.name, error = %ErrorChain(&error),
                    "subPath cannot be used"
                );
                VolumeError::Mount(error.for_users(&mount.name, &container.name))
            })?);
        }
        Ok(paths)
    }

    /// Unmounts and removes the volumes of a pod that has no container left, from what is on disk.
    /// Content of `emptyDir` is deleted, never through a mount; nothing else is. Done when there is
    /// nothing; resumes after a crash or an error.
    ///
    /// # Errors
    /// When something cannot be unmounted or removed; nothing mounted was deleted then.
    pub(crate) async fn teardown(&self, uid: &str) -> Result<(), VolumeError> {
        let config = Arc::clone(&self.config);
        let uid = uid.to_owned();
        daemon::blocking(move || tear_down(&config, &uid)).await
    }

    /// The uids that have a directory and are not among `known`: pods that are gone. Each is to be
    /// given to [`Self::remove_orphan`] once the runtime has nothing of it.
    pub(crate) async fn orphans(
        &self,
        known: BTreeSet<String>,
    ) -> Result<Vec<String>, VolumeError> {
        let config = Arc::clone(&self.config);
        daemon::blocking(move || {
            let mut uids = config.dirs.pods_on_disk()?;
            uids.retain(|uid| !known.contains(uid));
            Ok(uids)
        })
        .await
    }

    /// Removes volumes and directory of a pod that is gone (VOL-05).
    ///
    /// # Errors
    /// As [`Self::teardown`]; also where a volume of a kind that is not ours still has content.
    pub(crate) async fn remove_orphan(&self, uid: &str) -> Result<(), VolumeError> {
        let config = Arc::clone(&self.config);
        let uid = uid.to_owned();
        daemon::blocking(move || {
            tear_down(&config, &uid)?;
            config.dirs.remove_pod(&uid).map_err(VolumeError::from)
        })
        .await
    }
}

/// The group of a volume that its file system does not take: the pod runs all the same (VOL-63).
fn tell_refusal(refused: Option<&TreeError>) {
    if let Some(error) = refused {
        tracing::error!(error = %ErrorChain(error), "the volume does not belong to the pod's group");
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_content;
