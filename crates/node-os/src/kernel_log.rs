//! The kernel's log (`/dev/kmsg`, kernel documentation `ABI/testing/dev-kmsg`): read when something is asked
//! of it, never followed.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// Where the log is read.
pub const DEVICE: &str = "/dev/kmsg";
/// More than a log of 16 MiB holds; a kernel that logs without end does not keep us.
const MAX_RECORDS: usize = 200_000;
/// Larger than any record.
const RECORD: usize = 16 << 10;

/// Whether the log at `log` tells of a process that was killed for want of memory in a group whose path
/// has `name` in it. `false` also where the log cannot be read: that takes `CAP_SYSLOG` on most hosts.
pub fn tells_of_memory_kill(log: &Path, name: &str) -> bool {
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let Ok(mut file) = OpenOptions::new()
        .read(true)
        .custom_flags(nonblock)
        .open(log)
    else {
        return false;
    };
    let mut record = vec![0; RECORD];
    for _ in 0..MAX_RECORDS {
        match file.read(&mut record) {
            Ok(0) => return false,
            Ok(length) => {
                let text = String::from_utf8_lossy(&record[..length]);
                if text
                    .lines()
                    .filter_map(killed_in)
                    .any(|group| group.contains(name))
                {
                    return true;
                }
            }
            // The kernel wrote over what was next, or a signal came.
            Err(error)
                if error.kind() == ErrorKind::BrokenPipe
                    || error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
    false
}

/// The group of the process that a record of the log tells killed (`dump_oom_victim`, Linux 5.0). Only
/// the kernel's own word counts: what user space writes into its log has another facility.
fn killed_in(record: &str) -> Option<&str> {
    let (prefix, text) = record.split_once(';')?;
    let priority: u32 = prefix.split(',').next()?.parse().ok()?;
    let facility = priority >> 3;
    if facility != 0 || !text.starts_with("oom-kill:") {
        return None;
    }
    let (_, rest) = text.split_once(",task_memcg=")?;
    // A path may hold commas; what follows it is known.
    rest.split_once(",task=").map(|(group, _)| group)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILLED: &str = "6,1024,1955529164,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),\
        cpuset=/,mems_allowed=0,oom_memcg=/kubepods/pod1,task_memcg=/kubepods/pod1/4fa6,task=dd,pid=7,uid=0";

    fn tells(log: &str, name: &str) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kmsg");
        std::fs::write(&path, log).unwrap();
        tells_of_memory_kill(&path, name)
    }

    #[test]
    fn the_kernels_record_names_the_victims_group() {
        assert_eq!(killed_in(KILLED), Some("/kubepods/pod1/4fa6"));
        let log =
            format!("4,1023,1,-;dd invoked oom-killer: gfp_mask=0xcc0\n{KILLED}\n SUBSYSTEM=x\n");
        assert!(tells(&log, "4fa6"));
        assert!(!tells(&log, "4fa7"));
    }

    #[test]
    fn the_group_whose_limit_was_hit_is_not_the_victims() {
        let sibling = KILLED.replace("pod1/4fa6", "pod1/77aa");
        assert!(!tells(&sibling, "4fa6"));
    }

    #[test]
    fn user_space_cannot_tell_of_a_kill() {
        let forged = KILLED.replacen("6,", "14,", 1);
        assert_eq!(killed_in(&forged), None);
    }

    #[test]
    fn what_is_not_there_or_not_a_record_tells_nothing() {
        assert!(!tells_of_memory_kill(
            Path::new("/nonexistent/kmsg"),
            "4fa6"
        ));
        for text in [
            "",
            ";",
            "x;oom-kill:",
            "6;oom-kill:,task_memcg=/4fa6",
            "oom-kill:,task_memcg=/4fa6,task=",
        ] {
            assert!(!tells(text, "4fa6"), "{text}");
        }
    }
}
