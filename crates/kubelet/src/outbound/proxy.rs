//! Asking through a proxy of the environment (`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`), as Go's client does.
//!
//! Differs (SRC-10): a proxy that is itself spoken to over TLS or SOCKS is refused.

use http_body_util::Empty;
use hyper::{
    body::Bytes,
    header::{self, HeaderValue},
};
use kubelet_core::{
    probes::http::authority,
    proxies::Proxies,
    request::{Place, Request},
    url::Url,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{
    connection::Connection,
    dial::{self, DialError},
    http::{self, HttpError},
};

/// A proxy says no more before the tunnel is open.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Whom to ask in a place's stead.
#[derive(Debug)]
pub(crate) struct Proxy {
    host: String,
    port: u16,
    authorization: Option<HeaderValue>,
}

/// No way through a proxy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("proxy {0}: only proxies of http are supported")]
    Scheme(String),
    /// In Go's words.
    #[error("proxyconnect tcp: {0}")]
    Dial(DialError),
    #[error("proxy {proxy}: CONNECT {target}: {answer}")]
    Refused {
        proxy: String,
        target: String,
        answer: String,
    },
    #[error("proxy {proxy}")]
    Exchange {
        proxy: String,
        #[source]
        source: std::io::Error,
    },
}

impl Proxy {
    /// `None`: the place itself is asked.
    ///
    /// # Errors
    /// When the proxy is one of another kind.
    pub(crate) fn of(proxies: &Proxies, place: &Place) -> Result<Option<Self>, ProxyError> {
        let Some(text) = proxies.of(place.https, &place.host, place.port) else {
            return Ok(None);
        };
        let proxy = Url::parse(&text).ok().and_then(|url| {
            let authorization = url.credentials().map(|user| http::basic(&user));
            let Place { https, host, port } = Place::of(&url).ok()?;
            (!https).then_some(Self {
                host,
                port,
                authorization,
            })
        });
        // The URL may hold a password.
        let shown = || text.rsplit_once('@').map_or(&*text, |(_, host)| host);
        let refused = || ProxyError::Scheme(shown().to_owned());
        proxy.ok_or_else(refused).map(Some)
    }

    /// Connects to the proxy.
    ///
    /// # Errors
    /// When that is not to be had.
    pub(crate) async fn connect(&self) -> Result<Connection, ProxyError> {
        let connection = dial::connect(&self.host, self.port).await;
        connection.map_err(ProxyError::Dial)
    }

    /// A request as the proxy is asked it.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub(crate) fn message(
        &self,
        request: &Request,
    ) -> Result<hyper::Request<Empty<Bytes>>, HttpError> {
        let (host, target) = (request.host_header(), request.url.target());
        let whole = format!("{}://{host}{target}", request.url.scheme);
        let mut message = http::message(request, &whole)?;
        if let Some(authorization) = self.authorization.clone() {
            let headers = message.headers_mut();
            headers.insert(header::PROXY_AUTHORIZATION, authorization);
        }
        Ok(message)
    }

    /// Opens a tunnel to the place through a connection with the proxy.
    ///
    /// # Errors
    /// When the proxy does not let anybody through.
    pub(crate) async fn tunnel(
        &self,
        place: &Place,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ) -> Result<(), ProxyError> {
        let proxy = format!("{}:{}", self.host, self.port);
        let failed = |source| ProxyError::Exchange {
            proxy: proxy.clone(),
            source,
        };
        let peer = authority(&place.host, place.port);
        let mut head = format!("CONNECT {peer} HTTP/1.1\r\nHost: {peer}\r\n").into_bytes();
        if let Some(value) = &self.authorization {
            head.extend_from_slice(b"Proxy-Authorization: ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        stream.write_all(&head).await.map_err(failed)?;
        // Byte by byte: what follows the head belongs to the tunnel.
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") && answer.len() < MAX_HEAD_BYTES {
            answer.push(stream.read_u8().await.map_err(failed)?);
        }
        let text = String::from_utf8_lossy(&answer);
        let line = text.lines().next().unwrap_or_default();
        let status = line.split_once(' ').map_or(line, |(_, status)| status);
        if line.starts_with("HTTP/1.") && status.split(' ').next() == Some("200") {
            return Ok(());
        }
        Err(ProxyError::Refused {
            proxy,
            target: peer,
            answer: status.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            https: true,
            host: "h".to_owned(),
            port: 443,
        }
    }

    #[test]
    fn src_10_a_proxy_is_asked_with_the_user_of_its_url() {
        let by = |proxy: &str| {
            let variable = |name: &str| (name == "HTTPS_PROXY").then(|| proxy.to_owned());
            let proxies = Proxies::new(variable);
            Proxy::of(&proxies, &place())
        };
        let proxy = by("user:word@[fd00::1]:3128").unwrap().unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("fd00::1", 3128));
        assert_eq!(proxy.authorization.unwrap(), "Basic dXNlcjp3b3Jk");
        let plain = by("proxy").unwrap().unwrap();
        assert_eq!((plain.host.as_str(), plain.port), ("proxy", 80));
        assert_eq!(plain.authorization, None);
        for refused in ["socks5://user:word@p:1", "https://p:1"] {
            let error = by(refused).unwrap_err().to_string();
            assert!(
                error.ends_with("p:1: only proxies of http are supported"),
                "{error}"
            );
            assert!(!error.contains("word"), "{error}");
        }
    }

    #[tokio::test]
    async fn src_10_a_tunnel_ends_where_the_proxys_answer_ends() {
        let proxy = Proxy {
            host: "p".to_owned(),
            port: 80,
            authorization: Some(HeaderValue::from_static("Basic eA==")),
        };
        let target = place();
        let open = async |answer: &str| {
            let (mut ours, mut theirs) = tokio::io::duplex(1024);
            theirs.write_all(answer.as_bytes()).await.unwrap();
            let opened = proxy.tunnel(&target, &mut ours).await;
            drop(ours);
            let mut asked = String::new();
            theirs.read_to_string(&mut asked).await.unwrap();
            assert_eq!(
                asked,
                "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\nProxy-Authorization: Basic eA==\r\n\r\n"
            );
            opened.map_err(|error| error.to_string())
        };
        let fine = open("HTTP/1.1 200 Connection established\r\nVia: p\r\n\r\n").await;
        assert_eq!(fine, Ok(()));
        assert_eq!(
            open("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await,
            Err("proxy p:80: CONNECT h:443: 407 Proxy Authentication Required".to_owned())
        );
    }
}
