//! Which containers the memory limit ended, where Docker does not say so (STS-13).
//!
//! containerd hears of it from the container's own group, which goes with the container: on a busy
//! machine too late, and then Docker keeps `OOMKilled` at false. The pod's group stays, and on
//! cgroup v2 counts what was killed anywhere below it. So the count is noted before a container is
//! started. Version 1 counts in the container's own group alone (`memcg_memory_event` of the kernel);
//! there the kernel's log, which names the group of each victim (of ten in five seconds at most), is read when
//! such a container ends.

use std::path::PathBuf;
use std::sync::Arc;

use node_os::cgroups::CgroupFs;
use node_os::kernel_log;

use crate::cgroup::{self, CgroupDriver};
use crate::state::{Life, Record};

/// How a container ends whose first process got SIGKILL.
const KILLED: i32 = 137;

/// Reads the counts of pods, and the kernel's log.
#[derive(Debug, Clone)]
pub(crate) struct PodKills {
    cgroups: Option<Arc<CgroupFs>>,
    log: PathBuf,
}

impl PodKills {
    /// From these hierarchies, if any are there, and this log.
    pub(crate) fn new(cgroups: Option<CgroupFs>, log: PathBuf) -> Self {
        Self {
            cgroups: cgroups.map(Arc::new),
            log,
        }
    }

    /// From this machine's. Blocks.
    pub(crate) fn open() -> Self {
        Self::new(CgroupFs::open().ok(), kernel_log::DEVICE.into())
    }

    async fn count(&self, driver: Option<CgroupDriver>, parent: &str) -> Option<u64> {
        let group = cgroup::of_pod(driver?, parent)?;
        let cgroups = Arc::clone(self.cgroups.as_ref()?);
        daemon::blocking(move || cgroups.memory_kills(&group)).await
    }

    /// Whether the memory limit killed something of a container that ended, or of its pod where the
    /// kernel counts there; `earlier` is that count before the container ran.
    async fn killed(
        &self,
        record: &Record,
        driver: Option<CgroupDriver>,
        earlier: Option<u64>,
    ) -> bool {
        if let Some(earlier) = earlier {
            let count = self.count(driver, &record.cgroup_parent).await;
            return count.is_some_and(|count| count > earlier);
        }
        let (log, id) = (self.log.clone(), record.id.clone());
        daemon::blocking(move || kernel_log::tells_of_memory_kill(&log, &id)).await
    }

    /// Completes what Docker says of a container. `asked`: Docker was asked to kill it.
    ///
    /// Differs: upstream shows Docker's word alone, and now and then `Error` for a container that
    /// the memory limit ended. On cgroup v2 the count of the pod's group decides too, on v1 what the
    /// kernel's log tells where it can be read: `OOMKilled` is the reason of a container that nobody
    /// asked Docker to kill, that ended with 137, and in whose pod (v2) or in which (v1) a limit killed
    /// something since it was made (STS-13).
    pub(crate) async fn note(
        &self,
        record: &mut Record,
        before: Option<&Record>,
        driver: Option<CgroupDriver>,
        asked: bool,
    ) {
        let earlier = before
            .and_then(Record::container)
            .and_then(|facts| facts.kills_before);
        match (&record.life, before.map(|before| &before.life)) {
            // Of another run, if Docker started it again.
            (Life::Created | Life::Running { .. }, None | Some(Life::Exited { .. })) => {
                let count = self.count(driver, &record.cgroup_parent).await;
                record.note_kills_before(count);
            }
            (Life::Created | Life::Running { .. }, Some(_)) => record.note_kills_before(earlier),
            (life, Some(before)) if ended_at(life) == ended_at(before) => {
                if reason(before) == "OOMKilled" {
                    record.ended_by_memory();
                }
            }
            (Life::Exited { exit_code, .. }, Some(_)) => {
                if *exit_code == KILLED
                    && !asked
                    && reason(&record.life) != "OOMKilled"
                    && self.killed(record, driver, earlier).await
                {
                    record.ended_by_memory();
                }
            }
            // Whether anybody asked is not known.
            (Life::Exited { .. }, None) => {}
        }
    }
}

fn ended_at(life: &Life) -> Option<i64> {
    match life {
        Life::Exited { finished_at, .. } => Some(*finished_at),
        Life::Created | Life::Running { .. } => None,
    }
}

fn reason(life: &Life) -> &'static str {
    match life {
        Life::Exited { reason, .. } => reason,
        Life::Created | Life::Running { .. } => "",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use node_os::cgroups::Hierarchies;

    use super::*;
    use crate::state::tests::{ended, made, running};

    /// A pod's group of version 2 in a directory.
    struct Pod {
        dir: tempfile::TempDir,
        kills: PodKills,
    }

    impl Pod {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("kubepods/pod1")).unwrap();
            let cgroups = CgroupFs::new(Hierarchies::v2(dir.path().to_owned()));
            let kills = PodKills::new(Some(cgroups), dir.path().join("kmsg"));
            let pod = Self { dir, kills };
            pod.has_killed(3);
            pod
        }

        /// As if of version 1: no group counts for those below it.
        fn without_counts() -> Self {
            let pod = Self::new();
            fs::remove_file(pod.dir.path().join("kubepods/pod1/memory.events")).unwrap();
            pod
        }

        /// The kernel logs that it killed something in this group.
        fn has_logged(&self, group: &str) {
            let text = format!("6,9,7,-;oom-kill:oom_memcg=/,task_memcg={group},task=dd,pid=7\n");
            fs::write(self.dir.path().join("kmsg"), text).unwrap();
        }

        fn has_killed(&self, count: u64) {
            let file = self.dir.path().join("kubepods/pod1/memory.events");
            fs::write(file, format!("max 9\noom 1\noom_kill {count}\n")).unwrap();
        }

        /// The next state of a container.
        async fn sees(&self, before: Option<&Record>, mut record: Record, asked: bool) -> Record {
            record.cgroup_parent = "/kubepods/pod1".to_owned();
            let driver = Some(CgroupDriver::Cgroupfs);
            self.kills.note(&mut record, before, driver, asked).await;
            record
        }
    }

    #[tokio::test]
    async fn the_pods_count_tells_what_docker_does_not() {
        let pod = Pod::new();
        for (code, kills, asked, expected) in [
            (137, 4, false, "OOMKilled"),
            (137, 3, false, "Error"),
            (137, 4, true, "Error"),
            (1, 4, false, "Error"),
            (0, 4, false, "Completed"),
        ] {
            pod.has_killed(3);
            let made = pod.sees(None, made(), false).await;
            let running = pod.sees(Some(&made), running(), false).await;
            pod.has_killed(kills);
            for before in [&made, &running] {
                let ended = pod.sees(Some(before), ended(code), asked).await;
                assert_eq!(reason(&ended.life), expected, "{code} {kills} {asked}");
            }
        }
    }

    #[tokio::test]
    async fn where_no_count_is_kept_the_kernels_log_tells() {
        let pod = Pod::without_counts();
        for (code, group, asked, expected) in [
            (137, "/kubepods/pod1/c", false, "OOMKilled"),
            (137, "/kubepods/pod1/77", false, "Error"),
            (137, "/kubepods/pod1/c", true, "Error"),
            (0, "/kubepods/pod1/c", false, "Completed"),
        ] {
            let running = pod.sees(None, running(), false).await;
            pod.has_logged(group);
            let ended = pod.sees(Some(&running), ended(code), asked).await;
            assert_eq!(reason(&ended.life), expected, "{code} {group} {asked}");
        }
    }

    #[tokio::test]
    async fn a_verdict_stays_and_an_end_that_nobody_saw_begin_has_none() {
        let pod = Pod::new();
        let first = pod.sees(None, made(), false).await;
        pod.has_killed(4);
        let dead = pod.sees(Some(&first), ended(137), false).await;
        let again = pod.sees(Some(&dead), ended(137), true).await;
        assert_eq!(again, dead);
        let unseen = pod.sees(None, ended(137), false).await;
        assert_eq!(reason(&unseen.life), "Error");

        // What was killed in an earlier run is not this one's.
        let second = pod.sees(Some(&dead), running(), false).await;
        assert_eq!(second.container().unwrap().kills_before, Some(4));
    }
}
