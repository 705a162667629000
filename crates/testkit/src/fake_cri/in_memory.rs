//! Connections to the fake without sockets.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use hyper_util::rt::TokioIo;
use tokio::{io::DuplexStream, sync::mpsc};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::transport::Channel;

use super::Shared;

/// Connections that may wait to be accepted.
const BACKLOG: usize = 16;
/// Bytes that either side may be ahead.
const BUFFER_BYTES: usize = 64 * 1024;

/// Where connections are made while the server serves.
#[derive(Debug, Default)]
pub(super) struct Dialer(Mutex<Option<mpsc::Sender<DuplexStream>>>);

impl Dialer {
    /// The server's side.
    pub(super) fn open(
        &self,
    ) -> impl tokio_stream::Stream<Item = io::Result<DuplexStream>> + use<> {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        ReceiverStream::new(receiver).map(Ok)
    }

    /// Nobody gets through any more.
    pub(super) fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn dial(&self) -> io::Result<DuplexStream> {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let dialer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (ours, theirs) = tokio::io::duplex(BUFFER_BYTES);
        dialer
            .as_ref()
            .ok_or_else(refused)?
            .try_send(theirs)
            .map_err(|_| refused())?;
        Ok(ours)
    }
}

pub(super) fn channel(shared: Arc<Shared>) -> Channel {
    let connector = tower::service_fn(move |_: http::Uri| {
        let connection = shared.dialer.dial();
        async move { Ok::<_, io::Error>(TokioIo::new(connection?)) }
    });
    tonic::transport::Endpoint::from_static("http://localhost")
        .connect_with_connector_lazy(connector)
}
