//! What containers were given when their pod was taken, and keep until it is gone.
//!
//! Kubernetes kubelet, `pkg/kubelet/allocation`: a static pod is not resized in place (CTR-52). An edit of
//! `resources` under the same uid changes nothing of what runs, nor of what a container that starts
//! later gets; the pod's status says so.

pub mod checkpoint;

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
    pub fn update(&mut self, asked: &Arc<Pod>, now: Timestamp) {
        if Arc::ptr_eq(&self.asked, asked) {
            return;
        }
        let before = std::mem::replace(&mut self.asked, asked.clone());
        let allocated = self.allocation.applied_to(asked);
        if asks_for_resize(&before, asked) {
            let told = self.pending.take();
            self.pending = allocated
                .as_ref()
                .map(|_| infeasible(asked, told.as_ref(), now));
        }
        self.pod = allocated.map_or_else(|| asked.clone(), Arc::new);
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

/// Whether an edit changes CPU or memory of a container that was there before.
fn asks_for_resize(before: &Pod, after: &Pod) -> bool {
    resizable(before).any(|old| {
        let new = resizable(after).find(|new| new.name == old.name);
        new.is_some_and(|new| cpu_and_memory(old) != cpu_and_memory(new))
    })
}

/// Limits and requests; none is the same as zero.
fn cpu_and_memory(container: &Container) -> [Quantity; 4] {
    let resources = container.resources.as_ref();
    let amount = |list: Option<&BTreeMap<String, ApiQuantity>>, name: &str| {
        list.and_then(|list| list.get(name))
            .map(quantity::of)
            .unwrap_or_default()
    };
    let limits = resources.and_then(|resources| resources.limits.as_ref());
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    [
        amount(limits, "cpu"),
        amount(limits, "memory"),
        amount(requests, "cpu"),
        amount(requests, "memory"),
    ]
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
