//! How the server works, and what all its connections share.

use std::{net::SocketAddr, time::Duration};

use super::{tls::Tls, urls::Urls};

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

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared<R> {
    pub(super) runtime: R,
    pub(super) urls: Urls,
    pub(super) config: Config,
}
