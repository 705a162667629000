//! Static pods of one full name run one after the other (SRC-40).

use std::collections::{BTreeMap, VecDeque};

use crate::ids::PodUid;

/// Who runs and who waits, by full name. The owner wakes the next as soon as the one before it has
/// finished; upstream looks again about every 10 s.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StaticStarts {
    started: BTreeMap<String, PodUid>,
    waiting: BTreeMap<String, VecDeque<PodUid>>,
}

impl StaticStarts {
    /// Nobody runs yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Queues a pod behind those of the same full name; once is enough.
    pub fn enqueue(&mut self, full_name: &str, uid: PodUid) {
        if self.started.get(full_name) == Some(&uid) {
            return;
        }
        let queue = self.waiting.entry(full_name.to_owned()).or_default();
        if !queue.contains(&uid) {
            queue.push_back(uid);
        }
    }

    /// Whether the pod may run now: it runs already, or it is the first in line and takes the place.
    pub fn may_start(&mut self, full_name: &str, uid: &PodUid) -> bool {
        if let Some(started) = self.started.get(full_name) {
            return started == uid;
        }
        match self.waiting.get_mut(full_name) {
            Some(queue) if queue.front() == Some(uid) => {
                queue.pop_front();
                if queue.is_empty() {
                    self.waiting.remove(full_name);
                }
            }
            Some(queue) if !queue.is_empty() => return false,
            _ => {}
        }
        self.started.insert(full_name.to_owned(), uid.clone());
        true
    }

    /// The pod is over, or it will never start: it leaves its place or the line. Returns the pod
    /// that is to be woken.
    pub fn leave(&mut self, full_name: &str, uid: &PodUid) -> Option<PodUid> {
        if let Some(queue) = self.waiting.get_mut(full_name) {
            queue.retain(|waiting| waiting != uid);
            if queue.is_empty() {
                self.waiting.remove(full_name);
            }
        }
        if self.started.get(full_name) == Some(uid) {
            self.started.remove(full_name);
        }
        if self.started.contains_key(full_name) {
            return None;
        }
        self.waiting
            .get(full_name)
            .and_then(|queue| queue.front())
            .cloned()
    }
}
