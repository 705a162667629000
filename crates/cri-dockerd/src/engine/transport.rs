//! Connections and the shape of one HTTP exchange.
//!
//! Idle connections are kept and used again (PRF-31). HTTP/1.1 has no pipelining here: a connection
//! serves one call at a time, so a long call (pull, events, attach) never delays a short one.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioIo};
use names::Names;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::api_version::{ApiVersion, NEWEST_API, OLDEST_API};
use super::{Engine, EngineError};

/// Largest unary answer that is read; a container list of thousands stays far below.
const MAX_ANSWER: usize = 64 << 20;
/// Docker's port without TLS.
const DEFAULT_PORT: u16 = 2375;
/// Idle connections kept: enough for a burst of inspects, small enough to go unnoticed by dockerd.
const IDLE_CONNECTIONS: usize = 8;

/// The peer's address in the forms that Docker's own clients accept.
#[derive(Debug, Clone)]
enum Address {
    Unix(PathBuf),
    /// Host, without brackets, and port.
    Tcp(Arc<str>, u16),
}

#[derive(Debug, Clone)]
pub(super) struct Transport {
    client: Client<Connector, Full<Bytes>>,
    /// Makes a connection for each request.
    unpooled: Client<Connector, Full<Bytes>>,
    endpoint: Arc<str>,
    socket: Option<Arc<Path>>,
}

impl Transport {
    pub(super) fn new(endpoint: &str) -> Result<Self, EngineError> {
        let bad = |problem| EngineError::Endpoint {
            endpoint: endpoint.to_owned(),
            problem,
        };
        let address = match endpoint.split_once("://") {
            Some(("unix", "")) => {
                return Err(bad("it has no path; write unix:///var/run/docker.sock"));
            }
            Some(("unix", path)) => Address::Unix(path.into()),
            Some(("tcp" | "http", rest)) => {
                let host = rest.trim_end_matches('/');
                if host.is_empty() || host.contains('/') {
                    return Err(bad("write tcp://host:port"));
                }
                let (name, port) = host
                    .rsplit_once(':')
                    .and_then(|(name, port)| Some((name, port.parse().ok()?)))
                    .unwrap_or((host, DEFAULT_PORT));
                let name = name.trim_start_matches('[').trim_end_matches(']');
                Address::Tcp(name.into(), port)
            }
            Some(("https", _)) => {
                return Err(bad("TLS is not supported; use a unix socket or tcp://"));
            }
            Some(_) => return Err(bad("unknown scheme; write unix:///path or tcp://host:port")),
            None if endpoint.starts_with('/') => Address::Unix(endpoint.into()),
            None => return Err(bad("no scheme; write unix:///path or tcp://host:port")),
        };
        let socket = match &address {
            Address::Unix(path) => Some(path.as_path().into()),
            Address::Tcp(..) => None,
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build(Connector {
                address: address.clone(),
            });
        let unpooled = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(Connector { address });
        Ok(Self {
            client,
            unpooled,
            endpoint: endpoint.into(),
            socket,
        })
    }

    /// The socket in the file system, unless it is TCP.
    pub(super) fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    fn client_error(&self, call: &str, source: ClientError) -> EngineError {
        if source.is_connect() {
            EngineError::Connect {
                endpoint: self.endpoint.to_string(),
                source,
            }
        } else {
            EngineError::Http {
                call: call.to_owned(),
                source: source.into(),
            }
        }
    }
}

/// One call in preparation.
#[derive(Debug)]
pub(super) struct Call {
    method: Method,
    /// Path and query behind the version prefix.
    path: String,
    has_query: bool,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl Call {
    /// A call to `path`, whose variable parts the caller passed through [`segment`].
    pub(super) fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            has_query: false,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    pub(super) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub(super) fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    /// Adds `name=value`, percent-encoded.
    pub(super) fn query(mut self, name: &str, value: &str) -> Self {
        self.path.push(if self.has_query { '&' } else { '?' });
        self.has_query = true;
        self.path.push_str(name);
        self.path.push('=');
        percent_encode(&mut self.path, value, b"-._~");
        self
    }

    /// Adds the parameter when there is a value.
    pub(super) fn query_opt(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) fn json(mut self, body: &impl Serialize) -> Self {
        // Our request types have string keys and no fallible serializers.
        self.body = serde_json::to_vec(body)
            .expect("request types always serialize")
            .into();
        self.header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
    }

    pub(super) fn body(mut self, kind: &'static str, body: Bytes) -> Self {
        self.body = body;
        self.header(CONTENT_TYPE, HeaderValue::from_static(kind))
    }

    pub(super) fn upgrade(self) -> Self {
        self.header(CONNECTION, HeaderValue::from_static("Upgrade"))
            .header(UPGRADE, HeaderValue::from_static("tcp"))
    }

    fn name(&self) -> String {
        let path = self
            .path
            .split_once('?')
            .map_or(self.path.as_str(), |(path, _)| path);
        format!("{} {path}", self.method)
    }
}

/// Encodes a name or id for use as one path segment. Slashes of image names stay: Docker's router
/// takes `{name:.*}`.
pub(super) fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    percent_encode(&mut out, text, b"-._~/:@");
    out
}

fn percent_encode(out: &mut String, text: &str, plain: &[u8]) {
    use std::fmt::Write;
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String can't fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

impl Engine {
    /// Sends `call` and waits for the response header. An error status is read and returned as
    /// [`EngineError::Api`]; 304 counts as success (DKR-17). A daemon that was replaced by one that does
    /// not speak the version is asked for its own, and `call` sent once more: it did nothing yet.
    pub(super) async fn send(
        &self,
        call: Call,
        limit: Duration,
    ) -> Result<Response<Incoming>, EngineError> {
        let name = call.name();
        let version = match self.api.load(Ordering::Relaxed) {
            0 => self.negotiate().await?,
            minor => ApiVersion(minor),
        };
        let client = &self.transport.client;
        let sent = async |version| {
            let prefix = format!("/v{version}");
            within(&name, limit, self.exchange(client, &name, &prefix, &call)).await
        };
        let answer = match sent(version).await {
            Err(error) if refuses_version(&error) => sent(self.negotiate().await?).await,
            answer => answer,
        };
        answer.map_err(|error| match error {
            EngineError::Api { call, message, .. } if refuses_version(&error) => {
                EngineError::Version { call, message }
            }
            error => error,
        })
    }

    async fn exchange(
        &self,
        client: &Client<Connector, Full<Bytes>>,
        name: &str,
        prefix: &str,
        call: &Call,
    ) -> Result<Response<Incoming>, EngineError> {
        let uri = Uri::builder()
            .scheme("http")
            .authority("docker")
            .path_and_query(format!("{prefix}{}", call.path))
            .build()
            .expect("paths are percent-encoded");
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_static("docker"));
        headers.extend(call.headers.iter().cloned());

        let response = client
            .request(request)
            .await
            .map_err(|source| self.transport.client_error(name, source))?;
        let status = response.status();
        if status.is_success()
            || status == StatusCode::NOT_MODIFIED
            || status == StatusCode::SWITCHING_PROTOCOLS
        {
            return Ok(response);
        }
        let body = read_all(name, response).await?;
        Err(EngineError::Api {
            call: name.to_owned(),
            status: status.as_u16(),
            message: error_message(&body),
        })
    }

    /// Sends `call` and decodes the JSON answer, all within `limit`.
    pub(super) async fn fetch<T: DeserializeOwned>(
        &self,
        call: Call,
        limit: Duration,
    ) -> Result<T, EngineError> {
        let name = call.name();
        within(&name, limit, async {
            let response = self.send(call, limit).await?;
            let body = read_all(&name, response).await?;
            serde_json::from_slice(&body).map_err(|source| EngineError::Decode {
                call: name.clone(),
                source,
            })
        })
        .await
    }

    /// Sends `call` and hands over the answer as it is.
    pub(super) async fn fetch_bytes(
        &self,
        call: Call,
        limit: Duration,
    ) -> Result<Bytes, EngineError> {
        let name = call.name();
        within(&name, limit, async {
            let response = self.send(call, limit).await?;
            read_all(&name, response).await
        })
        .await
    }

    /// Sends `call` and reads the answer to its end, so that the connection can be used again.
    pub(super) async fn run(&self, call: Call, limit: Duration) -> Result<(), EngineError> {
        let name = call.name();
        within(&name, limit, async {
            let response = self.send(call, limit).await?;
            read_all(&name, response).await.map(drop)
        })
        .await
    }

    /// `GET /_ping` over a new connection: whether the daemon takes any. One that goes down serves the
    /// connections that it has until its last container has ended, and would still start new ones.
    ///
    /// # Errors
    /// As any call.
    pub(crate) async fn knock(
        &self,
        limit: Duration,
    ) -> Result<http::response::Parts, EngineError> {
        let call = Call::get("/_ping");
        let name = call.name();
        within(&name, limit, async {
            let client = &self.transport.unpooled;
            let response = self.exchange(client, &name, "", &call).await?;
            let (head, body) = response.into_parts();
            read_all(&name, Response::from_parts(head.clone(), body)).await?;
            Ok(head)
        })
        .await
    }

    /// Asks the daemon for its newest API and settles on the newest that both sides know.
    ///
    /// # Errors
    /// [`EngineError::TooOld`] below [`OLDEST_API`]; else as any call.
    pub(crate) async fn negotiate(&self) -> Result<ApiVersion, EngineError> {
        let response = self.knock(self.timeout).await?;
        // The header is as old as API 1.24; a daemon without it is far too old.
        let server = response
            .headers
            .get("api-version")
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse().ok())
            .unwrap_or(ApiVersion(24));
        if server < OLDEST_API {
            return Err(EngineError::TooOld { found: server });
        }
        let chosen = server.min(NEWEST_API);
        self.api.store(chosen.0, Ordering::Relaxed);
        Ok(chosen)
    }
}

/// The daemon speaks newer versions only, or older ones (moby `daemon/server/middleware/version.go`): told by
/// text, since all bad requests have its status.
fn refuses_version(error: &EngineError) -> bool {
    matches!(error, EngineError::Api { status: 400, message, .. } if message.starts_with("client version "))
}

async fn within<T>(
    call: &str,
    limit: Duration,
    work: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(EngineError::Timeout {
            call: call.to_owned(),
            limit,
        }),
    }
}

async fn read_all(call: &str, response: Response<Incoming>) -> Result<Bytes, EngineError> {
    match Limited::new(response.into_body(), MAX_ANSWER)
        .collect()
        .await
    {
        Ok(body) => Ok(body.to_bytes()),
        Err(source) if source.is::<http_body_util::LengthLimitError>() => {
            Err(EngineError::TooLarge {
                call: call.to_owned(),
                limit: MAX_ANSWER,
            })
        }
        Err(source) => Err(EngineError::Http {
            call: call.to_owned(),
            source,
        }),
    }
}

/// Docker's error text: `{"message": "..."}`, or plain text from proxies and very early failures.
fn error_message(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Message {
        message: String,
    }
    match serde_json::from_slice::<Message>(body) {
        Ok(Message { message }) => message,
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    }
}

/// Opens connections for the pool.
#[derive(Debug, Clone)]
struct Connector {
    address: Address,
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Wire>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let address = self.address.clone();
        Box::pin(async move {
            let wire = match address {
                Address::Unix(path) => Wire::Unix(UnixStream::connect(path).await?),
                Address::Tcp(host, port) => {
                    let stream = connect_tcp(&host, port).await?;
                    stream.set_nodelay(true)?;
                    Wire::Tcp(stream)
                }
            };
            Ok(TokioIo::new(wire))
        })
    }
}

/// Names are looked up by ourselves: the C library's resolver cannot be linked statically. No host is
/// this one.
pub(super) async fn connect_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let host = if host.is_empty() { "localhost" } else { host };
    let addresses = Names::default().lookup(host).await;
    let addresses = addresses.map_err(io::Error::other)?;
    names::first_of(&addresses, |ip| TcpStream::connect((ip, port)))
        .await
        .unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()))
}

/// A connection of either kind.
#[derive(Debug)]
enum Wire {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
