//! Sleeping until a descriptor is ready or a time has come.

use std::{
    io,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    Read,
    Write,
}

/// Waits until one of `watched` is ready (hang-up and error included) or `deadline` has come, and tells which are.
/// A signal may end the wait early with none.
///
/// # Errors
/// The kernel is out of memory.
pub(crate) fn wait(
    watched: &[(BorrowedFd<'_>, Interest)],
    deadline: Option<Instant>,
) -> io::Result<Vec<bool>> {
    let mut descriptors: Vec<PollFd<'_>> = watched
        .iter()
        .map(|(descriptor, interest)| {
            let flags = match interest {
                Interest::Read => PollFlags::IN,
                Interest::Write => PollFlags::OUT,
            };
            PollFd::from_borrowed_fd(*descriptor, flags)
        })
        .collect();
    let left =
        deadline.map(|deadline| timespec(deadline.saturating_duration_since(Instant::now())));
    match poll(&mut descriptors, left.as_ref()) {
        Ok(_) => Ok(descriptors
            .iter()
            .map(|descriptor| !descriptor.revents().is_empty())
            .collect()),
        Err(Errno::INTR) => Ok(vec![false; watched.len()]),
        Err(error) => Err(error.into()),
    }
}

/// Whether the descriptor is ready now.
pub(crate) fn is_ready(descriptor: BorrowedFd<'_>, interest: Interest) -> bool {
    wait(&[(descriptor, interest)], Some(Instant::now())).is_ok_and(|ready| ready[0])
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
