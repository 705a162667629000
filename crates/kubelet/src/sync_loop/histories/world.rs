//! A node and what may happen to it.

mod end;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use cri_api::{Code, v1::ContainerState};
use k8s_openapi::api::core::v1::{Container, Pod};
use kubelet_core::{admission::PREEMPTED_MESSAGE, ids::PodUid, spec};
use testkit::{Call, FakeCri, Held, OnStop, Random};
use tokio::sync::watch;

use super::laws::Laws;
use crate::{
    assembly::testing::{self, Life},
    sources::SourceSet,
    sync_loop::tests::{IMAGE, pod},
};

const OTHER_IMAGE: &str = "registry.invalid/image:2";
/// Calls that change something, and can fail.
const CHANGES: [Call; 7] = [
    Call::RunPodSandbox,
    Call::StopPodSandbox,
    Call::RemovePodSandbox,
    Call::CreateContainer,
    Call::StartContainer,
    Call::StopContainer,
    Call::RemoveContainer,
];
const READS: [Call; 5] = [
    Call::ListPodSandbox,
    Call::ListContainers,
    Call::ContainerStatus,
    Call::PodSandboxStatus,
    Call::ImageStatus,
];

/// The time of day there.
pub(super) fn time() -> String {
    time_text(testkit::now())
}

/// Minutes, seconds and thousandths.
fn time_text(at: SystemTime) -> String {
    let at = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let (minutes, seconds) = (at.as_secs() / 60 % 1440, at.as_secs() % 60);
    format!("{minutes:02}:{seconds:02}.{:03}", at.subsec_millis())
}

/// The node.
pub(super) struct World {
    fake: FakeCri,
    laws: Laws,
    root: tempfile::TempDir,
    /// Two sources, by file.
    files: [BTreeMap<&'static str, Pod>; 2],
    sets: [watch::Sender<SourceSet>; 2],
    life: Option<Life>,
    held: Vec<Held>,
    counter: u32,
    restarts: BTreeMap<(PodUid, String), i32>,
    /// A container was lost: who begins anew cannot know how often it had been started, until it is
    /// started again.
    lost: bool,
}

impl World {
    pub(super) fn begin(random: &mut Random) -> Self {
        let fake = FakeCri::start();
        let mut world = Self {
            laws: Laws::watch(&fake),
            fake,
            root: tempfile::tempdir().unwrap(),
            files: [BTreeMap::new(), BTreeMap::new()],
            sets: [(); 2].map(|()| watch::Sender::new(Some(Arc::default()))),
            life: None,
            held: Vec::new(),
            counter: 0,
            restarts: BTreeMap::new(),
            lost: false,
        };
        world.live();
        for _ in 0..2 {
            world.write(random);
        }
        world
    }

    fn live(&mut self) {
        let sources = self.sets.iter().map(watch::Sender::subscribe).collect();
        let node = testing::node(&[("pods", "3"), ("cpu", "4"), ("memory", "8Gi")]);
        self.life = Some(Life::begin(&self.fake, self.root.path(), node, sources));
    }

    fn send(&self) {
        for (files, sets) in self.files.iter().zip(&self.sets) {
            let pods: Vec<Arc<Pod>> = files.values().cloned().map(Arc::new).collect();
            sets.send_replace(Some(Arc::new(pods)));
        }
        for uid in self.uids_gone() {
            self.laws.forget_pod(&uid);
        }
    }

    /// Uids that were given and that no file has any more.
    fn uids_gone(&self) -> Vec<String> {
        let wanted = |uid: &String| {
            let mut pods = self.files.iter().flat_map(BTreeMap::values);
            pods.any(|pod| pod.metadata.uid.as_ref() == Some(uid))
        };
        (0..=self.counter)
            .map(|number| format!("uid-{number}"))
            .filter(|uid| !wanted(uid))
            .collect()
    }

    fn new_pod(&mut self, random: &mut Random, name: &str) -> Pod {
        self.counter += 1;
        let policy = ["Always", "Always", "OnFailure", "Never"][random.index(4)];
        let mut pod = pod(name, &format!("uid-{}", self.counter), policy);
        let container = |suffix: &str, policy: Option<&str>| Container {
            name: format!("{name}-{suffix}"),
            image: Some(IMAGE.to_owned()),
            image_pull_policy: Some("IfNotPresent".to_owned()),
            restart_policy: policy.map(ToOwned::to_owned),
            ..Container::default()
        };
        let spec = pod.spec.as_mut().unwrap();
        let mut init = Vec::new();
        if random.below(3) == 0 {
            let name = format!("{name}-init");
            self.fake.exit_on_start(&name, 0);
            init.push(container("init", None));
        }
        if random.below(3) == 0 {
            init.push(container("sidecar", Some("Always")));
        }
        if !init.is_empty() {
            spec.init_containers = Some(init);
        }
        if random.below(2) == 0 {
            spec.containers.push(container("second", None));
        }
        pod
    }

    fn write(&mut self, random: &mut Random) -> String {
        const NAMES: [&str; 4] = ["a", "b", "c", "d"];
        let name = NAMES[random.index(NAMES.len())];
        let source = usize::from(random.below(5) == 0);
        let pod = self.new_pod(random, name);
        let text = format!(
            "write {name} in source {source}: {} {} {:?}",
            pod.metadata.uid.as_deref().unwrap(),
            pod.spec
                .as_ref()
                .unwrap()
                .restart_policy
                .as_deref()
                .unwrap(),
            spec::init_containers(&pod)
                .iter()
                .chain(spec::containers(&pod))
                .map(|container| container.name.as_str())
                .collect::<Vec<_>>()
        );
        self.files[source].insert(name, pod);
        self.send();
        text
    }

    /// One thing happens; the answer says what.
    pub(super) async fn step(&mut self, random: &mut Random) -> String {
        let text = match random.below(21) {
            0..=2 => self.write(random),
            3 => self.remove(random),
            4 => self.edit(random),
            5..=7 => self.exit(random),
            8 => {
                let sandboxes = self.fake.sandboxes();
                let Some(sandbox) = random.pick(&sandboxes) else {
                    return "nothing".to_owned();
                };
                self.laws.forget_starts();
                self.fake.kill_sandbox(&sandbox.id);
                format!("sandbox {} dies", sandbox.id)
            }
            9 => {
                let containers = self.fake.containers();
                let Some(container) = random.pick(&containers) else {
                    return "nothing".to_owned();
                };
                self.lose();
                self.fake.lose_container(&container.id);
                format!("container {} {} is lost", container.name(), container.id)
            }
            10 => {
                self.fake.stop().await;
                let down = Duration::from_millis(1 + random.below(40_000));
                tokio::time::sleep(down).await;
                self.fake.serve();
                format!("the runtime is away for {down:?}")
            }
            11 | 12 => {
                let life = self.life.take().unwrap();
                life.end().await;
                self.laws.restarted();
                let down = random.below(2) == 0;
                if down {
                    self.edit(random);
                    self.exit(random);
                }
                self.live();
                if self.lost {
                    self.restarts.clear();
                }
                format!("the kubelet is restarted (down {down})")
            }
            13 => {
                let call = CHANGES[random.index(CHANGES.len())];
                let times = 1 + random.index(3);
                self.fake.fail_times(call, times, Code::Unknown, "no luck");
                format!("{call:?} fails {times} times")
            }
            14 => {
                let call = READS[random.index(READS.len())];
                let code =
                    [Code::Unknown, Code::Unavailable, Code::DeadlineExceeded][random.index(3)];
                self.fake
                    .fail_times(call, 1 + random.index(3), code, "no luck");
                format!("{call:?} fails with {code:?}")
            }
            15 => {
                let call = CHANGES[random.index(CHANGES.len())];
                self.fake.lose_answers(call, 1);
                format!("an answer to {call:?} is lost")
            }
            16 => {
                let call = CHANGES[random.index(CHANGES.len())];
                let gone = random.below(2) == 0;
                self.held.clear();
                if !gone {
                    self.held.push(self.fake.hold(call));
                }
                format!("{call:?} is slow: {}", !gone)
            }
            17 => {
                let image = [IMAGE, OTHER_IMAGE][random.index(2)];
                if random.below(2) == 0 {
                    self.fake.refuse_pull(image, Code::Unknown, "no such image");
                    format!("{image} cannot be pulled")
                } else {
                    self.fake.allow_pull(image);
                    format!("{image} can be pulled")
                }
            }
            18 => {
                let name = format!("{}-main", ["a", "b", "c", "d"][random.index(4)]);
                match random.below(3) {
                    0 => self
                        .fake
                        .exit_on_start(&name, i32::from(random.below(2) == 0)),
                    1 => self.fake.run_on_start(&name),
                    _ => self.fake.on_stop(&name, OnStop::Ignore),
                }
                format!("{name} behaves otherwise")
            }
            19 => {
                self.lose();
                self.fake.prune();
                "what does not run is removed".to_owned()
            }
            _ => "time passes".to_owned(),
        };
        let wait = [0, 1, 50, 2_000, 15_000, 90_000, 400_000][random.index(7)];
        let wait = Duration::from_millis(random.below(wait + 1));
        tokio::time::sleep(wait).await;
        format!("{text}, then {wait:?}")
    }

    /// Containers are about to be removed behind the kubelet's back: it goes on counting from what it
    /// has seen, which is not yet all if it has only just begun.
    fn lose(&mut self) {
        self.laws.forget_starts();
        self.lost = true;
        let shown = self.life.as_ref().unwrap().context.statuses.desired();
        let shown: BTreeMap<_, _> = shown
            .iter()
            .flat_map(|entry| {
                let containers = entry.status.container_statuses.iter().flatten();
                let uid = PodUid::of(&entry.pod);
                containers.map(move |one| ((uid.clone(), one.name.clone()), one.restart_count))
            })
            .collect();
        self.restarts
            .retain(|key, count| shown.get(key).is_some_and(|seen| seen >= count));
    }

    fn remove(&mut self, random: &mut Random) -> String {
        let source = random.index(2);
        let names: Vec<_> = self.files[source].keys().copied().collect();
        let Some(name) = random.pick(&names) else {
            return "nothing".to_owned();
        };
        self.files[source].remove(name);
        self.send();
        format!("remove {name} from source {source}")
    }

    /// The same uid with another image.
    fn edit(&mut self, random: &mut Random) -> String {
        let names: Vec<_> = self.files[0].keys().copied().collect();
        let Some(name) = random.pick(&names) else {
            return "nothing".to_owned();
        };
        let pod = self.files[0].get_mut(name).unwrap();
        let image = &mut pod.spec.as_mut().unwrap().containers[0].image;
        *image = Some([IMAGE, OTHER_IMAGE][random.index(2)].to_owned());
        let text = format!("{name} gets image {}", image.as_deref().unwrap());
        self.laws.forget_starts();
        self.send();
        text
    }

    fn exit(&mut self, random: &mut Random) -> String {
        let running: Vec<_> = self
            .fake
            .containers()
            .into_iter()
            .filter(|container| container.state == ContainerState::ContainerRunning)
            .collect();
        let Some(container) = random.pick(&running) else {
            return "nothing".to_owned();
        };
        let newest = self.fake.container(container.name());
        if newest.is_none_or(|newest| newest.id != container.id) {
            return "nothing".to_owned();
        }
        let code = i32::from(random.below(2) == 0);
        self.fake.exit(container.name(), code);
        format!("{} exits with {code}", container.name())
    }

    /// What must hold after each step.
    pub(super) fn check(&mut self) -> Result<(), String> {
        self.laws.check()?;
        let statuses = &self.life.as_ref().unwrap().context.statuses;
        for entry in statuses.desired() {
            let uid = PodUid::of(&entry.pod);
            // Who was refused, or had to make room, is asked about anew after a restart.
            let by_itself = !entry.status.message.as_deref().is_some_and(|message| {
                message.starts_with("Pod was rejected") || message == PREEMPTED_MESSAGE
            });
            if by_itself && spec::is_terminal_phase(entry.status.phase.as_deref()) {
                self.laws.is_over(uid.as_str());
            }
            for container in entry.status.container_statuses.iter().flatten() {
                let is_unseen = container.container_id.is_none() && container.last_state.is_none();
                if self.lost && is_unseen {
                    continue;
                }
                let key = (uid.clone(), container.name.clone());
                let before = self.restarts.insert(key, container.restart_count);
                if before.is_some_and(|before| before > container.restart_count) {
                    return Err(format!(
                        "restart count of {} of {uid} fell from {before:?} to {}",
                        container.name, container.restart_count
                    ));
                }
            }
        }
        Ok(())
    }

    /// What changed something, the newest last.
    pub(super) fn last_calls(&self) -> Vec<String> {
        let calls = self.fake.calls();
        let shown = |call: &Call| CHANGES.contains(call) || *call == Call::PullImage;
        let texts: Vec<_> = calls
            .iter()
            .filter(|record| shown(&record.call))
            .map(|record| {
                let (at, object) = (time_text(record.at), &record.object);
                format!("{at} {:?} {object}", record.call)
            })
            .collect();
        texts[texts.len().saturating_sub(60)..].to_vec()
    }

    /// Is another one wherever two histories part.
    pub(super) fn digest(&self) -> u64 {
        self.laws.digest()
    }
}
