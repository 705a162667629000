//! Setting one volume up, by its plan.

use std::{fmt, path::PathBuf};

use daemon::ErrorChain;
use k8s_openapi::api::core::v1::Pod;
use kubelet_core::projection::ContentKind;

use super::{
    config::{Visibility, VolumesConfig},
    content,
    empty_dir::{self, Backing},
    host_path,
    plan::{self, VolumePlan},
    prepared::{PreparedVolume, VolumeKind},
};

/// One volume that could not be set up. Shown in upstream's words, for the event `FailedMount`.
#[derive(Debug)]
pub(crate) struct SetUpFailure {
    /// The volume's name in the pod.
    pub(crate) volume: String,
    pub(super) source: SetUpError,
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

/// Why.
#[derive(Debug, thiserror::Error)]
pub(super) enum SetUpError {
    #[error(transparent)]
    Plan(#[from] plan::PlanError),
    #[error(transparent)]
    EmptyDir(#[from] empty_dir::EmptyDirError),
    #[error(transparent)]
    HostPath(#[from] host_path::HostPathError),
    #[error(transparent)]
    Content(#[from] content::ContentError),
}

/// `securityContext.fsGroup` (VOL-63).
pub(super) fn fs_group(pod: &Pod) -> Option<u32> {
    let context = pod.spec.as_ref()?.security_context.as_ref()?;
    u32::try_from(context.fs_group?).ok()
}

pub(super) fn set_up(
    config: &VolumesConfig,
    uid: &str,
    volume: &str,
    plan: VolumePlan,
    fs_group: Option<u32>,
) -> Result<PreparedVolume, SetUpError> {
    let memory = |size_bytes| Backing::Memory(plan::tmpfs_options(size_bytes, config.tmpfs_swap));
    let not_seen = |what| match config.visibility {
        Visibility::Shared => Ok(()),
        Visibility::Private => Err(empty_dir::EmptyDirError::NotVisible { what }),
    };
    let backing = match plan {
        VolumePlan::HostPath { path, kind } => {
            host_path::set_up(&config.host, &path, &kind)?;
            return Ok(PreparedVolume {
                path: path.into(),
                kind: VolumeKind::Host,
            });
        }
        VolumePlan::Image => {
            return Ok(PreparedVolume {
                path: PathBuf::new(),
                kind: VolumeKind::Image,
            });
        }
        VolumePlan::Content {
            content,
            size_bytes,
        } => {
            let backing = match (content.kind, config.visibility) {
                (ContentKind::ConfigMap, _)
                | (ContentKind::DownwardApi | ContentKind::Projected, Visibility::Private) => {
                    Backing::Disk
                }
                (ContentKind::Secret, Visibility::Private) => {
                    return Err(empty_dir::EmptyDirError::NotVisible { what: "secret" }.into());
                }
                (_, Visibility::Shared) => memory(size_bytes),
            };
            let path = content::set_up(config, uid, volume, &content, fs_group, backing)?;
            return Ok(PreparedVolume {
                path,
                kind: VolumeKind::Content,
            });
        }
        VolumePlan::EmptyDir => Backing::Disk,
        VolumePlan::MemoryDir { size_bytes } => {
            not_seen("emptyDir with medium Memory")?;
            memory(size_bytes)
        }
        VolumePlan::HugePages { page_bytes } => {
            not_seen("emptyDir with medium HugePages")?;
            Backing::HugePages(page_bytes)
        }
    };
    let wanted = empty_dir::Wanted {
        uid,
        plugin: empty_dir::PLUGIN,
        volume,
        mark: volume.to_owned(),
        fs_group,
        backing,
    };
    let path = empty_dir::set_up(&config.dirs, &*config.mounts, &wanted)?;
    Ok(PreparedVolume {
        path,
        kind: VolumeKind::Own,
    })
}
