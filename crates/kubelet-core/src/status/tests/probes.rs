//! A probe's result between two looks at the whole pod.

use super::*;
use crate::status::apply_probe_results;

fn condition<'a>(status: &'a PodStatus, type_: &str) -> &'a PodCondition {
    let conditions = status.conditions.as_deref().unwrap();
    conditions.iter().find(|one| one.type_ == type_).unwrap()
}

#[test]
fn stat_08_a_result_applied_by_itself_says_what_a_whole_pass_would_say() {
    let mut main = container("c");
    main.startup_probe = Some(Probe::default());
    main.readiness_probe = Some(Probe::default());
    let mut side = sidecar("s");
    side.readiness_probe = Some(Probe::default());
    let pod = pod("Always", vec![side], vec![main]);
    let world = world(vec![running("c"), running("s")]);
    let all = [
        None,
        Some(ProbeResult::Unknown),
        Some(ProbeResult::Failure),
        Some(ProbeResult::Success),
    ];
    for name in ["c", "s"] {
        for startup in all {
            for readiness in all {
                let results = ProbeResults {
                    startup,
                    readiness,
                    liveness: None,
                };
                let mut history = history();
                let before = compute_pod_status(&input(&pod, &world, &history));
                history
                    .probes
                    .insert(ContainerId::from(format!("id-{name}")), results);
                let mut whole = input(&pod, &world, &history);
                whole.previous = Some(&before);
                whole.now = at(50);
                let expected = compute_pod_status(&whole);
                let mut applied = before.clone();
                let id = format!("docker://id-{name}");
                apply_probe_results(&pod, &mut applied, &id, results, at(50));
                assert_eq!(applied, expected, "{name} {results:?}");
            }
        }
    }
}

#[test]
fn stat_03_the_time_of_a_condition_changes_with_its_status_only() {
    let mut main = container("c");
    main.readiness_probe = Some(Probe::default());
    let pod = pod("Always", vec![], vec![main]);
    let mut status = status(&pod, vec![running("c")]);
    let began = condition(&status, "Ready").last_transition_time.clone();
    let mut say = |result, now| {
        let results = ProbeResults {
            readiness: Some(result),
            ..ProbeResults::default()
        };
        apply_probe_results(&pod, &mut status, "docker://id-c", results, now);
        let ready = condition(&status, "Ready");
        (ready.status.clone(), ready.last_transition_time.clone())
    };
    assert_eq!(
        say(ProbeResult::Failure, at(60)),
        ("False".to_owned(), began)
    );
    let turned = Some(Time(at(70)));
    assert_eq!(
        say(ProbeResult::Success, at(70)),
        ("True".to_owned(), turned.clone())
    );
    assert_eq!(
        say(ProbeResult::Success, at(80)),
        ("True".to_owned(), turned)
    );
}
