//! Regular containers (CTR-10..15).

use k8s_openapi::api::core::v1::{Container, Pod};

use super::{ActionsInput, ContainerKill, KillReason, ProbeResult, StartReason, kill};
use crate::hash::container_hash;
use crate::observed::{ContainerState, ObservedContainer};
use crate::spec::{self, RestartPolicy, RestartRules};

/// What becomes of one regular container.
pub(super) enum Decision {
    /// It runs as it should.
    Keep,
    /// It ended and stays so (CTR-15).
    Leave,
    /// It shall run.
    Start(StartReason),
    /// It is stopped, and perhaps started again.
    Kill(ContainerKill, Option<StartReason>),
}

pub(super) fn decide(input: &ActionsInput<'_>, container: &Container) -> Decision {
    let ActionsInput {
        pod,
        observed,
        history,
        rules,
        ..
    } = *input;
    let latest = observed.latest(&container.name);
    let Some(latest) = latest.filter(|latest| latest.state == ContainerState::Running) else {
        return not_running_decision(input, container, latest);
    };
    let probes = history.probes_of(&latest.id);
    let name = &container.name;
    let (reason, message) = if container_hash(container) != latest.hash {
        (
            KillReason::DefinitionChanged,
            format!("Container {name} definition changed"),
        )
    } else if probes.liveness == Some(ProbeResult::Failure) {
        (
            KillReason::LivenessProbe,
            format!("Container {name} failed liveness probe"),
        )
    } else if probes.startup == Some(ProbeResult::Failure) {
        (
            KillReason::StartupProbe,
            format!("Container {name} failed startup probe"),
        )
    } else {
        return Decision::Keep;
    };
    // A changed definition restarts under every policy (CTR-12); a failed probe asks the policy.
    let own_policy = container
        .restart_policy
        .as_deref()
        .filter(|_| rules == RestartRules::Enabled);
    let policy_restarts = match own_policy {
        Some(policy) => policy != "Never",
        None => spec::restart_policy(pod) != RestartPolicy::Never,
    };
    let restart = (reason == KillReason::DefinitionChanged || policy_restarts)
        && pod.metadata.deletion_timestamp.is_none();
    let message = if restart {
        format!("{message}, will be restarted")
    } else {
        message
    };
    let kill = kill::container_kill(input, latest, Some(container), reason, message);
    Decision::Kill(kill, restart.then_some(StartReason::Replaced))
}

fn not_running_decision(
    input: &ActionsInput<'_>,
    container: &Container,
    latest: Option<&ObservedContainer>,
) -> Decision {
    let pod = input.pod;
    if !should_restart(pod, container, latest, input.rules) {
        return Decision::Leave;
    }
    match latest {
        None => Decision::Start(StartReason::Missing),
        Some(latest) if latest.state == ContainerState::Unknown => {
            let message = format!(
                "Container is in \"{}\" state, try killing it before restart",
                latest.state.as_str()
            );
            let kill = kill::container_kill(
                input,
                latest,
                Some(container),
                KillReason::UnknownState,
                message,
            );
            Decision::Kill(kill, Some(StartReason::Unknown))
        }
        Some(latest) if latest.state == ContainerState::Created => {
            Decision::Start(StartReason::OnlyCreated)
        }
        Some(_) => Decision::Start(StartReason::Exited),
    }
}

/// Whether a container that does not run shall run (Kubernetes kubelet,
/// `ShouldContainerBeRestarted`; CTR-10, CTR-11, CTR-15). `latest` is its newest instance.
pub fn should_restart(
    pod: &Pod,
    container: &Container,
    latest: Option<&ObservedContainer>,
    rules: RestartRules,
) -> bool {
    if pod.metadata.deletion_timestamp.is_some() {
        return false;
    }
    match latest.map(|latest| (latest.state, latest.exit_code)) {
        Some((ContainerState::Running, _)) => false,
        None | Some((ContainerState::Created | ContainerState::Unknown, _)) => true,
        Some((ContainerState::Exited, code)) => {
            spec::restarts_after_exit(pod, container, rules, code)
        }
    }
}

/// Whether all regular containers have ended for good in the sandbox that stands: then nothing of the
/// pod is left to do, whatever has become of its init containers.
///
/// Differs: upstream looks at init containers first, and starts a sidecar that does not run, or runs an
/// init container again that somebody removed, only to end the pod then.
pub(super) fn all_done(input: &ActionsInput<'_>) -> bool {
    let ActionsInput {
        pod,
        observed,
        rules,
        ..
    } = *input;
    let containers = spec::containers(pod);
    let active = observed.active_sandbox().map(|sandbox| &sandbox.id);
    !containers.is_empty()
        && containers.iter().all(|container| {
            observed.latest(&container.name).is_some_and(|latest| {
                latest.state == ContainerState::Exited
                    && latest.sandbox_id.as_ref() == active
                    && !should_restart(pod, container, Some(latest), rules)
            })
        })
}
