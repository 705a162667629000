//! What a pod's volumes ask for: which are needed, of what kind, how large. No effects.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, Pod, Volume};
use kubelet_core::{
    downward::Allocatable,
    projection::{self, ContentKind, Objects, ProjectionError},
    quantity, spec,
};
use node_os::mounts::{Swap, TmpfsOptions};

use super::{
    config::ImageVolumes,
    content::{self, Content},
};

/// A volume as this kubelet sees it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum VolumePlan {
    /// `emptyDir` on the disk of the root directory.
    EmptyDir,
    /// `emptyDir` with `medium: Memory`; size in bytes, 0 for the kernel's default.
    MemoryDir { size_bytes: u64 },
    /// `emptyDir` with `medium: HugePages`, and the size of the pages in bytes.
    HugePages { page_bytes: u64 },
    /// `hostPath`.
    HostPath { path: String, kind: String },
    /// Content that the kubelet writes; the size as for memory.
    Content { content: Content, size_bytes: u64 },
    /// `image`: the runtime mounts it (VOL-34).
    Image,
}

/// Why a volume cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PlanError {
    #[error(
        "no volume plugin matched: volumes of type {kind} are not served here (use hostPath, \
         emptyDir, downwardAPI, projected or image)"
    )]
    Unsupported { kind: &'static str },
    #[error("no volume plugin matched: image volumes need the feature gate ImageVolume")]
    ImageVolumeGate,
    #[error(
        "git-repo volume plugin has been disabled; if necessary, use an init container that clones \
         the repository into an emptyDir"
    )]
    GitRepo,
    #[error("unknown storage medium {medium:?}")]
    Medium { medium: String },
    #[error("medium: {medium} can't be used if container requests multiple huge page sizes")]
    SeveralPageSizes { medium: String },
    #[error(
        "medium {medium}: hugePages storage requested, but there is no resource request for huge pages"
    )]
    NoHugePages { medium: String },
    #[error(transparent)]
    Projection(#[from] ProjectionError),
}

/// Names of the volumes that some container mounts (VOL-02); the others are never looked at.
pub(super) fn mounted_names(pod: &Pod) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut take = |container: &Container| {
        for mount in container.volume_mounts.iter().flatten() {
            names.insert(mount.name.clone());
        }
        for device in container.volume_devices.iter().flatten() {
            names.insert(device.name.clone());
        }
    };
    spec::init_containers(pod).iter().for_each(&mut take);
    spec::containers(pod).iter().for_each(&mut take);
    for ephemeral in spec::ephemeral_containers(pod) {
        take(&spec::ephemeral_as_container(ephemeral));
    }
    names
}

/// The volumes to prepare, in the order of the pod.
pub(super) fn mounted(pod: &Pod) -> Vec<&Volume> {
    let names = mounted_names(pod);
    pod.spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten())
        .filter(|volume| names.contains(&volume.name))
        .collect()
}

/// Amounts of memory that bound a memory-backed volume, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MemoryBounds {
    /// What the node has for pods.
    pub(super) allocatable_bytes: u64,
    /// The pod's memory limit, if all of it is limited.
    pub(super) pod_limit_bytes: Option<u64>,
}

/// What a plan depends on beside the volume.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) pod: &'a Pod,
    pub(super) bounds: MemoryBounds,
    pub(super) allocatable: &'a Allocatable,
    pub(super) objects: &'a (dyn Objects + Sync),
    /// Gate `ImageVolume`.
    pub(super) image_volumes: ImageVolumes,
}

/// What to do for one volume. One without any source is an `emptyDir`, as defaulting says.
pub(super) fn plan(volume: &Volume, given: &Given<'_>) -> Result<VolumePlan, PlanError> {
    if let Some(kind) = ContentKind::of(volume) {
        let Given {
            pod,
            allocatable,
            objects,
            ..
        } = *given;
        let content = Content {
            kind,
            payload: projection::content(pod, volume, allocatable, objects)?,
            nested: content::nested_mount_points(pod, &volume.name),
        };
        return Ok(VolumePlan::Content {
            content,
            size_bytes: memory_size(given.bounds, None),
        });
    }
    if volume.image.is_some() {
        return match given.image_volumes {
            ImageVolumes::Enabled => Ok(VolumePlan::Image),
            ImageVolumes::Disabled => Err(PlanError::ImageVolumeGate),
        };
    }
    if let Some(source) = &volume.host_path {
        return Ok(VolumePlan::HostPath {
            path: source.path.clone(),
            kind: source.type_.clone().unwrap_or_default(),
        });
    }
    if let Some(source) = &volume.empty_dir {
        return plan_empty_dir(source, given);
    }
    match unsupported(volume) {
        Some("gitRepo") => Err(PlanError::GitRepo),
        Some(kind) => Err(PlanError::Unsupported { kind }),
        None => Ok(VolumePlan::EmptyDir),
    }
}

fn plan_empty_dir(
    source: &EmptyDirVolumeSource,
    given: &Given<'_>,
) -> Result<VolumePlan, PlanError> {
    match source.medium.as_deref().unwrap_or_default() {
        "" => Ok(VolumePlan::EmptyDir),
        "Memory" => {
            let limit = source
                .size_limit
                .as_ref()
                .map(|limit| u64::try_from(quantity::value(limit)).unwrap_or(0));
            Ok(VolumePlan::MemoryDir {
                size_bytes: memory_size(given.bounds, limit),
            })
        }
        medium if medium == "HugePages" || medium.starts_with("HugePages-") => {
            let page_bytes = page_size(given.pod, medium)?;
            Ok(VolumePlan::HugePages { page_bytes })
        }
        medium => Err(PlanError::Medium {
            medium: medium.to_owned(),
        }),
    }
}

/// The size of the pages of a volume: the medium's own, or the only one that the pod asks for (VOL-12).
///
/// Source of behaviour: Kubernetes emptyDir plugin, `getPageSizeMountOption`.
fn page_size(pod: &Pod, medium: &str) -> Result<u64, PlanError> {
    let of_pod = pod.spec.iter().filter_map(|spec| spec.resources.as_ref());
    let of_containers = spec::containers(pod)
        .iter()
        .chain(spec::init_containers(pod))
        .filter_map(|container| container.resources.as_ref());
    let asked: BTreeSet<u64> = of_pod
        .chain(of_containers)
        .flat_map(|resources| resources.requests.iter().flatten())
        .filter_map(|(name, _)| page_bytes(name.strip_prefix("hugepages-")?))
        .collect();
    let medium = medium.to_owned();
    match medium.strip_prefix("HugePages-") {
        Some(size) => page_bytes(size)
            .filter(|size| asked.contains(size))
            .ok_or(PlanError::NoHugePages { medium }),
        None if asked.len() > 1 => Err(PlanError::SeveralPageSizes { medium }),
        None => asked
            .first()
            .copied()
            .ok_or(PlanError::NoHugePages { medium }),
    }
}

fn page_bytes(size: &str) -> Option<u64> {
    let bytes = quantity::parse(size).ok()?.value();
    u64::try_from(bytes).ok().filter(|bytes| *bytes > 0)
}

/// Size of a memory-backed volume (VOL-11): what the node has for pods, or the pod's limit, or the
/// volume's own, each only where it is set and not above the one before. Source of behaviour:
/// Kubernetes emptyDir plugin, `calculateEmptyDirMemorySize`.
pub(super) fn memory_size(bounds: MemoryBounds, size_limit_bytes: Option<u64>) -> u64 {
    let mut size = bounds.allocatable_bytes;
    for limit in [bounds.pod_limit_bytes, size_limit_bytes]
        .into_iter()
        .flatten()
    {
        if limit > 0 && limit <= size {
            size = limit;
        }
    }
    size
}

/// How a memory-backed volume is mounted (VOL-11): the kernel's own size where none is known, and
/// the kernel's own mode, as upstream leaves both out.
pub(super) fn tmpfs_options(size_bytes: u64, swap: Swap) -> TmpfsOptions {
    TmpfsOptions {
        size_bytes: (size_bytes > 0).then_some(size_bytes),
        mode: 0o1777,
        swap,
    }
}

/// The API's name of the source that a volume has, if it is one that is not served here.
fn unsupported(volume: &Volume) -> Option<&'static str> {
    let sources = [
        (
            "awsElasticBlockStore",
            volume.aws_elastic_block_store.is_some(),
        ),
        ("azureDisk", volume.azure_disk.is_some()),
        ("azureFile", volume.azure_file.is_some()),
        ("cephfs", volume.cephfs.is_some()),
        ("cinder", volume.cinder.is_some()),
        ("csi", volume.csi.is_some()),
        ("ephemeral", volume.ephemeral.is_some()),
        ("fc", volume.fc.is_some()),
        ("flexVolume", volume.flex_volume.is_some()),
        ("flocker", volume.flocker.is_some()),
        ("gcePersistentDisk", volume.gce_persistent_disk.is_some()),
        ("gitRepo", volume.git_repo.is_some()),
        ("glusterfs", volume.glusterfs.is_some()),
        ("iscsi", volume.iscsi.is_some()),
        ("nfs", volume.nfs.is_some()),
        (
            "persistentVolumeClaim",
            volume.persistent_volume_claim.is_some(),
        ),
        (
            "photonPersistentDisk",
            volume.photon_persistent_disk.is_some(),
        ),
        ("portworxVolume", volume.portworx_volume.is_some()),
        ("quobyte", volume.quobyte.is_some()),
        ("rbd", volume.rbd.is_some()),
        ("scaleIO", volume.scale_io.is_some()),
        ("storageos", volume.storageos.is_some()),
        ("vsphereVolume", volume.vsphere_volume.is_some()),
    ];
    sources
        .into_iter()
        .find_map(|(name, present)| present.then_some(name))
}

#[cfg(test)]
mod tests;
