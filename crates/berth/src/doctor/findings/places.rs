//! The places that a node uses: ports, manifests, directories, its socket. Pure.

use super::super::facts::{Directory, Holder, Kubelet, Manifests, Node, Port};
use super::super::finding::{Finding, fail, ok, warn};

/// `sun_path` holds 108 bytes, of which the last is a zero (unix(7)).
const MAX_SOCKET_PATH_BYTES: usize = 107;
/// Where kubeadm puts its manifests.
const KUBEADM_MANIFESTS: &str = "/etc/kubernetes/manifests";
/// Upstream evicts below 10 % free (CFG-42), so that is worth a word.
const LOW_PERCENT: u64 = 10;
/// Below this nothing can be started.
const LEAST_FREE_BYTES: u64 = 64 * 1024 * 1024;
/// Below this no pod's directory can be made.
const LEAST_FREE_INODES: u64 = 1000;

/// `running` is the pid of the kubelet that runs this node already.
pub(super) fn port(port: &Port, running: Option<u32>) -> Finding {
    let Port {
        address,
        field,
        holder,
    } = port;
    match holder {
        None => ok("port", format!("{address} ({field}) is free")),
        Some(Holder {
            process: Some((pid, program)),
        }) if running == Some(*pid) => ok(
            "port",
            format!("{address} ({field}) is this node's own: {program} (pid {pid})"),
        ),
        Some(Holder {
            process: Some((pid, program)),
        }) => fail(
            "port",
            format!("{address} ({field}) is held by {program} (pid {pid})"),
            format!("stop it (kill {pid}), or set another {field}"),
        ),
        Some(Holder { process: None }) => fail(
            "port",
            format!("{address} ({field}) is held by a process that can't be seen from here"),
            format!("find it as root on the host (ss -ltnp), or set another {field}"),
        ),
    }
}

/// An open port that a configuration asked for; without one the configuration finding says it.
pub(super) fn open(port: &Port, node: &Node) -> Option<Finding> {
    let is_open = node.has_file && !port.address.ip().is_loopback();
    is_open.then(|| {
        warn(
            "port",
            format!(
                "{} ({}) answers everybody who reaches it",
                port.address, port.field
            ),
            "set address: 127.0.0.1 unless the network is yours alone (SECURITY.md)",
        )
    })
}

/// The kubelet that runs this node already: it works in our root directory and listens on a port of
/// ours.
pub(super) fn running(kubelets: &[Kubelet], ports: &[Port]) -> Option<u32> {
    let mut ours = kubelets.iter().filter(|kubelet| kubelet.shares_root);
    ours.find(|kubelet| holds_one(kubelet, ports))
        .map(|kubelet| kubelet.pid)
}

fn holds_one(kubelet: &Kubelet, ports: &[Port]) -> bool {
    let holders = ports.iter().filter_map(|port| port.holder.as_ref());
    let mut processes = holders.filter_map(|holder| holder.process.as_ref());
    processes.any(|(pid, _)| *pid == kubelet.pid)
}

pub(super) fn kubelets(kubelets: &[Kubelet], ports: &[Port]) -> Vec<Finding> {
    if kubelets.is_empty() {
        return vec![ok("other kubelets", "none")];
    }
    // One that holds a port of ours is named there already.
    let judge = |kubelet: &Kubelet| {
        let Kubelet {
            pid,
            program,
            shares_root,
        } = kubelet;
        if *shares_root {
            fail(
                "other kubelets",
                format!("{program} (pid {pid}) works in our root directory"),
                format!("stop it (kill {pid}), or give this one a --root-dir of its own"),
            )
        } else {
            warn(
                "other kubelets",
                format!("{program} (pid {pid}) runs too"),
                "over the same Docker each removes the other's pods: stop one, unless they have \
                 engines of their own",
            )
        }
    };
    kubelets
        .iter()
        .filter(|kubelet| !holds_one(kubelet, ports))
        .map(judge)
        .collect()
}

pub(super) fn manifests(manifests: &Manifests) -> Vec<Finding> {
    match manifests {
        Manifests::None => vec![warn(
            "manifests",
            "neither staticPodPath nor staticPodURL is set, so no pod will run",
            "set staticPodPath",
        )],
        Manifests::Unreadable {
            path,
            missing: true,
            ..
        } => vec![fail(
            "manifests",
            format!("{} does not exist", path.display()),
            format!("mkdir -p {}", path.display()),
        )],
        Manifests::Unreadable { path, why, .. } => vec![fail(
            "manifests",
            format!("{}: {why}", path.display()),
            "make it readable, or set another staticPodPath",
        )],
        Manifests::Read {
            path,
            control_plane,
            ..
        } if !control_plane.is_empty() && path.as_os_str() == KUBEADM_MANIFESTS => {
            vec![fail(
                "manifests",
                format!(
                    "{} holds somebody else's control plane: {}",
                    path.display(),
                    control_plane.join(", ")
                ),
                "set another staticPodPath (or kubeadm reset, if that cluster is done)",
            )]
        }
        Manifests::Read {
            path,
            good,
            refused,
            ..
        } => {
            let mut all = vec![ok("manifests", format!("{}: {good} pods", path.display()))];
            if let Some((file, why)) = refused.first() {
                all.push(warn(
                    "manifests",
                    format!(
                        "{} of {} manifests won't run, such as {file}: {why}",
                        refused.len(),
                        good + refused.len()
                    ),
                    format!("berth validate {}", path.display()),
                ));
            }
            all
        }
    }
}

pub(super) fn directory(directory: &Directory) -> Finding {
    let Directory {
        field,
        path,
        read_only,
        occupied,
        space,
        inodes,
    } = directory;
    let place = format!("{} ({field})", path.display());
    if *occupied {
        return fail(
            "disk",
            format!("{place} is in the way: not a directory"),
            format!("move it away, or set another {field}"),
        );
    }
    if *read_only {
        return fail(
            "disk",
            format!("{place} lies on a read-only file system"),
            format!("mount -o remount,rw it, or set another {field}"),
        );
    }
    let inodes_left = inodes.map_or(u64::MAX, |(free, _)| free);
    let Some((free, all)) = *space else {
        return ok("disk", place);
    };
    let free_mib = free / (1024 * 1024);
    let percent = free.saturating_mul(100).checked_div(all).unwrap_or(100);
    if free < LEAST_FREE_BYTES || inodes_left < LEAST_FREE_INODES {
        let what = if free < LEAST_FREE_BYTES {
            "space"
        } else {
            "inodes"
        };
        return fail(
            "disk",
            format!("{place} has no {what} left ({free_mib} MiB free)"),
            "remove files (docker system prune), or set another directory",
        );
    }
    if percent < LOW_PERCENT {
        return warn(
            "disk",
            format!("{place} has {percent} % left ({free_mib} MiB)"),
            "remove files (docker system prune): pods are evicted below 10 %",
        );
    }
    ok("disk", format!("{place}: {percent} % free"))
}

pub(super) fn socket_path(node: &Node) -> Finding {
    let path = &node.cri_socket;
    let bytes = path.as_os_str().len();
    if bytes > MAX_SOCKET_PATH_BYTES {
        fail(
            "cri socket",
            format!(
                "{} has {bytes} bytes, a socket's path may have {MAX_SOCKET_PATH_BYTES}",
                path.display()
            ),
            "set a shorter containerRuntimeEndpoint",
        )
    } else {
        ok("cri socket", path.display().to_string())
    }
}
