//! The client's half: upgrades a connection and opens the streams of a request.
//!
//! Each call answers a [`Running`] future that moves the connection's bytes; the caller polls it
//! beside its work (as a task of its own, or in a `select!`).

use std::{future::Future, pin::Pin};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    mux::{self, ConnectionError, End, Limits, Mux},
    negotiate,
    remote_command::{Outcome, StreamKind, TerminalSize, Version, Wanted},
    side::Side,
    spdy::{self, Headers},
    stream::{Gone, Input, Output, Stream},
    websocket::{self, Encoding},
};

/// Most of a refusal's text that is read.
const MAX_REFUSAL: usize = 16 << 10;
/// Bytes between a WebSocket and the SPDY inside it.
const TUNNEL: usize = 32 << 10;
/// Servers open no streams.
const LIMITS: Limits = Limits {
    idle: None,
    streams: 1024,
};
/// Most of what a server says on an error stream that is kept.
const MAX_STATUS: usize = 64 << 10;

/// Moves a connection's bytes until it ends; dropping it closes the connection.
pub type Running = Pin<Box<dyn Future<Output = Result<End, ConnectionError>> + Send>>;

/// How to talk to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// SPDY/3.1, with this version at most (v4 is the newest).
    Spdy(Version),
    /// WebSocket, with this version; `base64` for the text variant of v1 and v4.
    WebSocket {
        /// The version: v1, v4 or v5.
        version: Version,
        /// Text messages.
        base64: bool,
    },
}

/// What to ask for.
#[derive(Debug, Clone)]
pub struct Target {
    /// `Host`.
    pub authority: String,
    /// Path and query.
    pub path: String,
}

impl Target {
    /// Authority and path of an `http` or `https` URL.
    pub fn from_url(url: &str) -> Option<Self> {
        let (_, rest) = url.split_once("://")?;
        let slash = rest.find('/')?;
        let (authority, path) = rest.split_at(slash);
        Some(Self {
            authority: authority.to_owned(),
            path: path.to_owned(),
        })
    }
}

/// The server could not be talked to.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The request can't be put into HTTP.
    #[error("streaming request")]
    Request(#[from] http::Error),
    /// HTTP failed.
    #[error("streaming request")]
    Http(#[from] hyper::Error),
    /// The server doesn't upgrade.
    #[error("unable to upgrade connection: {status}: {text}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// What it says.
        text: String,
    },
    /// It chose something else.
    #[error("server chose protocol {0:?}")]
    Protocol(String),
    /// The connection ended before the streams were open.
    #[error("connection ended before its streams were open")]
    Ended,
}

/// An exec or attachment under way.
#[derive(Debug)]
pub struct RemoteCommand {
    /// Input of the command.
    pub stdin: Option<Output>,
    /// Its output.
    pub stdout: Option<Input>,
    /// Its error output.
    pub stderr: Option<Input>,
    resize: Option<Output>,
    error: Input,
    version: Version,
    mux: Mux,
}

impl RemoteCommand {
    /// Tells the terminal's size; nothing without a terminal.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn resize(&self, size: TerminalSize) -> Result<(), Gone> {
        let Some(resize) = &self.resize else {
            return Ok(());
        };
        let TerminalSize { width, height } = size;
        let text = format!(r#"{{"Width":{width},"Height":{height}}}"#);
        resize.write(text.into()).await
    }

    /// Waits for the end and closes the connection. Outputs that nobody reads must be dropped before,
    /// or they hold the end back.
    pub async fn outcome(mut self) -> Outcome {
        let mut status = Vec::new();
        while let Some(data) = self.error.next().await {
            let room = MAX_STATUS - status.len();
            status.extend_from_slice(&data[..data.len().min(room)]);
        }
        self.mux.close().await;
        Outcome::from_error_stream(self.version, &status)
    }
}

/// Runs or attaches: upgrades `io`, a connection to the server, and opens the streams.
///
/// # Errors
/// See [`ClientError`].
pub async fn remote_command<S>(
    io: S,
    target: &Target,
    transport: Transport,
    wanted: Wanted,
) -> Result<(RemoteCommand, Running), ClientError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    match transport {
        Transport::Spdy(version) => {
            let (io, protocol) = upgrade_spdy(io, target, version.name()).await?;
            let version = Version::SPDY
                .into_iter()
                .find(|version| version.name() == protocol)
                .ok_or(ClientError::Protocol(protocol))?;
            let (mux, mut running) = spdy_connection(io);
            let opened = tokio::select! {
                // The connection ended: it is told as such.
                _ = &mut running => return Err(ClientError::Ended),
                opened = open_streams(&mux, version, wanted) => opened,
            };
            let command = opened.map_err(|Gone| ClientError::Ended)?;
            Ok((command, running))
        }
        Transport::WebSocket { version, base64 } => {
            let prefix = match (version, base64) {
                (Version::V1, true) => "base64.channel.k8s.io",
                (_, true) => "v4.base64.channel.k8s.io",
                (version, false) => version.name(),
            };
            let io = upgrade_websocket(io, target, prefix).await?;
            let encoding = Encoding {
                base64,
                half_close: version == Version::V5,
            };
            let (mux, driver, _) = mux::connection(
                io,
                Side::Client,
                LIMITS,
                websocket::Reader::new(Side::Client, encoding),
                websocket::Writer::new(Side::Client, encoding),
            );
            let streams = kinds(wanted, true).map(|kind| (kind, mux.channel(kind.channel())));
            let command = assemble(&mux, version, streams.collect());
            Ok((command, Box::pin(driver.run())))
        }
    }
}

/// Connections to a pod's ports.
#[derive(Debug)]
pub struct Forwarder {
    mux: Mux,
    requests: u32,
}

/// One connection to a port.
#[derive(Debug)]
pub struct Forwarded {
    /// The data.
    pub data: Stream,
    /// What went wrong, if anything: text.
    pub error: Input,
}

impl Forwarder {
    /// Opens a connection to a port.
    ///
    /// # Errors
    /// When the server refuses its streams.
    pub async fn connect(&mut self, port: u16) -> Result<Forwarded, Gone> {
        let error = self.begin(port).await?;
        // The number is the error stream's.
        let data = self.open("data", port, self.requests - 1).await?;
        Ok(Forwarded {
            data,
            error: error.input,
        })
    }

    /// Opens the error stream of a connection, and leaves it at that.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn begin(&mut self, port: u16) -> Result<Stream, Gone> {
        let request = self.requests;
        self.requests += 1;
        let error = self.open("error", port, request).await?;
        // We send nothing there.
        error.output.finish().await?;
        Ok(error)
    }

    async fn open(&self, kind: &str, port: u16, request: u32) -> Result<Stream, Gone> {
        let headers = Headers::new()
            .with("streamType", kind)
            .with("port", port.to_string())
            .with("requestID", request.to_string());
        self.mux.open(headers).await
    }

    /// Closes the connection, and with it all forwarded ones.
    pub async fn close(self) {
        self.mux.close().await;
    }
}

/// Forwards ports: upgrades `io`. With `tunnelled` SPDY runs inside a WebSocket.
///
/// # Errors
/// See [`ClientError`].
pub async fn port_forward<S>(
    io: S,
    target: &Target,
    tunnelled: bool,
) -> Result<(Forwarder, Running), ClientError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    if !tunnelled {
        let (io, _) = upgrade_spdy(io, target, negotiate::PORT_FORWARD).await?;
        let (mux, running) = spdy_connection(io);
        return Ok((Forwarder { mux, requests: 0 }, running));
    }
    let io = upgrade_websocket(io, target, negotiate::TUNNELLED).await?;
    let (outer_mux, driver, _) = mux::connection(
        io,
        Side::Client,
        LIMITS,
        websocket::TunnelReader::new(Side::Client),
        websocket::TunnelWriter::new(Side::Client),
    );
    let (outer, inner) = tokio::io::duplex(TUNNEL);
    let (mux, inside) = spdy_connection(inner);
    let stream = outer_mux.channel(0);
    let tunnel = websocket::tunnel(outer_mux, stream, outer);
    let running = Box::pin(async move {
        let (ended, (), _) = tokio::join!(driver.run(), tunnel, inside);
        ended
    });
    Ok((Forwarder { mux, requests: 0 }, running))
}

fn spdy_connection<S>(io: S) -> (Mux, Running)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mux, driver, _) = mux::connection(
        io,
        Side::Client,
        LIMITS,
        spdy::Reader::new(Side::Client),
        spdy::Writer::new(),
    );
    (mux, Box::pin(driver.run()))
}

fn kinds(wanted: Wanted, has_resize: bool) -> impl Iterator<Item = StreamKind> {
    // The error stream first, as upstream's clients.
    [
        (StreamKind::Error, true),
        (StreamKind::Stdin, wanted.stdin),
        (StreamKind::Stdout, wanted.stdout),
        (StreamKind::Stderr, wanted.stderr),
        (StreamKind::Resize, wanted.tty && has_resize),
    ]
    .into_iter()
    .filter_map(|(kind, is_wanted)| is_wanted.then_some(kind))
}

async fn open_streams(mux: &Mux, version: Version, wanted: Wanted) -> Result<RemoteCommand, Gone> {
    let mut streams = Vec::new();
    for kind in kinds(wanted, version.has_resize()) {
        let headers = Headers::new().with("streamType", kind.name());
        streams.push((kind, mux.open(headers).await?));
    }
    Ok(assemble(mux, version, streams))
}

fn assemble(mux: &Mux, version: Version, streams: Vec<(StreamKind, Stream)>) -> RemoteCommand {
    let mut inputs = [None, None, None];
    let mut outputs = [None, None];
    for (kind, stream) in streams {
        match kind {
            StreamKind::Stdin => outputs[0] = Some(stream.output),
            StreamKind::Resize => outputs[1] = Some(stream.output),
            StreamKind::Stdout => inputs[0] = Some(stream.input),
            StreamKind::Stderr => inputs[1] = Some(stream.input),
            StreamKind::Error => inputs[2] = Some(stream.input),
        }
    }
    let [stdout, stderr, error] = inputs;
    let [stdin, resize] = outputs;
    RemoteCommand {
        stdin,
        stdout,
        stderr,
        resize,
        error: error.expect("kinds has it first"),
        version,
        mux: mux.clone(),
    }
}

async fn upgrade_spdy<S>(
    io: S,
    target: &Target,
    protocol: &'static str,
) -> Result<(TokioIo<Upgraded>, String), ClientError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let request = request(target, Method::POST, negotiate::SPDY)
        .header(negotiate::PROTOCOL_VERSION, protocol)
        .body(Empty::new())?;
    upgrade(io, request, negotiate::PROTOCOL_VERSION).await
}

async fn upgrade_websocket<S>(
    io: S,
    target: &Target,
    protocol: &'static str,
) -> Result<TokioIo<Upgraded>, ClientError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let request = request(target, Method::GET, negotiate::WEBSOCKET)
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, websocket::random_key())
        .header(header::SEC_WEBSOCKET_PROTOCOL, protocol)
        .body(Empty::new())?;
    let (io, chosen) = upgrade(io, request, header::SEC_WEBSOCKET_PROTOCOL.as_str()).await?;
    if chosen == protocol {
        Ok(io)
    } else {
        Err(ClientError::Protocol(chosen))
    }
}

fn request(target: &Target, method: Method, upgrade: &'static str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(target.path.as_str())
        .header(header::HOST, target.authority.as_str())
        .header(header::CONNECTION, HeaderValue::from_static("Upgrade"))
        .header(header::UPGRADE, HeaderValue::from_static(upgrade))
}

/// Sends the request; the connection, and the protocol that the server names.
async fn upgrade<S>(
    io: S,
    request: Request<Empty<Bytes>>,
    protocol: &'static str,
) -> Result<(TokioIo<Upgraded>, String), ClientError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    let exchange = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        if status != StatusCode::SWITCHING_PROTOCOLS {
            let body = Limited::new(response.into_body(), MAX_REFUSAL)
                .collect()
                .await
                .map(http_body_util::Collected::to_bytes)
                .unwrap_or_default();
            let text = String::from_utf8_lossy(&body).trim().to_owned();
            return Err(ClientError::Refused { status, text });
        }
        let chosen = response
            .headers()
            .get(protocol)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let upgraded = hyper::upgrade::on(response).await?;
        Ok((TokioIo::new(upgraded), chosen))
    };
    // The connection's own failure is the exchange's, too.
    let (exchanged, _) = tokio::join!(exchange, connection.with_upgrades());
    exchanged
}
