//! Paths as Docker's host sees them (DEC-11).
//!
//! In a container whose `/var/lib/kubelet` is a volume, that path is another one for the engine,
//! `/var/lib/docker/volumes/<name>/_data`. Every path that the engine is given must be translated,
//! and every path that it gives must be translated back. On the host itself nothing changes.
//!
//! Finding ourselves is in two steps, so that asking Docker stays with the caller:
//! [`whereabouts`] tells from our mounts which container we are, [`HostView::in_container`] takes
//! what Docker says about that container's mounts and checks it against ours.

use std::{
    fmt,
    path::{Component, Path, PathBuf},
};

use crate::mountinfo::{self, MountInfo};

/// The id of a Docker container: 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ContainerId(String);

impl ContainerId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let hexadecimal = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        (text.len() == 64 && text.chars().all(hexadecimal)).then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where this process runs, as far as its mounts tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whereabouts {
    /// On the host: nothing hints at a container.
    Host,
    /// In this container of a Docker Engine.
    Container(ContainerId),
    /// In a container of something else: paths cannot be translated.
    UnknownContainer,
}

/// Tells from our mounts where we are. The hostname does not tell (with host networking it is the
/// host's), nor does the cgroup (a private cgroup namespace hides it); but Docker mounts `hostname`,
/// `hosts` and `resolv.conf` out of a directory named after the container.
pub fn whereabouts(mounts: &[MountInfo]) -> Whereabouts {
    let files = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];
    let own = files
        .iter()
        .filter_map(|file| mountinfo::mount_at(mounts, Path::new(file)))
        .find_map(|mount| container_directory(&mount.root));
    if let Some(id) = own {
        return Whereabouts::Container(id);
    }
    let root = mountinfo::mount_at(mounts, Path::new("/"));
    // Root on overlay alone is also a live system; with one of the files mounted it is a container.
    let bound = files
        .iter()
        .any(|file| mountinfo::mount_at(mounts, Path::new(file)).is_some());
    if root.is_some_and(|root| root.fs_type == "overlay") && bound {
        Whereabouts::UnknownContainer
    } else {
        Whereabouts::Host
    }
}

/// `.../containers/<id>/hostname` -> id.
fn container_directory(root: &Path) -> Option<ContainerId> {
    let directory = root.parent()?;
    let kind = directory.parent()?.file_name()?;
    (kind == "containers").then(|| ContainerId::parse(directory.file_name()?.to_str()?))?
}

/// What Docker says about one mount of our container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerMount {
    /// The path on the host.
    pub source: PathBuf,
    /// The path in the container.
    pub destination: PathBuf,
}

/// What Docker says does not fit what we see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostViewError {
    /// A mount that should be here is not: the container asked about is not ours.
    #[error("docker says {0} is mounted in this container, but nothing is mounted there")]
    NotMounted(PathBuf),
    /// A path that only this container has.
    #[error(
        "{0} is inside the container and has no path on the host: mount a volume at it or above it"
    )]
    NotOnHost(PathBuf),
    /// A relative path means nothing to another process.
    #[error("{0} is not an absolute path")]
    Relative(PathBuf),
}

/// Translates between our paths and the host's. A value; clones are cheap enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostView {
    /// `None` on the host. Longest destinations first.
    mounts: Option<Vec<ContainerMount>>,
    /// Where the host's root can be seen from here, if at all (DEC-13).
    host_root: Option<PathBuf>,
}

impl HostView {
    /// The host's own view: nothing is translated.
    pub fn identity() -> Self {
        Self {
            mounts: None,
            host_root: None,
        }
    }

    /// The view from a container with these mounts (all of them that have a source on the host).
    ///
    /// # Errors
    /// When one of them is not in `mountinfo`: then they are another container's.
    pub fn in_container(
        mountinfo: &[MountInfo],
        mounts: impl IntoIterator<Item = ContainerMount>,
    ) -> Result<Self, HostViewError> {
        let mut known = Vec::new();
        for mount in mounts {
            let mount = ContainerMount {
                source: normalize(&mount.source)?,
                destination: normalize(&mount.destination)?,
            };
            if mountinfo::mount_at(mountinfo, &mount.destination).is_none() {
                return Err(HostViewError::NotMounted(mount.destination));
            }
            known.push(mount);
        }
        known.sort_by_key(|mount| std::cmp::Reverse(mount.destination.components().count()));
        Ok(Self {
            mounts: Some(known),
            host_root: None,
        })
    }

    /// Adds where the host's root is visible: `/proc/1/root` when we share the host's pids and may
    /// look at its first process (see [`host_root`]).
    #[must_use]
    pub fn with_host_root(mut self, root: Option<PathBuf>) -> Self {
        self.host_root = root;
        self
    }

    /// Whether our paths are the host's.
    pub fn is_identity(&self) -> bool {
        self.mounts.is_none()
    }

    /// The host's name for one of our paths. Purely by name: resolve symbolic links first where
    /// they may lead from one mount into another.
    ///
    /// # Errors
    /// When the host has no name for it, or it is relative.
    pub fn to_host(&self, ours: &Path) -> Result<PathBuf, HostViewError> {
        let ours = normalize(ours)?;
        let Some(mounts) = &self.mounts else {
            return Ok(ours);
        };
        mounts
            .iter()
            .find_map(|mount| moved(&ours, &mount.destination, &mount.source))
            .ok_or(HostViewError::NotOnHost(ours))
    }

    /// Our name for one of the host's paths: below a mount of ours, else through the host's root.
    /// `None` when it cannot be reached from here. A mount of ours that lies below the result hides
    /// what the host has there; the deepest source wins.
    ///
    /// # Errors
    /// When it is relative.
    pub fn from_host(&self, host: &Path) -> Result<Option<PathBuf>, HostViewError> {
        let host = normalize(host)?;
        let Some(mounts) = &self.mounts else {
            return Ok(Some(host));
        };
        let through_mount = mounts
            .iter()
            .filter_map(|mount| {
                let ours = moved(&host, &mount.source, &mount.destination)?;
                // What another mount of ours covers is not what the host has there.
                let visible = self.to_host(&ours).is_ok_and(|back| back == host);
                visible.then_some((mount.source.components().count(), ours))
            })
            .max_by_key(|(depth, _)| *depth)
            .map(|(_, ours)| ours);
        Ok(through_mount.or_else(|| {
            let root = self.host_root.as_ref()?;
            Some(root.join(host.strip_prefix("/").unwrap_or(&host)))
        }))
    }
}

/// Where the host's root can be seen from a container that shares its pids, after a look.
pub fn host_root() -> Option<PathBuf> {
    let root = PathBuf::from("/proc/1/root");
    // Without CAP_SYS_PTRACE the link cannot be followed; a first process of our own container
    // would show our own root.
    let theirs = rustix::fs::stat(&root).ok()?;
    let ours = rustix::fs::stat("/").ok()?;
    ((theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino)).then_some(root)
}

fn moved(path: &Path, from: &Path, to: &Path) -> Option<PathBuf> {
    let rest = path.strip_prefix(from).ok()?;
    Some(if rest.as_os_str().is_empty() {
        to.to_owned()
    } else {
        to.join(rest)
    })
}

/// An absolute path without `.`, `..` and doubled slashes.
fn normalize(path: &Path) -> Result<PathBuf, HostViewError> {
    if !path.is_absolute() {
        return Err(HostViewError::Relative(path.to_owned()));
    }
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3735828e0b80f1e2218264153cc113f23735828e0b80f1e2218264153cc113f2";

    fn mounts(id: &str, root_type: &str) -> Vec<MountInfo> {
        let text = format!(
            "1 0 0:50 / / rw - {root_type} overlay rw\n\
             2 1 8:1 /var/lib/docker/containers/{id}/hostname /etc/hostname rw - ext4 /dev/vda rw\n\
             3 1 8:1 /var/lib/docker/volumes/kubelet-data/_data /var/lib/kubelet rw - ext4 /dev/vda rw\n\
             4 1 8:1 /srv /var/lib/kubelet/pods/x rw - ext4 /dev/vda rw\n\
             5 1 8:1 /run/docker.sock /run/docker.sock rw - ext4 /dev/vda rw\n"
        );
        mountinfo::parse(text.as_bytes()).unwrap()
    }

    fn mount(source: &str, destination: &str) -> ContainerMount {
        ContainerMount {
            source: source.into(),
            destination: destination.into(),
        }
    }

    fn view() -> HostView {
        HostView::in_container(
            &mounts(ID, "overlay"),
            [
                mount(
                    "/var/lib/docker/volumes/kubelet-data/_data",
                    "/var/lib/kubelet",
                ),
                mount("/srv", "/var/lib/kubelet/pods/x"),
            ],
        )
        .unwrap()
    }

    #[test]
    fn container_is_known_by_the_files_that_docker_mounts() {
        let found = whereabouts(&mounts(ID, "overlay"));
        assert_eq!(found, Whereabouts::Container(ContainerId(ID.to_owned())));
        assert_eq!(
            whereabouts(&mounts("pod", "overlay")),
            Whereabouts::UnknownContainer
        );
        assert_eq!(whereabouts(&mounts("pod", "ext4")), Whereabouts::Host);
        assert_eq!(whereabouts(&[]), Whereabouts::Host);
    }

    #[test]
    fn deepest_mount_decides_about_a_path() {
        let view = view();
        for (ours, host) in [
            (
                "/var/lib/kubelet",
                "/var/lib/docker/volumes/kubelet-data/_data",
            ),
            (
                "/var/lib/kubelet/pods/a/b",
                "/var/lib/docker/volumes/kubelet-data/_data/pods/a/b",
            ),
            ("/var/lib/kubelet/pods/x/y", "/srv/y"),
            ("/var/lib/kubelet/../kubelet/./pods//x", "/srv"),
        ] {
            assert_eq!(
                view.to_host(Path::new(ours)).unwrap(),
                Path::new(host),
                "{ours}"
            );
        }
    }

    #[test]
    fn path_of_the_container_alone_is_refused_with_the_fix() {
        let error = view()
            .to_host(Path::new("/var/lib/kubelet2/x"))
            .unwrap_err();
        assert!(error.to_string().contains("mount a volume"), "{error}");
        assert!(view().to_host(Path::new("relative")).is_err());
    }

    #[test]
    fn hosts_paths_are_found_in_a_mount_or_below_its_root() {
        let view = view().with_host_root(Some("/proc/1/root".into()));
        for (host, ours) in [
            ("/srv/y", "/var/lib/kubelet/pods/x/y"),
            (
                "/var/lib/docker/volumes/kubelet-data/_data/pki",
                "/var/lib/kubelet/pki",
            ),
            ("/etc/passwd", "/proc/1/root/etc/passwd"),
            // Hidden in the container by the mount of /srv.
            (
                "/var/lib/docker/volumes/kubelet-data/_data/pods/x/z",
                "/proc/1/root/var/lib/docker/volumes/kubelet-data/_data/pods/x/z",
            ),
        ] {
            assert_eq!(
                view.from_host(Path::new(host)).unwrap(),
                Some(PathBuf::from(ours)),
                "{host}"
            );
        }
        let blind = view.with_host_root(None);
        assert_eq!(blind.from_host(Path::new("/etc/passwd")).unwrap(), None);
    }

    #[test]
    fn another_containers_mounts_are_refused() {
        let error = HostView::in_container(&mounts(ID, "overlay"), [mount("/a", "/data")]);
        assert_eq!(error, Err(HostViewError::NotMounted("/data".into())));
    }

    #[test]
    fn on_the_host_nothing_changes() {
        let view = HostView::identity();
        assert!(view.is_identity());
        assert_eq!(view.to_host(Path::new("/a/../b")).unwrap(), Path::new("/b"));
        assert_eq!(view.from_host(Path::new("/b")).unwrap(), Some("/b".into()));
    }

    proptest::proptest! {
        #[test]
        fn way_to_the_host_and_back_is_the_same_path(parts in proptest::collection::vec("[a-z]{1,3}", 0..4)) {
            let ours = Path::new("/var/lib/kubelet").join(parts.join("/"));
            let ours = normalize(&ours).unwrap();
            let host = view().to_host(&ours).unwrap();
            proptest::prop_assert_eq!(view().from_host(&host).unwrap(), Some(ours));
        }
    }
}
