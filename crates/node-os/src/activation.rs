//! Sockets handed over by the service manager: sd_listen_fds(3), cri-dockerd SYS-03.

use std::{
    io,
    os::{
        fd::{FromRawFd as _, OwnedFd},
        unix::net::UnixListener,
    },
};

use rustix::net::{AddressFamily, getsockname};

/// The first descriptor that the service manager hands over.
const FIRST: i32 = 3;

/// The service manager handed over nothing that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// The variables are not there, are for another process, or say zero.
    #[error("no sockets found via socket activation: make sure the service was started by systemd")]
    None,
    /// The first descriptor is not a listening unix socket.
    #[error("descriptor 3, handed over by the service manager, is not a unix socket")]
    NotUnix,
    /// It could not be made ready.
    #[error("take over descriptor 3")]
    Take(#[source] io::Error),
}

/// Takes the first inherited listener. `listen_pid` and `listen_fds` are the values of the
/// environment variables of these names. Call it once, at the very start, before anything is opened.
///
/// # Errors
/// See [`ActivationError`].
pub fn first_listener(
    listen_pid: Option<&str>,
    listen_fds: Option<&str>,
) -> Result<UnixListener, ActivationError> {
    let number = |text: Option<&str>| text.and_then(|text| text.trim().parse::<u32>().ok());
    let ours = number(listen_pid) == Some(std::process::id());
    if !ours || number(listen_fds).is_none_or(|count| count == 0) {
        return Err(ActivationError::None);
    }
    // SAFETY: by the protocol, which the two variables with our own pid attest, descriptor 3 is open
    // and ours; the caller's duty is to ask once and first. The standard library has no safe way to
    // adopt an inherited descriptor.
    #[expect(unsafe_code, reason = "adopting a descriptor by number")]
    let socket = unsafe { OwnedFd::from_raw_fd(FIRST) };
    let address = getsockname(&socket).map_err(|_| ActivationError::NotUnix)?;
    if address.address_family() != AddressFamily::UNIX {
        return Err(ActivationError::NotUnix);
    }
    let flags = rustix::io::FdFlags::CLOEXEC;
    rustix::io::fcntl_setfd(&socket, flags).map_err(|errno| ActivationError::Take(errno.into()))?;
    let listener = UnixListener::from(socket);
    listener
        .set_nonblocking(true)
        .map_err(ActivationError::Take)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_for_another_process_are_not_ours() {
        let own = std::process::id().to_string();
        for (pid, fds) in [
            (None, None),
            (Some("1"), Some("1")),
            (Some(own.as_str()), None),
            (Some(own.as_str()), Some("0")),
            (Some("x"), Some("1")),
        ] {
            assert!(matches!(
                first_listener(pid, fds),
                Err(ActivationError::None)
            ));
        }
    }
}
