//! One GET of the manifest URL (kubelet SRC-10): certificates are checked against the system's
//! roots, redirects are followed, and the body is read up to a limit.

use std::{collections::BTreeMap, io, pin::pin, sync::Arc};

use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, StatusCode, Uri, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, crypto::ring, pki_types::ServerName},
};

use super::trust::TrustStores;
use crate::{
    outbound::dial::{self, DialError},
    sources::file::MAX_MANIFEST_BYTES,
};

/// So many requests are made for one, redirects included.
const MAX_REQUESTS: usize = 10;
/// Headers that only the host of the URL gets, and those below it, as Go's client has it.
const SENSITIVE: [&str; 4] = ["authorization", "www-authenticate", "cookie", "cookie2"];

/// No manifests from the URL.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("staticPodURL {0:?} is not a URL of http or https with a host")]
    Url(String),
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("no certificate to trust: install ca-certificates, or name a file with SSL_CERT_FILE")]
    NoRoots,
    #[error("TLS with {host}")]
    Tls {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error("staticPodURLHeader: {0}")]
    Header(#[from] http::Error),
    #[error("{url}")]
    Exchange {
        url: String,
        #[source]
        source: hyper::Error,
    },
    #[error("{url}: {status}")]
    Status { url: String, status: StatusCode },
    #[error("{url}: a redirect leads nowhere")]
    Redirect { url: String },
    #[error("{url}: more than {MAX_MANIFEST_BYTES} bytes")]
    TooLarge { url: String },
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    url: String,
    https: bool,
    host: String,
    port: u16,
    path: String,
    /// `user:password` before the host.
    user: Option<String>,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, FetchError> {
        let wrong = || FetchError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let host = uri.host().ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = uri.authority().map(http::uri::Authority::as_str);
        Ok(Self {
            url: url.to_owned(),
            https,
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(if https { 443 } else { 80 }),
            path: path.to_owned(),
            user: authority
                .and_then(|authority| authority.rsplit_once('@'))
                .map(|(user, _)| user.to_owned()),
        })
    }

    fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        match (self.https, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    fn redirected(&self, location: &str) -> Option<Self> {
        if location.starts_with("http:") || location.starts_with("https:") {
            return Self::parse(location).ok();
        }
        let scheme = if self.https { "https" } else { "http" };
        location
            .starts_with('/')
            .then(|| Self::parse(&format!("{scheme}://{}{location}", self.authority())).ok())?
    }
}

/// The body of an answer 200. No time limit of its own.
pub(super) async fn get(
    target: &Target,
    headers: &BTreeMap<String, Vec<String>>,
    trust: &TrustStores,
) -> Result<Vec<u8>, FetchError> {
    let first = &target.host;
    let (mut target, mut headers) = (target.clone(), headers.clone());
    for _ in 0..MAX_REQUESTS {
        match Box::pin(once(&target, &headers, trust)).await? {
            Answer::Body(body) => return Ok(body),
            Answer::Elsewhere(next) => target = next,
        }
        if !is_same_or_below(&target.host, first) {
            headers.retain(|name, _| !SENSITIVE.contains(&name.to_lowercase().as_str()));
        }
    }
    Err(FetchError::Redirect { url: target.url })
}

/// `a.example.org` is below `example.org`.
fn is_same_or_below(host: &str, first: &str) -> bool {
    let below = |rest: &str| rest.ends_with('.') && !first.contains(':');
    host == first || host.strip_suffix(first).is_some_and(below)
}

enum Answer {
    Body(Vec<u8>),
    Elsewhere(Target),
}

async fn once(
    target: &Target,
    headers: &BTreeMap<String, Vec<String>>,
    trust: &TrustStores,
) -> Result<Answer, FetchError> {
    let stream = dial::connect(&target.host, target.port).await?;
    if !target.https {
        return exchange(target, headers, stream).await;
    }
    let name = ServerName::try_from(target.host.clone())
        .map_err(|_| FetchError::Url(target.url.clone()))?;
    // Read each time: an administrator may renew them, and it is done once in a while.
    let trust = trust.clone();
    let config = daemon::blocking(move || tls_config(&trust)).await?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|source| FetchError::Tls {
            host: target.host.clone(),
            source,
        })?;
    exchange(target, headers, stream).await
}

fn tls_config(trust: &TrustStores) -> Result<ClientConfig, FetchError> {
    let roots = trust.roots();
    if roots.is_empty() {
        return Err(FetchError::NoRoots);
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| FetchError::NoRoots)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

async fn exchange<S>(
    target: &Target,
    headers: &BTreeMap<String, Vec<String>>,
    stream: S,
) -> Result<Answer, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |source| FetchError::Exchange {
        url: target.url.clone(),
        source,
    };
    let mut request = Request::get(target.path.as_str())
        .header(header::HOST, target.authority())
        .header(header::USER_AGENT, "Go-http-client/1.1")
        .header(header::CONNECTION, "close");
    if let Some(user) = &target.user {
        use base64::Engine as _;
        let word = base64::engine::general_purpose::STANDARD.encode(user);
        request = request.header(header::AUTHORIZATION, format!("Basic {word}"));
    }
    for (name, values) in headers {
        for value in values {
            request = request.header(name.as_str(), value.as_str());
        }
    }
    let request = request.body(Empty::<Bytes>::new())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let work = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let (status, location) = (
            response.status(),
            response.headers().get(header::LOCATION).cloned(),
        );
        if status.is_redirection()
            && let Some(location) = location
        {
            let next = location.to_str().ok();
            let next = next.and_then(|location| target.redirected(location));
            let url = target.url.clone();
            return next
                .map(Answer::Elsewhere)
                .ok_or(FetchError::Redirect { url });
        }
        if status != StatusCode::OK {
            let url = target.url.clone();
            return Err(FetchError::Status { url, status });
        }
        let mut body = response.into_body();
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(broken)?;
            bytes.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new()));
            if bytes.len() as u64 > MAX_MANIFEST_BYTES {
                let url = target.url.clone();
                return Err(FetchError::TooLarge { url });
            }
        }
        Ok(Answer::Body(bytes))
    };
    let (mut work, mut connection) = (pin!(work), pin!(connection));
    tokio::select! {
        biased;
        // cancel-safe: dropped for good with this exchange.
        result = &mut work => result,
        // cancel-safe: the answer may lie in the connection's buffers although the peer has gone.
        _ = &mut connection => work.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_to_the_host_of_the_url_and_below_it_only() {
        for (host, first, same) in [
            ("h.org", "h.org", true),
            ("a.h.org", "h.org", true),
            ("evil-h.org", "h.org", false),
            ("org", "h.org", false),
            ("other", "h.org", false),
        ] {
            assert_eq!(is_same_or_below(host, first), same, "{host} {first}");
        }
    }

    #[test]
    fn urls_are_taken_apart_and_redirects_put_together() {
        let target = Target::parse("https://user:word@[::1]/pods?x=1").unwrap();
        assert_eq!(
            (target.https, target.host.as_str(), target.port),
            (true, "::1", 443)
        );
        assert_eq!(target.path, "/pods?x=1");
        assert_eq!(target.user.as_deref(), Some("user:word"));
        assert_eq!(target.authority(), "[::1]");
        let next = target.redirected("/elsewhere").unwrap();
        assert_eq!(next.url, "https://[::1]/elsewhere");
        let other = target.redirected("http://h:81/").unwrap();
        assert_eq!((other.https, other.port), (false, 81));
        assert!(target.redirected("ftp://h/").is_none());
        for wrong in ["", "/pods", "ftp://h/x", "http://"] {
            assert!(
                matches!(Target::parse(wrong), Err(FetchError::Url(_))),
                "{wrong}"
            );
        }
    }
}
