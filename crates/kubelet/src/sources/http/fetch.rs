//! One GET of the manifest URL (kubelet SRC-10): certificates are checked against the system's
//! roots, redirects are followed, and the body is read up to a limit.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kubelet_core::{
    proxies::Proxies,
    request::{Chase, Follow, Next, Request, Transport},
    url::{ParseError, Url},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, crypto::ring},
};

use super::trust::TrustStores;
use crate::{
    outbound::{
        dial,
        http::{self, Answer, Failed, HttpError, Progress},
        proxy::Proxy,
    },
    sources::file::MAX_MANIFEST_BYTES,
};

/// The whole exchange takes no longer (SRC-10).
const TIMEOUT: Duration = Duration::from_secs(10);

/// No manifests from the URL.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error(transparent)]
    Url(#[from] ParseError),
    #[error(transparent)]
    Failed(#[from] Failed),
    #[error("{url}: {status}")]
    Status { url: String, status: String },
    #[error("{url}: more than {MAX_MANIFEST_BYTES} bytes")]
    TooLarge { url: String },
}

/// `staticPodURLHeader`; a header may have several values.
pub(super) type Headers = BTreeMap<String, Vec<String>>;

/// Whom to trust, and by which way to go.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    /// Whom `https` trusts.
    pub(crate) trust: TrustStores,
    /// Who is asked in place of hosts.
    pub(crate) proxies: Proxies,
}

/// The body of an answer 200.
pub(super) async fn get(url: &str, headers: &Headers, way: &Way) -> Result<Vec<u8>, FetchError> {
    let first = request(url, headers)?;
    let progress = Progress::default();
    let asked = tokio::time::timeout(TIMEOUT, follow(&first, way, &progress)).await;
    let Answer {
        status,
        status_line,
        body,
        ..
    } = asked.unwrap_or_else(|_| Err(progress.out_of_time(&first)))?;
    let (body, url) = (body.map_err(Failed::Body)?, url.to_owned());
    if body.len() > MAX_MANIFEST_BYTES {
        return Err(FetchError::TooLarge { url });
    }
    if status != 200 {
        let status = status_line;
        return Err(FetchError::Status { url, status });
    }
    Ok(body)
}

/// Differs (SRC-10): the answer is not asked for in compressed form, and the connection is not kept.
fn request(url: &str, headers: &Headers) -> Result<Request, ParseError> {
    let given = headers.iter().flat_map(|(name, values)| {
        let values = values.iter();
        values.map(|value| (name.clone(), value.clone()))
    });
    Ok(Request {
        url: Url::parse(url)?.without_empty_port(),
        host: String::new(),
        headers: given.collect(),
        transport: Transport::Closing,
    })
}

async fn follow(first: &Request, way: &Way, progress: &Progress) -> Result<Answer, Failed> {
    let mut chase = Chase::new(first, Follow::Anywhere);
    loop {
        let current = chase.request();
        let answer = Box::pin(once(current, way, progress)).await;
        let answer = answer.map_err(|error| Failed::get(current, error))?;
        match chase.answered(answer.status, answer.location.as_deref())? {
            Next::Ask => progress.redirect(chase.request()),
            Next::Done => return Ok(answer),
        }
    }
}

async fn once(request: &Request, way: &Way, progress: &Progress) -> Result<Answer, HttpError> {
    let place = request.place()?;
    let message = http::message(request, &request.url.target())?;
    let proxy = Proxy::of(&way.proxies, &place)?;
    let mut stream = match &proxy {
        Some(proxy) => proxy.connect().await?,
        None => dial::connect(&place.host, place.port).await?,
    };
    // One more tells that there are more.
    let limit = MAX_MANIFEST_BYTES + 1;
    if !place.https {
        let message = match proxy {
            Some(proxy) => proxy.message(request)?,
            None => message,
        };
        return http::exchange(message, stream, limit, progress).await;
    }
    if let Some(proxy) = proxy {
        proxy.tunnel(&place, &mut stream).await?;
    }
    // Read each time: an administrator may renew them, and it is done once in a while.
    let trust = way.trust.clone();
    let config = daemon::blocking(move || tls_config(&trust)).await?;
    let connector = TlsConnector::from(Arc::new(config));
    let stream = http::begin_tls(&connector, place.host, stream).await?;
    http::exchange(message, stream, limit, progress).await
}

fn tls_config(trust: &TrustStores) -> Result<ClientConfig, HttpError> {
    let roots = trust.roots();
    if roots.is_empty() {
        return Err(HttpError::NoRoots);
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| HttpError::NoRoots)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
