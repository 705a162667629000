//! Our own calls and the cache: read-your-writes without asking twice.

use std::sync::Arc;
use std::time::Instant;

use super::Hub;
use crate::engine::{Class, EngineError};
use crate::lock::lock;
use crate::state::Record;

/// A call of ours that changes a container. While it lasts, Docker's events about that container
/// don't cause inspects; at its end one inspect tells all, and another is made only for what
/// happened after that one was asked. If the call is dropped instead, the inspect is made in the
/// background, so nothing is missed.
#[derive(Debug)]
pub(crate) struct Operation {
    hub: Arc<Hub>,
    /// Id or name.
    key: String,
    /// The container's id, once known.
    id: Option<String>,
    finished: bool,
}

/// What is known of a container that calls of ours work on.
#[derive(Debug, Default)]
pub(super) struct Busy {
    /// How many.
    calls: usize,
    /// The last `die` that caused no inspect.
    died: Option<Instant>,
    /// The last other event that caused none.
    missed: Option<Instant>,
}

impl Busy {
    /// An event about the container that causes no inspect now.
    pub(super) fn miss(&mut self, action: &str, time: Instant) {
        let last = if action == "die" {
            &mut self.died
        } else {
            &mut self.missed
        };
        *last = (*last).max(Some(time));
    }
}

impl Hub {
    /// Begins a call on a container that is known by id, or by name while it has no id yet.
    pub(crate) fn begin(self: &Arc<Self>, key: &str, id: Option<&str>) -> Operation {
        lock(&self.busy).entry(key.to_owned()).or_default().calls += 1;
        Operation {
            hub: Arc::clone(self),
            key: key.to_owned(),
            id: id.map(str::to_owned),
            finished: false,
        }
    }
}

impl Hub {
    /// Whether a call of ours other than the asker's own, which began by `name`, works on the container
    /// of that name.
    pub(crate) fn is_worked_on(&self, name: &str, id: &str) -> bool {
        let busy = lock(&self.busy);
        busy.get(name).is_some_and(|entry| entry.calls > 1) || busy.contains_key(id)
    }
}

impl Operation {
    /// Docker gave the container its id.
    pub(crate) fn created(&mut self, id: &str) {
        self.id = Some(id.to_owned());
    }

    /// Ends with one inspect; the cache holds its answer. `None` when the container is gone.
    ///
    /// # Errors
    /// As the inspect.
    pub(crate) async fn finish(mut self) -> Result<Option<Arc<Record>>, EngineError> {
        let Some(id) = self.id.clone() else {
            self.finished = true;
            return Ok(None);
        };
        let record = self.hub.refresh(&id).await;
        self.finished = true;
        match &record {
            Ok(_) => {}
            // The call has had its effect, and nothing older may be answered any more.
            Err(error) if error.is_lost() => self.hub.distrust(),
            Err(error) => self.hub.doubt(&id, Some(error)),
        }
        record
    }

    /// Ends with a failure. What Docker refused is looked at once more; where only its answer was
    /// lost, the call may have had its effect, and nothing older may be answered any more.
    pub(crate) async fn failed(mut self, error: &EngineError) {
        let id = self.id.clone();
        match (error.class(), id) {
            (Class::Timeout, Some(id)) => {
                self.finished = true;
                self.hub.doubt(&id, None);
            }
            (Class::Unavailable | Class::Timeout, _) => {
                self.finished = true;
                self.hub.distrust();
            }
            // Its failure is told by the cache.
            _ => drop(self.finish().await),
        }
    }

    /// Ends with the knowledge that the container is gone.
    pub(crate) fn removed(mut self) {
        self.finished = true;
        if let Some(id) = &self.id {
            self.hub.removed(id);
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        let mut missed = [("die", None), ("", None)];
        {
            let mut busy = lock(&self.hub.busy);
            if let Some(entry) = busy.get_mut(&self.key) {
                entry.calls -= 1;
                missed = [("die", entry.died), ("", entry.missed)];
                if entry.calls == 0 {
                    busy.remove(&self.key);
                }
            }
        }
        let Some(id) = &self.id else {
            return;
        };
        let is_new = |(action, time): &(&str, Option<Instant>)| {
            time.is_some_and(|time| !self.hub.is_told(id, action, time))
        };
        let is_gone = self.finished && lock(&self.hub.cache).get(id).is_none();
        if !self.finished {
            // What has become of it is not known, and not to be guessed.
            self.hub.doubt(id, None);
        } else if !is_gone && missed.iter().any(is_new) {
            self.hub.schedule(id);
        }
    }
}
