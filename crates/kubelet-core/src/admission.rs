//! Whether the node takes a pod (kubelet.md 3.3): once, when it is added, in the order of creation.
//!
//! Kubernetes kubelet, `lifecycle` and `sysctl`, with the scheduler's filters they call. Pure over
//! what the node is and which pods it has taken. Pressure and shutdown are judged elsewhere; resource
//! managers come between [`check_sysctls`] and the rest (ADM-02).

mod affinity;
mod order;
mod preemption;
mod sysctl;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Taint, Toleration};
use thiserror::Error;

use crate::ids::NodeName;
use crate::quantity::Amounts;
use crate::reasons::RejectReason;
use crate::resources::{Overhead, has_pod_level_resources, overhead_of, pod_requests};
use crate::spec;

pub use order::{admission_order, must_wait_for};
pub use preemption::{PREEMPTED_MESSAGE, PREEMPTED_REASON, plan_preemption, preempted_status};
pub use sysctl::{SysctlAllowList, SysctlPatternError, normal_sysctl, safe_sysctls};
pub(crate) use sysctl::{SysctlNamespace, is_sysctl_name};

/// Label with the node's operating system.
const LABEL_OS: &str = "kubernetes.io/os";
/// Ours.
const OS: &str = "linux";

/// The node as pods see it (ADM-13).
#[derive(Debug, Clone, PartialEq)]
pub struct NodeInfo {
    /// Its name.
    pub name: NodeName,
    /// Its labels: hostname, os, arch and those of `--node-labels`.
    pub labels: BTreeMap<String, String>,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// What pods may ask for, `pods` among it (CG-20).
    pub allocatable: Amounts,
    /// Sysctls that pods may set.
    pub sysctls: SysctlAllowList,
    /// Whether AppArmor works here.
    pub apparmor: bool,
    /// Whether the runtime can follow `supplementalGroupsPolicy: Strict`.
    pub supplemental_groups_policy: bool,
    /// Gate `PodLevelResources`.
    pub pod_level_resources: bool,
}

/// Why a pod is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct Rejection {
    /// The code.
    pub reason: RejectReason,
    /// The text behind `Pod was rejected: ` (ADM-01).
    pub message: String,
}

impl Rejection {
    fn new(reason: RejectReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

impl Rejection {
    /// The label of `kubelet_admission_rejections_total`: a bounded set (Kubernetes kubelet,
    /// `recordAdmissionRejection`).
    pub fn metric_label(&self) -> String {
        match &self.reason {
            RejectReason::OutOf(resource)
                if !matches!(
                    resource.as_str(),
                    "cpu" | "memory" | "ephemeral-storage" | "pods"
                ) =>
            {
                "OutOfExtendedResources".to_owned()
            }
            RejectReason::NodePorts
            | RejectReason::NodeAffinity
            | RejectReason::NodeName
            | RejectReason::TaintToleration => "Other".to_owned(),
            reason => reason.as_str(),
        }
    }
}

/// How much of a resource is missing. CPU counts in thousandths of a core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// The resource.
    pub resource: String,
    /// What the pod asks for.
    pub requested: i64,
    /// What the other pods have.
    pub used: i64,
    /// What there is.
    pub capacity: i64,
}

impl Shortage {
    /// How much must become free.
    pub fn missing(&self) -> i64 {
        let free = self.capacity.saturating_sub(self.used);
        self.requested.saturating_sub(free)
    }

    fn rejection(&self) -> Rejection {
        let Self {
            resource,
            requested,
            used,
            capacity,
        } = self;
        Rejection::new(
            RejectReason::OutOf(resource.clone()),
            format!(
                "Node didn't have enough resource: {resource}, requested: {requested}, \
                 used: {used}, capacity: {capacity}"
            ),
        )
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// The pod is taken.
    Admitted,
    /// The pod is taken once these are killed; each gets [`preempted_status`] (ADM-09).
    AfterPreempting {
        /// The pods.
        victims: Vec<crate::ids::PodUid>,
        /// The first resource that lacked.
        signal: String,
    },
    /// The pod is not taken.
    Rejected(Rejection),
}

/// A pod that was taken, with what it holds of the node.
#[derive(Debug, Clone)]
pub struct TakenPod {
    /// The pod.
    pub pod: Arc<Pod>,
    requests: Amounts,
    ports: BTreeSet<HostPort>,
}

impl TakenPod {
    /// What this pod holds.
    pub fn new(pod: Arc<Pod>) -> Self {
        Self {
            requests: pod_requests(&pod, Overhead::Include),
            ports: host_ports(&pod),
            pod,
        }
    }
}

/// Decides about a pod. `others` are the pods taken before it that have not ended (ADM-12).
pub fn admit(pod: &Pod, node: &NodeInfo, others: &[&TakenPod]) -> Admission {
    match check(pod, node, others) {
        Ok(shortages) if shortages.is_empty() => Admission::Admitted,
        Ok(shortages) => match plan_preemption(pod, &pods(others), &shortages) {
            Ok(victims) => Admission::AfterPreempting {
                victims,
                signal: shortages[0].resource.clone(),
            },
            Err(message) => Admission::Rejected(Rejection::new(
                RejectReason::UnexpectedAdmissionError,
                format!(
                    "Unexpected error while attempting to recover from admission failure: {message}"
                ),
            )),
        },
        Err(rejection) => Admission::Rejected(rejection),
    }
}

fn pods<'a>(taken: &[&'a TakenPod]) -> Vec<&'a Pod> {
    taken.iter().map(|taken| taken.pod.as_ref()).collect()
}

/// All checks; only a critical pod's shortages are left over (ADM-09).
fn check(pod: &Pod, node: &NodeInfo, others: &[&TakenPod]) -> Result<Vec<Shortage>, Rejection> {
    check_sysctls(pod, &node.sysctls)?;
    check_os(pod)?;
    check_supplemental_groups(pod, node)?;
    let shortages = shortages(pod, node, others);
    if let Some(first) = shortages.first().filter(|_| !spec::is_critical(pod)) {
        return Err(first.rejection());
    }
    check_placement(pod, node, others)?;
    if is_apparmor_required(pod) && !node.apparmor {
        let message = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
        return Err(Rejection::new(RejectReason::AppArmor, message));
    }
    if has_pod_level_resources(pod) && !node.pod_level_resources {
        return Err(Rejection::new(
            RejectReason::PodLevelResourcesNotSupported,
            "PodLevelResources feature gate is disabled",
        ));
    }
    Ok(shortages)
}

/// ADM-07.
///
/// # Errors
/// For the first sysctl that is not allowed.
pub fn check_sysctls(pod: &Pod, allowed: &SysctlAllowList) -> Result<(), Rejection> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    let sysctls = spec
        .security_context
        .iter()
        .flat_map(|context| context.sysctls.iter().flatten());
    for sysctl in sysctls {
        allowed
            .check(
                &sysctl.name,
                spec.host_network.unwrap_or(false),
                spec.host_ipc.unwrap_or(false),
            )
            .map_err(|why| {
                Rejection::new(
                    RejectReason::SysctlForbidden,
                    format!("forbidden sysctl: {why}"),
                )
            })?;
    }
    Ok(())
}

/// ADM-08: the label and the field.
fn check_os(pod: &Pod) -> Result<(), Rejection> {
    let label = pod
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(LABEL_OS));
    if label.is_some_and(|os| os != OS) {
        return Err(Rejection::new(
            RejectReason::PodOsSelectorNodeLabelDoesNotMatch,
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
        ));
    }
    let field = pod.spec.as_ref().and_then(|spec| spec.os.as_ref());
    if field.is_some_and(|os| os.name != OS) {
        return Err(Rejection::new(
            RejectReason::PodOsNotSupported,
            "Failed to admit pod as the OS field doesn't match node OS",
        ));
    }
    Ok(())
}

fn check_supplemental_groups(pod: &Pod, node: &NodeInfo) -> Result<(), Rejection> {
    let context = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.security_context.as_ref());
    let policy = context.and_then(|context| context.supplemental_groups_policy.as_deref());
    if policy == Some("Strict") && !node.supplemental_groups_policy {
        return Err(Rejection::new(
            RejectReason::SupplementalGroupsPolicyNotSupported,
            "SupplementalGroupsPolicy=Strict is not supported in this node",
        ));
    }
    Ok(())
}

/// ADM-03, ADM-10, ADM-12: what is missing, in the order in which upstream names it.
pub fn shortages(pod: &Pod, node: &NodeInfo, others: &[&TakenPod]) -> Vec<Shortage> {
    let mut shortages = Vec::new();
    let count = i64::try_from(others.len()).unwrap_or(i64::MAX);
    let capacity = node.allocatable.get("pods").map_or(0, |pods| pods.value());
    if count.saturating_add(1) > capacity {
        let resource = "pods".to_owned();
        shortages.push(Shortage {
            resource,
            requested: 1,
            used: count,
            capacity,
        });
    }
    let (requests, overhead) = (pod_requests(pod, Overhead::Include), overhead_of(pod));
    let fixed = ["cpu", "memory", "ephemeral-storage"];
    let further = requests
        .keys()
        .map(String::as_str)
        .filter(|name| !fixed.contains(name));
    for resource in fixed.into_iter().chain(further) {
        // What containers want of a resource that the node does not know is left out (ADM-10); the overhead is not.
        let unknown = is_extended(resource) && !node.allocatable.contains_key(resource);
        let requested = amount(if unknown { &overhead } else { &requests }, resource);
        if requested <= 0 {
            continue;
        }
        let used = others
            .iter()
            .map(|other| amount(&other.requests, resource))
            .fold(0, i64::saturating_add);
        let capacity = amount(&node.allocatable, resource);
        if requested > capacity.saturating_sub(used) {
            let resource = resource.to_owned();
            shortages.push(Shortage {
                resource,
                requested,
                used,
                capacity,
            });
        }
    }
    shortages
}

/// CPU in thousandths, anything else in whole units.
fn amount(amounts: &Amounts, resource: &str) -> i64 {
    amounts.get(resource).map_or(0, |amount| {
        if resource == "cpu" {
            amount.milli_value()
        } else {
            amount.value()
        }
    })
}

/// Whether the resource is somebody's own, such as `nvidia.com/gpu`.
fn is_extended(resource: &str) -> bool {
    resource
        .split_once('/')
        .is_some_and(|(domain, _)| domain != "kubernetes.io" && !domain.ends_with(".kubernetes.io"))
}

/// ADM-04..06: what room can't heal.
fn check_placement(pod: &Pod, node: &NodeInfo, others: &[&TakenPod]) -> Result<(), Rejection> {
    let failed = |reason: RejectReason, text: &str| {
        let message = format!("Predicate {} failed: {text}", reason.as_str());
        Err(Rejection::new(reason, message))
    };
    if !affinity::matches(pod, node) {
        let text = "node(s) didn't match Pod's node affinity/selector";
        return failed(RejectReason::NodeAffinity, text);
    }
    let wanted = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .unwrap_or_default();
    if !wanted.is_empty() && wanted != node.name.as_str() {
        return failed(
            RejectReason::NodeName,
            "node(s) didn't match the requested node name",
        );
    }
    let taken = || others.iter().flat_map(|other| &other.ports);
    if host_ports(pod)
        .iter()
        .any(|port| taken().any(|other| port.conflicts(other)))
    {
        let text = "node(s) didn't have free ports for the requested pod ports";
        return failed(RejectReason::NodePorts, text);
    }
    if !spec::is_static(pod) && has_untolerated_taint(pod, &node.taints) {
        let text = "node(s) had taints that the pod didn't tolerate";
        return failed(RejectReason::TaintToleration, text);
    }
    Ok(())
}

/// A port of the node that a pod takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct HostPort {
    ip: String,
    protocol: String,
    port: i32,
}

impl HostPort {
    /// ADM-11: the IPv4 address of all conflicts with any; `::` with itself alone, as upstream has it.
    fn conflicts(&self, other: &Self) -> bool {
        let all = |ip: &str| ip == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || all(&self.ip) || all(&other.ip))
    }
}

fn host_ports(pod: &Pod) -> BTreeSet<HostPort> {
    let on_host = spec::is_host_network(pod);
    let text = |text: &Option<String>, default: &str| {
        text.as_deref()
            .filter(|text| !text.is_empty())
            .unwrap_or(default)
            .to_owned()
    };
    spec::containers(pod)
        .iter()
        .chain(
            spec::init_containers(pod)
                .iter()
                .filter(|init| spec::is_sidecar(init)),
        )
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let own = port.host_port.filter(|port| *port > 0);
            Some(HostPort {
                port: own.or_else(|| on_host.then_some(port.container_port))?,
                ip: text(&port.host_ip, "0.0.0.0"),
                protocol: text(&port.protocol, "TCP"),
            })
        })
        .collect()
}

/// ADM-06: only `NoExecute` counts here.
fn has_untolerated_taint(pod: &Pod, taints: &[Taint]) -> bool {
    let tolerations = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.tolerations.as_deref())
        .unwrap_or(&[]);
    taints
        .iter()
        .filter(|taint| taint.effect == "NoExecute")
        .any(|taint| {
            !tolerations
                .iter()
                .any(|toleration| tolerates(toleration, taint))
        })
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let effect = given(&toleration.effect).is_none_or(|effect| effect == taint.effect);
    let key = given(&toleration.key).is_none_or(|key| key == taint.key);
    let value = match toleration.operator.as_deref() {
        Some("Exists") => true,
        _ => {
            given(&toleration.key).is_some()
                && toleration.value.as_deref().unwrap_or_default()
                    == taint.value.as_deref().unwrap_or_default()
        }
    };
    effect && key && value
}

/// Whether a profile other than `Unconfined` is asked for, by field or by the old annotation.
fn is_apparmor_required(pod: &Pod) -> bool {
    let spec = spec::spec(pod);
    let pod_profile = spec
        .security_context
        .as_ref()
        .and_then(|context| context.app_armor_profile.as_ref());
    let containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .map(|container| container.security_context.as_ref())
        .chain(
            spec.ephemeral_containers
                .iter()
                .flatten()
                .map(|c| c.security_context.as_ref()),
        )
        .flatten()
        .filter_map(|context| context.app_armor_profile.as_ref());
    let by_field = pod_profile
        .into_iter()
        .chain(containers)
        .any(|profile| profile.type_ != "Unconfined");
    let by_annotation = pod
        .metadata
        .annotations
        .iter()
        .flatten()
        .any(|(key, value)| {
            key.starts_with("container.apparmor.security.beta.kubernetes.io/")
                && value != "unconfined"
        });
    by_field || by_annotation
}

#[cfg(test)]
mod tests;
