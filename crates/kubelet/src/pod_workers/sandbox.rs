//! Making a pod's sandbox (kubelet CTR-02, section 4.3).

use std::net::IpAddr;

use cri_api::v1;
use k8s_openapi::api::core::v1::Pod;
use kubelet_core::{
    actions::SandboxCreate,
    dns::{self, DnsSettings, ResolvConf},
    ids::SandboxId,
    observed,
    reasons::EventReason,
    spec,
    translate::{SandboxInput, TranslateError, sandbox_config},
};

use super::{PodWorker, exits::Failure, mounts::Prepared};
use crate::{
    events::{EventType, ObjectRef},
    node::resolv_conf,
    runtime::health::HandlerFeatures,
};

/// A sandbox with its addresses, and what it was made from.
pub(super) type Made = ((SandboxId, Vec<IpAddr>), v1::PodSandboxConfig);

/// No sandbox was made.
pub(super) enum SandboxError {
    /// Something of the node failed.
    Failure(Failure),
    /// The pod's own fault, or the runtime's refusal; told as an event.
    Refused,
}

impl From<Failure> for SandboxError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// The class that the pod names; empty for none.
fn runtime_class(pod: &Pod) -> &str {
    let class = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.runtime_class_name.as_deref());
    class.unwrap_or_default()
}

impl PodWorker {
    /// What the handler that the pod runs with can.
    pub(super) fn handler_features(&self, pod: &Pod) -> HandlerFeatures {
        let features = self.context.health.now().features;
        features.of_handler(runtime_class(pod))
    }

    /// The runtime's handler for the pod; empty for the default one.
    ///
    /// Differs (SPEC-61): without RuntimeClass objects the class is taken for the name of a handler that the runtime
    /// has; upstream's kubelet crashes on such a pod when it stands alone.
    fn runtime_handler(&self, pod: &Pod) -> Result<String, String> {
        let class = runtime_class(pod);
        let handlers = self.context.health.now().features.handlers;
        if class.is_empty() || handlers.contains_key(class) {
            return Ok(class.to_owned());
        }
        let names = handlers.keys().map(String::as_str);
        let known: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
        Err(format!(
            "RuntimeClass {class:?} not found: the runtime has the handlers {known:?}"
        ))
    }

    /// What the sandbox is made from; warnings of the resolver settings become events.
    ///
    /// Differs (SPEC-21, SPEC-24): the events `DNSConfigForming` and `MissingClusterDNS` come when a sandbox or a
    /// container is to be started; upstream's come at each pass, so each minute or so.
    ///
    /// # Errors
    /// Why there can be no sandbox, in upstream's words.
    pub(super) async fn sandbox_config(
        &self,
        pod: &Pod,
        attempt: u32,
        _prepared: &Prepared,
    ) -> Result<v1::PodSandboxConfig, String> {
        let node = &self.context.node;
        let resolv_conf = match node.resolv_conf.clone() {
            None => None,
            Some(path) => Some(daemon::blocking(move || resolv_conf::read(&path)).await?),
        };
        if let Some(fault) = resolv_conf.as_ref().and_then(ResolvConf::fault) {
            return Err(format!(
                "Encountered error while parsing resolv conf file. Error: {fault}"
            ));
        }
        let settings = DnsSettings {
            resolv_conf: resolv_conf.as_ref(),
            cluster_dns: &node.cluster_dns,
            cluster_domain: &node.facts.cluster_domain,
            node_ips: &node.ips,
        };
        let (dns, warnings) = dns::pod_dns(pod, &settings);
        for warning in warnings {
            let (reason, message) = (warning.reason.as_str(), &warning.message);
            // The node is told the same without the pod's name (SPEC-21).
            if warning.reason == EventReason::MissingClusterDns
                && let Some((_, message)) = message.split_once("\". ")
            {
                let name = spec::spec(pod).node_name.clone().unwrap_or_default();
                let node = ObjectRef::node(&name);
                self.context
                    .events
                    .record(&node, EventType::Warning, reason, message);
            }
            self.event(pod, EventType::Warning, reason, message);
        }
        let parent = self.context.cgroups.parent_of(pod);
        let cgroup_parent = parent.map_err(|error| {
            TranslateError::NotSupported(format!("the cgroup of this pod ({error})")).to_string()
        })?;
        let config = sandbox_config(&SandboxInput {
            pod,
            attempt,
            dns: &dns,
            cgroup_parent: &cgroup_parent,
            facts: &self.facts(pod),
        });
        config.map_err(|error| error.to_string())
    }

    /// Makes the sandbox and reads its addresses.
    pub(super) async fn create_sandbox(
        &self,
        pod: &Pod,
        create: &SandboxCreate,
        prepared: &Prepared,
    ) -> Result<Made, SandboxError> {
        let refused = |message: &str| {
            let message = format!("Failed to create pod sandbox: {message}");
            tracing::error!(error = %message, "CreatePodSandbox for pod failed");
            self.event(pod, EventType::Warning, "FailedCreatePodSandBox", &message);
            SandboxError::Refused
        };
        let config = self
            .sandbox_config(pod, create.attempt, prepared)
            .await
            .map_err(|error| refused(&error))?;
        let handler = self.runtime_handler(pod).map_err(|error| refused(&error))?;
        self.context.metrics.started_pods.inc();
        let runtime = &self.context.runtime;
        let id = match runtime.run_pod_sandbox(config.clone(), &handler).await {
            Ok(id) => id,
            Err(error) if error.is_unavailable() => return Err(Failure::from(error).into()),
            Err(error) => return Err(refused(&error.rpc_text())),
        };
        let answer = match runtime.pod_sandbox_status(&id).await {
            Ok(answer) => answer,
            Err(error) => {
                let reason = EventReason::FailedStatusPodSandBox.as_str();
                let message = format!("Unable to get pod sandbox status: {}", error.rpc_text());
                self.event(pod, EventType::Warning, reason, &message);
                return Err(Failure::from(error).into());
            }
        };
        let ips = answer
            .status
            .as_ref()
            .and_then(|status| observed::sandbox_from_status(status).ok())
            .and_then(|sandbox| sandbox.ips)
            .unwrap_or_default();
        tracing::info!(sandbox.id = %id, attempt = create.attempt, ips = ?ips, "sandbox is ready");
        Ok(((SandboxId::from(id), ips), config))
    }
}
