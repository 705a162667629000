//! Assembly: builds the parts, runs them, ends them in order.
//!
//! The socket opens at once, whether Docker is there or not (STA-03 BEAT). The first SIGTERM or
//! SIGINT stops accepting, lets running calls finish for a while and ends with 0; a second one ends
//! at once (SYS-05).

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use ::streaming::{Tls, TlsError};
use daemon::metrics::Metrics;
use daemon::{Notifier, Shutdown, TaskGroup, Tidy};

use crate::checkpoint::{CheckpointError, CheckpointStore};
use crate::cli::{EXIT_FAILED, Plugin, Settings};
use crate::engine::{Engine, EngineConfig, EngineError};
use crate::exec::Execs;
use crate::hub::Hub;
use crate::identity::KnownUsers;
use crate::image_service::ImageService;
use crate::images::{self, Images};
use crate::logs::LogPump;
use crate::network::cni::{Cni, CniSettings};
use crate::network::{self, Networks};
use crate::oom::PodKills;
use crate::paths::{self, PathView};
use crate::remembered::Remembered;
use crate::runtime::{self, Runtime};
use crate::server::{self, Activation, ListenError};
use crate::service::Service;
use crate::stats::{Kernel, Stats};
use crate::streaming;
use crate::unified::Unified;

/// Open files for logs and streams of many containers; the usual limit of 1024 carries some 400.
const OPEN_FILES: u64 = 65_536;

/// What the environment says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    /// Socket activation.
    pub(crate) activation: Activation,
    /// `NOTIFY_SOCKET`.
    pub(crate) notify_socket: Option<OsString>,
    /// `HOME`, where the user's registry credentials are.
    pub(crate) home: Option<PathBuf>,
    /// All variables, for CNI plugins.
    pub(crate) variables: Vec<(OsString, OsString)>,
}

/// The program could not start or did not end in order.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The Docker endpoint is unusable.
    #[error("--docker-endpoint")]
    Engine(#[source] EngineError),
    /// The root directory is unusable.
    #[error("--cri-dockerd-root-directory")]
    Checkpoints(#[source] CheckpointError),
    /// The CRI socket can't be had.
    #[error("--container-runtime-endpoint")]
    Listen(#[source] ListenError),
    /// Certificate or key of the streaming server can't be used.
    #[error("certificate of the streaming server")]
    StreamingTls(#[source] TlsError),
    /// The streaming server's address can't be had.
    #[error("--streaming-bind-addr={address}")]
    Streaming {
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// Signals can't be caught.
    #[error("install signal handlers")]
    Signals(#[source] std::io::Error),
    /// A metric is declared twice.
    #[error("metrics")]
    Metrics(#[source] daemon::metrics::MetricError),
    /// An owner task failed.
    #[error(transparent)]
    Task(daemon::TaskError),
}

impl StartError {
    /// The exit code of the process.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Task(error) if error.is_panic() => daemon::EXIT_PANIC,
            _ => EXIT_FAILED,
        }
    }
}

/// Runs until the first signal and through the drain.
///
/// # Errors
/// See [`StartError`].
pub(crate) async fn run(settings: Settings, environment: Environment) -> Result<(), StartError> {
    let shutdown = Shutdown::on_signals(EXIT_FAILED).map_err(StartError::Signals)?;
    let mut hangups = daemon::signals::Hangups::listen().map_err(StartError::Signals)?;
    let notifier = Notifier::open(environment.notify_socket.as_deref())
        .inspect_err(|error| tracing::warn!(%error, "can't tell systemd how we are"))
        .ok();
    let notify = |state: &str| {
        if let Some(Err(error)) = notifier.as_ref().map(|notifier| notifier.send(state)) {
            tracing::warn!(%error, "can't tell systemd how we are");
        }
    };

    if let Err(error) = daemon::blocking(|| node_os::proc::raise_open_files(OPEN_FILES)).await {
        // Two descriptors per running container and one per stream: the usual 1024 carry a node.
        tracing::info!(error = %daemon::ErrorChain(&error), "the limit of open files stays low");
    }
    let config = EngineConfig {
        endpoint: settings.docker_endpoint.clone(),
        request_timeout: settings.request_timeout,
    };
    let engine = Engine::new(&config).map_err(StartError::Engine)?;
    let root = settings.root.clone();
    let checkpoints = daemon::blocking(move || CheckpointStore::open(&root))
        .await
        .map_err(StartError::Checkpoints)?;
    let own_status =
        daemon::blocking(|| std::fs::read_to_string("/proc/self/status").unwrap_or_default()).await;
    let (networks, cni) = networks(&settings, environment.variables).await;
    let remembered = Remembered::load(&checkpoints, &cni).await;

    // Calls and refreshes end before the connection to Docker does.
    let connection = TaskGroup::new("docker");
    let calls = TaskGroup::new("calls");
    let same_clock = !settings.docker_endpoint.contains("://")
        || settings.docker_endpoint.starts_with("unix://");
    let paths: Arc<dyn PathView> = daemon::blocking(paths::choose).await;
    let metrics = Metrics::new();
    let logs = LogPump::start(
        engine.clone(),
        Arc::clone(&paths),
        &connection.spawner(),
        &metrics,
    )
    .map_err(StartError::Metrics)?;
    let hub = Hub::new(
        engine.clone(),
        Arc::clone(&networks),
        Arc::new(logs.clone()),
        Arc::clone(&paths),
        daemon::blocking(PodKills::open).await,
        calls.spawner(),
        same_clock,
    );
    let images = Images::new(
        engine.clone(),
        Arc::clone(&hub),
        Arc::clone(&paths),
        calls.spawner(),
        images::Settings {
            sandbox_image: settings.sandbox_image.clone(),
            pull_progress_deadline: settings.pull_progress_deadline,
            home: environment.home.clone(),
        },
    );
    let tidy = Arc::new(Tidy::new());
    let stats = Stats::new(
        daemon::blocking(Kernel::open).await,
        Arc::clone(&paths),
        calls.spawner(),
    );
    let execs = Execs::new(engine.clone(), Arc::clone(&hub), calls.spawner());
    let tls = match settings.streaming_tls.clone() {
        Some(files) => {
            let loaded = daemon::blocking(move || Tls::load(&files)).await;
            Some(loaded.map_err(StartError::StreamingTls)?)
        }
        None => None,
    };
    let streaming = streaming::bind(settings.streaming, tls, &engine, &hub, &execs)
        .await
        .map_err(|source| StartError::Streaming {
            address: settings.streaming,
            source,
        })?;
    let runtime = Arc::new(Runtime {
        execs,
        streams: streaming.urls(),
        engine,
        hub: Arc::clone(&hub),
        networks,
        paths,
        checkpoints,
        remembered,
        logs,
        images,
        stats,
        users: KnownUsers::default(),
        unified: daemon::blocking(Unified::open).await,
        settings: runtime::Settings {
            sandbox_image: settings.sandbox_image.clone(),
            log_config: settings.log_config.clone(),
        },
        lowest_oom_score: AtomicI64::new(i64::MIN),
        lacks_sys_resource: runtime::lacks_sys_resource(&own_status),
        spawner: calls.spawner(),
        tidy: Arc::clone(&tidy),
    });

    let listener =
        server::listen(&settings.listen, &environment.activation).map_err(StartError::Listen)?;
    let watches_cni = settings.plugin != Plugin::Bridge;
    if watches_cni {
        connection.spawn("cni", Arc::clone(&cni).run(connection.token().clone()));
    }
    connection.spawn("hub", Arc::clone(&hub).run(connection.token().clone()));
    let token = connection.token().clone();
    connection.spawn("tidy", async move {
        tidy.run(node_os::memory::give_back, token).await;
    });
    let server = TaskGroup::new("server");
    server.spawn("streaming", streaming.run(server.token().clone()));
    server.spawn(
        "grpc",
        server::serve(
            listener,
            Service(Arc::clone(&runtime)),
            ImageService(runtime),
            server.token().clone(),
        ),
    );
    tracing::info!(docker = settings.docker_endpoint, "serving the CRI");
    notify("READY=1");

    let failed = loop {
        tokio::select! {
            biased;
            // cancel-safe: a level.
            () = shutdown.token().cancelled() => break None,
            // cancel-safe: failures stay until taken.
            error = server.failed() => break Some(error),
            error = connection.failed() => break Some(error),
            error = calls.failed() => {
                // One call's panic is that call's failure; it has been logged (DEC-46).
                tracing::error!(%error, "a background task failed");
            }
            // cancel-safe: several hang-ups count as one (SYS-05).
            () = hangups.next() => {
                tracing::info!(cni = watches_cni, "SIGHUP: reloading");
                if watches_cni {
                    let cni = Arc::clone(&cni);
                    connection.spawn_job("cni reload", async move { cni.reload().await });
                }
            }
        }
    };
    notify("STOPPING=1");
    // Streams of events end with the calls' token; calls under way are waited for.
    calls.token().cancel();
    for group in [server, calls, connection] {
        if let Err(error) = group.shutdown(server::DRAIN).await {
            tracing::warn!(error = %daemon::ErrorChain(&error), "not everything ended in order");
        }
    }
    failed.map_or(Ok(()), |error| Err(StartError::Task(error)))
}

/// The networks of pods (DEC-20), and CNI's part.
async fn networks(
    settings: &Settings,
    variables: Vec<(OsString, OsString)>,
) -> (Arc<Networks>, Arc<Cni>) {
    let cni = Arc::new(Cni::new(CniSettings {
        environment: variables,
        ..settings.cni.clone()
    }));
    let chosen = network::Settings {
        cni: settings.plugin != Plugin::Bridge,
        fall_back: settings.plugin == Plugin::Cni { fall_back: true },
        bridge: settings.bridge_network.clone(),
    };
    if chosen.cni {
        cni.reload().await;
        if chosen.fall_back && !cni.is_configured() {
            let dir = settings.cni.conf_dir.display();
            tracing::info!(%dir, "no CNI configuration: pods get docker's bridge");
        }
    }
    (Arc::new(Networks::new(chosen, Arc::clone(&cni))), cni)
}
