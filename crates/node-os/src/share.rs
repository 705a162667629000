//! Making a directory of a container one with the host's, mounts included (DEC-12).
//!
//! Docker mounts a volume privately: a tmpfs that we mount below it is not seen by the host, so no
//! other container can be given it. Once, at start:
//!
//! ```text
//!  in the host's mount namespace           open_tree(CLONE)      in ours
//!  bind VOLUME on PLACE, shared       ───── same peer group ───▶ move_mount over OURS
//! ```
//!
//! From then on a mount below PLACE or OURS appears below the other. PLACE is not the volume itself:
//! on a machine whose root mount is private, Docker mounts its directory on itself and, when it ends,
//! unmounts that with all that lies below it; and it cannot remove a volume that is a mount point.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::{
        fd::AsFd as _,
        unix::{
            ffi::{OsStrExt as _, OsStringExt as _},
            fs::MetadataExt as _,
        },
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::CWD,
    io::Errno,
    mount::{
        MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_bind_recursive,
        mount_change, move_mount, open_tree, unmount,
    },
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::{
    mountinfo::{self, MountInfoError},
    namespace,
};

/// The two directories could not be made one.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// The kernel is older than 5.2.
    #[error("the kernel lacks open_tree and move_mount: version 5.2 or newer is needed")]
    Kernel,
    /// We may not enter the host's mount namespace or mount in it.
    #[error("not allowed to {0}: run the container privileged and with the host's pids")]
    Denied(&'static str, #[source] io::Error),
    /// A step failed.
    #[error("{operation} {path}")]
    Step {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The mounts could not be read.
    #[error(transparent)]
    Mounts(#[from] MountInfoError),
}

/// The host's mount namespace, when its first process is visible.
pub const HOST_MOUNTS: &str = "/proc/1/ns/mnt";
/// Where the host has the directories that it shares with us, each named after its path.
pub const PLACES: &str = "/run/berth/shared";

/// The place of a directory of the host's.
pub fn place_of(host: &Path) -> PathBuf {
    let name = host.as_os_str().as_bytes().iter().fold(
        Vec::with_capacity(host.as_os_str().len() + 16),
        |mut name, byte| {
            match byte {
                b'%' => name.extend(b"%25"),
                b'/' => name.extend(b"%2F"),
                other => name.push(*other),
            }
            name
        },
    );
    Path::new(PLACES).join(OsString::from_vec(name))
}

/// The host's own name of a path below a place: undoes [`place_of`]. `None` for any other path.
pub fn path_behind(path: &Path) -> Option<PathBuf> {
    let below = path.strip_prefix(PLACES).ok()?;
    let mut parts = below.components();
    let place = parts.next()?.as_os_str().to_str()?;
    let directory = PathBuf::from(place.replace("%2F", "/").replace("%25", "%"));
    let path = directory.components().chain(parts).collect::<PathBuf>();
    path.is_absolute().then_some(path)
}

/// Makes `host` (a directory in the mount namespace behind the file `host_namespace`) shared there at
/// `place` and mounts that over `ours`. Doing it again changes nothing. Where both namespaces are
/// one, the directory itself is made a shared mount.
///
/// On the host's side the mount at `place` stays until [`unshare_volume`].
///
/// # Errors
/// See [`ShareError`]. A half-done change is undone, except for the host's mount, which does no
/// harm and is used by the next try.
pub fn share_volume(
    host_namespace: &Path,
    host: &Path,
    place: &Path,
    ours: &Path,
) -> Result<(), ShareError> {
    namespace::on_own_thread(|| share(host_namespace, host, place, ours))
        .map_err(step("start a thread for", host))?
}

/// Makes what is mounted below a directory of this mount namespace reach those who were given the
/// directory, as upstream's kubelet does with its root directory. Where the mount that it lies on is
/// shared, nothing is done; else the directory is mounted on itself. Answers whether it was.
///
/// # Errors
/// See [`ShareError`].
pub fn ensure_shared(directory: &Path) -> Result<bool, ShareError> {
    let real = fs::canonicalize(directory).map_err(step("find", directory))?;
    let mounts = mountinfo::read_own()?;
    if mountinfo::mount_of(&mounts, &real).is_some_and(|mount| mount.shared.is_some()) {
        return Ok(false);
    }
    make_shared(&real, &real)?;
    Ok(true)
}

/// Takes back what [`share_volume`] left on the host's side. Mounts below go with it.
///
/// # Errors
/// See [`ShareError`]. A place where nothing is mounted is fine.
pub fn unshare_volume(host_namespace: &Path, place: &Path) -> Result<(), ShareError> {
    namespace::on_own_thread(|| {
        let theirs = File::open(host_namespace).map_err(step("open", host_namespace))?;
        let own_path = Path::new("/proc/thread-self/ns/mnt");
        let own = File::open(own_path).map_err(step("open", own_path))?;
        if !same_file(&own, &theirs)? {
            enter(&theirs)?;
        }
        forget(place)
    })
    .map_err(step("start a thread for", place))?
}

/// Unmounts a place, in the namespace where we are, and removes it.
fn forget(place: &Path) -> Result<(), ShareError> {
    match unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
        Err(errno) => return Err(step("unmount", place)(errno.into())),
    }
    match fs::remove_dir(place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(step("remove", place)(error)),
        _ => Ok(()),
    }
}

fn share(host_namespace: &Path, host: &Path, place: &Path, ours: &Path) -> Result<(), ShareError> {
    let own_path = Path::new("/proc/thread-self/ns/mnt");
    let own = File::open(own_path).map_err(step("open", own_path))?;
    let theirs = File::open(host_namespace).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => ShareError::Denied("look at the host's mounts", error),
        _ => step("open", host_namespace)(error),
    })?;
    if same_file(&own, &theirs)? {
        return make_shared(host, host);
    }
    if already_one(place, ours, &own, &theirs)? {
        return Ok(());
    }
    enter(&theirs)?;
    if !is_same_directory(host, place)? {
        // What an earlier volume of that name left.
        forget(place)?;
        fs::create_dir_all(place).map_err(step("make", place))?;
    }
    make_shared(host, place)?;
    let clone = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, place, clone).map_err(|errno| match errno {
        Errno::NOSYS => ShareError::Kernel,
        errno => step("clone", place)(errno.into()),
    })?;
    enter(&own)?;
    move_mount(
        &tree,
        "",
        CWD,
        ours,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .map_err(|errno| step("mount over", ours)(errno.into()))
}

/// Makes `place` a mount of the directory `host` that shares what is mounted below it. They may be
/// one.
fn make_shared(host: &Path, place: &Path) -> Result<(), ShareError> {
    let mounts = mountinfo::read_own()?;
    let mounted = mountinfo::mount_at(&mounts, place);
    if mounted.is_none() {
        mount_bind_recursive(host, place).map_err(|errno| match errno {
            Errno::PERM => ShareError::Denied("mount on the host", errno.into()),
            errno => step("bind mount", host)(errno.into()),
        })?;
        // A bind mount joins the peers of what it is taken from. Among them may be Docker's directory,
        // which would get our mounts too and take them all along when it is unmounted.
        mount_change(place, MountPropagationFlags::PRIVATE)
            .map_err(|errno| step("part from its peers", place)(errno.into()))?;
    }
    if mounted.is_none_or(|mount| mount.shared.is_none()) {
        mount_change(place, MountPropagationFlags::SHARED)
            .map_err(|errno| step("share", place)(errno.into()))?;
    }
    Ok(())
}

/// Whether both paths lead to one directory.
fn is_same_directory(host: &Path, place: &Path) -> Result<bool, ShareError> {
    let volume = fs::metadata(host).map_err(step("look at", host))?;
    Ok(fs::metadata(place)
        .is_ok_and(|there| (there.dev(), there.ino()) == (volume.dev(), volume.ino())))
}

/// Whether the topmost mounts of both places are in one peer group.
fn already_one(place: &Path, ours: &Path, own: &File, theirs: &File) -> Result<bool, ShareError> {
    let here = mountinfo::read_own()?;
    let group = mountinfo::mount_at(&here, ours).and_then(|mount| mount.shared);
    enter(theirs)?;
    let there = mountinfo::read_own();
    enter(own)?;
    let there = there?;
    let their_group = mountinfo::mount_at(&there, place).and_then(|mount| mount.shared);
    Ok(group.is_some() && group == their_group)
}

fn enter(namespace: &File) -> Result<(), ShareError> {
    let denied = |error| ShareError::Denied("enter the host's mount namespace", error);
    namespace::leave_shared_directories().map_err(denied)?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))
        .map_err(|errno| denied(errno.into()))
}

fn same_file(one: &File, other: &File) -> Result<bool, ShareError> {
    let identity = |file: &File| {
        rustix::fs::fstat(file)
            .map(|stat| (stat.st_dev, stat.st_ino))
            .map_err(|errno| step("look at", Path::new("a mount namespace"))(errno.into()))
    };
    Ok(identity(one)? == identity(other)?)
}

fn step(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ShareError {
    let path = path.to_owned();
    move |source| ShareError::Step {
        operation,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mounts::{Access, Depth, KernelMounts, Mounts as _, Swap, TmpfsOptions};

    fn tmpfs(target: &Path) {
        fs::create_dir_all(target).unwrap();
        let options = TmpfsOptions {
            size_bytes: None,
            mode: 0o755,
            swap: Swap::Allowed,
        };
        KernelMounts.tmpfs(target, &options).unwrap();
    }

    /// Two namespaces inside one another stand for the host and a container with a private volume.
    #[test]
    fn mounts_on_either_side_are_seen_on_both() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let docker = base.join("docker");
        let (host, ours) = (docker.join("volume"), base.join("kubelet"));
        let place = base.join("places/volume");
        fs::create_dir_all(&host).unwrap();
        fs::create_dir_all(&ours).unwrap();
        let outcome = namespace::with_own_mounts(|| {
            // As Docker makes its directory where the root is no shared mount.
            make_shared(&docker, &docker).unwrap();
            let host_thread = rustix::thread::gettid().as_raw_nonzero();
            let host_namespace = PathBuf::from(format!("/proc/self/task/{host_thread}/ns/mnt"));
            namespace::with_own_mounts(|| {
                KernelMounts
                    .bind(&host, &ours, Depth::Single, Access::ReadWrite)
                    .unwrap();
                let share = || share_volume(&host_namespace, &host, &place, &ours).unwrap();
                share();
                // Mounts elsewhere come and go with the machine's other containers.
                let mounted = || {
                    let mounts = KernelMounts.list().unwrap();
                    let below = mounts.iter().filter(|m| m.mount_point.starts_with(&base));
                    below.count()
                };
                let before = mounted();
                share();
                assert_eq!(mounted(), before, "a second time is free");

                tmpfs(&ours.join("from-us"));
                fs::write(ours.join("from-us/file"), "x").unwrap();
            })
            .unwrap();
            let seen = fs::read(place.join("from-us/file")).unwrap();
            assert_eq!(seen, b"x", "the host sees ours");
            // Docker unmounts its directory when it ends, and must be able to remove a volume.
            assert!(!host.join("from-us/file").exists(), "nothing lies on it");
            unmount(&docker, UnmountFlags::DETACH).unwrap();
            let seen = fs::read(place.join("from-us/file")).unwrap();
            assert_eq!(seen, b"x");
            unshare_volume(&host_namespace, &place).unwrap();
            unshare_volume(&host_namespace, &place).unwrap();
            assert!(!place.exists());
            assert!(host.join("from-us").exists(), "the volume keeps its files");
        });
        let missing = outcome
            .err()
            .map(|error| format!("no mount namespace: {error}"));
        testkit::prerequisite("root", missing);
    }

    #[test]
    fn in_one_namespace_the_directory_is_only_made_shared() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let outcome = namespace::with_own_mounts(|| {
            let own = PathBuf::from("/proc/thread-self/ns/mnt");
            let task = rustix::thread::gettid().as_raw_nonzero();
            let own_seen_from_elsewhere = PathBuf::from(format!("/proc/self/task/{task}/ns/mnt"));
            assert!(own.exists());
            let place = Path::new("/nowhere");
            share_volume(&own_seen_from_elsewhere, &base, place, &base).unwrap();
            let mounts = KernelMounts.list().unwrap();
            assert!(
                mountinfo::mount_at(&mounts, &base)
                    .unwrap()
                    .shared
                    .is_some()
            );
        });
        let missing = outcome
            .err()
            .map(|error| format!("no mount namespace: {error}"));
        testkit::prerequisite("root", missing);
    }

    #[test]
    fn volume_that_was_made_again_replaces_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let (host, ours) = (base.join("volume"), base.join("kubelet"));
        let place = base.join("place");
        fs::create_dir_all(&ours).unwrap();
        let outcome = namespace::with_own_mounts(|| {
            let host_thread = rustix::thread::gettid().as_raw_nonzero();
            let host_namespace = PathBuf::from(format!("/proc/self/task/{host_thread}/ns/mnt"));
            for content in ["one", "two"] {
                fs::create_dir_all(&host).unwrap();
                fs::write(host.join("file"), content).unwrap();
                namespace::with_own_mounts(|| {
                    share_volume(&host_namespace, &host, &place, &ours).unwrap();
                    let seen = fs::read_to_string(ours.join("file")).unwrap();
                    assert_eq!(seen, content);
                })
                .unwrap();
                fs::remove_dir_all(&host).unwrap();
            }
            unshare_volume(&host_namespace, &place).unwrap();
        });
        let missing = outcome
            .err()
            .map(|error| format!("no mount namespace: {error}"));
        testkit::prerequisite("root", missing);
    }

    #[test]
    fn place_tells_the_path_behind_it() {
        let volume = Path::new("/var/lib/docker/volumes/a%2Fb/_data");
        let place = place_of(volume);
        assert_eq!(place.parent(), Some(Path::new(PLACES)));
        assert_eq!(path_behind(&place).as_deref(), Some(volume));
        let below = path_behind(&place.join("pods/u"));
        assert_eq!(below, Some(volume.join("pods/u")));
        assert_eq!(path_behind(volume), None);
        assert_eq!(path_behind(Path::new(PLACES)), None);
        assert_eq!(path_behind(&Path::new(PLACES).join("relative")), None);
    }
}
