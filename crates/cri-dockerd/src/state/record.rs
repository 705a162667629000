//! One of our containers, as Docker last described it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cri_api::v1::{self, LinuxContainerResources, MountPropagation, NamespaceMode};
use jiff::Timestamp;

use super::signal;
use crate::checkpoint::PortMapping;
use crate::engine::model::{
    AskedMount, ContainerInspect, InspectHostConfig, MountPoint, PortBinding, State,
};
use crate::labels;
use crate::names::Name;
use crate::network_kind::Kind;

/// A sandbox or container of ours. Immutable: news make a new record.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    /// Docker id.
    pub(crate) id: String,
    /// Identity, from the name.
    pub(crate) name: Name,
    /// CRI labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// CRI annotations.
    pub(crate) annotations: BTreeMap<String, String>,
    /// Nanoseconds since 1970.
    pub(crate) created_at: i64,
    /// Where in its life it is.
    pub(crate) life: Life,
    /// Image as named at create.
    pub(crate) image: String,
    /// Image id.
    pub(crate) image_id: String,
    /// Docker runtime, as Docker reports it.
    pub(crate) runtime: String,
    /// Cgroup parent as Docker was given it: a path, a slice, or empty for Docker's own.
    pub(crate) cgroup_parent: String,
    /// What it wrote, on the engine's host; empty where Docker does not tell.
    pub(crate) upper_dir: String,
    /// What it is.
    pub(crate) role: Role,
}

/// The life of a container (STS-02..05).
///
/// ```text
/// Created ──▶ Running ──▶ Exited
///    └───────────────────▶┘ (could not start)
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Life {
    /// Never started.
    Created,
    /// Has a process; also while paused.
    Running {
        /// Nanoseconds since 1970.
        started_at: i64,
        /// In the engine's pid namespace.
        pid: i64,
    },
    /// Ended, or could not start.
    Exited {
        /// Nanoseconds since 1970.
        started_at: i64,
        /// Nanoseconds since 1970.
        finished_at: i64,
        /// Exit code.
        exit_code: i32,
        /// `Completed`, `Error`, `OOMKilled` or `ContainerCannotRun`.
        reason: &'static str,
        /// Docker's text about a failed start.
        message: String,
    },
}

impl Life {
    /// Has a process.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }

    /// When its latest run began, in nanoseconds since 1970; `None` before the first.
    pub(crate) fn started_at(&self) -> Option<i64> {
        match self {
            Self::Created => None,
            Self::Running { started_at, .. } | Self::Exited { started_at, .. } => Some(*started_at),
        }
    }
}

/// What a record is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Role {
    /// A pod's sandbox.
    Sandbox(SandboxFacts),
    /// A workload container.
    Container(Box<ContainerFacts>),
}

/// Facts of sandboxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SandboxFacts {
    /// Network namespace: POD or NODE.
    pub(crate) network: NamespaceMode,
    /// Pid namespace: CONTAINER or NODE (SBX-51).
    pub(crate) pid: NamespaceMode,
    /// Ipc namespace: POD or NODE.
    pub(crate) ipc: NamespaceMode,
    /// Addresses, IPv4 first: on Docker's networks, or those that CNI gave (DEC-21).
    pub(crate) ips: Vec<IpAddr>,
    /// Published ports.
    pub(crate) ports: Vec<PortMapping>,
    /// The pod's `/etc/resolv.conf` on the engine's host; empty before the start.
    pub(crate) resolv_conf: String,
    /// Its network (DEC-20).
    pub(crate) kind: Kind,
    /// We made it, not upstream.
    pub(crate) is_ours: bool,
    /// Runtime handler as asked for; empty for the default and for what upstream made.
    pub(crate) handler: String,
}

/// Facts of containers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ContainerFacts {
    /// Its sandbox.
    pub(crate) sandbox_id: String,
    /// Where the CRI wants the log; empty for nowhere.
    pub(crate) log_path: String,
    /// Docker's json-file on the engine's host; empty for other drivers.
    pub(crate) docker_log: String,
    /// Has a terminal.
    pub(crate) tty: bool,
    /// Mounts as the CRI shows them (STS-08).
    pub(crate) mounts: Vec<v1::Mount>,
    /// Limits in effect (STS-12, CTR-41).
    pub(crate) resources: LinuxContainerResources,
    /// Signal of stop, as the CRI numbers it.
    pub(crate) stop_signal: i32,
    /// As whom its first process began, once it was seen to run.
    pub(crate) user: Option<v1::LinuxContainerUser>,
    /// Files of its cgroup that Docker can't set, with their values, as asked for at create.
    pub(crate) unified: BTreeMap<String, String>,
    /// What the memory limit had killed in its pod before it was started, once that was seen.
    pub(crate) kills_before: Option<u64>,
}

impl Record {
    /// Reads Docker's answer. `None` when it is not ours: no type label, or a name that can't be
    /// read (NAM-03; upstream skips those in lists).
    pub(crate) fn from_inspect(inspect: &ContainerInspect) -> Option<Self> {
        let docker_labels = &inspect.config.labels;
        let label = |key: &str| docker_labels.get(key).cloned().unwrap_or_default();
        let created_at = nanoseconds(&inspect.created).unwrap_or_default();
        let role = match docker_labels.get(labels::TYPE)?.as_str() {
            labels::TYPE_SANDBOX => Role::Sandbox(sandbox_facts(inspect)),
            labels::TYPE_CONTAINER => Role::Container(Box::new(ContainerFacts {
                sandbox_id: label(labels::SANDBOX_ID),
                log_path: label(labels::LOG_PATH),
                docker_log: inspect.log_path.clone(),
                tty: inspect.config.tty,
                mounts: {
                    let asked = &inspect.host_config.mounts;
                    let all = inspect.mounts.iter();
                    all.map(|point| mount(point, asked)).collect()
                },
                resources: resources(&inspect.host_config),
                stop_signal: signal::of_stop(&inspect.config.stop_signal).into(),
                user: None,
                unified: labels::unified(docker_labels),
                kills_before: None,
            })),
            _ => return None,
        };
        let (labels, annotations) = labels::split(docker_labels);
        Some(Self {
            id: inspect.id.clone(),
            name: Name::parse(&inspect.name).ok()?,
            labels,
            annotations,
            created_at,
            life: life(&inspect.state, created_at),
            image: inspect.config.image.clone(),
            image_id: inspect.image.clone(),
            runtime: inspect.host_config.runtime.clone(),
            cgroup_parent: inspect.host_config.cgroup_parent.clone(),
            upper_dir: inspect.graph_driver.data.upper_dir.clone(),
            role,
        })
    }

    /// Facts, when it is a sandbox.
    pub(crate) fn sandbox(&self) -> Option<&SandboxFacts> {
        match &self.role {
            Role::Sandbox(facts) => Some(facts),
            Role::Container(_) => None,
        }
    }

    /// Puts the addresses in that CNI gave a sandbox.
    pub(crate) fn set_ips(&mut self, ips: Vec<IpAddr>) {
        if let Role::Sandbox(facts) = &mut self.role {
            facts.ips = ips;
        }
    }

    /// Facts, when it is a container.
    pub(crate) fn container(&self) -> Option<&ContainerFacts> {
        match &self.role {
            Role::Container(facts) => Some(facts),
            Role::Sandbox(_) => None,
        }
    }

    /// Notes as whom its first process began.
    pub(crate) fn began_as(&mut self, user: Option<v1::LinuxContainerUser>) {
        if let Role::Container(facts) = &mut self.role {
            facts.user = user;
        }
    }

    /// Notes what the memory limit had killed in its pod before it was started.
    pub(crate) fn note_kills_before(&mut self, count: Option<u64>) {
        if let Role::Container(facts) = &mut self.role {
            facts.kills_before = count;
        }
    }

    /// The memory limit ended it, whatever Docker says.
    pub(crate) fn ended_by_memory(&mut self) {
        if let Life::Exited { reason, .. } = &mut self.life {
            *reason = "OOMKilled";
        }
    }

    /// The sandbox it belongs to: itself, if it is one.
    pub(crate) fn pod_id(&self) -> &str {
        match &self.role {
            Role::Sandbox(_) => &self.id,
            Role::Container(facts) => &facts.sandbox_id,
        }
    }

    /// Process id in the engine's namespace, while it runs.
    pub(crate) fn pid(&self) -> Option<i64> {
        match self.life {
            Life::Running { pid, .. } => Some(pid),
            _ => None,
        }
    }
}

/// Docker's state as a [`Life`].
///
/// Differs (STS-06): what has not run yet has 0 for its times, and what ended without having run began when it was
/// created; upstream tells Docker's zero time, which shows as 1754-08-30.
fn life(state: &State, created_at: i64) -> Life {
    let started_at = nanoseconds(&state.started_at);
    let exit_code = i32::try_from(state.exit_code).unwrap_or(i32::MAX);
    if state.running {
        return Life::Running {
            started_at: started_at.unwrap_or(created_at),
            pid: state.pid,
        };
    }
    match nanoseconds(&state.finished_at) {
        Some(finished_at) => Life::Exited {
            started_at: started_at.unwrap_or(created_at),
            finished_at,
            exit_code,
            reason: match exit_code {
                _ if state.oom_killed => "OOMKilled",
                0 => "Completed",
                _ => "Error",
            },
            message: state.error.clone(),
        },
        None if exit_code != 0 => Life::Exited {
            started_at: created_at,
            finished_at: created_at,
            exit_code,
            reason: "ContainerCannotRun",
            message: state.error.clone(),
        },
        None => Life::Created,
    }
}

/// RFC 3339 as nanoseconds since 1970; `None` for Docker's zero time (STS-06) and for nonsense.
fn nanoseconds(text: &str) -> Option<i64> {
    let time: Timestamp = text.parse().ok()?;
    i64::try_from(time.as_nanosecond())
        .ok()
        .filter(|nanoseconds| *nanoseconds > 0)
}

fn sandbox_facts(inspect: &ContainerInspect) -> SandboxFacts {
    let host = &inspect.host_config;
    let node_or = |mode: &str, other| {
        if mode == "host" {
            NamespaceMode::Node
        } else {
            other
        }
    };
    let label = inspect
        .config
        .labels
        .get(labels::NETWORK)
        .map(String::as_str);
    let endpoints = inspect.network_settings.networks.values();
    let mut ips: Vec<IpAddr> = endpoints
        .flat_map(|endpoint| [&endpoint.ipv4, &endpoint.ipv6])
        .filter_map(|text| text.parse().ok())
        .collect();
    // Stable: IPv4 first, else in Docker's order.
    ips.sort_by_key(IpAddr::is_ipv6);
    SandboxFacts {
        network: node_or(&host.network_mode, NamespaceMode::Pod),
        pid: node_or(&host.pid_mode, NamespaceMode::Container),
        ipc: node_or(&host.ipc_mode, NamespaceMode::Pod),
        ips,
        resolv_conf: inspect.resolv_conf_path.clone(),
        ports: ports(&host.port_bindings),
        kind: Kind::of_sandbox(label, &host.network_mode),
        is_ours: label.is_some(),
        handler: labels::handler(&inspect.config.labels),
    }
}

/// Docker's port bindings as the checkpoint has them.
fn ports(bindings: &BTreeMap<String, Option<Vec<PortBinding>>>) -> Vec<PortMapping> {
    let mut ports = Vec::new();
    for (port, bindings) in bindings {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        for binding in bindings.iter().flatten() {
            ports.push(PortMapping {
                protocol: Some(protocol.to_owned()),
                container_port: number.parse().ok(),
                host_port: binding.host_port.parse().ok(),
                host_ip: binding.host_ip.clone(),
            });
        }
    }
    ports
}

/// A mount in effect, with what only the wish for it tells.
fn mount(point: &MountPoint, asked: &[AskedMount]) -> v1::Mount {
    let asked = asked.iter().find(|asked| asked.target == point.destination);
    let image = asked.filter(|asked| asked.kind == "image");
    let propagation = match point.propagation.as_str() {
        "rshared" => MountPropagation::PropagationBidirectional,
        "rslave" => MountPropagation::PropagationHostToContainer,
        _ => MountPropagation::PropagationPrivate,
    };
    v1::Mount {
        container_path: point.destination.clone(),
        host_path: point.source.clone(),
        readonly: !point.rw,
        propagation: propagation.into(),
        recursive_read_only: asked
            .is_some_and(|asked| asked.bind_options.read_only_force_recursive),
        image: image.map(|asked| v1::ImageSpec {
            image: asked.source.clone(),
            ..v1::ImageSpec::default()
        }),
        ..v1::Mount::default()
    }
}

fn resources(host: &InspectHostConfig) -> LinuxContainerResources {
    LinuxContainerResources {
        cpu_period: host.cpu_period,
        cpu_quota: host.cpu_quota,
        cpu_shares: host.cpu_shares,
        memory_limit_in_bytes: host.memory,
        memory_swap_limit_in_bytes: host.memory_swap,
        oom_score_adj: host.oom_score_adj,
        cpuset_cpus: host.cpuset_cpus.clone(),
        cpuset_mems: host.cpuset_mems.clone(),
        ..LinuxContainerResources::default()
    }
}
