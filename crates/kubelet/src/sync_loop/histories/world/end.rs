//! How each history ends: everything settles, then everything goes.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use kubelet_core::spec;

use testkit::CallRecord;

use super::{CHANGES, IMAGE, OTHER_IMAGE, READS, World, testing};

/// Longer than all delays that can have grown, one after the other: of a restart and of a pull.
const A_LONG_TIME: Duration = Duration::from_mins(15);
/// Two rounds of everything that looks at intervals.
const A_QUIET_TIME: Duration = Duration::from_mins(5);

/// An init container was removed behind a kubelet's back and the next kubelet knows nothing of it: the pod
/// is shown as Pending although its containers run or have ended, as upstream shows it.
fn lost_its_init_container(pod: &Pod, status: &PodStatus) -> bool {
    let never_seen =
        |one: &&ContainerStatus| one.container_id.is_none() && one.last_state.is_none();
    let init = status.init_container_statuses.iter().flatten();
    let mut lost = init.filter(never_seen);
    let plain = |name: &str| {
        let mut init = spec::init_containers(pod).iter();
        init.any(|one| one.name == name && !spec::is_sidecar(one))
    };
    let states = status.container_statuses.iter().flatten();
    let states: Vec<_> = states.filter_map(|one| one.state.as_ref()).collect();
    lost.any(|one| plain(&one.name))
        && states.iter().any(|state| state.running.is_some())
        && states.iter().all(|state| state.waiting.is_none())
}

impl World {
    fn heal(&mut self) {
        self.held.clear();
        for call in CHANGES.into_iter().chain(READS) {
            self.fake.succeed(call);
        }
        for image in [IMAGE, OTHER_IMAGE] {
            self.fake.allow_pull(image);
        }
        for name in ["a", "b", "c", "d"] {
            self.fake.run_on_start(&format!("{name}-main"));
        }
    }

    /// With nothing in the way every pod gets where it should be, and then nothing happens.
    ///
    /// One exception: [`lost_its_init_container`].
    pub(in super::super) async fn settle(&mut self) -> Result<(), String> {
        self.heal();
        tokio::time::sleep(A_LONG_TIME).await;
        self.check()?;
        let statuses = &self.life.as_ref().unwrap().context.statuses;
        let all = statuses.desired();
        for entry in &all {
            let phase = entry.status.phase.as_deref().unwrap_or_default();
            let rests = matches!(phase, "Running" | "Succeeded" | "Failed");
            if !rests && !lost_its_init_container(&entry.pod, &entry.status) {
                let namesakes: Vec<_> = all
                    .iter()
                    .filter(|other| other.pod.metadata.name == entry.pod.metadata.name)
                    .collect();
                let waits = namesakes.iter().any(|other| {
                    other.status.phase.as_deref() == Some("Running")
                        || lost_its_init_container(&other.pod, &other.status)
                });
                if !waits {
                    return Err(format!("does not get on: {namesakes:#?}"));
                }
            }
            if phase == "Running" {
                for container in entry.status.container_statuses.iter().flatten() {
                    let state = container.state.as_ref();
                    if state.is_some_and(|state| state.waiting.is_some()) {
                        return Err(format!("waits for ever: {container:#?}"));
                    }
                }
            }
        }
        self.fake.forget_calls();
        tokio::time::sleep(A_QUIET_TIME).await;
        self.quiet()
    }

    fn quiet(&self) -> Result<(), String> {
        let is_change = |record: &&CallRecord| CHANGES.contains(&record.call);
        let changes: Vec<_> = self.fake.calls();
        let changes: Vec<_> = changes.iter().filter(is_change).collect();
        if changes.is_empty() {
            Ok(())
        } else {
            Err(format!("no rest: {changes:?}"))
        }
    }

    /// The end: nothing is left, in the runtime and on disk.
    pub(in super::super) async fn remove_all(&mut self) -> Result<(), String> {
        self.files = [BTreeMap::new(), BTreeMap::new()];
        self.send();
        tokio::time::sleep(A_LONG_TIME).await;
        self.check()?;
        let (sandboxes, containers) = (self.fake.sandboxes(), self.fake.containers());
        if !sandboxes.is_empty() || !containers.is_empty() {
            return Err(format!(
                "left in the runtime: {sandboxes:#?} {containers:#?}"
            ));
        }
        self.life.as_ref().unwrap().sweep();
        tokio::time::sleep(A_QUIET_TIME).await;
        for directory in [
            self.root.path().join("kubelet/pods"),
            testing::logs(self.root.path()),
            self.root.path().join("links"),
        ] {
            let entries = std::fs::read_dir(&directory).into_iter().flatten();
            let left: Vec<_> = entries.filter_map(Result::ok).map(|e| e.path()).collect();
            if !left.is_empty() {
                return Err(format!("left on disk: {left:?}"));
            }
        }
        self.life.take().unwrap().end().await;
        Ok(())
    }
}
