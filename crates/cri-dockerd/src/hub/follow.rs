//! Docker's events: hints to look again.

use std::sync::Arc;
use std::time::Instant;

use super::doubt::LOOK;
use super::{Hub, stamp};
use crate::clock::now;
use crate::engine::Event;
use crate::labels;
use crate::lock::lock;
use crate::state::Life;

impl Hub {
    /// Takes one event of Docker's.
    pub(super) fn take_event(self: &Arc<Self>, event: &Event) {
        let id = event.actor.id.as_str();
        if event.kind == "image" {
            self.image_generation
                .send_modify(|generation| *generation += 1);
            lock(&self.images).clear();
            return;
        }
        let action = event.action.split(':').next().unwrap_or_default();
        let attribute = |name: &str| event.actor.attributes.get(name).map(String::as_str);
        match action {
            "exec_die" => {
                let waiting = attribute("execID").and_then(|exec| lock(&self.execs).remove(exec));
                if let Some(waiting) = waiting {
                    let code = attribute("exitCode").and_then(|code| code.parse().ok());
                    // The caller may have gone.
                    let _ = waiting.send(code.unwrap_or_default());
                }
            }
            // Of commands in containers: they change nothing of the container.
            "exec_create" | "exec_start" | "exec_detach" => {}
            _ if !event.actor.attributes.contains_key(labels::TYPE) => {}
            "kill" => {
                if attribute("signal") == Some("9") {
                    self.kills(id);
                }
            }
            "destroy" => {
                lock(&self.starts).remove(id);
                self.removed(id);
            }
            _ => {
                let mut time = Instant::now();
                if self.same_clock {
                    time = stamp::happened(event.time_nano, now(), time);
                }
                if matches!(action, "start" | "restart") {
                    lock(&self.starts).insert(id.to_owned(), time);
                    lock(&self.killed).remove(id);
                }
                let mut is_busy = false;
                for key in [Some(id), attribute("name")].into_iter().flatten() {
                    if let Some(busy) = lock(&self.busy).get_mut(key) {
                        busy.miss(action, time);
                        is_busy = true;
                    }
                }
                if !is_busy && !self.is_told(id, action, time) {
                    self.schedule(id);
                }
            }
        }
    }

    /// Whether what an event tells is in the cache. `time` is when it happened, as far as Docker's
    /// clock tells, else when it came.
    ///
    /// What happened before the question was asked is in the answer. Docker tells of a death after
    /// it has answered the stop; an answer that has the container dead has that death too, unless
    /// it was started again in between.
    pub(super) fn is_told(&self, id: &str, action: &str, time: Instant) -> bool {
        let cache = lock(&self.cache);
        let (Some(asked), Some(record)) = (cache.asked_at(id), cache.get(id)) else {
            return false;
        };
        let last_start = lock(&self.starts).get(id).copied();
        let is_dead = matches!(record.life, Life::Exited { .. });
        time < asked || (action == "die" && is_dead && last_start.is_none_or(|start| start < asked))
    }

    /// Has a container inspected soon. One waiting inspect serves all events before it begins.
    pub(super) fn schedule(self: &Arc<Self>, id: &str) {
        if self.is_doubted(id) {
            // It is looked at anyway, and once more after this.
            self.doubt(id, None);
            return;
        }
        if !lock(&self.pending).insert(id.to_owned()) {
            return;
        }
        let (hub, id) = (Arc::clone(self), id.to_owned());
        self.spawner.spawn_job("refresh", async move {
            let Ok(_permit) = hub.inspects.acquire().await else {
                return;
            };
            lock(&hub.pending).remove(&id);
            let Err(error) = hub.refresh_within(&id, LOOK).await else {
                return;
            };
            tracing::warn!(container.id = id, %error, "can't inspect a container after an event");
            // The cache now lacks something.
            if error.is_lost() {
                hub.distrust();
            } else {
                hub.doubt(&id, Some(&error));
            }
        });
    }
}
