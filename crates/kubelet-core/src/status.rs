//! The status that users see, from what the runtime has (kubelet.md 3.7).
//!
//! Kubernetes kubelet, `generateAPIPodStatus` and the status manager's normalisation, as one pure
//! function. It starts from the status before: a terminal phase never reverts (STAT-02), the last
//! known end of a container stays visible, and times change only with what they belong to.

mod conditions;
mod containers;
mod phase;

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, HostIP, Pod, PodCondition, PodIP,
    PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::actions::{History, ProbeResults};
use crate::ids::ContainerName;
use crate::moment::Moment;
use crate::observed::{ObservedPod, SandboxState};
use crate::qos::pod_qos;
use crate::reasons::{RejectReason, TerminatedReason};
use crate::spec::{self, RestartRules};
use crate::termination::message_limit_bytes;

/// Exit code of a container of which nobody knows the end (STAT-10).
const UNKNOWN_EXIT_CODE: i32 = 137;

/// Which family of addresses comes first (STAT-20).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IpFamily {
    /// IPv4.
    #[default]
    V4,
    /// IPv6.
    V6,
}

impl IpFamily {
    /// That of an address.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The addresses that a pod is told as its own, of those that its runtime tells: the first of each
    /// family, this family before the other (STAT-20). Kubernetes kubelet, `sortPodIPs`.
    pub fn of_pod(self, ips: &[IpAddr]) -> Vec<IpAddr> {
        let first = ips.iter().copied().find(|ip| self.has(*ip));
        let second = ips.iter().copied().find(|ip| !self.has(*ip));
        first.into_iter().chain(second).collect()
    }

    fn has(self, ip: IpAddr) -> bool {
        Self::of(ip) == self
    }
}

/// Whether the pod is on its way or has ended for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodEnd {
    /// It runs, or is being stopped.
    Open,
    /// Nothing of it runs and nothing will.
    Over,
}

/// Why the kubelet itself declares the pod failed: deadline, eviction, preemption, shutdown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// `status.reason`.
    pub reason: String,
    /// `status.message`.
    pub message: String,
}

/// All that [`compute_pod_status`] looks at.
#[derive(Debug, Clone, Copy)]
pub struct StatusInput<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// What the runtime has of it, with termination messages filled in (CTR-50).
    pub observed: &'a ObservedPod,
    /// The status published before; without it the pod's own counts.
    pub previous: Option<&'a PodStatus>,
    /// Probe results, start failures and restart delays.
    pub history: &'a History,
    /// Gate `ContainerRestartRules`.
    pub rules: RestartRules,
    /// Runtime's name of CRI `Version`, the prefix of container ids (CRI-03).
    pub runtime_name: &'a str,
    /// Whether the pod is over.
    pub end: PodEnd,
    /// The kubelet's own judgement, which makes the pod Failed.
    pub verdict: Option<&'a Verdict>,
    /// Family of the node's first address.
    pub primary_family: IpFamily,
    /// Addresses of the node in connected mode, else empty (STAT-20).
    pub host_ips: &'a [IpAddr],
    /// Gate `ContainerStopSignals`: stop signals are shown (CTR-46).
    pub stop_signals: bool,
    /// Gate `SupplementalGroupsPolicy`: who a container runs as is shown (STAT-07).
    pub supplemental_groups: bool,
    /// Gate `InPlacePodVerticalScaling`: resources are shown (STAT-07).
    pub in_place_resize: bool,
    /// Whether the runtime can mount read-only recursively (STAT-07).
    pub recursive_read_only: bool,
    /// Conditions decided elsewhere: resize and disruption (STAT-03).
    pub conditions: &'a [PodCondition],
    /// The time.
    pub now: Timestamp,
    /// The same on the clock of [`History`].
    pub moment: Moment,
}

/// The pod's status.
///
/// Differs (STAT-09): where a container of a pod that is not always restarted ended well and starts again, because its
/// sandbox had gone, the status says so; upstream takes that for an illegal transition and shows the old status until
/// the container has ended again.
pub fn compute_pod_status(input: &StatusInput<'_>) -> PodStatus {
    let StatusInput { pod, now, .. } = *input;
    let empty = PodStatus::default();
    let own = pod.status.as_ref().unwrap_or(&empty);
    let old = input.previous.unwrap_or(own);

    let mut status = PodStatus {
        qos_class: Some(pod_qos(pod).as_str().to_owned()),
        observed_generation: generation(pod),
        ..Default::default()
    };
    set_ips(&mut status, input, old);
    containers::fill(&mut status, input, old);
    set_phase(&mut status, input, old, own);
    if input.end == PodEnd::Over {
        status = compute_terminated_status(pod, &status);
    }
    conditions::fill(&mut status, input, old);

    status.start_time = old.start_time.clone().or(Some(Time(now)));
    normalise(pod, &mut status);
    status
}

/// Whether the pod has ended for good by what its containers show, whether or not something of it still
/// has to be stopped: then nothing of it is started any more (Kubernetes kubelet, `SyncPod`: the status
/// comes first; CTR-01).
pub fn has_ended(input: &StatusInput<'_>) -> bool {
    let status = compute_pod_status(input);
    spec::is_terminal_phase(status.phase.as_deref())
}

/// STAT-02: phase, reason and message.
fn set_phase(status: &mut PodStatus, input: &StatusInput<'_>, old: &PodStatus, own: &PodStatus) {
    let mut phase = phase::compute_phase(input, status);
    if !spec::is_terminal_phase(Some(phase)) {
        for earlier in [old.phase.as_deref(), own.phase.as_deref()]
            .into_iter()
            .flatten()
        {
            if spec::is_terminal_phase(Some(earlier)) {
                phase = earlier;
                break;
            }
        }
    }
    if old.phase.as_deref() == Some(phase) {
        let text = |a: &Option<String>, b: &Option<String>| {
            a.clone()
                .filter(|text| !text.is_empty())
                .or_else(|| b.clone())
        };
        status.reason = text(&old.reason, &own.reason);
        status.message = text(&old.message, &own.message);
    }
    if let Some(verdict) = input.verdict {
        phase = "Failed";
        status.reason = Some(verdict.reason.clone());
        status.message = Some(verdict.message.clone());
    }
    // What the API once showed as the end is the end.
    if let Some(end) = own
        .phase
        .as_deref()
        .filter(|phase| spec::is_terminal_phase(Some(*phase)))
    {
        phase = end;
    }
    status.phase = Some(phase.to_owned());
}

/// STAT-20. Addresses of the last sandbox stay while no sandbox is ready (LIFE-21).
fn set_ips(status: &mut PodStatus, input: &StatusInput<'_>, old: &PodStatus) {
    let StatusInput {
        pod,
        observed,
        primary_family,
        host_ips,
        ..
    } = *input;
    let mut ips: Vec<IpAddr> = Vec::new();
    if !spec::is_host_network(pod) {
        ips.extend_from_slice(observed.ips());
        let ready = observed
            .sandboxes
            .iter()
            .any(|sandbox| sandbox.state == SandboxState::Ready);
        if ips.is_empty() && !ready {
            let before = old.pod_ips.iter().flatten();
            ips.extend(before.filter_map(|ip| ip.ip.parse::<IpAddr>().ok()));
        }
    }
    let mut ordered = primary_family.of_pod(&ips);
    if spec::is_host_network(pod) {
        ordered.extend(host_ips.iter().take(2));
    }
    status.pod_ip = ordered.first().map(ToString::to_string);
    if !ordered.is_empty() {
        status.pod_ips = Some(
            ordered
                .iter()
                .map(|ip| PodIP { ip: ip.to_string() })
                .collect(),
        );
    }
    status.host_ip = host_ips.first().map(ToString::to_string);
    if !host_ips.is_empty() {
        let host_ips = host_ips
            .iter()
            .take(2)
            .map(|ip| HostIP { ip: ip.to_string() });
        status.host_ips = Some(host_ips.collect());
    }
}

/// The status once probes of one container have another result, before the pod is looked at as a
/// whole again (Kubernetes kubelet, `SetContainerReadiness` and `SetContainerStartup`). `container_id`
/// as in the status. Only `started`, `ready` and the conditions that follow from them change.
pub fn apply_probe_results(
    pod: &Pod,
    status: &mut PodStatus,
    container_id: &str,
    results: ProbeResults,
    now: Timestamp,
) {
    if spec::is_terminal_phase(status.phase.as_deref()) {
        return;
    }
    let PodStatus {
        container_statuses,
        init_container_statuses,
        ..
    } = status;
    let found = container_statuses
        .iter_mut()
        .chain(init_container_statuses)
        .flatten()
        .find(|status| status.container_id.as_deref() == Some(container_id));
    let Some(found) = found else { return };
    let name = ContainerName::from(found.name.as_str());
    let Some((kind, container)) = spec::find_container(pod, &name) else {
        return;
    };
    containers::judge(kind, &container, found, results);
    conditions::refresh(status, pod, now);
    normalise(pod, status);
}

/// ADM-01: the status of a pod that was not admitted.
pub fn rejected_status(
    pod: &Pod,
    reason: &RejectReason,
    message: &str,
    now: Timestamp,
) -> PodStatus {
    let mut status = PodStatus {
        phase: Some("Failed".to_owned()),
        reason: Some(reason.as_str()),
        message: Some(format!("Pod was rejected: {message}")),
        qos_class: Some(pod_qos(pod).as_str().to_owned()),
        start_time: Some(Time(now)),
        observed_generation: generation(pod),
        ..Default::default()
    };
    normalise(pod, &mut status);
    status
}

/// The last status of a pod that is over: what is still shown as running or waiting ended in a way
/// that nobody saw. A static pod keeps its phase (LIFE-36), any other ends as Failed unless it
/// succeeded. (Kubernetes kubelet, `TerminatePod`.)
pub fn compute_terminated_status(pod: &Pod, status: &PodStatus) -> PodStatus {
    let mut status = status.clone();
    if has_initialized(pod, &status) {
        status
            .container_statuses
            .iter_mut()
            .flatten()
            .for_each(end_unseen);
    }
    if let Some(init) = status.init_container_statuses.as_mut() {
        // Those behind the last that ever started were never run.
        let started = |status: &ContainerStatus| !is_waiting(status) || last_end(status).is_some();
        let count = init.iter().rposition(started).map_or(1, |index| index + 1);
        init.iter_mut().take(count).for_each(end_unseen);
    }
    if !spec::is_static(pod) && !spec::is_terminal_phase(status.phase.as_deref()) {
        status.phase = Some("Failed".to_owned());
    }
    status
}

fn end_unseen(status: &mut ContainerStatus) {
    if current_end(status).is_none() {
        status.state = Some(ContainerState {
            terminated: Some(unknown_end(
                "The container could not be located when the pod was terminated",
            )),
            ..Default::default()
        });
        status.ready = false;
        status.started = Some(false);
    }
}

/// STAT-10.
fn unknown_end(message: &str) -> ContainerStateTerminated {
    ContainerStateTerminated {
        reason: Some(TerminatedReason::ContainerStatusUnknown.as_str().to_owned()),
        message: Some(message.to_owned()),
        exit_code: UNKNOWN_EXIT_CODE,
        ..Default::default()
    }
}

/// Whether the status shows that regular containers have had their turn.
fn has_initialized(pod: &Pod, status: &PodStatus) -> bool {
    let init = spec::init_containers(pod);
    let Some(last) = init.last() else { return true };
    // Upstream asks the pod as its source gave it, where a file says nothing of what has run.
    if spec::is_static(pod) {
        return false;
    }
    let regular = status.container_statuses.iter().flatten();
    if regular
        .clone()
        .any(|status| last_end(status).is_some() || !is_waiting(status))
    {
        return true;
    }
    status
        .init_container_statuses
        .iter()
        .flatten()
        .find(|status| status.name == last.name)
        .is_some_and(|status| {
            if spec::is_sidecar(last) {
                is_running(status) && status.started == Some(true)
            } else {
                [last_end(status), current_end(status)]
                    .into_iter()
                    .flatten()
                    .any(|end| end.exit_code == 0)
            }
        })
}

fn is_running(status: &ContainerStatus) -> bool {
    status
        .state
        .as_ref()
        .is_some_and(|state| state.running.is_some())
}

fn is_waiting(status: &ContainerStatus) -> bool {
    status
        .state
        .as_ref()
        .is_some_and(|state| state.waiting.is_some())
}

fn current_end(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status
        .state
        .as_ref()
        .and_then(|state| state.terminated.as_ref())
}

fn last_end(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref())
}

pub(crate) fn generation(pod: &Pod) -> Option<i64> {
    pod.metadata
        .generation
        .filter(|generation| *generation != 0)
}

/// STAT-06 and the limit of CTR-50: seconds, and a share of the message budget per container.
fn normalise(pod: &Pod, status: &mut PodStatus) {
    let limit = message_limit_bytes(pod);
    truncate_time(&mut status.start_time);
    for condition in status.conditions.iter_mut().flatten() {
        truncate_time(&mut condition.last_probe_time);
        truncate_time(&mut condition.last_transition_time);
    }
    let lists = [
        &mut status.container_statuses,
        &mut status.init_container_statuses,
        &mut status.ephemeral_container_statuses,
    ];
    for container in lists.into_iter().flatten().flatten() {
        for state in [&mut container.state, &mut container.last_state]
            .into_iter()
            .flatten()
        {
            if let Some(running) = &mut state.running {
                truncate_time(&mut running.started_at);
            }
            if let Some(end) = &mut state.terminated {
                truncate_time(&mut end.started_at);
                truncate_time(&mut end.finished_at);
                if let Some(message) = &mut end.message {
                    message.truncate(message.floor_char_boundary(limit));
                }
            }
        }
    }
}

fn truncate_time(time: &mut Option<Time>) {
    if let Some(Time(time)) = time {
        let nanos = time.as_nanosecond();
        let begun = nanos - nanos.rem_euclid(1_000_000_000);
        *time = Timestamp::from_nanosecond(begun).unwrap_or(*time);
    }
}

/// `docker://<id>` (STAT-07).
pub fn container_id_text(runtime_name: &str, id: &crate::ids::ContainerId) -> String {
    format!("{runtime_name}://{id}")
}

/// When the pod passes `activeDeadlineSeconds`, counted from its start (CTR-53).
pub fn active_deadline(pod: &Pod, status: &PodStatus) -> Option<Timestamp> {
    let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
    let start = status.start_time.as_ref()?.0;
    let seconds = std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    Some(crate::backoff::later(start, seconds))
}

/// The verdict on a pod that passed its deadline (CTR-53).
pub fn deadline_exceeded() -> Verdict {
    Verdict {
        reason: crate::reasons::PodReason::DeadlineExceeded
            .as_str()
            .to_owned(),
        message: "Pod was active on the node longer than the specified deadline".to_owned(),
    }
}

#[cfg(test)]
mod tests;
