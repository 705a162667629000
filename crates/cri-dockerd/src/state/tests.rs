//! Order, events and views of records.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use cri_api::v1::{self, ContainerEventType as Event, ContainerState};
use proptest::prelude::*;

use super::cache::{Several, transitions};
use super::{Cache, Life, Record, container_status, matches_container, only_pod};
use crate::engine::model::{ContainerInspect, State};
use crate::labels;

fn inspect(id: &str, sandbox: Option<&str>, state: State) -> ContainerInspect {
    let mut labels = BTreeMap::new();
    let (kind, name) = match sandbox {
        Some(sandbox) => {
            labels.insert("io.kubernetes.sandbox.id".to_owned(), sandbox.to_owned());
            ("container", "web")
        }
        None => ("podsandbox", "POD"),
    };
    labels.insert("io.kubernetes.docker.type".to_owned(), kind.to_owned());
    let mut inspect = ContainerInspect {
        id: id.to_owned(),
        name: format!("/k8s_{name}_pod_ns_uid_1"),
        created: "2024-05-01T10:00:00.000000001Z".to_owned(),
        image: "sha256:1".to_owned(),
        state,
        ..ContainerInspect::default()
    };
    inspect.config.labels = labels;
    inspect.config.image = "busybox".to_owned();
    inspect
}

fn state(running: bool, exit_code: i64, finished_at: &str) -> State {
    State {
        running,
        exit_code,
        started_at: "2024-05-01T10:00:01Z".to_owned(),
        finished_at: finished_at.to_owned(),
        ..State::default()
    }
}

const NEVER: &str = "0001-01-01T00:00:00Z";
const LATER: &str = "2024-05-01T10:00:09Z";

fn record(id: &str, state: State) -> Record {
    Record::from_inspect(&inspect(id, Some("s"), state)).unwrap()
}

fn created() -> State {
    State {
        started_at: NEVER.to_owned(),
        ..state(false, 0, NEVER)
    }
}

/// A container of a pod that was never started.
pub(crate) fn made() -> Record {
    record("c", created())
}

/// As [`made`], while it runs.
pub(crate) fn running() -> Record {
    record("c", state(true, 0, NEVER))
}

/// As [`made`], after its end.
pub(crate) fn ended(exit_code: i64) -> Record {
    record("c", state(false, exit_code, LATER))
}

#[test]
fn docker_states_become_lives_as_upstream_maps_them() {
    assert_eq!(record("c", created()).life, Life::Created);
    assert!(record("c", state(true, 0, NEVER)).life.is_running());
    for (state, expected) in [
        (state(false, 0, LATER), "Completed"),
        (state(false, 3, LATER), "Error"),
        (
            State {
                oom_killed: true,
                ..state(false, 137, LATER)
            },
            "OOMKilled",
        ),
        (state(false, 127, NEVER), "ContainerCannotRun"),
    ] {
        let Life::Exited { reason, .. } = record("c", state).life else {
            panic!("{expected}")
        };
        assert_eq!(reason, expected);
    }
}

#[test]
fn times_that_never_were_are_zero() {
    let status = container_status(&record("c", created()), None).unwrap();
    assert_eq!((status.started_at, status.finished_at), (0, 0));
    assert_eq!(status.state(), ContainerState::ContainerCreated);
    assert_eq!(status.created_at % 10, 1, "nanoseconds survive");
}

#[test]
fn foreign_containers_are_not_records() {
    let mut foreign = inspect("c", Some("s"), created());
    foreign.name = "/web".to_owned();
    assert!(Record::from_inspect(&foreign).is_none());
    foreign.config.labels.clear();
    assert!(Record::from_inspect(&foreign).is_none());
}

#[test]
fn mounts_show_what_was_asked_for_where_docker_tells_only_what_came_of_it() {
    let inspect = serde_json::json!({
        "Id": "c1", "Name": "/k8s_web_pod_ns_uid_0", "Created": "2026-11-22T10:00:00Z",
        "Config": {"Labels": {
            labels::TYPE: labels::TYPE_CONTAINER, labels::SANDBOX_ID: "s1",
        }},
        "Mounts": [
            {"Type": "bind", "Source": "/data", "Destination": "/ro", "RW": false, "Propagation": "rprivate"},
            {"Type": "bind", "Source": "/data", "Destination": "/rw", "RW": true, "Propagation": "rslave"},
            {"Type": "image", "Source": "/var/lib/docker/x", "Destination": "/image", "RW": false},
        ],
        "HostConfig": {"Mounts": [
            {"Type": "bind", "Source": "/data", "Target": "/ro", "BindOptions": {"ReadOnlyForceRecursive": true}},
            {"Type": "bind", "Source": "/data", "Target": "/rw", "BindOptions": null},
            {"Type": "image", "Source": "models:1", "Target": "/image"},
        ]},
    });
    let inspect: ContainerInspect = serde_json::from_value(inspect).unwrap();
    let record = Record::from_inspect(&inspect).unwrap();
    let shown = |path: &str| {
        let mounts = &record.container().unwrap().mounts;
        let mount = mounts.iter().find(|mount| mount.container_path == path);
        let mount = mount.unwrap();
        let image = mount.image.as_ref().map(|image| image.image.as_str());
        (mount.readonly, mount.recursive_read_only, image)
    };
    assert_eq!(shown("/ro"), (true, true, None));
    assert_eq!(shown("/rw"), (false, false, None));
    assert_eq!(shown("/image"), (true, false, Some("models:1")));
}

#[test]
fn late_answer_never_rolls_back() {
    let mut cache = Cache::default();
    let early = cache.open(Instant::now());
    let late = cache.open(Instant::now());
    let change = cache.put(late, record("c", state(true, 0, NEVER))).unwrap();
    assert_eq!(
        change.events,
        [Event::ContainerCreatedEvent, Event::ContainerStartedEvent]
    );
    assert_eq!(cache.put(early, record("c", created())), None);
    assert!(cache.get("c").unwrap().life.is_running());
}

#[test]
fn removed_container_stays_removed_for_answers_under_way() {
    let mut cache = Cache::default();
    let slow = cache.open(Instant::now());
    let first = cache.open(Instant::now());
    cache.put(first, record("c", created())).unwrap();
    cache.close(first);
    let removal = cache.open(Instant::now());
    let change = cache.remove(removal, "c").unwrap();
    assert_eq!(change.events, [Event::ContainerDeletedEvent]);
    cache.close(removal);
    assert_eq!(cache.put(slow, record("c", created())), None);
    assert!(cache.get("c").is_none());
    assert!(cache.containers_of("s").is_empty());
    cache.close(slow);
}

#[test]
fn short_id_finds_its_only_owner() {
    let mut cache = Cache::default();
    let ticket = cache.open(Instant::now());
    for id in ["aab", "abc"] {
        cache.put(ticket, record(id, created()));
    }
    assert_eq!(cache.find("aa").unwrap().unwrap().id, "aab");
    assert_eq!(cache.find("abc").unwrap().unwrap().id, "abc");
    assert_eq!(cache.find("a"), Err(Several));
    assert_eq!((cache.find(""), cache.find("b")), (Ok(None), Ok(None)));
}

#[test]
fn filters_take_prefix_state_pod_and_labels() {
    let mut record = record("abc", created());
    record.labels.insert("k".to_owned(), "v".to_owned());
    let filter = v1::ContainerFilter {
        id: "ab".to_owned(),
        state: Some(v1::ContainerStateValue {
            state: ContainerState::ContainerCreated.into(),
        }),
        pod_sandbox_id: "s".to_owned(),
        label_selector: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
    };
    assert!(matches_container(&record, None));
    assert!(matches_container(&record, Some(&filter)));
    for change in [
        |f: &mut v1::ContainerFilter| f.id = "b".to_owned(),
        |f: &mut v1::ContainerFilter| f.state.as_mut().unwrap().state = 1,
        |f: &mut v1::ContainerFilter| f.pod_sandbox_id = "x".to_owned(),
        |f: &mut v1::ContainerFilter| {
            f.label_selector.insert("k".to_owned(), "w".to_owned());
        },
    ] {
        let mut other = filter.clone();
        change(&mut other);
        assert!(!matches_container(&record, Some(&other)));
    }
}

#[test]
fn pod_is_told_where_it_is_the_only_one() {
    let of = |id: &str, pod: Option<&str>| {
        Arc::new(Record::from_inspect(&inspect(id, pod, created())).unwrap())
    };
    assert_eq!(only_pod(&[]), None);
    let alone = [of("s", None), of("b", Some("s")), of("c", Some("s"))];
    assert_eq!(only_pod(&alone), Some("s"));
    assert_eq!(only_pod(&alone[1..]), Some("s"), "its sandbox is gone");
    assert_eq!(only_pod(&[of("s", None), of("t", None)]), None);
}

fn lives() -> impl Strategy<Value = Option<Life>> {
    let exited = |reason| Life::Exited {
        started_at: 1,
        finished_at: 2,
        exit_code: 0,
        reason,
        message: String::new(),
    };
    prop_oneof![
        Just(None),
        Just(Some(Life::Created)),
        Just(Some(Life::Running {
            started_at: 1,
            pid: 1
        })),
        Just(Some(exited("Completed"))),
        Just(Some(exited("ContainerCannotRun"))),
    ]
}

proptest! {
    /// Whatever was missed in between, a subscriber sees a whole life.
    #[test]
    fn subscribers_see_every_step_once(steps in proptest::collection::vec(lives(), 1..6)) {
        // Only forward: Docker's containers are not reborn here.
        let rank = |life: &Option<Life>| match life {
            None => 0, Some(Life::Created) => 1, Some(Life::Running { .. }) => 2, Some(Life::Exited { .. }) => 3,
        };
        let mut steps = steps;
        steps.sort_by_key(rank);
        let mut before: Option<Life> = None;
        let mut seen = Vec::new();
        for step in steps.into_iter().flatten() {
            seen.extend(transitions(before.as_ref(), Some(&step)));
            before = Some(step);
        }
        seen.extend(transitions(before.as_ref(), None));
        let mut expected: Vec<Event> = seen.clone();
        expected.dedup();
        prop_assert_eq!(&seen, &expected, "no step twice in a row");
        if before.is_some() {
            prop_assert_eq!(seen.first(), Some(&Event::ContainerCreatedEvent));
            prop_assert_eq!(seen.last(), Some(&Event::ContainerDeletedEvent));
            if seen.contains(&Event::ContainerStartedEvent) {
                prop_assert!(seen.contains(&Event::ContainerStoppedEvent));
            }
        }
    }

    /// Answers may come in any order: the one asked last wins.
    #[test]
    fn newest_question_wins(order in Just((0_i64..5).collect::<Vec<_>>()).prop_shuffle()) {
        let mut cache = Cache::default();
        let tickets: Vec<_> = (0..5).map(|_| cache.open(Instant::now())).collect();
        for index in order {
            let index = usize::try_from(index).unwrap();
            let code = i64::try_from(index).unwrap();
            cache.put(tickets[index], record("c", state(false, code, LATER)));
        }
        let kept = cache.get("c").unwrap();
        let kept_code = match kept.life { Life::Exited { exit_code, .. } => exit_code, _ => -1 };
        prop_assert_eq!(kept_code, 4);
    }
}
