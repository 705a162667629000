//! Init containers, sidecars and ephemeral containers.

use super::*;

#[test]
fn ctr_30_init_containers_run_one_after_the_other() {
    let pod = pod(
        "Always",
        vec![container("i1"), container("i2")],
        vec![container("c")],
    );
    for (containers, expected) in [
        (vec![], vec!["i1"]),
        (vec![running("i1")], vec![]),
        (vec![exited("i1", 0)], vec!["i2"]),
        (vec![exited("i1", 0), exited("i2", 0)], vec!["c"]),
        // Earlier ones may have been removed: the last one tells.
        (vec![exited("i2", 0)], vec!["c"]),
        // A regular container proves that initialisation is over.
        (vec![running("c")], vec![]),
    ] {
        let actions = plan(&pod, &in_ready_sandbox(containers.clone()));
        let names: Vec<_> = actions
            .start
            .iter()
            .map(|start| start.name.as_str())
            .collect();
        assert_eq!(names, expected, "{containers:?}");
        if names == ["i2"] {
            assert_eq!(actions.start[0].on_failure, OnStartFailure::Abort);
        }
    }
}

#[test]
fn container_created_in_an_earlier_sandbox_proves_no_initialisation() {
    let pod = pod("Always", vec![container("i")], vec![container("c")]);
    let created = observed("c", ContainerState::Created, 0);
    let sandboxes = vec![sandbox("s1", 1, SandboxState::Ready)];
    let containers = vec![running("i"), created.clone()];
    let observed = ObservedPod::new(PodUid::from(UID), sandboxes, containers);
    assert!(plan(&pod, &observed).is_empty());
    let here = in_ready_sandbox(vec![exited("i", 0), created]);
    assert_eq!(
        starts(&plan(&pod, &here)),
        [("c", StartReason::OnlyCreated)]
    );
}

#[test]
fn ctr_31_failed_init_container_ends_the_pod_under_never_only() {
    for (policy, failed) in [("Never", true), ("OnFailure", false), ("Always", false)] {
        for how in [exited("i", 1), observed("i", ContainerState::Unknown, 0), {
            let mut killed = exited("i", 0);
            killed.reason = "OOMKilled".to_owned();
            killed
        }] {
            let pod = pod(policy, vec![container("i")], vec![container("c")]);
            let actions = plan(&pod, &in_ready_sandbox(vec![how]));
            assert_eq!(actions.done, failed);
            assert_eq!(actions.start.len(), usize::from(!failed));
        }
    }
}

#[test]
fn ctr_32_next_init_container_waits_for_the_sidecar_to_be_started() {
    let mut slow = sidecar("s");
    slow.startup_probe = Some(Probe::default());
    let pod = pod("Never", vec![slow, container("i")], vec![container("c")]);
    let observed = in_ready_sandbox(vec![running("s")]);
    assert!(plan(&pod, &observed).is_empty());
    let mut history = history();
    let mut set = |startup| {
        let results = ProbeResults {
            startup: Some(startup),
            ..Default::default()
        };
        history.probes.insert(ContainerId::from("id-s"), results);
        plan_with(&pod, &observed, &history)
    };
    assert_eq!(
        starts(&set(ProbeResult::Success)),
        [("i", StartReason::Missing)]
    );
    assert!(set(ProbeResult::Unknown).is_empty());
    let failed = set(ProbeResult::Failure);
    assert_eq!(
        failed.kill[0].message,
        "Init container s failed startup probe"
    );
    assert_eq!(starts(&failed), [("s", StartReason::Replaced)]);
}

#[test]
fn ctr_32_sidecar_runs_again_even_under_never_until_the_pod_ends() {
    let pod = pod("Never", vec![sidecar("s")], vec![container("c")]);
    let actions = plan(&pod, &in_ready_sandbox(vec![exited("s", 1), running("c")]));
    assert_eq!(starts(&actions), [("s", StartReason::Exited)]);
    let actions = plan(&pod, &in_ready_sandbox(vec![running("s"), exited("c", 0)]));
    assert!(actions.done && actions.start.is_empty());
    assert_eq!(
        actions.kill_pod.containers[0].name,
        ContainerName::from("s")
    );
}

#[test]
fn ctr_34_sidecar_is_not_started_once_the_containers_have_ended() {
    let pod = pod(
        "OnFailure",
        vec![container("i"), sidecar("s")],
        vec![container("c")],
    );
    let sidecar = |state| observed("s", state, 0);
    let ended = |code| in_ready_sandbox(vec![sidecar(ContainerState::Created), exited("c", code)]);
    let actions = plan(&pod, &ended(0));
    assert!(actions.done && actions.start.is_empty());
    let restarts = plan(&pod, &ended(1));
    assert_eq!(starts(&restarts), [("s", StartReason::OnlyCreated)]);
    // Of an earlier sandbox it says nothing: the pod begins anew.
    let mut earlier = exited("c", 0);
    earlier.sandbox_id = Some(SandboxId::from("earlier"));
    let actions = plan(&pod, &in_ready_sandbox(vec![earlier]));
    assert_eq!(starts(&actions), [("i", StartReason::Missing)]);
}

#[test]
fn ctr_33_changed_image_counts_for_sidecars_only() {
    let pod = pod(
        "Always",
        vec![container("i"), sidecar("s")],
        vec![container("c")],
    );
    let changed = |mut container: ObservedContainer| {
        container.hash = 1;
        container
    };
    let containers = vec![changed(exited("i", 0)), changed(running("s")), running("c")];
    let actions = plan(&pod, &in_ready_sandbox(containers));
    assert_eq!(kills(&actions), [("s", KillReason::DefinitionChanged, 30)]);
    assert_eq!(starts(&actions), [("s", StartReason::Replaced)]);
}

#[test]
fn ctr_35_ephemeral_container_starts_once() {
    let mut pod = pod("Never", vec![container("i")], vec![container("c")]);
    pod.spec.as_mut().unwrap().ephemeral_containers =
        Some(vec![k8s_openapi::api::core::v1::EphemeralContainer {
            name: "e".to_owned(),
            ..Default::default()
        }]);
    let actions = plan(&pod, &in_ready_sandbox(vec![running("i")]));
    assert_eq!(starts(&actions), [("e", StartReason::Missing)]);
    assert!(plan(&pod, &in_ready_sandbox(vec![running("i"), exited("e", 1)])).is_empty());
}
