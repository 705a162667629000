//! Why a container did not start, and when the next attempt is due (kubelet LIFE-04).

use std::time::Duration;

use kubelet_core::{
    actions::{ContainerStart, MadeContainer, StartFailure},
    moment::Moment,
    reasons::WaitingReason,
};

use super::super::{RETRY_AFTER_ERROR, jittered};
use crate::images::ImageError;

/// A container that did not start.
pub(in crate::pod_workers) struct NotStarted {
    /// `waiting.reason` of the container.
    pub(in crate::pod_workers) reason: WaitingReason,
    message: String,
    retry_after: Option<Duration>,
    /// A container was made, for this attempt.
    made: Option<u32>,
    /// Nothing is wrong with the container: the runtime is not there.
    pub(in crate::pod_workers) runtime_down: bool,
}

impl NotStarted {
    /// It is tried again after a while.
    pub(in crate::pod_workers) fn waiting(reason: WaitingReason, message: String) -> Self {
        Self {
            reason,
            message,
            retry_after: Some(retry_after()),
            made: None,
            runtime_down: false,
        }
    }

    /// A container was made, and did not start or did not stay: its end says how long the next start waits (CTR-22).
    pub(in crate::pod_workers) fn made(
        start: &ContainerStart,
        reason: WaitingReason,
        message: String,
    ) -> Self {
        Self {
            made: Some(start.attempt),
            ..Self::waiting(reason, message)
        }
    }

    /// It waits for an image.
    pub(in crate::pod_workers) fn no_image(error: ImageError) -> Self {
        Self {
            retry_after: error.retry_after.or_else(|| Some(retry_after())),
            ..Self::waiting(error.reason, error.message)
        }
    }

    /// For decisions, at this moment of their clock.
    pub(in crate::pod_workers) fn at(self, moment: Moment) -> StartFailure {
        StartFailure {
            reason: self.reason,
            message: self.message,
            retry_at: self.retry_after.map(|wait| moment.saturating_add(wait)),
            made: self.made.map(|attempt| MadeContainer {
                attempt,
                failed_at: moment,
            }),
        }
    }
}

fn retry_after() -> Duration {
    jittered(RETRY_AFTER_ERROR)
}
