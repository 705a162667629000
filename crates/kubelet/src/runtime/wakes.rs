//! "Look again": how news about a pod reaches its worker. News carries no data and cannot be lost
//! by a full queue: a worker that was told twice looks once.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use kubelet_core::ids::PodUid;
use tokio::sync::Notify;

/// The bell of each worker, and one for pods that have none.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    workers: Mutex<BTreeMap<PodUid, Arc<Notify>>>,
    /// Rung when the runtime speaks of a pod that has no worker.
    unknown: Notify,
    /// Rung when a sandbox may have gone, by whose hand ever.
    sandboxes: Notify,
}

impl Wakes {
    /// The bell of a new worker.
    pub(crate) fn register(&self, uid: &PodUid) -> Arc<Notify> {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.entry(uid.clone()).or_default().clone()
    }

    /// Takes the bell of a worker that has ended away.
    pub(crate) fn forget(&self, uid: &PodUid) {
        self.workers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
    }

    /// Something happened to this pod.
    pub(crate) fn wake(&self, uid: &PodUid) {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        match workers.get(uid) {
            Some(bell) => bell.notify_one(),
            None => self.unknown.notify_one(),
        }
    }

    /// Anything may have happened to any pod.
    pub(crate) fn wake_all(&self) {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        for bell in workers.values() {
            bell.notify_one();
        }
        self.unknown.notify_one();
        self.sandboxes.notify_one();
    }

    /// A sandbox has gone.
    pub(crate) fn sandbox_has_gone(&self) {
        self.sandboxes.notify_one();
    }

    /// Waits until a sandbox may have gone. Cancel-safe.
    pub(crate) async fn gone_sandbox(&self) {
        self.sandboxes.notified().await;
    }

    /// Waits until the runtime speaks of a pod that has no worker. Cancel-safe.
    pub(crate) async fn unknown_pod(&self) {
        self.unknown.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn news_about_a_pod_reaches_its_worker_and_news_about_others_the_loop() {
        let wakes = Wakes::default();
        let uid = PodUid::new("a");
        let bell = wakes.register(&uid);
        wakes.wake(&uid);
        wakes.wake(&uid);
        bell.notified().await;
        wakes.wake(&PodUid::new("b"));
        wakes.unknown_pod().await;
        wakes.forget(&uid);
        wakes.wake(&uid);
        wakes.unknown_pod().await;
    }
}
