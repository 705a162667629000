//! What users read when an image cannot be had: the runtime's words, as upstream passes them on.

use std::time::Duration;

use cri_api::Code;
use kubelet_core::reasons::WaitingReason;

use crate::runtime::client::CriError;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Sizes of images by their label in the series of pulls (IMG-21): each is over the bound.
const SIZES: [(u64, &str); 12] = [
    (100 * GIB, "GT100GB"),
    (60 * GIB, "60GB-100GB"),
    (40 * GIB, "40GB-60GB"),
    (30 * GIB, "30GB-40GB"),
    (20 * GIB, "20GB-30GB"),
    (10 * GIB, "10GB-20GB"),
    (5 * GIB, "5GB-10GB"),
    (GIB, "1GB-5GB"),
    (500 * MIB, "500MB-1GB"),
    (100 * MIB, "100MB-500MB"),
    (10 * MIB, "10MB-100MB"),
    (0, "0-10MB"),
];

/// The label of an image of that size.
pub(super) fn size_label(bytes: u64) -> &'static str {
    let found = SIZES.iter().find(|(bound, _)| bytes > *bound);
    found.map_or("N/A", |(_, label)| label)
}

/// As [`CriError::rpc_text`], but a code that says nothing is left out. Source of behaviour: Kubernetes
/// `cri-client`, `pullImageV1`.
pub(super) fn pull_text(image: &str, error: &CriError) -> String {
    match error {
        CriError::Call { source, .. } if source.code == Code::Unknown => source.message.clone(),
        CriError::Incomplete { .. } => format!("imageRef of image {image:?} is not set"),
        other => other.rpc_text(),
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
