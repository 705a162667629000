//! A kubelet over the fake runtime, in this process: what tests of the whole drive.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use daemon::{TaskGroup, Tidy};
use kubelet_config::{Command, HostFacts, Settings};
use kubelet_core::{
    admission::{NodeInfo, SysctlAllowList},
    downward::Allocatable,
    ids::NodeName,
};
use node_os::host_view::HostView;
use testkit::FakeCri;
use tokio::sync::watch;

use super::{context, housekeeping::Housekeeping, machine::Machine, probing};
use crate::{
    control_plane::Standalone,
    events::{Events, keeper::EventStore},
    metrics::Metrics,
    node::{capacity::Capacity, cgroups::PodCgroups},
    pod_workers::{HostIps, PodContext},
    runtime::{client::CriClient, health::RuntimeHealth, pleg::Pleg, wakes::Wakes},
    sources::SourceSet,
    status_store::StatusStore,
    sync_loop::SyncLoop,
    volumes::Visibility,
};

/// The limit of calls to the runtime.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(2);
/// How long the parts get to end.
const DRAIN: Duration = Duration::from_secs(10);

/// One life of a kubelet's process, without servers, sources and log rotation.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) context: Arc<PodContext>,
    /// The node's addresses.
    pub(crate) host_ips: Arc<Mutex<Vec<IpAddr>>>,
    /// Every event of this life.
    pub(crate) told: Arc<EventStore>,
    tasks: TaskGroup,
}

impl Life {
    /// Starts a kubelet with its files below `root`.
    pub(crate) fn begin(
        fake: &FakeCri,
        root: &Path,
        node: NodeInfo,
        sources: Vec<watch::Receiver<SourceSet>>,
    ) -> Self {
        Self::begin_with(fake, root, node, sources, &[])
    }

    /// The same with flags.
    pub(crate) fn begin_with(
        fake: &FakeCri,
        root: &Path,
        node: NodeInfo,
        sources: Vec<watch::Receiver<SourceSet>>,
        flags: &[&str],
    ) -> Self {
        let registry = daemon::metrics::Metrics::new();
        let metrics = Metrics::register(&registry).unwrap();
        let metrics = metrics.with_resizes(&registry).unwrap();
        let runtime = CriClient::over(
            fake.in_process(),
            fake.in_process(),
            REQUEST_TIMEOUT,
            metrics.clone(),
        );
        let wakes = Arc::new(Wakes::default());
        let (asker, health) = RuntimeHealth::new(runtime.clone(), wakes.clone());
        let told = Arc::<EventStore>::default();
        let control_plane = Arc::new(Standalone::new(told.clone()));
        let events: Events = control_plane.clone();
        let settings = settings(root, flags);
        let host_ips = Arc::<Mutex<Vec<IpAddr>>>::default();
        std::fs::create_dir_all(&settings.paths.root_dir).unwrap();
        let statuses = Arc::new(StatusStore::default());
        let (probes, prober, hooks) = probing::build(probing::Needs {
            runtime: &runtime,
            runtime_name: "fake",
            events: &events,
            statuses: &statuses,
            wakes: &wakes,
            metrics: &metrics,
            registry: &daemon::metrics::Metrics::new(),
            version: settings.version.major_minor(),
        })
        .unwrap();
        let mut context = context::pod_context(context::Parts {
            settings: &settings,
            runtime: runtime.clone(),
            runtime_name: "fake".to_owned(),
            health,
            wakes: wakes.clone(),
            events: events.clone(),
            control_plane,
            statuses,
            probes,
            hooks,
            tidy: Arc::new(Tidy::new()),
            metrics: metrics.clone(),
            cgroups: PodCgroups::off(events),
            machine: &machine(node.clone()),
            host_ips: host_ips.clone(),
        });
        context.node.log_links_directory = root.join("links");
        let context = Arc::new(context);
        let tasks = TaskGroup::new("kubelet");
        let token = || tasks.token().clone();
        tasks.spawn("health", asker.run(token()));
        tasks.spawn("prober", prober.run(token()));
        let pleg = Pleg {
            runtime,
            wakes,
            metrics,
        };
        tasks.spawn("pleg", pleg.run(token()));
        let sync_loop = SyncLoop::new(context.clone(), node, sources, tasks.token());
        tasks.spawn("sync loop", sync_loop.run(token()));
        Self {
            context,
            host_ips,
            told,
            tasks,
        }
    }

    /// Removes what a crash left behind of pods, when no pod is wanted any more, as each start does
    /// with those that are not. Not from the start on here: many who wait for the runtime's health are woken
    /// in an order that no seed foretells.
    pub(crate) fn sweep(&self) {
        let housekeeping = Housekeeping {
            context: self.context.clone(),
            node_values: None,
        };
        let nothing = watch::channel(Some(Arc::default())).1;
        let token = self.tasks.token().clone();
        let work = housekeeping.run(vec![nothing], token);
        self.tasks.spawn("housekeeping", work);
    }

    /// Ends it as a signal would; a panic of any part is one here.
    pub(crate) async fn end(self) {
        if let Err(error) = self.tasks.shutdown(DRAIN).await {
            panic!("{}", daemon::ErrorChain(&error));
        }
    }
}

/// A node with these amounts to give.
pub(crate) fn node(amounts: &[(&str, &str)]) -> NodeInfo {
    let amount = |text: &str| kubelet_core::quantity::parse(text).unwrap();
    NodeInfo {
        name: NodeName::from("node"),
        labels: [("disk".to_owned(), "ssd".to_owned())].into(),
        taints: Vec::new(),
        allocatable: amounts
            .iter()
            .map(|(name, text)| ((*name).to_owned(), amount(text)))
            .collect(),
        sysctls: SysctlAllowList::default(),
        apparmor: false,
        supplemental_groups_policy: false,
        pod_level_resources: true,
    }
}

impl HostIps for Mutex<Vec<IpAddr>> {
    fn find(&self) -> Vec<IpAddr> {
        self.lock().unwrap().clone()
    }
}

fn settings(root: &Path, flags: &[&str]) -> Settings {
    std::fs::create_dir_all(root).unwrap();
    let (file, resolver) = (root.join("kubelet.yaml"), root.join("resolv.conf"));
    // Empty, unless a test wrote one.
    let mut open = std::fs::File::options();
    open.create(true).append(true).open(&resolver).unwrap();
    let text = format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
         podLogsDir: {}\ncgroupsPerQOS: false\nenforceNodeAllocatable: []\nresolvConf: {}\n\
         authentication: {{webhook: {{enabled: false}}}}\nauthorization: {{mode: AlwaysAllow}}\n\
         containerRuntimeEndpoint: unix:///unused\nfeatureGates: {{ImageVolume: true}}\n",
        logs(root).display(),
        resolver.display()
    );
    std::fs::write(&file, text).unwrap();
    let mut words = vec![
        format!("--config={}", file.display()).into(),
        format!("--root-dir={}", root.join("kubelet").display()).into(),
    ];
    words.extend(flags.iter().map(Into::into));
    let host = HostFacts { cgroup_v2: false };
    match kubelet_config::load(words, host).unwrap() {
        Command::Run(run) => run.settings,
        Command::Print(text) => panic!("{text}"),
    }
}

/// Where logs of pods are.
pub(crate) fn logs(root: &Path) -> PathBuf {
    root.join("logs")
}

fn machine(node: NodeInfo) -> Machine {
    Machine {
        capacity: Capacity {
            cpus: 4,
            memory_bytes: 1 << 33,
            swap_bytes: 0,
            ephemeral_storage_bytes: None,
            hugepages: [].into(),
            pods: 110,
            pids: None,
        },
        allocatable: Allocatable::default(),
        node,
        cgroups: None,
        swap_controller: false,
        version: None,
        thermal_throttle: Vec::new(),
        tmpfs_swap: node_os::mounts::Swap::Allowed,
        host: HostView::identity(),
        visibility: Visibility::Shared,
    }
}
