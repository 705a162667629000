//! Names of cgroups in both drivers (CG-01..03).

use k8s_openapi::api::core::v1::Pod;

use crate::ids::PodUid;
use crate::qos::{QosClass, pod_qos};

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupDriver {
    /// We write directories.
    Cgroupfs,
    /// systemd makes slices.
    Systemd,
}

/// A cgroup as a path of plain parts, whatever the driver: `["kubepods", "burstable", "pod<uid>"]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CgroupName(Vec<String>);

impl CgroupName {
    /// The root of all pods below `cgroupRoot` (CG-01).
    pub fn kubepods(cgroup_root: &str) -> Self {
        let parts = cgroup_root.split('/').filter(|part| !part.is_empty());
        Self(
            parts
                .map(str::to_owned)
                .chain(["kubepods".to_owned()])
                .collect(),
        )
    }

    /// The group of a class; Guaranteed pods stand right below the root.
    pub fn qos(cgroup_root: &str, class: QosClass) -> Self {
        let root = Self::kubepods(cgroup_root);
        match class {
            QosClass::Guaranteed => root,
            QosClass::Burstable => root.child("burstable"),
            QosClass::BestEffort => root.child("besteffort"),
        }
    }

    /// The pod's group.
    pub fn pod(cgroup_root: &str, pod: &Pod) -> Self {
        Self::pod_of(cgroup_root, pod_qos(pod), &PodUid::of(pod))
    }

    /// The group of a pod of that class and uid.
    pub fn pod_of(cgroup_root: &str, class: QosClass, uid: &PodUid) -> Self {
        Self::qos(cgroup_root, class).child(format!("pod{uid}"))
    }

    /// A group below this one.
    #[must_use]
    pub fn child(mut self, part: impl Into<String>) -> Self {
        self.0.push(part.into());
        self
    }

    /// The parts from the root down.
    pub fn parts(&self) -> &[String] {
        &self.0
    }

    /// The path below a hierarchy's root, as the driver lays it out. This is also the
    /// `cgroup_parent` that the runtime gets (CG-03).
    pub fn path(&self, driver: CgroupDriver) -> String {
        match driver {
            CgroupDriver::Cgroupfs => format!("/{}", self.0.join("/")),
            CgroupDriver::Systemd => {
                let slices = (1..=self.0.len()).map(|depth| slice(&self.0[..depth]));
                format!("/{}", slices.collect::<Vec<_>>().join("/"))
            }
        }
    }

    /// The slice's own name, such as `kubepods-burstable-pod<uid>.slice` (CG-02).
    pub fn slice_name(&self) -> String {
        if self.0.is_empty() {
            "-.slice".to_owned()
        } else {
            slice(&self.0)
        }
    }
}

/// `-` joins levels, so a part's own becomes `_`.
fn slice(parts: &[String]) -> String {
    let escaped: Vec<_> = parts.iter().map(|part| part.replace('-', "_")).collect();
    format!("{}.slice", escaped.join("-"))
}

/// Whether a directory found below the root of all pods is a pod's, in either driver. Whose it is
/// tells the comparison with [`directory_name`].
pub fn is_pod_directory(name: &str) -> bool {
    let name = name.strip_suffix(".slice").unwrap_or(name);
    name.rsplit('-')
        .next()
        .is_some_and(|last| last.len() > 3 && last.starts_with("pod"))
        || (name.len() > 3 && name.starts_with("pod"))
}

/// The last path element of a pod's cgroup in the driver, for comparison with what is on disk.
pub fn directory_name(name: &CgroupName, driver: CgroupDriver) -> String {
    match driver {
        CgroupDriver::Cgroupfs => name.parts().last().cloned().unwrap_or_default(),
        CgroupDriver::Systemd => name.slice_name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cg_01_to_03_paths_in_both_drivers() {
        let uid = PodUid::from("1234-ab");
        let cases = [
            (
                "",
                QosClass::Burstable,
                "/kubepods/burstable/pod1234-ab",
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1234_ab.slice",
            ),
            (
                "/",
                QosClass::Guaranteed,
                "/kubepods/pod1234-ab",
                "/kubepods.slice/kubepods-pod1234_ab.slice",
            ),
            (
                "/my-root",
                QosClass::BestEffort,
                "/my-root/kubepods/besteffort/pod1234-ab",
                "/my_root.slice/my_root-kubepods.slice/my_root-kubepods-besteffort.slice/\
                 my_root-kubepods-besteffort-pod1234_ab.slice",
            ),
        ];
        for (root, class, cgroupfs, systemd) in cases {
            let name = CgroupName::pod_of(root, class, &uid);
            assert_eq!(name.path(CgroupDriver::Cgroupfs), cgroupfs);
            assert_eq!(name.path(CgroupDriver::Systemd), systemd);
            assert!(systemd.ends_with(&name.slice_name()));
            for driver in [CgroupDriver::Cgroupfs, CgroupDriver::Systemd] {
                assert!(is_pod_directory(&directory_name(&name, driver)));
            }
        }
        assert!(!is_pod_directory("kubepods-burstable.slice"));
        assert!(!is_pod_directory("burstable"));
    }
}
