//! Making a directory of a container one with the host's, mounts included (DEC-12).
//!
//! Docker mounts a volume privately: a tmpfs that we mount below it is not seen by the host, so no
//! other container can be given it. Once, at start:
//!
//! ```text
//!  in the host's mount namespace      open_tree(CLONE)      in ours
//!  bind HOST on itself, shared   ───── same peer group ───▶ move_mount over OURS
//! ```
//!
//! From then on a mount below either path appears below the other.

use std::{
    fs::File,
    io,
    os::fd::AsFd as _,
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

/// Makes `host` (a directory in the mount namespace behind the file `host_namespace`) shared there
/// and mounts it over `ours`. Doing it again changes nothing. Where both namespaces are one, only
/// the directory is made a shared mount.
///
/// On the host's side a mount of `host` on itself stays until [`unshare_volume`].
///
/// # Errors
/// See [`ShareError`]. A half-done change is undone, except for the host's mount, which does no
/// harm and is used by the next try.
pub fn share_volume(host_namespace: &Path, host: &Path, ours: &Path) -> Result<(), ShareError> {
    namespace::on_own_thread(|| share(host_namespace, host, ours))
        .map_err(step("start a thread for", host))?
}

/// Takes back what [`share_volume`] left on the host's side. Mounts below go with it.
///
/// # Errors
/// See [`ShareError`]. A directory that is not mounted on itself is fine.
pub fn unshare_volume(host_namespace: &Path, host: &Path) -> Result<(), ShareError> {
    namespace::on_own_thread(|| {
        let theirs = File::open(host_namespace).map_err(step("open", host_namespace))?;
        enter(&theirs)?;
        match unmount(host, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
            Err(errno) => Err(step("unmount", host)(errno.into())),
        }
    })
    .map_err(step("start a thread for", host))?
}

fn share(host_namespace: &Path, host: &Path, ours: &Path) -> Result<(), ShareError> {
    let own_path = Path::new("/proc/thread-self/ns/mnt");
    let own = File::open(own_path).map_err(step("open", own_path))?;
    let theirs = File::open(host_namespace).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => ShareError::Denied("look at the host's mounts", error),
        _ => step("open", host_namespace)(error),
    })?;
    if same_file(&own, &theirs)? {
        return make_shared(host);
    }
    if already_one(host, ours, &own, &theirs)? {
        return Ok(());
    }
    enter(&theirs)?;
    make_shared(host)?;
    let clone = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, host, clone).map_err(|errno| match errno {
        Errno::NOSYS => ShareError::Kernel,
        errno => step("clone", host)(errno.into()),
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

/// Makes the directory a mount of its own that shares what is mounted below it.
fn make_shared(host: &Path) -> Result<(), ShareError> {
    let mounts = mountinfo::read_own()?;
    let mounted = mountinfo::mount_at(&mounts, host);
    if mounted.is_none() {
        mount_bind_recursive(host, host).map_err(|errno| match errno {
            Errno::PERM => ShareError::Denied("mount on the host", errno.into()),
            errno => step("bind mount", host)(errno.into()),
        })?;
    }
    if mounted.is_none_or(|mount| mount.shared.is_none()) {
        mount_change(host, MountPropagationFlags::SHARED)
            .map_err(|errno| step("share", host)(errno.into()))?;
    }
    Ok(())
}

/// Whether the topmost mounts of both places are in one peer group.
fn already_one(host: &Path, ours: &Path, own: &File, theirs: &File) -> Result<bool, ShareError> {
    let here = mountinfo::read_own()?;
    let group = mountinfo::mount_at(&here, ours).and_then(|mount| mount.shared);
    enter(theirs)?;
    let there = mountinfo::read_own();
    enter(own)?;
    let there = there?;
    let their_group = mountinfo::mount_at(&there, host).and_then(|mount| mount.shared);
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
    use std::fs;

    use super::*;
    use crate::mounts::{Access, Depth, KernelMounts, Mounts as _, Swap, TmpfsOptions, Unmount};

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
        let (host, ours) = (base.join("volume"), base.join("kubelet"));
        fs::create_dir_all(&host).unwrap();
        fs::create_dir_all(&ours).unwrap();
        let outcome = namespace::with_own_mounts(|| {
            let host_thread = rustix::thread::gettid().as_raw_nonzero();
            let host_namespace = PathBuf::from(format!("/proc/self/task/{host_thread}/ns/mnt"));
            namespace::with_own_mounts(|| {
                KernelMounts
                    .bind(&host, &ours, Depth::Single, Access::ReadWrite)
                    .unwrap();
                share_volume(&host_namespace, &host, &ours).unwrap();
                let before = KernelMounts.list().unwrap().len();
                share_volume(&host_namespace, &host, &ours).unwrap();
                assert_eq!(
                    KernelMounts.list().unwrap().len(),
                    before,
                    "a second time is free"
                );

                tmpfs(&ours.join("from-us"));
                fs::write(ours.join("from-us/file"), "x").unwrap();
            })
            .unwrap();
            assert_eq!(
                fs::read(host.join("from-us/file")).unwrap(),
                b"x",
                "the host sees ours"
            );
            KernelMounts
                .unmount_below(&host.join("from-us"), Unmount::Lazy)
                .unwrap();
            unshare_volume(&host_namespace, &host).unwrap();
            unshare_volume(&host_namespace, &host).unwrap();
            assert!(!KernelMounts.is_mount_point(&host).unwrap());
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
            share_volume(&own_seen_from_elsewhere, &base, &base).unwrap();
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
}
