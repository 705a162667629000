//! Sandboxes.

use cri_api::v1;

use super::{CriClient, CriError, gone_is_done, present, uid_selector};

impl CriClient {
    /// Sandboxes, all of them or those of one pod.
    pub(crate) async fn list_pod_sandboxes(
        &self,
        pod_uid: Option<&str>,
    ) -> Result<Vec<v1::PodSandbox>, CriError> {
        let filter = pod_uid.map(|uid| v1::PodSandboxFilter {
            label_selector: uid_selector(uid),
            ..v1::PodSandboxFilter::default()
        });
        let mut client = self.runtime.clone();
        let request = v1::ListPodSandboxRequest { filter };
        self.call(
            "list_podsandbox",
            Some(self.request_timeout),
            Box::pin(client.list_pod_sandbox(request)),
        )
        .await
        .map(|answer| answer.items)
    }

    /// One sandbox, checked (CRI-02).
    pub(crate) async fn pod_sandbox_status(
        &self,
        id: &str,
    ) -> Result<v1::PodSandboxStatusResponse, CriError> {
        const OPERATION: &str = "podsandbox_status";
        let mut client = self.runtime.clone();
        let request = v1::PodSandboxStatusRequest {
            pod_sandbox_id: id.to_owned(),
            verbose: false,
        };
        let answer = self
            .call(
                OPERATION,
                Some(self.request_timeout),
                Box::pin(client.pod_sandbox_status(request)),
            )
            .await?;
        let status = answer.status.as_ref().ok_or(CriError::Incomplete {
            operation: OPERATION,
            field: "status",
        })?;
        present(OPERATION, "id", &status.id)?;
        let metadata = status.metadata.as_ref().ok_or(CriError::Incomplete {
            operation: OPERATION,
            field: "metadata",
        })?;
        for (field, value) in [
            ("metadata.name", &metadata.name),
            ("metadata.namespace", &metadata.namespace),
            ("metadata.uid", &metadata.uid),
        ] {
            present(OPERATION, field, value)?;
        }
        if status.created_at == 0 {
            return Err(CriError::Incomplete {
                operation: OPERATION,
                field: "created_at",
            });
        }
        Ok(answer)
    }

    /// Makes and starts a sandbox; twice the usual limit (CRI-01).
    pub(crate) async fn run_pod_sandbox(
        &self,
        config: v1::PodSandboxConfig,
        runtime_handler: &str,
    ) -> Result<String, CriError> {
        const OPERATION: &str = "run_podsandbox";
        let mut client = self.runtime.clone();
        let request = v1::RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: runtime_handler.to_owned(),
        };
        let limit = self.request_timeout * 2;
        let id = self
            .call(
                OPERATION,
                Some(limit),
                Box::pin(client.run_pod_sandbox(request)),
            )
            .await?
            .pod_sandbox_id;
        present(OPERATION, "pod_sandbox_id", &id)?;
        Ok(id)
    }

    /// Stops a sandbox; stopping what is gone succeeds (CRI-27).
    pub(crate) async fn stop_pod_sandbox(&self, id: &str) -> Result<(), CriError> {
        let mut client = self.runtime.clone();
        let request = v1::StopPodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        let result = self
            .call(
                "stop_podsandbox",
                Some(self.request_timeout),
                Box::pin(client.stop_pod_sandbox(request)),
            )
            .await;
        gone_is_done(result.map(drop))
    }

    /// Removes a sandbox with its containers; removing what is gone succeeds.
    pub(crate) async fn remove_pod_sandbox(&self, id: &str) -> Result<(), CriError> {
        let mut client = self.runtime.clone();
        let request = v1::RemovePodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        let result = self
            .call(
                "remove_podsandbox",
                Some(self.request_timeout),
                Box::pin(client.remove_pod_sandbox(request)),
            )
            .await;
        gone_is_done(result.map(drop))
    }
}
