//! The only door to Docker Engine: typed calls over HTTP/1.1 on its socket.
//!
//! Responsibility: encode a call, put a time limit on it, decode the answer into the lean types of
//! [`model`], and classify failures. No decisions about pods are made here.
//!
//! The client is ours and not `bollard` (DEC-43 allows that on evidence). bollard 0.21 joins the
//! request path over the version prefix and so always speaks the server's newest API (DKR-01); it
//! encodes `X-Registry-Auth` in the wrong base64 alphabet; it can't be built while the socket is
//! absent; it opens a connection per call (PRF-31); and it guesses from the first byte whether
//! output is framed, which stalls or drops bytes of a TTY (DKR-06).
//!
//! Versions: [`Engine::negotiate`] picks the newest API both sides know between [`OLDEST_API`] and
//! [`NEWEST_API`] (DKR-02, CMP-17). The first call does it by itself; the owner of the event stream
//! repeats it at each reconnect, because the daemon may have been replaced (STA-09).
//!
//! Limits: a unary call ends after [`EngineConfig::request_timeout`] unless its doc says otherwise.
//! For streams the limit covers the response header only; their readers set idle limits. Every
//! future here may be dropped: the connection is closed and Docker stops the work where it can.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::time::Duration;

mod api_version;
mod archive;
mod containers;
mod error;
mod events;
mod exec;
mod images;
pub(crate) mod model;
mod stream;
mod system;
#[cfg(test)]
mod tests;
mod transport;

pub(crate) use api_version::{
    API_ENDPOINT_SYSCTLS, API_IMAGE_MOUNTS, API_RECURSIVE_READ_ONLY, ApiVersion,
};
pub(crate) use archive::Found;
pub(crate) use containers::{ListContainers, LogsQuery};
pub(crate) use error::{Class, EngineError};
pub(crate) use events::{Event, EventStream};
pub(crate) use exec::{Hijacked, NO_DETACH};
pub(crate) use images::{Progress, RegistryAuth};
pub(crate) use stream::{ByteStream, FrameDecoder, StreamKind};

/// Where the engine is and how long an ordinary call may take.
#[derive(Debug, Clone)]
pub(crate) struct EngineConfig {
    /// `unix:///path`, `tcp://host:port` or `http://host:port` (FLG-02).
    pub(crate) endpoint: String,
    /// Limit of an ordinary call; upstream's default is 1m59s (FLG-06).
    pub(crate) request_timeout: Duration,
}

/// A handle to one Docker Engine. Cloning is cheap; clones share connections and API version.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    transport: transport::Transport,
    timeout: Duration,
    /// Negotiated minor version, 0 before the first contact.
    api: Arc<AtomicU16>,
}

impl Engine {
    /// Prepares a client; nothing is sent and the socket need not exist yet.
    ///
    /// # Errors
    /// [`EngineError::Endpoint`] when the endpoint's scheme or form is not understood.
    pub(crate) fn new(config: &EngineConfig) -> Result<Self, EngineError> {
        Ok(Self {
            transport: transport::Transport::new(&config.endpoint)?,
            timeout: config.request_timeout,
            api: Arc::new(AtomicU16::new(0)),
        })
    }

    /// Docker's socket, unless it is reached over TCP.
    pub(crate) fn socket(&self) -> Option<&Path> {
        self.transport.socket()
    }
}
