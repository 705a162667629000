//! The fake's sandboxes and containers, and how the CRI shows them.

use std::{fs, path::PathBuf};

use cri_api::v1::{self, ContainerState, PodSandboxState};

/// A sandbox.
#[derive(Debug, Clone)]
pub struct FakeSandbox {
    /// Its id.
    pub id: String,
    /// As asked for.
    pub config: v1::PodSandboxConfig,
    /// As asked for.
    pub runtime_handler: String,
    /// Whether it is ready.
    pub state: PodSandboxState,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// Its address; empty with host networking.
    pub ip: String,
}

/// A container.
#[derive(Debug, Clone)]
pub struct FakeContainer {
    /// Its id.
    pub id: String,
    /// Its sandbox's id.
    pub sandbox_id: String,
    /// As asked for.
    pub config: v1::ContainerConfig,
    /// The id of its image.
    pub image_id: String,
    /// Its state.
    pub state: ContainerState,
    /// Nanoseconds since the epoch, as all its times; 0 when it has not happened.
    pub created_at: i64,
    /// When it was started.
    pub started_at: i64,
    /// When it ended.
    pub finished_at: i64,
    /// Its exit code.
    pub exit_code: i32,
    /// Why it ended.
    pub reason: String,
    /// Its whole log's path, if it has one.
    pub log_path: Option<PathBuf>,
    /// The limits last given by `UpdateContainerResources`.
    pub resources: Option<v1::LinuxContainerResources>,
}

impl FakeContainer {
    /// Its name in the CRI metadata.
    pub fn name(&self) -> &str {
        self.config
            .metadata
            .as_ref()
            .map(|metadata| metadata.name.as_str())
            .unwrap_or_default()
    }

    /// Its attempt in the CRI metadata.
    pub fn attempt(&self) -> u32 {
        self.config
            .metadata
            .as_ref()
            .map(|metadata| metadata.attempt)
            .unwrap_or_default()
    }

    /// Appends a line to its log in CRI format.
    ///
    /// # Panics
    /// When it has no log, or that cannot be written.
    pub fn write_log(&self, stream: &str, line: &str) {
        use std::io::Write as _;

        let path = self
            .log_path
            .as_ref()
            .expect("the container has a log path");
        let mut file = fs::File::options()
            .append(true)
            .open(path)
            .expect("the log is there");
        writeln!(file, "2024-01-02T03:04:05.678901234Z {stream} F {line}").expect("it is written");
    }

    pub(super) fn status(&self) -> v1::ContainerStatus {
        v1::ContainerStatus {
            id: self.id.clone(),
            metadata: self.config.metadata.clone(),
            state: self.state.into(),
            created_at: self.created_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
            exit_code: self.exit_code,
            image: self.config.image.clone(),
            image_ref: self.image_id.clone(),
            image_id: self.image_id.clone(),
            reason: self.reason.clone(),
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            mounts: self.config.mounts.clone(),
            log_path: self
                .log_path
                .as_ref()
                .map(|p| p.display().to_string())
                .unwrap_or_default(),
            resources: self.resources.clone().map(|linux| v1::ContainerResources {
                linux: Some(linux),
                windows: None,
            }),
            ..v1::ContainerStatus::default()
        }
    }

    pub(super) fn item(&self) -> v1::Container {
        v1::Container {
            id: self.id.clone(),
            pod_sandbox_id: self.sandbox_id.clone(),
            metadata: self.config.metadata.clone(),
            image: self.config.image.clone(),
            image_ref: self.image_id.clone(),
            image_id: self.image_id.clone(),
            state: self.state.into(),
            created_at: self.created_at,
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
        }
    }
}

impl FakeSandbox {
    pub(super) fn namespaces(&self) -> Option<&v1::NamespaceOption> {
        self.config
            .linux
            .as_ref()?
            .security_context
            .as_ref()?
            .namespace_options
            .as_ref()
    }

    pub(super) fn status(&self) -> v1::PodSandboxStatus {
        v1::PodSandboxStatus {
            id: self.id.clone(),
            metadata: self.config.metadata.clone(),
            state: self.state.into(),
            created_at: self.created_at,
            network: Some(v1::PodSandboxNetworkStatus {
                ip: self.ip.clone(),
                additional_ips: Vec::new(),
            }),
            linux: Some(v1::LinuxPodSandboxStatus {
                namespaces: Some(v1::Namespace {
                    options: self.namespaces().cloned(),
                }),
            }),
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            runtime_handler: self.runtime_handler.clone(),
        }
    }

    pub(super) fn item(&self) -> v1::PodSandbox {
        v1::PodSandbox {
            id: self.id.clone(),
            metadata: self.config.metadata.clone(),
            state: self.state.into(),
            created_at: self.created_at,
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            runtime_handler: self.runtime_handler.clone(),
        }
    }
}
