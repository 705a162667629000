//! Who may run here (kubelet 3.3): asks [`kubelet_core::admission`] about each pod once, when it is
//! added, and remembers the answer as long as a source asks for the pod.
//!
//! Nothing survives a restart: then everybody is asked again, those that the runtime has first.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use daemon::ErrorChain;
use k8s_openapi::api::core::v1::Pod;
use kubelet_core::{
    actions::{ActionsInput, History, compute_pod_actions},
    admission::{
        Admission, NodeInfo, PREEMPTED_MESSAGE, PREEMPTED_REASON, Rejection, TakenPod,
        admission_order, admit, preempted_status,
    },
    ids::{PodKey, PodUid},
    moment::Moment,
    spec,
    status::rejected_status,
};

use crate::{
    clock,
    events::{EventType, ObjectRef},
    pod_workers::{PodContext, is_on_record},
    runtime::observe,
};

/// What was decided about each pod.
#[derive(Debug)]
pub(super) struct Gate {
    node: NodeInfo,
    decisions: BTreeMap<PodUid, Decision>,
}

#[derive(Debug)]
enum Decision {
    /// It may run, once those that make room for it are gone.
    Taken {
        pod: TakenPod,
        after: BTreeSet<PodUid>,
        /// It had ended before this process began: it holds nothing.
        over: bool,
    },
    Refused,
}

impl Gate {
    /// Nobody was asked about yet.
    pub(super) fn new(node: NodeInfo) -> Self {
        Self {
            node,
            decisions: BTreeMap::new(),
        }
    }

    /// Decides about the pods that are new; forgets those that nobody asks for any more. `adopted`
    /// are those of the runtime that have no worker yet.
    pub(super) async fn ask(
        &mut self,
        desired: &BTreeMap<PodUid, Arc<Pod>>,
        adopted: &BTreeSet<PodUid>,
        context: &PodContext,
    ) {
        self.decisions.retain(|uid, _| desired.contains_key(uid));
        // The loop has waited for the runtime's first word before anybody asks.
        let can = context.health.now().features;
        self.node.supplemental_groups_policy =
            context.node.gates.supplemental_groups && can.supplemental_groups_policy;
        let mut new = Vec::new();
        for (uid, pod) in desired {
            match self.decisions.get_mut(uid) {
                // An update is not asked about again; what it holds may be something else.
                Some(Decision::Taken { pod: taken, .. }) if !Arc::ptr_eq(&taken.pod, pod) => {
                    *taken = TakenPod::new(pod.clone());
                }
                Some(_) => {}
                None => new.push((uid, pod.as_ref())),
            }
        }
        for uid in admission_order(new, adopted) {
            let Some(pod) = desired.get(&uid) else {
                continue;
            };
            let over = is_on_record(&context.dirs, &uid).await
                || (adopted.contains(&uid) && has_ended(&uid, pod, context).await);
            self.decide(&uid, pod, over, context);
        }
    }

    /// Whether the pod was taken.
    pub(super) fn is_taken(&self, uid: &PodUid) -> bool {
        matches!(self.decisions.get(uid), Some(Decision::Taken { .. }))
    }

    /// Those that have to be gone before the pod starts.
    pub(super) fn after(&self, uid: &PodUid) -> impl Iterator<Item = &PodUid> {
        let after = match self.decisions.get(uid) {
            Some(Decision::Taken { after, .. }) => Some(after),
            _ => None,
        };
        after.into_iter().flatten()
    }

    fn decide(&mut self, uid: &PodUid, pod: &Arc<Pod>, over: bool, context: &PodContext) {
        let others: Vec<&TakenPod> = self
            .decisions
            .iter()
            .filter_map(|(uid, decision)| match decision {
                Decision::Taken { pod, over, .. } => {
                    (!over && !context.statuses.is_over(uid)).then_some(pod)
                }
                Decision::Refused => None,
            })
            .collect();
        // What has ended is shown as it ended, whatever has become of the node (ADM-01, LIFE-37).
        let admission = if over {
            Admission::Admitted
        } else {
            admit(pod, &self.node, &others)
        };
        let after = match admission {
            Admission::Admitted => BTreeSet::new(),
            Admission::AfterPreempting { victims, signal } => {
                for victim in &victims {
                    self.preempt(victim, pod, &signal, context);
                }
                victims.into_iter().collect()
            }
            Admission::Rejected(rejection) => {
                refuse(uid, pod, &rejection, context);
                self.decisions.insert(uid.clone(), Decision::Refused);
                return;
            }
        };
        let pod = TakenPod::new(pod.clone());
        let taken = Decision::Taken { pod, after, over };
        self.decisions.insert(uid.clone(), taken);
    }

    /// A pod that was taken has to go (ADM-09).
    fn preempt(&mut self, victim: &PodUid, for_whom: &Pod, signal: &str, context: &PodContext) {
        let before = self.decisions.insert(victim.clone(), Decision::Refused);
        let Some(Decision::Taken { pod, .. }) = before else {
            return;
        };
        let pod = pod.pod;
        tracing::info!(pod = %PodKey::of(&pod), podUID = %victim,
            requestingPod = %PodKey::of(for_whom), "Preempting pod to free up resources");
        let (object, message) = (ObjectRef::pod(&pod), PREEMPTED_MESSAGE);
        let event = EventType::Warning;
        context
            .events
            .record(&object, event, PREEMPTED_REASON, message);
        let status = preempted_status(&context.statuses.status(victim), clock::now());
        context.control_plane.publish_status(&pod, &status);
        context.statuses.set_status(victim, &status);
        context
            .metrics
            .preemptions
            .with_label_values(&[signal])
            .inc();
    }
}

/// ADM-01: the status, the event, the log line and the count of a pod that is not taken.
fn refuse(uid: &PodUid, pod: &Arc<Pod>, rejection: &Rejection, context: &PodContext) {
    let (reason, message) = (rejection.reason.as_str(), &rejection.message);
    tracing::info!(podUID = %uid, pod = %PodKey::of(pod), reason, message_ = message,
        "Pod admission denied");
    let object = ObjectRef::pod(pod);
    context
        .events
        .record(&object, EventType::Warning, &reason, message);
    let status = rejected_status(pod, &rejection.reason, message, clock::now());
    context.control_plane.publish_status(pod, &status);
    context.statuses.set_status(uid, &status);
    context
        .metrics
        .admission_rejections
        .with_label_values(&[rejection.metric_label()])
        .inc();
}

/// Whether a pod of before has ended for good. One that always restarts has not; for the others the
/// runtime is asked. Where that fails the pod's worker will find out.
async fn has_ended(uid: &PodUid, pod: &Pod, context: &PodContext) -> bool {
    if spec::restart_policy(pod) == spec::RestartPolicy::Always {
        return false;
    }
    let observed = match observe::read_pod(&context.runtime, uid).await {
        Ok(observed) => observed,
        Err(error) => {
            tracing::warn!(pod = %PodKey::of(pod), error = %ErrorChain(&error),
                "cannot tell whether the pod has ended");
            return false;
        }
    };
    let actions = compute_pod_actions(&ActionsInput {
        pod,
        observed: &observed,
        history: &History::new(context.node.restart_backoff),
        rules: context.node.gates.restart_rules,
        now: clock::now(),
        moment: Moment::ZERO,
    });
    actions.done && !observed.may_be_running()
}
