//! What the handles of one group share.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{TaskError, TaskName};
use crate::ErrorChain;

/// Failures kept until the owner takes them.
const FAILURES: usize = 64;

#[derive(Debug)]
pub(super) struct State {
    pub(super) name: &'static str,
    /// Asks tasks to end.
    pub(super) token: CancellationToken,
    /// Drops tasks where they stand.
    pub(super) abort: CancellationToken,
    tasks: Mutex<Tasks>,
    /// Signalled at each failure and whenever the last task has gone.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Tasks {
    next: u64,
    running: BTreeMap<u64, TaskName>,
    failures: VecDeque<TaskError>,
}

/// A task's place in the group's list, given up when the task is dropped, however that happens.
#[derive(Debug)]
pub(super) struct Entry {
    state: Arc<State>,
    id: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let empty = {
            let mut tasks = self.state.lock();
            tasks.running.remove(&self.id);
            tasks.running.is_empty()
        };
        if empty {
            self.state.changed.notify_waiters();
        }
    }
}

impl State {
    pub(super) fn new(name: &'static str, token: CancellationToken) -> Self {
        Self {
            name,
            token,
            abort: CancellationToken::new(),
            tasks: Mutex::default(),
            changed: Notify::new(),
        }
    }

    pub(super) fn enter(state: &Arc<Self>, name: TaskName) -> Entry {
        let mut tasks = state.lock();
        let id = tasks.next;
        tasks.next += 1;
        tasks.running.insert(id, name);
        Entry {
            state: Arc::clone(state),
            id,
        }
    }

    pub(super) fn running(&self) -> Vec<String> {
        self.lock()
            .running
            .values()
            .map(|name| name.clone().into_owned())
            .collect()
    }

    pub(super) fn fail(&self, failure: TaskError) {
        let kept = {
            let mut tasks = self.lock();
            if tasks.failures.len() < FAILURES {
                tasks.failures.push_back(failure);
                None
            } else {
                Some(failure)
            }
        };
        if let Some(failure) = kept {
            tracing::error!(group = self.name, error = %ErrorChain(&failure), "task failure not taken by its owner");
        }
        self.changed.notify_waiters();
    }

    pub(super) fn take_failure(&self) -> Option<TaskError> {
        self.lock().failures.pop_front()
    }

    pub(super) async fn failed(&self) -> TaskError {
        self.wait_for(Self::take_failure).await
    }

    pub(super) async fn empty(&self) {
        self.wait_for(|state| state.lock().running.is_empty().then_some(()))
            .await;
    }

    /// Waits for a level: listens first, looks second, so that no change falls between.
    async fn wait_for<T>(&self, look: impl Fn(&Self) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            if let Some(value) = look(self) {
                return value;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tasks> {
        // Nothing under this lock can panic half-way through a change.
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
