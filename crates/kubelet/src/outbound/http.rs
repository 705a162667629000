//! One GET over a connection of its own (PROBE-10, CTR-45): certificates are not checked, there is no
//! proxy, redirects lead to the same host only, and of the body a bounded part is read.

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
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{self, HeaderValue},
};
use hyper_util::rt::TokioIo;
use kubelet_core::probes::http::{HttpRequest, Redirect};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        self, ClientConfig, DigitallySignedStruct, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, ServerName, UnixTime},
    },
};

use super::dial::{self, DialError};

/// Of a body no more is read.
const MAX_BODY_BYTES: usize = 10 * 1024;
/// So many requests are made for one, redirects included.
const MAX_REQUESTS: usize = 10;

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The status code.
    pub(crate) status: u16,
    /// The beginning of the body, broken characters replaced.
    pub(crate) body: String,
}

/// No answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// Nobody there.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// TLS was asked for, HTTP was spoken.
    #[error("http: server gave HTTP response to HTTPS client")]
    HttpNotTls,
    /// TLS failed.
    #[error("tls: {0}")]
    Tls(String),
    /// The connection ended before the answer.
    #[error("EOF")]
    Closed,
    /// The peer does not speak HTTP, or broke off.
    #[error("{0}")]
    Protocol(String),
    /// The manifest's headers cannot be sent. Upstream's words.
    #[error("net/http: invalid header field value for {0:?}")]
    Header(String),
    /// Nor the rest of its request.
    #[error("invalid request: {0}")]
    Request(String),
    /// Redirects without end.
    #[error("stopped after {MAX_REQUESTS} redirects")]
    Redirects,
    /// The answer began and its body did not end well.
    #[error("{0}")]
    Body(String),
}

/// What could not be asked, and why.
#[derive(Debug, thiserror::Error)]
#[error("Get {url:?}: {error}")]
pub(crate) struct Failed {
    /// The place that was asked last.
    pub(crate) url: String,
    /// Why it gave no answer.
    pub(crate) error: HttpError,
}

/// How far a request has come, for whoever ends it before its time.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    heard: AtomicBool,
    redirected: Mutex<Option<String>>,
}

impl Progress {
    /// The head of the last answer came.
    pub(crate) fn is_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// The place that was asked last.
    pub(crate) fn url(&self, request: &HttpRequest) -> String {
        let redirected = self.redirected.lock();
        let redirected = redirected.unwrap_or_else(PoisonError::into_inner);
        redirected.clone().unwrap_or_else(|| request.url())
    }

    fn begin(&self, redirected: Option<&HttpRequest>) {
        self.heard.store(false, Ordering::Relaxed);
        if let Some(request) = redirected {
            let mut url = self
                .redirected
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *url = Some(request.url());
        }
    }
}

/// Asks, following redirects. No time limit of its own: whoever gives it one sees by `progress` how far it
/// came. Each answer is looked for after `rest`.
///
/// # Errors
/// See [`HttpError`].
pub(crate) async fn get<F>(
    request: &HttpRequest,
    rest: impl Fn() -> F,
    progress: &Progress,
) -> Result<Reply, Failed>
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut redirected: Option<Box<HttpRequest>> = None;
    let mut requests = 0;
    loop {
        let current = redirected.as_deref().unwrap_or(request);
        progress.begin(redirected.as_deref());
        let answer = Box::pin(once(current, rest(), &progress.heard)).await;
        let (reply, location) = answer.map_err(|error| Failed {
            url: current.url(),
            error,
        })?;
        requests += 1;
        let location = location.filter(|_| matches!(reply.status, 301 | 302 | 303 | 307 | 308));
        let Some(location) = location else {
            return Ok(reply);
        };
        redirected = match current.redirected(&location, request) {
            Redirect::End => return Ok(reply),
            Redirect::Failed { url, reason } => {
                let error = HttpError::Protocol(reason);
                return Err(Failed { url, error });
            }
            Redirect::To(_) if requests == MAX_REQUESTS => {
                let error = HttpError::Redirects;
                return Err(Failed {
                    url: location,
                    error,
                });
            }
            Redirect::To(next) => Some(next),
        };
    }
}

async fn once(
    request: &HttpRequest,
    rest: impl Future<Output = ()> + Send + 'static,
    heard: &AtomicBool,
) -> Result<(Reply, Option<String>), HttpError> {
    let message = message(request)?;
    let stream = dial::connect(&request.host, request.port)
        .await?
        .first_resting(rest);
    if !request.https {
        return exchange(message, stream, heard).await;
    }
    let name = if request.host.is_empty() {
        "localhost"
    } else {
        &request.host
    };
    let name = ServerName::try_from(name.to_owned())
        .map_err(|error| HttpError::Request(error.to_string()))?;
    let stream = connector().connect(name, stream).await.map_err(|error| {
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
    })?;
    exchange(message, stream, heard).await
}

async fn exchange<S>(
    message: Request<Empty<Bytes>>,
    stream: S,
    heard: &AtomicBool,
) -> Result<(Reply, Option<String>), HttpError>
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
        heard.store(true, Ordering::Relaxed);
        let location = response
            .headers()
            .get(header::LOCATION)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let reply = Reply {
            status: response.status().as_u16(),
            body: read_body(response).await?,
        };
        Ok((reply, location))
    };
    // The connection is for this request alone: it ends by being closed, without more ado.
    let mut connection = poll_fn(|context| connection.poll_without_shutdown(context));
    let mut work = pin!(work);
    tokio::select! {
        biased;
        result = &mut work => result,
        // The answer may lie in the connection's buffers although the peer has gone.
        _ = &mut connection => work.await,
    }
}

fn message(request: &HttpRequest) -> Result<Request<Empty<Bytes>>, HttpError> {
    let mut builder =
        Request::get(request.target.as_str()).header(header::HOST, request.host_header.as_str());
    for (name, value) in &request.headers {
        let value = HeaderValue::from_bytes(value.as_bytes())
            .map_err(|_| HttpError::Header(name.clone()))?;
        builder = builder.header(name.as_str(), value);
    }
    let names = |wanted: &str| {
        let mut names = request.headers.iter().map(|(name, _)| name);
        names.any(|name| name.eq_ignore_ascii_case(wanted))
    };
    if let Some(user) = &request.user
        && !names("Authorization")
    {
        builder = builder.header(header::AUTHORIZATION, basic(user));
    }
    if let Some(referer) = &request.referer
        && !names("Referer")
    {
        builder = builder.header(header::REFERER, referer);
    }
    builder
        .body(Empty::new())
        .map_err(|error| HttpError::Request(error.to_string()))
}

/// `user:password` of a URL, as a header.
pub(crate) fn basic(user: &str) -> String {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let mut plain = unescaped(name);
    plain.push(b':');
    plain.extend(unescaped(password));
    format!("Basic {}", STANDARD.encode(plain))
}

/// `%40` as `@`.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match tail {
            [high, low, ..] if *first == b'%' => {
                let digit = |byte: u8| {
                    char::from(byte)
                        .to_digit(16)
                        .and_then(|d| u8::try_from(d).ok())
                };
                digit(*high).zip(digit(*low))
            }
            _ => None,
        };
        if let Some((high, low)) = escaped {
            bytes.push(high * 16 + low);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    bytes
}

async fn read_body(response: Response<Incoming>) -> Result<String, HttpError> {
    let mut body = response.into_body();
    let mut bytes: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| HttpError::Body(words(&error)))?;
        if let Some(data) = frame.data_ref() {
            let room = MAX_BODY_BYTES - bytes.len();
            bytes.extend_from_slice(&data[..data.len().min(room)]);
            if bytes.len() == MAX_BODY_BYTES {
                break;
            }
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
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
            daemon::ErrorChain(error)
        ))
    } else {
        HttpError::Protocol(words(error))
    }
}

/// What went wrong on the connection, without who was told of it on the way; else all of it.
fn words(error: &hyper::Error) -> String {
    let cause = error.source().and_then(|cause| cause.downcast_ref());
    cause.map_or_else(
        || daemon::ErrorChain(error).to_string(),
        io::Error::to_string,
    )
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
