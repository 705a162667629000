//! Takes the steps. Each is fine when what it removes is gone already.

use std::{collections::BTreeSet, fs, io, path::Path};

use cri_dockerd::Attachments;
use daemon::ErrorChain;
use node_os::{
    cgroups::{CgroupFs, CgroupPath, Cgroups},
    mounts::{KernelMounts, Mounts, Unmount},
    share, tree,
};

use super::plan::{Step, Target};
use crate::docker::Docker;

/// Takes every step that can be taken; what failed comes back, a line each.
pub(super) fn act(steps: &[Step], docker: Option<&Docker>, networks: &Attachments) -> Vec<String> {
    let mut failures = Vec::new();
    // Pods with a container that stayed: what it uses stays with it.
    let mut held: BTreeSet<&String> = BTreeSet::new();
    for step in steps {
        if step.uid.as_ref().is_some_and(|uid| held.contains(uid)) {
            failures.push(format!("{step}: not done, a container of its pod stays"));
            continue;
        }
        if let Err(why) = take(&step.target, docker, networks) {
            failures.push(format!("{step}: {why}"));
            if matches!(step.target, Target::Container { .. }) {
                held.extend(&step.uid);
            }
        }
    }
    failures
}

fn take(target: &Target, docker: Option<&Docker>, networks: &Attachments) -> Result<(), String> {
    match target {
        Target::Container { id, .. } => match docker {
            Some(docker) => docker
                .remove(id)
                .map_err(|error| ErrorChain(&error).to_string()),
            None => Ok(()),
        },
        Target::Network { id, .. } => {
            // Docker may have lost it: then the plugins go by the address alone.
            let pid = docker.and_then(|docker| docker.pid(id).ok().flatten());
            networks.detach(id, pid)
        }
        Target::Link(path) => remove_link(path).map_err(|error| error.to_string()),
        Target::Group(path) => remove_group(path),
        Target::Mount(path) => KernelMounts
            .unmount(path, Unmount::Strict)
            .map_err(|error| ErrorChain(&error).to_string()),
        Target::Share(path) => share::unshare_volume(Path::new(share::HOST_MOUNTS), path)
            .map_err(|error| ErrorChain(&error).to_string()),
        Target::Tree(path) => {
            tree::remove_tree(path).map_err(|error| ErrorChain(&error).to_string())
        }
    }
}

fn remove_link(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Only a group that nothing runs in: killing by cgroup is not this tool's business.
fn remove_group(path: &CgroupPath) -> Result<(), String> {
    let files = CgroupFs::open().map_err(|error| ErrorChain(&error).to_string())?;
    let pids = files
        .pids(path)
        .map_err(|error| ErrorChain(&error).to_string())?;
    if let Some(pid) = pids.first() {
        return Err(format!("{} processes run in it, such as {pid}", pids.len()));
    }
    files
        .remove(path)
        .map_err(|error| ErrorChain(&error).to_string())
}

#[cfg(test)]
mod tests {
    use cri_dockerd::{CNI_BIN_DIR, CNI_CACHE_DIR};
    use daemon::pflag::FlagSet;

    use super::*;

    fn step(target: Target, uid: &str) -> Step {
        Step {
            target,
            uid: Some(uid.to_owned()),
        }
    }

    fn networks() -> Attachments {
        let flags = FlagSet::new(&[CNI_BIN_DIR, CNI_CACHE_DIR]);
        Attachments::of(&flags.parse([""; 0]).unwrap()).unwrap()
    }

    #[test]
    fn what_a_container_that_stays_may_use_stays_too() {
        let directory = tempfile::tempdir().unwrap();
        let (kept, gone) = (directory.path().join("kept"), directory.path().join("gone"));
        fs::create_dir(&kept).unwrap();
        fs::create_dir(&gone).unwrap();
        let networks = networks();
        let nobody = Docker::at("unix:///nonexistent.sock").unwrap();
        let container = Target::Container {
            id: "c".to_owned(),
            what: "c".to_owned(),
        };
        let steps = [
            step(container, "u1"),
            step(Target::Tree(kept.clone()), "u1"),
            step(Target::Tree(gone.clone()), "u2"),
        ];
        let failures = act(&steps, Some(&nobody), &networks);
        assert_eq!(failures.len(), 2, "{failures:?}");
        assert!(kept.exists() && !gone.exists());
    }

    #[test]
    fn steps_taken_twice_are_fine() {
        let steps = [
            step(Target::Tree("/nonexistent/tree".into()), "u"),
            step(Target::Link("/nonexistent/link".into()), "u"),
        ];
        assert_eq!(act(&steps, None, &networks()), Vec::<String>::new());
    }
}
