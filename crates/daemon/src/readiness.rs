//! What a daemon still waits for before it is ready.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// A list of named things that are not ready yet. Ready when the list is empty.
///
/// Register everything before asking: a readiness to which nothing was ever added is ready.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<Pending>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    next: u64,
    names: BTreeMap<u64, String>,
}

/// Holds readiness back until it is dropped.
#[derive(Debug)]
pub struct ReadyGuard {
    shared: Arc<Shared>,
    id: u64,
}

impl Readiness {
    /// With nothing pending.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a thing to wait for; drop the guard when it is ready.
    pub fn register(&self, name: impl Into<String>) -> ReadyGuard {
        let mut pending = self.0.lock();
        let id = pending.next;
        pending.next += 1;
        pending.names.insert(id, name.into());
        ReadyGuard {
            shared: Arc::clone(&self.0),
            id,
        }
    }

    /// What is not ready, in the order of registration.
    pub fn pending(&self) -> Vec<String> {
        self.0.lock().names.values().cloned().collect()
    }

    /// Waits until nothing is pending. Cancel-safe.
    pub async fn ready(&self) {
        loop {
            // Listen first, look second.
            let changed = self.0.changed.notified();
            if self.0.lock().names.is_empty() {
                return;
            }
            changed.await;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ReadyGuard {
    fn drop(&mut self) {
        self.shared.lock().names.remove(&self.id);
        self.shared.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_when_the_last_guard_is_dropped() {
        let readiness = Readiness::new();
        let runtime = readiness.register("runtime");
        let server = readiness.register("server");
        assert_eq!(readiness.pending(), ["runtime", "server"]);
        drop(runtime);
        assert_eq!(readiness.pending(), ["server"]);
        let waiting = readiness.ready();
        drop(server);
        waiting.await;
    }
}
