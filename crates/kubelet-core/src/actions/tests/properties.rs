//! What holds for every plan (style 2.5): carried out on a model, plans come to an end.

use proptest::prelude::*;

use super::*;

const NAMES: [&str; 6] = ["i0", "i1", "i2", "c0", "c1", "stranger"];

fn any_pod() -> impl Strategy<Value = Pod> {
    let policy = prop_oneof![Just("Always"), Just("OnFailure"), Just("Never")];
    let init = proptest::collection::vec(any::<bool>(), 0..=3);
    (policy, init, 1..=2_usize, any::<bool>()).prop_map(|(policy, init, count, host)| {
        let init = init
            .into_iter()
            .enumerate()
            .map(|(i, is_sidecar)| {
                let name = format!("i{i}");
                if is_sidecar {
                    sidecar(&name)
                } else {
                    container(&name)
                }
            })
            .collect();
        let containers = (0..count).map(|i| container(&format!("c{i}"))).collect();
        let mut pod = pod(policy, init, containers);
        pod.spec.as_mut().unwrap().host_network = Some(host);
        pod
    })
}

fn any_sandboxes() -> impl Strategy<Value = Vec<ObservedSandbox>> {
    let one = (any::<bool>(), any::<bool>(), any::<bool>(), 0..5_u32);
    proptest::collection::vec(one, 0..3).prop_map(|list| {
        let one = |(index, (ready, node, has_ip, attempt)): (usize, (bool, bool, bool, u32))| {
            let state = if ready {
                SandboxState::Ready
            } else {
                SandboxState::NotReady
            };
            let mut sandbox = sandbox(&format!("s{index}"), attempt, state);
            sandbox.network_mode = Some(if node {
                NetworkMode::Node
            } else {
                NetworkMode::Pod
            });
            if !has_ip {
                sandbox.ips = Some(vec![]);
            }
            sandbox
        };
        list.into_iter().enumerate().map(one).collect()
    })
}

fn any_containers() -> impl Strategy<Value = Vec<ObservedContainer>> {
    let state = prop_oneof![
        Just(ContainerState::Created),
        Just(ContainerState::Running),
        Just(ContainerState::Exited),
        Just(ContainerState::Unknown),
    ];
    let one = (
        0..NAMES.len(),
        state,
        0..2_i32,
        0..3_u32,
        0..50_i64,
        any::<[bool; 2]>(),
    );
    proptest::collection::vec(one, 0..7).prop_map(|list| {
        list.into_iter()
            .enumerate()
            .map(
                |(index, (name, state, code, restarts, created, [changed, foreign]))| {
                    let mut container = observed(NAMES[name], state, code);
                    container.id = ContainerId::new(format!("old-{index}"));
                    container.restart_count = restarts;
                    container.created_at = Some(at(created));
                    if changed {
                        container.hash = 1;
                    }
                    if foreign && index == 0 {
                        container.pod_uid = PodUid::from("somebody-else");
                    }
                    container
                },
            )
            .collect()
    })
}

fn any_history() -> impl Strategy<Value = History> {
    let result = || {
        proptest::option::of(prop_oneof![
            Just(ProbeResult::Success),
            Just(ProbeResult::Failure),
            Just(ProbeResult::Unknown)
        ])
    };
    let probes = proptest::collection::vec((result(), result()), 7);
    (probes, proptest::option::of(0..2_usize), 0..2_i64).prop_map(|(probes, failed, sandbox)| {
        let mut history = super::history();
        for (index, (startup, liveness)) in probes.into_iter().enumerate() {
            let results = ProbeResults {
                startup,
                liveness,
                readiness: None,
            };
            history
                .probes
                .insert(ContainerId::new(format!("old-{index}")), results);
        }
        if let Some(index) = failed {
            let failure = StartFailure {
                reason: WaitingReason::ErrImagePull,
                message: String::new(),
                retry_at: Some(moment(2000)),
                made: None,
            };
            history
                .start_failures
                .insert(ContainerName::new(format!("c{index}")), failure);
        }
        if sandbox == 1 {
            history.sandbox_retry_at = Some(moment(2000));
        }
        history
    })
}

fn any_world() -> impl Strategy<Value = (Pod, Vec<ObservedSandbox>, Vec<ObservedContainer>, History)>
{
    (any_pod(), any_sandboxes(), any_containers(), any_history())
}

fn world(sandboxes: &[ObservedSandbox], containers: &[ObservedContainer]) -> ObservedPod {
    ObservedPod::new(PodUid::from(UID), sandboxes.to_vec(), containers.to_vec())
}

/// Carries out a plan as a runtime would.
fn apply(model: &mut ObservedPod, actions: &PodActions, step: i64) {
    let killed = actions.kill_pod.containers.iter().chain(&actions.kill);
    let killed: Vec<_> = killed.map(|kill| kill.id.clone()).collect();
    for container in &mut model.containers {
        if killed.contains(&container.id) {
            container.state = ContainerState::Exited;
            container.exit_code = 137;
            container.finished_at = Some(at(100));
        }
    }
    for sandbox in &mut model.sandboxes {
        if actions.kill_pod.sandboxes.contains(&sandbox.id) {
            sandbox.state = SandboxState::NotReady;
        }
    }
    model.containers.retain(|container| {
        !actions
            .remove
            .iter()
            .any(|removal| removal.id == container.id)
    });
    let mut sandboxes = std::mem::take(&mut model.sandboxes);
    if let Some(create) = &actions.create_sandbox {
        let id = format!("new-{step}");
        let mut new = sandbox(&id, create.attempt, SandboxState::Ready);
        new.created_at = Some(at(500 + step));
        new.network_mode = None;
        sandboxes.push(new);
    }
    let mut containers = std::mem::take(&mut model.containers);
    for (index, start) in actions.start.iter().enumerate() {
        let mut new = observed(start.name.as_str(), ContainerState::Running, 0);
        new.id = ContainerId::new(format!("new-{step}-{index}"));
        new.restart_count = start.attempt;
        new.created_at = Some(at(500 + step));
        new.sandbox_id = sandboxes
            .iter()
            .max_by_key(|s| s.created_at)
            .map(|s| s.id.clone());
        containers.push(new);
    }
    *model = ObservedPod::new(model.uid.clone(), sandboxes, containers);
}

proptest! {
    #[test]
    fn plans_come_to_an_end((pod, sandboxes, containers, history) in any_world()) {
        let mut model = world(&sandboxes, &containers);
        // Each sidecar lets the next container go on; one pass more ends a pod.
        let limit = 4 + spec::init_containers(&pod).len();
        for step in 0..limit {
            let actions = plan_with(&pod, &model, &history);
            if actions.is_empty() {
                return Ok(());
            }
            apply(&mut model, &actions, i64::try_from(step).unwrap());
        }
        prop_assert!(plan_with(&pod, &model, &history).is_empty(), "no end: {model:#?}");
    }

    #[test]
    fn without_sidecars_and_kills_one_pass_is_enough(
        (pod, sandboxes, containers, history) in any_world()
    ) {
        let has_sidecars = spec::init_containers(&pod).iter().any(spec::is_sidecar);
        let mut model = world(&sandboxes, &containers);
        let actions = plan_with(&pod, &model, &history);
        let one_pass = !has_sidecars && actions.kill.is_empty();
        // Of unknown state, killed, and its start put off: under Never it then counts as ended.
        let never = spec::restart_policy(&pod) == RestartPolicy::Never;
        if !one_pass || (never && !actions.wait.is_empty()) {
            return Ok(());
        }
        apply(&mut model, &actions, 0);
        let again = plan_with(&pod, &model, &history);
        prop_assert!(again.is_empty(), "{again:#?}");
    }

    #[test]
    fn order_of_what_the_runtime_reports_is_irrelevant(
        (pod, sandboxes, containers, history) in any_world()
    ) {
        let reversed = world(
            &sandboxes.iter().rev().cloned().collect::<Vec<_>>(),
            &containers.iter().rev().cloned().collect::<Vec<_>>(),
        );
        let straight = world(&sandboxes, &containers);
        prop_assert_eq!(
            plan_with(&pod, &straight, &history),
            plan_with(&pod, &reversed, &history)
        );
    }

    #[test]
    fn nothing_starts_without_a_ready_sandbox((pod, sandboxes, containers, history) in any_world()) {
        let model = world(&sandboxes, &containers);
        let actions = plan_with(&pod, &model, &history);
        if !actions.start.is_empty() {
            let stands = actions.sandbox.as_ref().is_some_and(|id| {
                model.active_sandbox().is_some_and(|active| active.id == *id)
                    && actions.kill_pod.is_empty()
            });
            prop_assert!(stands != actions.create_sandbox.is_some());
        }
        prop_assert!(!actions.done || (actions.start.is_empty() && actions.create_sandbox.is_none()));
    }

    #[test]
    fn foreign_containers_are_never_touched((pod, sandboxes, containers, history) in any_world()) {
        let actions = plan_with(&pod, &world(&sandboxes, &containers), &history);
        let foreign: Vec<_> = containers.iter().filter(|c| c.pod_uid.as_str() != UID).collect();
        let touched = actions.kill.iter().chain(&actions.kill_pod.containers).map(|kill| &kill.id);
        for id in touched.chain(actions.remove.iter().map(|removal| &removal.id)) {
            prop_assert!(!foreign.iter().any(|container| container.id == *id));
        }
    }

    #[test]
    fn attempts_only_grow((pod, sandboxes, containers, history) in any_world()) {
        let model = world(&sandboxes, &containers);
        let actions = plan_with(&pod, &model, &history);
        if let Some(create) = &actions.create_sandbox {
            prop_assert!(model.sandboxes.iter().all(|sandbox| sandbox.attempt < create.attempt));
        }
        for start in &actions.start {
            let same = model.containers.iter().filter(|container| container.name == start.name);
            for container in same {
                prop_assert!(container.restart_count < start.attempt);
            }
        }
    }

    #[test]
    fn each_container_is_stopped_and_started_at_most_once(
        (pod, sandboxes, containers, history) in any_world()
    ) {
        let actions = plan_with(&pod, &world(&sandboxes, &containers), &history);
        let mut starts: Vec<_> = actions.start.iter().map(|start| &start.name).collect();
        let count = starts.len();
        starts.sort();
        starts.dedup();
        prop_assert_eq!(starts.len(), count);
        let kills = actions.kill.iter().chain(&actions.kill_pod.containers);
        let mut kills: Vec<_> = kills.map(|kill| &kill.id).collect();
        let count = kills.len();
        kills.sort();
        kills.dedup();
        prop_assert_eq!(kills.len(), count);
        for wait in &actions.wait {
            prop_assert!(wait.until > at(1000));
            prop_assert!(actions.retry_at.is_some_and(|retry| retry <= wait.until));
        }
    }

    /// Whoever waits for others to end waits for somebody who does end: no circle, and no stranger.
    #[test]
    fn termination_always_ends((pod, sandboxes, containers, _) in any_world()) {
        let plan = plan_pod_kill(Some(&pod), &world(&sandboxes, &containers), None);
        let mut left = plan.containers;
        while !left.is_empty() {
            let waits = |kill: &ContainerKill| {
                left.iter().any(|other| other.id != kill.id && kill.after.contains(&other.name))
            };
            let turn: Vec<_> = left.iter().filter(|kill| !waits(kill)).map(|k| k.id.clone()).collect();
            prop_assert!(!turn.is_empty(), "all wait for one another: {:?}", left);
            left.retain(|kill| !turn.contains(&kill.id));
        }
    }

    /// Whatever the runtime has of a pod that has ended, it is stopped and nothing is started.
    #[test]
    fn what_has_ended_is_only_stopped((pod, sandboxes, containers, _) in any_world()) {
        let mut model = world(&sandboxes, &containers);
        let plan = plan_end(&pod, &model);
        prop_assert!(plan.done && plan.start.is_empty() && plan.create_sandbox.is_none());
        apply(&mut model, &plan, 0);
        prop_assert!(plan_end(&pod, &model).is_empty());
    }
}
