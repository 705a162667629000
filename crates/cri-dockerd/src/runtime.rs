//! What the handlers of the CRI's calls share.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use daemon::{Spawner, Tidy};
use tokio::time::{Instant, timeout};

use crate::checkpoint::CheckpointStore;
use crate::engine::model::{CreateContainer, LogConfig};
use crate::engine::{Class, Engine, EngineError};
use crate::error::Error;
use crate::exec::Execs;
use crate::hub::{EngineFacts, Hub, Operation};
use crate::identity::KnownUsers;
use crate::images::Images;
use crate::logs::LogPump;
use crate::names::{self, Name};
use crate::network::Networks;
use crate::paths::PathView;
use crate::remembered::Remembered;
use crate::stats::Stats;
use crate::translate::Facts;
use crate::unified::Unified;

/// How long a removal is tried that somebody else began, or that a dying container delays (CTR-25).
const REMOVAL_WAIT: Duration = Duration::from_secs(10);
const REMOVAL_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_REMOVAL_PAUSE: Duration = Duration::from_secs(2);

/// Settings of the handlers.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Sandbox image (FLG-04).
    pub(crate) sandbox_image: String,
    /// Docker's own copy of each log (DEC-10).
    pub(crate) log_config: LogConfig,
}

/// See the module. Handlers are methods in `sandbox`, `container`, `stats_rpcs` and `runtime_rpcs`.
#[derive(Debug)]
pub(crate) struct Runtime {
    pub(crate) engine: Engine,
    pub(crate) hub: Arc<Hub>,
    pub(crate) networks: Arc<Networks>,
    pub(crate) paths: Arc<dyn PathView>,
    pub(crate) checkpoints: CheckpointStore,
    /// Sandboxes that the disk knows, whether Docker does or not (SBX-62).
    pub(crate) remembered: Remembered,
    pub(crate) logs: LogPump,
    pub(crate) images: Images,
    pub(crate) stats: Stats,
    pub(crate) users: KnownUsers,
    pub(crate) unified: Unified,
    pub(crate) execs: Execs,
    /// URLs of Exec, Attach and PortForward.
    pub(crate) streams: ::streaming::Urls,
    pub(crate) settings: Settings,
    /// Lowest OOM score that the host was seen to accept (DEC-48).
    pub(crate) lowest_oom_score: AtomicI64,
    /// This process lacks CAP_SYS_RESOURCE.
    pub(crate) lacks_sys_resource: bool,
    pub(crate) spawner: Spawner,
    /// Told of every call that changed something.
    pub(crate) tidy: Arc<Tidy>,
}

impl Runtime {
    /// Facts for translations, as known now.
    pub(crate) fn translation_facts(&self, engine: &EngineFacts) -> Result<Facts, Error> {
        Ok(Facts {
            api: engine.api,
            cgroup_driver: engine.cgroup_driver.clone().map_err(Error::Invalid)?,
            lowest_oom_score: self.lowest_oom_score.load(Ordering::Relaxed),
            has_cdi: !engine.info.cdi_spec_dirs.is_empty(),
            has_selinux: engine
                .info
                .security_options
                .iter()
                .any(|option| option.split(',').any(|part| part == "name=selinux")),
        })
    }

    /// The start of what asked for this OOM score failed: whether that was because the host forbids a negative
    /// one. If so, later translations clamp (DEC-48).
    pub(crate) fn learns_oom_limit(&self, error: &EngineError, asked: i64) -> bool {
        let forbidden =
            asked < 0 && forbids_negative_oom_score(&error.to_string(), self.lacks_sys_resource);
        if forbidden && self.lowest_oom_score.swap(0, Ordering::Relaxed) != 0 {
            tracing::warn!("the host forbids negative OOM scores: containers get 0 instead");
        }
        forbidden
    }

    /// Creates a container under its name. The answered operation has the id and is to be
    /// finished by the caller.
    ///
    /// A name that is held by what does not run, and no call of ours works on, is freed within this
    /// call (NAM-06). Differs: upstream removes such a holder and fails once.
    ///
    /// What runs keeps its name and the call fails, as upstream's and containerd's: a kubelet that lost
    /// the answer of the first call lists it and goes on with it.
    pub(crate) async fn create(
        &self,
        name: &Name,
        body: &CreateContainer,
    ) -> Result<(String, Operation), EngineError> {
        let text = name.to_string();
        let mut operation = self.hub.begin(&text, None);
        let mut created = self.engine.create_container(&text, body).await;
        if let Err(error) = &created
            && error.class() == Class::Conflict
            && let Some(holder) = names::conflict_holder(&error.to_string())
            && !self.hub.is_worked_on(&text, holder)
        {
            created = match self.free_name(holder).await? {
                Freed::Yes => self.engine.create_container(&text, body).await,
                Freed::No => created,
            };
            // Docker still keeps the name for a container that it no longer has (NAM-05).
            if let Err(error) = &created
                && error.class() == Class::Conflict
                && let Some(holder) = names::conflict_holder(&error.to_string())
                && self
                    .engine
                    .inspect_container(holder)
                    .await
                    .is_err_and(|e| e.is_not_found())
            {
                let other = format!("{text}_{:08x}", random());
                operation = self.hub.begin(&other, None);
                created = self.engine.create_container(&other, body).await;
            }
        }
        let id = created.inspect_err(|error| {
            if matches!(error.class(), Class::Timeout | Class::Unavailable) {
                // Docker may have created it all the same.
                self.hub.distrust();
            }
        })?;
        operation.created(&id);
        Ok((id, operation))
    }

    async fn free_name(&self, holder: &str) -> Result<Freed, EngineError> {
        let inspect = match self.engine.inspect_container(holder).await {
            Ok(inspect) => inspect,
            Err(error) if error.is_not_found() => return Ok(Freed::Yes),
            Err(error) => return Err(error),
        };
        if inspect.state.running {
            return Ok(Freed::No);
        }
        let name = &inspect.name;
        tracing::info!(
            container.id = inspect.id,
            name,
            "removing a leftover that holds the name"
        );
        self.remove(&inspect.id).await?;
        Ok(Freed::Yes)
    }

    /// Removes a container by force, with its anonymous volumes; gone already is fine (CTR-25).
    pub(crate) async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let operation = self.hub.begin(id, Some(id));
        let end = Instant::now() + REMOVAL_WAIT;
        let mut pause = REMOVAL_PAUSE;
        loop {
            let error = match self.engine.remove_container(id, true).await {
                Err(error) if !error.is_not_found() => error,
                _ => break,
            };
            // Somebody else removes it, or it is dying: done when it is gone, and tried again where
            // that comes to nothing.
            if !settles(&error) || Instant::now() >= end {
                operation.failed(&error).await;
                return Err(error);
            }
            tracing::debug!(container.id = id, %error, "docker can't remove it yet");
            let gone = async {
                // Of what memory lacks nothing is told.
                if self.hub.known(id).is_none() {
                    std::future::pending::<()>().await;
                }
                self.hub.gone(id).await;
            };
            if timeout(pause, gone).await.is_ok() {
                break;
            }
            pause = (pause * 2).min(LONGEST_REMOVAL_PAUSE);
        }
        operation.removed();
        Ok(())
    }
}

/// Whether a removal that failed so may succeed in a moment: somebody else removes the container, or its
/// processes or mounts are still going away. Docker says the latter with 500 and its text alone.
fn settles(error: &EngineError) -> bool {
    const DYING: [&str; 5] = [
        "did not receive an exit event",
        "device or resource busy",
        "directory not empty",
        "cannot remove a running container",
        "is already in progress",
    ];
    match error.class() {
        Class::Conflict => true,
        Class::Internal => {
            let text = error.to_string().to_lowercase();
            DYING.iter().any(|words| text.contains(words))
        }
        _ => false,
    }
}

/// Whether the OCI runtime failed over a negative OOM score. Newer ones say so. runc 1.1 writes the
/// score before it can report, so all that Docker sees is that its first child went away; that is
/// taken for this failure only where we lack CAP_SYS_RESOURCE ourselves.
fn forbids_negative_oom_score(text: &str, lacks_sys_resource: bool) -> bool {
    let text = text.to_lowercase();
    let told = text.contains("oom_score_adj") && text.contains("permission denied");
    told || (lacks_sys_resource && text.contains("final child's pid from pipe"))
}

/// Whether our effective capabilities lack CAP_SYS_RESOURCE, from the text of
/// `/proc/self/status`; not when it can't be told.
pub(crate) fn lacks_sys_resource(proc_status: &str) -> bool {
    const SYS_RESOURCE: u32 = 24;
    let line = proc_status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"));
    let bits = line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    bits.is_some_and(|bits| bits >> SYS_RESOURCE & 1 == 0)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Freed {
    Yes,
    No,
}

/// A number that differs from call to call; only has to avoid a name in use.
fn random() -> u32 {
    use std::hash::{BuildHasher as _, RandomState};
    let bytes = RandomState::new().hash_one(0_u8).to_ne_bytes();
    u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

#[cfg(test)]
mod tests {
    use super::{forbids_negative_oom_score, lacks_sys_resource, settles};
    use crate::engine::EngineError;

    #[test]
    fn removal_of_what_is_dying_is_tried_again_and_no_other() {
        let error = |status: u16, message: &str| EngineError::Api {
            call: "DELETE /containers/6ad2".to_owned(),
            status,
            message: message.to_owned(),
        };
        // As Docker 20.10 and 26.1 say it.
        for (status, message) in [
            (409, "removal of container 6ad2 is already in progress"),
            (
                500,
                "Could not kill running container 6ad2, cannot remove - tried to kill container, but did \
                 not receive an exit event",
            ),
            (
                500,
                "container 6ad2: driver \"overlay2\" failed to remove root filesystem: unlinkat \
                 /var/lib/docker/overlay2/x/merged: device or resource busy",
            ),
        ] {
            assert!(settles(&error(status, message)), "{message}");
        }
        assert!(!settles(&error(500, "out of order")));
        assert!(!settles(&error(404, "No such container: 6ad2")));
        assert!(!settles(&error(503, "device or resource busy")));
    }

    #[test]
    fn refused_oom_scores_are_known_by_their_texts() {
        let told = "write /proc/self/oom_score_adj: Permission denied";
        let silent = "runc create failed: unable to start container process: can't get final \
                      child's PID from pipe: EOF: unknown";
        assert!(forbids_negative_oom_score(told, false));
        assert!(forbids_negative_oom_score(silent, true));
        assert!(!forbids_negative_oom_score(silent, false));
        assert!(!forbids_negative_oom_score("exec: no such file", true));
    }

    #[test]
    fn capability_is_read_from_the_effective_set() {
        assert!(!lacks_sys_resource(
            "CapPrm:\t0\nCapEff:\t000001ffffffffff\n"
        ));
        assert!(lacks_sys_resource("CapEff:\t00000000a80425fb\n"));
        assert!(!lacks_sys_resource("nothing"));
    }
}
