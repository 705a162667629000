//! `grpc.health.v1.Health/Check` over a plain connection of its own (PROBE-11).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use kubelet_core::{backoff::go_duration, probes::http::authority};
use prost::Message;
use tokio_util::io::InspectReader;
use tonic::{Code, Status, client::Grpc, transport::Endpoint};
use tonic_prost::ProstCodec;

use super::verdict::Verdict;
use crate::outbound::dial;

const CHECK: &str = "/grpc.health.v1.Health/Check";
/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: i32 = 1;

#[derive(Clone, PartialEq, Message)]
pub(super) struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    pub(super) service: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
}

/// Whom to ask what.
#[derive(Debug, Clone)]
pub(super) struct GrpcProbe {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) service: String,
    pub(super) user_agent: String,
    pub(super) timeout: Duration,
}

/// Asks. Every failure counts as a bad answer, as upstream has it. Where upstream dials again and again
/// until the time is over, one try is made, and its failure is told in the same words.
pub(super) async fn check(probe: &GrpcProbe) -> Verdict {
    let deadline = tokio::time::Instant::now() + probe.timeout;
    let address = authority(&probe.host, probe.port);
    let limit = go_duration(probe.timeout);
    let no_connection = || {
        Verdict::Failure(format!(
            "timeout: failed to connect service \"{address}\" within {limit}: context deadline exceeded"
        ))
    };
    let connect = dial::connect(&probe.host, probe.port);
    let Ok(Ok(stream)) = tokio::time::timeout_at(deadline, connect).await else {
        return no_connection();
    };
    let heard = Arc::new(AtomicBool::new(false));
    let hears = Arc::clone(&heard);
    let stream = InspectReader::new(stream, move |_| hears.store(true, Ordering::Relaxed));
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        // One connection, one question.
        let stream = stream.take();
        async move { stream.ok_or_else(|| std::io::Error::other("the connection is gone")) }
    });
    let endpoint = match Endpoint::from_shared(format!("http://{address}"))
        .and_then(|endpoint| endpoint.user_agent(probe.user_agent.as_str()))
    {
        Ok(endpoint) => endpoint,
        Err(error) => {
            let error = daemon::ErrorChain(&error);
            let text = format!("error: failed to connect service at \"{address}\": {error}");
            return Verdict::Failure(text);
        }
    };
    let channel = endpoint.connect_with_connector(connector);
    let Ok(Ok(channel)) = tokio::time::timeout_at(deadline, channel).await else {
        return no_connection();
    };
    let mut client = Grpc::new(channel);
    let ask = async {
        client
            .ready()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let request = HealthCheckRequest {
            service: probe.service.clone(),
        };
        let codec: ProstCodec<HealthCheckRequest, HealthCheckResponse> = ProstCodec::default();
        let path = PathAndQuery::from_static(CHECK);
        client
            .unary(tonic::Request::new(request), path, codec)
            .await
    };
    match tokio::time::timeout_at(deadline, ask).await {
        Err(_) if heard.load(Ordering::Relaxed) => late(&limit),
        // For upstream a connection stands when the server has said so.
        Err(_) => no_connection(),
        Ok(Ok(answer)) => judge(answer.into_inner().status),
        Ok(Err(status)) => match status.code() {
            Code::Unimplemented => Verdict::Failure(format!(
                "error: this server does not implement the grpc health protocol \
                 (grpc.health.v1.Health): {}",
                status.message()
            )),
            Code::DeadlineExceeded => late(&limit),
            // Whoever answered does not speak the protocol: upstream waits for one who does.
            _ if std::error::Error::source(&status).is_some() => no_connection(),
            code => Verdict::Failure(format!(
                "error: health rpc probe failed: rpc error: code = {code:?} desc = {}",
                status.message()
            )),
        },
    }
}

fn late(limit: &str) -> Verdict {
    Verdict::Failure(format!(
        "timeout: health rpc did not complete within {limit}"
    ))
}

fn judge(status: i32) -> Verdict {
    let name = match status {
        SERVING => return Verdict::Success,
        0 => "UNKNOWN",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        other => {
            return Verdict::Failure(format!("service unhealthy (responded with \"{other}\")"));
        }
    };
    Verdict::Failure(format!("service unhealthy (responded with \"{name}\")"))
}

#[cfg(test)]
mod tests;
