//! Which process holds a socket, from `/proc/<pid>/fd`, and which kubelets run, by their command lines.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::facts::{Holder, Kubelet};

/// Of upstream's kubelet and of ours.
const DEFAULT_ROOT_DIR: &str = "/var/lib/kubelet";

/// One sweep over the processes of this pid namespace. Processes that end meanwhile, or that may
/// not be looked into, are left out.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    sockets: BTreeMap<u64, u32>,
    programs: BTreeMap<u32, String>,
    shares_root: Vec<u32>,
}

impl Holders {
    /// Looks at all processes but this one; `root` is the root directory that matters.
    pub(crate) fn sweep(root: Option<&Path>) -> Self {
        let mut found = Self::default();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        for pid in pids.filter(|pid| *pid != std::process::id()) {
            let directory = PathBuf::from(format!("/proc/{pid}"));
            let words = fs::read(directory.join("cmdline")).unwrap_or_default();
            let comm = fs::read_to_string(directory.join("comm")).unwrap_or_default();
            let Some(program) = program(&words, comm.trim()) else {
                continue;
            };
            if is_kubelet(&program)
                && root.is_some_and(|root| shares_root(&directory, &words, root))
            {
                found.shares_root.push(pid);
            }
            found.programs.insert(pid, program);
            let descriptors = fs::read_dir(directory.join("fd"))
                .into_iter()
                .flatten()
                .flatten();
            for target in descriptors.filter_map(|entry| fs::read_link(entry.path()).ok()) {
                if let Some(inode) = socket_inode(&target) {
                    found.sockets.entry(inode).or_insert(pid);
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
        self.programs
            .iter()
            .filter(|(_, program)| is_kubelet(program))
            .map(|(pid, program)| Kubelet {
                pid: *pid,
                program: program.clone(),
                shares_root: self.shares_root.contains(pid),
            })
            .collect()
    }
}

fn is_kubelet(program: &str) -> bool {
    matches!(
        program,
        "kubelet" | "berth kubelet" | "kubelet-node" | "berth kubelet-node"
    )
}

/// Whether a kubelet works in `root`, which is a path of this mount namespace.
fn shares_root(process: &Path, cmdline: &[u8], root: &Path) -> bool {
    let namespace = |process: &Path| fs::read_link(process.join("ns/mnt")).ok();
    let directory = fs::read_link(process.join("cwd")).unwrap_or_default();
    namespace(process) == namespace(Path::new("/proc/self"))
        && directory.join(root_dir(cmdline)) == root
}

/// What a kubelet's command line says of its root directory (FLAG-08).
fn root_dir(cmdline: &[u8]) -> String {
    let words = cmdline.split(|byte| *byte == 0);
    let words: Vec<_> = words.map(String::from_utf8_lossy).collect();
    let mut told = words.iter().enumerate().filter_map(|(position, word)| {
        match word.strip_prefix("--root-dir")? {
            "" => words.get(position + 1).map(ToString::to_string),
            rest => rest.strip_prefix('=').map(str::to_owned),
        }
    });
    told.next_back()
        .unwrap_or_else(|| DEFAULT_ROOT_DIR.to_owned())
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
    fn the_last_root_directory_of_a_command_line_counts() {
        for (cmdline, expected) in [
            (&b"kubelet\0--v=2\0"[..], "/var/lib/kubelet"),
            (b"berth\0kubelet\0--root-dir\0/a\0", "/a"),
            (b"kubelet\0--root-dir=/a\0--root-dir=b\0", "b"),
            (b"kubelet\0--root-dir\0", ""),
        ] {
            assert_eq!(root_dir(cmdline), expected);
        }
    }

    #[test]
    fn a_listener_of_this_machine_is_found_by_its_inode() {
        // Our own process is left out, so all that can be told here is that nobody else has it.
        assert_eq!(Holders::sweep(None).of_socket(u64::MAX).process, None);
    }
}
