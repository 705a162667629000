//! `PodSandboxConfig` (kubelet CRI-30 to CRI-40).

use cri_api::v1;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::{NodeFacts, TranslateError, security};
use crate::{
    admission::normal_sysctl,
    hostname::hostname,
    ids::{PodKey, PodUid},
    log_paths,
    observed::{LABEL_POD_NAME, LABEL_POD_NAMESPACE, LABEL_POD_UID},
    resources, spec,
};

/// What a sandbox is made from.
#[derive(Debug, Clone, Copy)]
pub struct SandboxInput<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The attempt; it only grows (CRI-30).
    pub attempt: u32,
    /// The resolver settings.
    pub dns: &'a v1::DnsConfig,
    /// The pod's cgroup in cgroupfs form; empty without (CG-03, CG-22).
    pub cgroup_parent: &'a str,
    /// The node.
    pub facts: &'a NodeFacts,
}

/// The configuration.
///
/// # Errors
/// When the pod asks for what cannot be: see [`TranslateError`].
pub fn sandbox_config(input: &SandboxInput<'_>) -> Result<v1::PodSandboxConfig, TranslateError> {
    let SandboxInput { pod, facts, .. } = *input;
    let key = PodKey::of(pod);
    let uid = PodUid::of(pod);
    let pod_spec = spec::spec(pod);
    if pod_spec.host_users == Some(false) {
        return Err(TranslateError::UserNamespaces);
    }
    let kernel_name = if spec::is_host_network(pod) {
        String::new()
    } else {
        hostname(pod, &facts.cluster_domain, facts.hostname_override)?.kernel_name()?
    };
    let mut labels = pod.metadata.labels.clone().unwrap_or_default();
    labels.insert(LABEL_POD_NAME.to_owned(), key.name.clone());
    labels.insert(LABEL_POD_NAMESPACE.to_owned(), key.namespace.clone());
    labels.insert(LABEL_POD_UID.to_owned(), uid.to_string());
    let context = pod_spec.security_context.as_ref();
    // Differs (SPEC-51): `/pods` shows names with slashes as the manifest has them; upstream rewrites them there
    // too when it makes the sandbox.
    let sysctls = context
        .and_then(|context| context.sysctls.as_ref())
        .into_iter()
        .flatten()
        .map(|sysctl| (normal_sysctl(&sysctl.name), sysctl.value.clone()))
        .collect();
    let log_directory = facts
        .logs_directory
        .join(log_paths::pod_directory(&key, &uid));
    Ok(v1::PodSandboxConfig {
        hostname: kernel_name,
        log_directory: log_directory.to_string_lossy().into_owned(),
        dns_config: Some(input.dns.clone()),
        port_mappings: port_mappings(spec::containers(pod)),
        labels,
        annotations: pod.metadata.annotations.clone().unwrap_or_default(),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: input.cgroup_parent.to_owned(),
            security_context: Some(security::sandbox_context(pod, facts)?),
            sysctls,
            overhead: Some(resources::overhead_resources(pod, &facts.resources)),
            resources: Some(resources::sandbox_resources(pod, &facts.resources, false)),
        }),
        windows: None,
        metadata: Some(v1::PodSandboxMetadata {
            name: key.name,
            uid: uid.to_string(),
            namespace: key.namespace,
            attempt: input.attempt,
        }),
    })
}

/// Every port of the regular containers, also those without host port; doubles are left out
/// (CRI-34).
fn port_mappings(containers: &[Container]) -> Vec<v1::PortMapping> {
    let mut mappings: Vec<v1::PortMapping> = Vec::new();
    for port in containers
        .iter()
        .flat_map(|container| container.ports.iter().flatten())
    {
        let protocol = match port.protocol.as_deref() {
            Some("UDP") => v1::Protocol::Udp,
            Some("SCTP") => v1::Protocol::Sctp,
            _ => v1::Protocol::Tcp,
        };
        let mapping = v1::PortMapping {
            protocol: protocol.into(),
            container_port: port.container_port,
            host_port: port.host_port.unwrap_or_default(),
            host_ip: port.host_ip.clone().unwrap_or_default(),
        };
        if !mappings.contains(&mapping) {
            mappings.push(mapping);
        }
    }
    mappings
}
