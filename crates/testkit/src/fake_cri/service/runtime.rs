//! The runtime service.

use std::time::Duration;

use cri_api::v1::{self, ContainerState, runtime_service_server::RuntimeService};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{
    Answer, Service,
    filters::{container_passes, sandbox_passes},
    stats::{container_stats, sandbox_stats},
};
use crate::fake_cri::{
    objects::{FakeContainer, FakeSandbox},
    script::{Call, OnStop},
};

fn metadata_name(config: Option<&v1::PodSandboxConfig>) -> String {
    let metadata = config.and_then(|config| config.metadata.as_ref());
    metadata
        .map(|metadata| format!("{}/{}", metadata.namespace, metadata.name))
        .unwrap_or_default()
}

#[tonic::async_trait]
impl RuntimeService for Service {
    async fn version(&self, request: Request<v1::VersionRequest>) -> Answer<v1::VersionResponse> {
        let asked = request.into_inner().version;
        self.answer(Call::Version, &asked, |_| {
            Ok(v1::VersionResponse {
                version: "0.1.0".to_owned(),
                runtime_name: "fake".to_owned(),
                runtime_version: "1.0.0".to_owned(),
                runtime_api_version: "v1".to_owned(),
            })
        })
        .await
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<v1::RunPodSandboxRequest>,
    ) -> Answer<v1::RunPodSandboxResponse> {
        let request = request.into_inner();
        let name = metadata_name(request.config.as_ref());
        self.answer(Call::RunPodSandbox, &name, |state| {
            Ok(v1::RunPodSandboxResponse {
                pod_sandbox_id: state.model.run_sandbox(request)?,
            })
        })
        .await
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Answer<v1::StopPodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        self.answer(Call::StopPodSandbox, &id, |state| {
            state.model.stop_sandbox(&id);
            Ok(v1::StopPodSandboxResponse::default())
        })
        .await
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Answer<v1::RemovePodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        self.answer(Call::RemovePodSandbox, &id, |state| {
            state.model.remove_sandbox(&id);
            Ok(v1::RemovePodSandboxResponse::default())
        })
        .await
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Answer<v1::PodSandboxStatusResponse> {
        let id = request.into_inner().pod_sandbox_id;
        self.answer(Call::PodSandboxStatus, &id, |state| {
            let timestamp = state.model.now();
            Ok(v1::PodSandboxStatusResponse {
                status: Some(state.model.sandbox(&id)?.status()),
                containers_statuses: state.model.inside(&id).map(FakeContainer::status).collect(),
                timestamp,
                ..v1::PodSandboxStatusResponse::default()
            })
        })
        .await
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Answer<v1::ListPodSandboxResponse> {
        let filter = request.into_inner().filter;
        self.answer(Call::ListPodSandbox, "", |state| {
            let all = state.model.sandboxes.values();
            let items = all
                .filter(|sandbox| sandbox_passes(filter.as_ref(), sandbox))
                .map(FakeSandbox::item)
                .collect();
            Ok(v1::ListPodSandboxResponse { items })
        })
        .await
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Answer<v1::CreateContainerResponse> {
        let request = request.into_inner();
        let metadata = request
            .config
            .as_ref()
            .and_then(|config| config.metadata.as_ref());
        let name = metadata
            .map(|metadata| metadata.name.clone())
            .unwrap_or_default();
        self.answer(Call::CreateContainer, &name, |state| {
            Ok(v1::CreateContainerResponse {
                container_id: state.model.create_container(request)?,
            })
        })
        .await
    }

    async fn start_container(
        &self,
        request: Request<v1::StartContainerRequest>,
    ) -> Answer<v1::StartContainerResponse> {
        let id = request.into_inner().container_id;
        self.answer(Call::StartContainer, &id, |state| {
            state.model.start_container(&id)?;
            let name = state.model.container(&id)?.name().to_owned();
            if let Some(code) = state.script.exits.get(&name).copied() {
                state
                    .model
                    .end(&id, code, if code == 0 { "Completed" } else { "Error" });
            }
            Ok(v1::StartContainerResponse::default())
        })
        .await
    }

    async fn stop_container(
        &self,
        request: Request<v1::StopContainerRequest>,
    ) -> Answer<v1::StopContainerResponse> {
        let v1::StopContainerRequest {
            container_id: id,
            timeout,
        } = request.into_inner();
        self.enter(Call::StopContainer, &id).await?;
        let stubborn = self.shared.change(|state| {
            let Ok(container) = state.model.running(&id) else {
                return false;
            };
            match state.script.stops.get(container.name()).copied() {
                Some(OnStop::Ignore) if timeout > 0 => true,
                Some(OnStop::Ignore) => !state.model.end(&id, 137, "Error"),
                Some(OnStop::Exit(code)) => !state.model.end(&id, code, "Completed"),
                None => !state.model.end(&id, 143, "Error"),
            }
        });
        if stubborn {
            self.outlast(&id, Duration::from_secs(timeout.unsigned_abs()))
                .await;
        }
        Ok(Response::new(v1::StopContainerResponse::default()))
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Answer<v1::RemoveContainerResponse> {
        let id = request.into_inner().container_id;
        self.answer(Call::RemoveContainer, &id, |state| {
            state.model.remove_container(&id);
            Ok(v1::RemoveContainerResponse::default())
        })
        .await
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Answer<v1::ListContainersResponse> {
        let filter = request.into_inner().filter;
        self.answer(Call::ListContainers, "", |state| {
            let all = state.model.containers.values();
            let containers = all
                .filter(|container| container_passes(filter.as_ref(), container))
                .map(FakeContainer::item)
                .collect();
            Ok(v1::ListContainersResponse { containers })
        })
        .await
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Answer<v1::ContainerStatusResponse> {
        let id = request.into_inner().container_id;
        self.answer(Call::ContainerStatus, &id, |state| {
            Ok(v1::ContainerStatusResponse {
                status: Some(state.model.container(&id)?.status()),
                ..v1::ContainerStatusResponse::default()
            })
        })
        .await
    }

    async fn update_container_resources(
        &self,
        request: Request<v1::UpdateContainerResourcesRequest>,
    ) -> Answer<v1::UpdateContainerResourcesResponse> {
        let request = request.into_inner();
        let id = request.container_id;
        self.answer(Call::UpdateContainerResources, &id, |state| {
            state.model.container_mut(&id)?.resources = request.linux;
            Ok(v1::UpdateContainerResourcesResponse::default())
        })
        .await
    }

    async fn reopen_container_log(
        &self,
        request: Request<v1::ReopenContainerLogRequest>,
    ) -> Answer<v1::ReopenContainerLogResponse> {
        let id = request.into_inner().container_id;
        self.answer(Call::ReopenContainerLog, &id, |state| {
            if let Some(path) = &state.model.running(&id)?.log_path {
                std::fs::File::options()
                    .create(true)
                    .append(true)
                    .open(path)
                    .map_err(|error| Status::unknown(error.to_string()))?;
            }
            Ok(v1::ReopenContainerLogResponse::default())
        })
        .await
    }

    async fn exec_sync(
        &self,
        request: Request<v1::ExecSyncRequest>,
    ) -> Answer<v1::ExecSyncResponse> {
        let request = request.into_inner();
        self.answer(Call::ExecSync, &request.container_id, |state| {
            state.model.running(&request.container_id)?;
            let exec = state.script.exec.as_ref();
            Ok(exec.map(|answer| answer(&request)).unwrap_or_default())
        })
        .await
    }

    async fn exec(&self, request: Request<v1::ExecRequest>) -> Answer<v1::ExecResponse> {
        let id = request.into_inner().container_id;
        self.answer(Call::Exec, &id, |state| {
            state.model.running(&id)?;
            Ok(v1::ExecResponse {
                url: format!("{}/exec/{id}", state.model.streaming_base),
            })
        })
        .await
    }

    async fn attach(&self, request: Request<v1::AttachRequest>) -> Answer<v1::AttachResponse> {
        let id = request.into_inner().container_id;
        self.answer(Call::Attach, &id, |state| {
            state.model.running(&id)?;
            Ok(v1::AttachResponse {
                url: format!("{}/attach/{id}", state.model.streaming_base),
            })
        })
        .await
    }

    async fn port_forward(
        &self,
        request: Request<v1::PortForwardRequest>,
    ) -> Answer<v1::PortForwardResponse> {
        let id = request.into_inner().pod_sandbox_id;
        self.answer(Call::PortForward, &id, |state| {
            state.model.sandbox(&id)?;
            let url = format!("{}/portforward/{id}", state.model.streaming_base);
            Ok(v1::PortForwardResponse { url })
        })
        .await
    }

    async fn container_stats(
        &self,
        request: Request<v1::ContainerStatsRequest>,
    ) -> Answer<v1::ContainerStatsResponse> {
        let id = request.into_inner().container_id;
        self.answer(Call::ContainerStats, &id, |state| {
            let now = state.model.now();
            let stats = Some(container_stats(state.model.container(&id)?, now));
            Ok(v1::ContainerStatsResponse { stats })
        })
        .await
    }

    async fn list_container_stats(
        &self,
        request: Request<v1::ListContainerStatsRequest>,
    ) -> Answer<v1::ListContainerStatsResponse> {
        let filter = request
            .into_inner()
            .filter
            .map(|filter| v1::ContainerFilter {
                id: filter.id,
                pod_sandbox_id: filter.pod_sandbox_id,
                label_selector: filter.label_selector,
                state: None,
            });
        self.answer(Call::ListContainerStats, "", |state| {
            let now = state.model.now();
            let all = state.model.containers.values();
            let stats = all
                .filter(|container| container.state == ContainerState::ContainerRunning)
                .filter(|container| container_passes(filter.as_ref(), container))
                .map(|container| container_stats(container, now))
                .collect();
            Ok(v1::ListContainerStatsResponse { stats })
        })
        .await
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<v1::PodSandboxStatsRequest>,
    ) -> Answer<v1::PodSandboxStatsResponse> {
        let id = request.into_inner().pod_sandbox_id;
        self.answer(Call::PodSandboxStats, &id, |state| {
            Ok(v1::PodSandboxStatsResponse {
                stats: Some(sandbox_stats(state, &id)?),
            })
        })
        .await
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<v1::ListPodSandboxStatsRequest>,
    ) -> Answer<v1::ListPodSandboxStatsResponse> {
        let filter = request
            .into_inner()
            .filter
            .map(|filter| v1::PodSandboxFilter {
                id: filter.id,
                label_selector: filter.label_selector,
                state: None,
            });
        self.answer(Call::ListPodSandboxStats, "", |state| {
            let ids: Vec<_> = state
                .model
                .sandboxes
                .values()
                .filter(|sandbox| sandbox_passes(filter.as_ref(), sandbox))
                .map(|sandbox| sandbox.id.clone())
                .collect();
            let stats = ids
                .iter()
                .map(|id| sandbox_stats(state, id))
                .collect::<Result<_, _>>()?;
            Ok(v1::ListPodSandboxStatsResponse { stats })
        })
        .await
    }

    async fn update_runtime_config(
        &self,
        _: Request<v1::UpdateRuntimeConfigRequest>,
    ) -> Answer<v1::UpdateRuntimeConfigResponse> {
        self.answer(Call::UpdateRuntimeConfig, "", |_| {
            Ok(v1::UpdateRuntimeConfigResponse::default())
        })
        .await
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        self.answer(Call::Status, "", |state| {
            let conditions = state.model.conditions.clone();
            Ok(v1::StatusResponse {
                status: Some(v1::RuntimeStatus { conditions }),
                features: Some(v1::RuntimeFeatures {
                    supplemental_groups_policy: true,
                }),
                ..v1::StatusResponse::default()
            })
        })
        .await
    }

    async fn checkpoint_container(
        &self,
        request: Request<v1::CheckpointContainerRequest>,
    ) -> Answer<v1::CheckpointContainerResponse> {
        let id = request.into_inner().container_id;
        self.answer(Call::CheckpointContainer, &id, |_| {
            Err(Status::unimplemented(
                "the fake runtime makes no checkpoints",
            ))
        })
        .await
    }

    type GetContainerEventsStream = ReceiverStream<Result<v1::ContainerEventResponse, Status>>;

    async fn get_container_events(
        &self,
        _: Request<v1::GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        self.answer(Call::GetContainerEvents, "", |state| {
            Ok(ReceiverStream::new(state.model.listen()))
        })
        .await
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<v1::ListMetricDescriptorsRequest>,
    ) -> Answer<v1::ListMetricDescriptorsResponse> {
        self.answer(Call::ListMetricDescriptors, "", |_| {
            Ok(v1::ListMetricDescriptorsResponse::default())
        })
        .await
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<v1::ListPodSandboxMetricsRequest>,
    ) -> Answer<v1::ListPodSandboxMetricsResponse> {
        self.answer(Call::ListPodSandboxMetrics, "", |_| {
            Ok(v1::ListPodSandboxMetricsResponse::default())
        })
        .await
    }

    async fn runtime_config(
        &self,
        _: Request<v1::RuntimeConfigRequest>,
    ) -> Answer<v1::RuntimeConfigResponse> {
        self.answer(Call::RuntimeConfig, "", |state| {
            let cgroup_driver = state.model.cgroup_driver.into();
            Ok(v1::RuntimeConfigResponse {
                linux: Some(v1::LinuxRuntimeConfiguration { cgroup_driver }),
            })
        })
        .await
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<v1::UpdatePodSandboxResourcesRequest>,
    ) -> Answer<v1::UpdatePodSandboxResourcesResponse> {
        let id = request.into_inner().pod_sandbox_id;
        self.answer(Call::UpdatePodSandboxResources, &id, |state| {
            state.model.sandbox(&id)?;
            Ok(v1::UpdatePodSandboxResourcesResponse::default())
        })
        .await
    }
}
