//! Amounts that pods ask for, and the numbers that cgroups and the runtime get from them.
//!
//! Kubernetes `component-helpers/resource` (ADM-12), kubelet `cm` (CG-10..17) and `kuberuntime`
//! (CRI-70..77). Numbers only: who writes them where is decided elsewhere.

mod cgroup;
mod container;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use crate::quantity::{self, Amounts, Quantity, amounts};
use crate::spec;

pub use cgroup::{
    CgroupValues, ClassValues, PodCgroupSettings, cpu_quota_micros, cpu_shares, cpu_weight,
    node_cgroup_values, pod_cgroup_values, qos_cgroup_values,
};
pub use container::{
    ContainerResourceSettings, MemoryQos, PageSize, SwapBehavior, container_resources,
    hugepage_sizes, oom_score_adj, overhead_resources, sandbox_resources,
};

/// Whether `spec.overhead` is part of a sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overhead {
    /// It is added.
    Include,
    /// It is left out.
    Exclude,
}

/// Which of a container's two lists is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    Requests,
    Limits,
}

impl List {
    fn of(self, resources: Option<&ResourceRequirements>) -> Amounts {
        let list = resources.and_then(|resources| match self {
            Self::Requests => resources.requests.as_ref(),
            Self::Limits => resources.limits.as_ref(),
        });
        list.map(amounts).unwrap_or_default()
    }
}

/// What the pod needs at its most demanding moment (ADM-12): regular containers and sidecars
/// together, or an init container with the sidecars before it, whichever is more; replaced by
/// pod-level requests where they are given.
pub fn pod_requests(pod: &Pod, overhead: Overhead) -> Amounts {
    let mut sum = aggregate(pod, List::Requests, |_| {});
    sum.extend(pod_level(pod, List::Requests));
    if overhead == Overhead::Include {
        add(&mut sum, &overhead_of(pod));
    }
    sum
}

/// The same for limits. Overhead is added to limits that are set only.
pub fn pod_limits(pod: &Pod, overhead: Overhead) -> Amounts {
    limits_with(pod, overhead, |_| {})
}

fn limits_with(pod: &Pod, overhead: Overhead, each: impl FnMut(&Amounts)) -> Amounts {
    let mut sum = aggregate(pod, List::Limits, each);
    sum.extend(pod_level(pod, List::Limits));
    if overhead == Overhead::Include {
        for (name, amount) in overhead_of(pod) {
            if let Some(limit) = sum.get_mut(&name).filter(|limit| !limit.is_zero()) {
                *limit = limit.plus(amount);
            }
        }
    }
    sum
}

/// One resource of a container's limits; zero when unset.
pub fn limit(container: &Container, resource: &str) -> Quantity {
    one(
        container.resources.as_ref().and_then(|r| r.limits.as_ref()),
        resource,
    )
}

/// One resource of a container's requests; zero when unset.
pub fn request(container: &Container, resource: &str) -> Quantity {
    one(
        container
            .resources
            .as_ref()
            .and_then(|r| r.requests.as_ref()),
        resource,
    )
}

fn one(list: Option<&BTreeMap<String, ApiQuantity>>, resource: &str) -> Quantity {
    list.and_then(|list| list.get(resource))
        .map(quantity::of)
        .unwrap_or_default()
}

fn aggregate(pod: &Pod, list: List, mut each: impl FnMut(&Amounts)) -> Amounts {
    let mut sum = Amounts::new();
    for container in spec::containers(pod) {
        let own = list.of(container.resources.as_ref());
        each(&own);
        add(&mut sum, &own);
    }
    let mut sidecars = Amounts::new();
    let mut init_peak = Amounts::new();
    for container in spec::init_containers(pod) {
        let own = list.of(container.resources.as_ref());
        let moment = if spec::is_sidecar(container) {
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            sidecars.clone()
        } else {
            let mut moment = own;
            add(&mut moment, &sidecars);
            moment
        };
        each(&moment);
        raise(&mut init_peak, &moment);
    }
    raise(&mut sum, &init_peak);
    sum
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let entry = sum.entry(name.clone()).or_default();
        *entry = if entry.is_zero() {
            *amount
        } else {
            entry.plus(*amount)
        };
    }
}

fn raise(sum: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let entry = sum.entry(name.clone()).or_insert(*amount);
        *entry = (*entry).max(*amount);
    }
}

/// What the pod's runtime handler takes beside its containers.
pub(crate) fn overhead_of(pod: &Pod) -> Amounts {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.overhead.as_ref())
        .map(amounts)
        .unwrap_or_default()
}

/// Pod-level amounts; only cpu, memory and huge pages count there.
fn pod_level(pod: &Pod, list: List) -> Amounts {
    let mut amounts = list.of(pod.spec.as_ref().and_then(|spec| spec.resources.as_ref()));
    amounts.retain(|name, _| is_pod_level_resource(name));
    amounts
}

fn is_pod_level_resource(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// Whether the pod itself, not only its containers, has requests or limits.
pub fn has_pod_level_resources(pod: &Pod) -> bool {
    !pod_level(pod, List::Requests).is_empty() || !pod_level(pod, List::Limits).is_empty()
}

#[cfg(test)]
mod tests;
