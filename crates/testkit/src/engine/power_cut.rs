//! What is left to die once dockerd is dead, and what does not outlive a machine.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use rustix::{
    mount::{UnmountFlags, unmount},
    process::{Pid, Signal, kill_process},
};

/// How long the killed may take to be gone.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
struct Process {
    parent: i32,
    command_line: String,
}

/// Kills whoever works in `directory`, the clean-up's keeper excepted, and all that descends from
/// its shims, until nobody is left.
pub(super) fn kill_all(directory: &Path) {
    crate::eventually(PATIENCE, || {
        let doomed = doomed(&processes(), &format!("{}/", directory.display()));
        for pid in &doomed {
            if let Some(pid) = Pid::from_raw(*pid) {
                // It may have ended meanwhile.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        if doomed.is_empty() {
            Ok(())
        } else {
            Err(format!("{doomed:?} live"))
        }
    });
}

/// Unmounts all below `directory` and empties the exec root, which is on a tmpfs elsewhere.
pub(super) fn forget_run_time_state(directory: &Path, exec_root: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let below = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let below: Vec<&str> = below
        .filter(|mount| Path::new(mount).starts_with(directory))
        .collect();
    for mount in below.iter().rev() {
        // The death of its container may have unmounted it.
        let _ = unmount(*mount, UnmountFlags::DETACH);
    }
    fs::remove_dir_all(exec_root).expect("it is ours");
}

/// Living processes by their number.
fn processes() -> BTreeMap<i32, Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let read = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut after_name = stat.rsplit(") ").next()?.split(' ');
        let (state, parent) = (after_name.next()?, after_name.next()?);
        let command_line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        (state != "Z").then_some(())?;
        Some(Process {
            parent: parent.parse().ok()?,
            command_line: String::from_utf8_lossy(&command_line).into_owned(),
        })
    };
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, read(pid)?)))
        .collect()
}

fn doomed(all: &BTreeMap<i32, Process>, directory: &str) -> Vec<i32> {
    let works_there = |process: &Process| {
        process.command_line.contains(directory) && !process.command_line.contains("keeper.sh")
    };
    all.iter()
        .filter(|(_, process)| works_there(process) || is_below_shim(all, process, directory))
        .map(|(pid, _)| *pid)
        .collect()
}

fn is_below_shim(all: &BTreeMap<i32, Process>, process: &Process, directory: &str) -> bool {
    let ancestors = std::iter::successors(all.get(&process.parent), |one| all.get(&one.parent));
    // Bounded, since a parent's number may have been used again between two reads.
    ancestors.take(64).any(|one| {
        one.command_line.contains(directory) && one.command_line.contains("containerd-shim")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_die_with_their_engine_and_nobody_else() {
        let process = |parent: i32, command_line: &str| Process {
            parent,
            command_line: command_line.to_owned(),
        };
        let all = BTreeMap::from([
            (1, process(0, "init")),
            (2, process(1, "sh\0/tmp/e/keeper.sh\0/tmp/e")),
            (3, process(1, "containerd\0--config\0/tmp/e/x")),
            (4, process(1, "containerd-shim\0-address\0/tmp/e/x")),
            (5, process(4, "/pause")),
            (6, process(5, "sleep")),
            (7, process(1, "containerd-shim\0-address\0/tmp/e2/x")),
            (8, process(7, "/pause")),
        ]);
        assert_eq!(doomed(&all, "/tmp/e/"), [3, 4, 5, 6]);
    }
}
