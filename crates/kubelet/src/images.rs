//! Images of containers: there already, pulled, or refused (kubelet section 3.5).
//!
//! ```text
//! name ─▶ policy ─▶ there? ─▶ back-off? ─▶ queue ─▶ rate limit ─▶ CRI PullImage per credential
//! ```
//!
//! Called by pod workers; no task of its own. A dropped call ends its pull. Delays after failures
//! live in memory: after a restart the first pull is immediate, as upstream's is.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use cri_api::v1;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use kubelet_core::{
    backoff::{BackoffPolicy, Backoffs, PullKey, Wait, go_duration, later},
    ids::PodUid,
    image_name::{self, Reference},
    reasons::{EventReason, WaitingReason},
};
use prometheus::HistogramVec;
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    clock,
    events::{EventType, Events, ObjectRef},
    runtime::client::{CriClient, CriError},
};

mod credentials;
mod service;
mod text;
mod throttle;

pub(crate) use credentials::CredentialPaths;
use credentials::{Credential, NodeKeyring};
pub(crate) use kubelet_core::translate::ImageUser;
use service::Annotations;
pub(crate) use service::ImageService;
use text::{classify, pull_text, size_label, to_millis};
use throttle::TokenBucket;

/// How long a failed pull is shown as such before it is shown as a wait (IMG-04): the original, woken
/// by the new sandbox, looks again when it next lists the containers.
///
/// Differs (IMG-04): a pull that fails is shown as `ErrImagePull` for a second and as `ImagePullBackOff` until the next
/// try; upstream shows what its look before the latest found, so that the two take turns each 10 to 15 s.
const ERROR_SHOWN: Duration = Duration::from_secs(1);

/// Settings of the puller (CFG-12, CFG-41).
#[derive(Debug, Clone)]
pub(crate) struct PullConfig {
    /// Pulls at once; `Some(1)` for `serializeImagePulls`, `None` without a bound.
    pub(crate) parallel: Option<u32>,
    /// `registryPullQPS`; 0: no limit.
    pub(crate) pulls_per_second: u32,
    /// `registryBurst`.
    pub(crate) burst: u32,
    /// Where registry credentials are.
    pub(crate) credentials: CredentialPaths,
}

/// An image that a container can be made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EnsuredImage {
    /// What `CreateContainer` names in `image.image` (IMG-07).
    pub(crate) id: String,
    /// What it names in `user_specified_image`: the pod's own words.
    pub(crate) requested: String,
    /// Who the image's processes are, or why the runtime does not say.
    pub(crate) user: Result<ImageUser, String>,
}

/// An image that a container cannot have now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ImageError {
    /// The container's waiting reason.
    pub(crate) reason: WaitingReason,
    /// The container's waiting message, in upstream's words.
    pub(crate) message: String,
    /// How long until another try makes sense; `None`: when something changes.
    pub(crate) retry_after: Option<Duration>,
}

/// When an image is pulled (IMG-01).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

impl PullPolicy {
    /// The policy asked for; without one it follows from the tag, as defaulting does (SRC-25).
    fn of(asked: Option<&str>, image: &Reference) -> Self {
        match asked {
            Some("Never") => Self::Never,
            Some("IfNotPresent") => Self::IfNotPresent,
            None if image.effective_tag() != Some("latest") => Self::IfNotPresent,
            _ => Self::Always,
        }
    }
}

/// What failed before, by pod and image.
#[derive(Debug)]
struct History {
    delays: Backoffs<PullKey>,
    /// Shown while the next pull waits.
    errors: BTreeMap<PullKey, String>,
}

/// Makes sure that images are there.
#[derive(Debug)]
pub(crate) struct ImagePuller<S = CriClient> {
    service: S,
    events: Events,
    durations: HistogramVec,
    keyring: NodeKeyring,
    /// First come, first served.
    slots: Option<Semaphore>,
    rate: Option<Mutex<TokenBucket>>,
    history: Mutex<History>,
    /// What the clock said at one instant: later times follow from the monotonic clock, so that
    /// setting the node's clock neither ends nor stretches a wait.
    origin: (Instant, Timestamp),
}

impl<S: ImageService> ImagePuller<S> {
    /// Starts nothing and reads nothing.
    /// Pulls are timed in `durations`, by the size of the image (IMG-21).
    pub(crate) fn new(
        service: S,
        events: Events,
        durations: HistogramVec,
        config: PullConfig,
    ) -> Self {
        let now = Instant::now();
        let slots = config.parallel.map(|count| {
            Semaphore::new(usize::try_from(count.max(1)).unwrap_or(Semaphore::MAX_PERMITS))
        });
        let rate = (config.pulls_per_second > 0)
            .then(|| Mutex::new(TokenBucket::new(config.pulls_per_second, config.burst, now)));
        Self {
            service,
            events,
            durations,
            keyring: NodeKeyring::new(config.credentials),
            slots,
            rate,
            history: Mutex::new(History {
                delays: Backoffs::new(BackoffPolicy::IMAGE_PULL),
                errors: BTreeMap::new(),
            }),
            origin: (now, clock::now()),
        }
    }

    /// Makes sure that the container's image is there, by its pull policy, and tells of it in events
    /// (IMG-20). Waits for its turn and for the pull, without a limit: dropping the call ends both.
    ///
    /// # Errors
    /// [`ImageError`] with what the container's waiting state shows.
    pub(crate) async fn ensure(
        &self,
        pod: &Pod,
        container: &Container,
        sandbox: &v1::PodSandboxConfig,
    ) -> Result<EnsuredImage, ImageError> {
        let job = Job {
            object: ObjectRef::container(pod, &container.name),
            key: PullKey {
                pod: PodUid::of(pod),
                image: container.image.clone().unwrap_or_default(),
            },
        };
        let policy = container.image_pull_policy.as_deref();
        let mut ensured = self.ensure_image(&job, policy, sandbox).await;
        match &mut ensured {
            // Upstream asks for size and user apart, for the latter by the pod's own words (SPEC-40).
            Ok(ensured) if ensured.user.is_err() => {
                let none = Annotations::new();
                ensured.user = user_of(self.service.status(job.image(), &none).await);
            }
            Ok(_) => {}
            Err(error) => {
                let message = format!("Error: {}", error.reason);
                self.tell(&job, EventType::Warning, EventReason::Failed, &message);
            }
        }
        ensured
    }

    /// The same for an image that is mounted as a volume (VOL-34); events are the pod's.
    ///
    /// # Errors
    /// As [`Self::ensure`], without the event that a container's start failed.
    pub(crate) async fn ensure_volume(
        &self,
        pod: &Pod,
        reference: &str,
        pull_policy: Option<&str>,
        sandbox: &v1::PodSandboxConfig,
    ) -> Result<EnsuredImage, ImageError> {
        let job = Job {
            object: ObjectRef::pod(pod),
            key: PullKey {
                pod: PodUid::of(pod),
                image: reference.to_owned(),
            },
        };
        self.ensure_image(&job, pull_policy, sandbox).await
    }

    async fn ensure_image(
        &self,
        job: &Job,
        pull_policy: Option<&str>,
        sandbox: &v1::PodSandboxConfig,
    ) -> Result<EnsuredImage, ImageError> {
        let requested = job.image();
        let named = image_name::apply_default_tag(requested)
            .and_then(|image| image_name::parse(&image).map(|reference| (image, reference)));
        let (image, reference) = match named {
            Ok(named) => named,
            Err(error) => {
                let message = format!("Failed to apply default image tag {requested:?}: {error}");
                self.tell(
                    job,
                    EventType::Warning,
                    EventReason::InspectFailed,
                    &message,
                );
                return Err(ImageError::new(WaitingReason::InvalidImageName, message));
            }
        };
        let policy = PullPolicy::of(pull_policy, &reference);
        if policy != PullPolicy::Always
            && let Some(present) = self.inspected(
                job,
                &image,
                self.service.status(&image, &sandbox.annotations).await,
            )?
        {
            let message = format!("Container image {requested:?} already present on machine");
            self.tell(job, EventType::Normal, EventReason::Pulled, &message);
            return Ok(EnsuredImage {
                id: present.id.clone(),
                requested: requested.to_owned(),
                user: user_of(Ok(Some(present))),
            });
        }
        if policy == PullPolicy::Never {
            let message =
                format!("Container image {requested:?} is not present with pull policy of Never");
            self.tell(
                job,
                EventType::Warning,
                EventReason::ErrImageNeverPull,
                &message,
            );
            return Err(ImageError::new(WaitingReason::ErrImageNeverPull, message));
        }
        self.wait_passed(job)?;
        let pulled = self.pull(job, &image, &reference, sandbox).await?;
        let size = match &pulled.status {
            Ok(Some(image)) => image.size,
            _ => 0,
        };
        let message = format!(
            "Successfully pulled image {requested:?} in {} ({} including waiting). Image size: \
             {size} bytes.",
            go_duration(to_millis(pulled.pulling)),
            go_duration(to_millis(pulled.in_all)),
        );
        self.tell(job, EventType::Normal, EventReason::Pulled, &message);
        self.durations
            .with_label_values(&[size_label(size)])
            .observe(to_millis(pulled.in_all).as_secs_f64());
        Ok(EnsuredImage {
            id: pulled.reference,
            requested: requested.to_owned(),
            user: user_of(pulled.status),
        })
    }

    /// The image as the runtime has it, or why nobody knows.
    ///
    /// Differs (IMG-03): the message names the image; upstream prints an empty name.
    fn inspected(
        &self,
        job: &Job,
        image: &str,
        status: Result<Option<v1::Image>, CriError>,
    ) -> Result<Option<v1::Image>, ImageError> {
        status.map_err(|error| {
            let message = format!("Failed to inspect image {image:?}: {}", error.rpc_text());
            self.tell(
                job,
                EventType::Warning,
                EventReason::InspectFailed,
                &message,
            );
            ImageError::new(WaitingReason::ImageInspectError, message)
        })
    }

    /// Whether enough time passed since the last failure (IMG-04).
    fn wait_passed(&self, job: &Job) -> Result<(), ImageError> {
        let now = self.now();
        let (wait, last) = {
            let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
            let wait = history.delays.wait(&job.key, now);
            // Shown while waiting and dropped when trying again.
            let last = match wait {
                Some(_) => history.errors.get(&job.key).cloned(),
                None => history.errors.remove(&job.key),
            };
            (wait, last)
        };
        let Some(Wait { until, .. }) = wait else {
            return Ok(());
        };
        let left = until.duration_since(now).try_into();
        let mut message = format!("Back-off pulling image {:?}", job.image());
        self.tell(job, EventType::Normal, EventReason::BackOff, &message);
        if let Some(last) = last {
            message = format!("{message}: {last}");
        }
        let reason = WaitingReason::ImagePullBackOff;
        Err(ImageError {
            reason,
            message,
            retry_after: Some(left.unwrap_or_default()),
        })
    }

    async fn pull(
        &self,
        job: &Job,
        image: &str,
        reference: &Reference,
        sandbox: &v1::PodSandboxConfig,
    ) -> Result<Pulled, ImageError> {
        let requested = job.image();
        let credentials = self.keyring.current().await.look_up(reference);
        self.tell(
            job,
            EventType::Normal,
            EventReason::Pulling,
            &format!("Pulling image {requested:?}"),
        );
        let asked = Instant::now();
        let _slot = match &self.slots {
            Some(slots) => Some(
                slots
                    .acquire()
                    .await
                    .expect("the semaphore is never closed"),
            ),
            None => None,
        };
        let started = Instant::now();
        match self.pull_by_credentials(image, credentials, sandbox).await {
            Ok(reference) => {
                // By its name, in the same turn and time as the pull (Kubernetes kubelet, `pullImage`).
                let status = self.service.status(image, &sandbox.annotations).await;
                let now = self.now();
                let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
                history.collect_garbage(now);
                Ok(Pulled {
                    reference,
                    status,
                    pulling: started.elapsed(),
                    in_all: asked.elapsed(),
                })
            }
            Err(text) => {
                let message = format!("Failed to pull image {requested:?}: {text}");
                self.tell(job, EventType::Warning, EventReason::Failed, &message);
                let (reason, message) = classify(requested, &text);
                let retry_after = self.note_failure(job, format!("{reason}: {message}"));
                Err(ImageError {
                    reason,
                    message,
                    retry_after: Some(retry_after),
                })
            }
        }
    }

    /// Tries each credential until one does; the error has the texts of all.
    async fn pull_by_credentials(
        &self,
        image: &str,
        credentials: Vec<Credential>,
        sandbox: &v1::PodSandboxConfig,
    ) -> Result<String, String> {
        if let Some(rate) = &self.rate {
            let mut bucket = rate.lock().unwrap_or_else(PoisonError::into_inner);
            if !bucket.try_take(Instant::now()) {
                return Err("pull QPS exceeded".to_owned());
            }
        }
        let auths: Vec<Option<v1::AuthConfig>> = if credentials.is_empty() {
            vec![None]
        } else {
            credentials
                .into_iter()
                .map(|credential| Some(auth_config(credential)))
                .collect()
        };
        let mut errors: Vec<String> = Vec::new();
        for auth in auths {
            match self.service.pull(image, auth, sandbox.clone()).await {
                Ok(reference) => return Ok(reference),
                Err(error) => {
                    let text = pull_text(image, &error);
                    if !errors.contains(&text) {
                        errors.push(text);
                    }
                }
            }
        }
        Err(match errors.as_slice() {
            [only] => only.clone(),
            all => format!("[{}]", all.join(", ")),
        })
    }

    /// Lengthens the wait and returns how long until the next look: not long, for the error gives way to
    /// `ImagePullBackOff` then.
    fn note_failure(&self, job: &Job, text: String) -> Duration {
        let now = self.now();
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let delay = history
            .delays
            .fail(job.key.clone(), now, now, Duration::ZERO);
        history.errors.insert(job.key.clone(), text);
        history.collect_garbage(now);
        delay.min(ERROR_SHOWN)
    }

    fn now(&self) -> Timestamp {
        let (instant, timestamp) = self.origin;
        later(timestamp, instant.elapsed())
    }

    fn tell(&self, job: &Job, kind: EventType, reason: EventReason, message: &str) {
        self.events
            .record(&job.object, kind, reason.as_str(), message);
    }
}

impl History {
    /// Bounds what is remembered by what failed lately.
    fn collect_garbage(&mut self, now: Timestamp) {
        self.delays.collect_garbage(now);
        let delays = &self.delays;
        self.errors.retain(|key, _| delays.get(key).is_some());
    }
}

impl ImageError {
    fn new(reason: WaitingReason, message: String) -> Self {
        Self {
            reason,
            message,
            retry_after: None,
        }
    }
}

/// One call of [`ImagePuller::ensure`].
struct Job {
    object: ObjectRef,
    key: PullKey,
}

impl Job {
    /// The image as the pod names it.
    fn image(&self) -> &str {
        &self.key.image
    }
}

/// A pull that went well.
struct Pulled {
    reference: String,
    /// What the runtime says of it: an error is no failure of the pull.
    status: Result<Option<v1::Image>, CriError>,
    pulling: Duration,
    in_all: Duration,
}

/// Root where the image says nothing or is not there. Source of behaviour: Kubernetes kubelet, `getImageUser`.
fn user_of(status: Result<Option<v1::Image>, CriError>) -> Result<ImageUser, String> {
    let image = status.map_err(|error| error.rpc_text())?;
    Ok(match image {
        Some(v1::Image { uid: Some(uid), .. }) => ImageUser::Uid(uid.value),
        Some(image) if !image.username.is_empty() => ImageUser::Name(image.username),
        _ => ImageUser::Uid(0),
    })
}

fn auth_config(credential: Credential) -> v1::AuthConfig {
    v1::AuthConfig {
        username: credential.username,
        password: credential.password,
        ..v1::AuthConfig::default()
    }
}

#[cfg(test)]
mod tests;
