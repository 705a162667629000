//! One pass of a pod that shall run: read, decide, do, publish (kubelet CTR-01, CTR-02).

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kubelet_core::{
    actions::{ActionsInput, OnStartFailure, PodActions, compute_pod_actions, plan_end},
    backoff::{crash_loop_event, later, mount_delay},
    ids::{ContainerName, SandboxId},
    log_paths,
    observed::{ContainerState, ObservedPod},
    reasons::WaitingReason,
    spec,
    status::{
        PodEnd, StatusInput, active_deadline, compute_pod_status, deadline_exceeded, has_ended,
    },
};

use super::{
    Outcome, PodWorker, RETRY_AFTER_ERROR, RETRY_AFTER_NETWORK, exits::Failure, jittered,
    kill::Killing, sandbox::SandboxError, start::Place, until,
};
use crate::{clock, events::EventType, runtime::observe};

/// When upstream sees what it has stopped, at the latest.
const RELIST: Duration = Duration::from_secs(1);
/// Starts that may follow from one another in a pass: sandbox, init containers, containers. A pod
/// that needs more goes on in the next pass.
const MAX_ROUNDS: usize = 4;

impl PodWorker {
    /// Brings the pod one step nearer to what is wanted.
    pub(super) async fn sync(&mut self, pod: &Arc<Pod>) -> Outcome {
        let last = self.last.replace(Arc::clone(pod));
        if last.is_some_and(|last| last.spec != pod.spec) {
            self.history.pod_changed();
        }
        match Box::pin(self.try_sync(pod)).await {
            Ok(outcome) => {
                self.mount_failures = 0;
                outcome
            }
            // `FailedMount` has told of it.
            Err(failure @ Failure::Volume(_)) => {
                let delay = mount_delay(self.mount_failures);
                self.mount_failures = self.mount_failures.saturating_add(1);
                match Self::report(&failure) {
                    Outcome::Retry(_) => Outcome::Retry(delay),
                    outcome => outcome,
                }
            }
            Err(failure) => {
                let outcome = Self::report(&failure);
                if outcome != Outcome::RuntimeDown
                    && let Some((reason, message)) = failure.event()
                {
                    self.event(pod, EventType::Warning, reason.as_str(), &message);
                }
                outcome
            }
        }
    }

    async fn try_sync(&mut self, pod: &Arc<Pod>) -> Result<Outcome, Failure> {
        if !self.context.health.now().is_up() {
            return Ok(Outcome::RuntimeDown);
        }
        self.recall().await;
        let mut observed = self.observe().await?;
        let mut done: Option<PodActions> = None;
        for _ in 0..MAX_ROUNDS {
            self.judge_deadline(pod);
            self.read_restarts_from_logs(pod, &observed).await;
            let actions = self.decide(pod, &observed);
            self.publish(pod, &observed, &actions).await;
            self.tell_waits(pod, &actions);
            // What changed nothing changes nothing when it is done again at once.
            let in_vain = done
                .as_ref()
                .is_some_and(|done| done.asks_the_same(&actions));
            if in_vain || actions.is_empty() {
                self.link_logs(&observed).await;
                if self.remove_excess(&observed).await {
                    // What is gone is no container's last state any more.
                    observed = self.observe().await?;
                    self.publish(pod, &observed, &actions).await;
                }
                if self.is_finished() {
                    self.settle_end(&observed).await?;
                    return Ok(Outcome::Settled(None));
                }
                if observed.may_be_running() {
                    self.refresh_volumes(pod).await?;
                }
                let shown = self.history.next_shown(self.moment());
                let shown = shown.map(|left| later(clock::now(), left));
                let again = in_vain.then(|| later(clock::now(), jittered(RETRY_AFTER_ERROR)));
                let next = [actions.retry_at, self.deadline(pod), shown, again];
                return Ok(Outcome::Settled(next.into_iter().flatten().min()));
            }
            let applied = Box::pin(self.apply(pod, &observed, &actions)).await;
            self.context.tidy.worked();
            if let Some(outcome) = applied? {
                observed = self.observe().await?;
                let actions = self.decide(pod, &observed);
                self.publish(pod, &observed, &actions).await;
                return Ok(outcome);
            }
            done = Some(actions);
            observed = self.observe().await?;
        }
        Ok(Outcome::Settled(Some(clock::now())))
    }

    pub(super) async fn observe(&mut self) -> Result<ObservedPod, Failure> {
        let mut observed = observe::read_pod(&self.context.runtime, &self.uid).await?;
        self.read_messages(&mut observed).await;
        self.context.statuses.set_observed(&self.key, &observed);
        Ok(observed)
    }

    fn decide(&mut self, pod: &Pod, observed: &ObservedPod) -> PodActions {
        self.history.probes = self.context.probes.results(&self.uid);
        if self.verdict.is_some()
            || self.is_finished()
            || has_ended(&self.status_input(pod, observed, PodEnd::Open))
        {
            return plan_end(pod, observed);
        }
        compute_pod_actions(&ActionsInput {
            pod,
            observed,
            history: &self.history,
            rules: self.context.node.gates.restart_rules,
            now: clock::now(),
            moment: self.moment(),
        })
    }

    /// When the pod will have run for too long; the worker wakes then.
    fn deadline(&self, pod: &Pod) -> Option<Timestamp> {
        active_deadline(pod, self.status.as_ref()?)
    }

    /// Declares a pod failed that has run for too long (CTR-53).
    ///
    /// Differs (CTR-53): a pod that still waits for its volumes fails at its deadline; upstream looks again only
    /// after two minutes. A pod that succeeded stays so; upstream calls it failed where the deadline passes while
    /// it is taken down. The event `DeadlineExceeded` comes once; upstream's comes at each pass until the pod has ended.
    /// A pod that was not admitted keeps the reason why; upstream writes `DeadlineExceeded` over it.
    fn judge_deadline(&mut self, pod: &Pod) {
        let passed = self.deadline(pod).is_some_and(|at| at <= clock::now());
        if passed && self.verdict.is_none() && !self.is_finished() {
            let verdict = deadline_exceeded();
            self.event(pod, EventType::Normal, &verdict.reason, &verdict.message);
            self.verdict = Some(verdict);
        }
    }

    /// Does what the plan says, in its order. `Some`: the pass ends here.
    async fn apply(
        &mut self,
        pod: &Arc<Pod>,
        observed: &ObservedPod,
        actions: &PodActions,
    ) -> Result<Option<Outcome>, Failure> {
        // Nothing is stopped that could not be started again (LIFE-06).
        if !actions.done
            && let Some(why) = self.context.health.now().network
            && !spec::is_host_network(pod)
        {
            let message = format!("network is not ready: {why}");
            self.event(pod, EventType::Warning, "NetworkNotReady", &message);
            return Ok(Some(Outcome::Retry(RETRY_AFTER_NETWORK)));
        }
        let starts =
            !actions.done && (actions.create_sandbox.is_some() || !actions.start.is_empty());
        // Before anything is stopped: what cannot be had for the new is no reason to end the old (CTR-01).
        let prepared = if starts {
            Some(self.prepare(pod).await?)
        } else {
            None
        };
        let killing = Killing::begin(&self.killing);
        let create = actions.create_sandbox.as_ref();
        if create.is_some_and(|create| create.reason.is_replacement()) {
            let message = "Pod sandbox changed, it will be killed and re-created.";
            self.event(pod, EventType::Normal, "SandboxChanged", message);
        }
        self.kill_pod(pod, &actions.kill_pod).await?;
        if create.is_some() {
            self.stop_dead_sandboxes(observed).await?;
        }
        self.kill_containers(pod, &actions.kill).await?;
        drop(killing);
        for removal in &actions.remove {
            // One that stays for now is in nobody's way: the pod goes on all the same (Kubernetes kubelet,
            // `pruneInitContainersBeforeStart`).
            if let Some(container) = observed.containers.iter().find(|c| c.id == removal.id)
                && let Err(error) = self.remove_container(container).await
            {
                tracing::warn!(container = %container.name, container.id = %container.id,
                    error = %daemon::ErrorChain(&error), "Failed to remove pod init container");
            }
        }
        let Some(prepared) = prepared else {
            return Ok(None);
        };
        let (sandbox, config) = match (&actions.create_sandbox, &actions.sandbox) {
            (Some(create), _) => {
                match Box::pin(self.create_sandbox(pod, create, &prepared)).await {
                    Ok(made) => made,
                    Err(SandboxError::Failure(failure)) => return Err(failure),
                    Err(SandboxError::Refused) => {
                        let wait = jittered(RETRY_AFTER_ERROR);
                        self.history.sandbox_retry_at = Some(self.moment().saturating_add(wait));
                        return Ok(None);
                    }
                }
            }
            (None, Some(id)) => {
                let attempt = observed
                    .active_sandbox()
                    .map_or(0, |sandbox| sandbox.attempt);
                let ips = observed.ips().to_vec();
                let config = match self.sandbox_config(pod, attempt, &prepared).await {
                    Ok(config) => config,
                    Err(error) => {
                        tracing::error!(error = %error, "Error generating the config of the pod's sandbox");
                        return Ok(Some(Outcome::Retry(RETRY_AFTER_ERROR)));
                    }
                };
                ((id.clone(), ips), config)
            }
            (None, None) => return Ok(None),
        };
        self.history.sandbox_retry_at = None;
        let (sandbox, ips): (SandboxId, _) = sandbox;
        let images = self.volume_images(pod, &config).await;
        let place = Place {
            sandbox: &sandbox,
            config: &config,
            ips: &ips,
            prepared: &prepared,
            images: &images,
        };
        for start in &actions.start {
            self.history.note_start(start, clock::now());
            let started = self.start_container(pod, start, &place).await;
            match started {
                Ok(()) => {
                    self.history.note_success(&start.name);
                }
                Err(failure) if failure.runtime_down => return Ok(Some(Outcome::RuntimeDown)),
                Err(failure) => {
                    let failure = failure.at(self.moment());
                    tracing::error!(container = %start.name, reason = %failure.reason,
                        error = %failure.message, "Unhandled Error: container did not start");
                    self.history.note_failure(start.name.clone(), failure);
                    if start.on_failure == OnStartFailure::Abort {
                        break;
                    }
                }
            }
        }
        Ok(None)
    }

    /// Computes the status and hands it to everybody who reads it.
    async fn publish(&mut self, pod: &Arc<Pod>, observed: &ObservedPod, actions: &PodActions) {
        let over = actions.done && !observed.may_be_running();
        // Results may have been shown since by themselves: their times are kept.
        if self.status.is_some() {
            let shown = self.context.statuses.status(&self.uid);
            if shown.phase.is_some() {
                self.status = Some(shown);
            }
        }
        self.history.probes = self.context.probes.results(&self.uid);
        let end = if over { PodEnd::Over } else { PodEnd::Open };
        let status = compute_pod_status(&self.status_input(pod, observed, end));
        self.record_end(&status).await;
        if !self.started && status.phase.as_deref() == Some("Running") {
            self.started = true;
            self.context
                .metrics
                .pod_start_duration
                .with_label_values::<&str>(&[])
                .observe(self.first_seen.elapsed().as_secs_f64());
            tracing::info!(
                elapsed_ms = self.first_seen.elapsed().as_millis(),
                "pod is running"
            );
        }
        if self.status.as_ref() != Some(&status) {
            self.context.control_plane.publish_status(pod, &status);
        }
        self.context.statuses.set_status(&self.uid, &status);
        if spec::is_terminal_phase(status.phase.as_deref()) {
            self.context.probes.remove(&self.uid);
        } else {
            self.context
                .probes
                .look(pod, observed, status.pod_ip.as_deref());
        }
        self.status = Some(status);
    }

    pub(super) fn status_input<'a>(
        &'a self,
        pod: &'a Pod,
        observed: &'a ObservedPod,
        end: PodEnd,
    ) -> StatusInput<'a> {
        StatusInput {
            pod,
            observed,
            previous: self.status.as_ref(),
            history: &self.history,
            rules: self.context.node.gates.restart_rules,
            runtime_name: &self.context.runtime_name,
            end,
            verdict: self.verdict.as_ref(),
            primary_family: self.context.node.primary_family(),
            host_ips: &[],
            stop_signals: self.context.node.gates.stop_signals,
            supplemental_groups: self.context.node.gates.supplemental_groups,
            in_place_resize: self.context.node.gates.in_place_resize,
            recursive_read_only: self.handler_features(pod).recursive_read_only,
            conditions: match end {
                PodEnd::Open => self.resize.as_slice(),
                PodEnd::Over => &[],
            },
            now: clock::now(),
            moment: self.moment(),
        }
    }

    /// One `BackOff` event for each wait (CTR-22). Differs: upstream gives one at each try, and starts the container
    /// up to 15 s after the wait is over; here it starts when it is.
    fn tell_waits(&mut self, pod: &Pod, actions: &PodActions) {
        for wait in &actions.wait {
            let name = wait.name.to_string();
            if wait.reason == WaitingReason::CrashLoopBackOff {
                let (name, left) = (wait.name.clone(), until(wait.until));
                // Upstream's next look: at its relist where it stopped the container itself.
                let stopped = actions.kill.iter().any(|kill| kill.name == wait.name)
                    || self.history.hook_failed(&wait.name);
                let again = if stopped {
                    RELIST
                } else {
                    jittered(RETRY_AFTER_ERROR)
                };
                self.history
                    .note_crash_wait(name, left, again, self.moment());
            }
            if wait.reason != WaitingReason::CrashLoopBackOff
                || self.told_waits.get(&name) == Some(&wait.until)
            {
                continue;
            }
            let message = crash_loop_event(pod, &name);
            self.container_event(pod, &name, EventType::Warning, "BackOff", &message);
            self.told_waits.insert(name, wait.until);
        }
    }

    /// Restart counts that the runtime has forgotten, from log files (CTR-21) and from what was seen
    /// before: those of init containers go with their sandbox.
    ///
    /// Differs: upstream asks the log files only where the runtime has no container of that name; where
    /// somebody removed the newest one and left an older one, it counts on from there and writes
    /// into the log of the one that is gone.
    async fn read_restarts_from_logs(&mut self, pod: &Pod, observed: &ObservedPod) {
        for container in &observed.containers {
            let next = container.restart_count.saturating_add(1);
            self.note_next_restart(container.name.clone(), next);
        }
        let names: Vec<String> = spec::containers(pod)
            .iter()
            .chain(spec::init_containers(pod))
            .map(|container| container.name.clone())
            .filter(|name| {
                let latest = observed.latest(name);
                latest.is_none_or(|latest| latest.state != ContainerState::Running)
            })
            .collect();
        if names.is_empty() {
            return;
        }
        let pod_logs =
            self.context
                .dirs
                .pod_logs(&self.key.namespace, &self.key.name, self.uid.as_str());
        let counts: Vec<(ContainerName, u32)> = daemon::blocking(move || {
            names
                .into_iter()
                .filter_map(|name| {
                    let entries = std::fs::read_dir(pod_logs.join(&name)).ok()?;
                    let files: Vec<String> = entries
                        .filter_map(Result::ok)
                        .map(|entry| entry.file_name().to_string_lossy().into_owned())
                        .collect();
                    let next = log_paths::next_restart(files.iter().map(String::as_str));
                    Some((name.into(), next))
                })
                .collect()
        })
        .await;
        for (name, next) in counts {
            self.note_next_restart(name, next);
        }
    }

    /// Differs (CTR-04): after a new sandbox the later of several init containers count on; upstream removes their
    /// old ones first and counts from 0.
    fn note_next_restart(&mut self, name: ContainerName, next: u32) {
        let known = self.history.next_restart_by_logs.entry(name).or_default();
        *known = (*known).max(next);
    }
}
