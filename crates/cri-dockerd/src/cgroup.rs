//! How the engine names cgroups, and where those of a container and of its pod are (PRF-25). Pure.
//!
//! Docker was told the parent and names the group after the container. Where the group is not there
//! (another driver, a rootless or nested engine), the container's process tells.

use node_os::cgroups::CgroupPath;
use node_os::proc::CgroupMembership;

/// How the engine names cgroups (SBX-10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CgroupDriver {
    /// Paths.
    Cgroupfs,
    /// Slices.
    Systemd,
}

impl CgroupDriver {
    /// From Docker's info; empty means cgroupfs (STA-04).
    ///
    /// # Errors
    /// The text upstream answers for an unknown driver (RTC-05).
    pub(crate) fn from_info(text: &str) -> Result<Self, String> {
        match text {
            "" | "cgroupfs" => Ok(Self::Cgroupfs),
            "systemd" => Ok(Self::Systemd),
            other => Err(format!("unknown cgroup driver: {other}")),
        }
    }

    /// The parent that Docker is told for a CRI request's.
    pub(crate) fn parent(self, cri: &str) -> String {
        match self {
            Self::Cgroupfs => cri.to_owned(),
            Self::Systemd => cri.rsplit('/').next().unwrap_or_default().to_owned(),
        }
    }
}

/// The group of a container; an empty parent is Docker's own (DKR-14).
pub(crate) fn of_container(driver: CgroupDriver, parent: &str, id: &str) -> Option<CgroupPath> {
    match driver {
        CgroupDriver::Cgroupfs => {
            let parent = if parent.is_empty() { "/docker" } else { parent };
            CgroupPath::new(&format!("/{parent}/{id}")).ok()
        }
        CgroupDriver::Systemd => {
            let parent = if parent.is_empty() {
                "system.slice"
            } else {
                parent
            };
            slice(parent)?.child(&format!("docker-{id}.scope")).ok()
        }
    }
}

/// The group of a pod: the parent that its sandbox was given. `None` when it was given none.
pub(crate) fn of_pod(driver: CgroupDriver, parent: &str) -> Option<CgroupPath> {
    if parent.is_empty() {
        return None;
    }
    match driver {
        CgroupDriver::Cgroupfs => CgroupPath::new(&format!("/{parent}")).ok(),
        CgroupDriver::Systemd => slice(parent),
    }
}

/// `a-b.slice` lives in `/a.slice/a-b.slice`; `-.slice` is the root.
fn slice(name: &str) -> Option<CgroupPath> {
    let stem = name.rsplit('/').next()?.strip_suffix(".slice")?;
    let mut path = String::from("/");
    if stem == "-" {
        return CgroupPath::new(&path).ok();
    }
    for (at, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
        path.push_str(&stem[..at]);
        path.push_str(".slice/");
    }
    CgroupPath::new(&path).ok()
}

/// The group of a container by where its process is. A process may have moved into a group of its
/// own below the container's; paths that lead out of our cgroup namespace can't be followed.
pub(crate) fn of_process(memberships: &[CgroupMembership], id: &str) -> Option<CgroupPath> {
    memberships.iter().find_map(|membership| {
        let mut path = String::new();
        for part in membership.path.split('/') {
            path.push('/');
            path.push_str(part);
            if part.contains(id) {
                return CgroupPath::new(&path).ok();
            }
        }
        None
    })
}

/// Whether a process belongs to a container: its number may be another's by now, or of another pid
/// namespace than ours.
pub(crate) fn is_of(memberships: &[CgroupMembership], id: &str) -> bool {
    memberships
        .iter()
        .any(|membership| membership.path.contains(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_is_named_as_the_driver_names_it() {
        use CgroupDriver::{Cgroupfs, Systemd};
        for (driver, parent, expected) in [
            (Cgroupfs, "", "/docker/i"),
            (
                Cgroupfs,
                "/kubepods/besteffort/pod1",
                "/kubepods/besteffort/pod1/i",
            ),
            (Cgroupfs, "relative", "/relative/i"),
            (Systemd, "", "/system.slice/docker-i.scope"),
            (
                Systemd,
                "kubepods-burstable-pod1_2.slice",
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/docker-i.scope",
            ),
            (Systemd, "-.slice", "/docker-i.scope"),
        ] {
            assert_eq!(
                of_container(driver, parent, "i").unwrap().as_str(),
                expected
            );
        }
        assert_eq!(of_container(Systemd, "no-slice", "i"), None);
        assert_eq!(of_container(Cgroupfs, "/../x", "i"), None);
        assert_eq!(of_pod(Cgroupfs, ""), None);
        assert_eq!(
            of_pod(Cgroupfs, "/kubepods/pod1").unwrap().as_str(),
            "/kubepods/pod1"
        );
        assert_eq!(
            of_pod(Systemd, "a-b.slice").unwrap().as_str(),
            "/a.slice/a-b.slice"
        );
    }

    #[test]
    fn process_tells_where_its_container_is() {
        let at = |path: &str| {
            [CgroupMembership {
                controllers: vec!["memory".to_owned()],
                path: path.to_owned(),
            }]
        };
        let found = |path: &str| of_process(&at(path), "abc").map(|path| path.to_string());
        assert_eq!(found("/x/docker/abc").as_deref(), Some("/x/docker/abc"));
        assert_eq!(
            found("/u.slice/docker-abc.scope/init.scope").as_deref(),
            Some("/u.slice/docker-abc.scope")
        );
        assert_eq!(found("/../abc"), None, "outside our namespace");
        assert_eq!(found("/"), None);
        assert!(is_of(&at("/../abc"), "abc") && !is_of(&at("/docker/other"), "abc"));
    }
}
