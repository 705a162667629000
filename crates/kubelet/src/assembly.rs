//! Wires the parts: from settings to a running node. No decision is taken here that is not about
//! which part gets what.

pub(crate) mod host;
mod housekeeping;

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cri_api::{Endpoint, EndpointError, v1};
use daemon::{ErrorChain, TaskGroup, metrics::MetricError};
use kubelet_config::{CgroupDriver, Enforcement, ImagePulls, Settings, SwapBehavior};
use kubelet_core::{
    backoff::BackoffPolicy, cgroup_name, resources::ContainerResourceSettings,
    resources::PodCgroupSettings, translate,
};
use node_os::{
    cgroups::{
        CgroupError, CgroupFs, CgroupPath, CgroupPathError, Cgroups, SystemdCgroups, Version,
    },
    host_view::HostView,
    mounts::KernelMounts,
    proc::{self, Proc},
};
use tokio_util::sync::CancellationToken;

use crate::{
    control_plane::{ControlPlane, Standalone},
    events::Events,
    images::{CredentialPaths, ImagePuller, PullConfig},
    logs::rotate::{LogRotation, LogRotationConfig},
    metrics::Metrics,
    node::{
        addresses,
        capacity::{self, Capacity, CapacityError, PodLimits},
        cgroups::{CgroupsConfig, PodCgroupError, PodCgroups},
        system::{self, SystemConfig, SystemError},
    },
    pod_dirs::{self, PodDirError, PodDirs},
    pod_workers::{Allocatable, NodeFacts, PodContext},
    runtime::{
        client::CriClient,
        health::{HealthView, RuntimeHealth},
        pleg::Pleg,
        wakes::Wakes,
    },
    server::{Answers, HealthChecks, HttpServer, Surface},
    sources::file::{FileSource, FileSourceConfig},
    status_store::StatusStore,
    sync_loop::SyncLoop,
    volumes::{Visibility, Volumes, VolumesConfig},
};

/// There while SELinux is on.
const SELINUX: &str = "/sys/fs/selinux/enforce";
/// Where the links for log shippers are (DIR-05).
const LOG_LINKS: &str = "/var/log/containers";
/// Between two tries to reach the runtime at start (NODE-52).
const CONNECT_RETRY: Duration = Duration::from_millis(50);
/// The longest such wait.
const CONNECT_RETRY_MAX: Duration = Duration::from_secs(1);
/// Tries to learn the runtime's cgroup driver (PROC-34).
const DRIVER_TRIES: u32 = 3;
/// Between two of them.
const DRIVER_RETRY: Duration = Duration::from_secs(2);

/// A kubelet that does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// Neither a hostname nor an override.
    #[error("failed to run Kubelet: the host has no name: set --hostname-override")]
    NoNodeName,
    /// A socket address that is none.
    #[error("failed to run Kubelet: {field}")]
    Endpoint {
        /// The configuration field.
        field: &'static str,
        /// Why.
        #[source]
        source: EndpointError,
    },
    /// A metric was declared twice.
    #[error("failed to run Kubelet: metrics")]
    Metrics(#[from] MetricError),
    /// The machine is not as the configuration demands.
    #[error("failed to run Kubelet: {0}")]
    System(#[from] SystemError),
    /// The machine's size cannot be told, or too much of it is reserved.
    #[error("failed to run Kubelet: {0}")]
    Capacity(#[from] CapacityError),
    /// No cgroups.
    #[error(
        "failed to run Kubelet: cgroups (set cgroupsPerQOS: false and enforceNodeAllocatable: [] to do without)"
    )]
    Cgroups(#[from] CgroupError),
    /// The groups of pods cannot be made.
    #[error(
        "failed to run Kubelet: cgroups of pods (set cgroupsPerQOS: false and enforceNodeAllocatable: [] to do without)"
    )]
    PodCgroups(#[from] PodCgroupError),
    /// `cgroupRoot` names no group.
    #[error("failed to run Kubelet: cgroupRoot")]
    CgroupRoot(#[from] CgroupPathError),
    /// A directory cannot be made.
    #[error("failed to run Kubelet: directories")]
    Directories(#[from] PodDirError),
    /// A port is taken.
    #[error("failed to run Kubelet: listen on {address} ({field}): is another kubelet running?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The configuration field.
        field: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A node at work.
#[derive(Debug)]
pub(crate) struct Node {
    /// Every long-lived task.
    pub(crate) tasks: TaskGroup,
}

/// What `/healthz` looks at (HTTP-20).
#[derive(Debug)]
struct Checks {
    health: HealthView,
}

impl HealthChecks for Checks {
    fn checks(&self) -> Vec<(&'static str, Result<(), String>)> {
        // The sync loop's tasks are owned: when one ends the process ends with it.
        let _ = &self.health;
        vec![("ping", Ok(())), ("log", Ok(())), ("syncloop", Ok(()))]
    }
}

/// Starts a node; returns once every part runs.
///
/// # Errors
/// See [`StartError`]. Waits for the runtime as long as it takes (NODE-52).
pub(crate) async fn start(
    settings: Settings,
    shutdown: &CancellationToken,
) -> Result<Node, StartError> {
    let node_name = settings
        .node_name(&proc::hostname())
        .ok_or(StartError::NoNodeName)?;
    tracing::info!("Standalone mode, no API client");
    tracing::info!("Kubelet is running in standalone mode, will skip API server sync");
    tracing::info!("No api server defined - no node status update will be sent");
    let endpoint = parse_endpoint("containerRuntimeEndpoint", &settings.runtime.endpoint)?;
    let image_endpoint = parse_endpoint("imageServiceEndpoint", &settings.runtime.image_endpoint)?;

    let registry = daemon::metrics::Metrics::new();
    registry.add_process()?;
    let metrics = Metrics::register(&registry)?;
    let control_plane: Arc<Standalone> = Arc::new(Standalone);
    let events: Events = control_plane.clone();
    let statuses = Arc::new(StatusStore::default());
    let wakes = Arc::new(Wakes::default());
    let tasks = TaskGroup::under("kubelet", shutdown);

    let machine = look_at_machine(&settings, &node_name, &events).await?;
    let runtime = connect(&endpoint, &image_endpoint, &settings, &metrics).await;
    let (asker, health) = RuntimeHealth::new(runtime.clone(), wakes.clone());
    let answers = Answers {
        statuses: statuses.clone(),
        registry: registry.clone(),
        metrics: metrics.clone(),
        health: Arc::new(Checks {
            health: health.clone(),
        }),
    };
    let servers = bind_servers(&settings, &answers).await?;
    for server in servers {
        let token = tasks.token().clone();
        tasks.spawn("http server", async move { server.run(token).await });
    }
    let token = tasks.token().clone();
    tasks.spawn("runtime health", async move { asker.run(token).await });

    let version = wait_for_version(&runtime, &health).await;
    tracing::info!(containerRuntime = %version.runtime_name, version = %version.runtime_version,
        apiVersion = %version.runtime_api_version, "Container runtime initialized");
    let driver = cgroup_driver(&runtime, &settings, &metrics).await;
    if let Some(cidr) = &settings.node.pod_cidr
        && let Err(error) = runtime.update_runtime_config(cidr).await
    {
        tracing::error!(error = %ErrorChain(&error), "tell the runtime the pod CIDR");
    }
    let pod_cgroups = start_cgroups(&settings, driver, &machine, &node_name, &events).await?;
    let (wanted, name) = (settings.node.ips.clone(), node_name.clone());
    let host_ips = daemon::blocking(move || addresses::find(&wanted, &name)).await;
    let context = Arc::new(pod_context(Parts {
        settings: &settings,
        runtime: runtime.clone(),
        runtime_name: version.runtime_name,
        health,
        wakes: wakes.clone(),
        events,
        control_plane: control_plane.clone(),
        statuses: statuses.clone(),
        metrics: metrics.clone(),
        cgroups: pod_cgroups,
        machine: &machine,
        host_ips,
    }));

    let mut sources = Vec::new();
    if let Some(path) = settings.sources.static_pod_path.clone() {
        let (source, sets) = FileSource::new(FileSourceConfig {
            path,
            check_frequency: settings.sources.file_check_period,
            node_name: node_name.clone(),
        });
        let token = tasks.token().clone();
        tasks.spawn("file source", async move { source.run(token).await });
        sources.push(sets);
    }
    sources.extend(control_plane.desired_pods());
    let pleg = Pleg {
        runtime: runtime.clone(),
        wakes,
        metrics: metrics.clone(),
    };
    let token = tasks.token().clone();
    tasks.spawn("pleg", async move { pleg.run(token).await });
    let rotation = LogRotation {
        config: LogRotationConfig {
            max_bytes: settings.container_logs.max_size_bytes,
            max_files: usize::try_from(settings.container_logs.max_files).unwrap_or(usize::MAX),
            workers: usize::try_from(settings.container_logs.workers).unwrap_or(1),
            interval: settings.container_logs.monitor_period,
        },
        statuses,
        runtime,
        metrics,
    };
    let token = tasks.token().clone();
    tasks.spawn("log rotation", async move { rotation.run(token).await });
    let enforced = settings.resources.enforcement.contains(&Enforcement::Pods);
    let reserved = [
        settings.resources.system_reserved,
        settings.resources.kube_reserved,
    ];
    let housekeeping = housekeeping::Housekeeping {
        context: context.clone(),
        node_values: enforced.then(|| machine.capacity.node_values(Some(&reserved))),
    };
    let sources_ready = sources.clone();
    let token = tasks.token().clone();
    tasks.spawn("housekeeping", async move {
        housekeeping.run(sources_ready, token).await;
    });
    let sync_loop = SyncLoop::new(context, sources, tasks.token());
    let token = tasks.token().clone();
    tasks.spawn("sync loop", async move { sync_loop.run(token).await });
    tracing::info!(node = %node_name, "Starting kubelet.");
    if let Err(error) = notify_ready() {
        tracing::warn!(error = %ErrorChain(&error), "tell systemd");
    }
    Ok(Node { tasks })
}

fn parse_endpoint(field: &'static str, text: &str) -> Result<Endpoint, StartError> {
    Endpoint::parse(text).map_err(|source| StartError::Endpoint { field, source })
}

fn notify_ready() -> Result<(), daemon::NotifyError> {
    let socket = std::env::var_os("NOTIFY_SOCKET");
    daemon::Notifier::open(socket.as_deref())?.send("READY=1")
}

/// What was found out about the machine before the runtime answered.
struct Machine {
    capacity: Capacity,
    allocatable: Allocatable,
    cgroups: Option<CgroupFs>,
    version: Option<Version>,
    tmpfs_swap: node_os::mounts::Swap,
    host: HostView,
    visibility: Visibility,
}

async fn look_at_machine(
    settings: &Settings,
    node_name: &str,
    events: &Events,
) -> Result<Machine, StartError> {
    let (settings, node_name, events) = (settings.clone(), node_name.to_owned(), events.clone());
    daemon::blocking(move || {
        for directory in [&settings.paths.root_dir, &settings.paths.pods_dir()] {
            pod_dirs::ensure_directory(directory, kubelet_config::DIRECTORY_MODE)?;
        }
        let cgroups = match CgroupFs::open() {
            Ok(cgroups) => Some(cgroups),
            Err(error) if settings.cgroups.per_qos => return Err(error.into()),
            Err(_) => None,
        };
        let version = cgroups.as_ref().map(Cgroups::version);
        let config = SystemConfig {
            protect_kernel_defaults: settings.node.protect_kernel_defaults,
            oom_score_adj: settings.node.oom_score_adj,
            max_open_files: settings.node.max_open_files,
            fail_swap_on: settings.node.fail_swap_on,
            swap: settings.node.swap,
            fail_cgroup_v1: settings.node.fail_cgroup_v1,
            cgroup_version: version,
            node_name,
        };
        let proc = Proc::new();
        let root = &settings.paths.root_dir;
        let system = system::prepare(&config, &proc, &KernelMounts, root, &events)?;
        let storage = settings
            .node
            .local_storage_capacity_isolation
            .then_some(root.as_path());
        let limits = PodLimits {
            max_pods: settings.node.max_pods,
            pods_per_core: settings.node.pods_per_core,
        };
        let hugepages = std::path::Path::new(capacity::HUGEPAGES_DIRECTORY);
        let capacity = Capacity::read(&proc, hugepages, storage, limits)?;
        let amounts = capacity.amounts();
        let reserved = [
            settings.resources.system_reserved,
            settings.resources.kube_reserved,
        ];
        capacity::check_reservations(&amounts, &reserved, &settings.eviction)?;
        let left = capacity::allocatable(&amounts, &reserved, &settings.eviction);
        let value = |name: &str| left.get(name).map_or(0, |amount| amount.value());
        let allocatable = Allocatable {
            cpu_millicores: left.get("cpu").map_or(0, |amount| amount.milli_value()),
            memory_bytes: value("memory"),
            ephemeral_storage_bytes: value("ephemeral-storage"),
        };
        let (host, visibility) = host::view(root);
        Ok(Machine {
            capacity,
            allocatable,
            cgroups,
            version,
            tmpfs_swap: system.tmpfs_swap,
            host,
            visibility,
        })
    })
    .await
}

/// Waits for the runtime's socket (NODE-52).
async fn connect(
    endpoint: &Endpoint,
    image_endpoint: &Endpoint,
    settings: &Settings,
    metrics: &Metrics,
) -> CriClient {
    let mut wait = CONNECT_RETRY;
    let mut told = false;
    loop {
        let timeout = settings.runtime.request_timeout;
        match CriClient::connect(endpoint, image_endpoint, timeout, metrics.clone()).await {
            Ok(client) => return client,
            Err(error) => {
                if !told && wait >= CONNECT_RETRY_MAX {
                    tracing::warn!(endpoint = %endpoint, error = %ErrorChain(&error),
                        "waiting for the container runtime");
                    told = true;
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(CONNECT_RETRY_MAX);
            }
        }
    }
}

async fn wait_for_version(runtime: &CriClient, health: &HealthView) -> v1::VersionResponse {
    let mut health = health.clone();
    let mut told = false;
    loop {
        health.up().await;
        match runtime.version().await {
            Ok(version) => return version,
            Err(error) => {
                if !told {
                    tracing::warn!(error = %ErrorChain(&error), "waiting for the runtime's version");
                    told = true;
                }
                health.doubt();
                tokio::time::sleep(CONNECT_RETRY_MAX).await;
            }
        }
    }
}

/// The runtime's driver is before the configured one (PROC-34, CG-03).
async fn cgroup_driver(
    runtime: &CriClient,
    settings: &Settings,
    metrics: &Metrics,
) -> cgroup_name::CgroupDriver {
    let configured = match settings.cgroups.driver {
        CgroupDriver::Cgroupfs => cgroup_name::CgroupDriver::Cgroupfs,
        CgroupDriver::Systemd => cgroup_name::CgroupDriver::Systemd,
    };
    for attempt in 1..=DRIVER_TRIES {
        match runtime.cgroup_driver().await {
            Ok(Some(v1::CgroupDriver::Systemd)) => return cgroup_name::CgroupDriver::Systemd,
            Ok(Some(v1::CgroupDriver::Cgroupfs)) => return cgroup_name::CgroupDriver::Cgroupfs,
            Ok(None) => return configured,
            Err(error) if error.is_unimplemented() => {
                metrics
                    .cri_losing_support
                    .with_label_values(&["1.36.0"])
                    .set(1);
                return configured;
            }
            Err(error) => {
                tracing::warn!(attempt, error = %ErrorChain(&error), "ask the runtime for its cgroup driver");
                if attempt < DRIVER_TRIES {
                    tokio::time::sleep(DRIVER_RETRY).await;
                }
            }
        }
    }
    configured
}

async fn bind_servers(
    settings: &Settings,
    answers: &Answers,
) -> Result<Vec<HttpServer>, StartError> {
    let wanted = [
        ("healthzPort", settings.servers.health, Surface::Health),
        (
            "readOnlyPort",
            settings.servers.read_only,
            Surface::ReadOnly,
        ),
    ];
    let mut servers = Vec::new();
    for (field, address, surface) in wanted {
        let Some(address) = address else { continue };
        let server = HttpServer::bind(address, surface, answers.clone())
            .await
            .map_err(|source| StartError::Listen {
                address,
                field,
                source,
            })?;
        tracing::info!(address = %address, port = field, "Starting to listen");
        servers.push(server);
    }
    Ok(servers)
}

async fn start_cgroups(
    settings: &Settings,
    driver: cgroup_name::CgroupDriver,
    machine: &Machine,
    node_name: &str,
    events: &Events,
) -> Result<PodCgroups, StartError> {
    let (true, Some(files)) = (settings.cgroups.per_qos, &machine.cgroups) else {
        return Ok(PodCgroups::off(events.clone()));
    };
    let kernel: Arc<dyn Cgroups> = match driver {
        cgroup_name::CgroupDriver::Cgroupfs => Arc::new(files.clone()),
        cgroup_name::CgroupDriver::Systemd => match SystemdCgroups::open(files.clone()) {
            Ok(systemd) => Arc::new(systemd),
            Err(error) => {
                // Docker makes the slices; their values are written into the files (DEC-47).
                tracing::warn!(error = %ErrorChain(&error), "systemd cannot be asked for slices");
                Arc::new(files.clone())
            }
        },
    };
    let root = if settings.cgroups.root.is_empty() {
        "/"
    } else {
        &settings.cgroups.root
    };
    let config = CgroupsConfig {
        driver,
        root: CgroupPath::new(root)?,
        pods: pod_cgroup_settings(settings),
        page_sizes: machine.capacity.page_sizes(),
        node_name: node_name.to_owned(),
    };
    let cgroups = PodCgroups::new(config, kernel, events.clone());
    let reserved = [
        settings.resources.system_reserved,
        settings.resources.kube_reserved,
    ];
    let enforced = settings.resources.enforcement.contains(&Enforcement::Pods);
    cgroups
        .start(
            machine
                .capacity
                .node_values(enforced.then_some(reserved.as_slice())),
        )
        .await?;
    Ok(cgroups)
}

fn pod_cgroup_settings(settings: &Settings) -> PodCgroupSettings {
    PodCgroupSettings {
        enforce_cpu_quota: settings.cgroups.cpu_cfs_quota,
        cpu_period_micros: micros(settings.cgroups.cpu_cfs_quota_period),
        pids_limit: settings
            .cgroups
            .pod_pids_limit
            .map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX)),
        memory_qos: false,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// What a [`PodContext`] is put together from.
struct Parts<'a> {
    settings: &'a Settings,
    runtime: CriClient,
    runtime_name: String,
    health: HealthView,
    wakes: Arc<Wakes>,
    events: Events,
    control_plane: Arc<dyn ControlPlane>,
    statuses: Arc<StatusStore>,
    metrics: Metrics,
    cgroups: PodCgroups,
    machine: &'a Machine,
    host_ips: Vec<IpAddr>,
}

fn pod_context(parts: Parts<'_>) -> PodContext {
    let Parts {
        settings, machine, ..
    } = parts;
    let dirs = PodDirs::new(&settings.paths.root_dir, &settings.paths.pod_logs_dir);
    let allocatable_memory = u64::try_from(machine.allocatable.memory_bytes).unwrap_or_default();
    let volumes = Volumes::new(VolumesConfig {
        dirs: dirs.clone(),
        host: machine.host.clone(),
        visibility: machine.visibility,
        mounts: Arc::new(KernelMounts),
        allocatable_memory_bytes: allocatable_memory,
        tmpfs_swap: machine.tmpfs_swap,
    });
    let images = ImagePuller::new(
        parts.runtime.clone(),
        parts.events.clone(),
        PullConfig {
            parallel: match settings.images.pulls {
                ImagePulls::Serial => Some(1),
                ImagePulls::Parallel(limit) => limit,
            },
            pulls_per_second: settings.images.pull_qps.unwrap_or_default(),
            burst: settings.images.pull_burst,
            credentials: CredentialPaths {
                root: settings.paths.root_dir.clone(),
                working: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
                home: home(),
            },
        },
    );
    let restart_backoff = if settings.gates.reduce_default_crash_loop_back_off_decay {
        BackoffPolicy::CRASH_LOOP_REDUCED
    } else {
        BackoffPolicy::CRASH_LOOP
    };
    let facts = translate::NodeFacts {
        resources: ContainerResourceSettings {
            cpu_quota: settings.cgroups.cpu_cfs_quota,
            cpu_period_micros: micros(settings.cgroups.cpu_cfs_quota_period),
            cgroup_v2: machine.version == Some(Version::V2),
            single_process_oom_kill: settings.cgroups.single_process_oom_kill.unwrap_or_default(),
            swap_controller: machine.version.is_some(),
            swap: match settings.node.swap {
                SwapBehavior::NoSwap => kubelet_core::resources::SwapBehavior::NoSwap,
                SwapBehavior::LimitedSwap => kubelet_core::resources::SwapBehavior::LimitedSwap,
            },
            memory_capacity_bytes: i64::try_from(machine.capacity.memory_bytes).unwrap_or(i64::MAX),
            swap_capacity_bytes: i64::try_from(machine.capacity.swap_bytes).unwrap_or(i64::MAX),
            page_sizes: machine.capacity.page_sizes(),
            memory_qos: None,
        },
        cluster_domain: settings.dns.cluster_domain.clone().unwrap_or_default(),
        seccomp_default: settings.security.seccomp_default,
        seccomp_root: settings.paths.seccomp_dir(),
        extra_masked_paths: Vec::new(),
        logs_directory: settings.paths.pod_logs_dir.clone(),
        recursive_read_only: false,
        supplemental_groups_policy: false,
        selinux: Path::new(SELINUX).exists(),
    };
    PodContext {
        runtime: parts.runtime,
        runtime_name: parts.runtime_name,
        health: parts.health,
        wakes: parts.wakes,
        images,
        volumes,
        dirs,
        cgroups: parts.cgroups,
        events: parts.events,
        control_plane: parts.control_plane,
        statuses: parts.statuses,
        metrics: parts.metrics,
        node: NodeFacts {
            facts,
            cluster_dns: settings.dns.cluster_dns.clone(),
            ips: settings
                .node
                .ips
                .iter()
                .copied()
                .filter(|ip| !ip.is_unspecified())
                .collect(),
            host_ips: parts.host_ips,
            allocatable: machine.allocatable,
            pod_cgroups: pod_cgroup_settings(settings),
            resolv_conf: settings.dns.resolv_conf.clone(),
            logs_directory: settings.paths.pod_logs_dir.clone(),
            log_links_directory: PathBuf::from(LOG_LINKS),
            sync_frequency: settings.sync.pod_resync_period,
            restart_backoff: restart_backoff.with_max(settings.sync.max_container_restart_period),
        },
    }
}

fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from)
}
