//! CNI: plugins give a pod its network (CNI-01..16).
//!
//! ```text
//!  conf dir, bin dirs ──inotify──▶ load ─▶ the network ─▶ set_up ──▶ chain ADD ─▶ cache
//!                                              │                         │ plugin processes
//!                                              └────────▶ tear_down ─▶ chain DEL ─▶ cache
//! ```
//!
//! Owner task: [`Cni::run`], which reloads. Calls for one pod come one at a time, `network` sees to
//! that. What survives a restart is in the cache; a pod is torn down with the configuration, the
//! arguments and the result that it was set up with. Differs: upstream takes the present
//! configuration, and fails where there is none.

mod args;
mod cache;
mod chain;
mod config;
mod error;
mod load;
mod plugin;
mod pod;
mod result;
mod status;
mod sysctls;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemon::ErrorChain;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::lock::lock;
use cache::{Cache, Entry};
use chain::Target;
use config::NetworkList;
use load::Loaded;
use plugin::Plugins;
use status::StatusCache;

pub(crate) use error::CniError;
pub(crate) use pod::{INTERFACE, Pod};

/// Longest set-up or teardown of a pod, all plugins together: upstream's (CNI-11).
const TOTAL_LIMIT: Duration = Duration::from_secs(220);
/// Longest call of one plugin but for ADD, which may take all the time that there is: the kubelet gives
/// a teardown two minutes, and is to be told which plugin it was.
const PLUGIN_LIMIT: Duration = Duration::from_secs(110);
/// The network of `lo`, which upstream builds in and keeps in the cache (CNI-05).
const LOOPBACK: &str = "cni-loopback";
const LOOPBACK_LIST: &str =
    r#"{"cniVersion":"0.2.0","name":"cni-loopback","plugins":[{"type":"loopback"}]}"#;
/// A watch that can't be had is tried for again after a while; meanwhile SIGHUP reloads.
const WATCH_RETRY: Duration = Duration::from_mins(1);

/// Flags and environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CniSettings {
    /// `--cni-conf-dir`.
    pub(crate) conf_dir: PathBuf,
    /// `--cni-bin-dir`.
    pub(crate) bin_dirs: Vec<PathBuf>,
    /// `--cni-cache-dir`.
    pub(crate) cache_dir: PathBuf,
    /// `--pod-cidr`; empty for none yet.
    pub(crate) pod_cidr: String,
    /// This process's environment.
    pub(crate) environment: Vec<(OsString, OsString)>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Cni {
    conf_dir: PathBuf,
    plugins: Plugins,
    cache: Cache,
    state: Mutex<State>,
    status: StatusCache,
    /// [`TOTAL_LIMIT`].
    limit: Duration,
}

#[derive(Debug, Default)]
struct State {
    network: Option<Arc<NetworkList>>,
    /// Why the last look found none.
    problem: String,
    /// The last look found files.
    configured: bool,
    pod_cidr: String,
}

/// What is left of a sandbox in the cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Remains {
    /// The sandbox's id.
    pub(crate) id: String,
    /// The pod's name, if it can be told.
    pub(crate) name: String,
    /// The pod's namespace, likewise.
    pub(crate) namespace: String,
    /// The Docker Engine it was on; empty when upstream made it.
    pub(crate) engine: String,
}

impl Cni {
    /// CNI that has not looked at its directories yet.
    pub(crate) fn new(settings: CniSettings) -> Self {
        Self {
            plugins: Plugins {
                directories: settings.bin_dirs,
                environment: plugin::inherited(settings.environment),
                limit: PLUGIN_LIMIT,
            },
            conf_dir: settings.conf_dir,
            cache: Cache::new(&settings.cache_dir),
            state: Mutex::new(State {
                pod_cidr: settings.pod_cidr,
                ..State::default()
            }),
            status: StatusCache::default(),
            limit: TOTAL_LIMIT,
        }
    }

    /// Looks for the configuration now. One that was found before stays where nothing usable is
    /// found any more (CNI-03). Says what changed, not that it looked.
    pub(crate) async fn reload(&self) {
        let loaded = load::load(&self.conf_dir, &self.plugins).await;
        let mut state = lock(&self.state);
        let problem = match loaded {
            Loaded::Network { list, file } => {
                let changed = state.network.as_deref() != Some(&*list);
                if changed {
                    tracing::info!(file = %file.display(), network = list.name, "using CNI configuration");
                    state.network = Some(Arc::new(*list));
                    self.status.forget();
                }
                state.configured = true;
                state.problem.clear();
                return;
            }
            Loaded::Empty(problem) => {
                state.configured = false;
                problem
            }
            Loaded::Unusable(problem) => {
                state.configured = true;
                problem
            }
        };
        if state.problem != problem {
            let kept = state.network.as_ref().map(|network| network.name.as_str());
            tracing::warn!(reason = problem, kept, "no usable CNI configuration");
            state.problem = problem;
        }
    }

    /// Reloads whenever a directory changes, until `token` is cancelled.
    pub(crate) async fn run(self: Arc<Self>, token: CancellationToken) {
        let cache = self.cache.clone();
        daemon::blocking(move || cache.remove_leftovers()).await;
        loop {
            let (conf_dir, bin_dirs) = (self.conf_dir.clone(), self.plugins.directories.clone());
            // Watch first, look second: a change in between is seen by one or the other.
            let watch = daemon::blocking(move || watch::Watch::begin(&conf_dir, &bin_dirs)).await;
            self.reload().await;
            let changed = async {
                match watch {
                    Ok(watch) => watch.changed().await,
                    Err(error) => {
                        tracing::warn!(%error, "can't watch the CNI directories: send SIGHUP after a change");
                        tokio::time::sleep(WATCH_RETRY).await;
                    }
                }
            };
            tokio::select! {
                biased;
                // cancel-safe: a token.
                () = token.cancelled() => return,
                // cancel-safe: a new watch is made.
                () = changed => {}
            }
        }
    }

    /// Whether there is any configuration file, usable or not.
    pub(crate) fn is_configured(&self) -> bool {
        let state = lock(&self.state);
        state.configured || state.network.is_some()
    }

    /// Takes a pod CIDR; only the first counts (CNI-15).
    pub(crate) fn set_pod_cidr(&self, cidr: &str) {
        let mut state = lock(&self.state);
        if state.pod_cidr.is_empty() && !cidr.is_empty() {
            tracing::info!(cidr, "pod CIDR");
            cidr.clone_into(&mut state.pod_cidr);
        } else if state.pod_cidr != cidr {
            tracing::debug!(cidr, in_use = state.pod_cidr, "a later pod CIDR is ignored");
        }
    }

    /// The network for new pods, and the pod CIDR.
    fn usable(&self) -> Result<(Arc<NetworkList>, String), String> {
        let state = lock(&self.state);
        let Some(network) = state.network.clone() else {
            // The first words are upstream's, which users look for (CNI-04).
            return Err(format!("cni config uninitialized: {}", state.problem));
        };
        if network.declares(args::IP_RANGES) && state.pod_cidr.is_empty() {
            return Err("cni config needs ipRanges but no PodCIDR set".to_owned());
        }
        Ok((network, state.pod_cidr.clone()))
    }

    /// Whether pods can be set up now, as far as is known without asking plugins.
    ///
    /// # Errors
    /// Why not (CNI-04).
    pub(crate) fn ready(&self) -> Result<(), String> {
        self.usable().map(drop)
    }

    /// As [`Cni::ready`]; plugins that can tell are asked, now and then (STATUS of CNI 1.1).
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn status(&self) -> Result<(), String> {
        let (network, _) = self.usable()?;
        self.status.ask(&self.plugins, &network).await
    }

    /// Sets a pod up. What a failed call leaves behind is for [`Cni::tear_down`].
    ///
    /// # Errors
    /// See [`CniError`].
    pub(crate) async fn set_up(
        &self,
        pod: &Pod,
        netns: &str,
        engine: &str,
    ) -> Result<(), CniError> {
        let (network, pod_cidr) = self.usable().map_err(CniError::NotReady)?;
        let args = args::cni_args(pod)?;
        let capabilities = args::capabilities(pod, &pod_cidr)?;
        let wants_ports = capabilities[args::PORT_MAPPINGS]
            .as_array()
            .is_some_and(|ports| !ports.is_empty());
        if wants_ports && !network.declares(args::PORT_MAPPINGS) {
            tracing::warn!(
                pod = %format_args!("{}/{}", pod.namespace, pod.name),
                network = network.name,
                "the pod has host ports and no plugin of the CNI network maps ports: add portmap \
                 with the capability portMappings"
            );
        }
        let target = Target {
            container: &pod.id,
            netns,
            args: &args,
            capabilities: &capabilities,
        };
        let deadline = Instant::now() + self.limit;
        if let Some(lo) = self.loopback().await {
            // `lo` is not cached: it goes with its namespace. Differs: upstream deletes it.
            chain::add(&self.plugins, &lo, target, deadline).await?;
        }
        let result = chain::add(&self.plugins, &network, target, deadline).await?;
        let entry = Entry {
            network: network.name.clone(),
            container: pod.id.clone(),
            config: network.bytes.clone(),
            args,
            capabilities,
            result: Some(result.raw().clone()),
            engine: engine.to_owned(),
        };
        let cache = self.cache.clone();
        let written = daemon::blocking(move || cache.write(&entry)).await;
        written.map_err(|source| CniError::Cache {
            network: network.name.clone(),
            source,
        })?;
        let (netns, sysctls) = (PathBuf::from(netns), pod.sysctls.clone());
        daemon::blocking(move || sysctls::set(&netns, &sysctls)).await
    }

    /// The network of `lo`, where the plugin is installed. Differs: upstream requires it; Docker
    /// brings `lo` up before any plugin runs.
    async fn loopback(&self) -> Option<NetworkList> {
        let list = NetworkList::parse(LOOPBACK_LIST.as_bytes()).expect("a constant");
        let plugins = self.plugins.clone();
        daemon::blocking(move || plugins.find("loopback").is_ok().then_some(list)).await
    }

    /// Takes a pod down from all networks that it is on; repeating it is fine. `netns` is empty
    /// when the namespace is gone. A pod of which the cache knows nothing is taken down from the
    /// network of now, as upstream does: its id may be all that is left.
    ///
    /// # Errors
    /// All that failed; then the cache keeps the pod, for another try.
    pub(crate) async fn tear_down(&self, pod: &Pod, netns: &str) -> Result<(), CniError> {
        if !config::is_valid_name(&pod.id) {
            return Ok(());
        }
        let (cache, id) = (self.cache.clone(), pod.id.clone());
        let mut entries = daemon::blocking(move || cache.of_container(&id)).await;
        let present = lock(&self.state).network.clone();
        if !entries.iter().any(|entry| entry.network != LOOPBACK) {
            if let Some(network) = &present {
                entries.push(Entry {
                    network: network.name.clone(),
                    container: pod.id.clone(),
                    ..Entry::default()
                });
            } else {
                tracing::debug!(
                    sandbox.id = pod.id,
                    "no CNI configuration and no cached result: nothing to tear down with"
                );
            }
        }
        let deadline = Instant::now() + self.limit;
        let mut errors = Vec::new();
        for entry in entries {
            let failed = self
                .detach(pod, netns, &entry, present.as_deref(), deadline)
                .await;
            if failed.is_empty() {
                let cache = self.cache.clone();
                let Entry {
                    network, container, ..
                } = entry;
                let name = network.clone();
                let removed = daemon::blocking(move || cache.remove(&network, &container)).await;
                let failed = removed.err().map(|source| CniError::Cache {
                    network: name,
                    source,
                });
                errors.extend(failed);
            } else {
                errors.extend(failed);
            }
        }
        CniError::several(errors)
    }

    /// Takes a pod down from one network.
    async fn detach(
        &self,
        pod: &Pod,
        netns: &str,
        entry: &Entry,
        present: Option<&NetworkList>,
        deadline: Instant,
    ) -> Vec<CniError> {
        let made_with = NetworkList::parse(&entry.config).ok();
        let Some(list) = made_with.as_ref().or(present) else {
            if entry.network == LOOPBACK {
                // `lo` goes with its namespace (CNI-09).
                return Vec::new();
            }
            // The first words are upstream's (CNI-04).
            return vec![CniError::NotReady(format!(
                "cni config uninitialized: the cached result of network {:?} can't be read",
                entry.network
            ))];
        };
        let args = if entry.args.is_empty() {
            match args::cni_args(pod) {
                Ok(args) => args,
                Err(error) => return vec![error.into()],
            }
        } else {
            entry.args.clone()
        };
        let mut capabilities = entry.capabilities.clone();
        if capabilities.is_empty() {
            let pod_cidr = lock(&self.state).pod_cidr.clone();
            // Without annotations nothing in it can be wrong.
            let bare = Pod {
                annotations: BTreeMap::new(),
                ..pod.clone()
            };
            capabilities = args::capabilities(&bare, &pod_cidr).unwrap_or_default();
        }
        let target = Target {
            container: &pod.id,
            netns,
            args: &args,
            capabilities: &capabilities,
        };
        let cached = entry.result.as_ref();
        let mut errors = chain::delete(&self.plugins, list, target, cached, deadline).await;
        if list.name == LOOPBACK {
            // `lo` goes with its namespace (CNI-09).
            for error in errors.drain(..) {
                let error = ErrorChain(&error);
                tracing::debug!(sandbox.id = pod.id, %error, "CNI failed to delete loopback network");
            }
        }
        // The network was replaced and its plugins are gone for good: the new one's may help.
        if let Some(present) = present
            && present != list
            && !errors.is_empty()
            && errors.iter().all(CniError::lacks_plugin)
        {
            tracing::warn!(
                sandbox.id = pod.id,
                network = list.name,
                "plugins of a former CNI network are not installed any more: using the present one"
            );
            errors = chain::delete(&self.plugins, present, target, cached, deadline).await;
        }
        errors
    }

    /// Whether the cache knows that a sandbox was set up.
    pub(crate) async fn has(&self, id: &str) -> bool {
        let (cache, id) = (self.cache.clone(), id.to_owned());
        let entries = daemon::blocking(move || cache.of_container(&id)).await;
        entries.iter().any(|entry| entry.network != LOOPBACK)
    }

    /// The addresses that the plugins gave a pod, from the cache.
    pub(crate) async fn cached_addresses(&self, id: &str) -> Vec<std::net::IpAddr> {
        let (cache, id) = (self.cache.clone(), id.to_owned());
        let entries = daemon::blocking(move || cache.of_container(&id)).await;
        let entries = entries
            .into_iter()
            .filter(|entry| entry.network != LOOPBACK);
        entries
            .filter_map(|entry| result::CniResult::from_object(entry.result?, "0.1.0").ok())
            .flat_map(|result| result.ips().unwrap_or_default())
            .collect()
    }

    /// All sandboxes that the cache knows.
    pub(crate) async fn remains(&self) -> Vec<Remains> {
        let cache = self.cache.clone();
        let entries = daemon::blocking(move || cache.all()).await;
        let entries = entries
            .into_iter()
            .filter(|entry| entry.network != LOOPBACK);
        entries
            .map(|entry| {
                let arg = |key: &str| {
                    let pair = entry.args.iter().find(|pair| pair[0] == key);
                    pair.map(|pair| pair[1].clone()).unwrap_or_default()
                };
                Remains {
                    name: arg("K8S_POD_NAME"),
                    namespace: arg("K8S_POD_NAMESPACE"),
                    engine: entry.engine,
                    id: entry.container,
                }
            })
            .collect()
    }
}
