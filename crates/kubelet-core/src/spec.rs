//! Reading a pod's specification: the questions that every decision asks.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};

use crate::ids::ContainerName;

/// Annotation that names where a pod came from (SRC-22): `file`, `http` or `api`.
pub const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
/// Annotation with the hash (or uid) of the configuration (SRC-22).
pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// Annotation with the time when the pod was first seen (SRC-22).
pub const CONFIG_SEEN: &str = "kubernetes.io/config.seen";
/// Annotation of a mirror pod (SRC-48).
///
/// Differs: a manifest that was copied from one, annotation and all, is run; upstream takes it for somebody
/// else's and forgets it.
pub const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";

/// Lowest priority of a critical pod (SRC-48).
pub const CRITICAL_PRIORITY: i32 = 2_000_000_000;

/// When ended containers run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Whatever the exit code. Also when the field is absent or unknown, as defaulting does.
    Always,
    /// After a non-zero exit code.
    OnFailure,
    /// Never.
    Never,
}

impl RestartPolicy {
    fn parse(text: Option<&str>) -> Self {
        match text {
            Some("OnFailure") => Self::OnFailure,
            Some("Never") => Self::Never,
            _ => Self::Always,
        }
    }

    /// Whether a container that ended with `exit_code` runs again (CTR-10, CTR-15).
    pub fn restarts_after(self, exit_code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => exit_code != 0,
            Self::Never => false,
        }
    }
}

/// What a container is to its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContainerKind {
    /// Started once on request, never restarted (CTR-35).
    Ephemeral,
    /// Runs to its end before the next (CTR-30).
    Init,
    /// An init container with `restartPolicy: Always` (CTR-32).
    Sidecar,
    /// One of `spec.containers`.
    Regular,
}

/// The specification, or an empty one: a pod without it decides to nothing instead of a panic.
pub fn spec(pod: &Pod) -> Cow<'_, PodSpec> {
    pod.spec
        .as_ref()
        .map_or_else(|| Cow::Owned(PodSpec::default()), Cow::Borrowed)
}

/// `spec.containers`.
pub fn containers(pod: &Pod) -> &[Container] {
    pod.spec
        .as_ref()
        .map_or(&[], |spec| spec.containers.as_slice())
}

/// `spec.initContainers`, sidecars included.
pub fn init_containers(pod: &Pod) -> &[Container] {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.init_containers.as_deref())
        .unwrap_or(&[])
}

/// `spec.ephemeralContainers`.
pub fn ephemeral_containers(pod: &Pod) -> &[EphemeralContainer] {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.ephemeral_containers.as_deref())
        .unwrap_or(&[])
}

/// Whether the init container is a sidecar (CTR-32).
pub fn is_sidecar(init: &Container) -> bool {
    init.restart_policy.as_deref() == Some("Always")
}

/// Where in a container a path is: a relative one is below the root. Source of behaviour: Kubernetes
/// `pkg/volume/util`, `MakeAbsolutePath`.
pub fn absolute_path(path: &str) -> Cow<'_, str> {
    if path.starts_with('/') {
        Cow::Borrowed(path)
    } else {
        Cow::Owned(format!("/{path}"))
    }
}

/// An ephemeral container seen as a container: same fields without ports, probes and resources.
pub fn ephemeral_as_container(ephemeral: &EphemeralContainer) -> Container {
    let e = ephemeral.clone();
    Container {
        args: e.args,
        command: e.command,
        env: e.env,
        env_from: e.env_from,
        image: e.image,
        image_pull_policy: e.image_pull_policy,
        lifecycle: e.lifecycle,
        liveness_probe: e.liveness_probe,
        name: e.name,
        ports: e.ports,
        readiness_probe: e.readiness_probe,
        resize_policy: e.resize_policy,
        resources: e.resources,
        restart_policy: e.restart_policy,
        restart_policy_rules: e.restart_policy_rules,
        security_context: e.security_context,
        startup_probe: e.startup_probe,
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        termination_message_path: e.termination_message_path,
        termination_message_policy: e.termination_message_policy,
        tty: e.tty,
        volume_devices: e.volume_devices,
        volume_mounts: e.volume_mounts,
        working_dir: e.working_dir,
    }
}

/// The container of that name with its kind, wherever it stands in the pod.
pub fn find_container<'a>(
    pod: &'a Pod,
    name: &ContainerName,
) -> Option<(ContainerKind, Cow<'a, Container>)> {
    let by_name = |container: &&Container| container.name == name.as_str();
    if let Some(container) = containers(pod).iter().find(by_name) {
        return Some((ContainerKind::Regular, Cow::Borrowed(container)));
    }
    if let Some(container) = init_containers(pod).iter().find(by_name) {
        return Some((init_kind(container), Cow::Borrowed(container)));
    }
    ephemeral_containers(pod)
        .iter()
        .find(|ephemeral| ephemeral.name == name.as_str())
        .map(|e| {
            (
                ContainerKind::Ephemeral,
                Cow::Owned(ephemeral_as_container(e)),
            )
        })
}

/// Sidecar or plain init container.
pub fn init_kind(init: &Container) -> ContainerKind {
    if is_sidecar(init) {
        ContainerKind::Sidecar
    } else {
        ContainerKind::Init
    }
}

/// The pod's restart policy.
pub fn restart_policy(pod: &Pod) -> RestartPolicy {
    RestartPolicy::parse(
        pod.spec
            .as_ref()
            .and_then(|spec| spec.restart_policy.as_deref()),
    )
}

/// Whether the pod shares the node's network.
pub fn is_host_network(pod: &Pod) -> bool {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.host_network)
        .unwrap_or(false)
}

/// An annotation's value.
pub fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata
        .annotations
        .as_ref()
        .and_then(|map| map.get(key))
        .map(String::as_str)
}

/// Whether the pod comes from a file or a URL (SRC-48).
pub fn is_static(pod: &Pod) -> bool {
    annotation(pod, CONFIG_SOURCE).is_some_and(|source| source != "api")
}

/// Whether the pod is the apiserver's image of a static pod (SRC-48).
pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, CONFIG_MIRROR).is_some()
}

/// Static, mirror or of system priority (SRC-48).
pub fn is_critical(pod: &Pod) -> bool {
    is_static(pod)
        || is_mirror(pod)
        || pod
            .spec
            .as_ref()
            .and_then(|spec| spec.priority)
            .unwrap_or(0)
            >= CRITICAL_PRIORITY
}

/// Critical and of class `system-node-critical` (SRC-48).
pub fn is_node_critical(pod: &Pod) -> bool {
    is_critical(pod)
        && pod
            .spec
            .as_ref()
            .and_then(|spec| spec.priority_class_name.as_deref())
            == Some("system-node-critical")
}

/// Whether any container of the pod is privileged (SPEC-42).
pub fn has_privileged_container(pod: &Pod) -> bool {
    containers(pod)
        .iter()
        .chain(init_containers(pod))
        .map(|container| &container.security_context)
        .chain(
            ephemeral_containers(pod)
                .iter()
                .map(|container| &container.security_context),
        )
        .flatten()
        .any(|context| context.privileged == Some(true))
}

/// Whether the recorded phase is one that a pod never leaves (STAT-02).
pub fn is_terminal_phase(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether an ended container runs again, by its own policy and rules where the gate
/// `ContainerRestartRules` is on (CTR-36), else by the pod's policy.
pub fn restarts_after_exit(
    pod: &Pod,
    container: &Container,
    rules: RestartRules,
    exit_code: i32,
) -> bool {
    if rules == RestartRules::Enabled
        && let Some(policy) = container.restart_policy.as_deref()
    {
        // The rules only count beside a policy of the container's own.
        let rules = container.restart_policy_rules.as_deref().unwrap_or(&[]);
        let first = rules.iter().find(|rule| rule_matches(rule, exit_code));
        return first.is_some_and(|rule| rule.action == "Restart")
            || RestartPolicy::parse(Some(policy)).restarts_after(exit_code);
    }
    restart_policy(pod).restarts_after(exit_code)
}

/// Gate `ContainerRestartRules` (CTR-36).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RestartRules {
    /// Only the pod's policy counts.
    #[default]
    Disabled,
    /// Container policy and exit code rules override it.
    Enabled,
}

fn rule_matches(rule: &k8s_openapi::api::core::v1::ContainerRestartRule, exit_code: i32) -> bool {
    let Some(codes) = &rule.exit_codes else {
        return false;
    };
    let listed = codes.values.as_deref().unwrap_or(&[]).contains(&exit_code);
    match codes.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    }
}
