//! Pod networks: which one a pod gets, and what is done for it.
//!
//! A sandbox records the network that made it (DEC-20), and is torn down by that record whatever the
//! flags say by then. Docker's own bridge needs nothing done: upstream's no-op plugin (NET-04). For
//! CNI the sandbox starts on Docker's network `none`, and plugins attach it.
//!
//! Calls for one pod come one at a time (NET-01). The network namespaces of CNI's sandboxes are held
//! open: a sandbox that dies by itself can still be torn down inside, without which plugins leave
//! packet filter rules behind. Only in memory: these, and which sandboxes were torn down by this
//! process; after a restart that is done again.

pub(crate) mod cni;
mod conflict;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use node_os::netns::{self, InterfaceAddress, Scope};

use crate::lock::lock;
use crate::network_kind::Kind;
use crate::state::Record;
use cni::{Cni, CniError, INTERFACE, Pod};

pub(crate) use conflict::host_port_conflict;

/// Torn-down sandboxes that are remembered; forgetting one costs a repeated teardown.
const REMEMBERED: usize = 4096;

/// A network call failed; the words are upstream's (NET-02).
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    /// The pod could not be set up.
    #[error("networkPlugin cni failed to set up pod \"{name}_{namespace}\" network")]
    SetUp {
        /// The pod's name.
        name: String,
        /// The pod's namespace.
        namespace: String,
        /// Why.
        #[source]
        source: Box<CniError>,
    },
    /// The pod could not be torn down.
    #[error("networkPlugin cni failed to teardown pod \"{name}_{namespace}\" network")]
    TearDown {
        /// The pod's name.
        name: String,
        /// The pod's namespace.
        namespace: String,
        /// Why.
        #[source]
        source: Box<CniError>,
    },
    /// The sandbox ended before its network was set up.
    #[error(
        "networkPlugin cni failed to set up pod \"{name}_{namespace}\" network: CNI failed to retrieve network \
         namespace path: cannot find network namespace for the terminated container {id:?}"
    )]
    Ended {
        /// The pod's name.
        name: String,
        /// The pod's namespace.
        namespace: String,
        /// The sandbox.
        id: String,
    },
}

/// What the flags say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    /// New pods get CNI.
    pub(crate) cni: bool,
    /// The Docker network of pods on the bridge; empty for Docker's default one.
    pub(crate) bridge: String,
    /// Pods get the bridge where CNI has no configuration.
    pub(crate) fall_back: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Networks {
    settings: Settings,
    /// Also without the flag, for sandboxes that it made before.
    cni: Arc<Cni>,
    /// One lock per pod, for as long as somebody holds it.
    pods: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    torn_down: Mutex<HashSet<String>>,
    /// Namespaces by sandbox, from its set-up to its teardown.
    namespaces: Mutex<HashMap<String, Arc<File>>>,
}

impl Networks {
    /// Networks as the flags want them.
    pub(crate) fn new(settings: Settings, cni: Arc<Cni>) -> Self {
        Self {
            settings,
            cni,
            pods: Mutex::default(),
            torn_down: Mutex::default(),
            namespaces: Mutex::default(),
        }
    }

    /// The network of a new pod that does not use the node's.
    ///
    /// # Errors
    /// Why there is none now.
    pub(crate) fn choose(&self) -> Result<Kind, String> {
        if !self.settings.cni {
            return Ok(Kind::Bridge);
        }
        match self.cni.ready() {
            Ok(()) => Ok(Kind::Cni),
            Err(_) if self.settings.fall_back && !self.cni.is_configured() => Ok(Kind::Bridge),
            Err(why) => Err(why),
        }
    }

    /// Whether pods can get a network: the NetworkReady condition (RTC-02).
    ///
    /// # Errors
    /// The reason.
    pub(crate) async fn status(&self) -> Result<(), String> {
        match self.choose()? {
            Kind::Cni => self.cni.status().await,
            Kind::Host | Kind::Bridge => Ok(()),
        }
    }

    /// What new pods get, or would: for those who look.
    pub(crate) fn name(&self) -> &'static str {
        self.choose().unwrap_or(Kind::Cni).as_str()
    }

    /// Docker network mode of a new sandbox (SBX-07).
    pub(crate) fn docker_mode(&self, kind: Kind) -> &str {
        match (kind, self.settings.bridge.as_str()) {
            (Kind::Host, _) => "host",
            (Kind::Cni, _) => "none",
            (Kind::Bridge, "") => "default",
            (Kind::Bridge, name) => name,
        }
    }

    /// The user-defined network of pods on the bridge, whose pods find each other by name.
    pub(crate) fn user_defined(&self, kind: Kind) -> Option<&str> {
        let name = self.settings.bridge.as_str();
        (kind == Kind::Bridge && !name.is_empty()).then_some(name)
    }

    /// Takes the node's pod CIDR.
    pub(crate) fn set_pod_cidr(&self, cidr: &str) {
        self.cni.set_pod_cidr(cidr);
    }

    fn pod_lock(&self, pod: &Pod) -> Arc<tokio::sync::Mutex<()>> {
        let key = format!("{}_{}", pod.name, pod.namespace);
        let mut pods = lock(&self.pods);
        pods.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = pods.get(&key).and_then(Weak::upgrade) {
            return lock;
        }
        // Asynchronous: it is held while plugins run, so that they see one call per pod.
        let lock = Arc::default();
        pods.insert(key, Arc::downgrade(&lock));
        lock
    }

    /// Sets up the network of a started sandbox; nothing to do but with CNI. `pid` is that of its
    /// process, `engine` names the Docker Engine.
    ///
    /// # Errors
    /// See [`NetworkError`]; then [`Networks::tear_down`] is due.
    pub(crate) async fn set_up(
        &self,
        kind: Kind,
        pod: &Pod,
        pid: Option<i64>,
        engine: &str,
    ) -> Result<(), NetworkError> {
        if kind != Kind::Cni {
            return Ok(());
        }
        let one = self.pod_lock(pod);
        let _one = one.lock().await;
        let (path, namespace) = daemon::blocking(move || open_namespace(pid?))
            .await
            .ok_or_else(|| NetworkError::Ended {
                name: pod.name.clone(),
                namespace: pod.namespace.clone(),
                id: pod.id.clone(),
            })?;
        lock(&self.namespaces).insert(pod.id.clone(), Arc::new(namespace));
        let done = self.cni.set_up(pod, &path.to_string_lossy(), engine).await;
        done.map_err(|source| NetworkError::SetUp {
            name: pod.name.clone(),
            namespace: pod.namespace.clone(),
            source: Box::new(source),
        })
    }

    /// Takes a pod's network down: once per process is enough, more often is fine. `pid` is that of
    /// the sandbox's process as last known.
    ///
    /// # Errors
    /// [`NetworkError::TearDown`]; to be tried again.
    pub(crate) async fn tear_down(
        &self,
        kind: Kind,
        pod: &Pod,
        pid: Option<i64>,
    ) -> Result<(), NetworkError> {
        if kind != Kind::Cni {
            return Ok(());
        }
        let one = self.pod_lock(pod);
        let _one = one.lock().await;
        if lock(&self.torn_down).contains(&pod.id) {
            return Ok(());
        }
        let id = pod.id.clone();
        let own = move || namespace_of_sandbox(pid?, &id);
        let held = lock(&self.namespaces).get(&pod.id).cloned();
        let path = match (daemon::blocking(own).await, &held) {
            (Some(path), _) => path,
            // The process is gone; the namespace is not, as long as this descriptor is open.
            (None, Some(held)) => {
                let (pid, fd) = (std::process::id(), held.as_raw_fd());
                PathBuf::from(format!("/proc/{pid}/fd/{fd}"))
            }
            (None, None) => PathBuf::new(),
        };
        let done = self.cni.tear_down(pod, &path.to_string_lossy()).await;
        done.map_err(|source| NetworkError::TearDown {
            name: pod.name.clone(),
            namespace: pod.namespace.clone(),
            source: Box::new(source),
        })?;
        lock(&self.namespaces).remove(&pod.id);
        let mut torn_down = lock(&self.torn_down);
        if torn_down.len() >= REMEMBERED {
            torn_down.clear();
        }
        torn_down.insert(pod.id.clone());
        Ok(())
    }

    /// Whether a sandbox that is to be removed still has a network (SBX-40 BEAT).
    pub(crate) async fn is_attached(&self, kind: Kind, id: &str) -> bool {
        kind == Kind::Cni && !lock(&self.torn_down).contains(id) && self.cni.has(id).await
    }

    /// A sandbox is removed.
    pub(crate) fn forget(&self, id: &str) {
        lock(&self.torn_down).remove(id);
        lock(&self.namespaces).remove(id);
    }

    /// The addresses of a sandbox that CNI made, one per family, IPv4 first (NET-06, CMP-16). `before`
    /// is what was known of it.
    ///
    /// A sandbox of ours without a cache entry was cut short before its last plugin: it has no
    /// addresses, so that the kubelet makes the pod anew.
    pub(crate) async fn addresses(&self, record: &Record, before: Option<&Record>) -> Vec<IpAddr> {
        let Some(facts) = record.sandbox().filter(|facts| facts.kind == Kind::Cni) else {
            return Vec::new();
        };
        let Some(pid) = record.pid() else {
            return Vec::new();
        };
        if let Some(before) = before.filter(|before| before.pid() == Some(pid))
            && let Some(known) = before.sandbox().filter(|known| !known.ips.is_empty())
        {
            return known.ips.clone();
        }
        if facts.is_ours && !self.cni.has(&record.id).await {
            return Vec::new();
        }
        let read = daemon::blocking(move || {
            let (path, namespace) = open_namespace(pid)?;
            let found = netns::addresses(&path).inspect_err(|error| {
                let error = daemon::ErrorChain(error);
                tracing::debug!(%error, "can't read a pod's addresses");
            });
            Some((found.ok(), namespace))
        });
        let (found, namespace) = read.await.unzip();
        if let Some(namespace) = namespace {
            let mut namespaces = lock(&self.namespaces);
            namespaces
                .entry(record.id.clone())
                .or_insert_with(|| Arc::new(namespace));
        }
        match found.flatten() {
            Some(found) => pod_addresses(&found),
            None => self.cni.cached_addresses(&record.id).await,
        }
    }
}

/// The first global address of each family on the pod's interface.
fn pod_addresses(found: &[InterfaceAddress]) -> Vec<IpAddr> {
    let global = |address: &&InterfaceAddress| {
        address.interface == INTERFACE && address.scope == Scope::Global
    };
    let first = |is_v6: bool| {
        let mut own = found.iter().filter(global).map(|address| address.address);
        own.find(|ip| ip.is_ipv6() == is_v6)
    };
    [first(false), first(true)].into_iter().flatten().collect()
}

fn namespace_of(pid: i64) -> Option<PathBuf> {
    let pid = u32::try_from(pid).ok().filter(|pid| *pid > 0)?;
    Some(netns::of_process(pid))
}

/// The network namespace of a sandbox by its process, where that is still its. Blocks.
pub(crate) fn namespace_of_sandbox(pid: i64, sandbox: &str) -> Option<PathBuf> {
    namespace_of(pid).filter(|_| is_of(pid, sandbox))
}

/// A process's network namespace: its path, and itself. Blocks.
fn open_namespace(pid: i64) -> Option<(PathBuf, File)> {
    let path = namespace_of(pid)?;
    let namespace = File::open(&path).ok()?;
    Some((path, namespace))
}

/// Whether a process is a sandbox's: its number may be another's by now. Blocks.
fn is_of(pid: i64, sandbox: &str) -> bool {
    let path = Path::new("/proc").join(pid.to_string()).join("cgroup");
    std::fs::read_to_string(path).is_ok_and(|cgroups| cgroups.contains(sandbox))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_or_docker_tells_the_network() {
        let of = Kind::of_sandbox;
        assert_eq!(of(Some("cni"), "none"), Kind::Cni);
        assert_eq!(of(Some("bridge"), "mine"), Kind::Bridge);
        // Upstream's.
        assert_eq!(of(None, "none"), Kind::Cni);
        assert_eq!(of(None, "default"), Kind::Bridge);
        assert_eq!(of(None, "host"), Kind::Host);
        assert_eq!(of(Some("bridge"), "host"), Kind::Host);
    }

    #[test]
    fn pod_has_one_address_per_family_v4_first() {
        let address = |interface: &str, ip: &str, scope| InterfaceAddress {
            interface: interface.to_owned(),
            address: ip.parse().unwrap(),
            prefix_length: 24,
            scope,
        };
        let found = [
            address("lo", "127.0.0.1", Scope::Host),
            address("eth0", "fe80::1", Scope::Link),
            address("eth0", "fd00::2", Scope::Global),
            address("eth0", "10.0.0.2", Scope::Global),
            address("eth0", "10.0.0.3", Scope::Global),
            address("net1", "10.9.0.3", Scope::Global),
        ];
        let ips: Vec<_> = pod_addresses(&found)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(ips, ["10.0.0.2", "fd00::2"]);
    }

    #[test]
    fn process_of_another_is_told_apart() {
        assert!(!is_of(i64::from(std::process::id()), "no-such-sandbox"));
        assert!(!is_of(-1, ""));
        assert_eq!(namespace_of(0), None);
    }
}
