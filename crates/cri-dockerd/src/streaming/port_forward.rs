//! TCP connections to a pod's own loopback, without help of other programs (DEC-22, PFW-05).
//!
//! A socket belongs to the network in which it was made. So a thread made for it enters the pod's
//! network and only makes the socket; connecting and carrying happen here as with any other.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    time::Duration,
};

use ::streaming::{Input, Output};
use bytes::BytesMut;
use node_os::netns::{self, NetNsError};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::watch,
};

use crate::{
    exec::kill::is_in,
    state::{Life, Record},
};

/// How long a connect on the pod's loopback may take: a full queue of the listener makes it wait.
const CONNECT: Duration = Duration::from_secs(30);
/// How long a client is waited for that sends nothing to a pod that has sent its all, as upstream's
/// socat: many clients wait for the end of the error stream before they close. The other way round
/// there is no limit: an answer may take its time.
const LATE: Duration = Duration::from_millis(500);
/// Bytes read at once.
const PIECE: usize = 16 << 10;

/// A connection to a pod failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ForwardError {
    /// The pod ended meanwhile.
    #[error("the pod has no running sandbox")]
    NoProcess,
    /// Its pid means another process, or none, here.
    #[error(
        "process {0} of the sandbox is not visible from here: run with the host's pid namespace"
    )]
    NotVisible(i32),
    /// Its network can't be entered.
    #[error("network of the pod")]
    Network(#[source] NetNsError),
    /// No socket.
    #[error("make a socket in the pod's network")]
    Socket(#[source] io::Error),
    /// Nobody listens, most often.
    #[error("connect to localhost:{port} in the pod")]
    Connect {
        /// The port.
        port: u16,
        /// What 127.0.0.1 said.
        #[source]
        source: io::Error,
    },
    /// Nobody accepts.
    #[error("connect to localhost:{0} in the pod: no answer within {CONNECT:?}")]
    Timeout(u16),
    /// The connection broke.
    #[error("connection to localhost:{port} in the pod")]
    Broken {
        /// The port.
        port: u16,
        /// How.
        #[source]
        source: io::Error,
    },
}

/// Carries a client's connection to a port of the pod.
pub(super) async fn forward(
    sandbox: &Record,
    port: u16,
    input: Input,
    output: Output,
) -> Result<(), ForwardError> {
    let Life::Running { pid, .. } = sandbox.life else {
        return Err(ForwardError::NoProcess);
    };
    let pid = i32::try_from(pid).map_err(|_| ForwardError::NoProcess)?;
    let stream = connect(pid, &sandbox.id, port).await?;
    exchange(stream, port, input, output, LATE).await
}

/// Carries both directions to their ends. For `late` see [`LATE`].
async fn exchange(
    mut stream: TcpStream,
    port: u16,
    mut input: Input,
    output: Output,
    late: Duration,
) -> Result<(), ForwardError> {
    let broken = |source| ForwardError::Broken { port, source };
    let (mut read, mut write) = stream.split();
    let (moved, mut moves) = watch::channel(());
    let inward = async {
        while let Some(data) = input.next().await {
            write.write_all(&data).await?;
            moved.send_replace(());
        }
        write.shutdown().await
    };
    let outward = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(PIECE);
            if read.read_buf(&mut buffer).await? == 0 {
                break;
            }
            if output.write(buffer.split().freeze()).await.is_err() {
                return Ok(());
            }
        }
        // Gone: nobody to tell.
        let _ = output.finish().await;
        io::Result::Ok(())
    };
    let (mut inward, mut outward) = (std::pin::pin!(inward), std::pin::pin!(outward));
    tokio::select! {
        // Both are carried on, or dropped with the connection.
        sent = &mut inward => {
            // The pod does not read any more, but may still have something to say.
            let failed = sent.err();
            outward.await.map_err(|error| broken(failed.unwrap_or(error)))
        }
        received = &mut outward => {
            received.map_err(broken)?;
            let still = async {
                while let Ok(Ok(())) = tokio::time::timeout(late, moves.changed()).await {}
            };
            tokio::select! {
                // An error now is the pod's last word.
                _ = inward => {}
                () = still => {}
            }
            Ok(())
        }
    }
}

/// Connects to 127.0.0.1, and to ::1 when nobody is there.
async fn connect(pid: i32, sandbox: &str, port: u16) -> Result<TcpStream, ForwardError> {
    let loopback = |address| SocketAddr::new(address, port);
    let first = try_connect(pid, sandbox, loopback(Ipv4Addr::LOCALHOST.into())).await;
    if !matches!(first, Err(ForwardError::Connect { .. })) {
        return first;
    }
    match try_connect(pid, sandbox, loopback(Ipv6Addr::LOCALHOST.into())).await {
        Ok(stream) => Ok(stream),
        Err(_) => first,
    }
}

async fn try_connect(
    pid: i32,
    sandbox: &str,
    address: SocketAddr,
) -> Result<TcpStream, ForwardError> {
    let port = address.port();
    let sandbox = sandbox.to_owned();
    let family = match address.ip() {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = daemon::blocking(move || socket_of(pid, &sandbox, family)).await?;
    let connecting = TcpSocket::from_std_stream(socket.into()).connect(address);
    match tokio::time::timeout(CONNECT, connecting).await {
        Ok(Ok(stream)) => {
            // Small writes go on at once; without it they only come late.
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Ok(Err(source)) => Err(ForwardError::Connect { port, source }),
        Err(_) => Err(ForwardError::Timeout(port)),
    }
}

/// A socket in the network of a sandbox's process.
fn socket_of(pid: i32, sandbox: &str, family: AddressFamily) -> Result<OwnedFd, ForwardError> {
    let number = u32::try_from(pid).map_err(|_| ForwardError::NoProcess)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = netns::run(&netns::of_process(number), || {
        socket_with(family, SocketType::STREAM, flags, None)
    });
    let socket = socket
        .map_err(ForwardError::Network)?
        .map_err(|errno| ForwardError::Socket(errno.into()))?;
    // Behind the entering: until here the number can have come to mean another process.
    if is_in(pid, sandbox) {
        Ok(socket)
    } else {
        Err(ForwardError::NotVisible(pid))
    }
}

#[cfg(test)]
mod tests;
