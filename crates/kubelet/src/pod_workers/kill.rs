//! Stopping containers and sandboxes as a plan says (kubelet CTR-40 to CTR-43).

use std::{collections::BTreeMap, fmt, time::Duration};

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kubelet_core::{
    actions::{ContainerKill, PodKill, stop_timeout_seconds},
    ids::{ContainerName, SandboxId},
    observed::{ObservedPod, SandboxState},
};
use tokio::{sync::watch, time::Instant};

use super::PodWorker;
use crate::{events::EventType, runtime::client::CriError};

/// A command that a hook left in a container has ended within this of the container's end.
const LATE_HOOK_END: Duration = Duration::from_millis(500);

/// Stopping a container or a sandbox failed, in upstream's words (ERR-06).
#[derive(Debug, thiserror::Error)]
#[error("failed to \"Kill{step}\" for {target:?} with Kill{step}Error: {:?}", .source.rpc_text())]
pub(super) struct StopError {
    step: &'static str,
    /// The container's name; a sandbox's pod by its uid.
    target: String,
    source: CriError,
}

/// All that could not be stopped; at least one.
#[derive(Debug)]
pub(super) struct StopErrors(Vec<StopError>);

impl StopErrors {
    /// Nothing of the pod is wrong: the runtime is not there.
    pub(super) fn is_runtime_down(&self) -> bool {
        self.0.iter().any(|error| error.source.is_unavailable())
    }

    fn of(results: Vec<Result<(), StopError>>) -> Result<(), Self> {
        let errors: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        if errors.is_empty() {
            Ok(())
        } else {
            Err(Self(errors))
        }
    }
}

/// One as it is, several in brackets, as upstream joins them.
impl fmt::Display for StopErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.0.as_slice() {
            return only.fmt(f);
        }
        let texts: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        write!(f, "[{}]", texts.join(", "))
    }
}

impl std::error::Error for StopErrors {}

/// Says that something is being stopped, as long as it lives.
pub(super) struct Killing(watch::Sender<bool>);

impl Killing {
    pub(super) fn begin(killing: &watch::Sender<bool>) -> Self {
        killing.send_replace(true);
        Self(killing.clone())
    }
}

impl Drop for Killing {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}

/// Tells of each container of a plan when it has ended.
pub(super) type Ended<'a> = BTreeMap<&'a ContainerName, watch::Sender<bool>>;

impl PodWorker {
    /// Stops a whole pod: its containers, in order where the plan says so, then its sandboxes.
    ///
    /// Differs (ERR-06): a sandbox is not stopped while one of its containers may still run; upstream stops
    /// it all the same.
    ///
    /// # Errors
    /// All failures, after everything was tried.
    pub(super) async fn kill_pod(&self, pod: &Pod, plan: &PodKill) -> Result<(), StopErrors> {
        self.kill_containers(pod, &plan.containers).await?;
        self.stop_sandboxes(&plan.sandboxes).await
    }

    /// Stops the sandboxes that died by themselves: their networks are still to be given back (CRI-17).
    ///
    /// # Errors
    /// All failures, after all were tried.
    pub(super) async fn stop_dead_sandboxes(
        &self,
        observed: &ObservedPod,
    ) -> Result<(), StopErrors> {
        let dead = observed
            .sandboxes
            .iter()
            .filter(|sandbox| sandbox.state != SandboxState::Ready);
        self.stop_sandboxes(dead.map(|dead| &dead.id)).await
    }

    async fn stop_sandboxes(
        &self,
        ids: impl IntoIterator<Item = &SandboxId>,
    ) -> Result<(), StopErrors> {
        let stops = ids.into_iter().map(async |id| {
            let stopped = self.context.runtime.stop_pod_sandbox(id.as_str()).await;
            stopped.map_err(|source| StopError {
                step: "PodSandbox",
                target: self.uid.to_string(),
                source,
            })
        });
        StopErrors::of(join_all(stops).await)
    }

    /// Stops containers side by side; one that names others to end first waits for them, as long as
    /// its grace lasts (CTR-42).
    ///
    /// # Errors
    /// All failures, after all were tried.
    pub(super) async fn kill_containers(
        &self,
        pod: &Pod,
        kills: &[ContainerKill],
    ) -> Result<(), StopErrors> {
        let ended: Ended<'_> = kills
            .iter()
            .map(|kill| (&kill.name, watch::channel(false).0))
            .collect();
        let stops = kills.iter().map(|kill| async {
            let result = self.kill_container(pod, kill, &ended).await;
            // The others wait out their grace for one that could not be stopped.
            if result.is_ok()
                && let Some(sender) = ended.get(&kill.name)
            {
                sender.send_replace(true);
            }
            result.map_err(|source| StopError {
                step: "Container",
                target: kill.name.to_string(),
                source,
            })
        });
        StopErrors::of(join_all(stops).await)
    }

    /// `preStop`, the wait for others, and the signal share the grace; the signal gets its least in any
    /// case (CTR-40). A hook that takes longer than the grace goes on beside the signal. Source of
    /// behaviour: Kubernetes kubelet, `executePreStopHook`.
    ///
    /// Differs (CTR-40): a `terminationGracePeriodSeconds` of more than 292 years is as long as it says; upstream's
    /// overflows, and with 2^63-1 the signal comes at once, beside the `preStop` hook.
    pub(super) async fn kill_container(
        &self,
        pod: &Pod,
        kill: &ContainerKill,
        ended: &Ended<'_>,
    ) -> Result<(), CriError> {
        let name = kill.name.as_str();
        self.container_event(pod, name, EventType::Normal, "Killing", &kill.message);
        let began = Instant::now();
        let grace = Duration::from_secs(u64::try_from(kill.grace_seconds).unwrap_or_default());
        let hook = kill.pre_stop.as_ref().filter(|_| !grace.is_zero());
        let mut late = None;
        if let Some(hook) = hook {
            let mut run = Box::pin(self.pre_stop(pod, kill, hook));
            if tokio::time::timeout(grace, &mut run).await.is_err() {
                tracing::warn!(
                    container = name,
                    grace_seconds = kill.grace_seconds,
                    "PreStop hook not completed in grace period"
                );
                late = Some(run);
            }
        }
        let others = kill
            .after
            .iter()
            .filter_map(|name| ended.get(name))
            .map(|sender| {
                let mut receiver = sender.subscribe();
                async move { receiver.wait_for(|ended| *ended).await.map(drop) }
            });
        // An overrun of the grace is no failure: the container still gets its least (CTR-42).
        let left = grace.saturating_sub(began.elapsed());
        let _ = tokio::time::timeout(left, join_all(others)).await;
        let spent = i64::try_from(began.elapsed().as_secs()).unwrap_or(i64::MAX);
        let seconds = stop_timeout_seconds(kill.grace_seconds, spent);
        let grace = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        tracing::info!(container = name, container.id = %kill.id, grace_seconds = seconds,
            reason = %kill.message, "Killing container with a grace period");
        let stop = self.context.runtime.stop_container(kill.id.as_str(), grace);
        let Some(mut late) = late else {
            return stop.await;
        };
        // Nobody waits for the hook any more, but its command is the container's to end (CTR-43).
        let mut stop = Box::pin(stop);
        tokio::select! {
            biased;
            // cancel-safe: pinned outside, awaited on.
            () = &mut late => stop.await,
            // cancel-safe: done; what is left of the hook is given up.
            result = &mut stop => {
                let _ = tokio::time::timeout(LATE_HOOK_END, late).await;
                result
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_stopped_is_told_as_upstream_tells_it() {
        let error = |step, target: &str| StopError {
            step,
            target: target.to_owned(),
            source: CriError::Timeout {
                operation: "stop_container",
                limit: LATE_HOOK_END,
            },
        };
        let one = r#"failed to "KillContainer" for "c" with KillContainerError: "rpc error: code = DeadlineExceeded desc = context deadline exceeded""#;
        let errors = StopErrors(vec![error("Container", "c")]);
        assert_eq!(errors.to_string(), one);
        let errors = StopErrors(vec![error("Container", "c"), error("PodSandbox", "u")]);
        let both = errors.to_string();
        assert!(
            both.starts_with(&format!("[{one}, failed to \"KillPodSandbox\" for \"u\"")),
            "{both}"
        );
    }
}
