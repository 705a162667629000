//! What a look at a container that is not ready asks.

use super::*;

/// Kubernetes kubelet, `prober.manager.UpdatePodStatus`.
#[test]
fn a_container_that_is_not_ready_is_asked_at_each_look_and_each_period_from_there() {
    let mut probes = probes(&with(None, None, Some(probe(0, 600, 1, 3))));
    probes.look(Some(running("a", 13)), seconds(13));
    // Not before the first question, which comes soon.
    probes.look(Some(running("a", 13)), seconds(13));
    let first = ask(&mut probes, ProbeKind::Readiness, Answer::Bad);
    assert_eq!(first, seconds(13) + SETTLE);
    probes.look(Some(running("a", 13)), seconds(80));
    assert_eq!(
        ask(&mut probes, ProbeKind::Readiness, Answer::Bad),
        seconds(80)
    );
    assert_eq!(probes.due(), Some(seconds(680)));
    // A look during a question: another follows it.
    probes.look(Some(running("a", 13)), seconds(150));
    probes.begin(ProbeKind::Readiness, seconds(150));
    probes.look(Some(running("a", 13)), seconds(151));
    assert_eq!(probes.due(), None);
    let id = ContainerId::from("a");
    probes.end(ProbeKind::Readiness, &id, Answer::Bad, seconds(152));
    assert_eq!(
        ask(&mut probes, ProbeKind::Readiness, Answer::Good),
        seconds(151)
    );
    probes.look(Some(running("a", 13)), seconds(160));
    assert!(probes.due().is_some_and(|due| due > seconds(700)), "ready");
}

/// Each change is looked at, so a bad answer that is news makes one question more; one that is none makes none.
#[test]
fn a_look_for_each_news_does_not_ask_without_end() {
    let mut probes = probes(&with(None, None, Some(probe(0, 10, 1, 1))));
    probes.look(Some(running("a", 1)), seconds(1));
    let id = ContainerId::from("a");
    let mut told = Vec::new();
    for (answer, at) in [
        (Answer::Bad, 2),
        (Answer::Good, 12),
        (Answer::Bad, 22),
        (Answer::Bad, 22),
    ] {
        let at = seconds(at);
        assert_eq!(probes.due_now(at).len(), 1, "{at:?}");
        probes.begin(ProbeKind::Readiness, at);
        let news = probes.end(ProbeKind::Readiness, &id, answer, at);
        if news {
            probes.look(Some(running("a", 1)), at);
        }
        told.push(news);
    }
    assert_eq!(told, [false, true, true, false]);
    assert_eq!(probes.due(), Some(seconds(32)));
}

#[test]
fn probe_03_looking_again_does_not_ask_a_container_of_before() {
    let container = with(None, None, Some(probe(0, 600, 1, 3)));
    let mut probes = ContainerProbes::new(&container, |_| seconds(400)).unwrap();
    probes.look(Some(running("a", 0)), seconds(1));
    probes.look(Some(running("a", 0)), seconds(2));
    assert_eq!(probes.due(), Some(seconds(400)));
}

#[test]
fn probe_07_a_container_that_has_not_started_is_not_asked_whether_it_is_ready() {
    let p = || Some(probe(0, 600, 1, 3));
    let mut probes = probes(&with(p(), None, p()));
    probes.look(Some(running("a", 1)), seconds(1));
    ask(&mut probes, ProbeKind::Startup, Answer::Good);
    ask(&mut probes, ProbeKind::Readiness, Answer::Bad);
    probes.look(Some(running("b", 700)), seconds(700));
    probes.look(Some(running("b", 700)), seconds(710));
    let asked: Vec<_> = probes.due_now(seconds(1100));
    assert!(asked.is_empty(), "{asked:?}");
}
