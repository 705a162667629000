//! `grpc.health.v1.Health/Check` over a plain connection of its own (PROBE-11).

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use kubelet_core::{
    backoff::{dial_delay, go_duration},
    probes::http::authority,
};
use prost::Message;
use tokio::time::Instant;
use tokio_util::io::InspectReader;
use tonic::{Code, Status, client::Grpc, transport::Endpoint};
use tonic_prost::ProstCodec;

use super::verdict::Verdict;
use crate::{jitter, outbound::dial};

const CHECK: &str = "/grpc.health.v1.Health/Check";
/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: i32 = 1;
/// A dial may take as long as the wait after it, and so long at least (grpc-go, `minConnectTimeout`).
const DIAL_LIMIT: Duration = Duration::from_secs(20);
/// What a frame of HTTP/2 begins with: its length, type, flags and stream.
const FRAME_HEAD_BYTES: usize = 9;
/// The type of a frame with settings.
const SETTINGS: u8 = 4;

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

/// Asks. Every failure counts as a bad answer, as upstream has it. Where nobody is there who speaks the protocol it
/// dials again until the time is over (Kubernetes `pkg/probe/grpc`, `grpc.WithBlock`).
pub(super) async fn check(probe: &GrpcProbe) -> Verdict {
    let deadline = Instant::now() + probe.timeout;
    let address = authority(&probe.host, probe.port);
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
    let mut failures = 0;
    loop {
        let wait = dial_delay(failures, jitter::unit());
        let dialled_by = Instant::now() + wait.max(DIAL_LIMIT);
        let asked = ask_once(probe, &endpoint, dialled_by.min(deadline), deadline);
        if let Some(verdict) = asked.await {
            return verdict;
        }
        let next = Instant::now() + wait;
        tokio::time::sleep_until(next.min(deadline)).await;
        if next >= deadline {
            let limit = go_duration(probe.timeout);
            return Verdict::Failure(format!(
                "timeout: failed to connect service \"{address}\" within {limit}: \
                 context deadline exceeded"
            ));
        }
        failures += 1;
    }
}

/// Over one connection. Nothing when nobody is there by `until` who speaks the protocol.
async fn ask_once(
    probe: &GrpcProbe,
    endpoint: &Endpoint,
    until: Instant,
    deadline: Instant,
) -> Option<Verdict> {
    let connect = dial::connect(&probe.host, probe.port);
    let stream = tokio::time::timeout_at(until, connect).await.ok()?.ok()?;
    let greeted = Arc::new(AtomicBool::new(false));
    let mut greeting = Greeting::default();
    let flag = Arc::clone(&greeted);
    let stream = InspectReader::new(stream, move |bytes| {
        if greeting.hear(bytes) {
            flag.store(true, Ordering::Relaxed);
        }
    });
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        // One connection, one question.
        let stream = stream.take();
        async move { stream.ok_or_else(|| std::io::Error::other("the connection is gone")) }
    });
    let channel = endpoint.connect_with_connector(connector);
    let channel = tokio::time::timeout_at(until, channel).await.ok()?.ok()?;
    let mut client = Grpc::new(channel);
    let mut ask = pin!(async {
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
    });
    let in_time = tokio::time::timeout_at(until, &mut ask).await;
    if !greeted.load(Ordering::Relaxed) {
        return None;
    }
    let answer = match in_time {
        Err(_) => tokio::time::timeout_at(deadline, ask).await,
        in_time => in_time,
    };
    Some(match answer {
        Ok(Ok(answer)) => judge(answer.into_inner().status),
        Ok(Err(status)) => Verdict::Failure(refusal(&status, probe.timeout)),
        Err(_) => Verdict::Failure(late(probe.timeout)),
    })
}

/// Differs (PROBE-11): that a gRPC server hung up on the question is told in other words than those of Go's client.
fn refusal(status: &Status, timeout: Duration) -> String {
    let message = status.message();
    match status.code() {
        Code::Unimplemented => format!(
            "error: this server does not implement the grpc health protocol \
             (grpc.health.v1.Health): {message}"
        ),
        Code::DeadlineExceeded => late(timeout),
        code => {
            format!("error: health rpc probe failed: rpc error: code = {code:?} desc = {message}")
        }
    }
}

/// What a server says first. For upstream a connection stands when that is its settings.
#[derive(Debug, Default)]
struct Greeting {
    head: Vec<u8>,
}

impl Greeting {
    /// Takes in what the server says next. Tells when that completes the head of a frame of settings.
    fn hear(&mut self, bytes: &[u8]) -> bool {
        let missing = FRAME_HEAD_BYTES - self.head.len();
        if missing == 0 {
            return false;
        }
        self.head.extend(bytes.iter().take(missing));
        matches!(*self.head, [0, _, _, SETTINGS, _, 0, 0, 0, 0])
    }
}

fn late(timeout: Duration) -> String {
    let limit = go_duration(timeout);
    format!("timeout: health rpc did not complete within {limit}")
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
