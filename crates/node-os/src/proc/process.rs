//! Processes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use super::Proc;
use crate::{
    mountinfo::{self, MountInfo, MountInfoError},
    read::{self, ReadError},
};

/// What `/proc/<pid>/stat` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessStat {
    /// The process.
    pub pid: u32,
    /// Its parent; 0 when that is in another pid namespace.
    pub parent: u32,
    /// `R`, `S`, `Z` and so on.
    pub state: char,
    /// When it was started, in clock ticks after the machine's start: with the pid it names one
    /// process for as long as the machine runs.
    pub start_ticks: u64,
}

/// A process' place in one cgroup hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupMembership {
    /// The controllers of the hierarchy (`name=systemd` for a named one), none for version 2.
    pub controllers: Vec<String>,
    /// The group's path, seen from our cgroup namespace.
    pub path: String,
}

/// Memory of this process in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnMemory {
    /// Resident.
    pub rss_bytes: u64,
    /// Resident, shared pages divided by those who share them (DEC-42).
    pub pss_bytes: u64,
}

/// A capability by its bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of capabilities(7)")]
pub enum Capability {
    NetAdmin = 12,
    SysPtrace = 19,
    SysAdmin = 21,
    SysResource = 24,
}

/// A set of capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capabilities {
    /// Whether a capability is in the set.
    pub fn has(self, capability: Capability) -> bool {
        self.0 & (1 << capability as u64) != 0
    }
}

impl Proc {
    /// What the kernel tells of a process.
    ///
    /// # Errors
    /// When it is gone ([`ReadError::is_gone`]).
    pub fn process(&self, pid: u32) -> Result<ProcessStat, ReadError> {
        let path = self.path(&format!("proc/{pid}/stat"));
        let text = read::text(&path)?;
        parse_stat(pid, &text).ok_or_else(|| ReadError::content(&path, &text))
    }

    /// All processes. Those that end during the sweep are left out.
    ///
    /// # Errors
    /// When `/proc` cannot be listed.
    pub fn processes(&self) -> Result<Vec<ProcessStat>, ReadError> {
        let directory = self.path("proc");
        let entries =
            fs::read_dir(&directory).map_err(|error| ReadError::Io(directory.clone(), error))?;
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let mut found = Vec::new();
        for pid in pids {
            match self.process(pid) {
                Ok(process) => found.push(process),
                Err(error) if error.is_gone() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// A process' children, their children and so on, sorted; without the process itself.
    ///
    /// # Errors
    /// When `/proc` cannot be listed.
    pub fn descendants(&self, pid: u32) -> Result<Vec<u32>, ReadError> {
        Ok(compute_descendants(pid, &self.processes()?))
    }

    /// The process' groups, one per hierarchy.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cgroups(&self, pid: u32) -> Result<Vec<CgroupMembership>, ReadError> {
        let text = read::text(&self.path(&format!("proc/{pid}/cgroup")))?;
        Ok(text.lines().filter_map(parse_membership).collect())
    }

    /// The mounts of a process.
    ///
    /// # Errors
    /// When it is gone, or the kernel writes what we do not know.
    pub fn mounts(&self, pid: u32) -> Result<Vec<MountInfo>, MountInfoError> {
        mountinfo::read(&self.path(&format!("proc/{pid}/mountinfo")))
    }

    /// The effective capabilities of this process.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn own_capabilities(&self) -> Result<Capabilities, ReadError> {
        let path = self.path("proc/self/status");
        let text = read::text(&path)?;
        text.lines()
            .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok())
            .map(Capabilities)
            .ok_or_else(|| ReadError::content(&path, "no CapEff"))
    }

    /// Memory of this process.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn own_memory(&self) -> Result<OwnMemory, ReadError> {
        let path = self.path("proc/self/smaps_rollup");
        let text = read::text(&path)?;
        let bytes = |name: &str| -> Option<u64> {
            let value = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            Some(
                value
                    .split_whitespace()
                    .next()?
                    .parse::<u64>()
                    .ok()?
                    .saturating_mul(1024),
            )
        };
        bytes("Rss")
            .zip(bytes("Pss"))
            .map(|(rss_bytes, pss_bytes)| OwnMemory {
                rss_bytes,
                pss_bytes,
            })
            .ok_or_else(|| ReadError::content(&path, &text))
    }
}

/// The name in field 2 may hold anything, so counting starts behind the last parenthesis.
fn parse_stat(pid: u32, text: &str) -> Option<ProcessStat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(ProcessStat {
        pid,
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

fn parse_membership(line: &str) -> Option<CgroupMembership> {
    let mut parts = line.splitn(3, ':').skip(1);
    let controllers = parts.next()?.split(',').filter(|name| !name.is_empty());
    Some(CgroupMembership {
        controllers: controllers.map(str::to_owned).collect(),
        path: parts.next()?.to_owned(),
    })
}

fn compute_descendants(pid: u32, processes: &[ProcessStat]) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for process in processes {
        children
            .entry(process.parent)
            .or_default()
            .push(process.pid);
    }
    let mut found = BTreeSet::new();
    let mut left = vec![pid];
    while let Some(parent) = left.pop() {
        for child in children.get(&parent).into_iter().flatten() {
            // A number may have been given anew during the sweep, which could close a circle.
            if *child != pid && found.insert(*child) {
                left.push(*child);
            }
        }
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent: u32) -> ProcessStat {
        ProcessStat {
            pid,
            parent,
            state: 'S',
            start_ticks: 0,
        }
    }

    #[test]
    fn name_with_parentheses_does_not_shift_the_fields() {
        let text = "7 (a) (b) S 3 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4200 0 0";
        let stat = parse_stat(7, text).unwrap();
        assert_eq!((stat.parent, stat.state, stat.start_ticks), (3, 'S', 4200));
        assert_eq!(parse_stat(7, "7 (x"), None);
    }

    #[test]
    fn descendants_are_found_at_any_depth_and_circles_end() {
        let all = [
            process(1, 0),
            process(5, 1),
            process(6, 5),
            process(7, 6),
            process(8, 1),
        ];
        assert_eq!(compute_descendants(5, &all), [6, 7]);
        let circle = [process(5, 6), process(6, 5)];
        assert_eq!(compute_descendants(5, &circle), [6]);
    }

    #[test]
    fn memberships_of_all_versions() {
        assert_eq!(
            parse_membership("4:cpu,cpuacct:/docker/x:y").unwrap(),
            CgroupMembership {
                controllers: vec!["cpu".to_owned(), "cpuacct".to_owned()],
                path: "/docker/x:y".to_owned()
            }
        );
        assert_eq!(
            parse_membership("0::/").unwrap().controllers,
            Vec::<String>::new()
        );
    }
}
