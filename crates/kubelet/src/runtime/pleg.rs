//! How the kubelet learns what happened in the runtime (DEC-02).
//!
//! Owner task: [`Pleg::run`]. Events of `GetContainerEvents` wake the pod's worker, which reads the
//! pod's status itself. Where the runtime has no such call the state of everything is listed each
//! second and compared (kubelet LIFE-21). A stream that broke is opened anew; what happened in
//! between is covered by waking every worker. Nothing survives a restart, nothing needs to.
//!
//! ```text
//!  connect ──ok──> streaming ──broken──> wait (100 ms .. 5 s) ──> connect
//!     └──Unimplemented──> relisting (each second, for good)
//! ```

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use cri_api::v1;
use daemon::ErrorChain;
use kubelet_core::ids::PodUid;
use tokio_util::sync::CancellationToken;

use super::{
    client::{CriClient, CriError},
    wakes::Wakes,
};
use crate::metrics::Metrics;

/// Between two lists where there are no events (LIFE-02).
const RELIST_PERIOD: Duration = Duration::from_secs(1);
/// Wait before a broken stream is opened anew: doubling from here.
const RECONNECT_MIN: Duration = Duration::from_millis(100);
/// The longest such wait.
const RECONNECT_MAX: Duration = Duration::from_secs(5);
/// The label that ties an object of the runtime to its pod (CRI-05).
const UID_LABEL: &str = "io.kubernetes.pod.uid";

/// The event generator.
#[derive(Debug)]
pub(crate) struct Pleg {
    pub(crate) runtime: CriClient,
    pub(crate) wakes: Arc<Wakes>,
    pub(crate) metrics: Metrics,
}

/// Why a stream ended.
enum Ended {
    Unimplemented,
    Broken(String),
}

impl Pleg {
    /// Watches the runtime until the token is cancelled.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let watch = async {
            let mut wait = RECONNECT_MIN;
            loop {
                let opened = tokio::time::Instant::now();
                match self.stream().await {
                    Ended::Unimplemented => {
                        tracing::info!("the runtime has no event stream, listing it each second");
                        self.relist_forever().await;
                    }
                    Ended::Broken(reason) => {
                        if opened.elapsed() > RECONNECT_MAX {
                            wait = RECONNECT_MIN;
                        }
                        self.metrics.evented_pleg_errors.inc();
                        tracing::warn!(reason = %reason, retry_ms = wait.as_millis(),
                            "the runtime's event stream broke");
                        tokio::time::sleep(wait).await;
                        wait = (wait * 2).min(RECONNECT_MAX);
                    }
                }
            }
        };
        tokio::select! {
            biased;
            // cancel-safe: a token.
            () = shutdown.cancelled() => {}
            // cancel-safe: dropped for good.
            () = watch => {}
        }
    }

    async fn stream(&self) -> Ended {
        let mut events = match self.runtime.container_events().await {
            Ok(events) => events,
            Err(error) if error.is_unimplemented() => return Ended::Unimplemented,
            Err(error) => return Ended::Broken(ErrorChain(&error).to_string()),
        };
        self.metrics.evented_pleg_connections.inc();
        // Whatever happened before the stream stood.
        self.wakes.wake_all();
        loop {
            self.seen();
            match events.message().await {
                Ok(Some(event)) => {
                    if is_end_of_sandbox(&event) {
                        self.wakes.sandbox_has_gone();
                    }
                    match event_uid(&event) {
                        Some(uid) => self.wakes.wake(&uid),
                        None => self.wakes.wake_all(),
                    }
                }
                Ok(None) => return Ended::Broken("closed by the runtime".to_owned()),
                Err(status) if status.code() == cri_api::Code::Unimplemented => {
                    return Ended::Unimplemented;
                }
                Err(status) => return Ended::Broken(status.message().to_owned()),
            }
        }
    }

    async fn relist_forever(&self) {
        let mut before: Option<BTreeMap<PodUid, Vec<(String, i32)>>> = None;
        let mut ticks = tokio::time::interval(RELIST_PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            ticks.tick().await;
            match self.snapshot().await {
                Ok(now) => {
                    failing = false;
                    self.seen();
                    match &before {
                        None => self.wakes.wake_all(),
                        Some(before) => {
                            let changed = changed(before, &now);
                            if !changed.is_empty() {
                                self.wakes.sandbox_has_gone();
                            }
                            for uid in changed {
                                self.wakes.wake(uid);
                            }
                        }
                    }
                    before = Some(now);
                }
                Err(error) => {
                    if !failing {
                        tracing::error!(error = %ErrorChain(&error), "relist");
                    }
                    failing = true;
                }
            }
        }
    }

    /// The state of everything in the runtime, by pod.
    async fn snapshot(&self) -> Result<BTreeMap<PodUid, Vec<(String, i32)>>, CriError> {
        let mut pods: BTreeMap<PodUid, Vec<(String, i32)>> = BTreeMap::new();
        for sandbox in self.runtime.list_pod_sandboxes(None).await? {
            if let Some(uid) = sandbox.labels.get(UID_LABEL) {
                pods.entry(PodUid::new(uid))
                    .or_default()
                    .push((sandbox.id, sandbox.state));
            }
        }
        for container in self.runtime.list_containers(None).await? {
            if let Some(uid) = container.labels.get(UID_LABEL) {
                pods.entry(PodUid::new(uid))
                    .or_default()
                    .push((container.id, container.state));
            }
        }
        for states in pods.values_mut() {
            states.sort();
        }
        Ok(pods)
    }

    fn seen(&self) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.metrics
            .pleg_last_seen
            .with_label_values::<&str>(&[])
            .set(now.as_secs_f64());
    }
}

/// The pod that an event is about, where it says so.
fn event_uid(event: &v1::ContainerEventResponse) -> Option<PodUid> {
    let sandbox = event.pod_sandbox_status.as_ref()?;
    let uid = sandbox
        .metadata
        .as_ref()
        .map(|metadata| metadata.uid.as_str())?;
    (!uid.is_empty()).then(|| PodUid::new(uid))
}

/// A sandbox's own events carry its id in the place of a container's.
fn is_end_of_sandbox(event: &v1::ContainerEventResponse) -> bool {
    let sandbox = event.pod_sandbox_status.as_ref();
    event.container_event_type == v1::ContainerEventType::ContainerDeletedEvent as i32
        && sandbox.is_none_or(|sandbox| sandbox.id == event.container_id)
}

/// The pods whose state is not what it was.
fn changed<'a, T: PartialEq>(
    before: &'a BTreeMap<PodUid, T>,
    now: &'a BTreeMap<PodUid, T>,
) -> Vec<&'a PodUid> {
    let gone = before.keys().filter(|uid| !now.contains_key(*uid));
    let other = now
        .iter()
        .filter(|(uid, state)| before.get(*uid) != Some(*state));
    gone.chain(other.map(|(uid, _)| uid)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_pods_are_those_that_are_new_gone_or_different() {
        let pods = |all: &[(&str, i32)]| -> BTreeMap<PodUid, i32> {
            all.iter()
                .map(|(uid, state)| (PodUid::new(*uid), *state))
                .collect()
        };
        let (before, now) = (
            pods(&[("a", 0), ("b", 0), ("c", 0)]),
            pods(&[("a", 0), ("b", 1), ("d", 0)]),
        );
        let changed: Vec<String> = changed(&before, &now)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(changed, ["c", "b", "d"]);
    }
}
