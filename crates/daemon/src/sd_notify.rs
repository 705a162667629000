//! Telling systemd how we are, as sd_notify(3).

use std::{
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

/// Sends states to the service manager; does nothing where there is none.
#[derive(Debug)]
pub struct Notifier(Option<(UnixDatagram, SocketAddr)>);

/// The service manager's socket cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("notify the service manager at {socket}")]
pub struct NotifyError {
    socket: String,
    #[source]
    source: io::Error,
}

impl Notifier {
    /// `socket` is the value of `NOTIFY_SOCKET`, read by the caller: a path, or an abstract name
    /// that begins with `@`.
    ///
    /// # Errors
    /// When the name is not a valid address or no socket can be made.
    pub fn open(socket: Option<&OsStr>) -> Result<Self, NotifyError> {
        let Some(name) = socket.filter(|name| !name.is_empty()) else {
            return Ok(Self(None));
        };
        let fail = |source| NotifyError {
            socket: name.to_string_lossy().into_owned(),
            source,
        };
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(name),
        }
        .map_err(fail)?;
        let socket = UnixDatagram::unbound().map_err(fail)?;
        // A full queue must not hold up the daemon.
        socket.set_nonblocking(true).map_err(fail)?;
        Ok(Self(Some((socket, address))))
    }

    /// Sends lines such as `READY=1`, `STOPPING=1` or `WATCHDOG=1`.
    ///
    /// # Errors
    /// When the datagram cannot be sent. Does not block.
    pub fn send(&self, state: &str) -> Result<(), NotifyError> {
        let Some((socket, address)) = &self.0 else {
            return Ok(());
        };
        socket
            .send_to_addr(state.as_bytes(), address)
            .map(drop)
            .map_err(|source| NotifyError {
                socket: format!("{address:?}"),
                source,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_arrives_as_one_datagram() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        Notifier::open(Some(path.as_os_str()))
            .unwrap()
            .send("READY=1")
            .unwrap();
        let mut buffer = [0; 64];
        let length = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        Notifier::open(None).unwrap().send("READY=1").unwrap();
        let gone = Notifier::open(Some(OsStr::new("/nonexistent/notify"))).unwrap();
        assert!(gone.send("READY=1").is_err());
    }
}
