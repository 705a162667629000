//! The two gRPC services over the model.

mod filters;
mod images;
mod runtime;
mod stats;

use std::{sync::Arc, time::Duration};

use tonic::{Response, Status};

use super::{
    Shared, State,
    script::{Call, CallRecord},
};
use crate::replay;

type Answer<T> = Result<Response<T>, Status>;

#[derive(Debug, Clone)]
pub(super) struct Service {
    shared: Arc<Shared>,
}

impl Service {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Records a call, lets it wait or fail as the test asked, then does it.
    async fn answer<T>(
        &self,
        call: Call,
        object: &str,
        work: impl FnOnce(&mut State) -> Result<T, Status>,
    ) -> Answer<T> {
        self.enter(call, object).await?;
        let (answer, lost) = self.shared.change(|state| {
            let answer = work(state);
            (answer, state.script.loses_answer(call))
        });
        replay::travel().await;
        if lost {
            return Err(Status::unavailable("the answer was lost"));
        }
        answer.map(Response::new)
    }

    async fn enter(&self, call: Call, object: &str) -> Result<(), Status> {
        let (gate, failure) = self.shared.note(|script| {
            script.calls.push(CallRecord {
                call,
                object: object.to_owned(),
                at: replay::now(),
            });
            (script.holds.get(&call).cloned(), script.take_failure(call))
        });
        if let Some(gate) = gate {
            gate.cancelled().await;
        }
        replay::travel().await;
        match failure {
            Some(failure) => Err(Status::new(failure.code, failure.message)),
            None => Ok(()),
        }
    }

    /// Waits until a container that ignores its stop signal has ended otherwise, or its grace period
    /// is over; then it is killed.
    async fn outlast(&self, id: &str, grace: Duration) {
        let mut changes = self.shared.changed.subscribe();
        let ended = async {
            loop {
                if self.shared.lock().model.running(id).is_err() {
                    return;
                }
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(grace, ended).await.is_err() {
            self.shared
                .change(|state| state.model.end(id, 137, "Error"));
        }
    }
}
