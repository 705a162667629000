mod containers;
mod probes;

use k8s_openapi::api::core::v1::{Container, PodReadinessGate, Probe, VolumeMount};

use super::*;
use crate::actions::{History, ProbeResult, ProbeResults, StartFailure};
use crate::backoff::{BackoffPolicy, CrashKey};
use crate::ids::{ContainerId, ContainerName, PodUid, SandboxId};
use crate::observed::{
    ContainerState as State, NetworkMode, ObservedContainer, ObservedSandbox, container_from_status,
};
use crate::reasons::WaitingReason;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn container(name: &str) -> Container {
    Container {
        name: name.to_owned(),
        image: Some("busybox".to_owned()),
        ..Default::default()
    }
}

fn sidecar(name: &str) -> Container {
    Container {
        restart_policy: Some("Always".to_owned()),
        ..container(name)
    }
}

fn pod(policy: &str, init: Vec<Container>, containers: Vec<Container>) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.uid = Some("u1".to_owned());
    pod.metadata.name = Some("web".to_owned());
    pod.metadata.annotations = Some([(spec::CONFIG_SOURCE.to_owned(), "file".to_owned())].into());
    let spec = pod.spec.get_or_insert_default();
    spec.restart_policy = Some(policy.to_owned());
    spec.init_containers = Some(init);
    spec.containers = containers;
    pod
}

fn observed(name: &str, state: State, exit_code: i32) -> ObservedContainer {
    let status = cri_api::v1::ContainerStatus {
        id: format!("id-{name}"),
        metadata: Some(cri_api::v1::ContainerMetadata {
            name: name.to_owned(),
            ..Default::default()
        }),
        created_at: at(10).as_nanosecond().try_into().unwrap(),
        image_ref: "sha256:abc".to_owned(),
        labels: [(crate::observed::LABEL_POD_UID.to_owned(), "u1".to_owned())].into(),
        ..Default::default()
    };
    let mut observed = container_from_status(&status, Some(SandboxId::from("s0"))).unwrap();
    observed.state = state;
    observed.exit_code = exit_code;
    observed.image = "busybox:latest".to_owned();
    observed.started_at = Some(at(11));
    observed.finished_at = (state == State::Exited).then(|| at(20));
    observed
}

fn running(name: &str) -> ObservedContainer {
    observed(name, State::Running, 0)
}

fn exited(name: &str, code: i32) -> ObservedContainer {
    observed(name, State::Exited, code)
}

fn world(containers: Vec<ObservedContainer>) -> ObservedPod {
    let sandbox = ObservedSandbox {
        id: SandboxId::from("s0"),
        attempt: 0,
        state: SandboxState::Ready,
        created_at: Some(at(1)),
        network_mode: Some(NetworkMode::Pod),
        ips: Some(vec![
            "fd00::5".parse().unwrap(),
            "10.0.0.5".parse().unwrap(),
        ]),
        runtime_handler: String::new(),
    };
    ObservedPod::new(PodUid::from("u1"), vec![sandbox], containers)
}

fn history() -> History {
    History::new(BackoffPolicy::CRASH_LOOP)
}

fn input<'a>(pod: &'a Pod, observed: &'a ObservedPod, history: &'a History) -> StatusInput<'a> {
    StatusInput {
        pod,
        observed,
        previous: None,
        history,
        rules: RestartRules::Disabled,
        runtime_name: "docker",
        end: PodEnd::Open,
        verdict: None,
        primary_family: IpFamily::V4,
        host_ips: &[],
        stop_signals: false,
        supplemental_groups: true,
        in_place_resize: true,
        recursive_read_only: false,
        conditions: &[],
        now: at(100),
        moment: Moment::from_secs(100),
    }
}

fn status(pod: &Pod, containers: Vec<ObservedContainer>) -> PodStatus {
    compute_pod_status(&input(pod, &world(containers), &history()))
}

fn condition<'a>(status: &'a PodStatus, type_: &str) -> (&'a str, &'a str, &'a str) {
    let condition = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == type_)
        .unwrap();
    let text = |text: &'a Option<String>| text.as_deref().unwrap_or_default();
    (
        &condition.status,
        text(&condition.reason),
        text(&condition.message),
    )
}

fn first(status: &PodStatus) -> &ContainerStatus {
    &status.container_statuses.as_ref().unwrap()[0]
}

fn waiting_reason(status: &ContainerStatus) -> Option<&str> {
    status.state.as_ref()?.waiting.as_ref()?.reason.as_deref()
}

#[test]
fn stat_01_phases() {
    let one = |policy: &str| pod(policy, vec![], vec![container("c")]);
    let with_init = |policy: &str| pod(policy, vec![container("i")], vec![container("c")]);
    let with_sidecar = |policy: &str| pod(policy, vec![sidecar("s")], vec![container("c")]);
    for (pod, containers, phase) in vec![
        (one("Always"), vec![], "Pending"),
        (one("Always"), vec![running("c")], "Running"),
        (one("Always"), vec![exited("c", 0)], "Running"),
        (one("OnFailure"), vec![exited("c", 0)], "Succeeded"),
        (one("OnFailure"), vec![exited("c", 1)], "Running"),
        (one("Never"), vec![exited("c", 0)], "Succeeded"),
        (one("Never"), vec![exited("c", 1)], "Failed"),
        (with_init("Always"), vec![running("i")], "Pending"),
        (with_init("Never"), vec![exited("i", 1)], "Failed"),
        (with_init("Always"), vec![exited("i", 1)], "Pending"),
        (
            with_init("Always"),
            vec![exited("i", 0), running("c")],
            "Running",
        ),
        (with_sidecar("Never"), vec![running("s")], "Pending"),
        (
            with_sidecar("Never"),
            vec![running("s"), running("c")],
            "Running",
        ),
        (
            with_sidecar("Never"),
            vec![exited("s", 1), exited("c", 0)],
            "Succeeded",
        ),
    ] {
        let found = status(&pod, containers.clone());
        assert_eq!(found.phase.as_deref(), Some(phase), "{containers:?}");
    }
}

#[test]
fn stat_02_terminal_phase_never_reverts() {
    let pod = pod("Never", vec![], vec![container("c")]);
    let old = PodStatus {
        phase: Some("Failed".to_owned()),
        reason: Some("Evicted".to_owned()),
        message: Some("why".to_owned()),
        ..Default::default()
    };
    let (observed, history) = (world(vec![running("c")]), history());
    let new = compute_pod_status(&StatusInput {
        previous: Some(&old),
        ..input(&pod, &observed, &history)
    });
    assert_eq!(
        (new.phase, new.reason, new.message),
        (old.phase, old.reason, old.message)
    );
}

#[test]
fn stat_03_conditions_stand_in_order_and_their_times_change_with_them() {
    let pod = pod("Always", vec![], vec![container("c")]);
    let before = status(&pod, vec![running("c")]);
    let types: Vec<_> = before
        .conditions
        .iter()
        .flatten()
        .map(|condition| condition.type_.as_str())
        .collect();
    assert_eq!(
        types,
        [
            "PodReadyToStartContainers",
            "Initialized",
            "Ready",
            "ContainersReady",
            "PodScheduled"
        ]
    );
    let (observed, history) = (world(vec![exited("c", 1)]), history());
    let later = StatusInput {
        previous: Some(&before),
        now: at(200),
        ..input(&pod, &observed, &history)
    };
    let after = compute_pod_status(&later);
    let time = |type_: &str| {
        let mut conditions = after.conditions.iter().flatten();
        conditions
            .find(|c| c.type_ == type_)
            .unwrap()
            .last_transition_time
            .clone()
            .unwrap()
            .0
    };
    assert_eq!(time("Ready"), at(200));
    assert_eq!(time("Initialized"), at(100));
}

#[test]
fn stat_04_reasons_of_conditions() {
    let two = pod("Always", vec![], vec![container("a"), container("b")]);
    assert_eq!(
        condition(&status(&two, vec![]), "Ready"),
        (
            "False",
            "ContainersNotReady",
            "containers with unready status: [a b]"
        )
    );
    let init = pod("Always", vec![container("i")], vec![container("c")]);
    assert_eq!(
        condition(&status(&init, vec![running("i")]), "Initialized"),
        (
            "False",
            "ContainersNotInitialized",
            "containers with incomplete status: [i]"
        )
    );
    let done = pod("Never", vec![], vec![container("c")]);
    let completed = status(&done, vec![exited("c", 0)]);
    assert_eq!(
        condition(&completed, "Ready"),
        ("False", "PodCompleted", "")
    );
    assert_eq!(
        condition(&completed, "Initialized"),
        ("True", "PodCompleted", "")
    );
    assert_eq!(
        condition(&status(&done, vec![exited("c", 1)]), "Ready"),
        ("False", "PodFailed", "")
    );
    let mut gated = pod("Always", vec![], vec![container("c")]);
    gated.spec.as_mut().unwrap().readiness_gates = Some(vec![PodReadinessGate {
        condition_type: "www.x/y".to_owned(),
    }]);
    let gated = status(&gated, vec![running("c")]);
    assert_eq!(
        condition(&gated, "Ready"),
        (
            "False",
            "ReadinessGatesNotReady",
            "corresponding condition of pod readiness gate \"www.x/y\" does not exist."
        )
    );
    assert_eq!(condition(&gated, "ContainersReady").0, "True");
}

#[test]
fn stat_05_sandbox_condition() {
    let pod = pod("Always", vec![], vec![container("c")]);
    assert_eq!(
        condition(&status(&pod, vec![]), "PodReadyToStartContainers").0,
        "True"
    );
    let nothing = ObservedPod::new(PodUid::from("u1"), vec![], vec![]);
    let status = compute_pod_status(&input(&pod, &nothing, &history()));
    assert_eq!(condition(&status, "PodReadyToStartContainers").0, "False");
}

#[test]
fn ctr_53_deadline_fails_the_pod() {
    let mut pod = pod("Always", vec![], vec![container("c")]);
    pod.spec.as_mut().unwrap().active_deadline_seconds = Some(60);
    let running = status(&pod, vec![running("c")]);
    assert_eq!(active_deadline(&pod, &running), Some(at(160)));
    let verdict = deadline_exceeded();
    let (observed, history) = (world(vec![]), history());
    let failed = compute_pod_status(&StatusInput {
        verdict: Some(&verdict),
        ..input(&pod, &observed, &history)
    });
    assert_eq!(failed.phase.as_deref(), Some("Failed"));
    assert_eq!(failed.reason.as_deref(), Some("DeadlineExceeded"));
}

#[test]
fn stat_11_start_time_stays() {
    let pod = pod("Always", vec![], vec![container("c")]);
    let before = status(&pod, vec![]);
    assert_eq!(before.start_time, Some(Time(at(100))));
    let (observed, history) = (world(vec![running("c")]), history());
    let after = compute_pod_status(&StatusInput {
        previous: Some(&before),
        now: at(500),
        ..input(&pod, &observed, &history)
    });
    assert_eq!(after.start_time, before.start_time);
    assert_eq!(after.qos_class.as_deref(), Some("BestEffort"));
}

#[test]
fn stat_20_addresses_by_family_and_kept_while_the_sandbox_is_down() {
    let mut pod = pod("Always", vec![], vec![container("c")]);
    let ips = |status: &PodStatus| -> Vec<String> {
        status
            .pod_ips
            .iter()
            .flatten()
            .map(|ip| ip.ip.clone())
            .collect()
    };
    let before = status(&pod, vec![]);
    assert_eq!(ips(&before), ["10.0.0.5", "fd00::5"]);
    assert_eq!(before.pod_ip.as_deref(), Some("10.0.0.5"));
    assert_eq!((before.host_ip.as_deref(), &before.host_ips), (None, &None));
    let (nothing, history) = (ObservedPod::default(), history());
    let down = compute_pod_status(&StatusInput {
        previous: Some(&before),
        ..input(&pod, &nothing, &history)
    });
    assert_eq!(ips(&down), ips(&before));
    pod.spec.as_mut().unwrap().host_network = Some(true);
    assert!(ips(&status(&pod, vec![])).is_empty());
    let host_ips = ["192.168.0.1".parse().unwrap()];
    let observed = world(vec![]);
    let connected = compute_pod_status(&StatusInput {
        host_ips: &host_ips,
        ..input(&pod, &observed, &history)
    });
    assert_eq!(ips(&connected), ["192.168.0.1"]);
}

#[test]
fn adm_01_rejected_pod() {
    let pod = pod("Always", vec![], vec![container("c")]);
    let status = rejected_status(&pod, &RejectReason::NodePorts, "no free ports", at(1));
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    assert_eq!(status.reason.as_deref(), Some("NodePorts"));
    assert_eq!(
        status.message.as_deref(),
        Some("Pod was rejected: no free ports")
    );
}

#[test]
fn life_36_static_pod_keeps_its_phase_and_every_other_ends() {
    let mut pod = pod("Always", vec![], vec![container("c")]);
    let before = status(&pod, vec![running("c")]);
    let ended = compute_terminated_status(&pod, &before);
    assert_eq!(current_end(first(&ended)).unwrap().exit_code, 137);
    assert_eq!(ended.phase.as_deref(), Some("Running"));
    pod.metadata.annotations = None;
    let ended = compute_terminated_status(&pod, &before);
    assert_eq!(ended.phase.as_deref(), Some("Failed"));
}

#[test]
fn ctr_01_what_has_ended_is_told_by_the_status_before_anything_is_started() {
    let ended = |policy: &str, containers| {
        let pod = pod(policy, vec![sidecar("s")], vec![container("c")]);
        let (observed, history) = (world(containers), history());
        has_ended(&input(&pod, &observed, &history))
    };
    for (policy, code, expected) in [
        ("Never", 1, true),
        ("OnFailure", 0, true),
        ("OnFailure", 1, false),
        ("Always", 0, false),
    ] {
        let containers = vec![exited("s", 0), exited("c", code)];
        assert_eq!(ended(policy, containers), expected, "{policy} {code}");
    }
    assert!(!ended("Never", vec![running("s"), exited("c", 0)]));
}

#[test]
fn pod_that_is_over_before_all_its_containers_ran_has_failed() {
    let containers = vec![container("a"), container("b")];
    let of_a_file = pod("Never", vec![container("i")], containers);
    let mut of_a_server = of_a_file.clone();
    of_a_server.metadata.annotations = None;
    let only_created = observed("b", State::Created, 0);
    for containers in [
        vec![exited("i", 0), exited("a", 0), only_created.clone()],
        vec![exited("i", 0), only_created],
        vec![exited("i", 0)],
    ] {
        let (observed, history) = (world(containers), history());
        for (pod, waiting) in [(&of_a_file, true), (&of_a_server, false)] {
            let status = compute_pod_status(&StatusInput {
                end: PodEnd::Over,
                ..input(pod, &observed, &history)
            });
            assert_eq!(status.phase.as_deref(), Some("Failed"));
            // STAT-10: of a static pod with init containers upstream does not know what had its turn.
            let waits = |status: &ContainerStatus| is_waiting(status);
            assert_eq!(
                status.container_statuses.iter().flatten().any(waits),
                waiting
            );
        }
    }
}
