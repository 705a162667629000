//! Paths as we see them and as the engine's host sees them (DEC-11, NODE-22).
//!
//! Run in a container, our `/var/lib/kubelet` is another path for Docker. Docker itself tells which:
//! once it is reached it is asked for the mounts of our own container, and every path that we hand
//! on is translated, every one that it names is translated back.
//!
//! A mount's source in a CRI request is either a path of ours (an `emptyDir`, a log) or one of the
//! host's (a `hostPath`), and nothing says which. A path below one of our volumes is ours; any other
//! is the host's, unless only we have it: that is an error instead of an empty directory.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use daemon::ErrorChain;
use futures_util::future::BoxFuture;
use node_os::beneath::{Beneath, Missing};
use node_os::host_view::{self, ContainerId, ContainerMount, HostView, HostViewError, Whereabouts};
use node_os::mountinfo::{self, MountInfo, MountInfoError};
use node_os::share;

use crate::engine::model::MountPoint;
use crate::engine::{Engine, EngineError};

/// The mounts of the host's first process.
const HOST_MOUNTINFO: &str = "/proc/1/mountinfo";

/// A path cannot be handed on, or the way to translate it is unknown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PathError {
    /// Docker does not tell about our container.
    #[error("ask docker for the mounts of this container {0}")]
    Inspect(ContainerId, #[source] EngineError),
    /// Our own mounts cannot be read.
    #[error(transparent)]
    Mounts(#[from] MountInfoError),
    /// Relative, or Docker's answer does not fit our mounts.
    #[error(transparent)]
    View(#[from] HostViewError),
    /// A path of this container that the host does not have.
    #[error(
        "{0} is inside this container and the host has no such path: mount a volume at it or above it"
    )]
    OnlyHere(PathBuf),
    /// As [`PathError::OnlyHere`], as far as can be seen.
    #[error(
        "{0} is not on a volume of this container, and the host's files cannot be seen: mount a \
         volume at it or above it, or run the container with the host's pids (pid: host)"
    )]
    Unseen(PathBuf),
    /// Docker has not been asked yet.
    #[error("docker has not been asked for the mounts of this container yet")]
    NotYet,
}

/// Translates paths between our mount namespace and the engine's.
pub(crate) trait PathView: std::fmt::Debug + Send + Sync {
    /// Learns what only the engine can tell. For each connect; free once it is known.
    ///
    /// # Errors
    /// When the answer is needed and cannot be had: nothing can be translated then.
    fn learn<'a>(&'a self, engine: &'a Engine) -> BoxFuture<'a, Result<(), PathError>>;

    /// The source of a mount, as the engine's host names it. Blocks: may look at files.
    ///
    /// # Errors
    /// When the host has no such path.
    fn to_host(&self, path: &Path) -> Result<PathBuf, PathError>;

    /// A path that the engine names, as we reach it; `None` when it is out of sight.
    #[expect(
        clippy::wrong_self_convention,
        reason = "the pair reads best like this"
    )]
    fn from_host(&self, host: &Path) -> Option<PathBuf>;

    /// The name under which we would have handed `host` on: undoes [`PathView::to_host`].
    fn named(&self, host: &Path) -> PathBuf;
}

/// We live on the engine's host: all paths are equal.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SameHost;

impl PathView for SameHost {
    fn learn<'a>(&'a self, _: &'a Engine) -> BoxFuture<'a, Result<(), PathError>> {
        Box::pin(async { Ok(()) })
    }

    fn to_host(&self, path: &Path) -> Result<PathBuf, PathError> {
        Ok(path.to_owned())
    }

    fn from_host(&self, host: &Path) -> Option<PathBuf> {
        Some(host.to_owned())
    }

    fn named(&self, host: &Path) -> PathBuf {
        host.to_owned()
    }
}

/// We live in a container of the engine's.
#[derive(Debug)]
pub(crate) struct InContainer {
    id: ContainerId,
    known: OnceLock<Known>,
}

#[derive(Debug)]
struct Known {
    view: HostView,
    /// Our volumes, those deepest on the host first.
    mounts: Vec<ContainerMount>,
    /// Where the host's root is seen.
    root: Option<PathBuf>,
}

/// The view for where this process runs. Blocks.
pub(crate) fn choose() -> Arc<dyn PathView> {
    let mounts = match mountinfo::read_own() {
        Ok(mounts) => mounts,
        Err(error) => {
            tracing::warn!(error = %ErrorChain(&error), "cannot tell whether this is a container");
            return Arc::new(SameHost);
        }
    };
    match host_view::whereabouts(&mounts) {
        Whereabouts::Host => Arc::new(SameHost),
        Whereabouts::Container(id) => Arc::new(InContainer {
            id,
            known: OnceLock::new(),
        }),
        Whereabouts::UnknownContainer => {
            tracing::warn!(
                "in a container that is not docker's: volumes must have the same path here and on \
                 docker's host"
            );
            Arc::new(SameHost)
        }
    }
}

impl InContainer {
    /// See [`Known::shared`]. Looked up each time: the share comes and goes with the kubelet.
    fn shared(&self, host: &Path) -> Option<PathBuf> {
        let known = self.known.get()?;
        known.root.as_ref()?;
        let own = mountinfo::read_own().ok()?;
        let theirs = mountinfo::read(Path::new(HOST_MOUNTINFO)).ok()?;
        known.shared(host, &own, &theirs)
    }

    async fn ask(&self, engine: &Engine) -> Result<Known, PathError> {
        let mounts = match engine.inspect_container(self.id.as_str()).await {
            Ok(inspect) => inspect.mounts,
            // Another engine's container: then this is not the host whose paths we know.
            Err(error) if error.is_not_found() => {
                tracing::warn!(
                    container.id = %self.id,
                    "this container is unknown to docker: volumes must have the same path here and \
                     on docker's host"
                );
                return Ok(Known {
                    view: HostView::identity(),
                    mounts: Vec::new(),
                    root: None,
                });
            }
            Err(error) => return Err(PathError::Inspect(self.id.clone(), error)),
        };
        daemon::blocking(move || {
            let own = mountinfo::read_own()?;
            let mounts = mounts.iter().filter_map(on_host);
            // The kernel shows mounts where links lead: /run/docker.sock for /var/run/docker.sock.
            let real = mounts.map(|mount| ContainerMount {
                destination: std::fs::canonicalize(&mount.destination).unwrap_or(mount.destination),
                source: mount.source,
            });
            known(&own, real, host_view::host_root())
        })
        .await
    }
}

impl PathView for InContainer {
    fn learn<'a>(&'a self, engine: &'a Engine) -> BoxFuture<'a, Result<(), PathError>> {
        Box::pin(async move {
            if self.known.get().is_some() {
                return Ok(());
            }
            let known = self.ask(engine).await?;
            tracing::info!(container.id = %self.id, host_visible = known.root.is_some(),
                "running in a container: paths are translated for docker");
            // Asked twice at once: the answers are the same.
            let _ = self.known.set(known);
            Ok(())
        })
    }

    fn to_host(&self, path: &Path) -> Result<PathBuf, PathError> {
        let host = self.known.get().ok_or(PathError::NotYet)?.to_host(path)?;
        Ok(self.shared(&host).unwrap_or(host))
    }

    fn from_host(&self, host: &Path) -> Option<PathBuf> {
        self.known.get()?.reach(host)
    }

    fn named(&self, host: &Path) -> PathBuf {
        let ours = self.known.get().and_then(|known| known.named(host));
        ours.unwrap_or_else(|| host.to_owned())
    }
}

/// What Docker says about a mount, when it is one of a path on the host.
fn on_host(mount: &MountPoint) -> Option<ContainerMount> {
    let is_path = mount.source.starts_with('/');
    is_path.then(|| ContainerMount {
        source: mount.source.clone().into(),
        destination: mount.destination.clone().into(),
    })
}

fn known(
    own: &[MountInfo],
    mounts: impl IntoIterator<Item = ContainerMount>,
    root: Option<PathBuf>,
) -> Result<Known, PathError> {
    let mut mounts: Vec<ContainerMount> = mounts.into_iter().collect();
    mounts.sort_by_key(|mount| std::cmp::Reverse(mount.source.components().count()));
    let view = HostView::in_container(own, mounts.clone())?;
    Ok(Known { view, mounts, root })
}

impl Known {
    fn to_host(&self, path: &Path) -> Result<PathBuf, PathError> {
        match self.view.to_host(path) {
            Ok(host) => Ok(host),
            Err(HostViewError::NotOnHost(path)) => {
                let theirs = self.root.as_ref().is_some_and(|root| has(root, &path));
                // Neither has it: Docker makes it or says so, as without us.
                if theirs || std::fs::symlink_metadata(&path).is_err() {
                    Ok(path)
                } else if self.root.is_some() {
                    Err(PathError::OnlyHere(path))
                } else {
                    Err(PathError::Unseen(path))
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The same path below the place where the host shares it with us, mounts included, when there is
    /// one: the kubelet makes it for its volume (DEC-12). `own` and `theirs` are our mounts and the
    /// host's.
    fn shared(&self, host: &Path, own: &[MountInfo], theirs: &[MountInfo]) -> Option<PathBuf> {
        self.mounts.iter().find_map(|mount| {
            let rest = host.strip_prefix(&mount.source).ok()?;
            let group = mountinfo::mount_at(own, &mount.destination)?.shared?;
            let place = theirs.iter().find(|their| {
                their.shared == Some(group) && their.mount_point.starts_with(share::PLACES)
            })?;
            let path = place.mount_point.components().chain(rest.components());
            Some(path.collect())
        })
    }

    fn named(&self, host: &Path) -> Option<PathBuf> {
        let behind = share::path_behind(host);
        let host = behind.as_deref().unwrap_or(host);
        self.view.from_host(host).ok().flatten()
    }

    fn reach(&self, host: &Path) -> Option<PathBuf> {
        let through_root = || {
            let root = self.root.as_ref()?;
            Some(root.join(host.strip_prefix("/").ok()?))
        };
        self.named(host).or_else(through_root)
    }
}

/// Whether a root directory that is not ours has this path; links lead where they lead there.
fn has(root: &Path, path: &Path) -> bool {
    let inside = path.strip_prefix("/").unwrap_or(path);
    Beneath::find(root, &[Path::new("/")], inside, Missing::Refuse).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOLUME: &str = "/var/lib/docker/volumes/kubelet-data/_data";

    /// A directory that plays the host's root, and the view from a container with three mounts.
    fn view(host: Option<&Path>) -> Known {
        let text = format!(
            "1 0 0:50 / / rw - overlay overlay rw\n\
             2 1 8:1 {VOLUME} /var/lib/kubelet rw - ext4 /dev/vda rw\n\
             3 1 8:1 /var/lib/docker /var/lib/docker rw - ext4 /dev/vda rw\n\
             4 1 0:20 /docker.sock /run/docker.sock rw - tmpfs tmpfs rw\n"
        );
        let own = mountinfo::parse(text.as_bytes()).unwrap();
        let point = |kind: &str, source: &str, destination: &str| MountPoint {
            kind: kind.to_owned(),
            source: source.to_owned(),
            destination: destination.to_owned(),
            ..MountPoint::default()
        };
        let said = [
            point("volume", VOLUME, "/var/lib/kubelet"),
            point("bind", "/var/lib/docker", "/var/lib/docker"),
            point("bind", "/run/docker.sock", "/run/docker.sock"),
            point("tmpfs", "", "/scratch"),
        ];
        known(
            &own,
            said.iter().filter_map(on_host),
            host.map(Path::to_owned),
        )
        .unwrap()
    }

    #[test]
    fn path_in_a_volume_goes_to_docker_by_the_hosts_name_and_comes_back() {
        let host = tempfile::tempdir().unwrap();
        for view in [view(Some(host.path())), view(None)] {
            let ours = Path::new("/var/lib/kubelet/pods/u/etc-hosts");
            let theirs = PathBuf::from(format!("{VOLUME}/pods/u/etc-hosts"));
            assert_eq!(view.to_host(ours).unwrap(), theirs);
            assert_eq!(view.named(&theirs).as_deref(), Some(ours));
            let log = Path::new("/var/lib/docker/containers/x/x-json.log");
            assert_eq!(view.reach(log).as_deref(), Some(log));
        }
    }

    #[test]
    fn shared_volume_is_named_by_its_place_and_comes_back() {
        let view = view(None);
        let place = share::place_of(Path::new(VOLUME));
        let mount = |at: &Path| {
            let line = format!(
                "2 1 8:1 {VOLUME} {} rw shared:7 - ext4 /dev/vda rw\n",
                at.display()
            );
            mountinfo::parse(line.as_bytes()).unwrap()
        };
        let (own, theirs) = (mount(Path::new("/var/lib/kubelet")), mount(&place));
        let ours = Path::new("/var/lib/kubelet/pods/u/mem");
        let host = view.to_host(ours).unwrap();
        let shared = view.shared(&host, &own, &theirs).unwrap();
        assert_eq!(shared, place.join("pods/u/mem"));
        assert_eq!(view.named(&shared).as_deref(), Some(ours));
        assert_eq!(view.shared(&host, &own, &[]), None, "not shared");
        assert_eq!(view.shared(&host, &[], &theirs), None, "not with us");
        let other = Path::new("/var/lib/docker/containers/x");
        assert_eq!(view.shared(other, &own, &theirs), None);
    }

    #[test]
    fn path_of_the_host_stays_as_it_is() {
        let host = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(host.path().join("srv/data")).unwrap();
        std::os::unix::fs::symlink("/srv", host.path().join("link")).unwrap();
        let view = view(Some(host.path()));
        for path in ["/srv/data", "/link/data", "/nobody/has/this"] {
            let path = Path::new(path);
            assert_eq!(view.to_host(path).unwrap(), path);
            assert_eq!(view.named(path), None, "named as it was handed on");
        }
        let reached = view.reach(Path::new("/srv/data")).unwrap();
        assert!(reached.is_dir(), "{}", reached.display());
    }

    #[test]
    fn path_that_only_the_container_has_is_refused_with_the_fix() {
        let ours = tempfile::tempdir().unwrap();
        let host = tempfile::tempdir().unwrap();
        for (view, fix) in [
            (view(Some(host.path())), "mount a volume"),
            (view(None), "pid: host"),
        ] {
            let error = view.to_host(ours.path()).unwrap_err().to_string();
            assert!(error.contains(fix), "{error}");
            assert!(error.contains(ours.path().to_str().unwrap()), "{error}");
        }
        assert!(view(None).to_host(Path::new("relative")).is_err());
        assert_eq!(view(None).reach(Path::new("/srv")), None);
    }
}
