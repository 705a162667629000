//! One GET over a connection of its own. Of probes and hooks (PROBE-10, CTR-45): certificates are not checked, there
//! is no proxy, redirects lead to the same host only, and of the body a bounded part is read.

use std::{
    error::Error as _,
    future::poll_fn,
    io,
    pin::pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use daemon::ErrorChain;
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Response,
    body::{Bytes, Incoming},
    client::conn::http1,
    ext::ReasonPhrase,
    header::{self, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use kubelet_core::{
    quote::quote,
    request::{Astray, Chase, Follow, Next, NoPlace, Place, Request},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, ClientConfig, DigitallySignedStruct, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, ServerName, UnixTime},
    },
};

use super::{
    dial::{self, DialError},
    proxy::ProxyError,
};

/// Of a probe's or hook's body no more is read.
const MAX_BODY_BYTES: usize = 10 * 1024;

/// An answer to a probe or hook.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The status code.
    pub(crate) status: u16,
    /// The beginning of the body, broken characters replaced.
    pub(crate) body: String,
}

/// An answer to one request.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The code with the server's words for it.
    pub(crate) status_line: String,
    /// Where it leads.
    pub(crate) location: Option<String>,
    /// What of it was asked for, or why it did not come.
    pub(crate) body: Result<Vec<u8>, String>,
}

/// No answer, in Go's words.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// The URL leads nowhere.
    #[error(transparent)]
    Place(#[from] NoPlace),
    /// Nobody there.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// TLS was asked for, HTTP was spoken.
    #[error("http: server gave HTTP response to HTTPS client")]
    HttpNotTls,
    /// Nobody's certificate would do.
    #[error("no certificate to trust: install ca-certificates, or name a file with SSL_CERT_FILE")]
    NoRoots,
    /// TLS failed.
    #[error("tls: {0}")]
    Tls(String),
    /// The connection ended before the answer.
    #[error("EOF")]
    Closed,
    /// The peer does not speak HTTP, or broke off.
    #[error("{0}")]
    Protocol(String),
    /// The caller's headers cannot be sent.
    #[error("net/http: invalid header field {part} {}", quote(.name))]
    Header { part: &'static str, name: String },
    /// Nor the rest of its request.
    #[error("invalid request: {0}")]
    Request(String),
    /// Redirects lead nowhere.
    #[error("{0}")]
    Astray(String),
    /// No answer in time.
    #[error("context deadline exceeded (Client.Timeout exceeded while awaiting headers)")]
    Timeout,
    /// No way through a proxy.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
}

/// Why there is no whole answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    /// There is none: what could not be asked, and why.
    #[error("Get {}: {}", quote(.url), ErrorChain(.error))]
    Get {
        /// The place that was asked last.
        url: String,
        /// Why it gave no answer.
        error: HttpError,
    },
    /// It began and its body did not end well.
    #[error("{0}")]
    Body(String),
}

impl Failed {
    /// Of a request that got no answer.
    pub(crate) fn get(request: &Request, error: HttpError) -> Self {
        let url = request.url.without_password();
        Self::Get { url, error }
    }
}

impl From<Astray> for Failed {
    fn from(Astray { url, reason }: Astray) -> Self {
        let error = HttpError::Astray(reason);
        Self::Get { url, error }
    }
}

/// How far a request has come, for whoever ends it before its time.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    heard: AtomicBool,
    redirected: Mutex<Option<String>>,
}

impl Progress {
    /// What to say where there is no time left.
    pub(crate) fn out_of_time(self, first: &Request) -> Failed {
        if self.heard.into_inner() {
            let why = "context deadline exceeded (Client.Timeout or context cancellation while reading body)";
            return Failed::Body(why.to_owned());
        }
        let redirected = self.redirected.into_inner();
        let redirected = redirected.unwrap_or_else(PoisonError::into_inner);
        Failed::Get {
            url: redirected.unwrap_or_else(|| first.url.without_password()),
            error: HttpError::Timeout,
        }
    }

    /// The head of an answer came.
    pub(crate) fn hear(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    /// Another place is asked next.
    pub(crate) fn redirect(&self, next: &Request) {
        self.heard.store(false, Ordering::Relaxed);
        let redirected = self.redirected.lock();
        let mut redirected = redirected.unwrap_or_else(PoisonError::into_inner);
        *redirected = Some(next.url.without_password());
    }
}

/// Asks, following redirects. No time limit of its own: whoever gives it one sees by `progress` how far it
/// came. Each answer is looked for after `rest`.
///
/// # Errors
/// See [`Failed`].
pub(crate) async fn get<F>(
    request: &Request,
    rest: impl Fn() -> F,
    progress: &Progress,
) -> Result<Reply, Failed>
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut chase = Chase::new(request, Follow::SameHost);
    loop {
        let current = chase.request();
        let answer = Box::pin(once(current, rest(), progress)).await;
        let answer = answer.map_err(|error| Failed::get(current, error))?;
        match chase.answered(answer.status, answer.location.as_deref())? {
            Next::Ask => progress.redirect(chase.request()),
            Next::Done => {
                let body = answer.body.map_err(Failed::Body)?;
                return Ok(Reply {
                    status: answer.status,
                    body: String::from_utf8_lossy(&body).into_owned(),
                });
            }
        }
    }
}

async fn once(
    request: &Request,
    rest: impl Future<Output = ()> + Send + 'static,
    progress: &Progress,
) -> Result<Answer, HttpError> {
    let Place { https, host, port } = request.place()?;
    let message = message(request, &request.url.target())?;
    let stream = dial::connect(&host, port).await?.first_resting(rest);
    if !https {
        return exchange(message, stream, MAX_BODY_BYTES, progress).await;
    }
    let host = if host.is_empty() {
        "localhost".to_owned()
    } else {
        host
    };
    let stream = begin_tls(&connector(), host, stream).await?;
    exchange(message, stream, MAX_BODY_BYTES, progress).await
}

/// Speaks TLS over a connection.
///
/// # Errors
/// When the peer does not, or not well.
pub(crate) async fn begin_tls<S>(
    connector: &TlsConnector,
    host: String,
    stream: S,
) -> Result<TlsStream<S>, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(host).map_err(|error| HttpError::Request(error.to_string()))?;
    connector.connect(name, stream).await.map_err(|error| {
        let cause = error
            .get_ref()
            .and_then(|cause| cause.downcast_ref::<rustls::Error>());
        match cause {
            Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => {
                HttpError::HttpNotTls
            }
            Some(cause) => HttpError::Tls(cause.to_string()),
            None if error.kind() == io::ErrorKind::UnexpectedEof => HttpError::Closed,
            None => HttpError::Protocol(error.to_string()),
        }
    })
}

/// Sends a request and reads its answer, of the body no more than so many bytes.
///
/// # Errors
/// When there is no answer.
pub(crate) async fn exchange<S>(
    message: hyper::Request<Empty<Bytes>>,
    stream: S,
    max_body_bytes: usize,
    progress: &Progress,
) -> Result<Answer, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, mut connection) = http1::Builder::new()
        .title_case_headers(true)
        .max_headers(256)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    let work = async {
        let response = sender
            .send_request(message)
            .await
            .map_err(|error| broken(&error))?;
        progress.hear();
        let location = response
            .headers()
            .get(header::LOCATION)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        Ok(Answer {
            status: response.status().as_u16(),
            status_line: status_line(&response),
            location,
            body: read_body(response, max_body_bytes).await,
        })
    };
    // The connection is for this request alone: it ends by being closed, without more ado.
    let mut connection = poll_fn(|context| connection.poll_without_shutdown(context));
    let mut work = pin!(work);
    tokio::select! {
        biased;
        // cancel-safe: dropped for good with this exchange.
        result = &mut work => result,
        // The answer may lie in the connection's buffers although the peer has gone.
        _ = &mut connection => work.await,
    }
}

/// A request as it is sent, to the place itself or, with a whole URL for a target, to a proxy.
///
/// # Errors
/// When it cannot be sent.
pub(crate) fn message(
    request: &Request,
    target: &str,
) -> Result<hyper::Request<Empty<Bytes>>, HttpError> {
    let refused = |error: http::Error| HttpError::Request(error.to_string());
    let mut message = hyper::Request::get(target)
        .header(header::HOST, request.host_header())
        .body(Empty::new())
        .map_err(refused)?;
    let headers = message.headers_mut();
    for (name, value) in request.sent_headers() {
        let wrong = |part| HttpError::Header {
            part,
            name: name.to_owned(),
        };
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| wrong("value for"))?;
        let name: HeaderName = name.parse().map_err(|_| wrong("name"))?;
        headers.append(name, value);
    }
    if let Some(user) = request.credentials() {
        headers.insert(header::AUTHORIZATION, basic(&user));
    }
    Ok(message)
}

/// `name:password`, as a header.
pub(crate) fn basic(user: &[u8]) -> HeaderValue {
    let text = format!("Basic {}", STANDARD.encode(user));
    HeaderValue::try_from(text).expect("base64 is plain text")
}

fn status_line<B>(response: &Response<B>) -> String {
    let status = response.status();
    match response.extensions().get::<ReasonPhrase>() {
        Some(reason) => {
            let reason = String::from_utf8_lossy(reason.as_bytes());
            format!("{} {reason}", status.as_u16())
        }
        None => status.to_string(),
    }
}

async fn read_body(response: Response<Incoming>, max_bytes: usize) -> Result<Vec<u8>, String> {
    let mut body = response.into_body();
    let mut bytes: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| words(&error))?;
        if let Some(data) = frame.data_ref() {
            let room = max_bytes - bytes.len();
            bytes.extend_from_slice(&data[..data.len().min(room)]);
            if bytes.len() == max_bytes {
                break;
            }
        }
    }
    Ok(bytes)
}

/// Differs (PROBE-10): what breaks HTTP or TLS is told in other words, and what a server said in their place is not
/// repeated.
///
/// Differs (PROBE-10): answers that Go's client takes are refused where their version is not HTTP/1.0 or 1.1, where a
/// header line is folded or has a blank in its name, and where there are more than 256 of them; an empty line before
/// an answer is passed over, and a transfer encoding that nobody knows is taken.
fn broken(error: &hyper::Error) -> HttpError {
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        HttpError::Closed
    } else if error.is_parse() {
        HttpError::Protocol(format!(
            "net/http: HTTP/1.x transport connection broken: {}",
            ErrorChain(error)
        ))
    } else {
        HttpError::Protocol(words(error))
    }
}

/// What went wrong on the connection, without who was told of it on the way; else all of it.
fn words(error: &hyper::Error) -> String {
    let cause = error.source().and_then(|cause| cause.downcast_ref());
    cause.map_or_else(|| ErrorChain(error).to_string(), io::Error::to_string)
}

/// Made when the first HTTPS request is made: most nodes never need it.
fn connector() -> TlsConnector {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let provider = Arc::new(ring::default_provider());
        let trusting = Arc::new(Trusting(provider.clone()));
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for both versions")
            .dangerous()
            .with_custom_certificate_verifier(trusting)
            .with_no_client_auth();
        Arc::new(config)
    });
    TlsConnector::from(Arc::clone(config))
}

/// Believes everybody: a probe asks whether somebody answers, not who (PROBE-10).
#[derive(Debug)]
struct Trusting(Arc<CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
