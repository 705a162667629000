//! Container statuses (STAT-06..10).
//!
//! Kubernetes kubelet, `convertToAPIContainerStatuses`, and the prober's `UpdatePodStatus` for
//! `started` and `ready`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, ContainerUser, LinuxContainerUser, PodStatus,
    ResourceRequirements, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{StatusInput, container_id_text, current_end, is_running, last_end, unknown_end};
use crate::actions::{ProbeResult, ProbeResults, StartWait, should_restart};
use crate::backoff::crash_loop_message;
use crate::observed::{self, ObservedContainer};
use crate::quantity::{self, Format, Quantity};
use crate::reasons::WaitingReason;
use crate::spec::{self, ContainerKind};

/// Below this a CPU limit has no effect of its own, in thousandths of a core.
const MIN_CPU_LIMIT_MILLICORES: i64 = 10;
/// Below this a CPU request has no effect of its own, in thousandths of a core.
const MIN_CPU_REQUEST_MILLICORES: i64 = 2;

pub(super) fn fill(status: &mut PodStatus, input: &StatusInput<'_>, old: &PodStatus) {
    let pod = input.pod;
    let regular = spec::containers(pod)
        .iter()
        .map(|c| (ContainerKind::Regular, c.clone()));
    let init = spec::init_containers(pod)
        .iter()
        .map(|c| (spec::init_kind(c), c.clone()));
    let ephemeral = spec::ephemeral_containers(pod)
        .iter()
        .map(|e| (ContainerKind::Ephemeral, spec::ephemeral_as_container(e)));
    let list = |containers: &mut dyn Iterator<Item = (ContainerKind, Container)>,
                before: &Option<Vec<ContainerStatus>>| {
        let before = before.as_deref().unwrap_or(&[]);
        let mut statuses: Vec<_> = containers
            .map(|(kind, container)| {
                let before = before.iter().find(|status| status.name == container.name);
                One {
                    input,
                    kind,
                    container: &container,
                    before,
                }
                .status()
            })
            .collect();
        // It is kept as long as the pod, and a vector begins with room for four.
        statuses.shrink_to_fit();
        (!statuses.is_empty()).then_some(statuses)
    };
    status.container_statuses = list(&mut regular.into_iter(), &old.container_statuses);
    status.init_container_statuses = list(&mut init.into_iter(), &old.init_container_statuses);
    status.ephemeral_container_statuses = list(
        &mut ephemeral.into_iter(),
        &old.ephemeral_container_statuses,
    );
    // Init containers stay in the order of the specification (STAT-06).
    for statuses in [
        &mut status.container_statuses,
        &mut status.ephemeral_container_statuses,
    ]
    .into_iter()
    .flatten()
    {
        statuses.sort_by(|a, b| a.name.cmp(&b.name));
    }
}

/// One container on its way to a status.
struct One<'a> {
    input: &'a StatusInput<'a>,
    kind: ContainerKind,
    container: &'a Container,
    before: Option<&'a ContainerStatus>,
}

impl One<'_> {
    fn status(&self) -> ContainerStatus {
        let name = self.container.name.as_str();
        let mut instances = self
            .input
            .observed
            .containers
            .iter()
            .filter(|c| c.name.as_str() == name);
        let (latest, previous) = (instances.next(), instances.next());
        let mut status = match latest {
            Some(latest) => {
                let mut status = self.as_reported(latest);
                match previous {
                    Some(previous) => status.last_state = self.as_reported(previous).state,
                    // Of two that have ended the older is removed: it is not shown any more where no third
                    // will follow.
                    None if latest.state == observed::ContainerState::Exited
                        && !self.runs_again(Some(latest)) => {}
                    // The runtime forgets ended containers; the status need not.
                    None => status.last_state = self.remembered_end(latest),
                }
                status
            }
            None => self.unreported(),
        };
        // Differs: upstream shows what the runtime has, and counts backwards once somebody removed the
        // newest container and left an older one there.
        let shown = self.before.map_or(0, |before| before.restart_count);
        status.restart_count = status.restart_count.max(shown);
        self.let_wait(&mut status, latest);
        self.judge(&mut status, latest);
        status
    }

    /// The end shown before, as long as the same container runs on or follows it. One that nobody saw names no
    /// container, and goes.
    ///
    /// Differs (STAT-09): upstream forgets it once somebody removed the dead container.
    fn remembered_end(&self, latest: &ObservedContainer) -> Option<ContainerState> {
        let before = self.before?;
        let id = container_id_text(self.input.runtime_name, &latest.id);
        let ended = |end: &&ContainerStateTerminated| {
            let ended = end.container_id.as_ref();
            ended.is_some_and(|ended| *ended != id)
        };
        let end = if before.container_id.as_deref() == Some(id.as_str()) {
            last_end(before)
        } else {
            current_end(before).or_else(|| last_end(before))
        };
        end.filter(ended).map(|end| ContainerState {
            terminated: Some(end.clone()),
            ..Default::default()
        })
    }

    /// STAT-07.
    fn as_reported(&self, observed: &ObservedContainer) -> ContainerStatus {
        let id = container_id_text(self.input.runtime_name, &observed.id);
        let resizable = self.input.in_place_resize;
        let mut status = ContainerStatus {
            name: self.container.name.clone(),
            image: observed.image.clone(),
            image_id: observed.image_ref.clone(),
            container_id: Some(id.clone()),
            restart_count: i32::try_from(observed.restart_count).unwrap_or(i32::MAX),
            stop_signal: observed
                .stop_signal
                .clone()
                .filter(|_| self.input.stop_signals),
            volume_mounts: self.volume_mounts(),
            resources: resizable.then(|| self.resources(observed)),
            allocated_resources: self
                .container
                .resources
                .as_ref()
                .filter(|_| resizable)
                .and_then(|resources| resources.requests.clone()),
            user: self.user(observed),
            ..Default::default()
        };
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let mut state = ContainerState::default();
        match observed.state {
            observed::ContainerState::Running => {
                state.running = Some(ContainerStateRunning {
                    started_at: observed.started_at.map(Time),
                });
            }
            observed::ContainerState::Exited => {
                state.terminated = Some(ContainerStateTerminated {
                    exit_code: observed.exit_code,
                    reason: text(&observed.reason),
                    message: text(&observed.message),
                    started_at: observed.started_at.map(Time),
                    finished_at: observed.finished_at.map(Time),
                    container_id: Some(id),
                    ..Default::default()
                });
            }
            observed::ContainerState::Unknown if self.before.is_some_and(is_running) => {
                state.terminated = Some(unknown_end(
                    "The container could not be located when the pod was terminated",
                ));
                status.restart_count = self
                    .before
                    .map_or(0, |before| before.restart_count)
                    .saturating_add(1);
            }
            observed::ContainerState::Created | observed::ContainerState::Unknown => {
                state.waiting = Some(ContainerStateWaiting::default());
            }
        }
        status.state = Some(state);
        status
    }

    /// STAT-09, STAT-10: the runtime has no container of that name.
    fn unreported(&self) -> ContainerStatus {
        if let Some(before) = self.before.filter(|before| current_end(before).is_some()) {
            return before.clone();
        }
        let reason = if spec::init_containers(self.input.pod).is_empty() {
            WaitingReason::ContainerCreating
        } else {
            WaitingReason::PodInitializing
        };
        let mut status = ContainerStatus {
            name: self.container.name.clone(),
            image: self.container.image.clone().unwrap_or_default(),
            volume_mounts: self.volume_mounts(),
            state: Some(waiting(reason, String::new())),
            ..Default::default()
        };
        let Some(before) = self.before else {
            return status;
        };
        status.restart_count = before.restart_count;
        status.last_state.clone_from(&before.last_state);
        if is_running(before) && last_end(before).is_none() {
            // It ran and is gone: without an end the pod would look as if it had never started.
            status.last_state = Some(ContainerState {
                terminated: Some(unknown_end(
                    "The container could not be located when the pod was deleted.  \
                     The container used to be Running",
                )),
                ..Default::default()
            });
            if self.input.pod.metadata.deletion_timestamp.is_none() {
                status.restart_count = status.restart_count.saturating_add(1);
            }
        }
        status
    }

    /// CTR-22, CTR-23: a container that shall run again waits, and says for what.
    fn let_wait(&self, status: &mut ContainerStatus, latest: Option<&ObservedContainer>) {
        let StatusInput {
            pod,
            history,
            now,
            moment,
            observed,
            ..
        } = *self.input;
        if !self.runs_again(latest) {
            return;
        }
        let name = self.container.name.as_str();
        let wait = history.start_wait(pod, self.container, observed, now, moment);
        let crash_wait = || match wait {
            Some(StartWait::CrashLoop(wait)) => Some(crash_loop_message(pod, name, wait.delay)),
            _ => self.message_of_wait(),
        };
        let shown = history.shows_crash_wait(name, moment);
        let (reason, message) = if let Some(message) = shown.then(crash_wait).flatten() {
            (WaitingReason::CrashLoopBackOff, message)
        } else if let Some(failure) = history.start_failures.get(name) {
            (failure.reason, failure.message.clone())
        } else {
            return;
        };
        // An end that nobody saw names no container, and is not remembered.
        if current_end(status).is_some_and(|end| end.container_id.is_some()) {
            status.last_state = status.state.take();
        }
        status.state = Some(waiting(reason, message));
    }

    /// Whether it is shown as one that will run again. Sidecars are init containers to the original here: one that
    /// succeeded, or whose pod's policy is against another run, is shown as it ended, though it does run again.
    fn runs_again(&self, latest: Option<&ObservedContainer>) -> bool {
        let succeeded = matches!(self.kind, ContainerKind::Init | ContainerKind::Sidecar)
            && latest.is_some_and(|latest| {
                latest.state == observed::ContainerState::Exited && latest.exit_code == 0
            });
        !succeeded
            && match (self.kind, latest) {
                (ContainerKind::Ephemeral, Some(_)) => false,
                _ => should_restart(self.input.pod, self.container, latest, self.input.rules),
            }
    }

    /// What was shown of the wait for a back-off, where no start has been tried since.
    fn message_of_wait(&self) -> Option<String> {
        let waiting = self.before?.state.as_ref()?.waiting.as_ref()?;
        let reason = WaitingReason::CrashLoopBackOff.as_str();
        (waiting.reason.as_deref() == Some(reason))
            .then(|| waiting.message.clone().unwrap_or_default())
    }

    fn judge(&self, status: &mut ContainerStatus, latest: Option<&ObservedContainer>) {
        let probes = latest
            .map(|latest| self.input.history.probes_of(&latest.id))
            .unwrap_or_default();
        judge(self.kind, self.container, status, probes);
    }

    /// Who the container runs as.
    fn user(&self, observed: &ObservedContainer) -> Option<ContainerUser> {
        let user = observed.user.as_ref();
        let user = user.filter(|_| self.input.supplemental_groups)?;
        Some(ContainerUser {
            linux: Some(LinuxContainerUser {
                uid: user.uid,
                gid: user.gid,
                supplemental_groups: Some(user.supplemental_groups.clone())
                    .filter(|groups| !groups.is_empty()),
            }),
        })
    }

    /// Differs (STAT-07): a container's mounts are shown after a restart of the kubelet too, when upstream has
    /// forgotten them.
    fn volume_mounts(&self) -> Option<Vec<VolumeMountStatus>> {
        let mounts = self.container.volume_mounts.as_ref()?;
        let statuses = mounts.iter().map(|mount| {
            let read_only = mount.read_only == Some(true);
            let recursive = match mount.recursive_read_only.as_deref() {
                Some("IfPossible" | "Enabled") if self.input.recursive_read_only => "Enabled",
                _ => "Disabled",
            };
            VolumeMountStatus {
                name: mount.name.clone(),
                mount_path: mount.mount_path.clone(),
                read_only: read_only.then_some(true),
                recursive_read_only: read_only.then(|| recursive.to_owned()),
            }
        });
        Some(statuses.collect()).filter(|list: &Vec<_>| !list.is_empty())
    }

    /// What was asked for, with what the runtime says where it runs.
    fn resources(&self, observed: &ObservedContainer) -> ResourceRequirements {
        let mut resources = self.container.resources.clone().unwrap_or_default();
        let Some(actual) = observed.resources else {
            return resources;
        };
        if observed.state != observed::ContainerState::Running {
            return resources;
        }
        let cpu = |map: &BTreeMap<String, _>| map.get("cpu").map_or(0, quantity::milli_value);
        if let Some(limits) = &mut resources.limits {
            if let Some(actual) = actual.cpu_limit_millicores
                && actual.max(cpu(limits)) > MIN_CPU_LIMIT_MILLICORES
            {
                limits.insert("cpu".to_owned(), Quantity::from_milli(actual).into());
            }
            if let Some(actual) = actual.memory_limit_bytes {
                let actual = Quantity::from_value(actual, Format::BinarySi);
                limits.insert("memory".to_owned(), actual.into());
            }
        }
        if let Some(requests) = &mut resources.requests
            && let Some(actual) = actual.cpu_request_millicores
            && actual.max(cpu(requests)) > MIN_CPU_REQUEST_MILLICORES
        {
            requests.insert("cpu".to_owned(), Quantity::from_milli(actual).into());
        }
        resources
    }
}

/// STAT-08: `started` and `ready`.
pub(super) fn judge(
    kind: ContainerKind,
    container: &Container,
    status: &mut ContainerStatus,
    probes: ProbeResults,
) {
    let passed = |probe: bool, result: Option<ProbeResult>| {
        result.map_or(!probe, |result| result == ProbeResult::Success)
    };
    let started = is_running(status) && passed(container.startup_probe.is_some(), probes.startup);
    if kind != ContainerKind::Ephemeral {
        status.started = Some(started);
    }
    status.ready = match kind {
        ContainerKind::Ephemeral => false,
        ContainerKind::Init => current_end(status).is_some_and(|end| end.exit_code == 0),
        // A result of failure is overruled by nothing; no result yet is not ready.
        ContainerKind::Regular | ContainerKind::Sidecar => {
            started && passed(container.readiness_probe.is_some(), probes.readiness)
        }
    };
}

fn waiting(reason: WaitingReason, message: String) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.as_str().to_owned()),
            message: Some(message).filter(|message| !message.is_empty()),
        }),
        ..Default::default()
    }
}
