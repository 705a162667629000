use std::{path::PathBuf, sync::Arc};

use cri_api::{Code, RpcError};
use k8s_openapi::{api::core::v1::PodSpec, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use tokio::sync::Notify;

use super::{service::Annotations, *};
use crate::{events::EventSink, metrics::Metrics};

/// A runtime with images, answers for pulls in order, and a gate that pulls wait at.
#[derive(Debug, Default)]
struct FakeService {
    images: Mutex<BTreeMap<String, v1::Image>>,
    answers: Mutex<Vec<Result<String, CriError>>>,
    users: Mutex<Vec<Option<String>>>,
    status_errors: Mutex<Vec<CriError>>,
    asked: Mutex<Vec<String>>,
    gate: Option<Notify>,
    pulling: Mutex<(u32, u32)>,
}

impl ImageService for Arc<FakeService> {
    async fn status(&self, image: &str, _: &Annotations) -> Result<Option<v1::Image>, CriError> {
        self.asked.lock().unwrap().push(image.to_owned());
        if let Some(error) = self.status_errors.lock().unwrap().pop() {
            return Err(error);
        }
        Ok(self.images.lock().unwrap().get(image).cloned())
    }

    async fn pull(
        &self,
        image: &str,
        auth: Option<v1::AuthConfig>,
        _: v1::PodSandboxConfig,
    ) -> Result<String, CriError> {
        self.users
            .lock()
            .unwrap()
            .push(auth.map(|auth| auth.username));
        {
            let mut pulling = self.pulling.lock().unwrap();
            pulling.0 += 1;
            pulling.1 = pulling.1.max(pulling.0);
        }
        if let Some(gate) = &self.gate {
            gate.notified().await;
        }
        self.pulling.lock().unwrap().0 -= 1;
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.is_empty() {
            Ok("sha256:1".to_owned())
        } else {
            answers.remove(0)
        };
        if let Ok(id) = &answer {
            let found = v1::Image {
                id: id.clone(),
                size: 42,
                ..v1::Image::default()
            };
            let mut images = self.images.lock().unwrap();
            images.insert(image.to_owned(), found.clone());
            images.insert(id.clone(), found);
        }
        answer
    }
}

#[derive(Debug, Default)]
struct Recorded(Mutex<Vec<String>>);

impl EventSink for Recorded {
    fn record(&self, object: &ObjectRef, kind: EventType, reason: &str, message: &str) {
        assert_eq!(object.field_path.as_deref(), Some("spec.containers{main}"));
        self.0
            .lock()
            .unwrap()
            .push(format!("{} {reason} {message}", kind.as_str()));
    }
}

struct Setup {
    service: Arc<FakeService>,
    events: Arc<Recorded>,
    puller: ImagePuller<Arc<FakeService>>,
}

impl Setup {
    fn with(service: FakeService, change: impl FnOnce(&mut PullConfig)) -> Self {
        let nowhere = PathBuf::from("/nonexistent");
        let mut config = PullConfig {
            parallel: Some(1),
            pulls_per_second: 0,
            burst: 0,
            credentials: CredentialPaths {
                root: nowhere.clone(),
                working: nowhere.clone(),
                home: Some(nowhere),
            },
        };
        change(&mut config);
        let service = Arc::new(service);
        let events = Arc::new(Recorded::default());
        let metrics = Metrics::register(&daemon::metrics::Metrics::new()).unwrap();
        let durations = metrics.image_pull_duration;
        let sink = Arc::clone(&events) as Events;
        let puller = ImagePuller::new(Arc::clone(&service), sink, durations, config);
        Self {
            service,
            events,
            puller,
        }
    }

    fn new() -> Self {
        Self::with(FakeService::default(), |_| {})
    }

    fn has(self, image: &str, found: v1::Image) -> Self {
        self.service
            .images
            .lock()
            .unwrap()
            .insert(image.to_owned(), found);
        self
    }

    fn answers(self, answers: impl IntoIterator<Item = Result<String, CriError>>) -> Self {
        self.service.answers.lock().unwrap().extend(answers);
        self
    }

    async fn ensure(&self, image: &str, policy: Option<&str>) -> Result<EnsuredImage, ImageError> {
        let (pod, container) = pod(image, policy);
        self.puller
            .ensure(&pod, &container, &v1::PodSandboxConfig::default())
            .await
    }

    fn events(&self) -> Vec<String> {
        std::mem::take(&mut *self.events.0.lock().unwrap())
    }

    fn pulls(&self) -> usize {
        self.service.users.lock().unwrap().len()
    }
}

fn pod(image: &str, policy: Option<&str>) -> (Pod, Container) {
    let container = Container {
        name: "main".to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: policy.map(ToOwned::to_owned),
        ..Container::default()
    };
    let pod = Pod {
        metadata: ObjectMeta {
            uid: Some("uid".to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            containers: vec![container.clone()],
            ..PodSpec::default()
        }),
        ..Pod::default()
    };
    (pod, container)
}

fn refused(code: Code, message: &str) -> CriError {
    CriError::Call {
        operation: "pull_image",
        source: RpcError::new(code, message),
    }
}

fn image(id: &str) -> v1::Image {
    v1::Image {
        id: id.to_owned(),
        ..v1::Image::default()
    }
}

#[tokio::test(start_paused = true)]
async fn present_image_is_used_as_it_is() {
    let setup = Setup::new().has("app:1", image("sha256:a"));
    let ensured = setup.ensure("app:1", None).await.unwrap();
    assert_eq!(ensured.id, "sha256:a");
    assert_eq!(ensured.requested, "app:1");
    assert_eq!(setup.pulls(), 0);
    assert_eq!(
        setup.events(),
        ["Normal Pulled Container image \"app:1\" already present on machine"]
    );
}

#[tokio::test(start_paused = true)]
async fn image_without_a_tag_is_latest_and_always_pulled() {
    let setup = Setup::new().has("app:latest", image("sha256:old"));
    let ensured = setup.ensure("app", None).await.unwrap();
    assert_eq!((&*ensured.id, &*ensured.requested), ("sha256:1", "app"));
    assert_eq!(
        setup.events(),
        [
            "Normal Pulling Pulling image \"app\"",
            "Normal Pulled Successfully pulled image \"app\" in 0s (0s including waiting). Image \
             size: 42 bytes.",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn user_of_the_image_is_its_number_or_name_or_root() {
    let numbered = v1::Image {
        uid: Some(v1::Int64Value { value: 7 }),
        ..image("a")
    };
    let named = v1::Image {
        username: "web".to_owned(),
        ..image("b")
    };
    let setup = Setup::new()
        .has("a:1", numbered)
        .has("b:1", named)
        .has("c:1", image("c"));
    for (name, user) in [
        ("a:1", ImageUser::Uid(7)),
        ("b:1", ImageUser::Name("web".to_owned())),
        ("c:1", ImageUser::Uid(0)),
    ] {
        assert_eq!(
            setup.ensure(name, None).await.unwrap().user,
            Ok(user),
            "{name}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn absent_image_with_policy_never_is_an_error() {
    let setup = Setup::new();
    let error = setup.ensure("app:1", Some("Never")).await.unwrap_err();
    assert_eq!(error.reason, WaitingReason::ErrImageNeverPull);
    assert_eq!(error.retry_after, None);
    assert_eq!(
        setup.events(),
        [
            "Warning ErrImageNeverPull Container image \"app:1\" is not present with pull policy \
             of Never",
            "Warning Failed Error: ErrImageNeverPull",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn malformed_name_is_said_so_before_any_call() {
    let setup = Setup::new();
    let error = setup.ensure("App", None).await.unwrap_err();
    assert_eq!(error.reason, WaitingReason::InvalidImageName);
    assert_eq!(
        error.message,
        "Failed to apply default image tag \"App\": couldn't parse image name \"App\": invalid \
         reference format: repository name (library/App) must be lowercase"
    );
    assert!(setup.events()[0].starts_with("Warning InspectFailed Failed to apply"));
    // An image volume may come without a name.
    let error = setup.ensure("", None).await.unwrap_err();
    assert_eq!(
        (error.reason, &*error.message),
        (
            WaitingReason::InvalidImageName,
            "Failed to apply default image tag \"\": couldn't parse image name \"\": invalid reference format"
        )
    );
}

#[tokio::test(start_paused = true)]
async fn image_that_cannot_be_looked_at_is_an_error() {
    let setup = Setup::new();
    *setup.service.status_errors.lock().unwrap() = vec![refused(Code::Internal, "no")];
    let error = setup.ensure("app:1", None).await.unwrap_err();
    assert_eq!(error.reason, WaitingReason::ImageInspectError);
    assert_eq!(
        error.message,
        "Failed to inspect image \"app:1\": rpc error: code = Internal desc = no"
    );
}

#[tokio::test(start_paused = true)]
async fn img_20_pulled_image_is_looked_at_by_its_name_and_once() {
    let setup = Setup::new();
    let ensured = setup.ensure("app", None).await.unwrap();
    assert_eq!(ensured.user, Ok(ImageUser::Uid(0)));
    assert_eq!(*setup.service.asked.lock().unwrap(), ["app:latest"]);
}

#[tokio::test(start_paused = true)]
async fn spec_40_user_that_the_runtime_does_not_say_after_a_pull_is_asked_for_again() {
    let failing = |times: usize| {
        let setup = Setup::new();
        let error = refused(Code::Internal, "no");
        *setup.service.status_errors.lock().unwrap() = vec![error; times];
        setup
    };
    let once = failing(1);
    let ensured = once.ensure("app", None).await.unwrap();
    assert_eq!(ensured.user, Ok(ImageUser::Uid(0)));
    assert_eq!(*once.service.asked.lock().unwrap(), ["app:latest", "app"]);
    assert!(once.events()[1].ends_with("Image size: 0 bytes."));
    let ensured = failing(2).ensure("app", None).await.unwrap();
    assert_eq!(
        ensured.user,
        Err("rpc error: code = Internal desc = no".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn failed_pull_waits_longer_each_time_and_says_why() {
    let unknown = || Err(refused(Code::Unknown, "manifest unknown"));
    let setup = Setup::new().answers([unknown(), unknown()]);
    let error = setup.ensure("app:1", None).await.unwrap_err();
    assert_eq!(error.reason, WaitingReason::ErrImagePull);
    assert_eq!(error.message, "manifest unknown");
    // Soon looked at again, and then shown as waiting.
    let wait = error.retry_after.unwrap();
    assert_eq!(wait.as_secs(), 1);
    assert_eq!(
        setup.events()[1..],
        [
            "Warning Failed Failed to pull image \"app:1\": manifest unknown",
            "Warning Failed Error: ErrImagePull",
        ]
    );

    tokio::time::advance(Duration::from_secs(9)).await;
    let error = setup.ensure("app:1", None).await.unwrap_err();
    assert_eq!(error.reason, WaitingReason::ImagePullBackOff);
    assert_eq!(
        error.message,
        "Back-off pulling image \"app:1\": ErrImagePull: manifest unknown"
    );
    let wait = error.retry_after.unwrap();
    assert_eq!(wait.as_secs(), 1);
    assert_eq!(
        setup.events(),
        [
            "Normal BackOff Back-off pulling image \"app:1\"",
            "Warning Failed Error: ImagePullBackOff"
        ]
    );

    tokio::time::advance(Duration::from_secs(1)).await;
    let error = setup.ensure("app:1", None).await.unwrap_err();
    assert_eq!(error.reason, WaitingReason::ErrImagePull);
    tokio::time::advance(ERROR_SHOWN).await;
    let error = setup.ensure("app:1", None).await.unwrap_err();
    let wait = error.retry_after.unwrap();
    assert_eq!(
        (error.reason, wait.as_secs()),
        (WaitingReason::ImagePullBackOff, 19)
    );
    tokio::time::advance(Duration::from_secs(19)).await;
    setup.ensure("app:1", None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_pods_failure_does_not_delay_another_image() {
    let setup = Setup::new().answers([Err(refused(Code::Unknown, "no"))]);
    setup.ensure("a:1", None).await.unwrap_err();
    setup.ensure("b:1", None).await.unwrap();
}

#[test]
fn reason_of_a_failed_pull_is_in_the_runtimes_words() {
    let unavailable = classify("app", "RegistryUnavailable: no route");
    assert_eq!(
        unavailable,
        (
            WaitingReason::RegistryUnavailable,
            "image pull failed for app because the registry is unavailable: no route".to_owned()
        )
    );
    // As a runtime sends it: with another code the reason would not be in front.
    let sent = "RegistryUnavailable: received unexpected HTTP status: 503 Service Unavailable";
    let of = |code| classify("app", &pull_text("app", &refused(code, sent))).0;
    assert_eq!(of(Code::Unknown), WaitingReason::RegistryUnavailable);
    assert_eq!(of(Code::Unavailable), WaitingReason::ErrImagePull);
    let unsigned = classify("app", "SignatureValidationFailed");
    assert_eq!(unsigned.0, WaitingReason::SignatureValidationFailed);
    let coded = pull_text("app", &refused(Code::NotFound, "gone"));
    assert_eq!(coded, "rpc error: code = NotFound desc = gone");
    let cancelled = pull_text("app", &refused(Code::Cancelled, "x"));
    assert!(cancelled.contains("code = Canceled"));
    let empty = CriError::Incomplete {
        operation: "pull_image",
        field: "image_ref",
    };
    assert_eq!(
        pull_text("app", &empty),
        "imageRef of image \"app\" is not set"
    );
}

#[tokio::test(start_paused = true)]
async fn credentials_are_tried_in_turn() {
    let dir = tempfile::tempdir().unwrap();
    let config = r#"{"auths": {
        "a.io": {"username": "site", "password": "p"},
        "a.io/team": {"username": "team", "password": "p"}}}"#;
    std::fs::write(dir.path().join("config.json"), config).unwrap();
    let root = dir.path().to_owned();
    let setup = Setup::with(FakeService::default(), |config| {
        config.credentials.root = root;
    })
    .answers([Err(refused(Code::Unknown, "denied"))]);
    setup.ensure("a.io/team/app:1", None).await.unwrap();
    let tried = setup.service.users.lock().unwrap().clone();
    assert_eq!(tried, [Some("team".to_owned()), Some("site".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn errors_of_all_credentials_are_shown_once_each() {
    let dir = tempfile::tempdir().unwrap();
    let config = r#"{"auths": {
        "a.io": {"username": "u", "password": "p"},
        "*.io": {"username": "v", "password": "p"},
        "a.io/t": {"username": "w", "password": "p"}}}"#;
    std::fs::write(dir.path().join("config.json"), config).unwrap();
    let root = dir.path().to_owned();
    let fail = |text| Err(refused(Code::Unknown, text));
    let setup = Setup::with(FakeService::default(), |config| {
        config.credentials.root = root;
    })
    .answers([fail("one"), fail("two"), fail("one")]);
    let error = setup.ensure("a.io/t:1", None).await.unwrap_err();
    assert_eq!(error.message, "[one, two]");
}

#[tokio::test(start_paused = true)]
async fn pulls_over_the_rate_fail_at_once() {
    let setup = Setup::with(FakeService::default(), |config| {
        config.pulls_per_second = 1;
        config.burst = 1;
    });
    setup.ensure("a:1", None).await.unwrap();
    let error = setup.ensure("b:1", None).await.unwrap_err();
    assert_eq!(
        (error.reason, &*error.message),
        (WaitingReason::ErrImagePull, "pull QPS exceeded")
    );
    assert_eq!(setup.pulls(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_more_pulls_run_at_once_than_allowed() {
    for (parallel, most) in [(Some(1), 1), (Some(2), 2), (None, 3)] {
        let service = FakeService {
            gate: Some(Notify::new()),
            ..FakeService::default()
        };
        let setup = Setup::with(service, |config| config.parallel = parallel);
        let release = async {
            // Every pull that can start has started when the paused clock moves on.
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                setup.service.gate.as_ref().unwrap().notify_one();
            }
        };
        let (a, b, c, ()) = tokio::join!(
            setup.ensure("a:1", None),
            setup.ensure("b:1", None),
            setup.ensure("c:1", None),
            release
        );
        assert!(a.is_ok() && b.is_ok() && c.is_ok());
        assert_eq!(setup.service.pulling.lock().unwrap().1, most);
    }
}

#[tokio::test(start_paused = true)]
async fn img_21_pulls_are_timed_by_the_size_of_the_image() {
    let setup = Setup::new();
    setup.ensure("app", None).await.unwrap();
    let size = setup.service.images.lock().unwrap()["app:latest"].size;
    let timed = setup
        .puller
        .durations
        .with_label_values(&[text::size_label(size)]);
    assert_eq!(timed.get_sample_count(), 1);
    for (bytes, label) in [
        (0, "N/A"),
        (1, "0-10MB"),
        (10 << 20, "0-10MB"),
        ((10 << 20) + 1, "10MB-100MB"),
        (6 << 30, "5GB-10GB"),
        (101 << 30, "GT100GB"),
    ] {
        assert_eq!(text::size_label(bytes), label, "{bytes}");
    }
}
