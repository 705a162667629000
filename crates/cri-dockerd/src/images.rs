//! Images: the CRI's image service over Docker's images (IMG-01..19, SBX-02).
//!
//! Answers come from Docker; what an image is called and holds is kept until Docker reports any
//! image event, a call of ours changes images, or the connection is lost. Equal pulls share one
//! download. A pull that nobody waits for any more is given up after [`LINGER`], so that a caller
//! that was cut off finds it when it comes back (CMP-09).
//!
//! Nothing survives a restart; nothing has to.

mod keyring;
mod layer_sizes;
mod pull;
mod reference;
mod sandbox;
mod show;
mod usage;

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cri_api::{Code, RpcError, v1};
use daemon::ErrorChain;
use tokio::sync::watch;

use self::{layer_sizes::LayerSizes, reference::Reference};
use crate::{
    engine::{
        Class, Engine, EngineError, RegistryAuth,
        model::{ImageHistory, ImageInspect},
    },
    error::code_of,
    hub::{Health, Hub},
    lock::lock,
    paths::PathView,
};

/// How long a pull goes on after the last caller has gone.
const LINGER: Duration = Duration::from_secs(10);
/// Inspected images that are kept; a node has a few hundred.
const MAX_CACHED: usize = 1024;
/// The first answer to a pull when no deadline is set: Docker asks the registry before it.
const OPENING: Duration = Duration::from_mins(5);

/// Settings of the image calls.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The sandbox image as configured (FLG-04): pinned, and loaded from this program if missing.
    pub(crate) sandbox_image: String,
    /// Longest silence of a pull (FLG-05); zero for no limit.
    pub(crate) pull_progress_deadline: Duration,
    /// Where the user's registry credentials are looked for.
    pub(crate) home: Option<PathBuf>,
}

/// A pull that several callers may wait for.
type Flight = Arc<watch::Sender<Option<Result<String, RpcError>>>>;

/// Takes a pull off the list when it ends, however it ends: who waits for it then hears so.
struct Landing<'a> {
    images: &'a Images,
    key: &'a (String, RegistryAuth),
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        lock(&self.images.0.flights).remove(self.key);
    }
}

/// See the module. Cloning is cheap; clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Images(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    engine: Engine,
    hub: Arc<Hub>,
    paths: Arc<dyn PathView>,
    spawner: daemon::Spawner,
    settings: Settings,
    cache: Mutex<Cache>,
    /// Changes of images by our own calls.
    changes: AtomicU64,
    flights: Mutex<HashMap<(String, RegistryAuth), Flight>>,
    layers: Mutex<LayerSizes>,
    /// Held while the sandbox image is made available, so that it is done once for many pods.
    sandbox: tokio::sync::Mutex<()>,
}

/// Inspected images by the text they were asked for, of one generation.
#[derive(Debug, Default)]
struct Cache {
    generation: (u64, u64),
    images: HashMap<String, Arc<ImageInspect>>,
}

impl Images {
    /// Image calls that work through `engine`; pulls run on `spawner`'s group.
    pub(crate) fn new(
        engine: Engine,
        hub: Arc<Hub>,
        paths: Arc<dyn PathView>,
        spawner: daemon::Spawner,
        settings: Settings,
    ) -> Self {
        Self(Arc::new(Shared {
            engine,
            hub,
            paths,
            spawner,
            settings,
            cache: Mutex::default(),
            changes: AtomicU64::new(0),
            flights: Mutex::default(),
            layers: Mutex::default(),
            sandbox: tokio::sync::Mutex::new(()),
        }))
    }

    /// The group that work of image calls runs on.
    pub(crate) fn spawner(&self) -> &daemon::Spawner {
        &self.0.spawner
    }

    /// ListImages (IMG-01).
    ///
    /// # Errors
    /// Docker's.
    pub(crate) async fn list(
        &self,
        filter: Option<v1::ImageFilter>,
    ) -> Result<Vec<v1::Image>, RpcError> {
        let reference = filter
            .and_then(|filter| filter.image)
            .map(|image| image.image);
        let reference = reference.filter(|text| !text.is_empty());
        let images = self
            .0
            .engine
            .images(reference.as_deref())
            .await
            .map_err(|e| refuse(&e))?;
        Ok(images
            .iter()
            .map(|image| show::summary(image, &self.0.settings.sandbox_image))
            .collect())
    }

    /// ImageStatus: by tag, digest, id or the unambiguous beginning of an id (IMG-04, IMG-19).
    /// `None` when there is no such image.
    ///
    /// # Errors
    /// `InvalidArgument` for an empty text; Docker's.
    pub(crate) async fn status(
        &self,
        image: &str,
        verbose: bool,
    ) -> Result<v1::ImageStatusResponse, RpcError> {
        let image = given(image)?;
        let Some(inspect) = self.inspect(image).await.map_err(|e| refuse(&e))? else {
            return Ok(v1::ImageStatusResponse::default());
        };
        let info = if verbose {
            let history: Vec<ImageHistory> = self
                .0
                .engine
                .image_history(&inspect.id)
                .await
                .map_err(|e| refuse(&e))?;
            show::info(&inspect, &history)
        } else {
            BTreeMap::new()
        };
        let image = show::inspect(&inspect, &self.0.settings.sandbox_image);
        Ok(v1::ImageStatusResponse {
            image: Some(image),
            info,
        })
    }

    /// The image with a name or id, from memory where possible (PRF-23).
    async fn inspect(&self, image: &str) -> Result<Option<Arc<ImageInspect>>, EngineError> {
        let generation = self.generation();
        // While Docker's events don't reach us nothing that is kept can be trusted.
        let fresh = self.0.hub.health() == Health::Fresh;
        if fresh {
            let mut cache = lock(&self.0.cache);
            if cache.generation != generation {
                *cache = Cache {
                    generation,
                    images: HashMap::new(),
                };
            }
            if let Some(found) = cache.images.get(image) {
                return Ok(Some(Arc::clone(found)));
            }
        }
        let found = match self.0.engine.inspect_image(image).await {
            Ok(found) => Arc::new(found),
            Err(error) if error.is_not_found() => return Ok(None),
            // Docker reads what can't be a name as one: such an image does not exist.
            Err(error) if error.class() == Class::Invalid => return Ok(None),
            Err(error) => return Err(error),
        };
        if fresh && self.generation() == generation {
            let mut cache = lock(&self.0.cache);
            if cache.generation == generation && cache.images.len() < MAX_CACHED {
                cache.images.insert(image.to_owned(), Arc::clone(&found));
            }
        }
        Ok(Some(found))
    }

    /// Rises with each image event and with each change of our own.
    fn generation(&self) -> (u64, u64) {
        (
            self.0.hub.image_generation(),
            self.0.changes.load(Ordering::SeqCst),
        )
    }

    fn changed(&self) {
        self.0.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// PullImage: the image's id, which the CRI asks for: kubelets look up by ImageStatus's id what
    /// they noted of a pull by its answer. The caller may go away; see the module.
    ///
    /// Differs: PullImage answers the image's id; upstream its first digest with a name, where it has
    /// one (IMG-11), by which a kubelet never finds again that it pulled the image itself.
    ///
    /// # Errors
    /// As [`pull::refusal`]; `DeadlineExceeded` when the registry is silent for too long.
    pub(crate) async fn pull(
        &self,
        image: &str,
        auth: Option<&v1::AuthConfig>,
    ) -> Result<String, RpcError> {
        let image = given(image)?;
        let auth = pull::registry_auth(auth)
            .map_err(|problem| RpcError::new(Code::InvalidArgument, problem))?;
        let reference = Reference::parse(image).ok_or_else(|| {
            let text = format!("image {image:?}: invalid reference format");
            RpcError::new(Code::InvalidArgument, text)
        })?;
        self.join(reference, auth).await
    }

    /// Waits for a pull, which is begun if it is not under way.
    async fn join(&self, reference: Reference, auth: RegistryAuth) -> Result<String, RpcError> {
        let mut result = {
            let mut flights = lock(&self.0.flights);
            match flights.entry((reference.to_string(), auth)) {
                Entry::Occupied(flight) => flight.get().subscribe(),
                Entry::Vacant(place) => {
                    let (flight, result) = watch::channel(None);
                    let flight = Arc::new(flight);
                    let (images, key) = (self.clone(), place.key().clone());
                    place.insert(Arc::clone(&flight));
                    let pull = images.fly(reference, key, flight);
                    self.0.spawner.spawn_job("pull", pull);
                    result
                }
            }
        };
        let done = result.wait_for(Option::is_some).await;
        match done.as_deref() {
            Ok(Some(result)) => result.clone(),
            // The task is gone without a result: we are being shut down.
            _ => Err(RpcError::new(
                Code::Unavailable,
                "cri-dockerd is shutting down",
            )),
        }
    }

    /// One pull, for as long as somebody waits for it.
    async fn fly(self, reference: Reference, key: (String, RegistryAuth), flight: Flight) {
        let ended = self.0.spawner.token().clone();
        let landing = Landing {
            images: &self,
            key: &key,
        };
        let mut work = std::pin::pin!(self.download(&reference, &key.1));
        let result = loop {
            tokio::select! {
                biased;
                // cancel-safe: the download is given up.
                () = ended.cancelled() => break None,
                // cancel-safe: pinned outside.
                result = &mut work => break Some(result),
                // cancel-safe: a level.
                () = flight.closed() => {}
            }
            tokio::select! {
                biased;
                // cancel-safe: pinned outside.
                result = &mut work => break Some(result),
                () = ended.cancelled() => break None,
                () = tokio::time::sleep(LINGER) => {}
            }
            let mut flights = lock(&self.0.flights);
            if flight.receiver_count() == 0 {
                // Nobody can join any more once the lock is gone.
                flights.remove(&key);
                tracing::info!(image = %reference, "pull given up: nobody waits for it");
                return;
            }
        };
        drop(landing);
        if let Some(result) = result {
            flight.send_replace(Some(result));
        }
    }

    /// Has Docker pull, and says what came of it.
    async fn download(&self, image: &Reference, auth: &RegistryAuth) -> Result<String, RpcError> {
        let deadline = self.0.settings.pull_progress_deadline;
        let opening = if deadline.is_zero() {
            OPENING
        } else {
            deadline
        };
        let stalled = |limit: Duration| {
            let text = format!(
                "pull of image {image} made no progress for {limit:?}: context deadline exceeded \
                 (--image-pull-progress-deadline)"
            );
            RpcError::new(Code::DeadlineExceeded, text)
        };
        let name = image.familiar_name();
        let refusal = |error: &EngineError| {
            let (code, text) = pull::refusal(error);
            RpcError::new(code, text)
        };
        let mut stream = self
            .0
            .engine
            .pull_image(&name, image.version(), auth, opening)
            .await
            .map_err(|error| match error {
                EngineError::Timeout { limit, .. } => stalled(limit),
                error => refusal(&error),
            })?;
        let mut watch = pull::Watch::default();
        let mut progress = tokio::time::Instant::now();
        loop {
            let message = match watch.limit(deadline) {
                None => stream.next().await,
                Some(limit) => match tokio::time::timeout_at(progress + limit, stream.next()).await
                {
                    Ok(message) => message,
                    // Dropping the stream cancels the pull in Docker.
                    Err(_) => return Err(stalled(limit)),
                },
            };
            match message {
                None => break,
                Some(Ok(message)) => {
                    if watch.see(&message) || watch.limit(deadline).is_none() {
                        progress = tokio::time::Instant::now();
                    }
                }
                Some(Err(error)) => return Err(refusal(&error)),
            }
        }
        self.changed();
        let asked = match &image.digest {
            Some(digest) => format!("{name}@{digest}"),
            None => format!("{name}:{}", image.version()),
        };
        let inspect = self.0.engine.inspect_image(&asked).await;
        Ok(inspect.map_err(|e| refuse(&e))?.id)
    }

    /// RemoveImage: the image that any of its names or its id names goes with all its names; none
    /// there is success (IMG-14, CRT-17).
    ///
    /// # Errors
    /// `FailedPrecondition` while a container uses it; Docker's.
    pub(crate) async fn remove(&self, image: &str) -> Result<(), RpcError> {
        let image = given(image)?;
        let found = match self.0.engine.inspect_image(image).await {
            Ok(found) => found,
            Err(error) if error.is_not_found() || error.class() == Class::Invalid => return Ok(()),
            Err(error) => return Err(refuse(&error)),
        };
        // Each name, and last the id: by id alone Docker refuses when there are several names. With
        // its last tag Docker drops digests and image too.
        let names = found.repo_tags.iter().chain(&found.repo_digests);
        let names = names.chain(std::iter::once(&found.id));
        let mut result = Ok(());
        for name in names {
            match self.0.engine.remove_image(name).await {
                Ok(done) if done.iter().any(|step| step.deleted == found.id) => break,
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    result = Err(refuse(&error));
                    break;
                }
            }
        }
        self.changed();
        result
    }
}

/// The image of a request, which must be there (IMG-07).
fn given(image: &str) -> Result<&str, RpcError> {
    if image.is_empty() {
        return Err(RpcError::new(
            Code::InvalidArgument,
            "image.image: must not be empty",
        ));
    }
    Ok(image)
}

/// Docker's refusal of an image call.
fn refuse(error: &EngineError) -> RpcError {
    RpcError::new(code_of(error.class()), ErrorChain(error).to_string())
}

fn stepped(step: &str, error: &RpcError) -> RpcError {
    RpcError::new(error.code, format!("{step}: {}", error.message))
}
