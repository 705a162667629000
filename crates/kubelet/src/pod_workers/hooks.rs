//! When a container's hooks run, and what follows from their failure (kubelet CTR-43, CTR-44).

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::api::core::v1::{Container, Pod};
use kubelet_core::{
    actions::{ContainerKill, ContainerStart, PreStop, plan_post_start_kill},
    ids::ContainerId,
    reasons::WaitingReason,
};

use super::{PodWorker, kill::Killing, start::not_started::NotStarted};
use crate::{events::EventType, lifecycle::HookTarget};

impl PodWorker {
    /// CTR-44: a container whose hook fails is stopped, and the next ones wait for it.
    pub(super) async fn post_start(
        &self,
        pod: &Pod,
        container: &Container,
        start: &ContainerStart,
        id: &str,
        ips: &[IpAddr],
    ) -> Result<(), NotStarted> {
        let lifecycle = container.lifecycle.as_ref();
        let Some(handler) = lifecycle.and_then(|hooks| hooks.post_start.as_ref()) else {
            return Ok(());
        };
        let name = container.name.as_str();
        let target = HookTarget {
            pod,
            name,
            id,
            ports: container.ports.as_deref().unwrap_or_default(),
            ip: ips.first().copied(),
        };
        // What has begun goes on to its end when the pod is to go meanwhile, as upstream's.
        let _goes_on = Killing::begin(&self.killing);
        let Err(error) = self.context.hooks.run(handler, target).await else {
            return Ok(());
        };
        tracing::error!(container = name, error = %error, "Failed to execute PostStartHook");
        // Without the reason, which may hold secrets (as upstream).
        let (kind, reason) = (EventType::Warning, "FailedPostStartHook");
        self.container_event(pod, name, kind, reason, "PostStartHook failed");
        let id = ContainerId::from(id);
        let kill = plan_post_start_kill(pod, container, id, target.ip);
        if let Err(error) = self.kill_container(pod, &kill, &BTreeMap::new()).await {
            tracing::error!(container = name, error = %daemon::ErrorChain(&error),
                "Failed to kill container");
        }
        let reason = WaitingReason::PostStartHookError;
        Err(NotStarted::made(start, reason, error.to_string()))
    }

    /// CTR-43: a failure is told, and the stop goes on.
    pub(super) async fn pre_stop(&self, pod: &Pod, kill: &ContainerKill, hook: &PreStop) {
        let name = kill.name.as_str();
        let target = HookTarget {
            pod,
            name,
            id: kill.id.as_str(),
            ports: &hook.ports,
            ip: hook.ip,
        };
        match self.context.hooks.run(&hook.handler, target).await {
            Ok(()) => tracing::debug!(container = name, "PreStop hook completed"),
            Err(error) => {
                tracing::error!(container = name, error = %error, "PreStop hook failed");
                // Without the reason, which may hold secrets (as upstream).
                let (kind, reason) = (EventType::Warning, "FailedPreStopHook");
                self.container_event(pod, name, kind, reason, "PreStopHook failed");
            }
        }
    }
}
