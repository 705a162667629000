//! Where pods come from. Each source publishes its newest full set; nobody sees an older one
//! after a newer (kubelet SRC-45: a source is ready with its first set).

pub(crate) mod file;
pub(crate) mod http;

use std::{path::PathBuf, sync::Arc};

use k8s_openapi::api::core::v1::Pod;
use kubelet_core::manifest;
use tokio::sync::watch;

/// One pod of a source, defaulted, validated and named (SRC-20 to SRC-25).
pub(crate) type SourcePod = Arc<Pod>;

/// The newest full set of a source; `None` until the source is ready.
pub(crate) type SourceSet = Option<Arc<Vec<SourcePod>>>;

/// A file or URL that a source looks at, for those who only read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ManifestFile {
    /// The file, or the whole path where that cannot be read; the URL.
    pub(crate) path: PathBuf,
    /// What it asks for: by what it says, or by what it said before it broke.
    pub(crate) pod: Option<SourcePod>,
    /// What is wrong with it now.
    pub(crate) errors: Vec<String>,
}

/// Waits until one of the sources has a newer set. Cancel-safe.
pub(crate) async fn any_changed(sources: &mut [watch::Receiver<SourceSet>]) {
    let waits = sources.iter_mut().map(|source| {
        Box::pin(async move {
            // A source that has ended never changes again; its last set stays.
            if source.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    });
    let waits: Vec<_> = waits.collect();
    if waits.is_empty() {
        std::future::pending::<()>().await;
    } else {
        futures_util::future::select_all(waits).await;
    }
}

/// What was read again with the same content keeps its pod, and with it the time it was first seen.
pub(crate) fn unchanged_or_new(before: Option<SourcePod>, mut after: Pod) -> SourcePod {
    let Some(before) = before else {
        return Arc::new(after);
    };
    if before.metadata.uid == after.metadata.uid
        && let Some(seen) = before
            .metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(manifest::CONFIG_SEEN))
        && let Some(annotations) = &mut after.metadata.annotations
    {
        annotations.insert(manifest::CONFIG_SEEN.to_owned(), seen.clone());
    }
    if *before == after {
        before
    } else {
        Arc::new(after)
    }
}
