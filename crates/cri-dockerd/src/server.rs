//! The gRPC server on its unix socket.

use std::time::Duration;

use cri_api::MAX_MESSAGE_BYTES;
use cri_api::v1::image_service_server::ImageServiceServer;
use cri_api::v1::runtime_service_server::RuntimeServiceServer;
use node_os::activation::{self, ActivationError};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::cli::Listen;
use crate::deadline::Deadlines;
use crate::image_service::ImageService;
use crate::service::Service;

/// Calls that still run at the end get this long.
pub(crate) const DRAIN: Duration = Duration::from_secs(10);
/// Owner and group may connect; the directory keeps others out too (FLG-25).
const SOCKET_MODE: u32 = 0o660;

/// The socket can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// It can't be bound.
    #[error("listen for the CRI")]
    Bind(#[source] daemon::unix_listener::BindError),
    /// Nothing that can be used was handed over (SYS-03).
    #[error(transparent)]
    Inherited(#[from] ActivationError),
    /// What was handed over can't be served.
    #[error("serve the inherited socket")]
    Serve(#[source] std::io::Error),
}

/// What systemd says about sockets: values of `LISTEN_PID` and `LISTEN_FDS`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Activation {
    /// For whom the sockets are.
    pub(crate) pid: Option<String>,
    /// How many there are, from descriptor 3 on.
    pub(crate) fds: Option<String>,
}

/// Gets the socket: binds it, or takes the first one handed over.
///
/// # Errors
/// See [`ListenError`]. Panics outside a runtime.
pub(crate) fn listen(how: &Listen, given: &Activation) -> Result<UnixListener, ListenError> {
    match how {
        Listen::Path(path) => {
            daemon::unix_listener::bind(path, SOCKET_MODE).map_err(ListenError::Bind)
        }
        Listen::Inherited => {
            let (pid, fds) = (given.pid.as_deref(), given.fds.as_deref());
            let listener = activation::first_listener(pid, fds)?;
            UnixListener::from_std(listener).map_err(ListenError::Serve)
        }
    }
}

/// Serves until `token` is cancelled, then lets running calls finish.
///
/// # Errors
/// When accepting fails for good.
pub(crate) async fn serve(
    listener: UnixListener,
    service: Service,
    images: ImageService,
    token: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let runtime = RuntimeServiceServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let images = ImageServiceServer::new(images)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    Server::builder()
        .layer(Deadlines)
        .add_service(runtime)
        .add_service(images)
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), token.cancelled_owned())
        .await
}
