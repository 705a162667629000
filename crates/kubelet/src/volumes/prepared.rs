//! Volumes that stand, as containers are given them.

use std::path::PathBuf;

/// A volume that containers can be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PreparedVolume {
    /// The path to name to the runtime: of the host for `hostPath`, else below our root directory. Empty for an
    /// image.
    pub(crate) path: PathBuf,
    /// Whose it is.
    pub(crate) kind: VolumeKind,
}

/// Whose a volume is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VolumeKind {
    /// Made here and removed with the pod; SELinux labels may be changed.
    Own,
    /// The same with content that only the kubelet writes.
    Content,
    /// A path of the host, left as it is.
    Host,
    /// The runtime's to mount.
    Image,
}

impl VolumeKind {
    /// Whether the kubelet made it, so that its labels are the kubelet's to change.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self, Self::Own | Self::Content)
    }

    /// Whether containers may never write in it.
    pub(crate) fn is_read_only(&self) -> bool {
        matches!(self, Self::Content | Self::Image)
    }
}
