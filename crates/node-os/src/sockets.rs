//! Options of sockets that the standard library has no words for.

use std::{io, os::fd::AsFd};

use rustix::net::sockopt;

/// Lets acknowledgements wait for data that goes the same way (`TCP_QUICKACK` off). Set before
/// connecting it spares the handshake's last packet where the client has the first word.
///
/// # Errors
/// When the socket is not TCP.
pub fn delay_acknowledgements(socket: impl AsFd) -> io::Result<()> {
    Ok(sockopt::set_tcp_quickack(socket, false)?)
}
