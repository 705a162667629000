use std::net::IpAddr;

use k8s_openapi::api::core::v1::Probe;

use super::*;
use crate::backoff::BackoffPolicy;
use crate::hash::container_hash;
use crate::ids::{ContainerId, PodUid, SandboxId};
use crate::observed::{NetworkMode, ObservedSandbox, SandboxState};

mod ends;
mod init;
mod properties;

pub(super) const UID: &str = "u1";

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

/// The same on the clock that nobody sets.
pub(super) fn moment(seconds: u64) -> Moment {
    Moment::from_secs(seconds)
}

pub(super) fn container(name: &str) -> Container {
    Container {
        name: name.to_owned(),
        image: Some("busybox".to_owned()),
        ..Default::default()
    }
}

pub(super) fn sidecar(name: &str) -> Container {
    Container {
        restart_policy: Some("Always".to_owned()),
        ..container(name)
    }
}

pub(super) fn pod(policy: &str, init: Vec<Container>, containers: Vec<Container>) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.uid = Some(UID.to_owned());
    pod.metadata.name = Some("web".to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.restart_policy = Some(policy.to_owned());
    spec.termination_grace_period_seconds = Some(30);
    spec.init_containers = Some(init);
    spec.containers = containers;
    pod
}

pub(super) fn sandbox(id: &str, attempt: u32, state: SandboxState) -> ObservedSandbox {
    ObservedSandbox {
        id: SandboxId::from(id),
        attempt,
        state,
        created_at: Some(at(i64::from(attempt))),
        network_mode: Some(NetworkMode::Pod),
        ips: Some(vec!["10.0.0.1".parse::<IpAddr>().unwrap()]),
        runtime_handler: String::new(),
    }
}

pub(super) fn observed(name: &str, state: ContainerState, exit_code: i32) -> ObservedContainer {
    let labels = [
        (crate::observed::LABEL_POD_UID, UID),
        (crate::observed::LABEL_CONTAINER_NAME, name),
    ];
    let status = cri_api::v1::ContainerStatus {
        id: format!("id-{name}"),
        metadata: Some(cri_api::v1::ContainerMetadata::default()),
        created_at: at(10).as_nanosecond().try_into().unwrap(),
        labels: labels
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..Default::default()
    };
    let mut observed = crate::observed::container_from_status(&status, None).unwrap();
    observed.state = state;
    observed.exit_code = exit_code;
    observed.hash = container_hash(&container(name));
    observed.sandbox_id = Some(SandboxId::from("s0"));
    observed.started_at = Some(at(11));
    observed.finished_at = (state == ContainerState::Exited).then(|| at(20));
    observed
}

fn running(name: &str) -> ObservedContainer {
    observed(name, ContainerState::Running, 0)
}

fn exited(name: &str, code: i32) -> ObservedContainer {
    observed(name, ContainerState::Exited, code)
}

fn in_ready_sandbox(containers: Vec<ObservedContainer>) -> ObservedPod {
    let sandboxes = vec![sandbox("s0", 0, SandboxState::Ready)];
    ObservedPod::new(PodUid::from(UID), sandboxes, containers)
}

fn history() -> History {
    History::new(BackoffPolicy::CRASH_LOOP)
}

fn plan_with(pod: &Pod, observed: &ObservedPod, history: &History) -> PodActions {
    let rules = RestartRules::Disabled;
    compute_pod_actions(&ActionsInput {
        pod,
        observed,
        history,
        rules,
        now: at(1000),
        moment: moment(1000),
    })
}

fn plan(pod: &Pod, observed: &ObservedPod) -> PodActions {
    plan_with(pod, observed, &history())
}

fn starts(actions: &PodActions) -> Vec<(&str, StartReason)> {
    actions
        .start
        .iter()
        .map(|start| (start.name.as_str(), start.reason))
        .collect()
}

fn kills(actions: &PodActions) -> Vec<(&str, KillReason, i64)> {
    let kill = |kill: &'_ ContainerKill| (kill.reason, kill.grace_seconds);
    actions
        .kill
        .iter()
        .map(|k| (k.name.as_str(), kill(k).0, kill(k).1))
        .collect()
}

fn one(policy: &str) -> Pod {
    pod(policy, vec![], vec![container("c")])
}

/// The image could not be pulled, and is tried again then.
fn no_image(retry_at: u64) -> StartFailure {
    StartFailure {
        reason: WaitingReason::ErrImagePull,
        message: "no such host".to_owned(),
        retry_at: Some(moment(retry_at)),
        made: None,
    }
}

#[test]
fn ctr_02_new_pod_gets_a_sandbox_and_its_containers_in_order() {
    let pod = pod("Always", vec![], vec![container("b"), container("a")]);
    let actions = plan(&pod, &ObservedPod::new(PodUid::from(UID), vec![], vec![]));
    let reason = SandboxReason::Missing;
    assert_eq!(
        actions.create_sandbox,
        Some(SandboxCreate { attempt: 0, reason })
    );
    assert_eq!(
        starts(&actions),
        [("b", StartReason::Missing), ("a", StartReason::Missing)]
    );
    assert!(actions.kill_pod.is_empty());
}

#[test]
fn ctr_03_reasons_for_another_sandbox() {
    let pod = one("Always");
    let needed = |sandboxes: Vec<ObservedSandbox>| {
        let observed = ObservedPod::new(PodUid::from(UID), sandboxes, vec![]);
        sandbox_needed(&pod, &observed).map(|needed| (needed.attempt, needed.reason))
    };
    let ready = || sandbox("s0", 0, SandboxState::Ready);
    assert_eq!(needed(vec![ready()]), None);
    let second = sandbox("s1", 1, SandboxState::Ready);
    assert_eq!(
        needed(vec![ready(), second]),
        Some((2, SandboxReason::SeveralReady))
    );
    let broken = sandbox("s1", 1, SandboxState::NotReady);
    assert_eq!(
        needed(vec![ready(), broken]),
        Some((2, SandboxReason::NotReady))
    );
    let on_host = ObservedSandbox {
        network_mode: Some(NetworkMode::Node),
        ..ready()
    };
    assert_eq!(
        needed(vec![on_host]),
        Some((1, SandboxReason::NetworkModeChanged))
    );
    let without_ip = ObservedSandbox {
        ips: Some(vec![]),
        ..ready()
    };
    assert_eq!(
        needed(vec![without_ip]),
        Some((1, SandboxReason::NoAddress))
    );
    let silent = ObservedSandbox {
        ips: None,
        network_mode: None,
        ..ready()
    };
    assert_eq!(needed(vec![silent]), None);
}

#[test]
fn ctr_04_changed_sandbox_stops_all_and_begins_with_the_first_init_container() {
    let pod = pod(
        "Always",
        vec![container("i1"), container("i2")],
        vec![container("c")],
    );
    let sandboxes = vec![sandbox("s0", 0, SandboxState::NotReady)];
    let containers = vec![exited("i1", 0), exited("i2", 0), running("c")];
    let observed = ObservedPod::new(PodUid::from(UID), sandboxes, containers);
    let actions = plan(&pod, &observed);
    assert_eq!(actions.kill_pod.containers.len(), 1);
    assert_eq!(actions.remove.len(), 2);
    assert_eq!(actions.create_sandbox.as_ref().unwrap().attempt, 1);
    assert_eq!(starts(&actions), [("i1", StartReason::Missing)]);
    assert_eq!(actions.start[0].attempt, 1);
}

#[test]
fn ctr_04_finished_pods_get_no_sandbox() {
    let gone = |containers| {
        let sandboxes = vec![sandbox("s0", 0, SandboxState::NotReady)];
        ObservedPod::new(PodUid::from(UID), sandboxes, containers)
    };
    for (policy, code, done) in [
        ("Never", 1, true),
        ("OnFailure", 0, true),
        ("OnFailure", 1, false),
        ("Always", 0, false),
    ] {
        let actions = plan(&one(policy), &gone(vec![exited("c", code)]));
        assert_eq!(
            (actions.done, actions.create_sandbox.is_none()),
            (done, done),
            "{policy} {code}"
        );
    }
    // Nothing ever ran: the sandbox is tried again under every policy.
    for containers in [vec![], vec![observed("c", ContainerState::Created, 0)]] {
        assert!(
            plan(&one("Never"), &gone(containers))
                .create_sandbox
                .is_some()
        );
    }
}

#[test]
fn ctr_04_succeeded_container_stays_out_of_the_new_sandbox() {
    let pod = pod("OnFailure", vec![], vec![container("a"), container("b")]);
    let sandboxes = vec![sandbox("s0", 0, SandboxState::NotReady)];
    let containers = vec![exited("a", 0), exited("b", 1)];
    let observed = ObservedPod::new(PodUid::from(UID), sandboxes, containers);
    assert_eq!(starts(&plan(&pod, &observed)), [("b", StartReason::Exited)]);
}

#[test]
fn ctr_05_failed_sandbox_waits_for_its_retry() {
    let mut history = history();
    history.sandbox_retry_at = Some(moment(1010));
    let observed = ObservedPod::new(PodUid::from(UID), vec![], vec![]);
    let actions = plan_with(&one("Always"), &observed, &history);
    assert!(actions.is_empty());
    assert_eq!(actions.retry_at, Some(at(1010)));
}

#[test]
fn ctr_06_when_all_is_done_the_sandbox_is_stopped() {
    let actions = plan(&one("Never"), &in_ready_sandbox(vec![exited("c", 0)]));
    assert!(actions.done);
    assert_eq!(actions.kill_pod.sandboxes, [SandboxId::from("s0")]);
    assert!(actions.kill_pod.containers.is_empty());
}

#[test]
fn ctr_10_to_15_restart_by_state_and_policy() {
    use ContainerState::{Created, Exited, Running, Unknown};
    use StartReason as R;
    for (policy, state, code, expected) in [
        ("Always", Exited, 0, Some(R::Exited)),
        ("Always", Exited, 1, Some(R::Exited)),
        ("OnFailure", Exited, 0, None),
        ("OnFailure", Exited, 1, Some(R::Exited)),
        ("Never", Exited, 1, None),
        ("Never", Created, 0, Some(R::OnlyCreated)),
        ("Never", Unknown, 0, Some(R::Unknown)),
        ("Always", Running, 0, None),
    ] {
        let actions = plan(
            &one(policy),
            &in_ready_sandbox(vec![observed("c", state, code)]),
        );
        let found = actions.start.first().map(|start| start.reason);
        assert_eq!(found, expected, "{policy} {state:?} {code}");
        assert_eq!(actions.kill.len(), usize::from(state == Unknown));
    }
}

#[test]
fn ctr_12_changed_definition_restarts_under_every_policy() {
    let mut old = running("c");
    old.hash = 1;
    let actions = plan(&one("Never"), &in_ready_sandbox(vec![old]));
    assert_eq!(kills(&actions), [("c", KillReason::DefinitionChanged, 30)]);
    assert_eq!(
        actions.kill[0].message,
        "Container c definition changed, will be restarted"
    );
    assert_eq!(starts(&actions), [("c", StartReason::Replaced)]);
}

#[test]
fn life_32_a_removed_pod_gets_the_grace_of_its_deletion_else_its_own_and_a_second_at_least() {
    let grace = |deletion, own| {
        let mut pod = one("Always");
        pod.metadata.deletion_grace_period_seconds = deletion;
        pod.spec.as_mut().unwrap().termination_grace_period_seconds = own;
        removal_grace_seconds(&pod)
    };
    assert_eq!(grace(Some(2), Some(60)), 2);
    assert_eq!(grace(Some(90), Some(60)), 90);
    assert_eq!(grace(Some(0), Some(60)), 60);
    assert_eq!(grace(None, Some(0)), 1);
    assert_eq!(grace(None, None), 1);
}

#[test]
fn ctr_13_and_14_failed_probes_kill_with_their_own_grace() {
    for (policy, restarts) in [("Always", true), ("Never", false)] {
        for startup in [false, true] {
            let mut pod = one(policy);
            let probe = Probe {
                termination_grace_period_seconds: Some(5),
                ..Default::default()
            };
            let container = &mut pod.spec.as_mut().unwrap().containers[0];
            let results = if startup {
                container.startup_probe = Some(probe);
                ProbeResults {
                    startup: Some(ProbeResult::Failure),
                    ..Default::default()
                }
            } else {
                container.liveness_probe = Some(probe);
                ProbeResults {
                    liveness: Some(ProbeResult::Failure),
                    ..Default::default()
                }
            };
            let mut history = history();
            history.probes.insert(ContainerId::from("id-c"), results);
            let actions = plan_with(&pod, &in_ready_sandbox(vec![running("c")]), &history);
            let (reason, word) = if startup {
                (KillReason::StartupProbe, "startup")
            } else {
                (KillReason::LivenessProbe, "liveness")
            };
            let tail = if restarts { ", will be restarted" } else { "" };
            if restarts {
                assert_eq!(kills(&actions), [("c", reason, 5)]);
                let message = format!("Container c failed {word} probe{tail}");
                assert_eq!(actions.kill[0].message, message);
            } else {
                // Nothing is left to run: the pod ends.
                assert!(actions.done);
            }
            assert_eq!(actions.start.len(), usize::from(restarts));
        }
    }
}

#[test]
fn ctr_21_restart_count_grows_from_the_runtime_or_from_the_logs() {
    let mut old = exited("c", 1);
    old.restart_count = 4;
    let actions = plan(&one("Always"), &in_ready_sandbox(vec![old]));
    assert_eq!(actions.start[0].attempt, 5);
    let mut history = history();
    history
        .next_restart_by_logs
        .insert(ContainerName::from("c"), 7);
    let actions = plan_with(&one("Always"), &in_ready_sandbox(vec![]), &history);
    assert_eq!(actions.start[0].attempt, 7);
}

#[test]
fn ctr_22_crashed_container_waits_for_backoff() {
    let pod = one("Always");
    let mut history = history();
    let mut ended = exited("c", 1);
    ended.finished_at = Some(at(995));
    let observed = in_ready_sandbox(vec![ended]);
    // The first restart is immediate.
    let actions = plan_with(&pod, &observed, &history);
    assert_eq!(starts(&actions), [("c", StartReason::Exited)]);
    history.note_start(&actions.start[0], at(995));
    // The second waits ten seconds from the end.
    let actions = plan_with(&pod, &observed, &history);
    assert!(actions.is_empty() && !actions.done);
    assert_eq!(actions.wait[0].reason, WaitingReason::CrashLoopBackOff);
    assert_eq!(
        actions.wait[0].message,
        "back-off 10s restarting failed container=c pod=web_default(u1)"
    );
    assert_eq!(actions.retry_at, Some(at(1005)));
}

#[test]
fn ctr_23_failed_start_is_tried_again_at_its_time() {
    let mut history = history();
    let mut plan_at = |retry_at| {
        let name = ContainerName::from("c");
        history.start_failures.insert(name, no_image(retry_at));
        plan_with(&one("Always"), &in_ready_sandbox(vec![]), &history)
    };
    let actions = plan_at(1010);
    assert!(actions.is_empty());
    assert_eq!(actions.wait[0].reason, WaitingReason::ErrImagePull);
    assert_eq!(actions.retry_at, Some(at(1010)));
    assert_eq!(plan_at(1000).start.len(), 1);
}

/// Kubernetes kubelet: the relist sees the container that was made as one that has ended.
#[test]
fn ctr_23_a_container_that_could_not_be_started_waits_as_one_that_crashed() {
    let pod = one("Always");
    let plan_at = |history: &History, latest: ObservedContainer, seconds: u32| {
        compute_pod_actions(&ActionsInput {
            pod: &pod,
            observed: &in_ready_sandbox(vec![latest]),
            history,
            rules: RestartRules::Disabled,
            now: at(seconds.into()),
            moment: moment(seconds.into()),
        })
    };
    let instance = |state, attempt, ended_at| ObservedContainer {
        restart_count: attempt,
        finished_at: Some(at(ended_at)),
        ..observed("c", state, 127)
    };
    let failed = |attempt, seconds| StartFailure {
        reason: WaitingReason::RunContainerError,
        message: "no such file".to_owned(),
        retry_at: Some(moment(seconds + 12)),
        made: Some(MadeContainer {
            attempt,
            failed_at: moment(seconds),
        }),
    };
    let name = ContainerName::from("c");
    let mut history = history();
    history.note_failure(name.clone(), failed(0, 1000));
    // The failure is shown for as long as upstream does not look, and the first restart is immediate.
    let dead = instance(ContainerState::Exited, 0, 1000);
    let first = plan_at(&history, dead.clone(), 1000);
    assert_eq!(first.wait[0].reason, WaitingReason::RunContainerError);
    assert_eq!(first.retry_at, Some(at(1001)));
    let again = plan_at(&history, dead, 1001);
    assert_eq!(starts(&again), [("c", StartReason::Exited)]);
    history.note_start(&again.start[0], at(1001));
    // From then on it backs off.
    history.note_failure(name, failed(1, 1001));
    let dead = instance(ContainerState::Exited, 1, 1001);
    let shown = plan_at(&history, dead.clone(), 1001);
    assert_eq!(shown.wait[0].reason, WaitingReason::RunContainerError);
    let waits = plan_at(&history, dead, 1002);
    assert_eq!(waits.wait[0].reason, WaitingReason::CrashLoopBackOff);
    assert_eq!(waits.retry_at, Some(at(1011)));
    // A runtime that leaves it as it was made, or has an older one only, is not asked again and again.
    for latest in [
        instance(ContainerState::Created, 1, 1001),
        instance(ContainerState::Exited, 0, 900),
    ] {
        let waits = plan_at(&history, latest, 1012);
        assert_eq!(waits.wait[0].reason, WaitingReason::RunContainerError);
        assert_eq!(waits.retry_at, Some(at(1013)));
    }
}

#[test]
fn a_clock_that_is_set_neither_ends_nor_lengthens_the_wait_for_a_retry() {
    let mut history = history();
    history.note_failure(ContainerName::from("c"), no_image(1010));
    history.sandbox_retry_at = Some(moment(1010));
    for observed in [
        in_ready_sandbox(vec![]),
        ObservedPod::new(PodUid::from(UID), vec![], vec![]),
    ] {
        for hour in [0, 1000, 90_000] {
            let actions = compute_pod_actions(&ActionsInput {
                pod: &one("Always"),
                observed: &observed,
                history: &history,
                rules: RestartRules::Disabled,
                now: at(hour),
                moment: moment(1000),
            });
            assert!(actions.is_empty());
            assert_eq!(actions.retry_at, Some(at(hour + 10)));
        }
    }
}

/// What was in vain is known by it: the times in a plan are others at each look.
#[test]
fn plans_ask_the_same_whatever_waits_and_until_when() {
    let waiting = |seconds| {
        let mut history = history();
        let name = ContainerName::from("c");
        history.note_failure(name, no_image(seconds));
        plan_with(&one("Always"), &in_ready_sandbox(vec![]), &history)
    };
    let (soon, later) = (waiting(1010), waiting(1011));
    assert_ne!(soon, later);
    assert!(soon.asks_the_same(&later));
    let started = plan(&one("Always"), &in_ready_sandbox(vec![]));
    assert!(!started.asks_the_same(&soon));
}

#[test]
fn an_edited_pod_does_not_wait_for_what_failed_before() {
    let mut history = history();
    let name = ContainerName::from("c");
    history.start_failures.insert(name, no_image(1010));
    history.pod_changed();
    let actions = plan_with(&one("Always"), &in_ready_sandbox(vec![]), &history);
    assert_eq!(actions.start.len(), 1);
    history.sandbox_retry_at = Some(moment(1010));
    history.pod_changed();
    let none = ObservedPod::new(PodUid::from(UID), vec![], vec![]);
    let actions = plan_with(&one("Always"), &none, &history);
    assert!(actions.create_sandbox.is_some());
}

#[test]
fn container_that_is_replaced_does_not_wait_for_an_older_failure() {
    let mut history = history();
    let name = ContainerName::from("c");
    history.start_failures.insert(name, no_image(1010));
    let mut old = running("c");
    old.hash = 1;
    let actions = plan_with(&one("Never"), &in_ready_sandbox(vec![old]), &history);
    assert_eq!(starts(&actions), [("c", StartReason::Replaced)]);
}

#[test]
fn ctr_36_exit_code_rules_override_the_policy() {
    use k8s_openapi::api::core::v1::{ContainerRestartRule, ContainerRestartRuleOnExitCodes};
    let mut pod = one("Always");
    let container = &mut pod.spec.as_mut().unwrap().containers[0];
    container.restart_policy = Some("Never".to_owned());
    container.restart_policy_rules = Some(vec![ContainerRestartRule {
        action: "Restart".to_owned(),
        exit_codes: Some(ContainerRestartRuleOnExitCodes {
            operator: "In".to_owned(),
            values: Some(vec![42]),
        }),
    }]);
    for (rules, code, restarts) in [
        (RestartRules::Enabled, 42, true),
        (RestartRules::Enabled, 1, false),
        (RestartRules::Disabled, 1, true),
    ] {
        let observed = in_ready_sandbox(vec![exited("c", code)]);
        let history = history();
        let now = at(1000);
        let input = ActionsInput {
            pod: &pod,
            observed: &observed,
            history: &history,
            rules,
            now,
            moment: moment(0),
        };
        assert_eq!(
            compute_pod_actions(&input).start.len(),
            usize::from(restarts)
        );
    }
}

#[test]
fn src_41_container_that_left_the_pod_is_stopped() {
    let actions = plan(
        &one("Always"),
        &in_ready_sandbox(vec![running("old"), running("c")]),
    );
    assert_eq!(kills(&actions), [("old", KillReason::NotInPod, 30)]);
    assert!(actions.start.is_empty());
}

#[test]
fn older_twin_of_a_running_container_is_stopped() {
    let mut older = running("c");
    older.id = ContainerId::from("older");
    older.created_at = Some(at(1));
    let actions = plan(&one("Always"), &in_ready_sandbox(vec![older, running("c")]));
    assert_eq!(kills(&actions), [("c", KillReason::Superseded, 30)]);
    assert_eq!(actions.kill[0].id, ContainerId::from("older"));
    assert!(actions.start.is_empty());
}
