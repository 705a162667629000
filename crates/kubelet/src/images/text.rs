//! What users read when an image cannot be had: the runtime's words, as upstream passes them on.

use std::time::Duration;

use cri_api::Code;
use kubelet_core::reasons::WaitingReason;

use crate::runtime::client::CriError;

/// The runtime's error as Go prints it: users match on these words (ERR-05).
pub(super) fn call_text(error: &CriError) -> String {
    match error {
        CriError::Call { source, .. } => {
            let code = match source.code {
                Code::Cancelled => "Canceled".to_owned(),
                code => format!("{code:?}"),
            };
            format!("rpc error: code = {code} desc = {}", source.message)
        }
        other => other.to_string(),
    }
}

/// As [`call_text`], but a code that says nothing is left out. Source of behaviour: Kubernetes
/// `cri-client`, `pullImageV1`.
pub(super) fn pull_text(image: &str, error: &CriError) -> String {
    match error {
        CriError::Call { source, .. } if source.code == Code::Unknown => source.message.clone(),
        CriError::Incomplete { .. } => format!("imageRef of image {image:?} is not set"),
        other => call_text(other),
    }
}

/// Reason and message of a failed pull (IMG-05). Runtimes put two reasons in front of their words.
/// Source of behaviour: Kubernetes `evalCRIPullErr`.
pub(super) fn classify(image: &str, text: &str) -> (WaitingReason, String) {
    let known = [
        (
            WaitingReason::RegistryUnavailable,
            "the registry is unavailable",
        ),
        (
            WaitingReason::SignatureValidationFailed,
            "the signature validation failed",
        ),
    ];
    for (reason, cause) in known {
        if let Some(rest) = text.strip_prefix(reason.as_str()) {
            return (
                reason,
                format!("image pull failed for {image} because {cause}{rest}"),
            );
        }
    }
    (WaitingReason::ErrImagePull, text.to_owned())
}

/// Whole milliseconds, as the event shows them.
pub(super) fn to_millis(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
