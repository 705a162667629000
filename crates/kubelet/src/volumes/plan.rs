//! What a pod's volumes ask for: which are needed, of what kind, how large. No effects.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, Pod, Volume};
use kubelet_core::{quantity, spec};
use node_os::mounts::{Swap, TmpfsOptions};

/// A volume as this kubelet sees it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum VolumePlan {
    /// `emptyDir` on the disk of the root directory.
    EmptyDir,
    /// `emptyDir` with `medium: Memory`; size in bytes, 0 for the kernel's default.
    MemoryDir { size_bytes: u64 },
    /// `hostPath`.
    HostPath { path: String, kind: String },
}

/// Why a volume cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PlanError {
    #[error("volumes of type {kind} are not supported yet: use hostPath or emptyDir")]
    Unsupported { kind: &'static str },
    #[error("unknown storage medium {medium:?}: use \"\" or Memory")]
    Medium { medium: String },
    #[error("emptyDir medium {medium} is not supported yet: use \"\" or Memory")]
    HugePages { medium: String },
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

/// What to do for one volume. One without any source is an `emptyDir`, as defaulting says.
pub(super) fn plan(volume: &Volume, bounds: MemoryBounds) -> Result<VolumePlan, PlanError> {
    if let Some(source) = &volume.host_path {
        return Ok(VolumePlan::HostPath {
            path: source.path.clone(),
            kind: source.type_.clone().unwrap_or_default(),
        });
    }
    if let Some(source) = &volume.empty_dir {
        return plan_empty_dir(source, bounds);
    }
    match unsupported(volume) {
        Some(kind) => Err(PlanError::Unsupported { kind }),
        None => Ok(VolumePlan::EmptyDir),
    }
}

fn plan_empty_dir(
    source: &EmptyDirVolumeSource,
    bounds: MemoryBounds,
) -> Result<VolumePlan, PlanError> {
    match source.medium.as_deref().unwrap_or_default() {
        "" => Ok(VolumePlan::EmptyDir),
        "Memory" => {
            let limit = source
                .size_limit
                .as_ref()
                .map(|limit| u64::try_from(quantity::value(limit)).unwrap_or(0));
            Ok(VolumePlan::MemoryDir {
                size_bytes: memory_size(bounds, limit),
            })
        }
        medium if medium == "HugePages" || medium.starts_with("HugePages-") => {
            Err(PlanError::HugePages {
                medium: medium.to_owned(),
            })
        }
        medium => Err(PlanError::Medium {
            medium: medium.to_owned(),
        }),
    }
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
        ("configMap", volume.config_map.is_some()),
        ("csi", volume.csi.is_some()),
        ("downwardAPI", volume.downward_api.is_some()),
        ("ephemeral", volume.ephemeral.is_some()),
        ("fc", volume.fc.is_some()),
        ("flexVolume", volume.flex_volume.is_some()),
        ("flocker", volume.flocker.is_some()),
        ("gcePersistentDisk", volume.gce_persistent_disk.is_some()),
        ("gitRepo", volume.git_repo.is_some()),
        ("glusterfs", volume.glusterfs.is_some()),
        ("image", volume.image.is_some()),
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
        ("projected", volume.projected.is_some()),
        ("quobyte", volume.quobyte.is_some()),
        ("rbd", volume.rbd.is_some()),
        ("scaleIO", volume.scale_io.is_some()),
        ("secret", volume.secret.is_some()),
        ("storageos", volume.storageos.is_some()),
        ("vsphereVolume", volume.vsphere_volume.is_some()),
    ];
    sources
        .into_iter()
        .find_map(|(name, present)| present.then_some(name))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::core::v1::{ConfigMapVolumeSource, HostPathVolumeSource, PodSpec, VolumeMount},
        apimachinery::pkg::api::resource::Quantity,
    };
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: MemoryBounds = MemoryBounds {
        allocatable_bytes: 1000,
        pod_limit_bytes: None,
    };

    fn volume(name: &str) -> Volume {
        Volume {
            name: name.to_owned(),
            ..Volume::default()
        }
    }

    fn memory(limit: Option<&str>) -> Volume {
        Volume {
            empty_dir: Some(EmptyDirVolumeSource {
                medium: Some("Memory".to_owned()),
                size_limit: limit.map(|limit| Quantity(limit.to_owned())),
            }),
            ..volume("v")
        }
    }

    fn container(mounts: &[&str]) -> Container {
        Container {
            volume_mounts: Some(
                mounts
                    .iter()
                    .map(|name| VolumeMount {
                        name: (*name).to_owned(),
                        ..VolumeMount::default()
                    })
                    .collect(),
            ),
            ..Container::default()
        }
    }

    #[test]
    fn only_volumes_that_a_container_mounts_are_prepared() {
        let pod = Pod {
            spec: Some(PodSpec {
                volumes: Some(vec![volume("a"), volume("unused"), volume("b")]),
                init_containers: Some(vec![container(&["b"])]),
                containers: vec![container(&["a"]), container(&["a", "undeclared"])],
                ..PodSpec::default()
            }),
            ..Pod::default()
        };
        let names: Vec<_> = mounted(&pod)
            .into_iter()
            .map(|volume| &*volume.name)
            .collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn each_source_has_its_plan() {
        assert_eq!(plan(&volume("v"), BOUNDS), Ok(VolumePlan::EmptyDir));
        assert_eq!(
            plan(&memory(Some("500")), BOUNDS),
            Ok(VolumePlan::MemoryDir { size_bytes: 500 })
        );
        assert_eq!(
            plan(&memory(None), BOUNDS),
            Ok(VolumePlan::MemoryDir { size_bytes: 1000 })
        );
        let host = Volume {
            host_path: Some(HostPathVolumeSource {
                path: "/data".to_owned(),
                type_: None,
            }),
            ..volume("v")
        };
        assert_eq!(
            plan(&host, BOUNDS),
            Ok(VolumePlan::HostPath {
                path: "/data".to_owned(),
                kind: String::new()
            })
        );
        let config = Volume {
            config_map: Some(ConfigMapVolumeSource::default()),
            ..volume("v")
        };
        let error = plan(&config, BOUNDS).unwrap_err();
        assert_eq!(
            error.to_string(),
            "volumes of type configMap are not supported yet: use hostPath or emptyDir"
        );
    }

    #[test]
    fn unknown_medium_is_named() {
        let mut odd = memory(None);
        odd.empty_dir.as_mut().unwrap().medium = Some("Disk".to_owned());
        assert!(
            plan(&odd, BOUNDS)
                .unwrap_err()
                .to_string()
                .starts_with("unknown storage medium \"Disk\"")
        );
        odd.empty_dir.as_mut().unwrap().medium = Some("HugePages-2Mi".to_owned());
        assert!(matches!(
            plan(&odd, BOUNDS),
            Err(PlanError::HugePages { .. })
        ));
    }

    #[test]
    fn tmpfs_without_a_known_size_gets_the_kernels() {
        assert_eq!(tmpfs_options(4096, Swap::Forbidden).size_bytes, Some(4096));
        assert_eq!(tmpfs_options(0, Swap::Allowed).size_bytes, None);
    }

    proptest! {
        #[test]
        fn memory_size_never_exceeds_any_bound_that_is_set(
            allocatable in 1..u64::MAX,
            pod in proptest::option::of(any::<u64>()),
            limit in proptest::option::of(any::<u64>()),
        ) {
            let bounds = MemoryBounds { allocatable_bytes: allocatable, pod_limit_bytes: pod };
            let size = memory_size(bounds, limit);
            prop_assert!(size > 0 && size <= allocatable);
            for bound in [pod, limit].into_iter().flatten().filter(|bound| *bound > 0) {
                prop_assert!(size <= bound);
            }
        }
    }
}
