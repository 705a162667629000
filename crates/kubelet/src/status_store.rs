//! What is known of each pod, for those who only read: the HTTP servers, log rotation, metrics.
//!
//! Written by the pod workers after each pass, read by anybody. Nothing here decides anything.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kubelet_core::{
    actions::ProbeResults,
    ids::{PodKey, PodUid},
    observed::{ContainerState, ObservedPod},
    spec,
    status::apply_probe_results,
};
use tokio::sync::Notify;

/// A pod that a source asks for.
#[derive(Debug, Clone)]
pub(crate) struct DesiredEntry {
    /// The pod as its source gave it.
    pub(crate) pod: Arc<Pod>,
    /// Its newest status.
    pub(crate) status: PodStatus,
}

/// What the runtime has of a pod, cut down to what readers ask for.
#[derive(Debug, Clone)]
pub(crate) struct ObservedEntry {
    pub(crate) uid: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Name and image of each running container.
    pub(crate) running_containers: Vec<(String, String)>,
    /// Id and log file of each running container.
    logs: Vec<RunningLog>,
    states: Vec<ContainerState>,
    ready_sandbox: bool,
}

/// A log file that grows.
#[derive(Debug, Clone)]
pub(crate) struct RunningLog {
    pub(crate) container_id: String,
    pub(crate) path: PathBuf,
}

/// Numbers for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) active_pods: usize,
    pub(crate) running_pods: usize,
    pub(crate) created: usize,
    pub(crate) running: usize,
    pub(crate) exited: usize,
    pub(crate) unknown: usize,
}

#[derive(Debug, Default)]
struct Inner {
    desired: BTreeMap<PodUid, DesiredEntry>,
    observed: BTreeMap<PodUid, ObservedEntry>,
}

/// The store.
#[derive(Debug, Default)]
pub(crate) struct StatusStore {
    inner: Mutex<Inner>,
    /// A pod has ended that was not over before.
    ended: Notify,
}

impl StatusStore {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A source asks for the pod. A status that is known already is kept.
    pub(crate) fn set_desired(&self, pod: &Arc<Pod>) {
        let mut inner = self.lock();
        let fresh = || pod.status.clone().unwrap_or_default();
        inner
            .desired
            .entry(PodUid::of(pod))
            .and_modify(|entry| entry.pod = pod.clone())
            .or_insert_with(|| DesiredEntry {
                pod: pod.clone(),
                status: fresh(),
            });
    }

    /// No source asks for the pod any more; `/pods` stops listing it at once (SRC-43).
    pub(crate) fn remove_desired(&self, uid: &PodUid) {
        self.lock().desired.remove(uid);
    }

    /// The newest status of a pod, if a source still asks for it.
    pub(crate) fn set_status(&self, uid: &PodUid, status: &PodStatus) {
        if let Some(entry) = self.lock().desired.get_mut(uid)
            && entry.status != *status
        {
            let is_over = |status: &PodStatus| spec::is_terminal_phase(status.phase.as_deref());
            if is_over(status) && !is_over(&entry.status) {
                self.ended.notify_one();
            }
            entry.status = status.clone();
        }
    }

    /// Waits for a pod to end for good; one listener. Cancel-safe.
    pub(crate) async fn ended(&self) {
        self.ended.notified().await;
    }

    /// Shows for whose end a pod waits that has not been started yet, or that it waits no more.
    ///
    /// Differs: upstream shows such a pod as Pending and says no more.
    pub(crate) fn set_waits_for(&self, uid: &PodUid, other: Option<&(PodUid, PodKey)>) {
        if let Some(entry) = self.lock().desired.get_mut(uid)
            && entry.status.start_time.is_none()
        {
            entry.status.message =
                other.map(|(uid, key)| format!("waits for pod {key} ({uid}) to end"));
        }
    }

    /// The newest status of a pod that a source asks for; empty for any other.
    pub(crate) fn status(&self, uid: &PodUid) -> PodStatus {
        let inner = self.lock();
        let entry = inner.desired.get(uid);
        entry.map(|entry| entry.status.clone()).unwrap_or_default()
    }

    /// Whether the pod has ended for good (STAT-02).
    pub(crate) fn is_over(&self, uid: &PodUid) -> bool {
        let inner = self.lock();
        let entry = inner.desired.get(uid);
        entry.is_some_and(|entry| spec::is_terminal_phase(entry.status.phase.as_deref()))
    }

    /// Shows another result of a container's probes at once, before its pod is looked at again.
    pub(crate) fn apply_probe_results(
        &self,
        uid: &PodUid,
        container_id: &str,
        results: ProbeResults,
        now: Timestamp,
    ) {
        if let Some(entry) = self.lock().desired.get_mut(uid) {
            apply_probe_results(&entry.pod, &mut entry.status, container_id, results, now);
        }
    }

    /// What a worker read from the runtime.
    pub(crate) fn set_observed(&self, key: &PodKey, observed: &ObservedPod) {
        let running = || {
            observed
                .containers
                .iter()
                .filter(|container| container.state == ContainerState::Running)
        };
        let entry = ObservedEntry {
            uid: observed.uid.to_string(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            running_containers: running()
                .map(|container| (container.name.to_string(), container.image.clone()))
                .collect(),
            logs: running()
                .filter(|container| !container.log_path.is_empty())
                .map(|container| RunningLog {
                    container_id: container.id.to_string(),
                    path: PathBuf::from(&container.log_path),
                })
                .collect(),
            states: observed
                .containers
                .iter()
                .map(|container| container.state)
                .collect(),
            ready_sandbox: observed.active_sandbox().is_some(),
        };
        self.lock().observed.insert(observed.uid.clone(), entry);
    }

    /// The runtime has nothing of the pod any more.
    pub(crate) fn remove_observed(&self, uid: &PodUid) {
        self.lock().observed.remove(uid);
    }

    /// Every pod that a source asks for, by uid.
    pub(crate) fn desired(&self) -> Vec<DesiredEntry> {
        self.lock().desired.values().cloned().collect()
    }

    /// Every pod that the runtime has something of, by uid.
    pub(crate) fn observed(&self) -> Vec<ObservedEntry> {
        self.lock().observed.values().cloned().collect()
    }

    /// The log file of every running container.
    pub(crate) fn running_logs(&self) -> Vec<RunningLog> {
        self.lock()
            .observed
            .values()
            .flat_map(|entry| entry.logs.iter().cloned())
            .collect()
    }

    /// Numbers for the metrics.
    pub(crate) fn counts(&self) -> Counts {
        let inner = self.lock();
        let is_over =
            |entry: &&DesiredEntry| spec::is_terminal_phase(entry.status.phase.as_deref());
        let over = inner.desired.values().filter(is_over).count();
        let mut counts = Counts {
            active_pods: inner.desired.len() - over,
            ..Counts::default()
        };
        for entry in inner.observed.values() {
            counts.running_pods += usize::from(entry.ready_sandbox);
            for state in &entry.states {
                *match state {
                    ContainerState::Created => &mut counts.created,
                    ContainerState::Running => &mut counts.running,
                    ContainerState::Exited => &mut counts.exited,
                    ContainerState::Unknown => &mut counts.unknown,
                } += 1;
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str) -> Arc<Pod> {
        let mut pod = Pod::default();
        pod.metadata.uid = Some(uid.to_owned());
        pod.status = Some(PodStatus {
            phase: Some("Pending".into()),
            ..PodStatus::default()
        });
        Arc::new(pod)
    }

    #[test]
    fn a_pod_that_waits_says_for_whom_until_it_is_started() {
        let store = StatusStore::default();
        let uid = PodUid::new("a");
        store.set_desired(&pod("a"));
        let old = (PodUid::new("old"), PodKey::new("default", "web"));
        let message = |store: &StatusStore| store.status(&uid).message;
        store.set_waits_for(&uid, Some(&old));
        assert_eq!(
            message(&store).as_deref(),
            Some("waits for pod default/web (old) to end")
        );
        store.set_waits_for(&uid, None);
        assert_eq!(message(&store), None);
        let failed = PodStatus {
            message: Some("why".into()),
            start_time: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                Timestamp::UNIX_EPOCH,
            )),
            ..PodStatus::default()
        };
        store.set_status(&uid, &failed);
        store.set_waits_for(&uid, None);
        assert_eq!(message(&store).as_deref(), Some("why"));
    }

    #[test]
    fn a_new_pod_shows_what_its_source_says_until_its_worker_knows_more() {
        let store = StatusStore::default();
        let uid = PodUid::new("a");
        store.set_desired(&pod("a"));
        assert_eq!(store.desired()[0].status.phase.as_deref(), Some("Pending"));
        let running = PodStatus {
            phase: Some("Running".into()),
            ..PodStatus::default()
        };
        store.set_status(&uid, &running);
        store.set_desired(&pod("a"));
        assert_eq!(store.desired()[0].status, running);
        store.remove_desired(&uid);
        store.set_status(&uid, &running);
        assert!(store.desired().is_empty());
    }
}
