//! Pod conditions: their order, reasons and times (STAT-03..05).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{StatusInput, current_end, generation, is_running};
use crate::actions::sandbox_needed;
use crate::reasons::ConditionReason;
use crate::spec;

/// Conditions that the kubelet computes anew each time.
const OWNED: [&str; 7] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    "PodResizePending",
    "PodResizeInProgress",
];

pub(super) fn fill(status: &mut PodStatus, input: &StatusInput<'_>, old: &PodStatus) {
    let StatusInput { pod, observed, .. } = *input;
    let own = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or(&[]);
    let mut conditions: Vec<PodCondition> = own
        .iter()
        .filter(|condition| !OWNED.contains(&condition.type_.as_str()))
        .cloned()
        .collect();
    let disruption = old
        .conditions
        .iter()
        .flatten()
        .filter(|condition| condition.type_ == "DisruptionTarget");
    for condition in input.conditions.iter().chain(disruption) {
        match conditions
            .iter_mut()
            .find(|known| known.type_ == condition.type_)
        {
            Some(known) => *known = condition.clone(),
            None => conditions.push(condition.clone()),
        }
    }

    let statuses = Statuses::of(status);
    let phase = status.phase.as_deref().unwrap_or_default();
    let containers_ready = containers_ready(pod, &statuses, phase);
    let computed = [
        (
            "PodReadyToStartContainers",
            sandbox_ready(sandbox_needed(pod, observed).is_none()),
        ),
        ("Initialized", initialized(pod, &statuses, phase)),
        ("Ready", ready(pod, &conditions, &containers_ready)),
        ("ContainersReady", containers_ready),
        ("PodScheduled", Outcome::met()),
    ];
    conditions.extend(
        computed
            .into_iter()
            .map(|(type_, outcome)| outcome.into_condition(type_, pod)),
    );
    for condition in &mut conditions {
        set_transition_time(condition, input.now, old);
    }
    status.conditions = Some(conditions);
}

/// Judges anew what follows from the statuses of the containers, and nothing else.
pub(super) fn refresh(status: &mut PodStatus, pod: &Pod, now: Timestamp) {
    let old = status.clone();
    let statuses = Statuses::of(&old);
    let phase = old.phase.as_deref().unwrap_or_default();
    let conditions = old.conditions.as_deref().unwrap_or(&[]);
    let containers_ready = containers_ready(pod, &statuses, phase);
    let judged = [
        ("Initialized", initialized(pod, &statuses, phase)),
        ("Ready", ready(pod, conditions, &containers_ready)),
        ("ContainersReady", containers_ready),
    ];
    for condition in status.conditions.iter_mut().flatten() {
        if let Some((_, outcome)) = judged.iter().find(|(type_, _)| condition.type_ == *type_) {
            *condition = outcome.clone().into_condition(&condition.type_, pod);
            set_transition_time(condition, now, &old);
        }
    }
}

/// A time changes with the status only (STAT-03). Conditions of others keep theirs.
fn set_transition_time(condition: &mut PodCondition, now: Timestamp, old: &PodStatus) {
    let ours = OWNED[..5].contains(&condition.type_.as_str());
    if !ours && condition.type_ != "DisruptionTarget" {
        return;
    }
    let before = old
        .conditions
        .iter()
        .flatten()
        .find(|old| old.type_ == condition.type_);
    condition.last_transition_time = before
        .filter(|before| before.status == condition.status)
        .and_then(|before| before.last_transition_time.clone())
        .or(Some(Time(now)));
}

#[derive(Clone)]
struct Outcome {
    met: bool,
    reason: Option<ConditionReason>,
    message: Option<String>,
}

impl Outcome {
    fn met() -> Self {
        Self {
            met: true,
            reason: None,
            message: None,
        }
    }

    fn into_condition(self, type_: &str, pod: &Pod) -> PodCondition {
        PodCondition {
            type_: type_.to_owned(),
            status: if self.met { "True" } else { "False" }.to_owned(),
            reason: self.reason.map(|reason| reason.as_str().to_owned()),
            message: self.message,
            observed_generation: generation(pod),
            ..Default::default()
        }
    }

    fn unmet(reason: ConditionReason, message: Option<String>) -> Self {
        Self {
            met: false,
            reason: Some(reason),
            message,
        }
    }
}

/// STAT-05.
fn sandbox_ready(met: bool) -> Outcome {
    Outcome {
        met,
        reason: None,
        message: None,
    }
}

/// Statuses of init and regular containers.
struct Statuses<'a> {
    init: &'a [ContainerStatus],
    regular: &'a [ContainerStatus],
}

impl<'a> Statuses<'a> {
    fn of(status: &'a PodStatus) -> Self {
        Self {
            init: status.init_container_statuses.as_deref().unwrap_or(&[]),
            regular: status.container_statuses.as_deref().unwrap_or(&[]),
        }
    }

    fn find(&self, name: &str) -> Option<&'a ContainerStatus> {
        self.init
            .iter()
            .chain(self.regular)
            .find(|status| status.name == name)
    }

    /// Names without status, and names whose status does not satisfy.
    fn sort_out<'c>(
        &self,
        containers: impl Iterator<Item = &'c Container>,
        satisfies: impl Fn(&Container, &ContainerStatus) -> bool,
    ) -> (Vec<&'c str>, Vec<&'c str>) {
        let (mut unknown, mut unmet) = (Vec::new(), Vec::new());
        for container in containers {
            match self.find(&container.name) {
                None => unknown.push(container.name.as_str()),
                Some(status) if !satisfies(container, status) => {
                    unmet.push(container.name.as_str());
                }
                Some(_) => {}
            }
        }
        (unknown, unmet)
    }
}

fn containers_ready(pod: &Pod, statuses: &Statuses<'_>, phase: &str) -> Outcome {
    let sidecars = spec::init_containers(pod)
        .iter()
        .filter(|init| spec::is_sidecar(init));
    let (unknown, unready) = statuses
        .sort_out(sidecars.chain(spec::containers(pod)), |_, status| {
            status.ready
        });
    if phase == "Succeeded" && unknown.is_empty() {
        return Outcome::unmet(ConditionReason::PodCompleted, None);
    }
    if phase == "Failed" {
        return Outcome::unmet(ConditionReason::PodFailed, None);
    }
    match message(&unknown, "unready", &unready) {
        Some(message) => Outcome::unmet(ConditionReason::ContainersNotReady, Some(message)),
        None => Outcome::met(),
    }
}

fn ready(pod: &Pod, conditions: &[PodCondition], containers_ready: &Outcome) -> Outcome {
    if !containers_ready.met {
        return containers_ready.clone();
    }
    let gates = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.readiness_gates.as_deref())
        .unwrap_or(&[]);
    let unmet: Vec<_> = gates
        .iter()
        .filter_map(|gate| {
            let name = &gate.condition_type;
            match conditions.iter().find(|condition| condition.type_ == *name) {
                None => Some(format!(
                    "corresponding condition of pod readiness gate \"{name}\" does not exist."
                )),
                Some(condition) if condition.status != "True" => Some(format!(
                    "the status of pod readiness gate \"{name}\" is not \"True\", but {}",
                    condition.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    if unmet.is_empty() {
        Outcome::met()
    } else {
        Outcome::unmet(
            ConditionReason::ReadinessGatesNotReady,
            Some(unmet.join(", ")),
        )
    }
}

fn initialized(pod: &Pod, statuses: &Statuses<'_>, phase: &str) -> Outcome {
    let init = spec::init_containers(pod).iter();
    let (unknown, incomplete) = statuses.sort_out(init, |container, status| {
        if spec::is_sidecar(container) {
            status.started == Some(true)
        } else {
            status.ready
        }
    });
    if phase == "Succeeded" && unknown.is_empty() {
        let reason = Some(ConditionReason::PodCompleted);
        return Outcome {
            met: true,
            reason,
            message: None,
        };
    }
    // A sidecar that restarts later does not undo the initialisation.
    let started = |status: &ContainerStatus| is_running(status) || current_end(status).is_some();
    if statuses.regular.iter().any(started) {
        return Outcome::met();
    }
    match message(&unknown, "incomplete", &incomplete) {
        Some(message) => Outcome::unmet(ConditionReason::ContainersNotInitialized, Some(message)),
        None => Outcome::met(),
    }
}

fn message(unknown: &[&str], word: &str, unmet: &[&str]) -> Option<String> {
    let part = |word: &str, names: &[&str]| {
        (!names.is_empty()).then(|| format!("containers with {word} status: [{}]", names.join(" ")))
    };
    let parts: Vec<_> = part("unknown", unknown)
        .into_iter()
        .chain(part(word, unmet))
        .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}
