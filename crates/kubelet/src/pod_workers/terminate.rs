//! Ending a pod: stop what runs, give back what it held, remove what is left (kubelet LIFE-33,
//! LIFE-34, SRC-43, SRC-44, GC-11 to GC-14).
//!
//! Every step finds its work in the runtime and on disk and is done when there is none, so a kill at
//! any line is resumed by the next pass, or by the next process.

use std::sync::Arc;

use daemon::ErrorChain;
use k8s_openapi::api::core::v1::Pod;
use kubelet_core::{
    actions::plan_pod_kill,
    observed::ObservedPod,
    reasons::EventReason,
    spec,
    status::{PodEnd, compute_pod_status},
};

use super::{Outcome, PodWorker, RETRY_AFTER_ERROR, exits, exits::Failure};
use crate::{events::EventType, runtime::observe};

impl PodWorker {
    /// One pass towards the end.
    pub(super) async fn terminate(
        &mut self,
        pod: Option<&Arc<Pod>>,
        grace_override: Option<i64>,
    ) -> Outcome {
        match Box::pin(self.try_terminate(pod, grace_override)).await {
            Ok(()) => {
                tracing::info!("pod is gone");
                Outcome::Finished
            }
            Err(failure) => {
                let outcome = Self::report(&failure);
                // What fails once all has stopped is no failed kill (LIFE-33).
                if let (Some(pod), Failure::Stop(_), Outcome::Retry(_)) = (pod, &failure, outcome) {
                    let reason = EventReason::FailedKillPod.as_str();
                    let message = format!("error killing pod: {}", ErrorChain(&failure));
                    self.event(pod, EventType::Warning, reason, &message);
                }
                outcome
            }
        }
    }

    async fn try_terminate(
        &mut self,
        pod: Option<&Arc<Pod>>,
        grace_override: Option<i64>,
    ) -> Result<(), Failure> {
        let mut observed = observe::read_pod(&self.context.runtime, &self.uid).await?;
        if observed.may_be_running() {
            self.context.statuses.set_observed(&self.key, &observed);
            self.context.probes.stop_liveness_and_startup(&self.uid);
            let plan = plan_pod_kill(pod.map(AsRef::as_ref), &observed, grace_override);
            let unknown = self.pod_by_name();
            let named = pod.map_or(&unknown, AsRef::as_ref);
            self.kill_pod(named, &plan).await?;
            observed = self.observe().await?;
            if observed.may_be_running() {
                let live = observed.containers.iter().filter(|one| one.is_live());
                let ids = live.map(|one| one.id.to_string()).collect();
                return Err(Failure::StillRunning(ids));
            }
        }
        if let Some(pod) = pod {
            self.show_end(pod, &observed);
        }
        self.context.probes.remove(&self.uid);
        self.context.volumes.teardown(self.uid.as_str()).await?;
        self.context.cgroups.remove_pod(self.uid.as_str()).await?;
        // Whoever waits for what the pod had need not wait for what cannot be removed now (Kubernetes kubelet,
        // `SyncTerminatedPod`).
        self.holds_nothing = true;
        self.remove_from_runtime(&observed).await?;
        self.remove_files().await
    }

    /// A pod that had to go is shown as it ended, as long as its manifest stands (ADM-09).
    fn show_end(&mut self, pod: &Arc<Pod>, observed: &ObservedPod) {
        let shown = self.context.statuses.status(&self.uid);
        if self.holds_nothing || !spec::is_terminal_phase(shown.phase.as_deref()) {
            return;
        }
        self.status = Some(shown);
        let status = compute_pod_status(&self.status_input(pod, observed, PodEnd::Over));
        self.context.control_plane.publish_status(pod, &status);
        self.context.statuses.set_status(&self.uid, &status);
    }

    /// A pod of which nothing but its name is known: for what is told of it (SRC-44).
    fn pod_by_name(&self) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.namespace = Some(self.key.namespace.clone());
        pod.metadata.name = Some(self.key.name.clone());
        pod.metadata.uid = Some(self.uid.to_string());
        pod
    }

    /// Dead containers with their links, then sandboxes: networks were given back when they
    /// stopped, and stopping again is harmless where that was cut off (CRI-27).
    async fn remove_from_runtime(&self, observed: &ObservedPod) -> Result<(), Failure> {
        let runtime = &self.context.runtime;
        for container in &observed.containers {
            self.remove_container(container).await?;
        }
        for sandbox in &observed.sandboxes {
            runtime.stop_pod_sandbox(sandbox.id.as_str()).await?;
            runtime.remove_pod_sandbox(sandbox.id.as_str()).await?;
        }
        Ok(())
    }

    /// Differs (ADM-09): a preempted pod's directory goes with its containers; upstream keeps it, without the volumes,
    /// as long as the pod's manifest stands.
    async fn remove_files(&self) -> Result<(), Failure> {
        let (dirs, key, uid) = (
            self.context.dirs.clone(),
            self.key.clone(),
            self.uid.clone(),
        );
        let links = self.context.node.log_links_directory.clone();
        let logs = self.context.node.logs_directory.clone();
        let statuses = Arc::clone(&self.context.statuses);
        daemon::blocking(move || {
            dirs.remove_pod(uid.as_str())?;
            dirs.remove_logs(&key.namespace, &key.name, uid.as_str())?;
            exits::remove_dangling_links(&links, &logs, &statuses);
            Ok(())
        })
        .await
    }

    /// Says in the log what failed, once per pass, and when it is tried again.
    pub(super) fn report(failure: &Failure) -> Outcome {
        if failure.is_runtime_down() {
            return Outcome::RuntimeDown;
        }
        let error = ErrorChain(failure).to_string();
        tracing::error!(error = %error, "Error syncing pod, skipping");
        Outcome::Retry(RETRY_AFTER_ERROR)
    }
}
