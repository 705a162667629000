//! Work in another namespace: on a thread made for it, which ends with the work, so that no other
//! code ever runs in the wrong place.

use std::{fs::File, io, os::fd::AsFd as _, path::Path, thread};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// Runs `work` on a thread of its own and waits for it. A panic continues in the caller.
pub(crate) fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let handle = thread::Builder::new()
            .name("namespace".to_owned())
            .stack_size(256 * 1024)
            .spawn_scoped(scope, work)?;
        match handle.join() {
            Ok(value) => Ok(value),
            Err(payload) => std::panic::resume_unwind(payload),
        }
    })
}

/// Runs `work` in the network namespace behind `path` (`/proc/<pid>/ns/net` or a bind mount of one).
pub(crate) fn in_network<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let namespace = File::open(path)?;
    on_own_thread(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(work())
    })?
}

/// Lets the calling thread have a mount namespace other than its siblings'. Only for threads made
/// by [`on_own_thread`].
pub(crate) fn leave_shared_directories() -> io::Result<()> {
    // SAFETY: only the sharing of the working directory, root and umask ends, for this thread, which
    // ends with its work; descriptors (the reason the call is unsafe) stay shared. There is no safe
    // call: `setns` refuses a mount namespace to a thread that shares these.
    #[expect(unsafe_code, reason = "setns for mounts needs it")]
    unsafe {
        unshare_unsafe(UnshareFlags::FS)?;
    }
    Ok(())
}

/// Runs `work` in a new mount namespace from which nothing spreads.
#[cfg(test)]
pub(crate) fn with_own_mounts<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    use rustix::mount::{MountPropagationFlags, mount_change};

    on_own_thread(move || {
        // SAFETY: as above, for a thread that ends with the work.
        #[expect(unsafe_code, reason = "there is no safe call")]
        unsafe {
            unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS)?;
        }
        mount_change(
            "/",
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )?;
        Ok(work())
    })?
}
