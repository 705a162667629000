//! What containers were given when their pod was taken, and keep until it is gone.
//!
//! Kubernetes kubelet, `pkg/kubelet/allocation`: a static pod is not resized in place (CTR-52). An edit of
//! `resources` under the same uid changes nothing of what runs, nor of what a container that starts
//! later gets; the pod's status says so.

pub mod checkpoint;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodCondition, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use crate::quantity::{self, Amounts, Quantity};
use crate::spec;
use crate::status::generation;

const PENDING: &str = "PodResizePending";
const INFEASIBLE: &str = "Infeasible";
const STATIC_POD: &str = "In-place resize of static-pods is not supported";

/// What the containers of a pod were given, by name: the regular ones and sidecars.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Allocation {
    #[serde(rename = "ContainerResources")]
    containers: BTreeMap<String, ResourceRequirements>,
}

impl Allocation {
    /// What the pod asks for.
    pub fn of(pod: &Pod) -> Self {
        let resources = |container: &Container| {
            let resources = container.resources.clone().unwrap_or_default();
            (container.name.clone(), resources)
        };
        Self {
            containers: resizable(pod).map(resources).collect(),
        }
    }

    /// The pod with what it was given in the place of what it asks for; `None` where that is the same.
    pub fn applied_to(&self, pod: &Pod) -> Option<Pod> {
        let mut allocated = pod.clone();
        let spec = allocated.spec.as_mut()?;
        let containers = spec.containers.iter_mut();
        let mut changed = false;
        for container in containers.chain(spec.init_containers.iter_mut().flatten()) {
            let Some(given) = self.containers.get(&container.name) else {
                continue;
            };
            let asked = container.resources.get_or_insert_default();
            if !are_same(asked, given) {
                asked.clone_from(given);
                changed = true;
            }
        }
        changed.then_some(allocated)
    }
}

/// What an edit asks for that is not done, for who counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// Each amount of a container that changes.
    pub resizes: Vec<Resize>,
    /// Whether the pod has something else now than it asks for.
    pub infeasible: bool,
}

/// A change of one amount of one container (Kubernetes kubelet, `recordContainerResizeOperations`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resize {
    /// `cpu` or `memory`.
    pub resource: &'static str,
    /// `requests` or `limits`.
    pub requirement: &'static str,
    /// `add`, `remove`, `increase` or `decrease`.
    pub operation: &'static str,
}

/// A pod that a source asks for, and what it was given.
#[derive(Debug, Clone)]
pub struct Allocated {
    /// As its source has it.
    asked: Arc<Pod>,
    allocation: Allocation,
    /// With what it was given.
    pub pod: Arc<Pod>,
    /// The condition that tells of a resize which is not made.
    pub pending: Option<PodCondition>,
}

impl Allocated {
    /// A pod that this process has not met before. `before` is what an earlier process gave it.
    ///
    /// Differs: that it asks for something else is told at once; upstream tells it after a restart once its first
    /// round of retries has come, half a minute later.
    pub fn new(asked: Arc<Pod>, before: Option<&Allocation>, now: Timestamp) -> Self {
        let allocated = before.and_then(|before| before.applied_to(&asked));
        let pending = allocated.as_ref().map(|_| infeasible(&asked, None, now));
        let pod = allocated.map_or_else(|| asked.clone(), Arc::new);
        Self {
            allocation: Allocation::of(&pod),
            asked,
            pod,
            pending,
        }
    }

    /// Takes in what the source has now. Only an edit of CPU or memory changes what is told (Kubernetes
    /// kubelet, `HandlePodUpdates`); other resources stay as given in silence.
    ///
    /// Differs: upstream's process ends when an edit under the same uid takes a container away or renames
    /// it (`recordContainerResizeOperations`).
    pub fn update(&mut self, asked: &Arc<Pod>, now: Timestamp) -> Asked {
        if Arc::ptr_eq(&self.asked, asked) {
            return Asked::default();
        }
        let before = std::mem::replace(&mut self.asked, asked.clone());
        let allocated = self.allocation.applied_to(asked);
        let resizes = resizes(&before, asked);
        if !resizes.is_empty() {
            let told = self.pending.take();
            self.pending = allocated
                .as_ref()
                .map(|_| infeasible(asked, told.as_ref(), now));
        }
        let refused = !resizes.is_empty() && allocated.is_some();
        self.pod = allocated.map_or_else(|| asked.clone(), Arc::new);
        Asked {
            resizes,
            infeasible: refused,
        }
    }

    /// What it was given.
    pub fn allocation(&self) -> &Allocation {
        &self.allocation
    }
}

/// Those whose resources are recorded (Kubernetes kubelet, `IsResizableContainer`).
fn resizable(pod: &Pod) -> impl Iterator<Item = &Container> {
    let init = spec::init_containers(pod).iter();
    spec::containers(pod)
        .iter()
        .chain(init.filter(|init| spec::is_sidecar(init)))
}

/// What an edit changes of CPU and memory of containers that were there before. None is the same as zero.
fn resizes(before: &Pod, after: &Pod) -> Vec<Resize> {
    let mut resizes = Vec::new();
    for old in resizable(before) {
        let Some(new) = resizable(after).find(|new| new.name == old.name) else {
            continue;
        };
        for resource in ["memory", "cpu"] {
            for requirement in ["requests", "limits"] {
                let (old, new) = (
                    amount(old, requirement, resource),
                    amount(new, requirement, resource),
                );
                let operation = match (old.is_zero(), new.is_zero(), new.cmp(&old)) {
                    (false, true, _) => "remove",
                    (true, false, _) => "add",
                    (_, _, Ordering::Less) => "decrease",
                    (_, _, Ordering::Greater) => "increase",
                    (_, _, Ordering::Equal) => continue,
                };
                resizes.push(Resize {
                    resource,
                    requirement,
                    operation,
                });
            }
        }
    }
    resizes
}

fn amount(container: &Container, requirement: &str, resource: &str) -> Quantity {
    let resources = container.resources.as_ref();
    let list = match requirement {
        "limits" => resources.and_then(|resources| resources.limits.as_ref()),
        _ => resources.and_then(|resources| resources.requests.as_ref()),
    };
    list.and_then(|list| list.get(resource))
        .map(quantity::of)
        .unwrap_or_default()
}

/// The same amounts, however written, of the same things.
fn are_same(a: &ResourceRequirements, b: &ResourceRequirements) -> bool {
    let amounts = |list: &Option<BTreeMap<String, ApiQuantity>>| -> Amounts {
        list.as_ref().map(quantity::amounts).unwrap_or_default()
    };
    amounts(&a.limits) == amounts(&b.limits)
        && amounts(&a.requests) == amounts(&b.requests)
        && a.claims.as_deref().unwrap_or_default() == b.claims.as_deref().unwrap_or_default()
}

/// The time of a change is kept as long as the reason is the same.
fn infeasible(pod: &Pod, before: Option<&PodCondition>, now: Timestamp) -> PodCondition {
    let since = before.and_then(|before| before.last_transition_time.clone());
    PodCondition {
        type_: PENDING.to_owned(),
        status: "True".to_owned(),
        reason: Some(INFEASIBLE.to_owned()),
        message: Some(STATIC_POD.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: since.or(Some(Time(now))),
        observed_generation: generation(pod),
    }
}

#[cfg(test)]
mod tests;
