//! The two gRPC services over the model.

use std::{sync::Arc, time::Duration};

use cri_api::v1::{
    self, ContainerState, image_service_server::ImageService,
    runtime_service_server::RuntimeService,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::replay;

use super::{
    Shared, State,
    model::{FakeContainer, FakeSandbox},
    script::{Call, CallRecord, OnStop},
};

type Answer<T> = Result<Response<T>, Status>;

#[derive(Debug, Clone)]
pub(super) struct Service {
    shared: Arc<Shared>,
}

impl Service {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Records a call, lets it wait or fail as the test asked, then does it.
    async fn answer<T>(
        &self,
        call: Call,
        object: &str,
        work: impl FnOnce(&mut State) -> Result<T, Status>,
    ) -> Answer<T> {
        self.enter(call, object).await?;
        let (answer, lost) = self.shared.change(|state| {
            let answer = work(state);
            (answer, state.script.loses_answer(call))
        });
        replay::travel().await;
        if lost {
            return Err(Status::unavailable("the answer was lost"));
        }
        answer.map(Response::new)
    }

    async fn enter(&self, call: Call, object: &str) -> Result<(), Status> {
        let (gate, failure) = self.shared.note(|script| {
            script.calls.push(CallRecord {
                call,
                object: object.to_owned(),
                at: replay::now(),
            });
            (script.holds.get(&call).cloned(), script.take_failure(call))
        });
        if let Some(gate) = gate {
            gate.cancelled().await;
        }
        replay::travel().await;
        match failure {
            Some(failure) => Err(Status::new(failure.code, failure.message)),
            None => Ok(()),
        }
    }

    /// Waits until a container that ignores its stop signal has ended otherwise, or its grace period
    /// is over; then it is killed.
    async fn outlast(&self, id: &str, grace: Duration) {
        let mut changes = self.shared.changed.subscribe();
        let ended = async {
            loop {
                if self.shared.lock().model.running(id).is_err() {
                    return;
                }
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(grace, ended).await.is_err() {
            self.shared
                .change(|state| state.model.end(id, 137, "Error"));
        }
    }
}

fn name_of(image: Option<&v1::ImageSpec>) -> Result<String, Status> {
    let name = image.map(|image| image.image.clone()).unwrap_or_default();
    if name.is_empty() {
        Err(Status::invalid_argument("no image is named"))
    } else {
        Ok(name)
    }
}

fn metadata_name(config: Option<&v1::PodSandboxConfig>) -> String {
    let metadata = config.and_then(|config| config.metadata.as_ref());
    metadata
        .map(|metadata| format!("{}/{}", metadata.namespace, metadata.name))
        .unwrap_or_default()
}

type Labels = std::collections::BTreeMap<String, String>;

fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

fn id_selects(wanted: &str, id: &str) -> bool {
    wanted.is_empty() || id.starts_with(wanted)
}

fn sandbox_passes(filter: Option<&v1::PodSandboxFilter>, sandbox: &FakeSandbox) -> bool {
    filter.is_none_or(|filter| {
        id_selects(&filter.id, &sandbox.id)
            && filter
                .state
                .as_ref()
                .is_none_or(|wanted| wanted.state == i32::from(sandbox.state))
            && selects(&filter.label_selector, &sandbox.config.labels)
    })
}

fn container_passes(filter: Option<&v1::ContainerFilter>, container: &FakeContainer) -> bool {
    filter.is_none_or(|filter| {
        id_selects(&filter.id, &container.id)
            && id_selects(&filter.pod_sandbox_id, &container.sandbox_id)
            && filter
                .state
                .as_ref()
                .is_none_or(|wanted| wanted.state == i32::from(container.state))
            && selects(&filter.label_selector, &container.config.labels)
    })
}

fn container_stats(container: &FakeContainer, now: i64) -> v1::ContainerStats {
    let value = |value| Some(v1::UInt64Value { value });
    v1::ContainerStats {
        attributes: Some(v1::ContainerAttributes {
            id: container.id.clone(),
            metadata: container.config.metadata.clone(),
            labels: container.config.labels.clone(),
            annotations: container.config.annotations.clone(),
        }),
        cpu: Some(v1::CpuUsage {
            timestamp: now,
            usage_core_nano_seconds: value(1_000_000),
            usage_nano_cores: value(1_000),
            ..v1::CpuUsage::default()
        }),
        memory: Some(v1::MemoryUsage {
            timestamp: now,
            working_set_bytes: value(1 << 20),
            usage_bytes: value(2 << 20),
            rss_bytes: value(1 << 19),
            ..v1::MemoryUsage::default()
        }),
        writable_layer: Some(v1::FilesystemUsage {
            timestamp: now,
            used_bytes: value(4096),
            inodes_used: value(1),
            ..v1::FilesystemUsage::default()
        }),
        ..v1::ContainerStats::default()
    }
}

fn sandbox_stats(state: &mut State, id: &str) -> Result<v1::PodSandboxStats, Status> {
    let now = state.model.now();
    let sandbox = state.model.sandbox(id)?;
    Ok(v1::PodSandboxStats {
        attributes: Some(v1::PodSandboxAttributes {
            id: sandbox.id.clone(),
            metadata: sandbox.config.metadata.clone(),
            labels: sandbox.config.labels.clone(),
            annotations: sandbox.config.annotations.clone(),
        }),
        linux: Some(v1::LinuxPodSandboxStats {
            containers: state
                .model
                .inside(id)
                .map(|one| container_stats(one, now))
                .collect(),
            ..v1::LinuxPodSandboxStats::default()
        }),
        windows: None,
    })
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

#[tonic::async_trait]
impl ImageService for Service {
    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Answer<v1::ListImagesResponse> {
        let filter = request.into_inner().filter.and_then(|filter| filter.image);
        let wanted = filter
            .map(|image| image.image)
            .filter(|name| !name.is_empty());
        self.answer(Call::ListImages, "", |state| {
            let images = match &wanted {
                Some(name) => state.model.image(name).cloned().into_iter().collect(),
                None => state.model.images.values().cloned().collect(),
            };
            Ok(v1::ListImagesResponse { images })
        })
        .await
    }

    async fn image_status(
        &self,
        request: Request<v1::ImageStatusRequest>,
    ) -> Answer<v1::ImageStatusResponse> {
        let name = name_of(request.into_inner().image.as_ref())?;
        self.answer(Call::ImageStatus, &name, |state| {
            Ok(v1::ImageStatusResponse {
                image: state.model.image(&name).cloned(),
                ..v1::ImageStatusResponse::default()
            })
        })
        .await
    }

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Answer<v1::PullImageResponse> {
        let name = name_of(request.into_inner().image.as_ref())?;
        self.answer(Call::PullImage, &name, |state| {
            match state.script.pulls.get(&name) {
                Some((code, message)) => Err(Status::new(*code, message.clone())),
                None => Ok(v1::PullImageResponse {
                    image_ref: state.model.add_image(&name),
                }),
            }
        })
        .await
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Answer<v1::RemoveImageResponse> {
        let name = name_of(request.into_inner().image.as_ref())?;
        self.answer(Call::RemoveImage, &name, |state| {
            state.model.remove_image(&name);
            Ok(v1::RemoveImageResponse::default())
        })
        .await
    }

    async fn image_fs_info(
        &self,
        _: Request<v1::ImageFsInfoRequest>,
    ) -> Answer<v1::ImageFsInfoResponse> {
        self.answer(Call::ImageFsInfo, "", |state| {
            let usage = v1::FilesystemUsage {
                timestamp: state.model.now(),
                fs_id: Some(v1::FilesystemIdentifier {
                    mountpoint: "/".to_owned(),
                }),
                used_bytes: Some(v1::UInt64Value { value: 1 << 20 }),
                inodes_used: Some(v1::UInt64Value { value: 100 }),
            };
            Ok(v1::ImageFsInfoResponse {
                image_filesystems: vec![usage.clone()],
                container_filesystems: vec![usage],
            })
        })
        .await
    }
}
