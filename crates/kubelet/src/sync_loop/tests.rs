//! The loop with its workers over a fake runtime, on a paused clock.

mod ends;
mod images;
mod lost;
mod networks;
mod resize;
mod starts;

use std::{path::Path, sync::Arc, time::Duration};

use cri_api::v1;
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, ExecAction, Lifecycle, LifecycleHandler, Pod, PodSecurityContext,
    PodSpec, PodStatus, SecurityContext,
};
use kubelet_core::ids::PodUid;
use testkit::{Call, FakeCri};
use tokio::sync::watch;

use crate::{
    assembly::testing::{Life, node},
    sources::SourceSet,
};

const A_WHILE: Duration = Duration::from_mins(2);
pub(super) const IMAGE: &str = "registry.invalid/image:1";

pub(super) fn pod(name: &str, uid: &str, policy: &str) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.name = Some(name.to_owned());
    pod.metadata.namespace = Some("default".to_owned());
    pod.metadata.uid = Some(uid.to_owned());
    pod.metadata.annotations = Some(
        [
            ("kubernetes.io/config.source".to_owned(), "file".to_owned()),
            ("kubernetes.io/config.hash".to_owned(), uid.to_owned()),
        ]
        .into(),
    );
    pod.spec = Some(PodSpec {
        containers: vec![Container {
            name: format!("{name}-main"),
            image: Some(IMAGE.to_owned()),
            image_pull_policy: Some("IfNotPresent".to_owned()),
            ..Container::default()
        }],
        restart_policy: Some(policy.to_owned()),
        dns_policy: Some("Default".to_owned()),
        termination_grace_period_seconds: Some(5),
        enable_service_links: Some(true),
        ..PodSpec::default()
    });
    pod.status = Some(PodStatus {
        phase: Some("Pending".to_owned()),
        ..PodStatus::default()
    });
    pod
}

fn with_port(mut pod: Pod, port: i32) -> Pod {
    pod.spec.as_mut().unwrap().containers[0].ports = Some(vec![ContainerPort {
        container_port: port,
        host_port: Some(port),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }]);
    pod
}

fn with_pre_stop(mut pod: Pod) -> Pod {
    let container = &mut pod.spec.as_mut().unwrap().containers[0];
    container.lifecycle = Some(Lifecycle {
        pre_stop: Some(LifecycleHandler {
            exec: Some(ExecAction {
                command: Some(vec!["hook".to_owned()]),
            }),
            ..LifecycleHandler::default()
        }),
        ..Lifecycle::default()
    });
    pod
}

fn with_priority(mut pod: Pod, priority: i32) -> Pod {
    pod.spec.as_mut().unwrap().priority = Some(priority);
    pod
}

fn set(pods: &[Pod]) -> SourceSet {
    let pods: Vec<_> = pods.iter().cloned().map(Arc::new).collect();
    Arc::new(pods).into()
}

struct Bench {
    fake: FakeCri,
    root: tempfile::TempDir,
    sets: watch::Sender<SourceSet>,
    life: Life,
}

impl Bench {
    fn start(pods: &[Pod], amounts: &[(&str, &str)]) -> Self {
        let (fake, root) = (FakeCri::start(), tempfile::tempdir().unwrap());
        let sets = watch::Sender::new(set(pods));
        let life = begin(&fake, root.path(), amounts, &sets);
        Self {
            fake,
            root,
            sets,
            life,
        }
    }

    async fn restart(self, amounts: &[(&str, &str)]) -> Self {
        self.restart_after(amounts, |_, _| {}).await
    }

    /// Something happens while the kubelet is away.
    async fn restart_after(
        self,
        amounts: &[(&str, &str)],
        meanwhile: impl FnOnce(&FakeCri, &watch::Sender<SourceSet>),
    ) -> Self {
        let Self {
            fake,
            root,
            sets,
            life,
        } = self;
        life.end().await;
        meanwhile(&fake, &sets);
        let life = begin(&fake, root.path(), amounts, &sets);
        Self {
            fake,
            root,
            sets,
            life,
        }
    }

    fn status(&self, uid: &str) -> PodStatus {
        self.life.context.statuses.status(&PodUid::new(uid))
    }

    fn phase(&self, uid: &str) -> String {
        self.status(uid).phase.unwrap_or_default()
    }

    fn reason(&self, uid: &str) -> String {
        self.status(uid).reason.unwrap_or_default()
    }

    fn is_running(&self, name: &str) -> bool {
        let container = self.fake.container(&format!("{name}-main"));
        container.is_some_and(|container| {
            container.state == cri_api::v1::ContainerState::ContainerRunning
        })
    }
}

fn begin(
    fake: &FakeCri,
    root: &Path,
    amounts: &[(&str, &str)],
    sets: &watch::Sender<SourceSet>,
) -> Life {
    Life::begin(fake, root, node(amounts), vec![sets.subscribe()])
}

const ROOM: &[(&str, &str)] = &[("pods", "10"), ("cpu", "4"), ("memory", "8Gi")];

#[tokio::test(start_paused = true)]
async fn adm_03_the_pod_that_does_not_fit_is_failed_and_stays_so() {
    let pods = [pod("a", "1", "Always"), pod("b", "2", "Always")];
    let bench = Bench::start(&pods, &[("pods", "1")]);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(bench.phase("1"), "Running");
    assert_eq!(bench.phase("2"), "Failed");
    // All static pods are critical: room is looked for and not found (ADM-09).
    assert_eq!(bench.reason("2"), "UnexpectedAdmissionError");
    let message = bench.status("2").message.unwrap();
    assert!(
        message.starts_with("Pod was rejected: Unexpected error while"),
        "{message}"
    );
    assert!(!bench.is_running("b"));
    // Room alone changes nothing.
    bench.sets.send_replace(set(&pods[1..]));
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(bench.phase("2"), "Failed");
    // Another manifest is asked about anew.
    bench.sets.send_replace(set(&[pod("b", "3", "Always")]));
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(bench.phase("3"), "Running");
    bench.life.end().await;
}

#[tokio::test(start_paused = true)]
async fn adm_04_the_second_pod_of_a_port_is_refused_by_name() {
    let pods = [
        with_port(pod("a", "1", "Always"), 80),
        with_port(pod("b", "2", "Always"), 80),
    ];
    let bench = Bench::start(&pods, ROOM);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(
        (bench.phase("1"), bench.reason("2")),
        ("Running".into(), "NodePorts".into())
    );
    let text = bench
        .life
        .context
        .metrics
        .admission_rejections
        .with_label_values(&["Other"]);
    assert_eq!(text.get(), 1);
    bench.life.end().await;
}

#[tokio::test(start_paused = true)]
async fn adm_05_labels_of_the_node_decide() {
    let mut here = pod("a", "1", "Always");
    let mut elsewhere = pod("b", "2", "Always");
    let select = |value: &str| Some([("disk".to_owned(), value.to_owned())].into());
    here.spec.as_mut().unwrap().node_selector = select("ssd");
    elsewhere.spec.as_mut().unwrap().node_selector = select("tape");
    let bench = Bench::start(&[here, elsewhere], ROOM);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(
        (bench.phase("1"), bench.reason("2")),
        ("Running".into(), "NodeAffinity".into())
    );
    bench.life.end().await;
}

#[tokio::test(start_paused = true)]
async fn adm_08_a_policy_of_groups_is_taken_where_the_runtime_has_it() {
    let mut strict = pod("a", "1", "Always");
    strict.spec.as_mut().unwrap().security_context = Some(PodSecurityContext {
        supplemental_groups_policy: Some("Strict".to_owned()),
        ..PodSecurityContext::default()
    });
    let bench = Bench::start(&[strict], ROOM);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(bench.phase("1"), "Running", "{}", bench.reason("1"));
    bench.life.end().await;
}

#[tokio::test(start_paused = true)]
async fn adm_09_a_pod_of_higher_priority_starts_when_its_victim_is_gone() {
    let low = with_priority(pod("low", "1", "Always"), 1);
    let high = with_priority(pod("high", "2", "Always"), 2);
    let bench = Bench::start(std::slice::from_ref(&low), &[("pods", "1")]);
    tokio::time::sleep(A_WHILE).await;
    assert!(bench.is_running("low"));
    let held = bench.fake.hold(Call::StopContainer);
    bench.sets.send_replace(set(&[low, high]));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(bench.is_running("low") && !bench.is_running("high"));
    assert_eq!(bench.reason("1"), "Preempting");
    drop(held);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(
        (bench.phase("1"), bench.phase("2")),
        ("Failed".into(), "Running".into())
    );
    let status = bench.status("1");
    let conditions: Vec<String> = status
        .conditions
        .iter()
        .flatten()
        .map(|condition| {
            let reason = condition.reason.as_deref().unwrap_or_default();
            format!("{} {} {reason}", condition.type_, condition.status)
        })
        .collect();
    assert_eq!(
        conditions,
        [
            "DisruptionTarget True TerminationByKubelet",
            "PodReadyToStartContainers False ",
            "Initialized True ",
            "Ready False PodFailed",
            "ContainersReady False PodFailed",
            "PodScheduled True ",
        ]
    );
    let ended = &status.container_statuses.unwrap()[0];
    let state = ended.state.as_ref().unwrap();
    assert!(state.terminated.is_some() && !ended.ready && ended.started == Some(false));
    assert!(!bench.is_running("low") && bench.is_running("high"));
    // Who had to go stays away over a restart, too: what runs is asked about first.
    let bench = bench.restart(&[("pods", "1")]).await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(
        (bench.phase("1"), bench.phase("2")),
        ("Failed".into(), "Running".into())
    );
    bench.life.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_runs_keeps_its_place_over_a_restart_and_what_has_ended_its_end() {
    // By name `a` would come first.
    let (done, runs) = (pod("a-done", "1", "Never"), pod("z-runs", "2", "Always"));
    let done = with_port(done, 80);
    let bench = Bench::start(std::slice::from_ref(&done), &[("pods", "1")]);
    tokio::time::sleep(A_WHILE).await;
    bench.fake.exit("a-done-main", 0);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(bench.phase("1"), "Succeeded");
    let runs = with_port(runs, 80);
    let late = with_port(pod("b-late", "3", "Always"), 81);
    bench.sets.send_replace(set(&[done.clone(), runs.clone()]));
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(bench.phase("2"), "Running");
    bench.sets.send_replace(set(&[done, runs, late]));
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(bench.phase("3"), "Failed");
    let bench = bench.restart(&[("pods", "1")]).await;
    tokio::time::sleep(A_WHILE).await;
    let phases = ["1", "2", "3"].map(|uid| bench.phase(uid));
    assert_eq!(phases, ["Succeeded", "Running", "Failed"]);
    // A node that became smaller refuses what ran, as upstream does, and ends it.
    let bench = bench.restart(&[("pods", "0")]).await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(
        (bench.phase("1"), bench.phase("2")),
        ("Succeeded".into(), "Failed".into())
    );
    assert!(!bench.is_running("z-runs"));
    bench.life.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_for_the_port_of_one_that_ends() {
    let old = with_port(pod("old", "1", "Always"), 80);
    let new = with_port(pod("new", "2", "Always"), 80);
    let bench = Bench::start(&[old], ROOM);
    tokio::time::sleep(A_WHILE).await;
    let held = bench.fake.hold(Call::StopContainer);
    bench.sets.send_replace(set(&[new]));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(bench.is_running("old") && !bench.is_running("new"));
    assert_eq!(bench.phase("2"), "Pending");
    assert_eq!(
        bench.status("2").message.as_deref(),
        Some("waits for pod default/old (1) to end")
    );
    drop(held);
    tokio::time::sleep(A_WHILE).await;
    assert!(!bench.is_running("old") && bench.is_running("new"));
    assert_eq!(bench.status("2").message, None);
    bench.life.end().await;
}

#[tokio::test(start_paused = true)]
async fn src_40_a_pod_that_is_replaced_ends_before_its_successor_starts_which_says_so() {
    let bench = Bench::start(&[pod("a", "1", "Always")], ROOM);
    tokio::time::sleep(A_WHILE).await;
    let held = bench.fake.hold(Call::StopContainer);
    bench.sets.send_replace(set(&[pod("a", "2", "Always")]));
    tokio::time::sleep(Duration::from_secs(30)).await;
    let waiting = bench.status("2");
    assert_eq!(waiting.phase.as_deref(), Some("Pending"));
    assert_eq!(
        waiting.message.as_deref(),
        Some("waits for pod default/a (1) to end")
    );
    drop(held);
    tokio::time::sleep(A_WHILE).await;
    let running = bench.status("2");
    assert_eq!(running.phase.as_deref(), Some("Running"));
    assert_eq!(running.message, None);
    bench.life.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_has_ended_for_good_leaves_its_name_to_one_of_another_source() {
    let (first, second) = (pod("a", "1", "Never"), pod("a", "2", "Always"));
    let bench = Bench::start(std::slice::from_ref(&first), ROOM);
    tokio::time::sleep(A_WHILE).await;
    bench.sets.send_replace(set(&[first, second]));
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(bench.phase("2"), "Pending");
    let message = bench.status("2").message.unwrap();
    assert_eq!(message, "waits for pod default/a (1) to end");
    bench.fake.exit("a-main", 0);
    tokio::time::sleep(A_WHILE).await;
    let phases = |bench: &Bench| ["1", "2"].map(|uid| bench.phase(uid));
    assert_eq!(phases(&bench), ["Succeeded", "Running"]);
    assert_eq!(bench.status("2").message, None);
    let bench = bench.restart(ROOM).await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(phases(&bench), ["Succeeded", "Running"]);
    bench.sets.send_replace(set(&[pod("a", "2", "Always")]));
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(bench.phase("2"), "Running");
    assert!(bench.is_running("a"));
    bench.life.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_refused_again_and_again_leaves_no_files() {
    let mut root = pod("a", "1", "Always");
    let spec = root.spec.as_mut().unwrap();
    spec.containers[0].termination_message_path = Some("/dev/termination-log".to_owned());
    spec.containers[0].security_context = Some(SecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(0),
        ..SecurityContext::default()
    });
    let bench = Bench::start(&[root], ROOM);
    tokio::time::sleep(A_WHILE).await;
    let status = bench.status("1").container_statuses.unwrap().remove(0);
    let waiting = status.state.unwrap().waiting.unwrap();
    assert_eq!(
        waiting.reason.as_deref(),
        Some("CreateContainerConfigError")
    );
    let pod = bench.root.path().join("kubelet/pods/1");
    assert!(pod.exists() && !pod.join("containers").exists());
    bench.life.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_made_for_a_pod_that_is_refused_now_goes_with_its_manifest() {
    let bench = Bench::start(&[pod("a", "1", "Always")], ROOM);
    let held = bench.fake.hold(Call::RunPodSandbox);
    tokio::time::sleep(A_WHILE).await;
    let directory = bench.root.path().join("kubelet/pods/1");
    assert!(directory.exists());
    let bench = bench.restart(&[("pods", "0")]).await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(bench.phase("1"), "Failed");
    assert!(directory.exists() && bench.fake.sandboxes().is_empty());
    bench.sets.send_replace(set(&[]));
    tokio::time::sleep(A_WHILE).await;
    assert!(!directory.exists());
    drop(held);
    bench.life.end().await;
}

#[tokio::test(start_paused = true)]
async fn src_44_a_pod_that_nobody_asks_for_is_told_of_as_it_is_stopped() {
    let bench = Bench::start(&[pod("a", "1", "Always")], ROOM);
    tokio::time::sleep(A_WHILE).await;
    assert!(bench.is_running("a"));
    bench.life.end().await;
    let sets = watch::Sender::new(set(&[]));
    let life = begin(&bench.fake, bench.root.path(), ROOM, &sets);
    tokio::time::sleep(A_WHILE).await;
    assert!(bench.fake.containers().is_empty());
    let told = life.told.events();
    let killing = told.iter().find(|seen| seen.event.reason == "Killing");
    let event = &killing.unwrap().event;
    assert_eq!(
        (event.namespace.as_str(), event.name.as_str()),
        ("default", "a")
    );
    assert_eq!(event.message, "Stopping container a-main");
    let path = "spec.containers{a-main}";
    assert_eq!(event.field_path.as_deref(), Some(path));
    life.end().await;
}

#[tokio::test(start_paused = true)]
async fn ctr_43_a_hook_that_outlives_the_grace_goes_on_beside_the_signal() {
    let bench = Bench::start(&[with_pre_stop(pod("a", "1", "Always"))], ROOM);
    tokio::time::sleep(A_WHILE).await;
    bench.fake.on_exec(|_| v1::ExecSyncResponse {
        exit_code: 137,
        ..v1::ExecSyncResponse::default()
    });
    let (hook, signal) = (
        bench.fake.hold(Call::ExecSync),
        bench.fake.hold(Call::StopContainer),
    );
    bench.sets.send_replace(set(&[]));
    // The pod has five seconds.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(bench.fake.call_count(Call::StopContainer), 0);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.fake.call_count(Call::StopContainer), 1);
    drop(hook);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let told = bench.life.told.events();
    assert!(
        told.iter()
            .any(|seen| seen.event.reason == "FailedPreStopHook")
    );
    drop(signal);
    tokio::time::sleep(A_WHILE).await;
    assert!(!bench.is_running("a"));
    bench.life.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_directories_cannot_be_made_says_so_as_upstream_does() {
    let (fake, root) = (FakeCri::start(), tempfile::tempdir().unwrap());
    std::fs::create_dir_all(root.path().join("kubelet")).unwrap();
    std::fs::write(root.path().join("kubelet/pods"), "no directory").unwrap();
    let sets = watch::Sender::new(set(&[pod("a", "1", "Always")]));
    let life = begin(&fake, root.path(), ROOM, &sets);
    tokio::time::sleep(A_WHILE).await;
    let told = life.told.events();
    let failed = told.iter().find(|seen| seen.event.reason == "Failed");
    let message = &failed.unwrap().event.message;
    let head = "error making pod data directories: ";
    assert!(message.starts_with(head), "{message}");
    life.end().await;
}

#[tokio::test(start_paused = true)]
async fn life_37_what_has_ended_stays_so_though_it_was_never_stopped_whole() {
    let bench = Bench::start(&[pod("a", "1", "Never")], ROOM);
    tokio::time::sleep(A_WHILE).await;
    let held = bench.fake.hold(Call::StopPodSandbox);
    bench.fake.exit("a-main", 0);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(bench.phase("1"), "Succeeded");
    bench.fake.prune();
    let bench = bench.restart(ROOM).await;
    drop(held);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(bench.phase("1"), "Succeeded");
    assert!(bench.fake.container("a-main").is_none());
    bench.life.end().await;
}
