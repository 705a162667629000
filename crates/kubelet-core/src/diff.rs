//! From what a source had to what it has now (SRC-40..48): which pods go, come and change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use crate::ids::{PodKey, PodUid};
use crate::spec::{CONFIG_MIRROR, CONFIG_SEEN, CONFIG_SOURCE};

/// Which of several pods of one namespace and name in one list counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duplicates {
    /// The last one: files of one directory, in sort order (SRC-07).
    KeepLast,
    /// The first one: items of a list that was fetched (SRC-46).
    KeepFirst,
}

/// The changes, to be carried out in the order of the fields (SRC-46).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PodsPlan {
    /// Pods that are gone.
    pub remove: Vec<Arc<Pod>>,
    /// Pods that are new.
    pub add: Vec<Arc<Pod>>,
    /// Pods of known uid with another specification, labels or annotations (SRC-41).
    pub update: Vec<Arc<Pod>>,
    /// Pods of known uid that got a deletion timestamp (SRC-47).
    pub delete: Vec<Arc<Pod>>,
    /// Pods of known uid of which only the status differs (SRC-47).
    pub reconcile: Vec<Arc<Pod>>,
    /// Pods left out because another of the same namespace and name counts: event
    /// `FailedValidation` (SRC-46).
    pub dropped: Vec<Arc<Pod>>,
}

impl PodsPlan {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty()
            && self.add.is_empty()
            && self.update.is_empty()
            && self.delete.is_empty()
            && self.reconcile.is_empty()
    }
}

/// Compares what one source had with what it has. A pod whose uid changed is removed and added.
/// Pods that stay keep the time when they were first seen.
pub fn plan_pods(current: &[Arc<Pod>], desired: &[Arc<Pod>], duplicates: Duplicates) -> PodsPlan {
    let (desired, dropped) = without_duplicates(desired, duplicates);
    let known: BTreeMap<PodUid, &Arc<Pod>> =
        current.iter().map(|pod| (PodUid::of(pod), pod)).collect();
    let wanted: BTreeSet<PodUid> = desired.iter().map(|pod| PodUid::of(pod)).collect();
    let mut plan = PodsPlan {
        dropped,
        ..Default::default()
    };
    plan.remove = known
        .iter()
        .filter(|(uid, _)| !wanted.contains(*uid))
        .map(|(_, pod)| Arc::clone(pod))
        .collect();
    for pod in desired {
        match known.get(&PodUid::of(&pod)) {
            None => plan.add.push(pod),
            Some(old) => match change(old, &pod) {
                Change::Nothing => {}
                Change::Status => plan.reconcile.push(seen_as(old, &pod)),
                Change::Pod if pod.metadata.deletion_timestamp.is_some() => {
                    plan.delete.push(seen_as(old, &pod));
                }
                Change::Pod => plan.update.push(seen_as(old, &pod)),
            },
        }
    }
    plan
}

/// One pod per namespace and name, and one per uid, ordered by key; and the pods left out.
fn without_duplicates(
    desired: &[Arc<Pod>],
    duplicates: Duplicates,
) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
    let mut kept: BTreeMap<PodKey, Arc<Pod>> = BTreeMap::new();
    let mut by_uid: BTreeMap<PodUid, PodKey> = BTreeMap::new();
    let mut dropped = Vec::new();
    for pod in desired {
        let (key, uid) = (PodKey::of(pod), PodUid::of(pod));
        // Two names with one explicit uid can't both run: the uid is the worker.
        let clash = if kept.contains_key(&key) {
            Some(key.clone())
        } else {
            by_uid.get(&uid).cloned()
        };
        match (clash, duplicates) {
            (Some(_), Duplicates::KeepFirst) => {
                dropped.push(Arc::clone(pod));
                continue;
            }
            (Some(clash), Duplicates::KeepLast) => {
                if let Some(old) = kept.remove(&clash) {
                    by_uid.remove(&PodUid::of(&old));
                    dropped.push(old);
                }
            }
            (None, _) => {}
        }
        if let Some(other) = by_uid.insert(uid, key.clone())
            && let Some(old) = kept.remove(&other)
        {
            dropped.push(old);
        }
        kept.insert(key, Arc::clone(pod));
    }
    (kept.into_values().collect(), dropped)
}

enum Change {
    Nothing,
    Status,
    Pod,
}

/// SRC-47: bookkeeping annotations do not count.
fn change(old: &Pod, new: &Pod) -> Change {
    let same = old.spec == new.spec
        && old.metadata.labels == new.metadata.labels
        && old.metadata.deletion_timestamp == new.metadata.deletion_timestamp
        && old.metadata.deletion_grace_period_seconds == new.metadata.deletion_grace_period_seconds
        && annotations(old).eq(annotations(new));
    match (same, old.status == new.status) {
        (false, _) => Change::Pod,
        (true, false) => Change::Status,
        (true, true) => Change::Nothing,
    }
}

fn annotations(pod: &Pod) -> impl Iterator<Item = (&String, &String)> {
    pod.metadata
        .annotations
        .iter()
        .flatten()
        .filter(|(key, _)| ![CONFIG_SOURCE, CONFIG_MIRROR, CONFIG_SEEN].contains(&key.as_str()))
}

/// The new version with the time when the old one was first seen (SRC-22).
fn seen_as(old: &Pod, new: &Arc<Pod>) -> Arc<Pod> {
    let seen = old
        .metadata
        .annotations
        .as_ref()
        .and_then(|map| map.get(CONFIG_SEEN));
    let new_seen = new
        .metadata
        .annotations
        .as_ref()
        .and_then(|map| map.get(CONFIG_SEEN));
    if seen == new_seen {
        return Arc::clone(new);
    }
    let mut pod = Pod::clone(new);
    let annotations = pod.metadata.annotations.get_or_insert_default();
    match seen {
        Some(seen) => annotations.insert(CONFIG_SEEN.to_owned(), seen.clone()),
        None => annotations.remove(CONFIG_SEEN),
    };
    Arc::new(pod)
}

#[cfg(test)]
mod tests;
