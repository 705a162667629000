//! The streaming server: URLs with a token for each request (STR rows), and the connections that
//! use them.
//!
//! One task accepts, one serves each connection's HTTP, one each upgraded connection; all end with
//! the server. [`MAX_CONNECTIONS`] bounds them together.

mod http;
mod port_forward;
mod remote_command;
mod tls;

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tokio_util::sync::CancellationToken;

use crate::{
    remote_command::{TerminalSize, Wanted},
    stream::{Input, Output},
    tokens::{Tokens, TooMany},
};

pub use tls::{Tls, TlsError, TlsFiles};

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

/// How the server works.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 is any.
    pub address: SocketAddr,
    /// Path before `/exec`, `/attach` and `/portforward`: empty, or begins with a slash and does not
    /// end with one.
    pub base_path: &'static str,
    /// Connections without traffic are closed after this; `None` is never.
    pub idle: Option<Duration>,
    /// How long a client may take to open the streams of a request.
    pub stream_creation: Duration,
    /// With it the URLs are of `https`.
    pub tls: Option<Tls>,
}

impl Config {
    /// Upstream's limits: 4 hours idle, 30 seconds to open streams.
    pub fn new(address: SocketAddr, base_path: &'static str) -> Self {
        Self {
            address,
            base_path,
            idle: Some(Duration::from_hours(4)),
            stream_creation: Duration::from_secs(30),
            tls: None,
        }
    }
}

/// A command to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// The container.
    pub container: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Its streams.
    pub wanted: Wanted,
}

/// A container to attach to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// The container.
    pub container: String,
    /// Its streams.
    pub wanted: Wanted,
}

/// A pod whose ports are forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortForward {
    /// The sandbox.
    pub sandbox: String,
    /// For clients that forward by channels; others name the port with each connection.
    pub ports: Vec<u16>,
}

/// A request that waits for its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Run a command.
    Exec(Exec),
    /// Attach.
    Attach(Attach),
    /// Forward ports.
    PortForward(PortForward),
}

impl Request {
    /// First word of the path.
    fn method(&self) -> &'static str {
        match self {
            Self::Exec(_) => "exec",
            Self::Attach(_) => "attach",
            Self::PortForward(_) => "portforward",
        }
    }

    /// What is wrong with it, in upstream's words (EXE-09).
    ///
    /// # Errors
    /// The text for the caller of the RPC.
    pub fn validate(&self) -> Result<(), &'static str> {
        let (container, wanted, none) = match self {
            Self::Exec(exec) => (
                &exec.container,
                exec.wanted,
                "one of stdin, stdout, or stderr must be set",
            ),
            Self::Attach(attach) => (
                &attach.container,
                attach.wanted,
                "one of stdin, stdout, and stderr must be set",
            ),
            Self::PortForward(forward) if forward.sandbox.is_empty() => {
                return Err("missing required pod_sandbox_id");
            }
            Self::PortForward(_) => return Ok(()),
        };
        if container.is_empty() {
            Err("missing required container_id")
        } else if wanted.tty && wanted.stderr {
            Err("tty and stderr cannot both be true")
        } else if !wanted.stdin && !wanted.stdout && !wanted.stderr {
            Err(none)
        } else {
            Ok(())
        }
    }
}

/// A command's or attachment's streams on the client's side.
#[derive(Debug)]
pub struct Streams {
    /// What the client types; its end is the end of input.
    pub stdin: Option<Input>,
    /// Standard output, or all output of a terminal.
    pub stdout: Option<Output>,
    /// Standard error.
    pub stderr: Option<Output>,
    /// The terminal's size whenever it changes, if there is a terminal: only the newest matters.
    pub size: watch::Receiver<Option<TerminalSize>>,
}

/// Why a request could not be carried out: a text for the user.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

/// What the server needs of the container runtime.
///
/// The futures are dropped when the client goes away, when it is idle for too long and when the
/// server ends: what must be done then is to be done on drop.
pub trait Runtime: Send + Sync + 'static {
    /// Runs a command to its end; the answer is its exit code.
    fn exec(
        &self,
        request: Exec,
        streams: Streams,
    ) -> impl Future<Output = Result<i32, Failure>> + Send;

    /// Attaches until the container's output ends.
    fn attach(
        &self,
        request: Attach,
        streams: Streams,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Carries a connection to a port in a pod, each direction to its own end.
    fn port_forward(
        &self,
        sandbox: &str,
        port: u16,
        input: Input,
        output: Output,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Makes URLs for requests. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Urls {
    tokens: Arc<Mutex<Tokens<Request>>>,
    base: Arc<str>,
}

impl Urls {
    /// The URL at which the request is carried out: once, within a minute.
    ///
    /// # Errors
    /// When a thousand requests wait already.
    pub fn insert(&self, request: Request) -> Result<String, TooMany> {
        let method = request.method();
        let random = crate::random::bytes();
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let token = tokens.insert(request, random, Instant::now())?;
        Ok(format!("{}/{method}/{token}", self.base))
    }

    fn consume(&self, method: &str, token: &str) -> Option<Request> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let request = tokens.consume(token, Instant::now())?;
        (request.method() == method).then_some(request)
    }
}

/// A bound server.
#[derive(Debug)]
pub struct Server<R> {
    listener: TcpListener,
    shared: Arc<Shared<R>>,
}

/// What all connections share.
#[derive(Debug)]
struct Shared<R> {
    runtime: R,
    urls: Urls,
    config: Config,
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
        let urls = Urls {
            tokens: Arc::new(Mutex::new(Tokens::new())),
            base: format!("{scheme}://{address}{}", config.base_path).into(),
        };
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
