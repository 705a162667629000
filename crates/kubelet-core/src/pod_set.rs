//! Which workers to start and to stop, over the whole picture at once (kubelet SRC-40 to SRC-45).

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{PodKey, PodUid};

/// What a worker is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Keeps its pod running.
    Run,
    /// Ends its pod; it can do nothing else any more.
    Stop,
}

/// The whole picture.
#[derive(Debug)]
pub struct View<'a> {
    /// What the sources want.
    pub desired: BTreeMap<PodUid, PodKey>,
    /// What has a worker.
    pub workers: BTreeMap<PodUid, (PodKey, Task)>,
    /// What the runtime has.
    pub runtime: &'a BTreeMap<PodUid, PodKey>,
    /// Whether every source has spoken: nothing is ended before (SRC-45).
    pub sources_ready: bool,
}

/// One thing to do. Stops come before starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Tell the worker to end its pod.
    Stop(PodUid),
    /// Start a worker that ends a pod only the runtime knows.
    StopOrphan(PodUid, PodKey),
    /// Start a worker for a pod.
    Start(PodUid),
}

/// A pod whose name another pod still holds is not started: the last version wins when the name is
/// free (SRC-40). A pod that is ending and wanted again starts anew after its end (SRC-42).
pub fn plan_workers(view: &View<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    if view.sources_ready {
        for (uid, (_, task)) in &view.workers {
            if *task == Task::Run && !view.desired.contains_key(uid) {
                steps.push(Step::Stop(uid.clone()));
            }
        }
        for (uid, key) in view.runtime {
            if !view.desired.contains_key(uid) && !view.workers.contains_key(uid) {
                steps.push(Step::StopOrphan(uid.clone(), key.clone()));
            }
        }
    }
    let held_by_workers = view.workers.values().map(|(key, _)| key);
    // Before all sources have spoken an unknown pod may turn out to be wanted: its name is held.
    let held_by_others = view
        .runtime
        .iter()
        .filter(|(uid, _)| !view.desired.contains_key(*uid))
        .map(|(_, key)| key);
    let mut held: BTreeSet<&PodKey> = held_by_workers.chain(held_by_others).collect();
    for (uid, key) in &view.desired {
        if !view.workers.contains_key(uid) && held.insert(key) {
            steps.push(Step::Start(uid.clone()));
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn uid(text: &str) -> PodUid {
        PodUid::new(text)
    }

    fn key(name: &str) -> PodKey {
        PodKey::new("default", name)
    }

    fn pods(all: &[(&str, &str)]) -> BTreeMap<PodUid, PodKey> {
        all.iter().map(|(id, name)| (uid(id), key(name))).collect()
    }

    fn workers(all: &[(&str, &str, Task)]) -> BTreeMap<PodUid, (PodKey, Task)> {
        all.iter()
            .map(|(id, name, task)| (uid(id), (key(name), *task)))
            .collect()
    }

    #[test]
    fn a_replaced_pod_is_stopped_and_its_successor_waits_for_the_name() {
        let runtime = pods(&[("old", "a")]);
        let mut view = View {
            desired: pods(&[("new", "a")]),
            workers: workers(&[("old", "a", Task::Run)]),
            runtime: &runtime,
            sources_ready: true,
        };
        assert_eq!(plan_workers(&view), [Step::Stop(uid("old"))]);
        view.workers = workers(&[("old", "a", Task::Stop)]);
        assert_eq!(plan_workers(&view), []);
        let empty = BTreeMap::new();
        let view = View {
            workers: BTreeMap::new(),
            runtime: &empty,
            ..view
        };
        assert_eq!(plan_workers(&view), [Step::Start(uid("new"))]);
    }

    #[test]
    fn nothing_is_ended_before_every_source_has_spoken() {
        let runtime = pods(&[("x", "x")]);
        let view = View {
            desired: pods(&[("a", "a"), ("b", "x")]),
            workers: workers(&[("w", "w", Task::Run)]),
            runtime: &runtime,
            sources_ready: false,
        };
        assert_eq!(plan_workers(&view), [Step::Start(uid("a"))]);
    }

    #[test]
    fn an_orphan_that_holds_the_name_goes_first() {
        let runtime = pods(&[("old", "a")]);
        let view = View {
            desired: pods(&[("new", "a")]),
            workers: BTreeMap::new(),
            runtime: &runtime,
            sources_ready: true,
        };
        assert_eq!(
            plan_workers(&view),
            [Step::StopOrphan(uid("old"), key("a"))]
        );
    }

    #[test]
    fn a_running_pod_of_before_is_adopted() {
        let runtime = pods(&[("a", "a")]);
        let view = View {
            desired: pods(&[("a", "a")]),
            workers: BTreeMap::new(),
            runtime: &runtime,
            sources_ready: true,
        };
        assert_eq!(plan_workers(&view), [Step::Start(uid("a"))]);
    }

    proptest! {
        #[test]
        fn two_pods_of_one_name_never_have_workers_that_run(
            desired in proptest::collection::btree_map(0..6_u8, 0..3_u8, 0..5),
            working in proptest::collection::btree_map(0..6_u8, (0..3_u8, any::<bool>()), 0..5),
            present in proptest::collection::btree_map(0..6_u8, 0..3_u8, 0..5),
            sources_ready: bool,
        ) {
            let id = |n: u8| uid(&n.to_string());
            let name = |n: u8| key(&n.to_string());
            let runtime = present.into_iter().map(|(u, n)| (id(u), name(n))).collect();
            let view = View {
                desired: desired.into_iter().map(|(u, n)| (id(u), name(n))).collect(),
                workers: working
                    .into_iter()
                    .map(|(u, (n, run))| (id(u), (name(n), if run { Task::Run } else { Task::Stop })))
                    .collect(),
                runtime: &runtime,
                sources_ready,
            };
            let steps = plan_workers(&view);
            let mut names: Vec<&PodKey> = view.workers.values().map(|(key, _)| key).collect();
            for step in &steps {
                match step {
                    Step::Start(started) => {
                        let key = &view.desired[started];
                        prop_assert!(!names.contains(&key));
                        names.push(key);
                    }
                    Step::Stop(stopped) => prop_assert!(!view.desired.contains_key(stopped)),
                    Step::StopOrphan(orphan, _) => {
                        prop_assert!(sources_ready && !view.desired.contains_key(orphan));
                    }
                }
            }
        }
    }
}
