//! Looks for what a node left. Changes nothing.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use cri_dockerd::Attachments;
use daemon::ErrorChain;
use kubelet_core::cgroup_name::{CgroupDriver, CgroupName, is_pod_directory};
use node_os::{
    cgroups::{CgroupError, CgroupFs, CgroupPath, Cgroups},
    mountinfo, share,
};

use super::plan::{Found, FoundContainer, Group, normalized};
use crate::{
    docker::{Container, Docker, DockerError, TYPE_LABEL},
    doctor::Holders,
};

const UID: &str = "io.kubernetes.pod.uid";
const NAME: &str = "io.kubernetes.pod.name";
const NAMESPACE: &str = "io.kubernetes.pod.namespace";
const LOG_PATH: &str = "io.kubernetes.container.logpath";
/// Our cri-dockerd's alone.
const NETWORK: &str = "io.berth.network";
const SANDBOX: &str = "podsandbox";

/// Where a node keeps things.
#[derive(Debug)]
pub(super) struct Places {
    /// `--root-dir`
    pub(super) root_dir: PathBuf,
    /// `podLogsDir`
    pub(super) pod_logs_dir: PathBuf,
    /// Links to logs.
    pub(super) links_dir: PathBuf,
    /// cri-dockerd's checkpoints.
    pub(super) checkpoints_dir: PathBuf,
    /// `cgroupRoot`
    pub(super) cgroup_root: String,
}

/// What could not be looked at.
#[derive(Debug, thiserror::Error)]
pub(super) enum GatherError {
    /// Docker.
    #[error("{}", ErrorChain(.0))]
    Docker(DockerError),
    /// A directory.
    #[error("list {0}: {1}")]
    Directory(PathBuf, io::Error),
    /// Cgroups.
    #[error("{}", ErrorChain(.0))]
    Cgroups(CgroupError),
    /// Mounts.
    #[error("{}", ErrorChain(.0))]
    Mounts(mountinfo::MountInfoError),
}

/// Everything that looks like a node's.
///
/// # Errors
/// When something can't be looked at, for then it can't be told what is safe to remove.
pub(super) fn found(
    places: &Places,
    docker: Option<&Docker>,
    networks: &Attachments,
) -> Result<Found, GatherError> {
    let (listed, engine) = match docker {
        Some(docker) => (docker.cri_containers(), docker.info().map(Some)),
        None => (Ok(Vec::new()), Ok(None)),
    };
    let listed = listed.map_err(GatherError::Docker)?;
    let engine = engine.map_err(GatherError::Docker)?.map(|info| info.id);
    let pods_dir = places.root_dir.join("pods");
    let state_files = ["allocated_pods_state", "actuated_pods_state"];
    Ok(Found {
        containers: listed
            .into_iter()
            .map(|container| describe(container, &places.pod_logs_dir))
            .collect(),
        pod_dirs: named(&pods_dir, |name| Some(name.to_owned()))?,
        log_dirs: named(&places.pod_logs_dir, uid_of_log_dir)?,
        links: links(places)?,
        mounts: mounts(places, &pods_dir)?,
        groups: groups(&places.cgroup_root)?,
        checkpoints: named(&places.checkpoints_dir, |name| {
            (!name.starts_with('.')).then(|| name.to_owned())
        })?,
        state_files: state_files
            .into_iter()
            .map(|name| places.root_dir.join(name))
            .filter(|path| path.exists())
            .collect(),
        networks: networks.list(),
        engine,
        shares: shares(),
        kubelet_runs: !Holders::sweep(None).kubelets().is_empty(),
    })
}

/// The shares that the host has. None where the host's mounts cannot be seen: nobody there could
/// have made one.
fn shares() -> Vec<PathBuf> {
    let theirs = mountinfo::read(Path::new("/proc/1/mountinfo")).unwrap_or_default();
    let is_place = |place: &PathBuf| place.parent() == Some(Path::new(share::PLACES));
    let mut found: Vec<PathBuf> = theirs
        .into_iter()
        .map(|mount| mount.mount_point)
        .filter(is_place)
        .collect();
    found.sort();
    found.dedup();
    found
}

fn describe(container: Container, pod_logs_dir: &Path) -> FoundContainer {
    let label = |name: &str| container.labels.get(name).cloned();
    let in_our_logs = label(LOG_PATH).is_some_and(|log| Path::new(&log).starts_with(pod_logs_dir));
    FoundContainer {
        name: container
            .names
            .first()
            .map_or(&container.id, |name| name)
            .trim_start_matches('/')
            .to_owned(),
        uid: label(UID).filter(|uid| !uid.is_empty()),
        pod: format!(
            "{}/{}",
            label(NAMESPACE).unwrap_or_default(),
            label(NAME).unwrap_or_default()
        ),
        is_sandbox: label(TYPE_LABEL).is_some_and(|kind| kind == SANDBOX),
        is_marked: in_our_logs || container.labels.contains_key(NETWORK),
        id: container.id,
    }
}

/// The entries of a directory by what `key` makes of their names; none of a directory that is not
/// there.
fn named(
    directory: &Path,
    key: impl Fn(&str) -> Option<String>,
) -> Result<Vec<(String, PathBuf)>, GatherError> {
    let failed = |error| GatherError::Directory(directory.to_owned(), error);
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if let Some(key) = entry.file_name().to_str().and_then(&key) {
            found.push((key, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// `<namespace>_<name>_<uid>` (DIR-04); names have no `_` in them.
fn uid_of_log_dir(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('_').collect();
    match parts.as_slice() {
        [namespace, name, uid] if !namespace.is_empty() && !name.is_empty() && !uid.is_empty() => {
            Some((*uid).to_owned())
        }
        _ => None,
    }
}

fn links(places: &Places) -> Result<Vec<(String, PathBuf)>, GatherError> {
    let all = named(&places.links_dir, |name| Some(name.to_owned()))?;
    let ours = all.into_iter().filter_map(|(_, link)| {
        let target = fs::read_link(&link).ok()?;
        let below = target.strip_prefix(&places.pod_logs_dir).ok()?;
        let pod = below.components().next()?.as_os_str().to_str()?.to_owned();
        Some((uid_of_log_dir(&pod)?, link))
    });
    Ok(ours.collect())
}

/// Mounts below the root directory; the root directory too where the kubelet mounted it on itself, but
/// not where it is the user's volume.
fn mounts(places: &Places, pods_dir: &Path) -> Result<Vec<(Option<String>, PathBuf)>, GatherError> {
    let mounts = mountinfo::read_own().map_err(GatherError::Mounts)?;
    // The kernel names places without links in them.
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (root, pods_dir) = (real(&places.root_dir), real(pods_dir));
    let on_itself = mountinfo::is_on_itself(&mounts, &root);
    let below = mounts
        .into_iter()
        .map(|mount| mount.mount_point)
        .filter(|place| place.starts_with(&root) && (*place != root || on_itself));
    let uid = |place: &Path| {
        let below = place.strip_prefix(&pods_dir).ok()?;
        Some(below.components().next()?.as_os_str().to_str()?.to_owned())
    };
    Ok(below.map(|place| (uid(&place), place)).collect())
}

/// Groups of pods and their classes in either driver's form, children first.
fn groups(cgroup_root: &str) -> Result<Vec<Group>, GatherError> {
    let files = match CgroupFs::open() {
        Ok(files) => files,
        Err(CgroupError::NotMounted) => return Ok(Vec::new()),
        Err(error) => return Err(GatherError::Cgroups(error)),
    };
    let mut all = Vec::new();
    for driver in [CgroupDriver::Cgroupfs, CgroupDriver::Systemd] {
        let top = CgroupName::kubepods(cgroup_root).path(driver);
        if let Ok(top) = CgroupPath::new(&top) {
            walk(&files, &top, &mut all).map_err(GatherError::Cgroups)?;
        }
    }
    Ok(all)
}

fn walk(files: &CgroupFs, top: &CgroupPath, all: &mut Vec<Group>) -> Result<(), CgroupError> {
    let name = top.as_str().rsplit('/').next().unwrap_or_default();
    let uid = is_pod_directory(name).then(|| uid_of_group(name)).flatten();
    let is_there = files
        .hierarchies()
        .roots()
        .iter()
        .any(|root| root.join(top.as_str().trim_start_matches('/')).is_dir());
    if !is_there {
        return Ok(());
    }
    if uid.is_none() {
        for child in files.children(top)? {
            if let Ok(child) = top.child(&child) {
                walk(files, &child, all)?;
            }
        }
    }
    all.push(Group {
        path: top.clone(),
        uid,
        is_busy: !files.pids(top)?.is_empty(),
    });
    Ok(())
}

/// `pod<uid>` and `kubepods-burstable-pod<uid>.slice` -> the uid, with `_` for `-`.
fn uid_of_group(name: &str) -> Option<String> {
    let name = name.strip_suffix(".slice").unwrap_or(name);
    let last = if name.starts_with("pod") {
        name
    } else {
        name.rsplit('-').next()?
    };
    last.strip_prefix("pod").map(normalized)
}

#[cfg(test)]
mod tests {
    use cri_dockerd::{CNI_BIN_DIR, CNI_CACHE_DIR};
    use daemon::pflag::{Flag, FlagSet};

    use super::*;

    #[test]
    fn log_directories_end_with_the_uid() {
        assert_eq!(
            uid_of_log_dir("default_web-n1_abc-1"),
            Some("abc-1".to_owned())
        );
        for other in ["default_web", "a_b_c_d", "_b_c", "journal"] {
            assert_eq!(uid_of_log_dir(other), None, "{other}");
        }
    }

    #[test]
    fn groups_of_both_drivers_tell_the_uid() {
        assert_eq!(uid_of_group("pod1234-ab"), Some("1234_ab".to_owned()));
        assert_eq!(
            uid_of_group("kubepods-burstable-pod1234_ab.slice"),
            Some("1234_ab".to_owned())
        );
        assert_eq!(uid_of_group("burstable"), None);
    }

    #[test]
    fn links_out_of_our_logs_are_not_ours() {
        let directory = tempfile::tempdir().unwrap();
        let places = Places {
            root_dir: directory.path().join("root"),
            pod_logs_dir: directory.path().join("pods"),
            links_dir: directory.path().join("links"),
            checkpoints_dir: directory.path().join("none"),
            cgroup_root: "/berth-test-of-cleanup".to_owned(),
        };
        fs::create_dir(&places.links_dir).unwrap();
        let link = |name: &str, target: PathBuf| {
            std::os::unix::fs::symlink(target, places.links_dir.join(name)).unwrap();
        };
        link("ours.log", places.pod_logs_dir.join("d_a_u1/c/0.log"));
        link("theirs.log", "/var/log/other/d_a_u1/c/0.log".into());
        fs::create_dir_all(places.root_dir.join("pods/u1")).unwrap();
        fs::write(places.root_dir.join("allocated_pods_state"), "").unwrap();
        let flags = FlagSet::new(&[
            CNI_BIN_DIR,
            Flag {
                default: "/nonexistent",
                ..CNI_CACHE_DIR
            },
        ]);
        let flags = flags.parse([""; 0]).unwrap();
        let found = found(&places, None, &Attachments::of(&flags).unwrap()).unwrap();
        assert_eq!(
            found.links,
            [("u1".to_owned(), places.links_dir.join("ours.log"))]
        );
        assert_eq!(
            found.pod_dirs,
            [("u1".to_owned(), places.root_dir.join("pods/u1"))]
        );
        assert_eq!(found.state_files.len(), 1);
        assert!(found.checkpoints.is_empty() && found.groups.is_empty());
    }
}
