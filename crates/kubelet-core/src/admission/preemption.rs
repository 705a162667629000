//! Making room for a critical pod (ADM-09). Kubernetes kubelet, `preemption`.

use std::fmt::Write as _;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Shortage, amount};
use crate::ids::PodUid;
use crate::qos::{QosClass, pod_qos};
use crate::resources::{Overhead, pod_requests};
use crate::spec;

/// `status.reason` of a pod that had to go, and of its event.
pub const PREEMPTED_REASON: &str = "Preempting";
/// Its `status.message`, and the event's.
pub const PREEMPTED_MESSAGE: &str = "Preempted in order to admit critical pod";

const DISRUPTION_TARGET: &str = "DisruptionTarget";

/// Resource and how much of it must become free.
type Needs = Vec<(String, i64)>;

/// The pods to kill, least important class first; as few as the shortest way allows.
///
/// # Errors
/// When killing all that may be killed does not make room; the text names what is missing.
pub fn plan_preemption(
    pod: &Pod,
    others: &[&Pod],
    shortages: &[Shortage],
) -> Result<Vec<PodUid>, String> {
    let needs: Needs = shortages
        .iter()
        .map(|short| (short.resource.clone(), short.missing()))
        .collect();
    let of_class = |class| -> Vec<&Pod> {
        let may_go = |other: &&&Pod| preemptable(pod, other) && pod_qos(other) == class;
        others.iter().filter(may_go).copied().collect()
    };
    let [best_effort, burstable, guaranteed] = [
        QosClass::BestEffort,
        QosClass::Burstable,
        QosClass::Guaranteed,
    ]
    .map(of_class);
    let all: Vec<_> = [&best_effort[..], &burstable, &guaranteed].concat();
    let lacking = subtract(&needs, &all);
    if !lacking.is_empty() {
        return Err(error(&lacking));
    }
    let guaranteed = shortest(
        guaranteed,
        subtract(&needs, &[&best_effort[..], &burstable].concat()),
    )?;
    let burstable = shortest(
        burstable,
        subtract(&needs, &[&best_effort[..], &guaranteed].concat()),
    )?;
    let best_effort = shortest(
        best_effort,
        subtract(&needs, &[&burstable[..], &guaranteed].concat()),
    )?;
    let victims = best_effort.into_iter().chain(burstable).chain(guaranteed);
    Ok(victims.map(PodUid::of).collect())
}

/// The status of a pod that is killed to make room: Failed, whatever its containers do (ADM-09).
pub fn preempted_status(before: &PodStatus, now: Timestamp) -> PodStatus {
    let mut status = before.clone();
    status.phase = Some("Failed".to_owned());
    status.reason = Some(PREEMPTED_REASON.to_owned());
    status.message = Some(PREEMPTED_MESSAGE.to_owned());
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != DISRUPTION_TARGET);
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let disrupted = PodCondition {
        type_: DISRUPTION_TARGET.to_owned(),
        status: "True".to_owned(),
        reason: Some("TerminationByKubelet".to_owned()),
        message: Some("Pod was preempted by Kubelet to accommodate a critical pod.".to_owned()),
        last_transition_time: Some(Time(now)),
        ..PodCondition::default()
    };
    conditions.insert(0, disrupted);
    status
}

fn error(lacking: &Needs) -> String {
    let mut list = String::new();
    for (resource, amount) in lacking {
        // Writing to a string cannot fail.
        let _ = write!(list, "(res: {resource}, q: {amount}), ");
    }
    format!(
        "preemption: error finding a set of pods to preempt: no set of running pods found to \
         reclaim resources: [{list}]"
    )
}

fn preemptable(pod: &Pod, other: &Pod) -> bool {
    if spec::is_critical(pod) && !spec::is_critical(other) {
        return true;
    }
    let priority = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.priority);
    matches!((priority(pod), priority(other)), (Some(ours), Some(theirs)) if ours > theirs)
}

/// What is still needed when these pods are gone.
fn subtract(needs: &Needs, pods: &[&Pod]) -> Needs {
    needs
        .iter()
        .map(|(resource, needed)| {
            let freed = pods
                .iter()
                .map(|pod| freed(pod, resource))
                .fold(0, i64::saturating_add);
            (resource.clone(), needed.saturating_sub(freed))
        })
        .filter(|(_, needed)| *needed > 0)
        .collect()
}

fn freed(pod: &Pod, resource: &str) -> i64 {
    if resource == "pods" {
        return 1;
    }
    amount(&pod_requests(pod, Overhead::Include), resource)
}

/// Takes the pod that comes nearest to what is needed, again and again; of equals the smaller.
fn shortest(mut pods: Vec<&Pod>, mut needs: Needs) -> Result<Vec<&Pod>, String> {
    let mut taken = Vec::new();
    while !needs.is_empty() {
        let nearest = pods.iter().enumerate().min_by(|(_, a), (_, b)| {
            let size = |pod: &Pod| (freed(pod, "memory"), freed(pod, "cpu"));
            distance(a, &needs)
                .total_cmp(&distance(b, &needs))
                .then_with(|| size(a).cmp(&size(b)))
                .then_with(|| PodUid::of(a).cmp(&PodUid::of(b)))
        });
        let Some((index, _)) = nearest else {
            return Err(error(&needs));
        };
        let pod = pods.remove(index);
        needs = subtract(&needs, &[pod]);
        taken.push(pod);
    }
    Ok(taken)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a measure of nearness, not an amount"
)]
fn distance(pod: &Pod, needs: &Needs) -> f64 {
    needs
        .iter()
        .map(|(resource, needed)| {
            let left = needed.saturating_sub(freed(pod, resource)).max(0);
            (left as f64 / *needed as f64).powi(2)
        })
        .sum()
}
