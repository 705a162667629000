//! Tolerations, affinity, spreading, gates: rules for a scheduler, which a static pod never meets, but whose
//! mistakes are refused as they are by the API.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Affinity, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, PodSpec, Toleration,
    TopologySpreadConstraint, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::super::field::{Errors, Path};
use super::values::{NOT_POSITIVE, text};
use super::{meta, names};

pub(super) fn tolerations(tolerations: &[Toleration], path: &Path, errors: &mut Errors) {
    const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    for (index, toleration) in tolerations.iter().enumerate() {
        let path = path.index(index);
        let key = text(&toleration.key);
        let operator = text(&toleration.operator);
        let effect = text(&toleration.effect);
        let value = text(&toleration.value);
        if !key.is_empty() {
            errors.each(&path.child("key"), key, names::qualified(key));
        } else if operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all \
                          values and all keys\"";
            errors.invalid(&path.child("operator"), operator, detail);
        }
        if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.invalid(&path.child("effect"), effect, detail);
        }
        let operator_path = path.child("operator");
        match operator {
            "Equal" | "" => {
                let wrong = names::label_value(value);
                if !wrong.is_empty() {
                    errors.invalid(&operator_path, value, wrong.join(";"));
                }
            }
            "Exists" if value.is_empty() => {}
            "Exists" => {
                let detail = "value must be empty when `operator` is 'Exists'";
                errors.invalid(&operator_path, value, detail);
            }
            other => errors.not_supported(&operator_path, other, &["Equal", "Exists"]),
        }
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            errors.not_supported(&path.child("effect"), effect, &EFFECTS);
        }
    }
}

pub(super) fn affinity(affinity: &Affinity, path: &Path, errors: &mut Errors) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    if let Some(node) = &affinity.node_affinity {
        let path = path.child("nodeAffinity");
        if let Some(required) = &node.required_during_scheduling_ignored_during_execution {
            let terms = path.child(REQUIRED).child("nodeSelectorTerms");
            if required.node_selector_terms.is_empty() {
                errors.required(&terms, "must have at least one node selector term");
            }
            for (index, term) in required.node_selector_terms.iter().enumerate() {
                node_term(term, true, &terms.index(index), errors);
            }
        }
        let preferred = &node.preferred_during_scheduling_ignored_during_execution;
        for (index, term) in preferred.iter().flatten().enumerate() {
            let path = path.child(PREFERRED).index(index);
            weight(term.weight, &path, errors);
            node_term(&term.preference, false, &path.child("preference"), errors);
        }
    }
    let mut pods =
        |name: &str, required: &[PodAffinityTerm], preferred: &[WeightedPodAffinityTerm]| {
            let path = path.child(name);
            for (index, term) in required.iter().enumerate() {
                pod_term(term, &path.child(REQUIRED).index(index), errors);
            }
            for (index, term) in preferred.iter().enumerate() {
                let path = path.child(PREFERRED).index(index);
                weight(term.weight, &path, errors);
                pod_term(
                    &term.pod_affinity_term,
                    &path.child("podAffinityTerm"),
                    errors,
                );
            }
        };
    if let Some(pod) = &affinity.pod_affinity {
        let required = pod
            .required_during_scheduling_ignored_during_execution
            .as_deref();
        let preferred = pod
            .preferred_during_scheduling_ignored_during_execution
            .as_deref();
        pods(
            "podAffinity",
            required.unwrap_or_default(),
            preferred.unwrap_or_default(),
        );
    }
    if let Some(pod) = &affinity.pod_anti_affinity {
        let required = pod
            .required_during_scheduling_ignored_during_execution
            .as_deref();
        let preferred = pod
            .preferred_during_scheduling_ignored_during_execution
            .as_deref();
        pods(
            "podAntiAffinity",
            required.unwrap_or_default(),
            preferred.unwrap_or_default(),
        );
    }
}

fn weight(weight: i32, path: &Path, errors: &mut Errors) {
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

fn node_term(term: &NodeSelectorTerm, check_values: bool, path: &Path, errors: &mut Errors) {
    for (index, requirement) in term.match_expressions.iter().flatten().enumerate() {
        let path = path.child("matchExpressions").index(index);
        node_expression(requirement, check_values, &path, errors);
    }
    for (index, requirement) in term.match_fields.iter().flatten().enumerate() {
        node_field(requirement, &path.child("matchFields").index(index), errors);
    }
}

fn node_expression(
    requirement: &NodeSelectorRequirement,
    check_values: bool,
    path: &Path,
    errors: &mut Errors,
) {
    let values = requirement.values.as_deref().unwrap_or_default();
    let values_path = path.child("values");
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(
                &values_path,
                "must be specified when `operator` is 'In' or 'NotIn'",
            );
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.forbidden(&values_path, detail);
        }
        "Gt" | "Lt" if values.len() != 1 => {
            let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            errors.required(&values_path, detail);
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errors.invalid(
            &path.child("operator"),
            other,
            "not a valid selector operator",
        ),
    }
    let key = requirement.key.as_str();
    errors.each(&path.child("key"), key, names::qualified(key));
    for (index, value) in values.iter().enumerate().filter(|_| check_values) {
        errors.each(
            &values_path.index(index),
            value.as_str(),
            names::label_value(value),
        );
    }
}

fn node_field(requirement: &NodeSelectorRequirement, path: &Path, errors: &mut Errors) {
    let values = requirement.values.as_deref().unwrap_or_default();
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.len() == 1 => {}
        "In" | "NotIn" => {
            let detail =
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.required(&path.child("values"), detail);
        }
        other => errors.invalid(
            &path.child("operator"),
            other,
            "not a valid selector operator",
        ),
    }
    if requirement.key != "metadata.name" {
        let key = requirement.key.as_str();
        errors.invalid(&path.child("key"), key, "not a valid field selector key");
        return;
    }
    for (index, value) in values.iter().enumerate() {
        let path = path.child("values").index(index);
        errors.each(&path, value.as_str(), names::dns_subdomain(value));
    }
}

fn pod_term(term: &PodAffinityTerm, path: &Path, errors: &mut Errors) {
    let selectors = [
        ("labelSelector", &term.label_selector),
        ("namespaceSelector", &term.namespace_selector),
    ];
    for (name, selector) in selectors {
        if let Some(selector) = selector {
            label_selector(selector, &path.child(name), errors);
        }
    }
    for name in term.namespaces.iter().flatten() {
        errors.each(
            &path.child("namespace"),
            name.as_str(),
            names::dns_label(name),
        );
    }
    let matched = term.match_label_keys.as_deref().unwrap_or_default();
    let mismatched = term.mismatch_label_keys.as_deref().unwrap_or_default();
    let selector = term.label_selector.as_ref();
    for (name, keys) in [
        ("matchLabelKeys", matched),
        ("mismatchLabelKeys", mismatched),
    ] {
        let path = path.child(name);
        if !keys.is_empty() && selector.is_none() {
            errors.forbidden(&path, "must not be specified when labelSelector is not set");
        } else {
            for (index, key) in keys.iter().enumerate() {
                errors.each(&path.index(index), key.as_str(), names::qualified(key));
            }
        }
    }
    if let Some(selector) = selector {
        repeated_keys(matched, selector, path, errors);
    }
    for (index, key) in matched
        .iter()
        .enumerate()
        .filter(|(_, key)| mismatched.contains(key))
    {
        let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
        errors.invalid(
            &path.child("matchLabelKeys").index(index),
            key.as_str(),
            detail,
        );
    }
    let topology = path.child("topologyKey");
    if term.topology_key.is_empty() {
        errors.required(&topology, "can not be empty");
    }
    errors.each(
        &topology,
        term.topology_key.as_str(),
        names::qualified(&term.topology_key),
    );
}

fn repeated_keys(matched: &[String], selector: &LabelSelector, path: &Path, errors: &mut Errors) {
    let mut seen: BTreeSet<&str> = selector
        .match_labels
        .iter()
        .flatten()
        .map(|(key, _)| key.as_str())
        .collect();
    for expression in selector.match_expressions.iter().flatten() {
        let key = expression.key.as_str();
        if let Some(index) = matched.iter().rposition(|matched| matched == key)
            && seen.contains(key)
        {
            let detail = "exists in both matchLabelKeys and labelSelector";
            errors.invalid(&path.index(index), key, detail);
        }
        seen.insert(key);
    }
}

fn label_selector(selector: &LabelSelector, path: &Path, errors: &mut Errors) {
    meta::labels(
        selector.match_labels.as_ref(),
        &path.child("matchLabels"),
        errors,
    );
    for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let path = path.child("matchExpressions").index(index);
        let values = expression.values.as_deref().unwrap_or_default();
        let values_path = path.child("values");
        match expression.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => {
                let detail = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.required(&values_path, detail);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.forbidden(&values_path, detail);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                errors.invalid(
                    &path.child("operator"),
                    other,
                    "not a valid selector operator",
                );
            }
        }
        let key = expression.key.as_str();
        errors.each(&path.child("key"), key, names::qualified(key));
        for (index, value) in values.iter().enumerate() {
            errors.each(
                &values_path.index(index),
                value.as_str(),
                names::label_value(value),
            );
        }
    }
}

pub(super) fn spread(constraints: &[TopologySpreadConstraint], path: &Path, errors: &mut Errors) {
    for (index, constraint) in constraints.iter().enumerate() {
        let path = path.index(index);
        let action = constraint.when_unsatisfiable.as_str();
        if constraint.max_skew <= 0 {
            errors.invalid(&path.child("maxSkew"), constraint.max_skew, NOT_POSITIVE);
        }
        if constraint.topology_key.is_empty() {
            errors.required(&path.child("topologyKey"), "can not be empty");
        }
        let actions = &["DoNotSchedule", "ScheduleAnyway"];
        if !actions.contains(&action) {
            errors.not_supported(&path.child("whenUnsatisfiable"), action, actions);
        }
        let again = constraints[index + 1..].iter().any(|other| {
            other.topology_key == constraint.topology_key && other.when_unsatisfiable == action
        });
        if again {
            let pair = format!("{{{}, {action}}}", constraint.topology_key);
            errors.duplicate(&path.child("{topologyKey, whenUnsatisfiable}"), pair);
        }
        if let Some(domains) = constraint.min_domains {
            let path = path.child("minDomains");
            if domains <= 0 {
                errors.invalid(&path, domains, NOT_POSITIVE);
            }
            if action != "DoNotSchedule" {
                let detail = format!(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
                );
                errors.invalid(&path, domains, detail);
            }
        }
        let policies = [
            ("nodeAffinityPolicy", &constraint.node_affinity_policy),
            ("nodeTaintsPolicy", &constraint.node_taints_policy),
        ];
        for (name, policy) in policies {
            if let Some(policy) = policy
                .as_deref()
                .filter(|p| !matches!(*p, "Honor" | "Ignore"))
            {
                errors.not_supported(&path.child(name), policy, &["Honor", "Ignore"]);
            }
        }
        spread_keys(constraint, &path.child("matchLabelKeys"), errors);
        if let Some(selector) = &constraint.label_selector {
            label_selector(selector, &path.child("labelSelector"), errors);
        }
    }
}

fn spread_keys(constraint: &TopologySpreadConstraint, path: &Path, errors: &mut Errors) {
    let keys = constraint.match_label_keys.as_deref().unwrap_or_default();
    if keys.is_empty() {
        return;
    }
    let selector = constraint.label_selector.as_ref();
    if selector.is_none() {
        errors.forbidden(path, "must not be specified when labelSelector is not set");
    }
    for (index, key) in keys.iter().enumerate() {
        let path = path.index(index);
        errors.each(&path, key.as_str(), names::qualified(key));
        let taken = selector.is_some_and(|selector| {
            selector
                .match_labels
                .as_ref()
                .is_some_and(|labels| labels.contains_key(key))
                || selector
                    .match_expressions
                    .iter()
                    .flatten()
                    .any(|other| other.key == *key)
        });
        if taken {
            let detail = "exists in both matchLabelKeys and labelSelector";
            errors.invalid(&path, key.as_str(), detail);
        }
    }
}

pub(super) fn gates(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    for (index, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        let name = gate.condition_type.as_str();
        let path = path
            .child("readinessGates")
            .index(index)
            .child("conditionType");
        errors.each(&path, name, names::qualified(name));
    }
    let mut seen = BTreeSet::new();
    for (index, gate) in spec.scheduling_gates.iter().flatten().enumerate() {
        let name = gate.name.as_str();
        let path = path.child("schedulingGates").index(index);
        errors.each(&path, name, names::qualified(name));
        if !seen.insert(name) {
            errors.duplicate(&path, name);
        }
    }
}
