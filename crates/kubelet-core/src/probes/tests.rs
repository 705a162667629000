mod looks;

use k8s_openapi::api::core::v1::ExecAction;
use proptest::prelude::*;

use super::*;

fn probe(delay: i32, period: i32, success: i32, failure: i32) -> Probe {
    Probe {
        initial_delay_seconds: Some(delay),
        period_seconds: Some(period),
        success_threshold: Some(success),
        failure_threshold: Some(failure),
        ..Probe::default()
    }
}

fn with(startup: Option<Probe>, liveness: Option<Probe>, readiness: Option<Probe>) -> Container {
    Container {
        startup_probe: startup,
        liveness_probe: liveness,
        readiness_probe: readiness,
        ..Container::default()
    }
}

fn probes(container: &Container) -> ContainerProbes {
    let mut probes = ContainerProbes::new(container, |_| Moment::ZERO).unwrap();
    probes.look(None, Moment::ZERO);
    probes
}

fn seconds(seconds: u64) -> Moment {
    Moment::from_secs(seconds)
}

fn running(id: &str, since: u64) -> Target {
    Target {
        id: ContainerId::from(id),
        running_since: Some(seconds(since)),
    }
}

fn ended(id: &str) -> Target {
    Target {
        id: ContainerId::from(id),
        running_since: None,
    }
}

/// Asks what is due, answers, and returns when it was due.
fn ask(probes: &mut ContainerProbes, kind: ProbeKind, answer: Answer) -> Moment {
    let due = probes.due().expect("something is due");
    let (asked, id) = probes.due_now(due).remove(0);
    assert_eq!(asked, kind);
    probes.begin(kind, due);
    probes.end(kind, &id, answer, due);
    due
}

fn results(probes: &ContainerProbes) -> ProbeResults {
    probes.results().unwrap().1
}

#[test]
fn probe_01_numbers_have_the_defaults_of_the_original() {
    let timing = Timing::of(&Probe::default());
    let numbers = (timing.initial_delay, timing.period, timing.timeout);
    assert_eq!(numbers, (seconds(0), seconds(10), seconds(1)));
    assert_eq!((timing.success_threshold, timing.failure_threshold), (1, 3));
    assert!(ContainerProbes::new(&with(None, None, None), |_| Moment::ZERO).is_none());
}

#[test]
fn probe_02_before_any_answer_a_container_is_neither_ready_nor_started_nor_failed() {
    let p = || Some(probe(0, 10, 1, 3));
    let mut probes = probes(&with(p(), p(), p()));
    assert_eq!(probes.results(), None);
    probes.look(Some(running("a", 1)), seconds(1));
    assert_eq!(
        results(&probes),
        ProbeResults {
            startup: Some(ProbeResult::Unknown),
            liveness: Some(ProbeResult::Success),
            readiness: Some(ProbeResult::Failure),
        }
    );
}

#[test]
fn probe_04_ticks_are_those_of_the_worker_and_not_of_the_container() {
    let mut probes = probes(&with(None, Some(probe(0, 10, 1, 3)), None));
    probes.look(None, seconds(0));
    assert_eq!(probes.due(), None);
    probes.look(Some(running("a", 13)), seconds(13));
    assert_eq!(probes.due(), Some(seconds(20)));
    assert_eq!(
        ask(&mut probes, ProbeKind::Liveness, Answer::Good),
        seconds(20)
    );
    assert_eq!(probes.due(), Some(seconds(30)));
}

#[test]
fn probe_04_the_initial_delay_counts_from_the_start_of_the_container() {
    let mut probes = probes(&with(None, Some(probe(15, 10, 1, 3)), None));
    probes.look(Some(running("a", 13)), seconds(13));
    assert_eq!(probes.due(), Some(seconds(30)));
}

#[test]
fn probe_04_a_failed_container_is_held_until_another_comes() {
    let mut probes = probes(&with(None, Some(probe(0, 10, 1, 2)), None));
    probes.look(Some(running("a", 1)), seconds(1));
    ask(&mut probes, ProbeKind::Liveness, Answer::Bad);
    assert_eq!(results(&probes).liveness, Some(ProbeResult::Success));
    ask(&mut probes, ProbeKind::Liveness, Answer::Bad);
    assert_eq!(results(&probes).liveness, Some(ProbeResult::Failure));
    assert_eq!(probes.due(), None);
    probes.look(Some(ended("a")), seconds(21));
    assert_eq!(probes.due(), None);
    probes.look(Some(running("b", 22)), seconds(22));
    assert_eq!(results(&probes).liveness, Some(ProbeResult::Success));
    assert_eq!(probes.due(), Some(seconds(30)));
    ask(&mut probes, ProbeKind::Liveness, Answer::Bad);
    assert_eq!(results(&probes).liveness, Some(ProbeResult::Success));
}

#[test]
fn probe_04_nothing_else_is_asked_before_the_startup_probe_has_passed() {
    let p = || Some(probe(0, 10, 1, 3));
    let mut probes = probes(&with(p(), p(), p()));
    probes.look(Some(running("a", 1)), seconds(1));
    ask(&mut probes, ProbeKind::Startup, Answer::Bad);
    assert_eq!(
        ask(&mut probes, ProbeKind::Startup, Answer::Good),
        seconds(20)
    );
    // PROBE-07: readiness at once; liveness has a tick at that moment.
    let liveness = ask(&mut probes, ProbeKind::Liveness, Answer::Good);
    let readiness = ask(&mut probes, ProbeKind::Readiness, Answer::Good);
    assert_eq!((liveness, readiness), (seconds(20), seconds(20)));
    assert_eq!(results(&probes).readiness, Some(ProbeResult::Success));
}

#[test]
fn readiness_is_asked_soon_after_the_start_and_each_period_from_there() {
    let mut probes = probes(&with(None, None, Some(probe(0, 10, 1, 3))));
    probes.look(Some(running("a", 13)), seconds(13));
    let first = ask(&mut probes, ProbeKind::Readiness, Answer::Bad);
    assert_eq!(first, seconds(13) + SETTLE);
    // On the beat.
    let next = Some(Moment::from_millis(23_500));
    assert_eq!(probes.due(), next);
}

#[test]
fn probe_03_a_container_of_before_waits_for_its_tick() {
    let container = with(None, None, Some(probe(0, 10, 1, 3)));
    let mut probes = ContainerProbes::new(&container, |_| seconds(7)).unwrap();
    probes.look(Some(running("a", 0)), seconds(1));
    assert_eq!(probes.due(), Some(seconds(7)));
}

#[test]
fn probe_05_what_could_not_be_asked_counts_for_nothing() {
    let mut probes = probes(&with(None, Some(probe(0, 10, 1, 2)), None));
    probes.look(Some(running("a", 1)), seconds(1));
    for answer in [Answer::Bad, Answer::None, Answer::None] {
        ask(&mut probes, ProbeKind::Liveness, answer);
    }
    assert_eq!(results(&probes).liveness, Some(ProbeResult::Success));
    ask(&mut probes, ProbeKind::Liveness, Answer::Bad);
    assert_eq!(results(&probes).liveness, Some(ProbeResult::Failure));
}

#[test]
fn probe_05_a_run_of_answers_goes_on_in_the_next_container_unless_it_had_ended_the_last() {
    let mut probes = probes(&with(None, Some(probe(0, 10, 1, 3)), None));
    probes.look(Some(running("a", 1)), seconds(1));
    ask(&mut probes, ProbeKind::Liveness, Answer::Bad);
    ask(&mut probes, ProbeKind::Liveness, Answer::Bad);
    // It crashes by itself; what comes next starts with two bad answers.
    probes.look(Some(ended("a")), seconds(21));
    probes.look(Some(running("b", 22)), seconds(22));
    assert_eq!(results(&probes).liveness, Some(ProbeResult::Success));
    ask(&mut probes, ProbeKind::Liveness, Answer::Bad);
    assert_eq!(results(&probes).liveness, Some(ProbeResult::Failure));
    // That one is ended for its answers; the third starts with none.
    probes.look(Some(running("c", 32)), seconds(32));
    ask(&mut probes, ProbeKind::Liveness, Answer::Bad);
    ask(&mut probes, ProbeKind::Liveness, Answer::Bad);
    assert_eq!(results(&probes).liveness, Some(ProbeResult::Success));
}

#[test]
fn probe_06_an_ending_pod_is_only_asked_whether_it_is_ready() {
    let p = || Some(probe(0, 10, 1, 1));
    let mut probes = probes(&with(None, p(), p()));
    probes.look(Some(running("a", 1)), seconds(1));
    probes.stop_liveness_and_startup();
    ask(&mut probes, ProbeKind::Readiness, Answer::Good);
    ask(&mut probes, ProbeKind::Readiness, Answer::Bad);
    let results = results(&probes);
    assert_eq!(results.readiness, Some(ProbeResult::Failure));
    assert_eq!(results.liveness, Some(ProbeResult::Success));
}

/// Kubernetes kubelet, `StopLivenessAndStartup`: the worker goes, and what the status says stays as it is.
#[test]
fn probe_06_a_container_that_has_not_started_is_asked_nothing_once_its_pod_ends() {
    let p = || Some(probe(0, 10, 1, 1));
    let mut probes = probes(&with(p(), None, p()));
    probes.look(Some(running("a", 1)), seconds(1));
    probes.stop_liveness_and_startup();
    assert_eq!(probes.due(), None);
    assert_eq!(results(&probes).startup, Some(ProbeResult::Unknown));
}

#[test]
fn probes_that_came_at_odd_moments_are_due_together() {
    let container = with(None, Some(probe(0, 1, 1, 3)), None);
    let odd = Moment::from_micros(7_123_456);
    let mut first = ContainerProbes::new(&container, |_| odd).unwrap();
    first.look(None, odd);
    first.look(Some(running("a", 0)), odd);
    assert_eq!(first.due(), Some(Moment::from_millis(7500)));

    // Out of turn it is asked at its own moment, and joins the others from then on.
    let mut second = probes(&with(None, None, Some(probe(0, 1, 1, 3))));
    let since = odd;
    let target = Target {
        id: ContainerId::from("b"),
        running_since: Some(since),
    };
    second.look(Some(target), since);
    assert_eq!(
        ask(&mut second, ProbeKind::Readiness, Answer::Good),
        since + SETTLE
    );
    assert_eq!(second.due(), Some(Moment::from_millis(8500)));
}

#[test]
fn commands_have_a_beat_of_their_own_and_are_spread() {
    let mut asks = probe(0, 1, 1, 3);
    asks.exec = Some(ExecAction::default());
    let odd = Moment::from_micros(7_123_456);
    let mut probes = ContainerProbes::new(&with(None, Some(asks), None), |_| odd).unwrap();
    probes.look(None, odd);
    probes.look(Some(running("a", 0)), odd);
    assert_eq!(probes.due(), Some(Moment::from_millis(7200)));
}

#[test]
fn a_slow_answer_uses_up_one_tick_and_no_more() {
    let mut probes = probes(&with(None, Some(probe(0, 1, 1, 3)), None));
    probes.look(Some(running("a", 0)), seconds(0));
    let id = ContainerId::from("a");
    probes.begin(ProbeKind::Liveness, seconds(0));
    assert_eq!(probes.due(), None);
    probes.end(
        ProbeKind::Liveness,
        &id,
        Answer::Good,
        Moment::from_millis(3500),
    );
    // The tick of second 1 waited; those of 2 and 3 are gone with it.
    assert_eq!(probes.due(), Some(seconds(1)));
    probes.begin(ProbeKind::Liveness, Moment::from_millis(3500));
    probes.end(
        ProbeKind::Liveness,
        &id,
        Answer::Good,
        Moment::from_millis(3600),
    );
    assert_eq!(probes.due(), Some(seconds(4)));
}

#[test]
fn probe_05_an_answer_about_an_earlier_container_is_no_result_of_the_next() {
    let mut probes = probes(&with(None, Some(probe(0, 1, 1, 1)), None));
    probes.look(Some(running("a", 0)), seconds(0));
    probes.begin(ProbeKind::Liveness, seconds(0));
    probes.look(Some(running("b", 1)), seconds(1));
    let changed = probes.end(
        ProbeKind::Liveness,
        &ContainerId::from("a"),
        Answer::Bad,
        seconds(2),
    );
    assert!(!changed);
    assert_eq!(results(&probes).liveness, Some(ProbeResult::Success));
    assert!(probes.due().is_some(), "the next one is asked");
}

#[test]
fn probe_05_a_late_answer_about_an_earlier_container_counts_in_the_run() {
    let mut probes = probes(&with(None, Some(probe(0, 1, 1, 2)), None));
    probes.look(Some(running("a", 0)), seconds(0));
    probes.begin(ProbeKind::Liveness, seconds(0));
    probes.look(Some(running("b", 1)), seconds(1));
    let id = ContainerId::from("a");
    probes.end(ProbeKind::Liveness, &id, Answer::Bad, seconds(2));
    ask(&mut probes, ProbeKind::Liveness, Answer::Bad);
    assert_eq!(results(&probes).liveness, Some(ProbeResult::Failure));
}

#[test]
fn probe_05_a_startup_probe_takes_the_run_of_a_crashed_container_over() {
    let mut probes = probes(&with(Some(probe(0, 10, 1, 3)), None, None));
    probes.look(Some(running("a", 1)), seconds(1));
    ask(&mut probes, ProbeKind::Startup, Answer::Bad);
    ask(&mut probes, ProbeKind::Startup, Answer::Bad);
    probes.look(Some(running("b", 22)), seconds(22));
    ask(&mut probes, ProbeKind::Startup, Answer::Bad);
    assert_eq!(results(&probes).startup, Some(ProbeResult::Failure));
    // That run has come to its end.
    probes.look(Some(running("c", 32)), seconds(32));
    ask(&mut probes, ProbeKind::Startup, Answer::Bad);
    assert_eq!(results(&probes).startup, Some(ProbeResult::Unknown));
}

#[test]
fn probe_05_the_successor_of_a_ready_container_is_ready_at_its_first_good_answer() {
    let mut probes = probes(&with(None, None, Some(probe(0, 10, 3, 3))));
    probes.look(Some(running("a", 1)), seconds(1));
    for _ in 0..3 {
        ask(&mut probes, ProbeKind::Readiness, Answer::Good);
    }
    probes.look(Some(running("b", 40)), seconds(40));
    assert_eq!(results(&probes).readiness, Some(ProbeResult::Failure));
    ask(&mut probes, ProbeKind::Readiness, Answer::Good);
    assert_eq!(results(&probes).readiness, Some(ProbeResult::Success));
}

#[test]
fn probe_02_an_edit_of_anything_else_leaves_the_probes_as_they_are() {
    let before = with(Some(probe(0, 1, 1, 3)), None, Some(probe(0, 10, 1, 3)));
    let mut probes = probes(&before);
    probes.look(Some(running("a", 1)), seconds(1));
    ask(&mut probes, ProbeKind::Startup, Answer::Good);
    ask(&mut probes, ProbeKind::Readiness, Answer::Good);
    let kept = probes.clone();
    let mut after = before.clone();
    after.image = Some("another".to_owned());
    probes.edit(&before, &after, |_| seconds(3));
    assert_eq!(probes, kept);
}

#[test]
fn probe_02_an_edited_probe_is_asked_as_edited_and_the_others_go_on() {
    let before = with(None, Some(probe(0, 10, 1, 2)), Some(probe(0, 10, 1, 3)));
    let mut probes = probes(&before);
    probes.look(Some(running("a", 1)), seconds(1));
    ask(&mut probes, ProbeKind::Readiness, Answer::Good);
    let first = ask(&mut probes, ProbeKind::Liveness, Answer::Bad);
    let after = with(None, Some(probe(0, 10, 1, 2)), Some(probe(0, 5, 1, 1)));
    probes.begin(ProbeKind::Readiness, first);
    probes.edit(&before, &after, |_| first + seconds(1));
    assert_eq!(
        results(&probes).readiness,
        Some(ProbeResult::Success),
        "until it has said something else"
    );
    assert_eq!(
        ask(&mut probes, ProbeKind::Readiness, Answer::Bad),
        first + seconds(1)
    );
    assert_eq!(results(&probes).readiness, Some(ProbeResult::Failure));
    assert_eq!(
        ask(&mut probes, ProbeKind::Readiness, Answer::Bad),
        first + seconds(6)
    );
    ask(&mut probes, ProbeKind::Liveness, Answer::Bad);
    assert_eq!(results(&probes).liveness, Some(ProbeResult::Failure));
}

#[test]
fn probe_02_a_container_that_has_started_stays_so_when_its_startup_probe_is_edited() {
    let before = with(Some(probe(0, 10, 1, 3)), None, None);
    let mut probes = probes(&before);
    probes.look(Some(running("a", 1)), seconds(1));
    ask(&mut probes, ProbeKind::Startup, Answer::Good);
    let after = with(Some(probe(0, 1, 1, 1)), None, None);
    probes.edit(&before, &after, |_| seconds(11));
    assert_eq!(results(&probes).startup, Some(ProbeResult::Success));
    assert_eq!(probes.due(), None);
    probes.look(Some(running("b", 20)), seconds(20));
    ask(&mut probes, ProbeKind::Startup, Answer::Bad);
    assert_eq!(results(&probes).startup, Some(ProbeResult::Failure));
}

#[test]
fn probe_02_probes_come_and_go_with_the_text() {
    let before = with(Some(probe(0, 10, 1, 3)), None, None);
    let mut probes = probes(&before);
    probes.look(Some(running("a", 1)), seconds(1));
    let after = with(None, None, Some(probe(0, 10, 1, 3)));
    probes.edit(&before, &after, |_| seconds(2));
    let expected = ProbeResults {
        readiness: Some(ProbeResult::Failure),
        ..ProbeResults::default()
    };
    assert_eq!(results(&probes), expected);
    assert_eq!(
        ask(&mut probes, ProbeKind::Readiness, Answer::Good),
        seconds(2)
    );
}

fn answers() -> impl Strategy<Value = Answer> {
    prop_oneof![Just(Answer::Good), Just(Answer::Bad), Just(Answer::None)]
}

proptest! {
    /// Thresholds hold under any order of results: a result is there if and only if so many equal
    /// answers stood in a row at some time, and none of the other kind did since.
    #[test]
    fn thresholds_hold_under_any_order_of_results(
        success in 1..5_i32,
        failure in 1..5_i32,
        answers in proptest::collection::vec(answers(), 0..60),
    ) {
        let mut probes = probes(&with(None, None, Some(probe(0, 1, success, failure))));
        probes.look(Some(running("a", 0)), seconds(0));
        let (mut good, mut bad, mut expected) = (0, 0, ProbeResult::Failure);
        for answer in answers {
            ask(&mut probes, ProbeKind::Readiness, answer);
            match answer {
                Answer::Good => (good, bad) = (good + 1, 0),
                Answer::Bad => (good, bad) = (0, bad + 1),
                Answer::None => {}
            }
            if good >= success {
                expected = ProbeResult::Success;
            } else if bad >= failure {
                expected = ProbeResult::Failure;
            }
            prop_assert_eq!(results(&probes).readiness, Some(expected));
        }
    }

    /// Whatever happens and in whatever order: nothing is asked about a container that does not run,
    /// too early, twice at a time, or before it has started; and what can be asked is never forgotten.
    #[test]
    fn questions_are_asked_in_time_or_not_at_all(
        delay in 0..4_i32,
        period in 1..4_i32,
        steps in proptest::collection::vec((0..6_u8, 0..3000_u64, answers()), 1..80),
    ) {
        let p = || Some(probe(delay, period, 1, 2));
        let mut probes = probes(&with(p(), p(), p()));
        let mut now = Moment::ZERO;
        let mut since: Option<Moment> = None;
        let mut generation = 0;
        let mut open: Vec<(ProbeKind, ContainerId)> = Vec::new();
        for (step, wait, answer) in steps {
            now += Moment::from_millis(wait);
            let id = |generation: u32| ContainerId::from(generation.to_string());
            match step {
                0 => {
                    generation += 1;
                    since = Some(now);
                    probes.look(Some(Target { id: id(generation), running_since: since }), now);
                }
                1 => {
                    since = None;
                    probes.look(Some(Target { id: id(generation), running_since: None }), now);
                }
                2 => if let Some((kind, id)) = open.pop() {
                    probes.end(kind, &id, answer, now);
                },
                _ => {
                    for (kind, asked) in probes.due_now(now) {
                        let started_at = since.expect("it runs");
                        prop_assert!(now >= started_at + seconds(u64::try_from(delay).unwrap()));
                        prop_assert_eq!(&asked, &id(generation));
                        prop_assert!(open.iter().all(|(other, _)| *other != kind));
                        let started = results(&probes).startup == Some(ProbeResult::Success);
                        prop_assert_eq!(kind == ProbeKind::Startup, !started);
                        probes.begin(kind, now);
                        open.push((kind, asked));
                    }
                    prop_assert!(probes.due().is_none_or(|due| due > now));
                }
            }
            let held = results_hold(&probes);
            if since.is_some() && !held && open.is_empty() {
                let due = probes.due().expect("a running container is asked sooner or later");
                let longest = seconds(u64::try_from(delay + period).unwrap());
                prop_assert!(due <= now.max(since.unwrap()) + longest);
            }
        }
    }
}

/// Whether the container has failed and waits for its end.
fn results_hold(probes: &ContainerProbes) -> bool {
    probes
        .results()
        .is_some_and(|(_, results)| results.startup == Some(ProbeResult::Failure))
}
