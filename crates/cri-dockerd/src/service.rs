//! The gRPC face: each call is handed to its handler, its failure to the code table, its panic is
//! caught (DEC-46).
//!
//! Calls that change something run on a task group and finish even if the caller goes away
//! (PRF-32); reads are dropped with their request.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use cri_api::v1;
use cri_api::v1::runtime_service_server::RuntimeService;
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use tokio::sync::broadcast::error::RecvError;
use tonic::{Request, Response, Status};

use crate::error::Error;
use crate::runtime::Runtime;

/// The CRI's runtime service.
#[derive(Debug, Clone)]
pub(crate) struct Service(pub(crate) Arc<Runtime>);

type Answer<T> = Result<Response<T>, Status>;

impl Service {
    /// Runs a call that must finish.
    async fn change<T, F>(
        &self,
        name: &'static str,
        handler: impl FnOnce(Arc<Runtime>) -> F,
    ) -> Answer<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let work = handler(Arc::clone(&self.0));
        let done = self.0.spawner.run(name, work).await;
        self.0.tidy.worked();
        match done {
            Ok(Ok(answer)) => Ok(Response::new(answer)),
            Ok(Err(error)) => Err(refuse(name, error)),
            Err(lost) => Err(refuse(name, Error::Broken(lost.to_string()))),
        }
    }

    /// Runs a call that may be dropped.
    async fn read<T>(
        &self,
        name: &'static str,
        handler: impl Future<Output = Result<T, Error>>,
    ) -> Answer<T> {
        match AssertUnwindSafe(handler).catch_unwind().await {
            Ok(Ok(answer)) => Ok(Response::new(answer)),
            Ok(Err(error)) => Err(refuse(name, error)),
            Err(_) => Err(refuse(name, Error::Broken(format!("{name} panicked")))),
        }
    }
}

fn refuse(name: &'static str, error: Error) -> Status {
    if matches!(error, Error::Broken(_)) {
        tracing::error!(call = name, %error, "a call broke");
    }
    let status = error.into_status();
    tracing::debug!(call = name, code = ?status.code(), error = status.message(), "call failed");
    status
}

fn unimplemented<T>(what: &'static str) -> Answer<T> {
    Err(Error::Unimplemented(what).into_status())
}

#[tonic::async_trait]
impl RuntimeService for Service {
    async fn version(&self, _: Request<v1::VersionRequest>) -> Answer<v1::VersionResponse> {
        self.read("Version", self.0.version()).await
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        let verbose = request.into_inner().verbose;
        self.read("Status", async { Ok(self.0.status(verbose).await) })
            .await
    }

    async fn runtime_config(
        &self,
        _: Request<v1::RuntimeConfigRequest>,
    ) -> Answer<v1::RuntimeConfigResponse> {
        self.read("RuntimeConfig", self.0.runtime_config()).await
    }

    async fn update_runtime_config(
        &self,
        request: Request<v1::UpdateRuntimeConfigRequest>,
    ) -> Answer<v1::UpdateRuntimeConfigResponse> {
        let config = request.into_inner().runtime_config.unwrap_or_default();
        let network = config.network_config.unwrap_or_default();
        self.0.networks.set_pod_cidr(&network.pod_cidr);
        Ok(Response::new(v1::UpdateRuntimeConfigResponse {}))
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<v1::RunPodSandboxRequest>,
    ) -> Answer<v1::RunPodSandboxResponse> {
        let request = request.into_inner();
        self.change("RunPodSandbox", async move |runtime| {
            let pod_sandbox_id = runtime.run_pod_sandbox(request).await?;
            Ok(v1::RunPodSandboxResponse { pod_sandbox_id })
        })
        .await
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Answer<v1::StopPodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        self.change("StopPodSandbox", async move |runtime| {
            runtime.stop_pod_sandbox(&id).await?;
            Ok(v1::StopPodSandboxResponse {})
        })
        .await
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Answer<v1::RemovePodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        self.change("RemovePodSandbox", async move |runtime| {
            runtime.remove_pod_sandbox(&id).await?;
            Ok(v1::RemovePodSandboxResponse {})
        })
        .await
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Answer<v1::PodSandboxStatusResponse> {
        let request = request.into_inner();
        self.read("PodSandboxStatus", self.0.pod_sandbox_status(&request))
            .await
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Answer<v1::ListPodSandboxResponse> {
        let filter = request.into_inner().filter;
        self.read("ListPodSandbox", async {
            let items = self.0.list_pod_sandbox(filter).await?;
            Ok(v1::ListPodSandboxResponse { items })
        })
        .await
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Answer<v1::CreateContainerResponse> {
        let request = request.into_inner();
        self.change("CreateContainer", async move |runtime| {
            // Boxed: it holds the request, and Docker's.
            let container_id = Box::pin(runtime.create_container(request)).await?;
            Ok(v1::CreateContainerResponse { container_id })
        })
        .await
    }

    async fn start_container(
        &self,
        request: Request<v1::StartContainerRequest>,
    ) -> Answer<v1::StartContainerResponse> {
        let id = request.into_inner().container_id;
        self.change("StartContainer", async move |runtime| {
            runtime.start_container(&id).await?;
            Ok(v1::StartContainerResponse {})
        })
        .await
    }

    async fn stop_container(
        &self,
        request: Request<v1::StopContainerRequest>,
    ) -> Answer<v1::StopContainerResponse> {
        let request = request.into_inner();
        self.change("StopContainer", async move |runtime| {
            runtime
                .stop_container(&request.container_id, request.timeout)
                .await?;
            Ok(v1::StopContainerResponse {})
        })
        .await
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Answer<v1::RemoveContainerResponse> {
        let id = request.into_inner().container_id;
        self.change("RemoveContainer", async move |runtime| {
            runtime.remove_container(&id).await?;
            Ok(v1::RemoveContainerResponse {})
        })
        .await
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Answer<v1::ListContainersResponse> {
        let filter = request.into_inner().filter;
        self.read("ListContainers", async {
            let containers = self.0.list_containers(filter).await?;
            Ok(v1::ListContainersResponse { containers })
        })
        .await
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Answer<v1::ContainerStatusResponse> {
        let request = request.into_inner();
        self.read("ContainerStatus", self.0.container_status(&request))
            .await
    }

    async fn update_container_resources(
        &self,
        request: Request<v1::UpdateContainerResourcesRequest>,
    ) -> Answer<v1::UpdateContainerResourcesResponse> {
        let request = request.into_inner();
        self.change("UpdateContainerResources", async move |runtime| {
            runtime.update_container(request).await?;
            Ok(v1::UpdateContainerResourcesResponse {})
        })
        .await
    }

    type GetContainerEventsStream =
        Pin<Box<dyn Stream<Item = Result<v1::ContainerEventResponse, Status>> + Send>>;

    async fn get_container_events(
        &self,
        _: Request<v1::GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        let events = self.0.hub.subscribe();
        let ended = self.0.spawner.token().clone();
        // One state per step: a subscriber that was cut off gets one error and then the end.
        let items = stream::unfold(Some(events), move |events| {
            let ended = ended.clone();
            async move {
                let mut events = events?;
                let next = tokio::select! {
                    biased;
                    // cancel-safe: the stream is over.
                    () = ended.cancelled() => return None,
                    // cancel-safe: broadcast's recv takes an event only when it returns.
                    next = events.recv() => next,
                };
                match next {
                    Ok(event) => Some((Ok((*event).clone()), Some(events))),
                    Err(RecvError::Lagged(missed)) => {
                        let text =
                            format!("subscriber too slow: {missed} events lost, subscribe again");
                        Some((Err(Status::resource_exhausted(text)), None))
                    }
                    Err(RecvError::Closed) => None,
                }
            }
        });
        Ok(Response::new(items.boxed()))
    }

    async fn reopen_container_log(
        &self,
        request: Request<v1::ReopenContainerLogRequest>,
    ) -> Answer<v1::ReopenContainerLogResponse> {
        let id = request.into_inner().container_id;
        self.change("ReopenContainerLog", async move |runtime| {
            runtime.reopen_log(&id).await?;
            Ok(v1::ReopenContainerLogResponse {})
        })
        .await
    }

    async fn exec_sync(
        &self,
        request: Request<v1::ExecSyncRequest>,
    ) -> Answer<v1::ExecSyncResponse> {
        let request = request.into_inner();
        // Boxed: it holds a connection and its buffers.
        let work = Box::pin(async { Ok(self.0.execs.exec_sync(request).await?) });
        self.read("ExecSync", work).await
    }

    async fn exec(&self, request: Request<v1::ExecRequest>) -> Answer<v1::ExecResponse> {
        self.read("Exec", self.0.exec(request.into_inner())).await
    }

    async fn attach(&self, request: Request<v1::AttachRequest>) -> Answer<v1::AttachResponse> {
        self.read("Attach", self.0.attach(request.into_inner()))
            .await
    }

    async fn port_forward(
        &self,
        request: Request<v1::PortForwardRequest>,
    ) -> Answer<v1::PortForwardResponse> {
        self.read("PortForward", self.0.port_forward(request.into_inner()))
            .await
    }

    async fn container_stats(
        &self,
        request: Request<v1::ContainerStatsRequest>,
    ) -> Answer<v1::ContainerStatsResponse> {
        let id = request.into_inner().container_id;
        self.read("ContainerStats", async {
            let stats = Some(self.0.container_stats(&id).await?);
            Ok(v1::ContainerStatsResponse { stats })
        })
        .await
    }

    async fn list_container_stats(
        &self,
        request: Request<v1::ListContainerStatsRequest>,
    ) -> Answer<v1::ListContainerStatsResponse> {
        let filter = request.into_inner().filter;
        self.read("ListContainerStats", async {
            let stats = self.0.list_container_stats(filter).await?;
            Ok(v1::ListContainerStatsResponse { stats })
        })
        .await
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<v1::PodSandboxStatsRequest>,
    ) -> Answer<v1::PodSandboxStatsResponse> {
        let id = request.into_inner().pod_sandbox_id;
        self.read("PodSandboxStats", async {
            let stats = Some(self.0.pod_sandbox_stats(&id).await?);
            Ok(v1::PodSandboxStatsResponse { stats })
        })
        .await
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<v1::ListPodSandboxStatsRequest>,
    ) -> Answer<v1::ListPodSandboxStatsResponse> {
        let filter = request.into_inner().filter;
        self.read("ListPodSandboxStats", async {
            let stats = self.0.list_pod_sandbox_stats(filter).await?;
            Ok(v1::ListPodSandboxStatsResponse { stats })
        })
        .await
    }

    async fn checkpoint_container(
        &self,
        _: Request<v1::CheckpointContainerRequest>,
    ) -> Answer<v1::CheckpointContainerResponse> {
        unimplemented("Docker can't export checkpoints as the CRI wants them")
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<v1::ListMetricDescriptorsRequest>,
    ) -> Answer<v1::ListMetricDescriptorsResponse> {
        let descriptors = Runtime::list_metric_descriptors();
        Ok(Response::new(v1::ListMetricDescriptorsResponse {
            descriptors,
        }))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<v1::ListPodSandboxMetricsRequest>,
    ) -> Answer<v1::ListPodSandboxMetricsResponse> {
        self.read("ListPodSandboxMetrics", async {
            let pod_metrics = self.0.list_pod_sandbox_metrics().await?;
            Ok(v1::ListPodSandboxMetricsResponse { pod_metrics })
        })
        .await
    }

    async fn update_pod_sandbox_resources(
        &self,
        _: Request<v1::UpdatePodSandboxResourcesRequest>,
    ) -> Answer<v1::UpdatePodSandboxResourcesResponse> {
        // The kubelet owns the pod's cgroup; pause has no limits of its own (UNI-06).
        Ok(Response::new(v1::UpdatePodSandboxResourcesResponse {}))
    }
}
