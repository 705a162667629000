//! The URL source: one Pod or a PodList, asked for at intervals (kubelet section 2.2).
//!
//! Owner task: [`HttpSource::run`]. Input: the URL, at once and then each `httpCheckFrequency` after an
//! answer. Output: the newest full set on a `watch`, and on another what the URL is good for. Nothing survives a restart.
//!
//! A failure keeps the last set (SRC-12). Three failures in a row are told as warnings, the fourth
//! once more with the news that further ones are told at V(4) only; the next success is told.
//!
//! Differs (SRC-12): another failure than the last one is always told, and a bad answer that comes again
//! is not called a success.

mod fetch;
mod trust;

use std::{sync::Arc, time::Duration};

use daemon::ErrorChain;
use kubelet_core::{
    ids::{PodKey, pod_in_message},
    manifest::{self, Origin, Refused, StaticSource},
    quote::quote,
    reasons::EventReason,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::fetch::{FetchError, Headers};
pub(crate) use self::{fetch::Way, trust::TrustStores};
use super::{ManifestFile, SourcePod, SourceSet, unchanged_or_new};
use crate::events::{EventType, Events, ObjectRef};

/// Failures that are told as such (SRC-12).
const TOLD_FAILURES: u32 = 3;

/// What the URL source is told.
#[derive(Debug, Clone)]
pub(crate) struct HttpSourceConfig {
    /// `staticPodURL`.
    pub(crate) url: String,
    /// `staticPodURLHeader`; a header may have several values.
    pub(crate) headers: Headers,
    /// How to get there.
    pub(crate) way: Way,
    /// `httpCheckFrequency`.
    pub(crate) check_frequency: Duration,
    /// Suffix of pod names and part of uids.
    pub(crate) node_name: String,
    /// Where pods are told of that are not taken.
    pub(crate) events: Events,
}

/// Why the URL gave no pods.
#[derive(Debug, thiserror::Error)]
enum SourceError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("zero-length data received from {url}")]
    Empty { url: String },
    #[error(transparent)]
    Manifest(Refused),
}

impl SourceError {
    /// Everything that is wrong, each in a line.
    fn lines(&self) -> Vec<String> {
        match self {
            Self::Manifest(refused) => refused.error.lines(),
            other => vec![ErrorChain(other).to_string()],
        }
    }
}

/// Asks, decodes and publishes.
#[derive(Debug)]
pub(crate) struct HttpSource {
    config: HttpSourceConfig,
    /// The bytes of the last answer that was looked at, good or not.
    last: Vec<u8>,
    /// Whether it gave pods.
    last_is_good: bool,
    pods: Vec<SourcePod>,
    failures: u32,
    /// The last failure's words.
    failure: String,
    /// What is wrong with the last answer that was looked at.
    errors: Vec<String>,
    sets: watch::Sender<SourceSet>,
    shown: watch::Sender<Vec<ManifestFile>>,
}

impl HttpSource {
    /// A source that shows there what its answer is good for, and where its sets appear.
    pub(crate) fn new(
        config: HttpSourceConfig,
        shown: watch::Sender<Vec<ManifestFile>>,
    ) -> (Self, watch::Receiver<SourceSet>) {
        let (sets, receiver) = watch::channel(None);
        let source = Self {
            config,
            last: Vec::new(),
            last_is_good: false,
            pods: Vec::new(),
            failures: 0,
            failure: String::new(),
            errors: Vec::new(),
            sets,
            shown,
        };
        (source, receiver)
    }

    /// Asks until the token is cancelled.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        tracing::info!(URL = %self.config.url, "Watching URL");
        loop {
            tokio::select! {
                biased;
                // cancel-safe: a token.
                () = shutdown.cancelled() => return,
                // cancel-safe: dropped for good.
                () = async {
                    let outcome = self.look().await;
                    self.show(&outcome);
                    self.tell(outcome);
                    tokio::time::sleep(self.config.check_frequency).await;
                } => {}
            }
        }
    }

    /// False: the same bad answer as before.
    ///
    /// Differs (SRC-10): pods that the URL takes away with an empty answer come back with the same answer as before it;
    /// upstream takes that for no news, and they stay away until it says something else.
    async fn look(&mut self) -> Result<bool, SourceError> {
        let url = self.config.url.clone();
        let body = fetch::get(&url, &self.config.headers, &self.config.way).await?;
        if body.is_empty() {
            // Said as a failure, and still a set: the source is ready and wants nothing (SRC-11).
            self.last = Vec::new();
            self.publish(Vec::new());
            return Err(SourceError::Empty { url });
        }
        if body == self.last {
            return Ok(self.last_is_good);
        }
        self.last = body;
        self.last_is_good = false;
        let source = StaticSource {
            node_name: self.config.node_name.clone(),
            origin: Origin::Url(url),
            first_seen: jiff::Timestamp::now(),
        };
        let bytes = self.last.clone();
        let loaded = daemon::blocking(move || manifest::load_static_url(&bytes, &source)).await;
        let loaded = loaded.map_err(|source| {
            for warning in &source.warnings {
                tracing::warn!(URL = %self.config.url, warning = %warning, "manifest");
            }
            SourceError::Manifest(source)
        })?;
        let mut pods = Vec::with_capacity(loaded.len());
        for loaded in loaded {
            for warning in &loaded.warnings {
                tracing::warn!(URL = %self.config.url, warning = %warning, "manifest");
            }
            let before = self
                .pods
                .iter()
                .find(|pod| pod.metadata.uid == loaded.pod.metadata.uid);
            pods.push(unchanged_or_new(before.cloned(), loaded.pod));
        }
        self.publish(without_twins(pods, &self.config.events));
        self.last_is_good = true;
        Ok(true)
    }

    fn publish(&mut self, pods: Vec<SourcePod>) {
        self.sets.send_if_modified(|set| {
            let same = set.as_ref().is_some_and(|old| {
                old.len() == pods.len() && old.iter().zip(&pods).all(|(a, b)| Arc::ptr_eq(a, b))
            });
            if !same {
                *set = Some(Arc::new(pods.clone()));
            }
            !same
        });
        self.pods = pods;
    }

    /// Shows what the URL is good for: each pod that it gave, or nothing, with what is wrong now. Everybody may ask for
    /// that, so a password of the URL's is kept back.
    fn show(&mut self, outcome: &Result<bool, SourceError>) {
        let errors = match outcome {
            Ok(true) => {
                self.errors = Vec::new();
                Vec::new()
            }
            Ok(false) => self.errors.clone(),
            Err(error) => {
                let lines = error.lines();
                if matches!(error, SourceError::Manifest(_)) {
                    self.errors.clone_from(&lines);
                }
                lines
            }
        };
        // Errors of the URL itself tell it without its fragment.
        let (url, _) = self
            .config
            .url
            .split_once('#')
            .unwrap_or((&self.config.url, ""));
        let hidden = without_password(url);
        let errors: Vec<String> = errors
            .iter()
            .map(|line| line.replace(url, &hidden))
            .collect();
        let path = without_password(&self.config.url);
        let file = |pod: Option<&SourcePod>| ManifestFile {
            path: path.clone().into(),
            pod: pod.cloned(),
            errors: errors.clone(),
        };
        let files = match &self.pods[..] {
            [] => vec![file(None)],
            pods => pods.iter().map(|pod| file(Some(pod))).collect(),
        };
        self.shown.send_if_modified(|shown| {
            let changed = *shown != files;
            *shown = files;
            changed
        });
    }

    fn tell(&mut self, outcome: Result<bool, SourceError>) {
        match outcome {
            Ok(false) => {}
            Ok(true) => {
                if std::mem::take(&mut self.failures) > 0 {
                    tracing::info!("Successfully read pods from URL");
                }
            }
            Err(error) => {
                let error = ErrorChain(&error).to_string();
                if error != self.failure {
                    self.failures = 0;
                    self.failure.clone_from(&error);
                }
                match self.failures {
                    0..TOLD_FAILURES => {
                        tracing::warn!(error = %error, "Failed to read pods from URL");
                    }
                    TOLD_FAILURES => tracing::warn!(error = %error,
                        "Failed to read pods from URL. Dropping verbosity of this message to V(4)"),
                    _ => tracing::debug!(error = %error, "Failed to read pods from URL"),
                }
                self.failures = self.failures.saturating_add(1);
            }
        }
    }
}

/// The text of a URL, whether or not it is one, with `***` for its password.
fn without_password(url: &str) -> String {
    let hidden = || {
        let (scheme, rest) = url.split_once("//")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        let (user, _) = authority.rsplit_once('@')?;
        let (name, _) = user.split_once(':')?;
        Some(format!("{scheme}//{name}:***{}", &rest[user.len()..]))
    };
    hidden().unwrap_or_else(|| url.to_owned())
}

/// Of several with one name the first is taken (SRC-46).
fn without_twins(pods: Vec<SourcePod>, events: &Events) -> Vec<SourcePod> {
    let mut names = std::collections::BTreeSet::new();
    pods.into_iter()
        .filter(|pod| {
            let key = PodKey::of(pod);
            let first = names.insert(key.clone());
            if !first {
                tracing::warn!(pod = %key, "Pod failed validation due to duplicate pod name, ignoring");
                let message = format!(
                    "Error validating pod {} from http due to duplicate pod name {}, ignoring",
                    pod_in_message(pod),
                    quote(&key.name)
                );
                let reason = EventReason::FailedValidation.as_str();
                events.record(&ObjectRef::pod(pod), EventType::Warning, reason, &message);
            }
            first
        })
        .collect()
}

#[cfg(test)]
mod tests;
