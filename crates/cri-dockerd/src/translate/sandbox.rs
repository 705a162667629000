//! RunPodSandbox as a create request (SBX-04..10).

use std::collections::BTreeMap;

use cri_api::v1::{NamespaceMode, PodSandboxConfig, PortMapping, Protocol};

use super::{Facts, SHM_SIZE, security, sysctls};
use crate::engine::API_ENDPOINT_SYSCTLS;
use crate::engine::model::{
    CreateContainer, EndpointConfig, HostConfig, KeySet, NetworkingConfig, PortBinding, Resources,
};
use crate::invalid::Invalid;
use crate::labels;

/// OOM score of pause: the last to go, since the whole pod dies with it.
const OOM_SCORE: i64 = -998;
/// CPU weight of pause: the least there is.
const CPU_SHARES: i64 = 2;

/// What the caller has decided already.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan<'a> {
    /// Sandbox image.
    pub(crate) image: &'a str,
    /// Docker network mode for pods that don't use the host's network.
    pub(crate) network_mode: &'a str,
    /// Name of the network for the record on the sandbox (DEC-20).
    pub(crate) network: &'a str,
    /// The user-defined network among those: its pods have names there, and its DNS.
    pub(crate) user_defined: Option<&'a str>,
    /// Docker runtime; empty for the engine's default.
    pub(crate) runtime: &'a str,
    /// The handler that this runtime was asked for by.
    pub(crate) handler: &'a str,
}

/// The pod uses the host's network.
pub(crate) fn on_host_network(config: &PodSandboxConfig) -> bool {
    namespaces(config).is_some_and(|ns| ns.network() == NamespaceMode::Node)
}

fn namespaces(config: &PodSandboxConfig) -> Option<&cri_api::v1::NamespaceOption> {
    config
        .linux
        .as_ref()?
        .security_context
        .as_ref()?
        .namespace_options
        .as_ref()
}

/// The create request of a sandbox. Sysctls of the interface are not in it where CNI makes that.
///
/// # Errors
/// [`Invalid`] for a group without a user and for user namespaces.
pub(crate) fn translate(
    config: &PodSandboxConfig,
    plan: Plan<'_>,
    facts: &Facts,
) -> Result<CreateContainer, Invalid> {
    let linux = config.linux.clone().unwrap_or_default();
    let context = linux.security_context.unwrap_or_default();
    let namespaces = context.namespace_options.unwrap_or_default();
    security::check_userns(Some(&namespaces))?;
    let host_network = namespaces.network() == NamespaceMode::Node;
    let (exposed_ports, port_bindings) = ports(&config.port_mappings);
    // On a user-defined network Docker's own resolver answers, and asks these servers in turn.
    let dns = config
        .dns_config
        .clone()
        .filter(|_| plan.user_defined.is_some());
    let dns = dns.unwrap_or_default();
    let host_mode = |mode: NamespaceMode| mode == NamespaceMode::Node;
    let network_mode = if host_network {
        "host"
    } else {
        plan.network_mode
    };
    let (of_interface, sysctls) = match network_mode {
        "host" => (BTreeMap::new(), linux.sysctls),
        // CNI's plugins make the interface.
        "none" => (BTreeMap::new(), sysctls::split(linux.sysctls).1),
        _ if facts.api < API_ENDPOINT_SYSCTLS => (BTreeMap::new(), linux.sysctls),
        _ => sysctls::split(linux.sysctls),
    };

    Ok(CreateContainer {
        hostname: if host_network {
            String::new()
        } else {
            config.hostname.clone()
        },
        image: plan.image.to_owned(),
        user: security::user(
            context.run_as_user.as_ref(),
            "",
            context.run_as_group.as_ref(),
        )?,
        labels: labels::for_sandbox(
            &config.labels,
            &config.annotations,
            if host_network { "host" } else { plan.network },
            plan.handler,
        ),
        exposed_ports,
        host_config: HostConfig {
            port_bindings: if host_network {
                BTreeMap::new()
            } else {
                port_bindings
            },
            network_mode: network_mode.to_owned(),
            dns: dns.servers,
            dns_search: dns.searches,
            dns_options: dns.options,
            ipc_mode: if host_mode(namespaces.ipc()) {
                "host"
            } else {
                "shareable"
            }
            .to_owned(),
            pid_mode: if host_mode(namespaces.pid()) {
                "host"
            } else {
                ""
            }
            .to_owned(),
            cgroup_parent: facts.cgroup_driver.parent(&linux.cgroup_parent),
            sysctls,
            group_add: security::groups(&context.supplemental_groups),
            privileged: context.privileged,
            readonly_rootfs: context.readonly_rootfs,
            security_opt: security::sandbox_options(context.selinux_options.as_ref()),
            oom_score_adj: facts.oom_score(OOM_SCORE),
            shm_size: SHM_SIZE,
            runtime: plan.runtime.to_owned(),
            resources: Resources {
                cpu_shares: CPU_SHARES,
                ..Resources::default()
            },
            ..HostConfig::default()
        },
        networking_config: networking(plan, config, &of_interface),
        ..CreateContainer::default()
    })
}

/// The settings on the pod's network: on a user-defined one its names, `<pod>` and `<pod>.<namespace>`, and
/// the sysctls of its interface.
fn networking(
    plan: Plan<'_>,
    config: &PodSandboxConfig,
    of_interface: &BTreeMap<String, String>,
) -> NetworkingConfig {
    let mut endpoint = EndpointConfig::default();
    if let (Some(_), Some(pod)) = (plan.user_defined, &config.metadata) {
        endpoint.aliases = vec![pod.name.clone(), format!("{}.{}", pod.name, pod.namespace)];
    }
    if !of_interface.is_empty() {
        let option = sysctls::endpoint_option(of_interface);
        let key = sysctls::ENDPOINT_OPTION.to_owned();
        endpoint.driver_opts.insert(key, option);
    }
    let mut networking = NetworkingConfig::default();
    if endpoint != EndpointConfig::default() {
        let network = plan.network_mode.to_owned();
        networking.endpoints_config.insert(network, endpoint);
    }
    networking
}

/// Exposed ports and bindings; a mapping without a host port needs neither (SBX-09).
fn ports(mappings: &[PortMapping]) -> (KeySet, BTreeMap<String, Vec<PortBinding>>) {
    let mut exposed = KeySet::default();
    let mut bindings: BTreeMap<String, Vec<PortBinding>> = BTreeMap::new();
    for mapping in mappings.iter().filter(|mapping| mapping.host_port != 0) {
        let protocol = match mapping.protocol() {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        };
        let port = format!("{}/{protocol}", mapping.container_port);
        exposed.0.insert(port.clone());
        bindings.entry(port).or_default().push(PortBinding {
            host_ip: mapping.host_ip.clone(),
            host_port: mapping.host_port.to_string(),
        });
    }
    (exposed, bindings)
}

/// The content of a pod's `/etc/resolv.conf`; `None` leaves Docker's as it is (SBX-12).
pub(crate) fn resolv_conf(config: &PodSandboxConfig) -> Option<String> {
    let dns = config.dns_config.as_ref()?;
    let mut lines: Vec<String> = dns
        .servers
        .iter()
        .map(|s| format!("nameserver {s}"))
        .collect();
    if !dns.searches.is_empty() {
        lines.push(format!("search {}", dns.searches.join(" ")));
    }
    if !dns.options.is_empty() {
        lines.push(format!("options {}", dns.options.join(" ")));
    }
    if lines.is_empty() {
        return None;
    }
    lines.push(String::new());
    Some(lines.join("\n"))
}
