//! Which workers to start and to stop, over the whole picture at once (kubelet SRC-40 to SRC-45).

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{PodKey, PodUid};

/// What a worker is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Keeps its pod running.
    Run,
    /// Keeps the record of its pod, which has ended for good and holds nothing any more.
    Over,
    /// Ends its pod; it can do nothing else any more.
    Stop,
    /// Removes what is left of its pod, of which nothing runs and which holds nothing any more.
    Remove,
}

impl Task {
    /// What becomes of it when its pod holds nothing any more.
    #[must_use]
    pub fn over(self) -> Self {
        match self {
            Self::Run | Self::Over => Self::Over,
            Self::Stop | Self::Remove => Self::Remove,
        }
    }

    /// Whether it will do nothing else any more.
    pub fn is_ending(self) -> bool {
        matches!(self, Self::Stop | Self::Remove)
    }

    /// Whether its pod keeps others from what it has: its name, its ports.
    fn holds(self) -> bool {
        matches!(self, Self::Run | Self::Stop)
    }
}

/// What is wanted of a pod that a source asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Desire {
    /// It shall run.
    Run,
    /// It shall run, but not be started yet.
    Wait,
    /// It was not admitted, or had to make room: it shall be shown and not run.
    Refused,
}

/// The whole picture.
#[derive(Debug)]
pub struct View<'a> {
    /// What the sources want.
    pub desired: BTreeMap<PodUid, (PodKey, Desire)>,
    /// What has a worker.
    pub workers: BTreeMap<PodUid, (PodKey, Task)>,
    /// What the runtime has.
    pub runtime: &'a BTreeMap<PodUid, PodKey>,
    /// Whether every source has spoken: nothing is ended before (SRC-45).
    pub sources_ready: bool,
}

impl View<'_> {
    /// Whether the pod is not to be there. What nobody has asked for yet may still be asked for; what has another
    /// name now is another pod.
    fn is_unwanted(&self, uid: &PodUid, key: &PodKey) -> bool {
        match self.desired.get(uid) {
            Some((name, desire)) => *desire == Desire::Refused || name != key,
            None => self.sources_ready,
        }
    }

    /// Whether a pod that the runtime has keeps others from its name. Before all sources have spoken an unknown
    /// pod may turn out to be wanted.
    fn runtime_holds(&self, uid: &PodUid, key: &PodKey) -> bool {
        let is_wanted = self
            .desired
            .get(uid)
            .is_some_and(|(name, desire)| *desire != Desire::Refused && name == key);
        let is_over = self.workers.get(uid).is_some_and(|(_, task)| !task.holds());
        !is_wanted && !is_over
    }
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
/// free (SRC-40). A pod that has ended for good holds it no more, though its manifest stands or its containers
/// cannot be removed (`completeTerminated` of upstream's pod workers). A pod that is ending and wanted again starts
/// anew after its end (SRC-42). Of two that want one name, the one that is there already has it.
///
/// Differs: a pod that keeps its uid and changes its name is ended and started anew; upstream goes on with it under
/// its old name until the kubelet is restarted. `/pods` names it anew from the edit on, before the old one has ended.
pub fn plan_workers(view: &View<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    for (uid, (key, task)) in &view.workers {
        if !task.is_ending() && view.is_unwanted(uid, key) {
            steps.push(Step::Stop(uid.clone()));
        }
    }
    for (uid, key) in view.runtime {
        if view.is_unwanted(uid, key) && !view.workers.contains_key(uid) {
            steps.push(Step::StopOrphan(uid.clone(), key.clone()));
        }
    }
    let held_by_workers = view
        .workers
        .values()
        .filter(|(_, task)| task.holds())
        .map(|(key, _)| key);
    let held_by_others = view
        .runtime
        .iter()
        .filter(|(uid, key)| view.runtime_holds(uid, key))
        .map(|(_, key)| key);
    let mut held: BTreeSet<&PodKey> = held_by_workers.chain(held_by_others).collect();
    let mut start = |there: bool| {
        for (uid, (key, desire)) in &view.desired {
            let in_runtime = view.runtime.get(uid);
            if *desire == Desire::Run
                && in_runtime.is_some() == there
                && in_runtime.is_none_or(|name| name == key)
                && !view.workers.contains_key(uid)
                && held.insert(key)
            {
                steps.push(Step::Start(uid.clone()));
            }
        }
    };
    start(true);
    start(false);
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

    fn wanted(all: &[(&str, &str)]) -> BTreeMap<PodUid, (PodKey, Desire)> {
        all.iter()
            .map(|(id, name)| (uid(id), (key(name), Desire::Run)))
            .collect()
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
            desired: wanted(&[("new", "a")]),
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
    fn a_pod_that_is_over_leaves_its_name_to_the_next() {
        let runtime = pods(&[("over", "a")]);
        let mut view = View {
            desired: wanted(&[("over", "a"), ("next", "a")]),
            workers: workers(&[("over", "a", Task::Run)]),
            runtime: &runtime,
            sources_ready: true,
        };
        assert_eq!(plan_workers(&view), []);
        view.workers = workers(&[("over", "a", Task::Over)]);
        assert_eq!(plan_workers(&view), [Step::Start(uid("next"))]);
        view.workers = workers(&[("over", "a", Task::Over), ("next", "a", Task::Run)]);
        assert_eq!(plan_workers(&view), []);
        view.desired = wanted(&[("next", "a")]);
        assert_eq!(plan_workers(&view), [Step::Stop(uid("over"))]);
    }

    #[test]
    fn a_pod_with_another_name_under_its_uid_is_ended_first() {
        let runtime = pods(&[("x", "old")]);
        let mut view = View {
            desired: wanted(&[("x", "new")]),
            workers: workers(&[("x", "old", Task::Run)]),
            runtime: &runtime,
            sources_ready: false,
        };
        assert_eq!(plan_workers(&view), [Step::Stop(uid("x"))]);
        view.workers = workers(&[("x", "old", Task::Stop)]);
        assert_eq!(plan_workers(&view), []);
        view.workers = BTreeMap::new();
        assert_eq!(
            plan_workers(&view),
            [Step::StopOrphan(uid("x"), key("old"))]
        );
    }

    #[test]
    fn a_pod_of_which_only_the_rest_is_to_be_removed_holds_no_name() {
        let runtime = pods(&[("old", "a")]);
        let view = View {
            desired: wanted(&[("new", "a")]),
            workers: workers(&[("old", "a", Task::Stop.over())]),
            runtime: &runtime,
            sources_ready: true,
        };
        assert_eq!(plan_workers(&view), [Step::Start(uid("new"))]);
    }

    #[test]
    fn nothing_is_ended_before_every_source_has_spoken() {
        let runtime = pods(&[("x", "x")]);
        let view = View {
            desired: wanted(&[("a", "a"), ("b", "x")]),
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
            desired: wanted(&[("new", "a")]),
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
            desired: wanted(&[("a", "a")]),
            workers: BTreeMap::new(),
            runtime: &runtime,
            sources_ready: true,
        };
        assert_eq!(plan_workers(&view), [Step::Start(uid("a"))]);
    }

    #[test]
    fn a_refused_pod_is_ended_where_it_runs_and_never_started() {
        let mut view = View {
            desired: [(uid("a"), (key("a"), Desire::Refused))].into(),
            workers: workers(&[("a", "a", Task::Run)]),
            runtime: &pods(&[("a", "a")]),
            sources_ready: false,
        };
        assert_eq!(plan_workers(&view), [Step::Stop(uid("a"))]);
        view.workers = BTreeMap::new();
        assert_eq!(plan_workers(&view), [Step::StopOrphan(uid("a"), key("a"))]);
        let empty = BTreeMap::new();
        assert_eq!(
            plan_workers(&View {
                runtime: &empty,
                ..view
            }),
            []
        );
    }

    #[test]
    fn a_pod_that_waits_holds_no_name_and_is_not_started() {
        let view = View {
            desired: [
                (uid("a"), (key("x"), Desire::Wait)),
                (uid("b"), (key("x"), Desire::Run)),
            ]
            .into(),
            workers: BTreeMap::new(),
            runtime: &BTreeMap::new(),
            sources_ready: true,
        };
        assert_eq!(plan_workers(&view), [Step::Start(uid("b"))]);
    }

    #[test]
    fn of_two_pods_of_one_name_the_one_that_runs_is_adopted() {
        let view = View {
            desired: wanted(&[("a", "x"), ("b", "x")]),
            workers: BTreeMap::new(),
            runtime: &pods(&[("b", "x")]),
            sources_ready: true,
        };
        assert_eq!(plan_workers(&view), [Step::Start(uid("b"))]);
    }

    proptest! {
        #[test]
        fn two_pods_of_one_name_never_have_workers_that_run(
            desired in proptest::collection::btree_map(0..6_u8, (0..3_u8, 0..3_usize), 0..5),
            working in proptest::collection::btree_map(0..6_u8, (0..3_u8, 0..4_usize), 0..5),
            present in proptest::collection::btree_map(0..6_u8, 0..3_u8, 0..5),
            sources_ready: bool,
        ) {
            let id = |n: u8| uid(&n.to_string());
            let name = |n: u8| key(&n.to_string());
            let runtime = present.into_iter().map(|(u, n)| (id(u), name(n))).collect();
            let view = View {
                desired: desired
                    .into_iter()
                    .map(|(u, (n, desire))| {
                        let desire = [Desire::Run, Desire::Wait, Desire::Refused][desire];
                        (id(u), (name(n), desire))
                    })
                    .collect(),
                workers: working
                    .into_iter()
                    .map(|(u, (n, task))| {
                        (id(u), (name(n), [Task::Run, Task::Over, Task::Stop, Task::Remove][task]))
                    })
                    .collect(),
                runtime: &runtime,
                sources_ready,
            };
            let steps = plan_workers(&view);
            let holders = view.workers.values().filter(|(_, task)| task.holds());
            let mut names: Vec<&PodKey> = holders.map(|(key, _)| key).collect();
            for step in &steps {
                match step {
                    Step::Start(started) => {
                        let (key, desire) = &view.desired[started];
                        prop_assert_eq!(*desire, Desire::Run);
                        prop_assert!(!names.contains(&key));
                        names.push(key);
                    }
                    Step::Stop(stopped) | Step::StopOrphan(stopped, _) => {
                        match view.desired.get(stopped) {
                            Some((name, desire)) => {
                                let there = view.workers.get(stopped).map(|(name, _)| name);
                                let other = there.or(runtime.get(stopped)) != Some(name);
                                prop_assert!(*desire == Desire::Refused || other);
                            }
                            None => prop_assert!(sources_ready),
                        }
                    }
                }
            }
        }
    }
}
