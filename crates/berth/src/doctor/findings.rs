//! From facts to findings. Pure; the order is that of mending.

mod places;

use kubelet_config::{CgroupDriver, Severity};

use places::{directory, kubelets, manifests, open, port, running, socket_path};

use super::facts::{Cgroups, Container, Docker, DockerState, Facts, Node};
use super::finding::{Finding, fail, ok, warn};

/// Oldest Docker API that cri-dockerd speaks (Engine 20.10).
const LEAST_API: (u32, u32) = (1, 41);
/// Oldest kernel on which a volume's mounts can be shared out of a container (DEC-12).
const LEAST_SHARING_KERNEL: (u32, u32) = (5, 2);
/// Below this, watching manifests and logs soon fails; it is the kernel's own default.
const LEAST_INOTIFY_INSTANCES: u64 = 128;
/// Likewise.
const LEAST_INOTIFY_WATCHES: u64 = 8192;

/// All findings.
pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let node = facts.node.as_ref();
    let mut all = vec![root(facts.is_root)];
    all.extend(configuration(&facts.node));
    all.extend(facts.docker.iter().map(docker));
    all.push(cgroups(facts));
    all.extend(
        facts
            .docker
            .iter()
            .zip(node.ok())
            .filter_map(|(docker, node)| driver(docker, node)),
    );
    if let Ok(node) = node {
        all.push(swap(facts, node));
        let running = running(&facts.kubelets, &node.ports);
        all.extend(node.ports.iter().map(|at| port(at, running)));
        all.extend(node.ports.iter().filter_map(|port| open(port, node)));
    }
    all.extend(kubelets(
        &facts.kubelets,
        node.map_or(&[][..], |node| &node.ports),
    ));
    if let Ok(node) = node {
        all.extend(manifests(&node.manifests));
        all.extend(node.directories.iter().map(directory));
        all.push(socket_path(node));
    }
    all.extend(container(facts));
    all.extend(resources(facts.sys_resource));
    all.extend(
        facts
            .inotify
            .map(|(instances, watches)| inotify(instances, watches)),
    );
    all
}

fn root(is_root: bool) -> Finding {
    if is_root {
        ok("root", "runs as root")
    } else {
        fail(
            "root",
            "not root: mounts, cgroups and pods' files need it",
            "run it with sudo",
        )
    }
}

fn configuration(node: &Result<Node, String>) -> Vec<Finding> {
    match node {
        Err(problem) => vec![fail(
            "configuration",
            problem.clone(),
            "mend the field or flag that is named; what depends on it was not looked at",
        )],
        Ok(node)
            if node
                .notes
                .iter()
                .all(|(severity, _)| *severity == Severity::Info) =>
        {
            vec![ok("configuration", "valid")]
        }
        Ok(node) => node
            .notes
            .iter()
            .filter_map(|(severity, text)| match severity {
                Severity::Info => None,
                Severity::Warning => Some(warn(
                    "configuration",
                    text,
                    "leave it out, or see COMPATIBILITY.md",
                )),
                Severity::Error => Some(fail(
                    "configuration",
                    text,
                    "start with --config (config/dockerd.yml is one)",
                )),
            })
            .collect(),
    }
}

fn docker(docker: &Docker) -> Finding {
    let at = &docker.endpoint;
    match &docker.state {
        DockerState::Alive { version, api, .. } => match api_version(api) {
            Some(api) if api >= LEAST_API => ok(
                "docker",
                format!("Docker Engine {version}, API {}.{}, at {at}", api.0, api.1),
            ),
            _ => fail(
                "docker",
                format!("Docker Engine {version} speaks API {api:?}, 1.41 is needed"),
                "update Docker Engine to 20.10 or newer",
            ),
        },
        DockerState::Absent => fail(
            "docker",
            format!("{at} does not exist: no Docker Engine runs here"),
            "install and start Docker Engine (apt-get install docker.io; systemctl start docker), \
             in a container mount the socket, or name another one with --docker-endpoint",
        ),
        DockerState::Dead => fail(
            "docker",
            format!("nobody listens on {at}: Docker Engine has stopped"),
            "systemctl start docker (why it stopped: journalctl -u docker)",
        ),
        DockerState::Denied => fail(
            "docker",
            format!("{at}: permission denied"),
            "run as root, or join group docker",
        ),
        DockerState::Broken(why) => fail(
            "docker",
            format!("{at} does not answer as Docker does: {why}"),
            "look at journalctl -u docker, or name the right socket with --docker-endpoint",
        ),
    }
}

fn api_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn cgroups(facts: &Facts) -> Finding {
    let node = facts.node.as_ref().ok();
    let Cgroups {
        is_v2,
        missing,
        read_only,
    } = match &facts.cgroups {
        Ok(cgroups) => cgroups,
        Err(why) => {
            return fail(
                "cgroups",
                why,
                "mount them (systemd does; by hand: mount -t cgroup2 cgroup2 /sys/fs/cgroup)",
            );
        }
    };
    let version = if *is_v2 { 2 } else { 1 };
    if !is_v2 && node.is_some_and(|node| node.fail_cgroup_v1) {
        return fail(
            "cgroups",
            "version 1 here, and failCgroupV1 is true",
            "boot with systemd.unified_cgroup_hierarchy=1, or set failCgroupV1: false",
        );
    }
    if node.is_some_and(|node| !node.pod_cgroups) {
        return ok(
            "cgroups",
            format!("version {version}, not used: cgroupsPerQOS is false"),
        );
    }
    if !missing.is_empty() {
        return fail(
            "cgroups",
            format!(
                "version {version} without controllers {}",
                missing.join(", ")
            ),
            "turn them on (kernel command line, cgroup.subtree_control above us), or set \
             cgroupsPerQOS: false and enforceNodeAllocatable: []",
        );
    }
    if let Some(place) = read_only.first() {
        return fail(
            "cgroups",
            format!("{} is mounted read-only", place.display()),
            "in a container: privileged: true and /sys/fs/cgroup:/sys/fs/cgroup:rw",
        );
    }
    ok("cgroups", format!("version {version}, writable"))
}

/// The kubelet takes the driver that the runtime names, so this is no failure.
fn driver(docker: &Docker, node: &Node) -> Option<Finding> {
    let DockerState::Alive { cgroup_driver, .. } = &docker.state else {
        return None;
    };
    let ours = match node.cgroup_driver {
        CgroupDriver::Cgroupfs => "cgroupfs",
        CgroupDriver::Systemd => "systemd",
    };
    Some(match cgroup_driver.as_str() {
        "" | "none" => warn(
            "cgroup driver",
            "Docker does not say who makes its cgroups",
            "a rootless Docker can't run pods' cgroups: use the system's",
        ),
        theirs if theirs == ours => ok("cgroup driver", format!("{ours}, as Docker has it")),
        theirs => warn(
            "cgroup driver",
            format!("cgroupDriver is {ours} and Docker's is {theirs}, which the kubelet will take"),
            format!("set cgroupDriver: {theirs}"),
        ),
    })
}

fn swap(facts: &Facts, node: &Node) -> Finding {
    match facts.swaps.first() {
        None => ok("swap", "off"),
        Some(device) if node.fail_swap_on => fail(
            "swap",
            format!("{} is in use, and failSwapOn is true", device.display()),
            "swapoff -a, or set failSwapOn: false",
        ),
        Some(_) => ok("swap", "on, which failSwapOn: false allows"),
    }
}

fn container(facts: &Facts) -> Vec<Finding> {
    let Some(Container {
        host_pids,
        hidden_docker,
        not_mounted,
    }) = &facts.container
    else {
        return Vec::new();
    };
    let mut all = Vec::new();
    if !host_pids {
        all.push(warn(
            "container",
            "pids are the container's own: hostPath outside of our mounts, host pids and tmpfs \
             volumes won't work",
            "run it with pid: host",
        ));
    }
    if let Some(path) = hidden_docker {
        let path = path.display();
        all.push(warn(
            "container",
            format!(
                "{path}, where Docker keeps containers, can't be seen from here: logs go through \
                 Docker's API, and how full its disk is stays unknown"
            ),
            format!("mount it at its own place ({path}:{path}), or run with pid: host"),
        ));
    }
    for path in not_mounted {
        all.push(fail(
            "container",
            format!(
                "{} is not a volume, so Docker can't see what the node writes there",
                path.display()
            ),
            format!(
                "mount one (named, or the host's directory) on {}",
                path.display()
            ),
        ));
    }
    let kernel = facts.kernel.as_ref();
    if let Some(kernel) =
        kernel.filter(|kernel| (kernel.major, kernel.minor) < LEAST_SHARING_KERNEL)
    {
        all.push(warn(
            "container",
            format!(
                "kernel {} can't share mounts out of a container (5.2 can)",
                kernel.release
            ),
            "update the kernel, or run the node on the host: memory volumes fall back to tmpfs \
             mounts of Docker",
        ));
    }
    if all.is_empty() {
        all.push(ok("container", "host pids, volumes mounted"));
    }
    all
}

fn resources(sys_resource: Option<bool>) -> Option<Finding> {
    Some(if sys_resource? {
        ok("capabilities", "CAP_SYS_RESOURCE is there")
    } else {
        warn(
            "capabilities",
            "no CAP_SYS_RESOURCE: limits, negative OOM scores and kernel settings stay as they are",
            "nothing, where the machine forbids it; in a container: privileged: true",
        )
    })
}

fn inotify(instances: u64, watches: u64) -> Finding {
    if instances < LEAST_INOTIFY_INSTANCES {
        return warn(
            "inotify",
            format!("only {instances} instances per user"),
            "sysctl fs.inotify.max_user_instances=1024",
        );
    }
    if watches < LEAST_INOTIFY_WATCHES {
        return warn(
            "inotify",
            format!("only {watches} watches per user"),
            "sysctl fs.inotify.max_user_watches=65536",
        );
    }
    ok(
        "inotify",
        format!("{instances} instances, {watches} watches per user"),
    )
}

#[cfg(test)]
mod tests;
