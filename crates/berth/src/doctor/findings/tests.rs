//! A table: one thing changed on a machine that is as it should be, and what is said about it.

use std::path::PathBuf;

use node_os::proc::KernelVersion;

use super::super::facts::{Directory, Holder, Kubelet, Manifests, Port};
use super::super::finding::Level;
use super::*;

fn port_of(address: &str, holder: Option<Holder>) -> Port {
    Port {
        address: address.parse().unwrap(),
        field: "healthzPort",
        holder,
    }
}

fn node() -> Node {
    Node {
        notes: Vec::new(),
        fail_swap_on: false,
        fail_cgroup_v1: false,
        pod_cgroups: true,
        cgroup_driver: CgroupDriver::Cgroupfs,
        has_file: true,
        ports: vec![port_of("127.0.0.1:10248", None)],
        manifests: manifests_at("/m", &[], &[]),
        directories: vec![Directory {
            field: "--root-dir",
            path: "/var/lib/kubelet".into(),
            read_only: false,
            occupied: false,
            space: Some((50 << 30, 100 << 30)),
            inodes: Some((1 << 20, 2 << 20)),
        }],
        cri_socket: "/run/cri.sock".into(),
    }
}

fn facts() -> Facts {
    Facts {
        node: Ok(node()),
        is_root: true,
        sys_resource: Some(true),
        kernel: Some(KernelVersion {
            release: "6.1".to_owned(),
            major: 6,
            minor: 1,
        }),
        container: None,
        docker: Some(Docker {
            endpoint: "unix:///d".to_owned(),
            state: alive("1.41", "cgroupfs"),
        }),
        cgroups: Ok(Cgroups {
            is_v2: true,
            missing: Vec::new(),
            read_only: Vec::new(),
        }),
        swaps: Vec::new(),
        inotify: Some((128, 65536)),
        kubelets: Vec::new(),
    }
}

fn alive(api: &str, driver: &str) -> DockerState {
    DockerState::Alive {
        version: "20.10.24".to_owned(),
        api: api.to_owned(),
        cgroup_driver: driver.to_owned(),
        root_dir: "/var/lib/docker".into(),
    }
}

fn manifests_at(path: &str, refused: &[(&str, &str)], control_plane: &[&str]) -> Manifests {
    Manifests::Read {
        path: path.into(),
        good: 1,
        refused: refused
            .iter()
            .map(|(file, why)| ((*file).into(), (*why).into()))
            .collect(),
        control_plane: control_plane
            .iter()
            .map(|name| (*name).to_owned())
            .collect(),
    }
}

#[test]
fn a_machine_as_it_should_be_has_nothing_to_mend() {
    let all = findings(&facts());
    assert!(
        all.iter().all(|finding| finding.level == Level::Ok),
        "{all:#?}"
    );
    assert!(all.len() >= 10);
}

#[test]
fn the_ports_of_the_node_that_runs_are_its_own() {
    let mut facts = facts();
    let process = Some((42, "berth kubelet".to_owned()));
    on_node(&mut facts).ports = vec![port_of("127.0.0.1:1", Some(Holder { process }))];
    facts.kubelets = vec![Kubelet {
        pid: 42,
        program: "berth kubelet".into(),
        shares_root: true,
    }];
    let all = findings(&facts);
    assert!(
        all.iter().all(|finding| finding.level == Level::Ok),
        "{all:#?}"
    );
}

type Change = fn(&mut Facts);

fn on_node(facts: &mut Facts) -> &mut Node {
    facts.node.as_mut().unwrap()
}

fn in_container(not_mounted: &[&str], host_pids: bool) -> Container {
    Container {
        hidden_docker: None,
        host_pids,
        not_mounted: not_mounted.iter().map(PathBuf::from).collect(),
    }
}

#[test]
fn each_fault_is_told_with_its_fix() {
    use Level::{Fail, Warn};
    // What differs; how bad; of which check; words in the text; words in the fix.
    let table: &[(Change, Level, &str, &str, &str)] = &[
        (|f| f.is_root = false, Fail, "root", "not root", "sudo"),
        (
            |f| f.node = Err("bad field".into()),
            Fail,
            "configuration",
            "bad field",
            "mend",
        ),
        (
            |f| on_node(f).notes = vec![(Severity::Error, "legacy defaults".into())],
            Fail,
            "configuration",
            "legacy defaults",
            "--config",
        ),
        (
            |f| on_node(f).notes = vec![(Severity::Warning, "no effect".into())],
            Warn,
            "configuration",
            "no effect",
            "COMPATIBILITY.md",
        ),
        (
            |f| f.docker.as_mut().unwrap().state = DockerState::Absent,
            Fail,
            "docker",
            "does not exist",
            "install",
        ),
        (
            |f| f.docker.as_mut().unwrap().state = DockerState::Dead,
            Fail,
            "docker",
            "nobody listens",
            "systemctl start docker",
        ),
        (
            |f| f.docker.as_mut().unwrap().state = DockerState::Denied,
            Fail,
            "docker",
            "permission denied",
            "root",
        ),
        (
            |f| f.docker.as_mut().unwrap().state = DockerState::Broken("tea".into()),
            Fail,
            "docker",
            "tea",
            "journalctl",
        ),
        (
            |f| f.docker.as_mut().unwrap().state = alive("1.40", "cgroupfs"),
            Fail,
            "docker",
            "1.41 is needed",
            "20.10",
        ),
        (
            |f| f.docker.as_mut().unwrap().state = alive("1.41", "systemd"),
            Warn,
            "cgroup driver",
            "Docker's is systemd",
            "cgroupDriver: systemd",
        ),
        (
            |f| f.cgroups = Err("no cgroup file system is mounted".into()),
            Fail,
            "cgroups",
            "no cgroup",
            "mount",
        ),
        (
            |f| f.cgroups.as_mut().unwrap().missing = vec!["memory"],
            Fail,
            "cgroups",
            "without controllers memory",
            "cgroupsPerQOS: false",
        ),
        (
            |f| f.cgroups.as_mut().unwrap().read_only = vec!["/sys/fs/cgroup".into()],
            Fail,
            "cgroups",
            "read-only",
            "privileged",
        ),
        (
            |f| {
                f.cgroups.as_mut().unwrap().is_v2 = false;
                on_node(f).fail_cgroup_v1 = true;
            },
            Fail,
            "cgroups",
            "failCgroupV1",
            "failCgroupV1: false",
        ),
        (
            |f| {
                f.swaps = vec!["/dev/vdb".into()];
                on_node(f).fail_swap_on = true;
            },
            Fail,
            "swap",
            "/dev/vdb",
            "swapoff",
        ),
        (
            |f| {
                let process = Some((42, "berth kubelet".to_owned()));
                on_node(f).ports = vec![port_of("127.0.0.1:1", Some(Holder { process }))];
            },
            Fail,
            "port",
            "held by berth kubelet (pid 42)",
            "kill 42",
        ),
        (
            |f| on_node(f).ports = vec![port_of("127.0.0.1:1", Some(Holder { process: None }))],
            Fail,
            "port",
            "can't be seen",
            "ss -ltnp",
        ),
        (
            |f| on_node(f).ports = vec![port_of("0.0.0.0:10255", None)],
            Warn,
            "port",
            "answers everybody",
            "address: 127.0.0.1",
        ),
        (
            |f| {
                f.kubelets = vec![Kubelet {
                    pid: 7,
                    program: "kubelet".into(),
                    shares_root: true,
                }];
            },
            Fail,
            "other kubelets",
            "pid 7",
            "--root-dir",
        ),
        (
            |f| {
                f.kubelets = vec![Kubelet {
                    pid: 7,
                    program: "kubelet".into(),
                    shares_root: false,
                }];
            },
            Warn,
            "other kubelets",
            "pid 7",
            "same Docker",
        ),
        (
            |f| on_node(f).manifests = Manifests::None,
            Warn,
            "manifests",
            "no pod",
            "staticPodPath",
        ),
        (
            |f| {
                on_node(f).manifests = Manifests::Unreadable {
                    path: "/m".into(),
                    missing: true,
                    why: String::new(),
                }
            },
            Fail,
            "manifests",
            "/m does not exist",
            "mkdir -p /m",
        ),
        (
            |f| {
                on_node(f).manifests = Manifests::Unreadable {
                    path: "/m".into(),
                    missing: false,
                    why: "denied".into(),
                }
            },
            Fail,
            "manifests",
            "/m: denied",
            "readable",
        ),
        (
            |f| on_node(f).manifests = manifests_at("/m", &[("/m/a", "spec.x: bad")], &[]),
            Warn,
            "manifests",
            "1 of 2 manifests won't run, such as /m/a: spec.x: bad",
            "validate /m",
        ),
        (
            |f| {
                on_node(f).manifests = manifests_at(
                    "/etc/kubernetes/manifests",
                    &[],
                    &["etcd", "kube-apiserver"],
                );
            },
            Fail,
            "manifests",
            "etcd, kube-apiserver",
            "another staticPodPath",
        ),
        (
            |f| on_node(f).directories[0].read_only = true,
            Fail,
            "disk",
            "read-only",
            "remount",
        ),
        (
            |f| on_node(f).directories[0].occupied = true,
            Fail,
            "disk",
            "not a directory",
            "--root-dir",
        ),
        (
            |f| on_node(f).directories[0].space = Some((5 << 30, 100 << 30)),
            Warn,
            "disk",
            "5 % left",
            "prune",
        ),
        (
            |f| on_node(f).directories[0].space = Some((1, 100 << 30)),
            Fail,
            "disk",
            "no space left",
            "prune",
        ),
        (
            |f| on_node(f).directories[0].inodes = Some((9, 100)),
            Fail,
            "disk",
            "no inodes left",
            "prune",
        ),
        (
            |f| on_node(f).cri_socket = format!("/{}", "x".repeat(107)).into(),
            Fail,
            "cri socket",
            "has 108 bytes",
            "shorter",
        ),
        (
            |f| f.sys_resource = Some(false),
            Warn,
            "capabilities",
            "OOM scores",
            "privileged",
        ),
        (
            |f| f.inotify = Some((64, 65536)),
            Warn,
            "inotify",
            "64 instances",
            "max_user_instances",
        ),
        (
            |f| f.inotify = Some((128, 1024)),
            Warn,
            "inotify",
            "1024 watches",
            "max_user_watches",
        ),
        (
            |f| f.container = Some(in_container(&[], false)),
            Warn,
            "container",
            "container's own",
            "pid: host",
        ),
        (
            |f| {
                f.container = Some(in_container(&[], true));
                f.container.as_mut().unwrap().hidden_docker = Some("/var/lib/docker".into());
            },
            Warn,
            "container",
            "can't be seen",
            "/var/lib/docker:/var/lib/docker",
        ),
        (
            |f| f.container = Some(in_container(&["/var/lib/kubelet"], true)),
            Fail,
            "container",
            "/var/lib/kubelet is not a volume",
            "mount one",
        ),
        (
            |f| {
                f.container = Some(in_container(&[], true));
                f.kernel = Some(KernelVersion {
                    release: "4.19".into(),
                    major: 4,
                    minor: 19,
                });
            },
            Warn,
            "container",
            "kernel 4.19",
            "update the kernel",
        ),
    ];
    for (change, level, check, text, fix) in table {
        let mut facts = facts();
        change(&mut facts);
        let bad: Vec<Finding> = findings(&facts)
            .into_iter()
            .filter(|finding| finding.level != Level::Ok)
            .collect();
        let [finding] = bad.as_slice() else {
            panic!("{check} {text}: {bad:#?}");
        };
        assert_eq!(
            (finding.level, finding.check),
            (*level, *check),
            "{finding:?}"
        );
        assert!(finding.text.contains(text), "{finding:?}");
        assert!(finding.fix.as_ref().unwrap().contains(fix), "{finding:?}");
        assert!(!finding.text.contains('\n'));
    }
}

#[test]
fn no_docker_is_looked_for_when_none_is_wanted() {
    let mut facts = facts();
    facts.docker = None;
    assert!(
        findings(&facts)
            .iter()
            .all(|finding| !finding.check.contains('d') || finding.level == Level::Ok)
    );
}

#[test]
fn a_kubelet_of_another_root_directory_on_our_port_is_told_once() {
    let mut facts = facts();
    let process = Some((7, "kubelet".to_owned()));
    on_node(&mut facts).ports = vec![port_of("127.0.0.1:1", Some(Holder { process }))];
    facts.kubelets = vec![Kubelet {
        pid: 7,
        program: "kubelet".to_owned(),
        shares_root: false,
    }];
    let bad = findings(&facts)
        .into_iter()
        .filter(|finding| finding.level != Level::Ok);
    assert_eq!(bad.count(), 1);
}

#[test]
fn a_control_plane_elsewhere_is_the_users_own() {
    let mut facts = facts();
    on_node(&mut facts).manifests = manifests_at("/srv/m", &[], &["etcd"]);
    assert!(
        findings(&facts)
            .iter()
            .all(|finding| finding.level == Level::Ok)
    );
}

#[test]
fn docker_versions_compare_as_numbers() {
    assert_eq!(api_version("1.52"), Some((1, 52)));
    assert!(api_version("1.9") < Some(LEAST_API));
    assert_eq!(api_version("new"), None);
}
