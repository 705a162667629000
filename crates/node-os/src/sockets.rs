//! Sockets as the standard library has no words for them.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    os::fd::AsFd,
};

use rustix::{
    io::Errno,
    net::{self, AddressFamily, SocketFlags, SocketType, sockopt},
};

/// How far a connection came at once. Its socket does not block.
#[derive(Debug)]
pub enum Dialled {
    /// It stands.
    Connected(TcpStream),
    /// The peer has the word: the socket becomes writable when it has said something, and keeps
    /// what went wrong for [`TcpStream::take_error`].
    Underway(TcpStream),
}

/// Begins to connect and looks at once what came of it: within one machine the handshake is over
/// by then, and nobody need wait for it. Does not block.
///
/// The client must have the first word: its request carries the handshake's last acknowledgement,
/// a packet less.
///
/// # Errors
/// When the system has no more sockets or no way there, or the peer has already refused.
pub fn dial(address: SocketAddr) -> io::Result<Dialled> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
    // Where it cannot be set it does not matter.
    let _ = delay_acknowledgements(&socket);
    let mut connected = net::connect(&socket, &address);
    if connected == Err(Errno::INPROGRESS) {
        // Asked again, the kernel tells how it went.
        connected = net::connect(&socket, &address);
    }
    match connected {
        Ok(()) | Err(Errno::ISCONN) => Ok(Dialled::Connected(socket.into())),
        Err(Errno::ALREADY) => Ok(Dialled::Underway(socket.into())),
        Err(error) => Err(error.into()),
    }
}

/// Lets acknowledgements wait for data that goes the same way (`TCP_QUICKACK` off).
fn delay_acknowledgements(socket: impl AsFd) -> io::Result<()> {
    Ok(sockopt::set_tcp_quickack(socket, false)?)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
    };

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    #[test]
    fn what_is_dialled_stands_and_does_not_block() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            // Not every machine has IPv6.
            let Ok(listener) = TcpListener::bind(host) else {
                continue;
            };
            let dialled = dial(listener.local_addr().unwrap()).unwrap();
            // A busy machine may let it take a while.
            let (Dialled::Connected(mut stream) | Dialled::Underway(mut stream)) = dialled;
            poll(&mut [PollFd::new(&stream, PollFlags::OUT)], None).unwrap();
            stream.write_all(b"x").unwrap();
            let (mut peer, _) = listener.accept().unwrap();
            peer.read_exact(&mut [0]).unwrap();
            let blocked = stream.read(&mut [0]).unwrap_err();
            assert_eq!(blocked.kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn a_peer_that_says_nothing_is_not_waited_for() {
        let listener = net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        net::bind(&listener, &any).unwrap();
        net::listen(&listener, 0).unwrap();
        let listener = TcpListener::from(listener);
        let address = listener.local_addr().unwrap();
        // Those that nobody accepts fill its queue; then the kernel does not answer.
        let mut connected = Vec::new();
        let waiting = (0..8).find_map(|_| match dial(address).unwrap() {
            Dialled::Connected(mut stream) => {
                stream.write_all(b"x").unwrap();
                connected.push(stream);
                None
            }
            Dialled::Underway(stream) => Some(stream),
        });
        let error = waiting.expect("the queue is full").write(b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn who_refuses_is_heard() {
        let address = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap()
        };
        let error = match dial(address) {
            Err(error) => error,
            Ok(Dialled::Connected(_)) => panic!("nobody is there"),
            Ok(Dialled::Underway(stream)) => {
                poll(&mut [PollFd::new(&stream, PollFlags::OUT)], None).unwrap();
                stream.take_error().unwrap().unwrap()
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
