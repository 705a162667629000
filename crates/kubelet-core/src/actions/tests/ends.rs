//! How pods and containers are stopped.

use super::*;

#[test]
fn ctr_40_grace_order_and_minimum() {
    let mut pod = one("Always");
    let container = running("c");
    let grace = |pod: &Pod| container_grace_seconds(pod, None, &container, KillReason::PodStops);
    assert_eq!(grace(&pod), 30);
    pod.metadata.deletion_grace_period_seconds = Some(3);
    assert_eq!(grace(&pod), 3);
    assert_eq!(grace(&Pod::default()), MIN_STOP_SECONDS);
    for (grace, spent, timeout) in [(30, 0, 30), (30, 10, 20), (30, 40, 2), (1, 0, 2), (0, 0, 2)] {
        assert_eq!(stop_timeout_seconds(grace, spent), timeout);
    }
}

#[test]
fn ctr_42_sidecars_end_last_and_in_reverse_order() {
    let pod = pod(
        "Always",
        vec![sidecar("s1"), container("i"), sidecar("s2")],
        vec![container("c")],
    );
    let containers = vec![running("s1"), running("s2"), running("c"), exited("i", 0)];
    let kill = plan_pod_kill(Some(&pod), &in_ready_sandbox(containers), None);
    let order: Vec<_> = kill
        .containers
        .iter()
        .map(|kill| {
            let after: Vec<_> = kill.after.iter().map(ContainerName::as_str).collect();
            (kill.name.as_str(), after)
        })
        .collect();
    assert_eq!(
        order,
        [("c", vec![]), ("s2", vec!["c"]), ("s1", vec!["c", "s2"])]
    );
    assert_eq!(kill.containers[0].message, "Stopping container c");
    assert_eq!(kill.sandboxes, [SandboxId::from("s0")]);
}

#[test]
fn src_44_orphan_is_killed_with_what_its_annotations_say_or_the_override() {
    let mut container = running("c");
    container.grace_seconds = Some(12);
    let observed = in_ready_sandbox(vec![container]);
    assert_eq!(
        plan_pod_kill(None, &observed, None).containers[0].grace_seconds,
        12
    );
    assert_eq!(
        plan_pod_kill(None, &observed, Some(1)).containers[0].grace_seconds,
        1
    );
}

#[test]
fn deleted_pod_starts_nothing() {
    let mut pod = one("Always");
    pod.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0)));
    for observed in [
        ObservedPod::new(PodUid::from(UID), vec![], vec![]),
        in_ready_sandbox(vec![exited("c", 1)]),
    ] {
        let actions = plan(&pod, &observed);
        assert!(actions.start.is_empty() && actions.create_sandbox.is_none() && actions.done);
    }
}
