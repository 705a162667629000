//! The CRI client: every call with its limit, its checks and its numbers.
//!
//! Timeouts are kubelet CRI-01: `runtimeRequestTimeout` except where a call says otherwise.
//! Answers are checked as CRI-02 says, so that nothing behind this door meets an empty id.

use std::time::{Duration, Instant};

use cri_api::{
    Endpoint, MAX_MESSAGE_BYTES,
    v1::{
        self, image_service_client::ImageServiceClient,
        runtime_service_client::RuntimeServiceClient,
    },
};
use tonic::{Response, Status, Streaming};

use crate::metrics::Metrics;

pub(crate) use error::CriError;

mod containers;
mod error;
mod exec;
mod images;
mod sandboxes;
#[cfg(test)]
mod transport;

/// Where calls go.
#[cfg(not(test))]
use tonic::transport::Channel as Transport;
#[cfg(test)]
use transport::Transport;

/// Calls to one runtime. Cheap to clone; all clones share the connection.
#[derive(Debug, Clone)]
pub(crate) struct CriClient {
    runtime: RuntimeServiceClient<Transport>,
    images: ImageServiceClient<Transport>,
    request_timeout: Duration,
    metrics: Metrics,
}

impl CriClient {
    /// Opens the channels. `image_endpoint` may be the same.
    ///
    /// # Errors
    /// When nothing accepts on one of the sockets now.
    pub(crate) async fn connect(
        endpoint: &Endpoint,
        image_endpoint: &Endpoint,
        request_timeout: Duration,
        metrics: Metrics,
    ) -> Result<Self, cri_api::ConnectError> {
        let channel = cri_api::connect(endpoint).await?;
        let image_channel = if image_endpoint == endpoint {
            channel.clone()
        } else {
            cri_api::connect(image_endpoint).await?
        };
        Ok(Self::over(channel, image_channel, request_timeout, metrics))
    }

    /// A client over channels that stand.
    pub(crate) fn over(
        channel: impl Into<Transport>,
        image_channel: impl Into<Transport>,
        request_timeout: Duration,
        metrics: Metrics,
    ) -> Self {
        Self {
            runtime: RuntimeServiceClient::new(channel.into())
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
            images: ImageServiceClient::new(image_channel.into())
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
            request_timeout,
            metrics,
        }
    }

    /// Requests come boxed: a worker that waits for one keeps a pointer, not the whole call.
    async fn call<T>(
        &self,
        operation: &'static str,
        limit: Option<Duration>,
        request: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, CriError> {
        let label = [operation];
        self.metrics
            .runtime_operations
            .with_label_values(&label)
            .inc();
        let start = Instant::now();
        let outcome = match limit {
            Some(limit) => tokio::time::timeout(limit, request)
                .await
                .map_err(|_| CriError::Timeout { operation, limit }),
            None => Ok(request.await),
        };
        self.metrics
            .runtime_operations_duration
            .with_label_values(&label)
            .observe(start.elapsed().as_secs_f64());
        let result = outcome.and_then(|answer| {
            answer
                .map(Response::into_inner)
                .map_err(|status| CriError::Call {
                    operation,
                    source: status.into(),
                })
        });
        if result.is_err() {
            self.metrics
                .runtime_operations_errors
                .with_label_values(&label)
                .inc();
        }
        result
    }

    /// Names and versions; all four are there (CRI-02).
    pub(crate) async fn version(&self) -> Result<v1::VersionResponse, CriError> {
        const OPERATION: &str = "version";
        let request = v1::VersionRequest {
            version: "0.1.0".to_owned(),
        };
        let mut client = self.runtime.clone();
        let answer = self
            .call(
                OPERATION,
                Some(self.request_timeout),
                Box::pin(client.version(request)),
            )
            .await?;
        for (field, value) in [
            ("version", &answer.version),
            ("runtime_name", &answer.runtime_name),
            ("runtime_version", &answer.runtime_version),
            ("runtime_api_version", &answer.runtime_api_version),
        ] {
            present(OPERATION, field, value)?;
        }
        Ok(answer)
    }

    /// Conditions of the runtime.
    pub(crate) async fn status(&self) -> Result<v1::StatusResponse, CriError> {
        const OPERATION: &str = "status";
        let mut client = self.runtime.clone();
        let request = v1::StatusRequest { verbose: false };
        let answer = self
            .call(
                OPERATION,
                Some(self.request_timeout),
                Box::pin(client.status(request)),
            )
            .await?;
        let status = answer.status.as_ref().ok_or(CriError::Incomplete {
            operation: OPERATION,
            field: "status",
        })?;
        if status.conditions.len() < 2 {
            return Err(CriError::Incomplete {
                operation: OPERATION,
                field: "conditions",
            });
        }
        Ok(answer)
    }

    /// The Docker Engine behind the runtime, by its own id and its directory, since up to Docker 20.10 all
    /// engines of a host have one id (that of `/etc/docker/key.json`); `None` where there is none or the
    /// runtime does not say, as only our cri-dockerd does.
    pub(crate) async fn engine_id(&self) -> Result<Option<String>, CriError> {
        let mut client = self.runtime.clone();
        let request = v1::StatusRequest { verbose: true };
        let answer = self
            .call(
                "status",
                Some(self.request_timeout),
                Box::pin(client.status(request)),
            )
            .await?;
        Ok(answer.info.get("docker").and_then(|docker| {
            let docker: serde_json::Value = serde_json::from_str(docker).ok()?;
            let (id, root) = (docker["id"].as_str()?, docker["rootDir"].as_str()?);
            (!id.is_empty()).then(|| format!("{id} {root}"))
        }))
    }

    /// The cgroup driver that the runtime uses; `None` when it does not say.
    pub(crate) async fn cgroup_driver(&self) -> Result<Option<v1::CgroupDriver>, CriError> {
        let mut client = self.runtime.clone();
        let request = v1::RuntimeConfigRequest {};
        let answer = self
            .call(
                "runtime_config",
                Some(self.request_timeout),
                Box::pin(client.runtime_config(request)),
            )
            .await?;
        Ok(answer.linux.map(|linux| linux.cgroup_driver()))
    }

    /// Tells the runtime the pod CIDR.
    pub(crate) async fn update_runtime_config(&self, pod_cidr: &str) -> Result<(), CriError> {
        let mut client = self.runtime.clone();
        let request = v1::UpdateRuntimeConfigRequest {
            runtime_config: Some(v1::RuntimeConfig {
                network_config: Some(v1::NetworkConfig {
                    pod_cidr: pod_cidr.to_owned(),
                }),
            }),
        };
        self.call(
            "update_runtime_config",
            Some(self.request_timeout),
            Box::pin(client.update_runtime_config(request)),
        )
        .await
        .map(drop)
    }

    /// The event stream. No limit.
    pub(crate) async fn container_events(
        &self,
    ) -> Result<Streaming<v1::ContainerEventResponse>, CriError> {
        let mut client = self.runtime.clone();
        let request = v1::GetEventsRequest {};
        self.call(
            "get_container_events",
            None,
            Box::pin(client.get_container_events(request)),
        )
        .await
    }
}

fn uid_selector(uid: &str) -> std::collections::BTreeMap<String, String> {
    [("io.kubernetes.pod.uid".to_owned(), uid.to_owned())].into()
}

fn present(operation: &'static str, field: &'static str, value: &str) -> Result<(), CriError> {
    if value.is_empty() {
        Err(CriError::Incomplete { operation, field })
    } else {
        Ok(())
    }
}

/// Stopping or removing what no longer exists is what was asked for (KLT-03).
fn gone_is_done(result: Result<(), CriError>) -> Result<(), CriError> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}
