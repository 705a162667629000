//! Kills everything that one exec started (EXE-04). Blocking.
//!
//! The first process is known by Docker; the others are its descendants, and what is in its
//! session: runc makes the first process of an exec a session leader, so background children that
//! lost their parent are still found, also where the first has ended. Each is looked at again through
//! a process handle, and must be in the container's cgroup, before it gets the signal: a number may
//! have been used again.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// How long the killed may take to end.
const LIMIT: Duration = Duration::from_secs(5);

/// Why processes could not be killed.
#[derive(Debug, thiserror::Error)]
pub(super) enum KillError {
    /// The numbers are those of the engine's host, and we can't see its processes.
    #[error(
        "process {0} is not in the container's cgroup as seen from here: run with the host's pid namespace"
    )]
    NotVisible(i32),
    /// `/proc` can't be read.
    #[error("read /proc")]
    Proc(#[source] io::Error),
    /// The kernel refuses.
    #[error("kill process {0}")]
    Kill(i32, #[source] io::Error),
    /// They don't end.
    #[error("{0} processes did not end within {LIMIT:?}")]
    Stubborn(usize),
}

/// Parent, session and state of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: i32,
    session: i32,
    state: u8,
}

/// Reads `/proc/<pid>/stat`. The command stands in brackets and may hold anything.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut words = rest.split_ascii_whitespace();
    let state = *words.next()?.as_bytes().first()?;
    let parent = words.next()?.parse().ok()?;
    let _group = words.next()?;
    let session = words.next()?.parse().ok()?;
    Some(Stat {
        parent,
        session,
        state,
    })
}

/// All descendants of `root`, it included, and all of its session; ended processes left out.
fn members(root: i32, all: &HashMap<i32, Stat>) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for (pid, stat) in all {
        children.entry(stat.parent).or_default().push(*pid);
    }
    let in_session = all
        .iter()
        .filter(|(_, stat)| stat.session == root)
        .map(|(pid, _)| *pid);
    // Parents first: none is to see its children die and go on.
    let mut found = vec![root];
    found.extend(in_session);
    let mut seen = HashSet::new();
    let mut next = 0;
    while next < found.len() {
        let pid = found[next];
        if seen.insert(pid) {
            next += 1;
            found.extend(children.get(&pid).into_iter().flatten());
        } else {
            found.remove(next);
        }
    }
    found.retain(|pid| {
        all.get(pid)
            .is_some_and(|stat| !matches!(stat.state, b'Z' | b'X'))
    });
    found
}

fn processes() -> Result<HashMap<i32, Stat>, KillError> {
    let mut all = HashMap::new();
    for entry in fs::read_dir("/proc").map_err(KillError::Proc)? {
        let name = entry.map_err(KillError::Proc)?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Gone meanwhile, or none of ours to see.
        if let Some(stat) = stat(pid) {
            all.insert(pid, stat);
        }
    }
    Ok(all)
}

fn stat(pid: i32) -> Option<Stat> {
    // The command's name need not be UTF-8.
    let bytes = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&String::from_utf8_lossy(&bytes))
}

/// Whether a process is in the container's cgroup.
pub(crate) fn is_in(pid: i32, container: &str) -> bool {
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup"));
    !container.is_empty() && cgroup.is_ok_and(|cgroup| cgroup.contains(container))
}

/// A handle to a process that is a member of the container.
fn hold(pid: i32, container: &str) -> Option<OwnedFd> {
    let handle = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    // Behind the opening: the handle can't come to mean another process.
    is_in(pid, container).then_some(handle)
}

/// Kills the process and all it started; how many there were. They have ended when it returns.
/// `has_ended`: of the process itself that is known, and what is left is its session.
pub(super) fn tree(root: i32, container: &str, has_ended: bool) -> Result<usize, KillError> {
    let deadline = Instant::now() + LIMIT;
    let lives = |stat: &Stat| !matches!(stat.state, b'Z' | b'X');
    if stat(root).is_some_and(|first| lives(&first)) {
        if has_ended {
            // The kernel gives no number away that a session still has: all are gone.
            return Ok(0);
        }
        // Unless it ended just now.
        if !is_in(root, container) && stat(root).is_some_and(|first| lives(&first)) {
            return Err(KillError::NotVisible(root));
        }
    }
    let mut killed = HashSet::new();
    loop {
        // Again and again, because what is about to die may have started more.
        let alive = members(root, &processes()?);
        let mut handles = Vec::new();
        for pid in alive {
            let Some(handle) = hold(pid, container) else {
                continue;
            };
            match pidfd_send_signal(&handle, Signal::KILL) {
                Ok(()) => {
                    killed.insert(pid);
                    handles.push(handle);
                }
                Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(KillError::Kill(pid, error.into())),
            }
        }
        if handles.is_empty() {
            return Ok(killed.len());
        }
        for handle in &handles {
            if !ends(handle, deadline) {
                return Err(KillError::Stubborn(handles.len()));
            }
        }
    }
}

/// Waits for a process to end.
fn ends(handle: &OwnedFd, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).ok();
        let mut handles = [PollFd::new(handle, PollFlags::IN)];
        match poll(&mut handles, left.as_ref()) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines_are_read_whatever_the_command_is_called() {
        let stat = parse_stat("42 (a) b (c)) S 7 42 40 0 -1 4194304").unwrap();
        assert_eq!(
            stat,
            Stat {
                parent: 7,
                session: 40,
                state: b'S'
            }
        );
        for bad in ["", "1 (x", "1 (x) S", "1 (x) S a 1 1"] {
            assert_eq!(parse_stat(bad), None, "{bad}");
        }
    }

    #[test]
    fn descendants_and_session_are_found_and_strangers_are_not() {
        let all: HashMap<i32, Stat> = [
            (1, 0, 1, b'S'),
            (10, 1, 10, b'S'),
            (11, 10, 10, b'R'),
            (12, 11, 12, b'S'),
            // Lost its parent; a zombie; another exec.
            (13, 1, 10, b'S'),
            (14, 10, 10, b'Z'),
            (20, 1, 20, b'S'),
        ]
        .map(|(pid, parent, session, state)| {
            (
                pid,
                Stat {
                    parent,
                    session,
                    state,
                },
            )
        })
        .into();
        let mut found = members(10, &all);
        assert_eq!(found[0], 10);
        found.sort_unstable();
        assert_eq!(found, [10, 11, 12, 13]);
        assert!(members(99, &all).is_empty());
        let mut orphans = all.clone();
        orphans.retain(|pid, _| ![10, 11, 12].contains(pid));
        assert_eq!(members(10, &orphans), [13], "its leader is gone");
    }

    #[test]
    fn process_outside_the_container_is_spared() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(matches!(
            tree(own, "no-such-container", false),
            Err(KillError::NotVisible(_))
        ));
        assert!(matches!(
            tree(own, "", false),
            Err(KillError::NotVisible(_))
        ));
    }
}
