//! What is found, and what is to be done about it. Pure.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
};

use cri_dockerd::Attachment;
use node_os::cgroups::CgroupPath;

/// Everything on this machine that looks like a node's.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    /// Containers that a CRI adapter made.
    pub(super) containers: Vec<FoundContainer>,
    /// Pods' directories below the root directory, by uid.
    pub(super) pod_dirs: Vec<(String, PathBuf)>,
    /// Log directories, by uid.
    pub(super) log_dirs: Vec<(String, PathBuf)>,
    /// Log links: file, and the uid in the path it points to.
    pub(super) links: Vec<(String, PathBuf)>,
    /// Mount points, oldest first, with the uid of the pod they are for.
    pub(super) mounts: Vec<(Option<String>, PathBuf)>,
    /// Cgroups, children before parents.
    pub(super) groups: Vec<Group>,
    /// Sandboxes that CNI gave a network, by its cached results.
    pub(super) networks: Vec<Attachment>,
    /// The Docker Engine's id; `None` where it is gone for good.
    pub(super) engine: Option<String>,
    /// Checkpoints by sandbox id.
    pub(super) checkpoints: Vec<(String, PathBuf)>,
    /// Files that hold something about all pods.
    pub(super) state_files: Vec<PathBuf>,
    /// Where the host shares volumes with nodes in containers (DEC-12).
    pub(super) shares: Vec<PathBuf>,
    /// A kubelet runs on this machine, this node's or another.
    pub(super) kubelet_runs: bool,
}

/// A container that a CRI adapter made.
#[derive(Debug, Clone)]
pub(super) struct FoundContainer {
    /// Docker's id.
    pub(super) id: String,
    /// Docker's name.
    pub(super) name: String,
    /// Uid of its pod; `None` for a container without that label.
    pub(super) uid: Option<String>,
    /// `namespace/name` of its pod.
    pub(super) pod: String,
    /// It is the pod's sandbox, which goes last.
    pub(super) is_sandbox: bool,
    /// It bears a mark of our node: our cri-dockerd's label, or a log in our directory.
    pub(super) is_marked: bool,
}

/// A cgroup below or at `kubepods`.
#[derive(Debug, Clone)]
pub(super) struct Group {
    /// Its path.
    pub(super) path: CgroupPath,
    /// Uid of its pod, `-` and `_` being the same; `None` for a class of pods.
    pub(super) uid: Option<String>,
    /// Something runs in it or below.
    pub(super) is_busy: bool,
}

/// What to do with the pods of another kubelet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    /// Leave them.
    Left,
    /// Take them too.
    Taken,
}

/// What to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A container.
    Container {
        /// Its id.
        id: String,
        /// Its name and pod.
        what: String,
    },
    /// A sandbox's place in its CNI networks.
    Network {
        /// The sandbox's id.
        id: String,
        /// Its pod.
        pod: String,
    },
    /// A link to a log.
    Link(PathBuf),
    /// A cgroup.
    Group(CgroupPath),
    /// A mount.
    Mount(PathBuf),
    /// A share of a volume, with all that is mounted below it.
    Share(PathBuf),
    /// A directory with all below, or a file.
    Tree(PathBuf),
}

/// One removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// What goes.
    pub(super) target: Target,
    /// Of which pod; its steps end where one of its containers stays.
    pub(super) uid: Option<String>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Container { what, .. } => write!(f, "remove  container {what}"),
            Target::Network { id, pod } => {
                let short: String = id.chars().take(12).collect();
                write!(
                    f,
                    "detach  pod {pod} from its CNI network (sandbox {short})"
                )
            }
            Target::Link(path) => write!(f, "remove  link {}", path.display()),
            Target::Group(path) => write!(f, "remove  cgroup {}", path.as_str()),
            Target::Mount(path) | Target::Share(path) => write!(f, "unmount {}", path.display()),
            Target::Tree(path) => write!(f, "remove  {}", path.display()),
        }
    }
}

/// What to do, and what is left alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// In this order.
    pub(super) steps: Vec<Step>,
    /// One line each.
    pub(super) left: Vec<String>,
}

/// Uids as cgroups of both drivers have them.
pub(super) fn normalized(uid: &str) -> String {
    uid.replace('-', "_")
}

/// The order: containers, networks, sandboxes, links, cgroups, mounts, directories; so that nothing is
/// pulled from under what still uses it.
pub(super) fn plan(found: &Found, others: Others) -> Plan {
    let mut plan = Plan::default();
    let foreign = match others {
        Others::Left => foreign_uids(found),
        Others::Taken => BTreeSet::new(),
    };
    let ours = |uid: &String| !foreign.contains(uid);
    let mut left: BTreeSet<String> = BTreeSet::new();

    let mut containers: Vec<&FoundContainer> = found.containers.iter().collect();
    containers.sort_by_key(|container| &container.name);
    let (sandboxes, containers): (Vec<_>, Vec<_>) = containers
        .into_iter()
        .partition(|container| container.is_sandbox);
    let remove = |container| container_step(container, &foreign);
    // While the sandboxes are there, plugins find their namespaces.
    let steps = containers
        .into_iter()
        .map(remove)
        .chain(network_steps(found, &foreign).into_iter().map(Ok))
        .chain(sandboxes.into_iter().map(remove));
    for step in steps {
        match step {
            Ok(step) => plan.steps.push(step),
            Err(other) => {
                left.insert(other);
            }
        }
    }
    let mut add = |target, uid: Option<&String>| {
        plan.steps.push(Step {
            target,
            uid: uid.cloned(),
        });
    };
    for (uid, link) in found.links.iter().filter(|(uid, _)| ours(uid)) {
        add(Target::Link(link.clone()), Some(uid));
    }

    let known: BTreeSet<String> = our_uids(found, &foreign)
        .iter()
        .map(|uid| normalized(uid))
        .collect();
    let mut kept: Vec<&CgroupPath> = Vec::new();
    for group in &found.groups {
        let is_known = group
            .uid
            .as_ref()
            .is_some_and(|uid| known.contains(&normalized(uid)));
        let above_kept = kept.iter().any(|kept| kept.lineage().contains(&group.path));
        let foreign_here = group.uid.as_ref().is_some_and(|uid| {
            foreign
                .iter()
                .any(|foreign| normalized(foreign) == normalized(uid))
        });
        let of_somebody = group.uid.is_some() && group.is_busy && !is_known;
        if above_kept || foreign_here || of_somebody {
            if !above_kept {
                left.insert(format!("cgroup {}: not this node's", group.path.as_str()));
            }
            kept.push(&group.path);
        } else {
            add(Target::Group(group.path.clone()), group.uid.as_ref());
        }
    }

    // Newest first, so that what lies on another mount goes before it.
    for (uid, mount) in found.mounts.iter().rev() {
        if uid.as_ref().is_none_or(ours) {
            add(Target::Mount(mount.clone()), uid.as_ref());
        }
    }
    for share in &found.shares {
        // Nothing tells whose it is.
        if found.kubelet_runs {
            left.insert(format!("share {}: a kubelet runs here", share.display()));
        } else {
            add(Target::Share(share.clone()), None);
        }
    }
    for (uid, directory) in found.pod_dirs.iter().chain(&found.log_dirs) {
        if ours(uid) {
            add(Target::Tree(directory.clone()), Some(uid));
        }
    }
    for (id, checkpoint) in &found.checkpoints {
        match owner(found, id) {
            Some(owner) if is_foreign(owner, &foreign) => {}
            owner => add(
                Target::Tree(checkpoint.clone()),
                owner.and_then(|owner| owner.uid.as_ref()),
            ),
        }
    }
    for file in &found.state_files {
        add(Target::Tree(file.clone()), None);
    }
    plan.left = left.into_iter().collect();
    plan
}

/// The removal of a container, or what is left and why.
fn container_step(container: &FoundContainer, foreign: &BTreeSet<String>) -> Result<Step, String> {
    let FoundContainer { id, name, pod, .. } = container;
    match &container.uid {
        None => Err(format!("container {name}: it has no pod")),
        Some(uid) if foreign.contains(uid) => Err(format!(
            "pod {pod}: another kubelet made it (--all-pods takes it too)"
        )),
        Some(uid) => Ok(Step {
            target: Target::Container {
                id: id.clone(),
                what: format!("{name} (pod {pod})"),
            },
            uid: Some(uid.clone()),
        }),
    }
}

/// Sandboxes to take off their networks: ours, and those that the engine lost and that our
/// cri-dockerd made on it. A kubelet that runs looks after the lost ones itself.
fn network_steps(found: &Found, foreign: &BTreeSet<String>) -> Vec<Step> {
    let is_lost_here = |attached: &Attachment| {
        let made_here = match &found.engine {
            Some(engine) => &attached.engine == engine,
            None => true,
        };
        !attached.engine.is_empty() && made_here && !found.kubelet_runs
    };
    let step = |attached: &Attachment, uid: Option<&String>| Step {
        target: Target::Network {
            id: attached.id.clone(),
            pod: attached.pod.clone(),
        },
        uid: uid.cloned(),
    };
    let steps = found
        .networks
        .iter()
        .filter_map(|attached| match owner(found, &attached.id) {
            Some(owner) if is_foreign(owner, foreign) => None,
            Some(owner) => Some(step(attached, owner.uid.as_ref())),
            None => is_lost_here(attached).then(|| step(attached, None)),
        });
    steps.collect()
}

/// The container of that id.
fn owner<'a>(found: &'a Found, id: &str) -> Option<&'a FoundContainer> {
    found.containers.iter().find(|container| container.id == id)
}

fn is_foreign(container: &FoundContainer, foreign: &BTreeSet<String>) -> bool {
    let uid = container.uid.as_ref();
    uid.is_none_or(|uid| foreign.contains(uid))
}

/// Pods that nothing marks as ours: no container of theirs does, nor a directory below our root.
fn foreign_uids(found: &Found) -> BTreeSet<String> {
    let mut marked: BTreeMap<&String, bool> = BTreeMap::new();
    for container in &found.containers {
        if let Some(uid) = &container.uid {
            *marked.entry(uid).or_default() |= container.is_marked;
        }
    }
    let has_directory = |uid: &String| found.pod_dirs.iter().any(|(known, _)| known == uid);
    marked
        .into_iter()
        .filter(|(uid, is_marked)| !is_marked && !has_directory(uid))
        .map(|(uid, _)| uid.clone())
        .collect()
}

/// Uids of all pods that are known to be ours.
fn our_uids(found: &Found, foreign: &BTreeSet<String>) -> BTreeSet<String> {
    let of_containers = found
        .containers
        .iter()
        .filter_map(|container| container.uid.clone());
    let of_directories = found
        .pod_dirs
        .iter()
        .chain(&found.log_dirs)
        .map(|(uid, _)| uid.clone());
    of_containers
        .chain(of_directories)
        .filter(|uid| !foreign.contains(uid))
        .collect()
}
