//! The processes of one command (INI-03): a process group of its own, so that one call reaches all of them, orphans
//! included (KIL-04), and nobody else: containers started by a command are in sessions of their own (INI-11).
//!
//! On a terminal with `--raw` a group of its own would be in the background and could not read the keyboard. There
//! a command stays in our group, and its processes are found by parentage in `/proc` (KIL-05), within our group.

use std::fs;

use rustix::process::{self as kernel, Pid};

use crate::signal::Signal;

/// How to reach a command's processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProcessGroup {
    /// The first process leads a group of its own.
    Own(Pid),
    /// The first process is in our group.
    Shared(Pid),
}

impl ProcessGroup {
    pub(crate) fn leader(self) -> Pid {
        match self {
            Self::Own(pid) | Self::Shared(pid) => pid,
        }
    }

    /// Sends a signal to all of them. Processes that are gone are fine.
    pub(crate) fn send(self, signal: Signal) {
        let Some(signal) = kernel::Signal::from_named_raw(signal.as_raw()) else {
            return;
        };
        match self {
            Self::Own(pid) => {
                let _ = kernel::kill_process_group(pid, signal);
            }
            Self::Shared(pid) => {
                // Children before parents, as upstream.
                for pid in descendants(pid, &read_processes()).into_iter().rev() {
                    let _ = kernel::kill_process(pid, signal);
                }
            }
        }
    }

    /// Whether none of them is left, the leader being known to be. A number is not given to a new group so soon
    /// after the last member has gone that this could mean strangers: the kernel hands numbers out in turn.
    pub(crate) fn is_empty(self) -> bool {
        match self {
            Self::Own(pid) => kernel::test_kill_process_group(pid).is_err(),
            Self::Shared(_) => true,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    group: i32,
}

fn read_processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            parse_stat(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
        })
        .collect()
}

/// `pid (name) state parent group ...`; the name may hold anything, parentheses too.
fn parse_stat(pid: i32, stat: &str) -> Option<Process> {
    let mut fields = stat[stat.rfind(')')? + 1..]
        .split_ascii_whitespace()
        .skip(1);
    Some(Process {
        pid,
        parent: fields.next()?.parse().ok()?,
        group: fields.next()?.parse().ok()?,
    })
}

/// `root` and all below it that are in the same group as it, parents before children.
fn descendants(root: Pid, processes: &[Process]) -> Vec<Pid> {
    let mut found = vec![root];
    let group = processes
        .iter()
        .find(|process| process.pid == root.as_raw_nonzero().get())
        .map(|process| process.group);
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|pid| pid.as_raw_nonzero().get()) {
        found.extend(
            processes
                .iter()
                .filter(|process| process.parent == parent && Some(process.group) == group)
                .filter_map(|process| Pid::from_raw(process.pid)),
        );
        next += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_past_a_strange_name() {
        let stat = "42 (a) b (c)) S 7 40 40 0 -1";
        assert_eq!(
            parse_stat(42, stat),
            Some(Process {
                pid: 42,
                parent: 7,
                group: 40
            })
        );
        assert_eq!(parse_stat(42, ""), None);
    }

    #[test]
    fn only_descendants_of_the_same_group_are_found() {
        let process = |pid, parent, group| Process { pid, parent, group };
        let processes = [
            process(10, 1, 5),
            process(11, 10, 5),
            process(12, 11, 5),
            // In a group of its own, and a stranger.
            process(13, 11, 13),
            process(14, 1, 5),
        ];
        let found = descendants(Pid::from_raw(10).unwrap(), &processes);
        let found: Vec<i32> = found.iter().map(|pid| pid.as_raw_nonzero().get()).collect();
        assert_eq!(found, [10, 11, 12]);
    }
}
