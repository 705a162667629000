//! The streaming server: URLs with a token for each request (STR rows), and the connections that
//! use them.
//!
//! One task accepts, one serves each connection's HTTP, one each upgraded connection; all end with
//! the server. [`MAX_CONNECTIONS`] bounds them together.

mod config;
mod http;
mod port_forward;
mod remote_command;
mod request;
mod runtime;
mod tls;
mod urls;

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

use self::config::Shared;

pub use config::Config;
pub use request::{Attach, Exec, PortForward, Request};
pub use runtime::{Failure, Runtime, Streams};
pub use tls::{Tls, TlsError, TlsFiles};
pub use urls::Urls;

/// Connections at once; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1000;
/// A connection that sends no request for this long is closed.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an answer that is under way when the server ends may take.
const LAST_ANSWER: Duration = Duration::from_secs(1);
/// Largest head of a request.
const MAX_HEAD: usize = 16 << 10;
/// Silence after which the kernel asks whether the peer is still there, and the pause between its
/// questions, as Go's server.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A bound server.
#[derive(Debug)]
pub struct Server<R> {
    listener: TcpListener,
    shared: Arc<Shared<R>>,
}

impl<R: Runtime> Server<R> {
    /// Binds. Nothing is served before [`Self::run`].
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub async fn bind(config: Config, runtime: R) -> io::Result<Self> {
        let listener = TcpListener::bind(config.address).await?;
        let address = listener.local_addr()?;
        let scheme = if config.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let urls = Urls::new(format!("{scheme}://{address}{}", config.base_path));
        let shared = Arc::new(Shared {
            runtime,
            urls,
            config,
        });
        Ok(Self { listener, shared })
    }

    /// Where requests get their URLs.
    pub fn urls(&self) -> Urls {
        self.shared.urls.clone()
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the kernel doesn't say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the token is cancelled; then running requests are told and ended, and this
    /// returns when they are.
    pub async fn run(self, shutdown: CancellationToken) {
        let connections = daemon::TaskGroup::under("streaming connections", &shutdown);
        self.accept(&connections, &shutdown).await;
        connections.joined().await;
    }

    async fn accept(&self, connections: &daemon::TaskGroup, shutdown: &CancellationToken) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let place = tokio::select! {
                biased;
                // cancel-safe: a level.
                () = shutdown.cancelled() => return,
                // cancel-safe: a dropped wait loses its place in the queue only.
                place = Arc::clone(&places).acquire_owned() => place,
            };
            let Ok(place) = place else {
                return;
            };
            let accepted = tokio::select! {
                biased;
                // cancel-safe: a level.
                () = shutdown.cancelled() => return,
                // cancel-safe: failures stay until taken. A panic is that connection's own (DEC-46).
                failure = connections.failed() => {
                    tracing::error!(error = %daemon::ErrorChain(&failure), "a streaming connection failed");
                    continue;
                }
                // cancel-safe: no connection is lost by a dropped accept.
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "streaming server: accept");
                    // Out of descriptors, most likely: let some close.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            if let Err(error) = prepare(&stream) {
                tracing::debug!(%error, "streaming connection: socket options");
            }
            let service = http::Service {
                shared: Arc::clone(&self.shared),
                connections: connections.spawner(),
                place: Arc::new(place),
            };
            let shutdown = shutdown.clone();
            connections.spawn_job("streaming connection", async move {
                serve(stream, service, &shutdown).await;
            });
        }
    }
}

/// Serves one connection until it ends, becomes something else, or the server ends.
async fn serve<R: Runtime>(
    stream: TcpStream,
    service: http::Service<R>,
    shutdown: &CancellationToken,
) {
    let Some(tls) = &service.shared.config.tls else {
        return serve_http(stream, service, shutdown).await;
    };
    let handshake = tokio::time::timeout(HEADER_TIMEOUT, tls.acceptor().accept(stream));
    let shaken = tokio::select! {
        biased;
        // cancel-safe: a level; no request has come yet.
        () = shutdown.cancelled() => return,
        // cancel-safe: the connection is dropped with it.
        shaken = handshake => shaken,
    };
    match shaken {
        // On the heap: TLS's state is large.
        Ok(Ok(stream)) => Box::pin(serve_http(stream, service, shutdown)).await,
        Ok(Err(error)) => tracing::debug!(%error, "streaming connection: TLS"),
        Err(_) => tracing::debug!("streaming connection: no TLS in time"),
    }
}

async fn serve_http<I, R>(io: I, service: http::Service<R>, shutdown: &CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    R: Runtime,
{
    let mut connection = pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades()
    );
    let served = tokio::select! {
        biased;
        // cancel-safe: a level. A request whose answer is on its way still becomes its
        // session, which then tells the client that the server ends.
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(LAST_ANSWER, connection).await {
                Ok(served) => served,
                Err(_) => return,
            }
        }
        // cancel-safe: pinned outside, and carried on in the other arm.
        served = connection.as_mut() => served,
    };
    if let Err(error) = served {
        tracing::debug!(%error, "streaming connection");
    }
}

/// Small writes go out at once, and a peer that has vanished is found out.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEP_ALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEP_ALIVE)?;
    Ok(())
}
