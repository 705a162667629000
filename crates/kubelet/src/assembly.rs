//! Wires the parts: from settings to a running node. No decision is taken here that is not about
//! which part gets what.

mod cgroups;
mod clock_watch;
mod context;
pub(crate) mod host;
mod housekeeping;
mod machine;
mod probing;
mod runtime;
mod servers;
mod sole;
#[cfg(test)]
pub(crate) mod testing;

use std::{net::SocketAddr, sync::Arc};

use cri_api::{Endpoint, EndpointError};
use daemon::{ErrorChain, TaskGroup, Tidy, atomic_file, metrics::MetricError};
use kubelet_config::{Enforcement, Settings};
use kubelet_core::{admission::SysctlPatternError, proxies::Proxies};
use node_os::{
    cgroups::{CgroupError, CgroupPathError},
    memory, proc,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::context::Parts;
use crate::{
    control_plane::{ControlPlane, Standalone},
    events::{EventType, Events, ObjectRef, keeper::EventKeeper},
    logs::rotate::{LogRotation, LogRotationConfig},
    metrics::Metrics,
    node::{
        addresses::NodeAddresses, capacity::CapacityError, cgroups::PodCgroupError, ready,
        resolv_conf, system::SystemError,
    },
    pod_dirs::PodDirError,
    runtime::{health::RuntimeHealth, pleg::Pleg, wakes::Wakes},
    server::Answers,
    sources::{
        file::{FileSource, FileSourceConfig},
        http::{HttpSource, HttpSourceConfig, TrustStores, Way},
    },
    status_store::StatusStore,
    sync_loop::SyncLoop,
};

/// What happened last, below the root directory.
const EVENTS_FILE: &str = "events.json";

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
    /// `allowedUnsafeSysctls` has one that the kernel does not keep apart.
    #[error("failed to run Kubelet: allowedUnsafeSysctls: {0}")]
    Sysctls(#[from] SysctlPatternError),
    /// `cgroupRoot` names no group.
    #[error("failed to run Kubelet: cgroupRoot")]
    CgroupRoot(#[from] CgroupPathError),
    /// A directory cannot be made.
    #[error("failed to run Kubelet: directories")]
    Directories(#[from] PodDirError),
    /// Another kubelet has the runtime.
    #[error("failed to run Kubelet: {0}")]
    Taken(#[from] sole::TakenError),
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
    /// No other kubelet has this runtime meanwhile.
    _place: sole::Place,
    /// Every long-lived task.
    pub(crate) tasks: TaskGroup,
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
    let probe_registry = daemon::metrics::Metrics::new();
    registry.add_process()?;
    let mut metrics = Metrics::register(&registry)?;
    if settings.gates.in_place_pod_vertical_scaling {
        metrics = metrics.with_resizes(&registry)?;
    }
    let events_file = settings.paths.root_dir.join(EVENTS_FILE);
    let (keeper, event_store) = daemon::blocking(move || EventKeeper::open(events_file)).await;
    let control_plane: Arc<Standalone> = Arc::new(Standalone::new(event_store.clone()));
    let events: Events = control_plane.clone();
    let statuses = Arc::new(StatusStore::default());
    let wakes = Arc::new(Wakes::default());
    let tasks = TaskGroup::under("kubelet", shutdown);
    events.record(
        &ObjectRef::node(&node_name),
        EventType::Normal,
        "Starting",
        "Starting kubelet.",
    );

    tasks.spawn("clock watch", clock_watch::tell(tasks.token().clone()));
    let machine = machine::look_at_machine(&settings, &node_name, &events).await?;
    let runtime = runtime::connect(&endpoint, &image_endpoint, &settings, &metrics).await;
    let (asker, health) = RuntimeHealth::new(runtime.clone(), wakes.clone());
    let (files, url) = (watch::Sender::default(), watch::Sender::default());
    let answers = Answers {
        statuses: statuses.clone(),
        manifests: vec![files.subscribe(), url.subscribe()],
        events: event_store,
        node_name: node_name.clone(),
        registry: registry.clone(),
        probe_registry: probe_registry.clone(),
        metrics: metrics.clone(),
        health: Arc::new(servers::Checks {
            health: health.clone(),
            sync_frequency: settings.sync.pod_resync_period,
        }),
    };
    let bound = servers::bind_servers(&settings, &answers).await?;
    for server in bound {
        let token = tasks.token().clone();
        tasks.spawn("http server", async move { server.run(token).await });
    }
    let token = tasks.token().clone();
    tasks.spawn("runtime health", async move { asker.run(token).await });

    let ready = ready::tell(
        health.clone(),
        events.clone(),
        node_name.clone(),
        tasks.token().clone(),
    );
    tasks.spawn("node readiness", ready);

    let version = runtime::wait_for_version(&runtime, &health).await;
    tracing::info!(containerRuntime = %version.runtime_name, version = %version.runtime_version,
        apiVersion = %version.runtime_api_version, "Container runtime initialized");
    let place = sole::take(&runtime, &endpoint).await?;
    // Not before: what is on disk may be another kubelet's.
    let root_dir = settings.paths.root_dir.clone();
    if let Err(error) = daemon::blocking(move || atomic_file::remove_leftovers(&root_dir)).await {
        tracing::warn!(error = %ErrorChain(&error), "remove what writes left that were cut off");
    }
    let token = tasks.token().clone();
    tasks.spawn("events", async move { keeper.run(token).await });
    let driver = runtime::cgroup_driver(&runtime, &settings, &metrics).await;
    if let Some(cidr) = &settings.node.pod_cidr
        && let Err(error) = runtime.update_runtime_config(cidr).await
    {
        tracing::error!(error = %ErrorChain(&error), "tell the runtime the pod CIDR");
    }
    let (probes, prober, hooks) = probing::build(probing::Needs {
        runtime: &runtime,
        runtime_name: &version.runtime_name,
        events: &events,
        statuses: &statuses,
        wakes: &wakes,
        metrics: &metrics,
        registry: &probe_registry,
        version: settings.version.major_minor(),
    })?;
    let token = tasks.token().clone();
    tasks.spawn("prober", async move { prober.run(token).await });
    let pod_cgroups =
        cgroups::start_cgroups(&settings, driver, &machine, &node_name, &events).await?;
    if let Some(path) = settings.dns.resolv_conf.clone() {
        let domain = settings.dns.cluster_domain.clone().unwrap_or_default();
        let name = node_name.clone();
        let events = events.clone();
        daemon::blocking(move || resolv_conf::check(&path, &domain, &name, &events)).await;
    }
    let host_ips = Arc::new(NodeAddresses {
        wanted: settings.node.ips.clone(),
        name: node_name.clone(),
    });
    let tidy = Arc::new(Tidy::new());
    let context = Arc::new(context::pod_context(Parts {
        settings: &settings,
        runtime: runtime.clone(),
        runtime_name: version.runtime_name,
        health,
        wakes: wakes.clone(),
        events: events.clone(),
        control_plane: control_plane.clone(),
        statuses: statuses.clone(),
        metrics: metrics.clone(),
        cgroups: pod_cgroups,
        probes,
        hooks,
        machine: &machine,
        host_ips,
        tidy: tidy.clone(),
    }));

    let mut sources = Vec::new();
    if let Some(path) = settings.sources.static_pod_path.clone() {
        let config = FileSourceConfig {
            path,
            check_frequency: settings.sources.file_check_period,
            node_name: node_name.clone(),
        };
        let (source, sets) = FileSource::new(config, files);
        let token = tasks.token().clone();
        tasks.spawn("file source", async move { source.run(token).await });
        sources.push(sets);
    }
    if let Some(wanted) = settings.sources.static_pod_url.clone() {
        let config = HttpSourceConfig {
            url: wanted.url,
            headers: wanted.headers,
            way: Way {
                trust: TrustStores::new(
                    std::env::var_os("SSL_CERT_FILE"),
                    std::env::var_os("SSL_CERT_DIR"),
                ),
                proxies: Proxies::new(|name| std::env::var_os(name)?.into_string().ok()),
            },
            check_frequency: settings.sources.http_check_period,
            node_name: node_name.clone(),
            events,
        };
        let (source, sets) = HttpSource::new(config, url);
        let token = tasks.token().clone();
        tasks.spawn("URL source", async move { source.run(token).await });
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
    let token = tasks.token().clone();
    tasks.spawn("tidy", async move {
        tidy.run(memory::give_back, token).await;
    });
    let sync_loop = SyncLoop::new(context, machine.node, sources, tasks.token());
    let token = tasks.token().clone();
    tasks.spawn("sync loop", async move { sync_loop.run(token).await });
    tracing::info!(node = %node_name, "Starting kubelet.");
    if let Err(error) = notify_ready() {
        tracing::warn!(error = %ErrorChain(&error), "tell systemd");
    }
    Ok(Node {
        _place: place,
        tasks,
    })
}

fn parse_endpoint(field: &'static str, text: &str) -> Result<Endpoint, StartError> {
    Endpoint::parse(text).map_err(|source| StartError::Endpoint { field, source })
}

fn notify_ready() -> Result<(), daemon::NotifyError> {
    let socket = std::env::var_os("NOTIFY_SOCKET");
    daemon::Notifier::open(socket.as_deref())?.send("READY=1")
}
