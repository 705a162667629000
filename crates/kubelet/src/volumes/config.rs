//! What the volumes are told about the node.

use std::sync::Arc;

use kubelet_core::downward::Allocatable;
use node_os::{
    host_view::HostView,
    mounts::{Mounts, Swap},
};

use crate::pod_dirs::PodDirs;

/// Whether mounts that the kubelet makes are seen by the container engine (DEC-12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visibility {
    /// The kubelet is on the host, or its root directory is shared with it.
    Shared,
    /// The kubelet is in a container whose mounts stay its own.
    Private,
}

/// What volumes are told about the node.
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
    /// What the node has for pods: the bound of volumes in memory (VOL-11), and what files tell of containers
    /// without limits (VOL-31).
    pub(crate) allocatable: Allocatable,
    /// Gate `ImageVolume`.
    pub(crate) image_volumes: ImageVolumes,
    /// Whether the pages of a tmpfs can be kept out of swap (PROC-37).
    pub(crate) tmpfs_swap: Swap,
}

/// Gate `ImageVolume` (VOL-34).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ImageVolumes {
    /// Volumes may be images.
    Enabled,
    /// A pod with one waits.
    Disabled,
}
