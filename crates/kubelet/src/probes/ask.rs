//! One question to one container: what a probe's handler says, asked within its timeout.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use cri_api::v1;
use k8s_openapi::api::core::v1::{
    Container, ExecAction, GRPCAction, HTTPGetAction, TCPSocketAction,
};
use kubelet_core::{
    backoff::go_duration,
    env,
    ids::ContainerId,
    probes::{
        ProbeKind, Timing,
        http::{self, Purpose, authority, resolve_port},
    },
};
use tokio::time::Instant;

use super::{
    ProbesConfig,
    grpc::{self, GrpcProbe},
    limits::{Elapsed, Limits},
    verdict::Verdict,
};
use crate::outbound::{
    dial,
    http::{Failed, Progress, get},
};

/// What of a command's output counts.
const MAX_OUTPUT_BYTES: usize = 10 * 1024;
/// A question that cannot be asked is tried so often, at once (PROBE-05).
const TRIES: usize = 3;

/// A question, ready to be asked.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) config: Arc<ProbesConfig>,
    pub(super) limits: Limits,
    pub(super) container: Arc<Container>,
    pub(super) kind: ProbeKind,
    pub(super) id: ContainerId,
    pub(super) pod_ip: String,
    /// When answers over HTTP are looked for: those of many questions together.
    pub(super) answers_from: Instant,
}

impl Question {
    /// Asks.
    pub(super) async fn ask(&self) -> Verdict {
        let mut verdict = self.ask_once().await;
        for _ in 1..TRIES {
            if !matches!(verdict, Verdict::Unasked { .. }) {
                break;
            }
            verdict = self.ask_once().await;
        }
        verdict
    }

    async fn ask_once(&self) -> Verdict {
        let Some(probe) = self.kind.of(&self.container) else {
            return Verdict::unasked("missing probe handler");
        };
        let timeout = Timing::of(probe).timeout;
        // Boxed: most of the time none of them is there, and never two.
        if let Some(action) = &probe.exec {
            Box::pin(self.exec(action, timeout)).await
        } else if let Some(action) = &probe.http_get {
            Box::pin(self.http(action, timeout)).await
        } else if let Some(action) = &probe.tcp_socket {
            Box::pin(self.tcp(action, timeout)).await
        } else if let Some(action) = &probe.grpc {
            Box::pin(self.grpc(action, timeout)).await
        } else {
            Verdict::unasked("missing probe handler")
        }
    }

    /// PROBE-14. A variable whose value comes from elsewhere counts as empty here. Source of
    /// behaviour: Kubernetes kubelet, `ExpandContainerCommandOnlyStatic`.
    async fn exec(&self, action: &ExecAction, timeout: Duration) -> Verdict {
        let literal: BTreeMap<String, String> = self
            .container
            .env
            .iter()
            .flatten()
            .map(|variable| {
                let value = variable.value.clone().unwrap_or_default();
                (variable.name.clone(), value)
            })
            .collect();
        let command: Vec<String> = action
            .command
            .iter()
            .flatten()
            .map(|word| env::expand(word, &literal))
            .collect();
        let words = command.join(" ");
        let answer = self
            .config
            .runtime
            .exec_sync(self.id.as_str(), command, Some(timeout));
        match answer.await {
            Ok(output) if output.exit_code == 0 => Verdict::Success,
            Ok(output) => Verdict::Failure(output.text(MAX_OUTPUT_BYTES)),
            Err(error) if error.is_deadline_exceeded() => Verdict::Failure(format!(
                "command timed out: \"{words}\" timed out after {}",
                go_duration(timeout)
            )),
            Err(error) => {
                if self.container_has_ended().await {
                    Verdict::Gone
                } else {
                    Verdict::unasked(&error.rpc_text())
                }
            }
        }
    }

    /// A container that ends takes its commands with it: then nobody could be asked, and the end says
    /// all there is to say.
    async fn container_has_ended(&self) -> bool {
        match self.config.runtime.container_status(self.id.as_str()).await {
            Ok(status) => status.state == v1::ContainerState::ContainerExited as i32,
            Err(_) => false,
        }
    }

    /// PROBE-10.
    async fn http(&self, action: &HTTPGetAction, timeout: Duration) -> Verdict {
        let ports = self.container.ports.as_deref().unwrap_or_default();
        let who = (Purpose::Probe, self.config.version.as_str());
        let request = match http::request(action, ports, &self.pod_ip, who) {
            Ok(request) => request,
            Err(error) => return Verdict::unasked(&error.to_string()),
        };
        let rest = || self.limits.until(self.answers_from);
        let progress = Progress::default();
        let get = get(&request, rest, &progress);
        let answer = self.limits.within(timeout, get).await;
        match answer.unwrap_or_else(|Elapsed| Err(progress.out_of_time(&request))) {
            Err(Failed::Body(error)) => Verdict::Unasked {
                state: "failure",
                error,
            },
            Err(failed) => Verdict::Failure(failed.to_string()),
            Ok(reply) => match reply.status {
                200..=299 => Verdict::Success,
                300..=399 => Verdict::Warning(format!(
                    "Probe terminated redirects, Response body: {}",
                    reply.body
                )),
                status => Verdict::Failure(format!("HTTP probe failed with statuscode: {status}")),
            },
        }
    }

    /// PROBE-11.
    async fn tcp(&self, action: &TCPSocketAction, timeout: Duration) -> Verdict {
        let ports = self.container.ports.as_deref().unwrap_or_default();
        let port = match resolve_port(&action.port, ports) {
            Ok(port) => port,
            Err(error) => return Verdict::unasked(&error.to_string()),
        };
        let host = action
            .host
            .as_deref()
            .filter(|host| !host.is_empty())
            .unwrap_or(&self.pod_ip);
        match self.limits.within(timeout, dial::connect(host, port)).await {
            Ok(Ok(_connection)) => Verdict::Success,
            Ok(Err(error)) => Verdict::Failure(error.to_string()),
            Err(Elapsed) => {
                let address = authority(host, port);
                Verdict::Failure(format!("dial tcp {address}: i/o timeout"))
            }
        }
    }

    async fn grpc(&self, action: &GRPCAction, timeout: Duration) -> Verdict {
        let Some(port) = u16::try_from(action.port).ok().filter(|port| *port > 0) else {
            return Verdict::unasked(&format!("invalid port number: {}", action.port));
        };
        let probe = GrpcProbe {
            host: self.pod_ip.clone(),
            port,
            service: action.service.clone().unwrap_or_default(),
            user_agent: Purpose::Probe.user_agent(&self.config.version),
            timeout,
        };
        grpc::check(&probe).await
    }
}
