//! For tests: a client over a real channel, or over the fake in this process.

use std::task::{Context, Poll};

use futures_util::{FutureExt as _, future::BoxFuture};
use testkit::InProcess;
use tonic::{Status, body::Body, transport::Channel};
use tower::Service;

/// Where calls go.
#[derive(Debug, Clone)]
pub(crate) enum Transport {
    Channel(Channel),
    InProcess(InProcess),
}

impl From<Channel> for Transport {
    fn from(channel: Channel) -> Self {
        Self::Channel(channel)
    }
}

impl From<InProcess> for Transport {
    fn from(way: InProcess) -> Self {
        Self::InProcess(way)
    }
}

impl Service<http::Request<Body>> for Transport {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Self::Response, Status>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        match self {
            Self::Channel(channel) => channel
                .poll_ready(context)
                .map_err(|error| Status::from_error(error.into())),
            Self::InProcess(way) => way.poll_ready(context),
        }
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match self {
            Self::Channel(channel) => channel
                .call(request)
                .map(|answer| answer.map_err(|error| Status::from_error(error.into())))
                .boxed(),
            Self::InProcess(way) => way.call(request),
        }
    }
}
