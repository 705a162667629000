//! Groups made and changed through the cgroup file systems.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process},
};

use super::{
    CgroupDetails, CgroupError, CgroupPath, CgroupStats, Cgroups, Hierarchies, Resources, Version,
    details, stats,
    writes::{Write, plan_writes, resources_from},
};
use crate::read::{self, ReadError};

/// What upstream enables for its groups (CG-04).
const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "memory", "hugetlb", "pids"];
/// Without these a limit that was asked for is an error; others are given up.
const ESSENTIAL: [&str; 2] = ["cpu", "memory"];
/// Rounds of killing before a group counts as busy (CG-05).
const KILL_ROUNDS: u32 = 5;
/// How long the first round waits for what it killed; each further one waits twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The cgroupfs driver.
#[derive(Debug, Clone)]
pub struct CgroupFs {
    hierarchies: Hierarchies,
}

impl CgroupFs {
    /// Works on these hierarchies.
    pub fn new(hierarchies: Hierarchies) -> Self {
        Self { hierarchies }
    }

    /// Works on the hierarchies that this process sees.
    ///
    /// # Errors
    /// When no cgroups are mounted.
    pub fn open() -> Result<Self, CgroupError> {
        let mounts = crate::mountinfo::read_own().map_err(|_| CgroupError::NotMounted)?;
        Hierarchies::detect(&mounts).map(Self::new)
    }

    /// The hierarchies.
    pub fn hierarchies(&self) -> &Hierarchies {
        &self.hierarchies
    }

    /// The directory of a group for a controller, if that is there.
    pub fn directory(&self, controller: &str, group: &CgroupPath) -> Option<PathBuf> {
        self.hierarchies
            .controller(controller)
            .map(|root| group.below(root))
    }

    /// As [`Cgroups::stats`] without looking first whether the group is there: empty when it is not.
    /// For sweeps over many groups.
    ///
    /// # Errors
    /// When a file that is there cannot be read.
    pub fn usage(&self, group: &CgroupPath) -> Result<CgroupStats, ReadError> {
        stats::read_stats(self.hierarchies.version(), |controller| {
            self.directory(controller, group)
        })
    }

    /// What metrics show of a group beyond [`Self::usage`]; nothing for a group that is not there.
    ///
    /// # Errors
    /// When a file that is there cannot be read.
    pub fn details(&self, group: &CgroupPath) -> Result<CgroupDetails, ReadError> {
        details::read_details(self.hierarchies.version(), |controller| {
            self.directory(controller, group)
        })
    }

    /// How many processes of a group and of those below it were killed for want of memory. `None`
    /// where the kernel does not tell: version 1 counts each group alone.
    pub fn memory_kills(&self, group: &CgroupPath) -> Option<u64> {
        let file = self.directory("memory", group)?.join("memory.events");
        details::memory_kills(&read::optional_text(&file).ok()??)
    }

    /// The group's directory in each hierarchy.
    fn directories(&self, group: &CgroupPath) -> Vec<PathBuf> {
        self.hierarchies
            .roots()
            .into_iter()
            .map(|root| group.below(root))
            .collect()
    }

    fn make(&self, group: &CgroupPath) -> Result<(), CgroupError> {
        match self.hierarchies.version() {
            Version::V1 => {
                for directory in self.directories(group) {
                    make_directory(&directory)?;
                }
                if let Some(root) = self.hierarchies.controller("cpuset") {
                    for pair in group.lineage().windows(2) {
                        inherit_cpuset(&pair[0].below(root), &pair[1].below(root))?;
                    }
                }
            }
            Version::V2 => {
                let Some(root) = self.hierarchies.unified() else {
                    return Err(CgroupError::NotMounted);
                };
                for pair in group.lineage().windows(2) {
                    enable_controllers(&pair[0].below(root))?;
                    make_directory(&pair[1].below(root))?;
                }
            }
        }
        Ok(())
    }

    /// Whether a controller's files are in the group.
    fn has(&self, controller: &str, directory: &Path) -> bool {
        match self.hierarchies.version() {
            Version::V1 => true,
            Version::V2 => {
                controller == "unified"
                    || read::text(&directory.join("cgroup.controllers"))
                        .is_ok_and(|text| text.split_whitespace().any(|word| word == controller))
            }
        }
    }

    fn write_all(
        &self,
        group: &CgroupPath,
        resources: &Resources,
    ) -> Result<Vec<&'static str>, CgroupError> {
        let mut given_up = BTreeSet::new();
        for write in plan_writes(self.hierarchies.version(), resources) {
            let directory = self
                .directory(write.controller, group)
                .filter(|directory| self.has(write.controller, directory));
            let Some(directory) = directory else {
                let controller = write.controller;
                if ESSENTIAL.contains(&controller) {
                    return Err(CgroupError::NoController {
                        group: group.clone(),
                        controller,
                    });
                }
                given_up.insert(controller);
                continue;
            };
            match put(&directory, &write) {
                Err(CgroupError::Write { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && is_optional(&write) =>
                {
                    given_up.insert(write.controller);
                }
                // Version 1 refuses a period that does not fit the quota still in force.
                Err(CgroupError::Write { source, .. })
                    if write.file == "cpu.cfs_period_us"
                        && source.kind() == io::ErrorKind::InvalidInput =>
                {
                    let lift = Write {
                        controller: "cpu",
                        file: "cpu.cfs_quota_us".to_owned(),
                        value: "-1".to_owned(),
                    };
                    put(&directory, &lift)?;
                    put(&directory, &write)?;
                }
                outcome => outcome?,
            }
        }
        Ok(given_up.into_iter().collect())
    }

    fn require(&self, group: &CgroupPath) -> Result<(), CgroupError> {
        if self.exists(group) {
            Ok(())
        } else {
            Err(CgroupError::NotFound(group.clone()))
        }
    }
}

impl Cgroups for CgroupFs {
    fn version(&self) -> Version {
        self.hierarchies.version()
    }

    fn controllers(&self) -> Vec<String> {
        match self.hierarchies.version() {
            Version::V1 => self
                .hierarchies
                .v1_controllers()
                .map(str::to_owned)
                .collect(),
            Version::V2 => self
                .hierarchies
                .unified()
                .and_then(|root| read::text(&root.join("cgroup.controllers")).ok())
                .map(|text| text.split_whitespace().map(str::to_owned).collect())
                .unwrap_or_default(),
        }
    }

    fn create(
        &self,
        group: &CgroupPath,
        resources: &Resources,
    ) -> Result<Vec<&'static str>, CgroupError> {
        self.make(group)?;
        self.write_all(group, resources)
    }

    fn apply(
        &self,
        group: &CgroupPath,
        resources: &Resources,
    ) -> Result<Vec<&'static str>, CgroupError> {
        self.require(group)?;
        self.write_all(group, resources)
    }

    fn read(&self, group: &CgroupPath) -> Result<Resources, CgroupError> {
        self.require(group)?;
        Ok(resources_from(
            self.hierarchies.version(),
            |controller, file| {
                let path = self.directory(controller, group)?.join(file);
                read::text(&path).ok()
            },
        ))
    }

    fn stats(&self, group: &CgroupPath) -> Result<CgroupStats, CgroupError> {
        self.require(group)?;
        Ok(self.usage(group)?)
    }

    fn exists(&self, group: &CgroupPath) -> bool {
        let mut needed = CONTROLLERS
            .iter()
            .filter_map(|name| self.directory(name, group))
            .peekable();
        needed.peek().is_some() && needed.all(|directory| directory.is_dir())
    }

    fn remove(&self, group: &CgroupPath) -> Result<(), CgroupError> {
        let directories = self.directories(group);
        let mut pause = FIRST_PAUSE;
        for _ in 0..KILL_ROUNDS {
            for pid in self.pids(group)? {
                kill(pid);
            }
            match directories
                .iter()
                .try_for_each(|directory| remove_tree(directory))
            {
                Ok(()) => return Ok(()),
                Err(CgroupError::Remove(_, error))
                    if error.kind() == io::ErrorKind::ResourceBusy => {}
                Err(error) => return Err(error),
            }
            // What was killed leaves its group when it is dead, and the kernel tells nobody in
            // version 1.
            thread::sleep(pause);
            pause *= 2;
        }
        let left = self.pids(group)?;
        match directories
            .iter()
            .try_for_each(|directory| remove_tree(directory))
        {
            Err(_) if !left.is_empty() => Err(CgroupError::Busy {
                group: group.clone(),
                pids: left,
            }),
            outcome => outcome,
        }
    }

    fn children(&self, group: &CgroupPath) -> Result<Vec<String>, CgroupError> {
        let mut names = BTreeSet::new();
        for directory in self.directories(group) {
            for child in subdirectories(&directory)? {
                if let Some(name) = child.file_name() {
                    names.insert(name.to_string_lossy().into_owned());
                }
            }
        }
        Ok(names.into_iter().collect())
    }

    fn pids(&self, group: &CgroupPath) -> Result<Vec<u32>, CgroupError> {
        let mut pids = BTreeSet::new();
        for directory in self.directories(group) {
            collect_pids(&directory, &mut pids)?;
        }
        Ok(pids.into_iter().collect())
    }
}

/// Limits that a kernel may lack the file for without harm to a pod.
fn is_optional(write: &Write) -> bool {
    write.controller == "hugetlb" || write.file == "memory.oom.group"
}

fn put(directory: &Path, write: &Write) -> Result<(), CgroupError> {
    let path = directory.join(&write.file);
    // Opened without creating: in a real hierarchy the kernel makes the files.
    let outcome = fs::OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(&path);
    outcome
        .and_then(|mut file| io::Write::write_all(&mut file, write.value.as_bytes()))
        .map_err(|source| CgroupError::Write {
            path,
            value: write.value.clone(),
            source,
        })
}

fn make_directory(path: &Path) -> Result<(), CgroupError> {
    fs::create_dir_all(path).map_err(|error| CgroupError::Create(path.to_owned(), error))
}

/// Version 1: a new group has no CPUs and memory nodes, and nothing may run in it before it has.
fn inherit_cpuset(parent: &Path, child: &Path) -> Result<(), CgroupError> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let Some(own) = read::optional_text(&child.join(file))? else {
            continue;
        };
        if own.trim().is_empty() {
            let value = read::text(&parent.join(file))?.trim().to_owned();
            put(
                child,
                &Write {
                    controller: "cpuset",
                    file: file.to_owned(),
                    value,
                },
            )?;
        }
    }
    Ok(())
}

/// Version 2: lets the children of a group have the controllers of CG-04 that it has itself.
fn enable_controllers(directory: &Path) -> Result<(), CgroupError> {
    let words = |file: &str| -> Result<BTreeSet<String>, ReadError> {
        let text = read::text(&directory.join(file))?;
        Ok(text.split_whitespace().map(str::to_owned).collect())
    };
    let available = words("cgroup.controllers")?;
    let enabled = words("cgroup.subtree_control")?;
    // One by one: the kernel refuses all of a line for one that cannot be had.
    for controller in CONTROLLERS {
        if available.contains(controller) && !enabled.contains(controller) {
            let write = Write {
                controller,
                file: "cgroup.subtree_control".to_owned(),
                value: format!("+{controller}"),
            };
            put(directory, &write)?;
        }
    }
    Ok(())
}

fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // Its end, or our failure to bring it about, shows in the next round.
    if let Some(pid) = pid {
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn subdirectories(directory: &Path) -> Result<Vec<PathBuf>, CgroupError> {
    let failed = |error| CgroupError::Read(ReadError::Io(directory.to_owned(), error));
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if read::is_gone(&error) => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn collect_pids(directory: &Path, pids: &mut BTreeSet<u32>) -> Result<(), CgroupError> {
    match read::optional_text(&directory.join("cgroup.procs")) {
        Ok(text) => {
            pids.extend(
                text.unwrap_or_default()
                    .lines()
                    .filter_map(|l| l.parse::<u32>().ok()),
            );
        }
        // A threaded group of version 2 has its processes listed by the group above it.
        Err(ReadError::Io(_, error))
            if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => {}
        Err(error) => return Err(error.into()),
    }
    // A process of another pid namespace is listed as 0 and cannot be killed from here.
    pids.remove(&0);
    for child in subdirectories(directory)? {
        collect_pids(&child, pids)?;
    }
    Ok(())
}

fn remove_tree(directory: &Path) -> Result<(), CgroupError> {
    for child in subdirectories(directory)? {
        remove_tree(&child)?;
    }
    match fs::remove_dir(directory) {
        Err(error) if !read::is_gone(&error) => {
            Err(CgroupError::Remove(directory.to_owned(), error))
        }
        _ => Ok(()),
    }
}
