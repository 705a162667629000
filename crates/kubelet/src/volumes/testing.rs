//! A node with mounts that are only written down.

use std::{fs, sync::Mutex};

use k8s_openapi::{
    api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource, PodSpec, VolumeMount},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kubelet_core::downward::Allocatable;
use node_os::{
    host_view::HostView,
    mountinfo::{self, MountInfo},
    mounts::{Access, Depth, Mounts, Propagation, Swap, TmpfsOptions, Unmount},
};

use super::*;
use crate::pod_dirs::PodDirs;

/// No ConfigMap and no Secret.
pub(super) struct NoObjects;

impl Objects for NoObjects {
    fn config_map(&self, _name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        None
    }

    fn secret(&self, _name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        None
    }
}

/// A mount table without a kernel: binds and tmpfs are lines in it.
#[derive(Debug, Default)]
pub(super) struct FakeMounts {
    pub(super) table: Mutex<Vec<MountInfo>>,
    log: Mutex<Vec<String>>,
}

impl FakeMounts {
    pub(super) fn add(&self, path: &Path, fs_type: &str) {
        // The kernel shows real paths.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let line = format!("1 1 0:1 / {} rw - {fs_type} x rw", path.display());
        self.table
            .lock()
            .unwrap()
            .extend(mountinfo::parse(line.as_bytes()).unwrap());
    }

    pub(super) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

impl Mounts for FakeMounts {
    fn tmpfs(&self, target: &Path, options: &TmpfsOptions) -> Result<(), MountError> {
        let size = options.size_bytes.unwrap_or_default();
        self.log
            .lock()
            .unwrap()
            .push(format!("tmpfs {size} {:?}", options.swap));
        self.add(target, "tmpfs");
        Ok(())
    }

    fn hugetlbfs(&self, target: &Path, page_bytes: u64) -> Result<(), MountError> {
        let line = format!("hugetlbfs {page_bytes}");
        self.log.lock().unwrap().push(line);
        self.add(target, "hugetlbfs");
        Ok(())
    }

    fn bind(&self, source: &Path, target: &Path, _: Depth, _: Access) -> Result<(), MountError> {
        let source = fs::read_link(source).unwrap();
        self.log
            .lock()
            .unwrap()
            .push(format!("bind {}", source.display()));
        self.add(target, "ext4");
        Ok(())
    }

    fn set_propagation(&self, _: &Path, _: Propagation, _: Depth) -> Result<(), MountError> {
        Ok(())
    }

    fn unmount(&self, target: &Path, _: Unmount) -> Result<(), MountError> {
        let mut table = self.table.lock().unwrap();
        let at = table
            .iter()
            .rposition(|mount| mount.mount_point == target)
            .unwrap();
        table.remove(at);
        Ok(())
    }

    fn list(&self) -> Result<Vec<MountInfo>, MountError> {
        Ok(self.table.lock().unwrap().clone())
    }
}

pub(super) struct Node {
    pub(super) directory: tempfile::TempDir,
    pub(super) mounts: Arc<FakeMounts>,
    pub(super) dirs: PodDirs,
    pub(super) volumes: Volumes,
}

pub(super) fn node_seen(visibility: Visibility) -> Node {
    let directory = tempfile::tempdir().unwrap();
    let mounts = Arc::new(FakeMounts::default());
    let dirs = PodDirs::new(
        directory.path().join("kubelet"),
        directory.path().join("logs"),
    );
    let volumes = Volumes::new(VolumesConfig {
        dirs: dirs.clone(),
        host: HostView::identity(),
        visibility,
        mounts: Arc::clone(&mounts) as Arc<dyn Mounts>,
        allocatable: Allocatable {
            memory_bytes: 1 << 30,
            ..Allocatable::default()
        },
        image_volumes: ImageVolumes::Enabled,
        tmpfs_swap: Swap::Forbidden,
    });
    Node {
        directory,
        mounts,
        dirs,
        volumes,
    }
}

pub(super) fn node() -> Node {
    node_seen(Visibility::Shared)
}

pub(super) fn empty_dir(name: &str, medium: Option<&str>) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: medium.map(ToOwned::to_owned),
            size_limit: None,
        }),
        ..Volume::default()
    }
}

pub(super) fn host_path(name: &str, path: &Path, kind: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        host_path: Some(HostPathVolumeSource {
            path: path.display().to_string(),
            type_: Some(kind.to_owned()),
        }),
        ..Volume::default()
    }
}

/// A pod with one container that mounts every volume.
pub(super) fn pod(volumes: Vec<Volume>) -> Pod {
    let mounts = volumes
        .iter()
        .map(|volume| VolumeMount {
            name: volume.name.clone(),
            ..VolumeMount::default()
        })
        .collect();
    let container = Container {
        name: "main".to_owned(),
        volume_mounts: Some(mounts),
        ..Container::default()
    };
    Pod {
        metadata: ObjectMeta {
            uid: Some("uid".to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            containers: vec![container],
            volumes: Some(volumes),
            ..PodSpec::default()
        }),
        ..Pod::default()
    }
}
