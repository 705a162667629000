//! What an upgrade request asks for, and which protocol it gets (SPD-01..03, WSK-01). Pure.

use http::{HeaderMap, Method, StatusCode, header};

use crate::{
    remote_command::Version,
    websocket::{self, Encoding},
};

/// `Upgrade` of SPDY.
pub(crate) const SPDY: &str = "SPDY/3.1";
/// `Upgrade` of WebSocket.
pub(crate) const WEBSOCKET: &str = "websocket";
/// What a SPDY client offers, and what it gets.
pub(crate) const PROTOCOL_VERSION: &str = "x-stream-protocol-version";
/// What a client that offers nothing of ours may offer instead.
pub(crate) const ACCEPTED_VERSIONS: &str = "x-accepted-stream-protocol-versions";
/// The port-forward protocol over SPDY.
pub(crate) const PORT_FORWARD: &str = "portforward.k8s.io";
/// The same, tunnelled through a WebSocket.
pub(crate) const TUNNELLED: &str = "SPDY/3.1+portforward.k8s.io";
const BASE64: &str = "base64.channel.k8s.io";
const V4_BASE64: &str = "v4.base64.channel.k8s.io";

/// A request that gets no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
    /// What the client may offer instead.
    pub(crate) accepted: Vec<&'static str>,
}

impl Refusal {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
            accepted: Vec::new(),
        }
    }
}

/// The protocol of a connection. `P` is what runs inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Upgrade<P> {
    /// SPDY; the protocol is told back.
    Spdy(P),
    /// WebSocket.
    WebSocket {
        /// `Sec-WebSocket-Accept`.
        accept: String,
        /// `Sec-WebSocket-Protocol`, when the client named one.
        protocol: Option<&'static str>,
        /// What runs inside.
        inside: P,
    },
}

impl<P: Copy> Upgrade<P> {
    /// What runs inside.
    pub(crate) fn inside(&self) -> P {
        match self {
            Self::Spdy(inside) | Self::WebSocket { inside, .. } => *inside,
        }
    }
}

/// What runs inside a connection of exec or attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RemoteCommand {
    pub(crate) version: Version,
    /// Of a WebSocket.
    pub(crate) encoding: Encoding,
}

/// What runs inside a connection of port-forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PortForward {
    /// SPDY, by itself or in a WebSocket.
    Spdy,
    /// Two channels for each port of the request.
    Channels(Encoding),
}

const BINARY: Encoding = Encoding {
    base64: false,
    half_close: false,
};
const TEXT: Encoding = Encoding {
    base64: true,
    half_close: false,
};

/// Chooses for exec and attach.
pub(crate) fn remote_command(
    method: &Method,
    headers: &HeaderMap,
) -> Result<Upgrade<RemoteCommand>, Refusal> {
    if is_websocket(headers) {
        let offers: [(&'static str, Version, Encoding); 6] = [
            ("", Version::V1, BINARY),
            (Version::V1.name(), Version::V1, BINARY),
            (BASE64, Version::V1, TEXT),
            (Version::V4.name(), Version::V4, BINARY),
            (V4_BASE64, Version::V4, TEXT),
            // Upstream's servers lack it, its clients offer nothing else (WSK-04).
            (
                Version::V5.name(),
                Version::V5,
                Encoding {
                    base64: false,
                    half_close: true,
                },
            ),
        ];
        let offers =
            offers.map(|(name, version, encoding)| (name, RemoteCommand { version, encoding }));
        return open_websocket(method, headers, &offers);
    }
    let offers = Version::SPDY.map(|version| {
        let inside = RemoteCommand {
            version,
            encoding: BINARY,
        };
        (version.name(), inside)
    });
    spdy(headers, &offers)
}

/// Chooses for port-forward.
pub(crate) fn port_forward(
    method: &Method,
    headers: &HeaderMap,
) -> Result<Upgrade<PortForward>, Refusal> {
    if is_websocket(headers) {
        let offers = [
            ("", PortForward::Channels(BINARY)),
            (Version::V4.name(), PortForward::Channels(BINARY)),
            (V4_BASE64, PortForward::Channels(TEXT)),
            // Upstream's servers lack it (WSK-06).
            (TUNNELLED, PortForward::Spdy),
        ];
        return open_websocket(method, headers, &offers);
    }
    spdy(headers, &[(PORT_FORWARD, PortForward::Spdy)])
}

/// Values of a header, split at commas.
fn words<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .collect()
}

fn contains(headers: &HeaderMap, name: header::HeaderName, what: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.to_ascii_lowercase().contains(what))
}

fn is_websocket(headers: &HeaderMap) -> bool {
    let named = headers
        .get(header::UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes()));
    named && contains(headers, header::CONNECTION, "upgrade")
}

fn spdy<P: Copy>(headers: &HeaderMap, offers: &[(&'static str, P)]) -> Result<Upgrade<P>, Refusal> {
    let wanted = words(headers, PROTOCOL_VERSION);
    if wanted.is_empty() {
        // Upstream answers an empty 200 to a port-forward (SPD-02).
        let text = "unable to upgrade: X-Stream-Protocol-Version is required";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, text));
    }
    let Some(inside) = choose(&wanted, offers) else {
        let accepted: Vec<&str> = offers.iter().map(|(name, _)| *name).collect();
        let text = format!(
            "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]",
            wanted.join(" "),
            accepted.join(" ")
        );
        return Err(Refusal {
            accepted,
            ..Refusal::new(StatusCode::FORBIDDEN, text)
        });
    };
    let asked = contains(headers, header::CONNECTION, "upgrade")
        && contains(headers, header::UPGRADE, "spdy/3.1");
    if asked {
        Ok(Upgrade::Spdy(inside.1))
    } else {
        let text = "unable to upgrade: missing upgrade headers in request: \
                    Connection: Upgrade and Upgrade: SPDY/3.1 are needed";
        Err(Refusal::new(StatusCode::BAD_REQUEST, text))
    }
}

fn open_websocket<P: Copy>(
    method: &Method,
    headers: &HeaderMap,
    offers: &[(&'static str, P)],
) -> Result<Upgrade<P>, Refusal> {
    if method != Method::GET {
        return Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "a websocket is opened with GET",
        ));
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if text("sec-websocket-version") != Some("13") {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "missing or bad WebSocket Version",
        ));
    }
    let Some(key) = text("sec-websocket-key").filter(|key| !key.is_empty()) else {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "mismatch challenge/response",
        ));
    };
    let mut wanted = words(headers, header::SEC_WEBSOCKET_PROTOCOL.as_str());
    if wanted.is_empty() {
        wanted.push("");
    }
    let Some((name, inside)) = choose(&wanted, offers) else {
        let text = format!("requested protocol(s) are not supported: {wanted:?}");
        return Err(Refusal::new(StatusCode::FORBIDDEN, text));
    };
    Ok(Upgrade::WebSocket {
        accept: websocket::accept_key(key),
        protocol: (!name.is_empty()).then_some(name),
        inside,
    })
}

/// The client's first wish that we know.
fn choose<P: Copy>(wanted: &[&str], offers: &[(&'static str, P)]) -> Option<(&'static str, P)> {
    wanted
        .iter()
        .find_map(|wish| offers.iter().find(|(name, _)| name == wish))
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            let name: header::HeaderName = name.parse().unwrap();
            map.append(name, value.parse().unwrap());
        }
        map
    }

    const UPGRADE: [(&str, &str); 2] = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];

    #[test]
    fn spdy_gets_the_clients_first_wish_that_we_know() {
        let wishes = [
            (
                "x-stream-protocol-version",
                "v9.channel.k8s.io, v3.channel.k8s.io",
            ),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
        ];
        let chosen = remote_command(&Method::POST, &headers(&[&UPGRADE[..], &wishes].concat()));
        let Ok(Upgrade::Spdy(inside)) = chosen else {
            panic!("{chosen:?}");
        };
        assert_eq!(inside.version, Version::V3);
    }

    #[test]
    fn refusals_have_upstreams_statuses() {
        let refused =
            |pairs: &[(&str, &str)]| remote_command(&Method::POST, &headers(pairs)).unwrap_err();
        let none = refused(&UPGRADE);
        assert_eq!(none.status, StatusCode::BAD_REQUEST);
        assert!(none.text.contains("X-Stream-Protocol-Version is required"));
        let v5 = ("x-stream-protocol-version", "v5.channel.k8s.io");
        let unknown = refused(&[UPGRADE[0], UPGRADE[1], v5]);
        assert_eq!(unknown.status, StatusCode::FORBIDDEN);
        assert_eq!(unknown.accepted.len(), 4);
        let v4 = ("x-stream-protocol-version", "v4.channel.k8s.io");
        assert_eq!(refused(&[v4]).status, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn websocket_gets_what_it_names_or_the_oldest() {
        let base = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let open = |protocol: Option<&'static str>| {
            let mut pairs = base.to_vec();
            pairs.extend(protocol.map(|p| ("sec-websocket-protocol", p)));
            remote_command(&Method::GET, &headers(&pairs))
        };
        let Ok(Upgrade::WebSocket {
            accept,
            protocol,
            inside,
        }) = open(None)
        else {
            panic!();
        };
        // The example of RFC 6455, 1.3.
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!((protocol, inside.version), (None, Version::V1));
        let Ok(Upgrade::WebSocket { inside, .. }) = open(Some("x, v5.channel.k8s.io")) else {
            panic!();
        };
        assert!(inside.encoding.half_close && inside.version == Version::V5);
        assert_eq!(
            open(Some("v2.channel.k8s.io")).unwrap_err().status,
            StatusCode::FORBIDDEN
        );
        let tunnel = [&base[..], &[("sec-websocket-protocol", TUNNELLED)]].concat();
        assert!(matches!(
            port_forward(&Method::GET, &headers(&tunnel)),
            Ok(Upgrade::WebSocket {
                inside: PortForward::Spdy,
                ..
            })
        ));
    }
}
