//! One GET of the manifest URL (kubelet SRC-10): certificates are checked against the system's
//! roots, redirects are followed, and the body is read up to a limit.

use std::{io, pin::pin, sync::Arc};

use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use kubelet_core::proxies::Proxies;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, crypto::ring, pki_types::ServerName},
};

use super::{
    proxy::{Proxy, ProxyError},
    target::{self, Headers, Target},
    trust::TrustStores,
};
use crate::{
    outbound::dial::{self, DialError},
    sources::file::MAX_MANIFEST_BYTES,
};

/// So many requests are made for one, redirects included.
const MAX_REQUESTS: usize = 10;

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
    #[error("{url}: stopped after {MAX_REQUESTS} redirects")]
    Redirects { url: String },
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    #[error("{url}: more than {MAX_MANIFEST_BYTES} bytes")]
    TooLarge { url: String },
}

/// Whom to trust, and by which way to go.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    /// Whom `https` trusts.
    pub(crate) trust: TrustStores,
    /// Who is asked in place of hosts.
    pub(crate) proxies: Proxies,
}

/// The body of an answer 200. No time limit of its own.
pub(super) async fn get(url: &str, headers: &Headers, way: &Way) -> Result<Vec<u8>, FetchError> {
    let mut target = Target::parse(url).ok_or_else(|| FetchError::Url(url.to_owned()))?;
    let (first, mut headers) = (target.host.clone(), headers.clone());
    let mut referer = None;
    for _ in 0..MAX_REQUESTS {
        let next = match Box::pin(once(&target, &headers, referer.as_deref(), way)).await? {
            Answer::Body(body) => return Ok(body),
            Answer::Elsewhere(next) => next,
        };
        referer = target.as_referer(&next, &headers);
        target::strip_secrets(&mut headers, &next.host, &first);
        target = next;
    }
    Err(FetchError::Redirects { url: target.url })
}

enum Answer {
    Body(Vec<u8>),
    Elsewhere(Target),
}

async fn once(
    target: &Target,
    headers: &Headers,
    referer: Option<&str>,
    way: &Way,
) -> Result<Answer, FetchError> {
    let proxy = Proxy::of(&way.proxies, target)?;
    let mut stream = match &proxy {
        Some(proxy) => dial::connect(&proxy.host, proxy.port).await?,
        None => dial::connect(&target.host, target.port).await?,
    };
    let mut request = target.request(headers, referer)?;
    if !target.https {
        if let Some(proxy) = proxy {
            request = proxy.instead_of(target, request)?;
        }
        return exchange(target, request, stream).await;
    }
    if let Some(proxy) = proxy {
        proxy.tunnel(target, &mut stream).await?;
    }
    let name = ServerName::try_from(target.host.clone())
        .map_err(|_| FetchError::Url(target.url.clone()))?;
    // Read each time: an administrator may renew them, and it is done once in a while.
    let trust = way.trust.clone();
    let config = daemon::blocking(move || tls_config(&trust)).await?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|source| FetchError::Tls {
            host: target.host.clone(),
            source,
        })?;
    exchange(target, request, stream).await
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
    request: Request<Empty<Bytes>>,
    stream: S,
) -> Result<Answer, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |source| FetchError::Exchange {
        url: target.url.clone(),
        source,
    };
    let (mut sender, connection) = http1::Builder::new()
        .title_case_headers(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let work = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let (status, location) = (
            response.status(),
            response.headers().get(header::LOCATION).cloned(),
        );
        if matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
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
