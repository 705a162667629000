//! A connection that is tried before it is waited for.
//!
//! The runtime's poller is told of it only when there is something to wait for: each telling is two
//! system calls and a wake-up, and what another program of this machine says is often there already.

use std::{
    future::Future,
    io::{self, ErrorKind, IoSlice, Read as _, Write as _},
    net::{self, Shutdown, SocketAddr},
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// What a short answer fits into, in bytes. Room for a reading is cleared first: not more than is used.
const SHORT_BYTES: usize = 1024;

/// A TCP connection. What goes wrong on it is told in the words of Go's.
pub(crate) struct Connection {
    socket: Socket,
    peer: SocketAddr,
    /// What is waited for before the first reading.
    rest: Option<BoxFuture<'static, ()>>,
}

#[derive(Debug)]
enum Socket {
    /// The poller knows nothing of it.
    Unwatched(net::TcpStream),
    Watched(TcpStream),
    /// The poller refused it.
    Lost,
}

impl Connection {
    /// Over a socket that is connected with `peer` and does not block.
    pub(crate) fn new(stream: net::TcpStream, peer: SocketAddr) -> Self {
        Self {
            socket: Socket::Unwatched(stream),
            peer,
            rest: None,
        }
    }

    /// Over one that the poller knows.
    pub(crate) fn watched(stream: TcpStream, peer: SocketAddr) -> Self {
        Self {
            socket: Socket::Watched(stream),
            peer,
            rest: None,
        }
    }

    /// Looks for what the peer says only after `rest`: answers of many peers, to which the poller
    /// would wake somebody one by one, can be looked for together.
    pub(crate) fn first_resting(self, rest: impl Future<Output = ()> + Send + 'static) -> Self {
        Self {
            rest: Some(Box::pin(rest)),
            ..self
        }
    }
}

impl Connection {
    /// `read tcp 10.0.0.1:41000->10.0.0.2:80: read: connection reset by peer`
    fn failed<T>(&self, doing: &str, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            let local = match &self.socket {
                Socket::Unwatched(stream) => stream.local_addr(),
                Socket::Watched(stream) => stream.local_addr(),
                Socket::Lost => return error,
            };
            // Where the system does not tell, neither does Go.
            let local = local.map(|local| local.to_string()).unwrap_or_default();
            let (peer, why) = (self.peer, reason(&error));
            let text = format!("{doing} tcp {local}->{peer}: {doing}: {why}");
            io::Error::new(error.kind(), text)
        })
    }
}

/// What the system says, as Go words it.
pub(super) fn reason(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::HostUnreachable => "no route to host".to_owned(),
        ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
        ErrorKind::TimedOut => "connection timed out".to_owned(),
        ErrorKind::ConnectionReset => "connection reset by peer".to_owned(),
        ErrorKind::BrokenPipe => "broken pipe".to_owned(),
        _ => error.to_string(),
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Connection")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

impl Socket {
    /// Tries while the poller need not know; `None` when it must.
    fn try_now<T>(
        &self,
        attempt: impl FnOnce(&net::TcpStream) -> io::Result<T>,
    ) -> Option<io::Result<T>> {
        let Self::Unwatched(stream) = self else {
            return None;
        };
        match attempt(stream) {
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                None
            }
            result => Some(result),
        }
    }

    /// Tells the poller.
    fn watch(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        *self = match std::mem::replace(self, Self::Lost) {
            Self::Unwatched(stream) => Self::Watched(TcpStream::from_std(stream)?),
            told => told,
        };
        match self {
            Self::Watched(stream) => Ok(Pin::new(stream)),
            Self::Unwatched(_) | Self::Lost => Err(ErrorKind::NotConnected.into()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(rest) = &mut self.rest {
            ready!(rest.as_mut().poll(context));
            self.rest = None;
        }
        let room = buffer.remaining().min(SHORT_BYTES);
        let read = |mut stream: &net::TcpStream| stream.read(buffer.initialize_unfilled_to(room));
        if let Some(read) = self.socket.try_now(read) {
            buffer.advance(self.failed("read", read)?);
            return Poll::Ready(Ok(()));
        }
        let read = ready!(self.socket.watch()?.poll_read(context, buffer));
        Poll::Ready(self.failed("read", read))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = match self.socket.try_now(|mut stream| stream.write(bytes)) {
            Some(written) => written,
            None => ready!(self.socket.watch()?.poll_write(context, bytes)),
        };
        Poll::Ready(self.failed("write", written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = match self
            .socket
            .try_now(|mut stream| stream.write_vectored(pieces))
        {
            Some(written) => written,
            None => ready!(self.socket.watch()?.poll_write_vectored(context, pieces)),
        };
        Poll::Ready(self.failed("write", written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is written is the kernel's.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self
            .socket
            .try_now(|stream| stream.shutdown(Shutdown::Write))
        {
            Some(shut) => Poll::Ready(shut),
            None => self.socket.watch()?.poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, time::Duration};

    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn pair() -> (Connection, net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_nonblocking(true).unwrap();
        let (peer, _) = listener.accept().unwrap();
        (
            Connection::new(stream, listener.local_addr().unwrap()),
            peer,
        )
    }

    #[tokio::test]
    async fn what_is_there_is_read_without_the_poller() {
        let (mut connection, mut peer) = pair();
        peer.write_all(b"answer").unwrap();
        connection.write_all(b"request").await.unwrap();
        let mut bytes = [0; 6];
        connection.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"answer");
        assert!(matches!(connection.socket, Socket::Unwatched(_)));
        connection.shutdown().await.unwrap();
        let mut request = String::new();
        peer.read_to_string(&mut request).unwrap();
        assert_eq!(request, "request");
    }

    #[tokio::test]
    async fn what_is_not_there_is_waited_for() {
        let (mut connection, mut peer) = pair();
        let mut bytes = [0; 6];
        let mut read = Box::pin(connection.read_exact(&mut bytes));
        assert!(read.as_mut().now_or_never().is_none());
        peer.write_all(b"answer").unwrap();
        read.await.unwrap();
        assert_eq!(&bytes, b"answer");
        assert!(matches!(connection.socket, Socket::Watched(_)));
        drop(peer);
        assert_eq!(connection.read(&mut bytes).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_reset_is_told_in_the_words_of_go() {
        let (mut connection, peer) = pair();
        let local = peer.peer_addr().unwrap();
        let text = format!(
            "tcp {local}->{}: read: connection reset by peer",
            peer.local_addr().unwrap()
        );
        connection.write_all(b"request").await.unwrap();
        // Closed with something unread in it.
        drop(peer);
        let error = connection.read(&mut [0; 6]).await.unwrap_err();
        assert_eq!(error.to_string(), format!("read {text}"));
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn more_than_the_kernel_takes_is_written_as_it_takes_it() {
        const MUCH: usize = 16 << 20;
        let (mut connection, mut peer) = pair();
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            peer.read_to_end(&mut bytes).map(|_| bytes.len())
        });
        connection.write_all(&vec![7; MUCH]).await.unwrap();
        connection.shutdown().await.unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), MUCH);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_read_during_the_rest() {
        let (connection, mut peer) = pair();
        let begin = tokio::time::Instant::now();
        let rest = tokio::time::sleep(Duration::from_secs(1));
        let mut connection = connection.first_resting(rest);
        peer.write_all(b"answer").unwrap();
        connection.write_all(b"request").await.unwrap();
        assert_eq!(begin.elapsed(), Duration::ZERO);
        let mut bytes = [0; 6];
        connection.read_exact(&mut bytes).await.unwrap();
        assert_eq!(begin.elapsed(), Duration::from_secs(1));
    }
}
