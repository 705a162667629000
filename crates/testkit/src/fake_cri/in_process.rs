//! Calls to the fake without sockets, buffers and tasks: each runs within its caller.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use cri_api::{
    MAX_MESSAGE_BYTES,
    v1::{image_service_server::ImageServiceServer, runtime_service_server::RuntimeServiceServer},
};
use tonic::{Status, body::Body};
use tower::Service;

use super::{Shared, service};

type Request = http::Request<Body>;
type Response = http::Response<Body>;

/// The way to the fake for a client in the same process. A call that is dropped ends where it stands.
#[derive(Debug, Clone)]
pub struct InProcess(Arc<Shared>);

impl InProcess {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }
}

impl Service<Request> for InProcess {
    type Response = Response;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let shared = self.0.clone();
        Box::pin(async move {
            let Some(open) = shared.open_until() else {
                return Err(Status::unavailable("the fake runtime is away"));
            };
            let service = service::Service::new(shared);
            let done = async {
                if request.uri().path().contains("RuntimeService") {
                    let runtime = RuntimeServiceServer::new(service);
                    runtime
                        .max_decoding_message_size(MAX_MESSAGE_BYTES)
                        .max_encoding_message_size(MAX_MESSAGE_BYTES)
                        .call(request)
                        .await
                } else {
                    let images = ImageServiceServer::new(service);
                    images
                        .max_decoding_message_size(MAX_MESSAGE_BYTES)
                        .max_encoding_message_size(MAX_MESSAGE_BYTES)
                        .call(request)
                        .await
                }
            };
            tokio::select! {
                biased;
                // cancel-safe: a token.
                () = open.cancelled() => Err(Status::unavailable("the fake runtime went away")),
                // cancel-safe: dropped for good.
                Ok(answer) = done => Ok(answer),
            }
        })
    }
}
