//! Whether the runtime can be worked with (kubelet LIFE-05, CRI-04, ERR-10).
//!
//! Owner task: [`RuntimeHealth::run`], one `Status` call each five seconds, and at once when a
//! worker meets an unreachable runtime. Output: a `watch` of the newest verdict.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use cri_api::v1;
use daemon::ErrorChain;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{client::CriClient, wakes::Wakes};

/// Differs (LIFE-05): the first failed answer stops the syncing of pods; upstream tries on for 30 s.
const PERIOD: Duration = Duration::from_secs(5);
/// While the runtime is away it is asked this often, so that work resumes at once.
const PERIOD_DOWN: Duration = Duration::from_millis(500);

/// What the runtime said last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Health {
    /// Why the runtime cannot be used; `None` when it can.
    pub(crate) runtime: Option<String>,
    /// Since when it cannot, once it could.
    pub(crate) down_since: Option<Instant>,
    /// Why pods with a network of their own cannot start; `None` when they can.
    pub(crate) network: Option<String>,
    /// What it can.
    pub(crate) features: Features,
}

/// What a runtime may be able to do (CRI-04).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Features {
    /// `supplementalGroupsPolicy: Strict` (SPEC-46).
    pub(crate) supplemental_groups_policy: bool,
    /// Its handlers by name; the default one's is empty.
    pub(crate) handlers: BTreeMap<String, HandlerFeatures>,
}

/// What one of its handlers may be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct HandlerFeatures {
    /// Mounts that are read-only with all below them (VOL-62).
    pub(crate) recursive_read_only: bool,
}

impl Features {
    fn of(answer: &v1::StatusResponse) -> Self {
        let of_handler = |handler: &v1::RuntimeHandler| HandlerFeatures {
            recursive_read_only: handler
                .features
                .is_some_and(|can| can.recursive_read_only_mounts),
        };
        Self {
            supplemental_groups_policy: answer
                .features
                .as_ref()
                .is_some_and(|can| can.supplemental_groups_policy),
            handlers: answer
                .runtime_handlers
                .iter()
                .map(|handler| (handler.name.clone(), of_handler(handler)))
                .collect(),
        }
    }

    /// What the handler of that name can; nothing, where the runtime does not tell of it.
    pub(crate) fn of_handler(&self, name: &str) -> HandlerFeatures {
        self.handlers.get(name).copied().unwrap_or_default()
    }
}

impl Health {
    /// Nothing is known yet.
    fn unknown() -> Self {
        Self {
            runtime: Some("container runtime status check may not have completed yet".into()),
            ..Self::default()
        }
    }

    /// The runtime takes calls.
    pub(crate) fn is_up(&self) -> bool {
        self.runtime.is_none()
    }

    /// Carries over since when the runtime is away.
    fn after(mut self, old: &Self, now: Instant) -> Self {
        if !self.is_up() {
            self.down_since = old.down_since.or_else(|| old.is_up().then_some(now));
        }
        self
    }
}

/// Asks the runtime how it is.
#[derive(Debug)]
pub(crate) struct RuntimeHealth {
    runtime: CriClient,
    wakes: Arc<Wakes>,
    ask_now: Arc<Notify>,
    verdict: watch::Sender<Health>,
}

/// What the other parts hold of it.
#[derive(Debug, Clone)]
pub(crate) struct HealthView {
    ask_now: Arc<Notify>,
    verdict: watch::Receiver<Health>,
}

impl HealthView {
    /// The newest verdict.
    pub(crate) fn now(&self) -> Health {
        self.verdict.borrow().clone()
    }

    /// A call found the runtime unreachable: ask now rather than at the next tick.
    pub(crate) fn doubt(&self) {
        self.ask_now.notify_one();
    }

    /// Waits for another verdict than the last one waited for. Cancel-safe.
    pub(crate) async fn changed(&mut self) {
        // As below: the sender's end is the process's.
        if self.verdict.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits for the runtime to be usable.
    pub(crate) async fn up(&mut self) {
        // The sender lives as long as the process; its end means shutdown, which callers select on.
        if self.verdict.wait_for(Health::is_up).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl RuntimeHealth {
    /// The asker and the view of it.
    pub(crate) fn new(runtime: CriClient, wakes: Arc<Wakes>) -> (Self, HealthView) {
        let (verdict, receiver) = watch::channel(Health::unknown());
        let ask_now = Arc::new(Notify::new());
        let view = HealthView {
            ask_now: ask_now.clone(),
            verdict: receiver,
        };
        (
            Self {
                runtime,
                wakes,
                ask_now,
                verdict,
            },
            view,
        )
    }

    /// Asks until the token is cancelled.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        loop {
            let answer = self.ask().await;
            let health = answer.after(&self.verdict.borrow(), Instant::now());
            let up = health.is_up();
            let changed = self.verdict.send_if_modified(|old| {
                let changed = *old != health;
                if changed {
                    report(old, &health);
                    *old = health;
                }
                changed
            });
            if changed && up {
                self.wakes.wake_all();
            }
            let next = Instant::now() + if up { PERIOD } else { PERIOD_DOWN };
            tokio::select! {
                biased;
                // cancel-safe: a token.
                () = shutdown.cancelled() => return,
                // cancel-safe: a permit stays for the next wait.
                () = self.ask_now.notified() => {}
                // cancel-safe: a timer.
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    async fn ask(&self) -> Health {
        let answer = match self.runtime.status().await {
            Ok(answer) => answer,
            Err(error) => {
                let chain = ErrorChain(&error).to_string();
                return Health {
                    runtime: Some(format!("container runtime is down: {chain}")),
                    features: self.verdict.borrow().features.clone(),
                    ..Health::default()
                };
            }
        };
        let why = |name: &str| failing(answer.status.as_ref(), name);
        Health {
            runtime: why("RuntimeReady").map(|why| format!("container runtime not ready: {why}")),
            network: why("NetworkReady")
                .map(|why| format!("container runtime network not ready: {why}")),
            features: Features::of(&answer),
            ..Health::default()
        }
    }
}

/// Why a condition does not hold, in upstream's words; one that the runtime does not tell of does not.
fn failing(status: Option<&v1::RuntimeStatus>, name: &str) -> Option<String> {
    let mut conditions = status.into_iter().flat_map(|status| &status.conditions);
    match conditions.find(|condition| condition.r#type == name) {
        None => Some("<nil>".to_owned()),
        Some(condition) if condition.status => None,
        Some(condition) => Some(format!(
            "{name}={} reason:{} message:{}",
            condition.status, condition.reason, condition.message
        )),
    }
}

fn report(old: &Health, new: &Health) {
    match (&old.runtime, &new.runtime) {
        (Some(_), None) => tracing::info!("the container runtime is ready"),
        (_, Some(why)) => tracing::error!(reason = %why, "Skipping pod synchronization"),
        (None, None) => {}
    }
    match (&old.network, &new.network) {
        (Some(_), None) => tracing::info!("the runtime's network is ready"),
        (old, Some(why)) if old.as_ref() != Some(why) => {
            tracing::error!(reason = %why, "Container runtime network not ready");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(name: &str, status: bool) -> v1::RuntimeCondition {
        v1::RuntimeCondition {
            r#type: name.to_owned(),
            status,
            reason: "R".to_owned(),
            message: "m".to_owned(),
        }
    }

    #[test]
    fn a_condition_that_is_not_told_does_not_hold() {
        let status = v1::RuntimeStatus {
            conditions: vec![condition("RuntimeReady", true), condition("Other", false)],
        };
        assert_eq!(failing(Some(&status), "RuntimeReady"), None);
        let why = failing(Some(&status), "Other");
        assert_eq!(why.as_deref(), Some("Other=false reason:R message:m"));
        assert_eq!(
            failing(Some(&status), "NetworkReady").as_deref(),
            Some("<nil>")
        );
        assert_eq!(failing(None, "NetworkReady").as_deref(), Some("<nil>"));
    }

    /// Kubernetes kubelet, `runtimeHandlerSupportsRecursiveReadOnlyMounts`.
    #[test]
    fn vol_62_each_handler_tells_for_itself() {
        let handler = |name: &str, recursive_read_only_mounts| v1::RuntimeHandler {
            name: name.to_owned(),
            features: Some(v1::RuntimeHandlerFeatures {
                recursive_read_only_mounts,
                ..Default::default()
            }),
        };
        let features = Features::of(&v1::StatusResponse {
            runtime_handlers: vec![handler("", true), handler("sealed", false)],
            ..Default::default()
        });
        let can = |name| features.of_handler(name).recursive_read_only;
        assert_eq!(
            [can(""), can("sealed"), can("unknown")],
            [true, false, false]
        );
    }

    #[test]
    fn the_time_away_counts_from_the_last_good_answer() {
        let (early, late) = (Instant::now(), Instant::now() + PERIOD);
        let down = || Health {
            runtime: Some("away".to_owned()),
            ..Health::default()
        };
        assert_eq!(
            down().after(&Health::unknown(), early).down_since,
            None,
            "it never was there"
        );
        let first = down().after(&Health::default(), early);
        assert_eq!(first.down_since, Some(early));
        assert_eq!(down().after(&first, late).down_since, Some(early));
        assert_eq!(Health::default().after(&first, late).down_since, None);
    }
}
