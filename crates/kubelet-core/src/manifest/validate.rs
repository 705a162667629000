//! Whether a defaulted pod may run: the API's validation of a new pod with the strictest options (SRC-35).
//!
//! Source of behaviour: `ValidatePodCreate` of `pkg/apis/core/validation` with empty `PodValidationOptions`. Errors
//! keep its order and wording, also where a path is odd (`volumeMounts.subPath` without an index).
//!
//! Differs: of volume types that no standalone node can have (CSI, claims, certificates) only the needed fields are
//! checked, of windows options nothing, and an ephemeral container is refused unread.

mod annotations;
mod containers;
mod env;
mod meta;
mod names;
mod network;
mod probes;
mod remote;
mod resources;
mod scheduling;
mod security;
mod values;
mod volumes;

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::field::{Errors, FieldError, Path};
use values::{all_containers, json, one_of, text};

/// Everything wrong with a pod that has its defaults; nothing if it may run.
pub fn validate_pod(pod: &Pod) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let none = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&none);
    let meta_path = Path::new("metadata");
    let path = Path::new("spec");
    meta::metadata(&pod.metadata, &meta_path, &mut errors);
    if let Some(annotations) = &pod.metadata.annotations {
        annotations::annotations(
            annotations,
            spec,
            &meta_path.child("annotations"),
            &mut errors,
        );
    }
    pod_spec(spec, &path, &mut errors);
    if spec.ephemeral_containers.iter().flatten().next().is_some() {
        errors.forbidden(
            &path.child("ephemeralContainers"),
            "cannot be set on create",
        );
    }
    let gated = spec.scheduling_gates.iter().flatten().next().is_some();
    if gated && !text(&spec.node_name).is_empty() {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.forbidden(&path.child("nodeName"), detail);
    }
    security::annotations_match_fields(pod, spec, &path, &mut errors);
    errors.0
}

fn pod_spec(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    if spec.termination_grace_period_seconds.is_none() {
        errors.required(&path.child("terminationGracePeriodSeconds"), "");
    }
    let list = spec.volumes.as_deref().unwrap_or_default();
    let volumes = volumes::volumes(list, &path.child("volumes"), errors);
    let context = containers::Context {
        spec,
        volumes,
        host_users: spec.host_users.unwrap_or(true),
    };
    claims(spec, &path.child("resourceClaims"), errors);
    containers::containers(&context, &path.child("containers"), errors);
    containers::init_containers(&context, &path.child("initContainers"), errors);
    network::host_ports(spec, &path.child("containers"), errors);
    let restart = &["Always", "OnFailure", "Never"];
    one_of(
        text(&spec.restart_policy),
        restart,
        &path.child("restartPolicy"),
        errors,
    );
    network::dns_policy(spec, &path.child("dnsPolicy"), errors);
    meta::labels(
        spec.node_selector.as_ref(),
        &path.child("nodeSelector"),
        errors,
    );
    security::pod(spec, &path.child("securityContext"), errors);
    if let Some(affinity) = &spec.affinity {
        scheduling::affinity(affinity, &path.child("affinity"), errors);
    }
    network::dns_config(spec, &path.child("dnsConfig"), errors);
    scheduling::gates(spec, path, errors);
    let spread = spec
        .topology_spread_constraints
        .as_deref()
        .unwrap_or_default();
    scheduling::spread(spread, &path.child("topologySpreadConstraints"), errors);
    security::user_namespace(spec, path, errors);
    security::hostname_override(spec, &path.child("hostnameOverride"), errors);
    let subdomain = |name: &str, value: &Option<String>, errors: &mut Errors| {
        let value = text(value);
        if !value.is_empty() {
            errors.each(&path.child(name), value, names::dns_subdomain(value));
        }
    };
    subdomain("serviceAccountName", &spec.service_account_name, errors);
    subdomain("nodeName", &spec.node_name, errors);
    if let Some(deadline) = spec.active_deadline_seconds {
        let wrong = names::out_of_range(deadline, 1, i64::from(i32::MAX));
        errors.each(&path.child("activeDeadlineSeconds"), deadline, wrong);
    }
    for (name, value) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        let value = text(value);
        if !value.is_empty() {
            errors.each(&path.child(name), value, names::dns_label(value));
        }
    }
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    scheduling::tolerations(tolerations, &path.child("tolerations"), errors);
    network::host_aliases(spec, &path.child("hostAliases"), errors);
    subdomain("priorityClassName", &spec.priority_class_name, errors);
    if let Some(class) = &spec.runtime_class_name {
        let wrong = names::dns_subdomain(class);
        errors.each(&path.child("runtimeClassName"), class.as_str(), wrong);
    }
    if let Some(policy) = &spec.preemption_policy {
        let allowed = &["PreemptLowerPriority", "Never"];
        one_of(policy, allowed, &path.child("preemptionPolicy"), errors);
    }
    resources::overhead(spec.overhead.as_ref(), &path.child("overhead"), errors);
    security::os(spec, path, errors);
    file_keys(spec, path, errors);
    tokens_need_account(spec, path, errors);
    containers::images(&spec.containers, &path.child("containers"), errors);
    let init = spec.init_containers.as_deref().unwrap_or_default();
    containers::images(init, &path.child("initContainers"), errors);
}

/// Variables from files: the file is in an emptyDir of the pod.
fn file_keys(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    for (container, at) in all_containers(spec, path) {
        for (index, var) in container.env.iter().flatten().enumerate() {
            let file = var
                .value_from
                .as_ref()
                .and_then(|source| source.file_key_ref.as_ref());
            let Some(file) = file else { continue };
            let at = at.child("env").index(index).child("valueFrom");
            let at = at.child("fileKeyRef").child("volumeName");
            let name = file.volume_name.as_str();
            match spec
                .volumes
                .iter()
                .flatten()
                .find(|volume| volume.name == name)
            {
                None => errors.not_found(&at, name),
                Some(volume) if volume.empty_dir.is_none() => {
                    errors.invalid(&at, name, "referenced volume must be of type emptyDir");
                }
                Some(_) => {}
            }
        }
    }
}

fn tokens_need_account(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    if !text(&spec.service_account_name).is_empty() {
        return;
    }
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let sources = volume
            .projected
            .iter()
            .flat_map(|source| source.sources.iter().flatten());
        for (source_index, source) in sources.enumerate() {
            if source.service_account_token.is_some() {
                let at = path
                    .child("volumes")
                    .index(index)
                    .child("projected")
                    .child("sources");
                let at = at.index(source_index).child("serviceAccountToken");
                errors.forbidden(
                    &at,
                    "must not be specified when serviceAccountName is not set",
                );
            }
        }
    }
}

/// Claims are refused to static pods afterwards; here only their names are looked at.
fn claims(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let mut taken = std::collections::BTreeSet::new();
    for (index, claim) in spec.resource_claims.iter().flatten().enumerate() {
        let path = path.index(index);
        let name = claim.name.as_str();
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if taken.insert(name) {
            errors.each(&path.child("name"), name, names::dns_label(name));
        } else {
            errors.duplicate(&path.child("name"), name);
        }
        let object = claim.resource_claim_name.as_deref();
        let template = claim.resource_claim_template_name.as_deref();
        let problem = match (object, template) {
            (Some(_), Some(_)) => Some(
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            ),
            (None, None) => {
                Some("must specify one of: `resourceClaimName`, `resourceClaimTemplateName`")
            }
            _ => None,
        };
        if let Some(problem) = problem {
            errors.invalid(&path, json(claim), problem);
        }
        for (field, name) in [
            ("resourceClaimName", object),
            ("resourceClaimTemplateName", template),
        ] {
            if let Some(name) = name {
                errors.each(&path.child(field), name, names::dns_subdomain(name));
            }
        }
    }
}
