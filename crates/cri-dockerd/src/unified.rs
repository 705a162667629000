//! Files of a container's cgroup that kubelets set by their names (CRI `unified`): memory.oom.group,
//! memory.swap.max, memory.high and the like, of version 2. Docker has no word for them, so they are kept
//! in a label of the container and written beside Docker: after a start, and after an update, with which
//! the OCI runtime and systemd write limits anew, these among them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, io};

use daemon::ErrorChain;
use node_os::cgroups::{CgroupError, CgroupFs, CgroupPath, Cgroups as _, Resources, Version};
use node_os::proc::Proc;

use crate::cgroup::{self, CgroupDriver};
use crate::invalid::Invalid;
use crate::state::Record;

/// Values by the names of files.
pub(crate) type Files = BTreeMap<String, String>;

/// What the files of limits begin with. Others (`cgroup.procs`, `cgroup.freeze`) are Docker's to write.
const CONTROLLERS: [&str; 8] = [
    "cpu", "cpuset", "hugetlb", "io", "memory", "misc", "pids", "rdma",
];

/// Refuses what names no limit of the container's own group.
///
/// # Errors
/// [`Invalid`], with the name.
pub(crate) fn check(files: &Files) -> Result<(), Invalid> {
    for (file, value) in files {
        let controller = file.split_once('.').map(|(controller, _)| controller);
        let known = controller.is_some_and(|controller| CONTROLLERS.contains(&controller));
        if !known || file.contains('/') || file.contains(char::is_control) {
            return Err(Invalid(format!(
                "unified: {file:?} names no limit: use a file of {}",
                CONTROLLERS.join(", ")
            )));
        }
        if value.contains('\0') {
            return Err(Invalid(format!("unified: {file:?} has a zero byte")));
        }
    }
    Ok(())
}

/// Whether files were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// They were, or there is nothing to write them to: version 1, no files.
    Done,
    /// The container's group is not to be seen from here, or is read-only.
    OutOfSight,
}

/// Writes the files of containers.
#[derive(Debug)]
pub(crate) struct Unified {
    cgroups: Option<Arc<CgroupFs>>,
    proc: Proc,
    has_warned: AtomicBool,
}

impl Unified {
    /// Into these hierarchies, if any are there, with the help of this `/proc`.
    pub(crate) fn new(cgroups: Option<CgroupFs>, proc: Proc) -> Self {
        Self {
            cgroups: cgroups.map(Arc::new),
            proc,
            has_warned: AtomicBool::new(false),
        }
    }

    /// Into this machine's. Blocks.
    pub(crate) fn open() -> Self {
        Self::new(CgroupFs::open().ok(), Proc::new())
    }

    /// Writes `files` into the group of a container; one that fails keeps none of the others back.
    ///
    /// # Errors
    /// The first failure.
    pub(crate) async fn write(
        &self,
        record: &Record,
        driver: Option<CgroupDriver>,
        files: &Files,
    ) -> Result<Written, CgroupError> {
        if files.is_empty() {
            return Ok(Written::Done);
        }
        let Some(cgroups) = self.cgroups.clone() else {
            return Ok(Written::OutOfSight);
        };
        if cgroups.version() == Version::V1 {
            return Ok(Written::Done);
        }
        let (files, target) = (files.clone(), self.target(record, driver));
        daemon::blocking(move || match target.find(&cgroups) {
            Some(group) => write(&cgroups, &group, files),
            None => Ok(Written::OutOfSight),
        })
        .await
    }

    /// The files that a container was made with, as they are now; as they were asked for where that
    /// can't be read.
    pub(crate) async fn current(&self, record: &Record, driver: Option<CgroupDriver>) -> Files {
        let asked = record.container().map(|facts| facts.unified.clone());
        let mut files = asked.unwrap_or_default();
        let cgroups = self.cgroups.clone().filter(|_| !files.is_empty());
        let Some(cgroups) = cgroups.filter(|cgroups| cgroups.version() == Version::V2) else {
            return files;
        };
        let target = self.target(record, driver);
        daemon::blocking(move || {
            let group = target.find(&cgroups);
            // All controllers are in one directory.
            let directory = group.and_then(|group| cgroups.directory("memory", &group));
            if let Some(directory) = directory {
                for (file, value) in &mut files {
                    if let Ok(text) = fs::read_to_string(directory.join(file)) {
                        text.trim().clone_into(value);
                    }
                }
            }
            files
        })
        .await
    }

    fn target(&self, record: &Record, driver: Option<CgroupDriver>) -> Target {
        let parent = &record.cgroup_parent;
        Target {
            proc: self.proc.clone(),
            named: driver.and_then(|driver| cgroup::of_container(driver, parent, &record.id)),
            id: record.id.clone(),
            pid: record.pid().and_then(|pid| u32::try_from(pid).ok()),
        }
    }

    /// Says once that files can't be written from here.
    pub(crate) fn warn_out_of_sight(&self, id: &str) {
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                container.id = id,
                "cgroups of containers can't be written from here: memory.oom.group, limits of swap and \
                 the like, which docker can't set, have no effect (said once)"
            );
        }
    }
}

/// A container whose group is looked for.
struct Target {
    proc: Proc,
    named: Option<CgroupPath>,
    id: String,
    pid: Option<u32>,
}

impl Target {
    /// By name, else by its process. Blocks.
    fn find(self, cgroups: &CgroupFs) -> Option<CgroupPath> {
        let is_there = |group: &CgroupPath| cgroups.exists(group);
        self.named.filter(is_there).or_else(|| {
            let memberships = self.proc.cgroups(self.pid?).ok()?;
            cgroup::of_process(&memberships, &self.id).filter(is_there)
        })
    }
}

fn write(cgroups: &CgroupFs, group: &CgroupPath, files: Files) -> Result<Written, CgroupError> {
    let mut result = Ok(Written::Done);
    for (file, value) in files {
        let resources = Resources {
            unified: BTreeMap::from([(file, value)]),
            ..Resources::default()
        };
        match cgroups.apply(group, &resources) {
            Ok(_) => {}
            // It has ended meanwhile.
            Err(CgroupError::NotFound(_)) => break,
            Err(CgroupError::Write { source, .. }) if is_forbidden(&source) => {
                return Ok(Written::OutOfSight);
            }
            Err(error) => {
                tracing::warn!(%group, error = %ErrorChain(&error), "can't set a limit of a container");
                if result.is_ok() {
                    result = Err(error);
                }
            }
        }
    }
    result
}

/// The group may be seen only, as where `/sys/fs/cgroup` is mounted read-only.
fn is_forbidden(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use node_os::cgroups::Hierarchies;

    use super::*;
    use crate::state::tests::running;
    use crate::state::{Life, Role};

    const PARENT: &str = "/kubepods/pod1";

    /// Version 2 in a directory, with the group of container `c` at `group`.
    struct Host {
        dir: tempfile::TempDir,
        group: PathBuf,
        unified: Unified,
    }

    impl Host {
        fn new(group: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().join("cgroup");
            let group = root.join(group);
            fs::create_dir_all(&group).unwrap();
            for file in ["memory.oom.group", "memory.swap.max", "cgroup.procs"] {
                fs::write(group.join(file), "as it was").unwrap();
            }
            let cgroups = CgroupFs::new(Hierarchies::v2(root));
            let unified = Unified::new(Some(cgroups), Proc::at(dir.path()));
            Self {
                dir,
                group,
                unified,
            }
        }

        fn has_process_in(&self, group: &str) {
            let process = self.dir.path().join("proc/7");
            fs::create_dir_all(&process).unwrap();
            fs::write(process.join("cgroup"), format!("0::{group}\n")).unwrap();
        }

        async fn write(&self, files: &Files) -> Result<Written, CgroupError> {
            let driver = Some(CgroupDriver::Cgroupfs);
            self.unified.write(&container(), driver, files).await
        }

        fn reads(&self, file: &str) -> String {
            fs::read_to_string(self.group.join(file)).unwrap()
        }
    }

    /// A container that runs as process 7.
    fn container() -> Record {
        let mut record = running();
        record.cgroup_parent = PARENT.to_owned();
        if let Life::Running { pid, .. } = &mut record.life {
            *pid = 7;
        }
        record
    }

    fn files<const N: usize>(pairs: [(&str, &str); N]) -> Files {
        pairs
            .map(|(file, value)| (file.to_owned(), value.to_owned()))
            .into()
    }

    #[tokio::test]
    async fn files_are_written_into_the_containers_own_group() {
        let host = Host::new("kubepods/pod1/c");
        let wanted = files([("memory.oom.group", "1"), ("memory.swap.max", "0")]);
        assert_eq!(host.write(&wanted).await.unwrap(), Written::Done);
        assert_eq!(host.reads("memory.oom.group"), "1");
        assert_eq!(host.reads("memory.swap.max"), "0");
        assert_eq!(host.write(&Files::new()).await.unwrap(), Written::Done);
    }

    #[tokio::test]
    async fn what_a_container_was_made_with_is_read_as_it_is_now() {
        let host = Host::new("kubepods/pod1/c");
        let mut record = container();
        let Role::Container(facts) = &mut record.role else {
            panic!("a container");
        };
        facts.unified = files([("memory.swap.max", "0"), ("memory.high", "7")]);
        // An update has come in between.
        host.write(&files([("memory.swap.max", "9\n")]))
            .await
            .unwrap();
        let driver = Some(CgroupDriver::Cgroupfs);
        let now = host.unified.current(&record, driver).await;
        let expected = files([("memory.swap.max", "9"), ("memory.high", "7")]);
        assert_eq!(now, expected, "as asked for where there is no file");
        assert_eq!(
            host.unified.current(&container(), driver).await,
            Files::new()
        );
    }

    #[tokio::test]
    async fn group_that_is_elsewhere_is_found_by_the_process_and_else_out_of_sight() {
        let host = Host::new("other/docker-c.scope");
        let wanted = files([("memory.oom.group", "1")]);
        assert_eq!(host.write(&wanted).await.unwrap(), Written::OutOfSight);
        host.has_process_in("/other/docker-c.scope/init");
        assert_eq!(host.write(&wanted).await.unwrap(), Written::Done);
        assert_eq!(host.reads("memory.oom.group"), "1");
        // Another's process by now.
        host.has_process_in("/other");
        assert_eq!(host.write(&wanted).await.unwrap(), Written::OutOfSight);
        let blind = Unified::new(None, Proc::at(host.dir.path()));
        let seen = blind.write(&running(), None, &wanted).await.unwrap();
        assert_eq!(seen, Written::OutOfSight);
    }

    #[tokio::test]
    async fn file_that_the_kernel_has_not_got_keeps_the_others_not_back() {
        let host = Host::new("kubepods/pod1/c");
        let wanted = files([("memory.high", "7"), ("memory.swap.max", "max")]);
        let error = host.write(&wanted).await.unwrap_err();
        assert!(error.to_string().contains("memory.high"), "{error}");
        assert_eq!(host.reads("memory.swap.max"), "max");
        assert!(!host.group.join("memory.high").exists());
    }

    #[test]
    fn only_files_of_limits_are_taken() {
        for file in ["memory.high", "cpu.weight", "hugetlb.2MB.max", "io.max"] {
            assert_eq!(check(&files([(file, "1")])), Ok(()), "{file}");
        }
        for file in [
            "",
            "memory",
            "cgroup.procs",
            "cgroup.freeze",
            "memory./../x",
            "../memory.max",
            "memory.a/b",
            "memory.x\n",
        ] {
            let text = check(&files([(file, "1")])).unwrap_err().to_string();
            assert!(text.contains(&format!("{file:?}")), "{text}");
        }
    }
}
