//! Volumes of pods: made before the containers, removed after them (kubelet section 6).
//!
//! ```text
//! pod ── plan (pure) ──▶ per volume: set up ──▶ PreparedVolume ──▶ mount_paths (subPath) ──▶ CRI
//! no container left ──▶ teardown: unmount all, then remove content, then the pod directory
//! ```
//!
//! Owner: the pod's worker calls [`Volumes::prepare`] and [`Volumes::teardown`] one after the other
//! for a pod. Nothing is remembered here: what is on disk and in the mount table is the state, so a
//! crash anywhere is resumed by calling again. Served: `emptyDir` and `hostPath`.
//!
//! Differs (VOL-60): where the engine does not see the kubelet's mounts ([`Visibility::Private`]), a
//! `subPath` is passed as the path it resolved to, without the bind mount that pins it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use daemon::ErrorChain;
use k8s_openapi::api::core::v1::{Container, Pod};
use kubelet_core::ids::PodUid;
use node_os::{
    beneath::Beneath,
    host_view::HostView,
    mounts::{MountError, Mounts, Swap, Unmount},
};

use crate::pod_dirs::{self, PodDirError, PodDirs};

mod empty_dir;
mod host_path;
mod plan;
mod sub_path;

use plan::{MemoryBounds, VolumePlan};

/// Whether mounts that the kubelet makes are seen by the container engine (DEC-12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visibility {
    /// The kubelet is on the host, or its root directory is shared with it.
    Shared,
    /// The kubelet is in a container whose mounts stay its own.
    Private,
}

/// What [`Volumes`] is told about the node.
#[derive(Debug)]
pub(crate) struct VolumesConfig {
    /// Directories of the pods.
    pub(crate) dirs: PodDirs,
    /// Our view of the host's files (DEC-11, DEC-13).
    pub(crate) host: HostView,
    /// Who sees our mounts.
    pub(crate) visibility: Visibility,
    /// The kernel's mounts.
    pub(crate) mounts: Arc<dyn Mounts>,
    /// Memory that the node has for pods, in bytes (VOL-11).
    pub(crate) allocatable_memory_bytes: u64,
    /// Whether the pages of a tmpfs can be kept out of swap (PROC-37).
    pub(crate) tmpfs_swap: Swap,
}

/// A volume that containers can be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PreparedVolume {
    /// The path to name to the runtime: of the host for `hostPath`, else below our root directory.
    pub(crate) path: PathBuf,
    /// Whose it is.
    pub(crate) kind: VolumeKind,
}

/// Whose a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VolumeKind {
    /// Made here and removed with the pod; SELinux labels may be changed.
    Own,
    /// A path of the host, left as it is.
    Host,
}

/// One volume that could not be set up. Shown in upstream's words, for the event `FailedMount`.
#[derive(Debug)]
pub(crate) struct SetUpFailure {
    /// The volume's name in the pod.
    pub(crate) volume: String,
    source: SetUpError,
}

impl fmt::Display for SetUpFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { volume, source } = self;
        write!(
            f,
            "MountVolume.SetUp failed for volume {volume:?} : {}",
            ErrorChain(source)
        )
    }
}

#[derive(Debug, thiserror::Error)]
enum SetUpError {
    #[error(transparent)]
    Plan(#[from] plan::PlanError),
    #[error(transparent)]
    EmptyDir(#[from] empty_dir::EmptyDirError),
    #[error(transparent)]
    HostPath(#[from] host_path::HostPathError),
}

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
    /// is. `pod_memory_limit_bytes` is the pod's cgroup limit, if it has one (VOL-11).
    ///
    /// # Errors
    /// [`VolumeError::SetUp`] with each volume that failed, after all were tried.
    pub(crate) async fn prepare(
        &self,
        pod: &Pod,
        pod_memory_limit_bytes: Option<u64>,
    ) -> Result<BTreeMap<String, PreparedVolume>, VolumeError> {
        let bounds = MemoryBounds {
            allocatable_bytes: self.config.allocatable_memory_bytes,
            pod_limit_bytes: pod_memory_limit_bytes,
        };
        let plans: Vec<_> = plan::mounted(pod)
            .into_iter()
            .map(|volume| (volume.name.clone(), plan::plan(volume, bounds)))
            .collect();
        if plans.is_empty() {
            return Ok(BTreeMap::new());
        }
        let uid = PodUid::of(pod);
        let fs_group = fs_group(pod);
        let config = Arc::clone(&self.config);
        daemon::blocking(move || {
            let mut ready = BTreeMap::new();
            let mut failures = Vec::new();
            for (volume, plan) in plans {
                let outcome = plan
                    .map_err(SetUpError::from)
                    .and_then(|plan| set_up(&config, uid.as_str(), &volume, &plan, fs_group));
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
        })
        .await
    }

    /// The runtime's path for each of the container's `volumeMounts`, in their order, with `subPath`
    /// and `subPathExpr` found and mounted (VOL-60). `environment` is the container's.
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
            let Some(requested) = requested else {
                paths.push(volume.path.clone());
                continue;
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
            let found =
                daemon::blocking(move || resolve(&config, &volume, &requested, &target)).await;
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

/// `securityContext.fsGroup` (VOL-63).
fn fs_group(pod: &Pod) -> Option<u32> {
    let context = pod.spec.as_ref()?.security_context.as_ref()?;
    u32::try_from(context.fs_group?).ok()
}

fn set_up(
    config: &VolumesConfig,
    uid: &str,
    volume: &str,
    plan: &VolumePlan,
    fs_group: Option<u32>,
) -> Result<PreparedVolume, SetUpError> {
    let tmpfs = match plan {
        VolumePlan::HostPath { path, kind } => {
            host_path::set_up(&config.host, path, kind)?;
            return Ok(PreparedVolume {
                path: path.into(),
                kind: VolumeKind::Host,
            });
        }
        VolumePlan::EmptyDir => None,
        VolumePlan::MemoryDir { .. } if config.visibility == Visibility::Private => {
            return Err(empty_dir::EmptyDirError::NotVisible.into());
        }
        VolumePlan::MemoryDir { size_bytes } => {
            Some(plan::tmpfs_options(*size_bytes, config.tmpfs_swap))
        }
    };
    let wanted = empty_dir::Wanted {
        uid,
        volume,
        fs_group,
        tmpfs,
    };
    let path = empty_dir::set_up(&config.dirs, &*config.mounts, &wanted)?;
    Ok(PreparedVolume {
        path,
        kind: VolumeKind::Own,
    })
}

/// Finds a part of a volume and pins it.
fn resolve(
    config: &VolumesConfig,
    volume: &PreparedVolume,
    requested: &str,
    target: &Path,
) -> Result<PathBuf, sub_path::SubPathError> {
    let (found, real) = match volume.kind {
        VolumeKind::Own => (
            sub_path::find(&volume.path, &[&volume.path], requested)?,
            volume.path.clone(),
        ),
        VolumeKind::Host => find_on_host(config, &volume.path, requested)?,
    };
    // A mount of another mount namespace cannot be bound here.
    let foreign = volume.kind == VolumeKind::Host && !config.host.is_identity();
    if foreign || config.visibility == Visibility::Private {
        return Ok(real.join(found.relative()));
    }
    sub_path::bind(&*config.mounts, &found, target)?;
    Ok(target.to_owned())
}

/// Finds a part of a host path; also the host's name of the volume itself, without links where it is
/// known. Those who make links in the volume may use either name.
fn find_on_host(
    config: &VolumesConfig,
    volume: &Path,
    requested: &str,
) -> Result<(Beneath, PathBuf), sub_path::SubPathError> {
    let failed = |source| sub_path::SubPathError::Find {
        path: volume.display().to_string(),
        source,
    };
    let place = host_path::Place::of(&config.host, volume)
        .ok_or_else(|| sub_path::SubPathError::OutOfSight(volume.to_owned()))?;
    let base = place.find().map_err(failed)?;
    let real = place.host_name(&base).unwrap_or_else(|| volume.to_owned());
    let found = sub_path::find(&base.proc_path(), &[volume, &real], requested)?;
    Ok((found, real))
}

fn tear_down(config: &VolumesConfig, uid: &str) -> Result<(), VolumeError> {
    pod_dirs::check_name("pod uid", uid)?;
    let dirs = &config.dirs;
    // As the mount table shows it, should the root directory lead through a link.
    let pod = match fs::canonicalize(dirs.pod(uid)) {
        Ok(pod) => pod,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(pod_dirs::io_error("find", &dirs.pod(uid))(error).into()),
    };
    let dirs = dirs.moved_to(&pod);
    let subpaths = dirs.subpaths(uid);
    let own = dirs.volumes_of(uid, empty_dir::PLUGIN);
    // The mark goes first: a volume half removed is not taken for a ready one (see `empty_dir`).
    remove_tree(&dirs.notes_of(uid, empty_dir::PLUGIN))?;
    // A container may have left mounts of its own in an `emptyDir` (Bidirectional propagation):
    // unmounting deletes nothing.
    config.mounts.unmount_below(&subpaths, Unmount::Strict)?;
    config.mounts.unmount_below(&own, Unmount::Strict)?;
    let left = config
        .mounts
        .list()?
        .into_iter()
        .find(|mount| mount.mount_point.starts_with(&pod));
    if let Some(mount) = left {
        return Err(VolumeError::StillMounted {
            path: mount.mount_point,
        });
    }
    remove_places(&subpaths)?;
    remove_tree(&own)
}

/// Removes a tree of our own, which has no mount in it.
fn remove_tree(path: &Path) -> Result<(), VolumeError> {
    node_os::tree::remove_tree(path).map_err(|source| VolumeError::Remove {
        path: path.to_owned(),
        source,
    })
}

/// Removes `volume-subpaths/<volume>/<container>/<index>`: places only, never what is in them.
fn remove_places(subpaths: &Path) -> Result<(), VolumeError> {
    fn level(path: &Path, below: u32) -> Result<(), VolumeError> {
        if below > 0 && path.is_dir() {
            for name in pod_dirs::entries(path)? {
                level(&path.join(name), below - 1)?;
            }
        }
        sub_path::remove_place(path).map_err(|source| VolumeError::RemovePlace {
            path: path.to_owned(),
            source,
        })
    }
    level(subpaths, 3)
}

#[cfg(test)]
mod tests;
