//! Why a container did not start, and when the next attempt is due (kubelet LIFE-04).

use jiff::Timestamp;
use kubelet_core::{actions::StartFailure, backoff::later, reasons::WaitingReason};

use super::super::{RETRY_AFTER_ERROR, jittered};
use crate::{clock, images::ImageError};

/// A container that did not start.
pub(in crate::pod_workers) struct NotStarted {
    pub(in crate::pod_workers) failure: StartFailure,
    /// Nothing is wrong with the container: the runtime is not there.
    pub(in crate::pod_workers) runtime_down: bool,
}

impl NotStarted {
    /// It is tried again after a while.
    pub(in crate::pod_workers) fn waiting(reason: WaitingReason, message: String) -> Self {
        Self {
            failure: StartFailure {
                reason,
                message,
                retry_at: Some(retry_at()),
                made: None,
            },
            runtime_down: false,
        }
    }

    /// It waits for an image.
    pub(in crate::pod_workers) fn no_image(error: ImageError) -> Self {
        Self {
            failure: StartFailure {
                reason: error.reason,
                message: error.message,
                retry_at: error.retry_at.or_else(|| Some(retry_at())),
                made: None,
            },
            runtime_down: false,
        }
    }
}

fn retry_at() -> Timestamp {
    later(clock::now(), jittered(RETRY_AFTER_ERROR))
}
