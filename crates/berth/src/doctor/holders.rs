//! Which process holds a socket or a directory, from `/proc/<pid>/fd`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::facts::{Holder, Kubelet};

/// One sweep over the processes of this pid namespace. Processes that end meanwhile, or that may
/// not be looked into, are left out.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    sockets: BTreeMap<u64, u32>,
    programs: BTreeMap<u32, String>,
    holds_root: Vec<u32>,
}

impl Holders {
    /// Looks at all processes but this one; `root` is the directory whose holders matter.
    pub(crate) fn sweep(root: Option<&Path>) -> Self {
        let mut found = Self::default();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        for pid in pids.filter(|pid| *pid != std::process::id()) {
            let directory = PathBuf::from(format!("/proc/{pid}"));
            let words = fs::read(directory.join("cmdline")).unwrap_or_default();
            let comm = fs::read_to_string(directory.join("comm")).unwrap_or_default();
            if let Some(program) = program(&words, comm.trim()) {
                found.programs.insert(pid, program);
            }
            let descriptors = fs::read_dir(directory.join("fd"))
                .into_iter()
                .flatten()
                .flatten();
            for target in descriptors.filter_map(|entry| fs::read_link(entry.path()).ok()) {
                if let Some(inode) = socket_inode(&target) {
                    found.sockets.entry(inode).or_insert(pid);
                } else if root.is_some_and(|root| target.starts_with(root)) {
                    found.holds_root.push(pid);
                }
            }
        }
        found
    }

    /// The holder of a socket.
    pub(crate) fn of_socket(&self, inode: u64) -> Holder {
        let named = |pid: &u32| (*pid, self.programs.get(pid).cloned().unwrap_or_default());
        Holder {
            process: self.sockets.get(&inode).map(named),
        }
    }

    /// The kubelets.
    pub(crate) fn kubelets(&self) -> Vec<Kubelet> {
        let is_kubelet = |program: &str| {
            matches!(
                program,
                "kubelet" | "berth kubelet" | "kubelet-node" | "berth kubelet-node"
            )
        };
        self.programs
            .iter()
            .filter(|(_, program)| is_kubelet(program))
            .map(|(pid, program)| Kubelet {
                pid: *pid,
                program: program.clone(),
                holds_root: self.holds_root.contains(pid),
            })
            .collect()
    }
}

/// `socket:[4711]` -> 4711.
fn socket_inode(target: &Path) -> Option<u64> {
    target
        .to_str()?
        .strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

/// The program's name by its command line, with the word that picks the program of a multi-call
/// binary; a kernel thread has none.
fn program(cmdline: &[u8], comm: &str) -> Option<String> {
    let mut words = cmdline
        .split(|byte| *byte == 0)
        .map(String::from_utf8_lossy);
    let first = words.next().filter(|word| !word.is_empty())?;
    let name = first.rsplit('/').next().unwrap_or_default().to_owned();
    match (name.as_str(), words.next()) {
        ("berth", Some(word)) => Some(format!("berth {word}")),
        // Titles that programs give themselves have blanks in them.
        (name, _) if name.is_empty() || name.contains(' ') => Some(comm.to_owned()),
        _ => Some(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_named_by_what_they_do() {
        for (cmdline, expected) in [
            (&b"/usr/bin/kubelet\0--v=2\0"[..], Some("kubelet")),
            (b"/x/berth\0kubelet\0--config\0f\0", Some("berth kubelet")),
            (b"nginx: worker process\0", Some("comm")),
            (b"", None),
        ] {
            assert_eq!(program(cmdline, "comm").as_deref(), expected);
        }
        assert_eq!(socket_inode(Path::new("socket:[12]")), Some(12));
        assert_eq!(socket_inode(Path::new("/var/lib/kubelet/x")), None);
    }

    #[test]
    fn a_listener_of_this_machine_is_found_by_its_inode() {
        // Our own process is left out, so all that can be told here is that nobody else has it.
        assert_eq!(Holders::sweep(None).of_socket(u64::MAX).process, None);
    }
}
