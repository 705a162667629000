//! Containers.

use std::time::Duration;

use cri_api::v1;

use super::{CriClient, CriError, gone_is_done, present, uid_selector};

impl CriClient {
    /// Containers, all of them or those of one pod.
    pub(crate) async fn list_containers(
        &self,
        pod_uid: Option<&str>,
    ) -> Result<Vec<v1::Container>, CriError> {
        let filter = pod_uid.map(|uid| v1::ContainerFilter {
            label_selector: uid_selector(uid),
            ..v1::ContainerFilter::default()
        });
        let mut client = self.runtime.clone();
        let request = v1::ListContainersRequest { filter };
        self.call(
            "list_containers",
            Some(self.request_timeout),
            Box::pin(client.list_containers(request)),
        )
        .await
        .map(|answer| answer.containers)
    }

    /// One container, checked (CRI-02).
    pub(crate) async fn container_status(&self, id: &str) -> Result<v1::ContainerStatus, CriError> {
        const OPERATION: &str = "container_status";
        let mut client = self.runtime.clone();
        let request = v1::ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: false,
        };
        let status = self
            .call(
                OPERATION,
                Some(self.request_timeout),
                Box::pin(client.container_status(request)),
            )
            .await?
            .status
            .ok_or(CriError::Incomplete {
                operation: OPERATION,
                field: "status",
            })?;
        present(OPERATION, "id", &status.id)?;
        if status
            .metadata
            .as_ref()
            .is_none_or(|metadata| metadata.name.is_empty())
        {
            return Err(CriError::Incomplete {
                operation: OPERATION,
                field: "metadata.name",
            });
        }
        if status.created_at == 0 {
            return Err(CriError::Incomplete {
                operation: OPERATION,
                field: "created_at",
            });
        }
        let image = status.image.as_ref().map(|image| image.image.as_str());
        present(OPERATION, "image", image.unwrap_or_default())?;
        present(OPERATION, "image_ref", &status.image_ref)?;
        Ok(status)
    }

    /// Makes a container.
    pub(crate) async fn create_container(
        &self,
        sandbox_id: &str,
        config: v1::ContainerConfig,
        sandbox_config: v1::PodSandboxConfig,
    ) -> Result<String, CriError> {
        const OPERATION: &str = "create_container";
        let mut client = self.runtime.clone();
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox_id.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        let id = self
            .call(
                OPERATION,
                Some(self.request_timeout),
                Box::pin(client.create_container(request)),
            )
            .await?
            .container_id;
        present(OPERATION, "container_id", &id)?;
        Ok(id)
    }

    /// Starts a container.
    pub(crate) async fn start_container(&self, id: &str) -> Result<(), CriError> {
        let mut client = self.runtime.clone();
        let request = v1::StartContainerRequest {
            container_id: id.to_owned(),
        };
        self.call(
            "start_container",
            Some(self.request_timeout),
            Box::pin(client.start_container(request)),
        )
        .await
        .map(drop)
    }

    /// Stops a container within `grace`; the limit is the usual one plus the grace (CRI-01).
    pub(crate) async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), CriError> {
        let mut client = self.runtime.clone();
        let request = v1::StopContainerRequest {
            container_id: id.to_owned(),
            timeout: i64::try_from(grace.as_secs()).unwrap_or(i64::MAX),
        };
        let limit = self.request_timeout.saturating_add(grace);
        let result = self
            .call(
                "stop_container",
                Some(limit),
                Box::pin(client.stop_container(request)),
            )
            .await;
        gone_is_done(result.map(drop))
    }

    /// Removes a container; removing what is gone succeeds.
    pub(crate) async fn remove_container(&self, id: &str) -> Result<(), CriError> {
        let mut client = self.runtime.clone();
        let request = v1::RemoveContainerRequest {
            container_id: id.to_owned(),
        };
        let result = self
            .call(
                "remove_container",
                Some(self.request_timeout),
                Box::pin(client.remove_container(request)),
            )
            .await;
        gone_is_done(result.map(drop))
    }

    /// Makes the runtime write to a new log file.
    pub(crate) async fn reopen_container_log(&self, id: &str) -> Result<(), CriError> {
        let mut client = self.runtime.clone();
        let request = v1::ReopenContainerLogRequest {
            container_id: id.to_owned(),
        };
        self.call(
            "reopen_container_log",
            Some(self.request_timeout),
            Box::pin(client.reopen_container_log(request)),
        )
        .await
        .map(drop)
    }
}
