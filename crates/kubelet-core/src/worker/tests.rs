use proptest::prelude::*;

use super::*;
use crate::ids::PodUid;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn pod(grace: i64) -> Arc<Pod> {
    let mut pod = Pod::default();
    pod.spec
        .get_or_insert_default()
        .termination_grace_period_seconds = Some(grace);
    Arc::new(pod)
}

fn deleted(grace: i64) -> Arc<Pod> {
    let mut pod = (*pod(30)).clone();
    pod.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0)));
    pod.metadata.deletion_grace_period_seconds = Some(grace);
    Arc::new(pod)
}

fn kill(grace_override: Option<i64>) -> WorkerEvent {
    WorkerEvent::Kill {
        cause: TerminationCause::Removed,
        grace_override,
    }
}

fn grace(state: &PodWork) -> Option<i64> {
    match state {
        PodWork::Terminating(termination) | PodWork::Terminated(termination) => {
            Some(termination.grace_seconds)
        }
        _ => None,
    }
}

#[test]
fn life_30_removed_pod_passes_through_all_states() {
    let (state, effects) = PodWork::start(pod(30), at(0));
    assert_eq!(effects, [WorkerEffect::Sync]);
    let (state, effects) = step(state, kill(None), at(1));
    assert_eq!(
        effects,
        [
            WorkerEffect::CancelPass,
            WorkerEffect::StopProbes,
            WorkerEffect::KillPod { grace_seconds: 30 }
        ]
    );
    let (state, effects) = step(state, WorkerEvent::NothingRuns, at(2));
    assert_eq!(
        effects,
        [
            WorkerEffect::RemoveProbes,
            WorkerEffect::PublishFinalStatus,
            WorkerEffect::ReleaseResources
        ]
    );
    let (state, effects) = step(state, WorkerEvent::ResourcesReleased, at(3));
    assert_eq!(effects, [WorkerEffect::Forget]);
    assert_eq!(
        state,
        PodWork::Finished {
            cause: TerminationCause::Removed
        }
    );
}

#[test]
fn life_31_pod_that_already_ends_is_never_synced() {
    let (state, effects) = PodWork::start(deleted(5), at(0));
    assert!(!effects.contains(&WorkerEffect::Sync));
    assert_eq!(grace(&state), Some(5));
    let mut done = (*pod(30)).clone();
    done.status.get_or_insert_default().phase = Some("Failed".to_owned());
    let (state, _) = PodWork::start(Arc::new(done), at(0));
    assert!(state.is_terminating());
}

#[test]
fn life_32_grace_comes_from_deletion_override_or_spec_and_is_at_least_one() {
    let cases = [
        (None, Some(pod(30)), None, 30),
        (None, Some(deleted(5)), None, 5),
        (None, Some(pod(30)), Some(60), 60),
        (None, Some(deleted(5)), Some(3), 3),
        (Some(10), Some(pod(30)), None, 10),
        (Some(10), Some(pod(30)), Some(20), 10),
        (None, Some(pod(0)), None, 1),
        (None, None, None, 1),
        (None, Some(deleted(0)), None, 1),
    ];
    for (before, pod, grace_override, expected) in cases {
        assert_eq!(
            effective_grace(before, pod.as_deref(), grace_override),
            expected
        );
    }
}

#[test]
fn shorter_grace_kills_again_and_longer_does_not() {
    let (state, _) = step(PodWork::Syncing { pod: pod(30) }, kill(None), at(0));
    let (state, effects) = step(state, kill(Some(60)), at(1));
    assert!(effects.is_empty());
    let (_, effects) = step(state, kill(Some(2)), at(2));
    assert_eq!(
        effects,
        [
            WorkerEffect::CancelPass,
            WorkerEffect::KillPod { grace_seconds: 2 }
        ]
    );
}

#[test]
fn src_42_uid_that_reappears_starts_anew_after_the_end() {
    let (state, _) = step(PodWork::Syncing { pod: pod(30) }, kill(None), at(0));
    let again = pod(7);
    let (state, effects) = step(state, WorkerEvent::Appeared(Arc::clone(&again)), at(1));
    assert!(effects.is_empty() && state.is_terminating());
    let (state, _) = step(state, WorkerEvent::NothingRuns, at(2));
    let (_, effects) = step(state, WorkerEvent::ResourcesReleased, at(3));
    assert_eq!(
        effects,
        [WorkerEffect::Forget, WorkerEffect::StartAnew(again)]
    );
}

#[test]
fn uid_that_reappears_and_goes_again_is_not_started() {
    let (state, _) = step(PodWork::Syncing { pod: pod(30) }, kill(None), at(0));
    let (state, _) = step(state, WorkerEvent::Appeared(pod(7)), at(1));
    let (state, _) = step(state, kill(None), at(1));
    let (state, _) = step(state, WorkerEvent::NothingRuns, at(2));
    let (_, effects) = step(state, WorkerEvent::ResourcesReleased, at(3));
    assert_eq!(effects, [WorkerEffect::Forget]);
}

#[test]
fn src_44_orphan_gets_one_second() {
    let (state, effects) = PodWork::start_orphan(at(0));
    assert_eq!(grace(&state), Some(1));
    assert!(effects.contains(&WorkerEffect::KillPod { grace_seconds: 1 }));
}

#[test]
fn events_that_do_not_fit_are_refused_and_change_nothing() {
    let syncing = PodWork::Syncing { pod: pod(30) };
    let (state, effects) = step(syncing.clone(), WorkerEvent::NothingRuns, at(0));
    assert_eq!(
        (state, effects),
        (
            syncing.clone(),
            vec![WorkerEffect::Refuse(Refusal::NotTerminating)]
        )
    );
    let (terminating, _) = step(syncing, kill(None), at(0));
    let (state, effects) = step(terminating.clone(), WorkerEvent::ResourcesReleased, at(0));
    assert_eq!(
        (state, effects),
        (
            terminating,
            vec![WorkerEffect::Refuse(Refusal::MayStillRun)]
        )
    );
}

#[test]
fn life_35_blocking_kill_waits_ten_seconds_or_half_more_than_the_grace() {
    assert_eq!(blocking_kill_deadline(1).as_secs(), 10);
    assert_eq!(blocking_kill_deadline(30).as_secs(), 45);
    assert_eq!(blocking_kill_deadline(-1).as_secs(), 10);
}

#[test]
fn src_40_same_full_name_runs_one_after_the_other_and_the_last_wins() {
    let mut starts = StaticStarts::new();
    let [one, two, three] = ["1", "2", "3"].map(PodUid::from);
    starts.enqueue("web_default", one.clone());
    assert!(starts.may_start("web_default", &one));
    starts.enqueue("web_default", two.clone());
    starts.enqueue("web_default", three.clone());
    assert!(!starts.may_start("web_default", &two));
    // The second is replaced before it ever ran.
    assert_eq!(starts.leave("web_default", &two), None);
    assert_eq!(starts.leave("web_default", &one), Some(three.clone()));
    assert!(starts.may_start("web_default", &three));
    assert_eq!(starts.leave("web_default", &three), None);
    assert_eq!(starts, StaticStarts::new());
}

fn any_event() -> impl Strategy<Value = WorkerEvent> {
    prop_oneof![
        (0..40_i64).prop_map(|grace| WorkerEvent::Appeared(pod(grace))),
        (0..40_i64).prop_map(|grace| WorkerEvent::Changed(pod(grace))),
        (0..40_i64).prop_map(|grace| WorkerEvent::Changed(deleted(grace))),
        proptest::option::of(0..40_i64).prop_map(kill),
        Just(WorkerEvent::BecameTerminal),
        Just(WorkerEvent::NothingRuns),
        Just(WorkerEvent::ResourcesReleased),
    ]
}

fn rank(state: &PodWork) -> u8 {
    match state {
        PodWork::Syncing { .. } => 0,
        PodWork::Terminating(_) => 1,
        PodWork::Terminated(_) => 2,
        PodWork::Finished { .. } => 3,
    }
}

proptest! {
    #[test]
    fn never_back_and_grace_only_shrinks(events in proptest::collection::vec(any_event(), 0..30)) {
        let (mut state, _) = PodWork::start(pod(30), at(0));
        for event in events {
            let before = state.clone();
            let (after, effects) = step(state, event, at(1));
            prop_assert!(rank(&after) >= rank(&before));
            if let (Some(old), Some(new)) = (grace(&before), grace(&after)) {
                prop_assert!(new <= old);
            }
            if before.is_terminating() {
                prop_assert!(!effects.contains(&WorkerEffect::Sync));
            }
            if effects.iter().any(|effect| matches!(effect, WorkerEffect::Refuse(_))) {
                prop_assert_eq!(&after, &before);
            }
            state = after;
        }
    }

    #[test]
    fn termination_always_ends(events in proptest::collection::vec(any_event(), 0..30)) {
        let (mut state, _) = PodWork::start(pod(30), at(0));
        for event in events {
            state = step(state, event, at(1)).0;
        }
        for event in [kill(None), WorkerEvent::NothingRuns, WorkerEvent::ResourcesReleased] {
            state = step(state, event, at(2)).0;
        }
        prop_assert_eq!(rank(&state), 3);
    }
}
