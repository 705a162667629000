//! Our own calls and the cache: read-your-writes without asking twice.

use std::sync::Arc;

use super::{Hub, lock};
use crate::engine::EngineError;
use crate::state::Record;

/// A call of ours that changes a container. While it lasts, Docker's events about that container
/// don't cause inspects; at its end one inspect tells all. If it is dropped instead, the inspect is
/// made in the background, so nothing is missed.
#[derive(Debug)]
pub(crate) struct Operation {
    hub: Arc<Hub>,
    /// Id or name.
    key: String,
    /// The container's id, once known.
    id: Option<String>,
    finished: bool,
}

impl Hub {
    /// Begins a call on a container that is known by id, or by name while it has no id yet.
    pub(crate) fn begin(self: &Arc<Self>, key: &str, id: Option<&str>) -> Operation {
        *lock(&self.busy).entry(key.to_owned()).or_default() += 1;
        Operation {
            hub: Arc::clone(self),
            key: key.to_owned(),
            id: id.map(str::to_owned),
            finished: false,
        }
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
        self.finished = record.is_ok();
        record
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
        {
            let mut busy = lock(&self.hub.busy);
            if let Some(count) = busy.get_mut(&self.key) {
                *count -= 1;
                if *count == 0 {
                    busy.remove(&self.key);
                }
            }
        }
        if !self.finished
            && let Some(id) = &self.id
        {
            self.hub.schedule(id);
        }
    }
}
