//! Requests and limits.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ResourceClaim, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::super::field::{Errors, Path};
use super::names;
use super::values::{NEGATIVE, text};
use crate::quantity;

type ResourceList = BTreeMap<String, Quantity>;

const HUGE_PAGES: &str = "hugepages-";

/// Names that Kubernetes counts in whole units.
const INTEGER: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

/// Names without a prefix that are known in quotas and the like, beside those of [`INTEGER`].
const STANDARD: [&str; 11] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "storage",
    "requests.storage",
];

pub(super) fn requirements(
    resources: Option<&ResourceRequirements>,
    pod_claims: &BTreeSet<&str>,
    path: &Path,
    errors: &mut Errors,
) {
    let Some(resources) = resources else { return };
    lists(
        resources.limits.as_ref(),
        resources.requests.as_ref(),
        path,
        errors,
    );
    let claims = resources.claims.as_deref().unwrap_or_default();
    claim_names(claims, pod_claims, &path.child("claims"), errors);
}

/// A pod's overhead is checked like limits.
pub(super) fn overhead(overhead: Option<&ResourceList>, path: &Path, errors: &mut Errors) {
    lists(overhead, None, path, errors);
}

fn lists(
    limits: Option<&ResourceList>,
    requests: Option<&ResourceList>,
    path: &Path,
    errors: &mut Errors,
) {
    let limits_path = path.child("limits");
    let requests_path = path.child("requests");
    for (name, amount) in limits.into_iter().flatten() {
        entry(name, amount, &limits_path.key(name), errors);
    }
    for (name, amount) in requests.into_iter().flatten() {
        entry(name, amount, &requests_path.key(name), errors);
        let limit = limits.and_then(|limits| limits.get(name));
        within_limit(name, amount, limit, (&limits_path, &requests_path), errors);
    }
    let mut all = limits.into_iter().chain(requests).flat_map(BTreeMap::keys);
    let has_pages = all.clone().any(|name| name.starts_with(HUGE_PAGES));
    if has_pages && !all.any(|name| matches!(name.as_str(), "cpu" | "memory")) {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
}

fn within_limit(
    name: &str,
    request: &Quantity,
    limit: Option<&Quantity>,
    (limits_path, path): (&Path, &Path),
    errors: &mut Errors,
) {
    let may_differ = is_native(name) && !name.starts_with(HUGE_PAGES);
    let Some(limit) = limit else {
        if !may_differ {
            errors.required(
                limits_path,
                "Limit must be set for non overcommitable resources",
            );
        }
        return;
    };
    let (amount, most) = (quantity::of(request), quantity::of(limit));
    if amount != most && !may_differ {
        let detail = format!("must be equal to {name} limit of {most}");
        errors.invalid(path, request.0.as_str(), detail);
    } else if amount > most {
        let detail = format!("must be less than or equal to {name} limit of {most}");
        errors.invalid(path, request.0.as_str(), detail);
    }
}

fn entry(name: &str, amount: &Quantity, path: &Path, errors: &mut Errors) {
    resource_name(name, path, errors);
    let value = quantity::of(amount);
    if value.is_negative() {
        errors.invalid(path, amount.0.as_str(), NEGATIVE);
    }
    if (INTEGER.contains(&name) || is_extended(name)) && !value.is_whole() {
        errors.invalid(path, amount.0.as_str(), "must be an integer");
    }
    if let Some(size) = name.strip_prefix(HUGE_PAGES) {
        let size = quantity::parse(size).unwrap_or_default();
        let fits = !size.is_zero()
            && !size.is_negative()
            && size.is_whole()
            && value.value() % size.value() == 0;
        if !fits {
            let detail = format!("{} is not positive integer multiple of {name}", amount.0);
            errors.invalid(path, amount.0.as_str(), detail);
        }
    }
}

fn resource_name(name: &str, path: &Path, errors: &mut Errors) {
    let before = errors.len();
    errors.each(path, name, names::qualified(name));
    if name.contains('/') {
        if !is_native(name) && !is_extended(name) {
            errors.invalid(path, name, "doesn't follow extended resource name standard");
        }
        return;
    }
    let pages = name.starts_with(HUGE_PAGES) || name.starts_with("requests.hugepages-");
    if errors.len() == before && !pages && !STANDARD.contains(&name) && !INTEGER.contains(&name) {
        let detail = "must be a standard resource type or fully qualified";
        errors.invalid(path, name, detail);
    }
    let of_containers = matches!(name, "cpu" | "memory" | "ephemeral-storage");
    if !of_containers && !name.starts_with(HUGE_PAGES) {
        errors.invalid(path, name, "must be a standard resource for containers");
    }
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::qualified(&format!("requests.{name}")).is_empty()
}

/// Claims of a container name those of the pod.
fn claim_names(
    claims: &[ResourceClaim],
    pod_claims: &BTreeSet<&str>,
    path: &Path,
    errors: &mut Errors,
) {
    let mut seen = BTreeSet::new();
    for (index, claim) in claims.iter().enumerate() {
        let path = path.index(index);
        let name = claim.name.as_str();
        if name.is_empty() {
            errors.required(&path, "");
            continue;
        }
        let request = text(&claim.request);
        if !request.is_empty() {
            errors.each(&path.child("request"), request, names::dns_label(request));
        }
        let overlaps = |&(other, part): &(&str, &str)| {
            other == name && (part.is_empty() || request.is_empty() || part == request)
        };
        if seen.iter().any(overlaps) {
            errors.duplicate(&path, name);
        }
        seen.insert((name, request));
        if !pod_claims.contains(name) {
            let known: Vec<&str> = pod_claims.iter().copied().collect();
            let known = match &known[..] {
                [] => " which is empty".to_owned(),
                known => format!(": {}", known.join(", ")),
            };
            let detail = format!("must be one of the names in pod.spec.resourceClaims{known}");
            errors.not_found_as(&path, name, detail);
        }
    }
}
