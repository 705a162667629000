//! How this process sees the host: from the host itself, or from a container on it.

use std::path::{Path, PathBuf};

use daemon::ErrorChain;
use node_os::{
    host_view::{self, HostView, Whereabouts},
    mountinfo::{self, MountInfo},
    share,
};

use crate::volumes::Visibility;

/// The mounts of the host's first process.
const HOST_MOUNTINFO: &str = "/proc/1/mountinfo";

/// On the host our paths are the host's. In a container the host is seen through its first process
/// (DEC-13), and what we mount below the root directory is made to reach it (DEC-12). Blocks.
pub(super) fn view(root_dir: &Path) -> (HostView, Visibility) {
    let ours = match mountinfo::read_own() {
        Ok(mounts) => mounts,
        Err(error) => {
            tracing::warn!(error = %ErrorChain(&error), "cannot tell whether this is a container");
            return (HostView::identity(), Visibility::Shared);
        }
    };
    if host_view::whereabouts(&ours) == Whereabouts::Host {
        // Without it no container could be told of mounts in a volume (VOL-61).
        match share::ensure_shared(root_dir) {
            Ok(true) => {
                tracing::info!(path = %root_dir.display(), "the root directory is mounted on itself, shared");
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(error = %ErrorChain(&error),
                "the root directory is not a shared mount: volumes cannot have mountPropagation"),
        }
        return (HostView::identity(), Visibility::Shared);
    }
    let root = host_view::host_root();
    if root.is_none() {
        tracing::warn!("the host's files cannot be seen: run the container with pid: host");
    }
    let view = HostView::in_container(&ours, []).unwrap_or_else(|_| HostView::identity());
    let visibility = match share_root(root_dir, &ours) {
        Ok(host) => {
            tracing::info!(path = %root_dir.display(), host = %host.display(),
                "mounts below the root directory are shared with the host");
            Visibility::Shared
        }
        Err(why) => {
            tracing::warn!(
                reason = why,
                "mounts below the root directory do not reach containers: memory-backed volumes are refused"
            );
            Visibility::Private
        }
    };
    (view.with_host_root(root), visibility)
}

/// Makes the root directory one with the host's; answers the host's name of it.
fn share_root(root_dir: &Path, ours: &[MountInfo]) -> Result<PathBuf, String> {
    let theirs = mountinfo::read(Path::new(HOST_MOUNTINFO))
        .map_err(|error| format!("{} (run the container with pid: host)", ErrorChain(&error)))?;
    let real = std::fs::canonicalize(root_dir)
        .map_err(|error| format!("{}: {error}", root_dir.display()))?;
    let host = path_on_host(ours, &theirs, &real).ok_or_else(|| {
        format!(
            "{} is not on a volume of this container: mount one there",
            root_dir.display()
        )
    })?;
    let place = share::place_of(&host);
    share::share_volume(Path::new(share::HOST_MOUNTS), &host, &place, &real)
        .map_err(|error| ErrorChain(&error).to_string())?;
    Ok(place)
}

/// At the end: takes the share back from the host, unless something of a pod is mounted in it. On the host
/// itself the root directory stays a mount on itself, as upstream leaves it: running containers know it. Blocks.
pub(crate) fn give_back(root_dir: &Path) {
    let Ok(ours) = mountinfo::read_own() else {
        return;
    };
    if host_view::whereabouts(&ours) == Whereabouts::Host {
        return;
    }
    let Ok(theirs) = mountinfo::read(Path::new(HOST_MOUNTINFO)) else {
        return;
    };
    let real = std::fs::canonicalize(root_dir).unwrap_or_else(|_| root_dir.to_owned());
    let place = path_on_host(&ours, &theirs, &real).map(|host| share::place_of(&host));
    let Some(place) = place.filter(|place| is_unused(&theirs, place)) else {
        return;
    };
    if let Err(error) = share::unshare_volume(Path::new(share::HOST_MOUNTS), &place) {
        tracing::warn!(path = %place.display(), error = %ErrorChain(&error),
            "the share stays mounted on the host");
    }
}

/// Whether a place is mounted, with nothing below.
fn is_unused(theirs: &[MountInfo], place: &Path) -> bool {
    let is_there = mountinfo::mount_at(theirs, place).is_some();
    let holds_mounts = theirs
        .iter()
        .any(|mount| mount.mount_point != place && mount.mount_point.starts_with(place));
    is_there && !holds_mounts
}

/// The host's name of a directory on a volume: where the host has the same part of the same file
/// system. `None` for what is on the container's own root, and for what the host does not show.
fn path_on_host(ours: &[MountInfo], theirs: &[MountInfo], directory: &Path) -> Option<PathBuf> {
    let volume = mount_of(ours, directory).filter(|mount| mount.mount_point != Path::new("/"))?;
    let inside = directory.strip_prefix(&volume.mount_point).ok()?;
    let wanted = volume.root.join(inside);
    theirs
        .iter()
        .filter(|mount| mount.device == volume.device)
        // Our own share of an earlier run is no name of the directory's.
        .filter(|mount| !mount.mount_point.starts_with(share::PLACES))
        .filter_map(|mount| {
            let rest = wanted.strip_prefix(&mount.root).ok()?;
            // Joining nothing would add a slash.
            let path: PathBuf = mount
                .mount_point
                .components()
                .chain(rest.components())
                .collect();
            // Unless something else is mounted over it there.
            let shown = mount_of(theirs, &path)?;
            let inside = path.strip_prefix(&shown.mount_point).ok()?;
            let same = shown.device == volume.device
                && shown
                    .root
                    .components()
                    .chain(inside.components())
                    .eq(wanted.components());
            same.then_some((rest.components().count(), path))
        })
        // Of several names the one by the nearest mount: what somebody mounted at /var/lib/docker is
        // what Docker works with.
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, path)| path)
}

/// The mount that shows a path, found as the kernel does: from the root down, always through the
/// first mount on the way. What is mounted below a place that was covered later is not seen.
fn mount_of<'a>(mounts: &'a [MountInfo], path: &Path) -> Option<&'a MountInfo> {
    let has_parent = |mount: &MountInfo| mounts.iter().any(|other| other.id == mount.parent);
    let mut shown = mounts
        .iter()
        .find(|mount| mount.mount_point == Path::new("/") && !has_parent(mount))?;
    for _ in mounts {
        let next = mounts
            .iter()
            .filter(|mount| mount.parent == shown.id && path.starts_with(&mount.mount_point))
            .min_by_key(|mount| mount.mount_point.components().count());
        let Some(next) = next else { break };
        shown = next;
    }
    Some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOLUME: &str = "/var/lib/docker/volumes/kubelet-data/_data";

    fn mounts(text: &str) -> Vec<MountInfo> {
        mountinfo::parse(text.as_bytes()).unwrap()
    }

    fn container() -> Vec<MountInfo> {
        mounts(&format!(
            "1 0 0:50 / / rw - overlay overlay rw\n\
             2 1 8:1 {VOLUME} /var/lib/kubelet rw - ext4 /dev/vda rw\n\
             3 1 8:2 / /data rw - ext4 /dev/vdb rw\n"
        ))
    }

    fn on(host: &str, directory: &str) -> Option<PathBuf> {
        path_on_host(&container(), &mounts(host), Path::new(directory))
    }

    #[test]
    fn volume_is_found_by_its_place_on_the_file_system() {
        let host = "1 0 8:1 / / rw - ext4 /dev/vda rw\n";
        assert_eq!(on(host, "/var/lib/kubelet"), Some(VOLUME.into()));
        assert_eq!(
            on(host, "/var/lib/kubelet/a"),
            Some(format!("{VOLUME}/a").into())
        );
        let whole_disk =
            "1 0 0:9 / / rw - ext4 /dev/vdc rw\n2 1 8:2 / /srv rw - ext4 /dev/vdb rw\n";
        assert_eq!(on(whole_disk, "/data"), Some("/srv".into()));
    }

    #[test]
    fn dockers_directory_may_be_a_file_system_of_its_own() {
        // /dev/vda holds what the host has at /var/lib; its root is not mounted anywhere.
        let host = "1 0 0:9 / / rw - ext4 /dev/vdc rw\n\
                    2 1 8:1 /var/lib/docker /mnt/docker rw - ext4 /dev/vda rw\n";
        let found = on(host, "/var/lib/kubelet");
        assert_eq!(found, Some("/mnt/docker/volumes/kubelet-data/_data".into()));
    }

    #[test]
    fn volume_that_was_shared_before_keeps_its_name() {
        let place = share::place_of(Path::new(VOLUME));
        let host = format!(
            "1 0 8:1 / / rw - ext4 /dev/vda rw\n\
             2 1 8:1 {VOLUME} {} rw shared:7 - ext4 /dev/vda rw\n",
            place.display()
        );
        assert_eq!(on(&host, "/var/lib/kubelet"), Some(VOLUME.into()));
    }

    #[test]
    fn of_several_names_the_one_by_the_nearest_mount_is_taken() {
        let host = "1 0 8:1 / / rw - ext4 /dev/vda rw\n\
                    2 1 8:1 /big/docker /var/lib/docker rw - ext4 /dev/vda rw\n";
        let ours = "1 0 0:40 / / rw - overlay overlay rw\n\
                    2 1 8:1 /big/docker/volumes/v/_data /var/lib/kubelet rw - ext4 /dev/vda rw\n";
        let found = path_on_host(&mounts(ours), &mounts(host), Path::new("/var/lib/kubelet"));
        assert_eq!(found, Some("/var/lib/docker/volumes/v/_data".into()));
    }

    #[test]
    fn place_that_something_else_covers_is_passed_over() {
        let host = "1 0 8:1 / / rw - ext4 /dev/vda rw\n\
                    2 1 0:9 / /var/lib/docker rw - tmpfs tmpfs rw\n\
                    3 1 8:1 /var/lib /mnt rw - ext4 /dev/vda rw\n";
        let found = on(host, "/var/lib/kubelet");
        assert_eq!(found, Some("/mnt/docker/volumes/kubelet-data/_data".into()));
        // Also what was mounted there before it was covered.
        let shared_before =
            format!("{host}4 1 8:1 {VOLUME} {VOLUME} rw shared:7 - ext4 /dev/vda rw\n");
        let found = on(&shared_before, "/var/lib/kubelet");
        assert_eq!(found, Some("/mnt/docker/volumes/kubelet-data/_data".into()));
    }

    #[test]
    fn share_is_given_back_when_nothing_of_a_pod_is_in_it() {
        let place = share::place_of(Path::new(VOLUME));
        let host = "1 0 8:1 / / rw - ext4 /dev/vda rw\n";
        assert!(!is_unused(&mounts(host), &place), "there is none");
        let host = format!(
            "{host}2 1 8:1 {VOLUME} {} rw shared:7 - ext4 /dev/vda rw\n",
            place.display()
        );
        assert!(is_unused(&mounts(&host), &place));
        let with_pod = format!(
            "{host}3 2 0:9 / {}/pods/u/mem rw - tmpfs tmpfs rw\n",
            place.display()
        );
        assert!(!is_unused(&mounts(&with_pod), &place));
    }

    #[test]
    fn containers_own_root_and_unknown_file_systems_have_no_name() {
        let host = "1 0 8:1 / / rw - ext4 /dev/vda rw\n\
                    2 1 0:50 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw\n";
        assert_eq!(on(host, "/var/lib/other"), None);
        assert_eq!(on(host, "/data"), None);
    }
}
