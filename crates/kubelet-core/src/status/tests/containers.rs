//! What is shown of containers.

use super::*;

#[test]
fn stat_06_order_and_seconds() {
    let pod = pod(
        "Always",
        vec![container("z"), container("y")],
        vec![container("b"), container("a")],
    );
    let mut fine = running("a");
    fine.started_at = Some(Timestamp::new(1_000_011, 999).unwrap());
    let status = status(&pod, vec![fine]);
    let names = |list: &Option<Vec<ContainerStatus>>| {
        list.iter()
            .flatten()
            .map(|status| status.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&status.container_statuses), ["a", "b"]);
    assert_eq!(names(&status.init_container_statuses), ["z", "y"]);
    let running = first(&status)
        .state
        .as_ref()
        .unwrap()
        .running
        .as_ref()
        .unwrap();
    assert_eq!(running.started_at.as_ref().unwrap().0, at(11));
}

/// Go's zero time, which the original cri-dockerd passes on, has nanoseconds.
#[test]
fn stat_06_seconds_of_long_ago_are_those_that_had_begun() {
    let pod = pod("Never", vec![], vec![container("c")]);
    let mut never_ran = exited("c", 127);
    let go_zero = Timestamp::from_nanosecond(-6_795_364_578_871_345_152).unwrap();
    never_ran.started_at = Some(go_zero);
    let status = status(&pod, vec![never_ran]);
    let state = first(&status).state.as_ref().unwrap();
    let shown = state.terminated.as_ref().unwrap().started_at.as_ref();
    assert_eq!(shown.unwrap().0.to_string(), "1754-08-30T22:43:41Z");
}

#[test]
fn stat_07_what_the_runtime_says() {
    let pod = pod("Always", vec![], vec![container("c")]);
    let mut current = running("c");
    current.restart_count = 2;
    let mut last = exited("c", 3);
    last.id = ContainerId::from("older");
    last.created_at = Some(at(1));
    let status = status(&pod, vec![last, current]);
    let found = first(&status);
    assert_eq!(found.container_id.as_deref(), Some("docker://id-c"));
    assert_eq!(
        (found.image.as_str(), found.image_id.as_str()),
        ("busybox:latest", "sha256:abc")
    );
    assert_eq!(found.restart_count, 2);
    assert_eq!(last_end(found).unwrap().exit_code, 3);
    assert_eq!(
        last_end(found).unwrap().container_id.as_deref(),
        Some("docker://older")
    );
}

#[test]
fn stat_08_started_and_ready_follow_the_probes() {
    let mut pod = pod("Always", vec![], vec![container("c")]);
    let judged = |pod: &Pod, results: Option<ProbeResults>| {
        let mut history = history();
        if let Some(results) = results {
            history.probes.insert(ContainerId::from("id-c"), results);
        }
        let status = compute_pod_status(&input(pod, &world(vec![running("c")]), &history));
        (first(&status).started.unwrap(), first(&status).ready)
    };
    assert_eq!(judged(&pod, None), (true, true));
    let container = &mut pod.spec.as_mut().unwrap().containers[0];
    container.startup_probe = Some(Probe::default());
    container.readiness_probe = Some(Probe::default());
    let results = |startup, readiness| ProbeResults {
        startup,
        readiness,
        liveness: None,
    };
    let (yes, no) = (Some(ProbeResult::Success), Some(ProbeResult::Failure));
    assert_eq!(judged(&pod, None), (false, false));
    assert_eq!(judged(&pod, Some(results(yes, None))), (true, false));
    assert_eq!(judged(&pod, Some(results(yes, yes))), (true, true));
    assert_eq!(judged(&pod, Some(results(yes, no))), (true, false));
    assert_eq!(judged(&pod, Some(results(no, yes))), (false, false));
}

#[test]
fn stat_09_first_waiting_reasons() {
    let plain = pod("Always", vec![], vec![container("c")]);
    assert_eq!(
        waiting_reason(first(&status(&plain, vec![]))),
        Some("ContainerCreating")
    );
    let init = pod("Always", vec![container("i")], vec![container("c")]);
    assert_eq!(
        waiting_reason(first(&status(&init, vec![]))),
        Some("PodInitializing")
    );
}

#[test]
fn stat_10_container_that_vanished_is_not_one_that_never_ran() {
    let pod = pod("Always", vec![], vec![container("c")]);
    let before = status(&pod, vec![running("c")]);
    let (observed, history) = (world(vec![]), history());
    let after = compute_pod_status(&StatusInput {
        previous: Some(&before),
        ..input(&pod, &observed, &history)
    });
    let end = last_end(first(&after)).unwrap();
    assert_eq!(
        (end.reason.as_deref(), end.exit_code),
        (Some("ContainerStatusUnknown"), 137)
    );
    assert_eq!(first(&after).restart_count, 1);
    assert_eq!(after.phase.as_deref(), Some("Running"));
}

#[test]
fn pod_that_is_over_has_ended_though_its_init_container_was_removed() {
    let pod = pod("OnFailure", vec![container("i")], vec![container("c")]);
    let (observed, history) = (world(vec![exited("c", 0)]), history());
    let phase = |end| {
        let input = StatusInput {
            end,
            ..input(&pod, &observed, &history)
        };
        compute_pod_status(&input).phase
    };
    assert_eq!(phase(PodEnd::Open).as_deref(), Some("Pending"));
    assert_eq!(phase(PodEnd::Over).as_deref(), Some("Succeeded"));
}

#[test]
fn restart_count_that_was_shown_never_falls() {
    let pod = pod("Always", vec![], vec![container("c")]);
    let (mut older, mut newest) = (exited("c", 1), running("c"));
    (older.restart_count, newest.restart_count) = (3, 4);
    newest.created_at = Some(at(50));
    newest.id = ContainerId::new("newest");
    let before = status(&pod, vec![older.clone(), newest]);
    assert_eq!(first(&before).restart_count, 4);
    // Somebody removed the newest one.
    let (observed, history) = (world(vec![older]), history());
    let after = compute_pod_status(&StatusInput {
        previous: Some(&before),
        ..input(&pod, &observed, &history)
    });
    assert_eq!(first(&after).restart_count, 4);
}

#[test]
fn ended_container_that_was_collected_stays_visible() {
    let pod = pod("Never", vec![], vec![container("c")]);
    let before = status(&pod, vec![exited("c", 3)]);
    let (observed, history) = (world(vec![]), history());
    let after = compute_pod_status(&StatusInput {
        previous: Some(&before),
        ..input(&pod, &observed, &history)
    });
    assert_eq!(after, before);
}

#[test]
fn the_last_end_goes_with_its_container_once_the_next_has_ended_for_good() {
    let pod = pod("OnFailure", vec![], vec![container("c")]);
    let before = status(&pod, vec![exited("c", 1)]);
    let last_code = |code| {
        let mut second = exited("c", code);
        second.id = "second".into();
        let (observed, history) = (world(vec![second]), history());
        let after = compute_pod_status(&StatusInput {
            previous: Some(&before),
            ..input(&pod, &observed, &history)
        });
        last_end(first(&after)).map(|end| end.exit_code)
    };
    assert_eq!(last_code(0), None);
    // It runs once more.
    assert_eq!(last_code(2), Some(1));
}

#[test]
fn the_last_end_of_an_init_container_goes_once_it_has_succeeded() {
    let pod = pod("Always", vec![container("i")], vec![container("c")]);
    let before = status(&pod, vec![exited("i", 1)]);
    let mut second = exited("i", 0);
    second.id = "second".into();
    let (observed, history) = (world(vec![second]), history());
    let after = compute_pod_status(&StatusInput {
        previous: Some(&before),
        ..input(&pod, &observed, &history)
    });
    let init = &after.init_container_statuses.unwrap()[0];
    assert_eq!(last_end(init), None);
}

/// The container has crashed at second 95, and waits to be started again.
fn crash_looping(pod: &Pod, container: &Container) -> History {
    let mut history = history();
    let (key, delay) = (CrashKey::new(pod, container), std::time::Duration::ZERO);
    history.crash_backoff.fail(key, at(95), at(95), delay);
    let name = ContainerName::from(container.name.as_str());
    history.crash_waits.insert(name, Moment::from_secs(95));
    history
}

#[test]
fn ctr_22_waiting_in_crash_loop_shows_the_last_end() {
    let pod = pod("Always", vec![], vec![container("c")]);
    let history = crash_looping(&pod, &container("c"));
    let mut ended = exited("c", 1);
    ended.finished_at = Some(at(95));
    let status = compute_pod_status(&input(&pod, &world(vec![ended]), &history));
    assert_eq!(waiting_reason(first(&status)), Some("CrashLoopBackOff"));
    assert_eq!(last_end(first(&status)).unwrap().exit_code, 1);
    assert_eq!(status.phase.as_deref(), Some("Running"));
}

/// Kubernetes kubelet, `ReasonCache`: what came of the latest look is shown from the next one on, and until the
/// container is started.
#[test]
fn ctr_22_a_crash_is_shown_for_a_look_then_the_wait_until_the_container_is_started() {
    let pod = pod("Always", vec![], vec![container("c")]);
    let mut history = crash_looping(&pod, &container("c"));
    let failure = |reason| StartFailure {
        reason,
        message: String::new(),
        retry_at: None,
        made: None,
    };
    let mut ended = exited("c", 1);
    ended.finished_at = Some(at(95));
    let observed = world(vec![ended]);
    let look = |history: &History, before: &PodStatus, seconds: u32| {
        compute_pod_status(&StatusInput {
            previous: Some(before),
            now: at(seconds.into()),
            moment: Moment::from_secs(seconds.into()),
            ..input(&pod, &observed, history)
        })
    };
    let name = ContainerName::from("c");
    history.note_success(&name);
    let crashed = look(&history, &PodStatus::default(), 95);
    assert_eq!(current_end(first(&crashed)).unwrap().exit_code, 1);
    let (left, again) = (Moment::from_secs(10), Moment::from_secs(12));
    let note = |history: &mut History, seconds| {
        history.note_crash_wait(name.clone(), left, again, Moment::from_secs(seconds));
    };
    note(&mut history, 95);
    assert_eq!(look(&history, &crashed, 103), crashed);
    // The wait is shown for a second at least, and looked at anew from then on only.
    assert_eq!(
        history.next_shown(Moment::from_secs(95)),
        Some(Moment::from_secs(9))
    );
    note(&mut history, 100);
    let waits = look(&history, &crashed, 104);
    assert_eq!(waiting_reason(first(&waits)), Some("CrashLoopBackOff"));
    assert_eq!(last_end(first(&waits)).unwrap().exit_code, 1);
    assert_eq!(history.next_shown(Moment::from_secs(104)), None);
    let over = look(&history, &waits, 200);
    assert_eq!(over, waits);
    history.note_failure(name, failure(WaitingReason::RunContainerError));
    let failed = look(&history, &over, 200);
    assert_eq!(waiting_reason(first(&failed)), Some("RunContainerError"));
}

#[test]
fn a_sidecar_that_waits_is_shown_so_only_where_the_pods_policy_would_run_it_again() {
    let shown = |policy: &str, code: i32| {
        let pod = pod(policy, vec![sidecar("s")], vec![container("c")]);
        let history = crash_looping(&pod, &sidecar("s"));
        let mut ended = exited("s", code);
        ended.finished_at = Some(at(95));
        let observed = world(vec![running("c"), ended]);
        let status = compute_pod_status(&input(&pod, &observed, &history));
        let init = status.init_container_statuses.unwrap().remove(0);
        waiting_reason(&init).map(str::to_owned)
    };
    assert_eq!(shown("Always", 1).as_deref(), Some("CrashLoopBackOff"));
    assert_eq!(shown("OnFailure", 1).as_deref(), Some("CrashLoopBackOff"));
    assert_eq!(shown("Always", 0), None);
    assert_eq!(shown("Never", 1), None);
}

#[test]
fn ctr_23_failed_start_shows_its_reason() {
    let pod = pod("Always", vec![], vec![container("c")]);
    let mut history = history();
    let failure = StartFailure {
        reason: WaitingReason::ImagePullBackOff,
        message: "Back-off pulling image \"x\"".to_owned(),
        retry_at: None,
        made: None,
    };
    history
        .start_failures
        .insert(ContainerName::from("c"), failure);
    let status = compute_pod_status(&input(&pod, &world(vec![]), &history));
    assert_eq!(waiting_reason(first(&status)), Some("ImagePullBackOff"));
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    // A container that runs has no failure to show.
    let status = compute_pod_status(&input(&pod, &world(vec![running("c")]), &history));
    assert_eq!(waiting_reason(first(&status)), None);
}

#[test]
fn stat_10_a_pod_that_is_over_shows_the_same_however_often_one_looks() {
    let pod = pod("Always", vec![], vec![container("c")]);
    let mut history = history();
    let failure = StartFailure {
        reason: WaitingReason::ErrImageNeverPull,
        message: "not present".to_owned(),
        retry_at: None,
        made: None,
    };
    history
        .start_failures
        .insert(ContainerName::from("c"), failure);
    let observed = world(vec![]);
    let look = |previous: Option<&PodStatus>| {
        compute_pod_status(&StatusInput {
            end: PodEnd::Over,
            previous,
            ..input(&pod, &observed, &history)
        })
    };
    let ended = look(None);
    assert_eq!(current_end(first(&ended)).unwrap().exit_code, 137);
    assert_eq!(look(Some(&ended)), ended);
}

#[test]
fn ctr_50_messages_share_the_pods_budget() {
    let pod = pod(
        "Never",
        vec![],
        vec![container("a"), container("b"), container("c")],
    );
    let mut ended = exited("a", 1);
    ended.message = "é".repeat(4000);
    let status = status(&pod, vec![ended]);
    assert_eq!(
        current_end(first(&status))
            .unwrap()
            .message
            .as_ref()
            .unwrap()
            .len(),
        4096
    );
}

#[test]
fn ctr_46_stop_signal_is_shown_where_its_gate_is_on() {
    let status = cri_api::v1::ContainerStatus {
        id: "id".to_owned(),
        metadata: Some(cri_api::v1::ContainerMetadata {
            name: "c".to_owned(),
            ..Default::default()
        }),
        labels: [(crate::observed::LABEL_POD_UID.to_owned(), "u1".to_owned())].into(),
        stop_signal: cri_api::v1::Signal::Sigrtminplus1.into(),
        ..Default::default()
    };
    let pod = pod("Always", vec![], vec![container("c")]);
    let observed = world(vec![container_from_status(&status, None).unwrap()]);
    let history = history();
    let shown = |stop_signals| {
        let input = StatusInput {
            stop_signals,
            ..input(&pod, &observed, &history)
        };
        first(&compute_pod_status(&input)).stop_signal.clone()
    };
    assert_eq!(shown(true).as_deref(), Some("SIGRTMIN+1"));
    assert_eq!(shown(false), None);
}

#[test]
fn stat_07_who_a_container_runs_as_is_shown_where_its_gate_is_on() {
    let pod = pod("Always", vec![], vec![container("c")]);
    let mut container = running("c");
    container.user = Some(crate::observed::ObservedUser {
        uid: 1,
        gid: 2,
        supplemental_groups: vec![3],
    });
    let observed = world(vec![container]);
    let history = history();
    let shown = |supplemental_groups| {
        let input = StatusInput {
            supplemental_groups,
            ..input(&pod, &observed, &history)
        };
        first(&compute_pod_status(&input)).user.clone()
    };
    let user = shown(true).unwrap().linux.unwrap();
    assert_eq!((user.uid, user.gid), (1, 2));
    assert_eq!(user.supplemental_groups, Some(vec![3]));
    assert_eq!(shown(false), None);
}

/// Kubernetes kubelet, `convertToAPIContainerStatuses`.
#[test]
fn stat_07_resources_are_shown_where_their_gate_is_on() {
    let mut container = container("c");
    let resources = r#"{"requests": {"cpu": "1"}}"#;
    container.resources = Some(serde_json::from_str(resources).unwrap());
    let pod = pod("Always", vec![], vec![container]);
    let observed = world(vec![running("c")]);
    let history = history();
    let shown = |in_place_resize| {
        let input = StatusInput {
            in_place_resize,
            ..input(&pod, &observed, &history)
        };
        let status = first(&compute_pod_status(&input)).clone();
        (
            status.resources.is_some(),
            status.allocated_resources.is_some(),
        )
    };
    assert_eq!(shown(true), (true, true));
    assert_eq!(shown(false), (false, false));
}

/// Kubernetes kubelet, `convertToAPIContainerStatuses`: what the runtime has is shown, and of a container
/// that vanished it has nothing.
#[test]
fn an_end_that_nobody_saw_is_not_the_last_one_once_the_container_runs_again() {
    let pod = pod("Always", vec![], vec![container("c")]);
    let history = history();
    let next = |previous: &PodStatus, containers| {
        compute_pod_status(&StatusInput {
            previous: Some(previous),
            ..input(&pod, &world(containers), &history)
        })
    };
    let renamed = |id: &str, mut container: ObservedContainer| {
        container.id = id.into();
        container
    };
    let vanished = next(&status(&pod, vec![running("c")]), vec![]);
    assert!(last_end(first(&vanished)).is_some());
    let again = next(&vanished, vec![renamed("second", running("c"))]);
    assert_eq!(last_end(first(&again)), None);
    assert_eq!(first(&again).restart_count, 1);
    let ended = next(&again, vec![renamed("second", exited("c", 3))]);
    let third = next(&ended, vec![renamed("third", running("c"))]);
    assert_eq!(last_end(first(&third)).unwrap().exit_code, 3);
}

/// Kubernetes kubelet, `resolveRecursiveReadOnly`.
#[test]
fn stat_07_mounts_tell_whether_all_below_them_is_read_only() {
    let mount = |read_only, recursive: Option<&str>| VolumeMount {
        name: "v".to_owned(),
        mount_path: "v".to_owned(),
        read_only: Some(read_only),
        recursive_read_only: recursive.map(str::to_owned),
        ..VolumeMount::default()
    };
    let mut container = container("c");
    container.volume_mounts = Some(vec![
        mount(false, None),
        mount(true, None),
        mount(true, Some("Disabled")),
        mount(true, Some("IfPossible")),
        mount(true, Some("Enabled")),
    ]);
    let pod = pod("Always", vec![], vec![container]);
    let (observed, history) = (world(vec![running("c")]), history());
    let shown = |recursive_read_only| {
        let status = compute_pod_status(&StatusInput {
            recursive_read_only,
            ..input(&pod, &observed, &history)
        });
        let mounts = first(&status).volume_mounts.clone().unwrap();
        mounts
            .into_iter()
            .map(|mount| mount.recursive_read_only)
            .collect::<Vec<_>>()
    };
    let told = |values: [&str; 4]| {
        let read_only = values.map(|value| Some(value.to_owned()));
        [vec![None], read_only.to_vec()].concat()
    };
    let off = "Disabled";
    assert_eq!(shown(false), told([off, off, off, off]));
    assert_eq!(shown(true), told([off, off, "Enabled", "Enabled"]));
}
