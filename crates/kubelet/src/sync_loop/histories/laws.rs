//! What must hold in every state of the runtime, whatever happened before.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cri_api::v1::{ContainerState, PodSandboxState};
use testkit::{FakeContainer, FakeCri, FakeSandbox};
use tokio::time::Instant;

/// So many starts of a container take at least [`STARTS_SPAN`]: the first again is at once, then
/// after 10 s, then after 20 s (CTR-22).
const STARTS: usize = 4;
/// A second less than upstream's delays, for clocks that are read one after the other.
const STARTS_SPAN: Duration = Duration::from_secs(29);

/// Sees every state and remembers what was broken.
#[derive(Debug, Clone, Default)]
pub(super) struct Laws(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    broken: Option<String>,
    /// Containers that were started, by id.
    started: BTreeSet<String>,
    /// Sandboxes and containers that were seen, by id.
    known: BTreeSet<String>,
    /// The last attempt that ran of each name in a pod, and in which life of the kubelet.
    attempts: BTreeMap<(String, String), (u32, u32)>,
    /// How often the kubelet was restarted.
    lives: u32,
    /// When containers were started, by pod and name.
    starts: BTreeMap<(String, String), Vec<Instant>>,
    /// Pods that have ended for good.
    over: BTreeSet<String>,
    /// Of all states seen, and when.
    digest: DefaultHasher,
}

impl Laws {
    /// Watches the runtime from now on.
    pub(super) fn watch(fake: &FakeCri) -> Self {
        let laws = Self::default();
        let seen = laws.clone();
        fake.watch(move |sandboxes, containers| {
            let mut seen = seen.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(broken) = seen.look(sandboxes, containers) {
                seen.broken.get_or_insert(broken);
            }
        });
        laws
    }

    /// The first law that was broken.
    pub(super) fn check(&self) -> Result<(), String> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.broken.clone().map_or(Ok(()), Err)
    }

    /// Of all states seen so far, and when.
    pub(super) fn digest(&self) -> u64 {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.digest.finish()
    }

    /// Delays grow anew: the kubelet was restarted, or the pod's sandbox died, or its definition
    /// changed.
    pub(super) fn forget_starts(&self) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.starts.clear();
    }

    /// The kubelet was restarted.
    pub(super) fn restarted(&self) {
        self.forget_starts();
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.lives += 1;
    }

    /// Nobody asks for the pod any more: one of the same uid is another.
    pub(super) fn forget_pod(&self, uid: &str) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.over.remove(uid);
        seen.attempts.retain(|(of, _), _| of != uid);
        seen.starts.retain(|(of, _), _| of != uid);
    }

    /// The pod is Succeeded or Failed: nothing of it starts again.
    pub(super) fn is_over(&self, uid: &str) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.over.insert(uid.to_owned());
    }
}

fn uid_of(labels: &BTreeMap<String, String>) -> String {
    labels["io.kubernetes.pod.uid"].clone()
}

fn name_of(sandbox: &FakeSandbox) -> (String, String) {
    let labels = &sandbox.config.labels;
    let of = |key: &str| labels[key].clone();
    (
        of("io.kubernetes.pod.namespace"),
        of("io.kubernetes.pod.name"),
    )
}

impl Seen {
    fn look(
        &mut self,
        sandboxes: &[&FakeSandbox],
        containers: &[&FakeContainer],
    ) -> Result<(), String> {
        testkit::now().hash(&mut self.digest);
        for sandbox in sandboxes {
            (&sandbox.id, sandbox.state).hash(&mut self.digest);
        }
        for container in containers {
            (&container.id, container.state).hash(&mut self.digest);
        }
        let ready = || {
            sandboxes
                .iter()
                .filter(|sandbox| sandbox.state == PodSandboxState::SandboxReady)
        };
        let mut names = BTreeMap::new();
        for sandbox in ready() {
            let uid = uid_of(&sandbox.config.labels);
            if let Some(other) = names.insert(name_of(sandbox), uid.clone()) {
                return Err(format!(
                    "{:?} has two ready sandboxes, of {other} and of {uid}",
                    name_of(sandbox)
                ));
            }
        }
        for sandbox in sandboxes {
            let uid = uid_of(&sandbox.config.labels);
            let attempt = sandbox.config.metadata.as_ref().map_or(0, |m| m.attempt);
            if self.known.insert(sandbox.id.clone()) {
                let others = sandboxes
                    .iter()
                    .filter(|other| other.id != sandbox.id && uid_of(&other.config.labels) == uid)
                    .filter_map(|other| other.config.metadata.as_ref());
                if let Some(before) = others.map(|other| other.attempt).max()
                    && attempt <= before
                {
                    return Err(format!(
                        "attempt {attempt} of the sandbox of {uid} beside attempt {before}"
                    ));
                }
                if self.over.contains(&uid) {
                    return Err(format!("{uid} has ended and got a sandbox"));
                }
            }
        }
        let homes: BTreeSet<&str> = ready().map(|sandbox| sandbox.id.as_str()).collect();
        for container in containers {
            let uid = uid_of(&container.config.labels);
            let name = container.name();
            if self.known.insert(container.id.clone()) {
                let log = container.log_path.as_deref();
                self.grows(&uid, name, container.attempt(), log)?;
            }
            if container.state == ContainerState::ContainerRunning {
                if !homes.contains(container.sandbox_id.as_str()) {
                    return Err(format!("{name} of {uid} runs in no ready sandbox"));
                }
                if self.started.insert(container.id.clone()) {
                    self.ran(&uid, name, container.attempt());
                    self.note_start(&uid, name)?;
                }
            }
        }
        Ok(())
    }

    /// Attempts only grow: no attempt that ran is made again, whatever somebody removed, so that no log
    /// is written twice.
    ///
    /// Upstream promises less: it counts on from what the runtime has, or from the log files where that
    /// has nothing. One that never ran has no log, and may be made again once it was removed. So may one
    /// that an earlier kubelet removed together with its log, as it does with init containers before it
    /// makes another sandbox. Sandboxes have no logs: theirs grow beside those that are still there.
    fn grows(&self, uid: &str, name: &str, attempt: u32, log: Option<&Path>) -> Result<(), String> {
        let key = (uid.to_owned(), name.to_owned());
        match self.attempts.get(&key) {
            Some((before, life))
                if attempt <= *before && (*life == self.lives || log.is_none_or(Path::exists)) =>
            {
                Err(format!(
                    "attempt {attempt} of {name:?} of {uid} after attempt {before}"
                ))
            }
            _ => Ok(()),
        }
    }

    fn ran(&mut self, uid: &str, name: &str, attempt: u32) {
        let key = (uid.to_owned(), name.to_owned());
        let (last, life) = self.attempts.entry(key).or_default();
        // Another life may have begun to count anew.
        let before = if *life == self.lives { *last } else { 0 };
        (*last, *life) = (before.max(attempt), self.lives);
    }

    fn note_start(&mut self, uid: &str, name: &str) -> Result<(), String> {
        if self.over.contains(uid) {
            return Err(format!("{name} of {uid} was started after the pod's end"));
        }
        let starts = self
            .starts
            .entry((uid.to_owned(), name.to_owned()))
            .or_default();
        starts.push(Instant::now());
        if let [.., first, _, _, last] = starts[..]
            && starts.len() >= STARTS
            && last - first < STARTS_SPAN
        {
            return Err(format!(
                "{name} of {uid} was started {STARTS} times within {:?}",
                last - first
            ));
        }
        Ok(())
    }
}
