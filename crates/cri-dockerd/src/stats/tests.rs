//! Statistics over directories that look like cgroups of both versions.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use daemon::TaskGroup;
use node_os::cgroups::{CgroupFs, Hierarchies};
use node_os::proc::Proc;

use super::*;
use crate::engine::model::ContainerInspect;
use crate::paths::SameHost;

/// A node made of files.
struct Node {
    dir: tempfile::TempDir,
    /// Version 1 with each controller for itself.
    v1: bool,
    group: TaskGroup,
}

/// The controller that version 1 keeps a file in.
fn controller(file: &str) -> &str {
    file.split('.').next().unwrap()
}

impl Node {
    fn new(v1: bool) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            v1,
            group: TaskGroup::new("test"),
        }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Files of a cgroup.
    fn group(&self, group: &str, files: &[(&str, &str)]) {
        for (file, text) in files {
            let hierarchy = if self.v1 { controller(file) } else { "unified" };
            self.write(&format!("cg/{hierarchy}/{group}/{file}"), text);
        }
    }

    fn process(&self, pid: u32, group: &str) {
        self.write(
            &format!("proc/{pid}/cgroup"),
            &format!("4:memory:{group}\n0::{group}\n"),
        );
    }

    fn stats(&self) -> Stats {
        let at = |name: &str| self.dir.path().join("cg").join(name);
        let hierarchies = if self.v1 {
            Hierarchies::v1(
                ["cpuacct", "memory", "pids", "blkio"].map(|name| (name.to_owned(), at(name))),
            )
        } else {
            Hierarchies::v2(at("unified"))
        };
        let kernel = Kernel::new(Some(CgroupFs::new(hierarchies)), Proc::at(self.dir.path()));
        Stats::new(kernel, Arc::new(SameHost), self.group.spawner())
    }
}

const V1: &[(&str, &str)] = &[
    ("cpuacct.usage", "5000\n"),
    ("memory.usage_in_bytes", "1000\n"),
    ("memory.limit_in_bytes", "2000\n"),
    ("memory.memsw.limit_in_bytes", "2500\n"),
    (
        "memory.stat",
        "total_rss 300\ntotal_swap 20\ntotal_inactive_file 400\ntotal_pgfault 7\ntotal_pgmajfault 1\n",
    ),
    ("pids.current", "3\n"),
];
const V2: &[(&str, &str)] = &[
    ("cpu.stat", "usage_usec 5\n"),
    ("memory.current", "1000\n"),
    ("memory.max", "2000\n"),
    ("memory.swap.current", "20\n"),
    ("memory.swap.max", "500\n"),
    (
        "memory.stat",
        "anon 300\ninactive_file 400\npgfault 7\npgmajfault 1\n",
    ),
    ("pids.current", "3\n"),
    (
        "cpu.pressure",
        "some avg10=1.05 avg60=0.00 avg300=0.00 total=345\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=6\n",
    ),
];

fn record(id: &str, sandbox: Option<&str>, pid: i64, parent: &str) -> Arc<Record> {
    let mut labels = BTreeMap::from([(
        "io.kubernetes.docker.type".to_owned(),
        "podsandbox".to_owned(),
    )]);
    if let Some(sandbox) = sandbox {
        labels.insert(
            "io.kubernetes.docker.type".to_owned(),
            "container".to_owned(),
        );
        labels.insert("io.kubernetes.sandbox.id".to_owned(), sandbox.to_owned());
    }
    let mut inspect = ContainerInspect {
        id: id.to_owned(),
        name: format!(
            "/k8s_{}_pod_ns_uid_0",
            if sandbox.is_some() { "web" } else { "POD" }
        ),
        created: "2024-05-01T10:00:00Z".to_owned(),
        ..ContainerInspect::default()
    };
    inspect.config.labels = labels;
    inspect.host_config.cgroup_parent = parent.to_owned();
    inspect.state.running = pid > 0;
    inspect.state.pid = pid;
    Arc::new(Record::from_inspect(&inspect).unwrap())
}

fn number(value: impl Into<Option<u64>>) -> Option<v1::UInt64Value> {
    value.into().map(|value| v1::UInt64Value { value })
}

#[tokio::test]
async fn container_is_read_from_both_versions_and_both_drivers() {
    for (v1, files) in [(true, V1), (false, V2)] {
        for (driver, parent, group) in [
            (
                CgroupDriver::Cgroupfs,
                "/kubepods/pod1",
                "kubepods/pod1/abc",
            ),
            (
                CgroupDriver::Systemd,
                "kubepods-pod1.slice",
                "kubepods.slice/kubepods-pod1.slice/docker-abc.scope",
            ),
        ] {
            let node = Node::new(v1);
            node.group(group, files);
            let stats = node.stats();
            let shown = stats
                .containers(vec![record("abc", Some("s"), 7, parent)], Some(driver))
                .await;
            let cpu = shown[0].cpu.as_ref().unwrap();
            assert_eq!(cpu.usage_core_nano_seconds, number(5000));
            assert_eq!(cpu.usage_nano_cores, None, "one reading has no rate");
            let memory = shown[0].memory.as_ref().unwrap();
            assert_eq!(memory.working_set_bytes, number(600));
            assert_eq!(
                (memory.usage_bytes, memory.available_bytes),
                (number(1000), number(1400))
            );
            assert_eq!(
                (memory.page_faults, memory.major_page_faults),
                (number(7), number(1))
            );
            assert_eq!(memory.rss_bytes, number(300));
            let swap = shown[0].swap.as_ref().unwrap();
            assert_eq!(
                (swap.swap_usage_bytes, swap.swap_available_bytes),
                (number(20), number(480))
            );
            assert_eq!(cpu.psi.is_some(), !v1);
            if let Some(psi) = &cpu.psi {
                let some = psi.some.as_ref().unwrap();
                assert_eq!((some.total, some.avg10.to_string().as_str()), (345, "1.05"));
            }
        }
    }
}

#[tokio::test]
async fn container_elsewhere_is_found_by_its_process() {
    let node = Node::new(true);
    node.group("outer/docker/abc", V1);
    node.process(7, "/outer/docker/abc/init.scope");
    let stats = node.stats();
    for driver in [None, Some(CgroupDriver::Cgroupfs)] {
        let shown = stats
            .containers(vec![record("abc", Some("s"), 7, "")], driver)
            .await;
        assert_eq!(
            shown[0].cpu.as_ref().unwrap().usage_core_nano_seconds,
            number(5000)
        );
    }
    // Another process has the number now: no figures rather than another's.
    node.process(7, "/outer/docker/other");
    let shown = stats
        .containers(vec![record("abc", Some("s"), 7, "")], None)
        .await;
    let cpu = shown[0].cpu.as_ref().unwrap();
    assert!(cpu.timestamp > 0 && cpu.usage_core_nano_seconds.is_none());
}

#[tokio::test]
async fn container_that_does_not_run_shows_zeros_and_its_layer() {
    let node = Node::new(false);
    node.write("docker/overlay2/l/diff/file", "text");
    let mut ended = Record::clone(&record("abc", Some("s"), 0, ""));
    ended.upper_dir = node
        .dir
        .path()
        .join("docker/overlay2/l/diff")
        .display()
        .to_string();
    let stats = node.stats();
    let shown = stats
        .containers(vec![Arc::new(ended)], Some(CgroupDriver::Cgroupfs))
        .await;
    assert_eq!(
        shown[0].cpu.as_ref().unwrap().usage_core_nano_seconds,
        number(0)
    );
    assert!(shown[0].memory.as_ref().unwrap().timestamp > 0);
    stats.layers.settled().await;
    let size = stats.layers.size("abc").unwrap();
    assert_eq!(size.usage.inodes, 2);
    assert_eq!(Path::new(&size.file_system), node.dir.path().join("docker"));
    assert!(stats.layers.total_bytes().unwrap() > 0);
    stats.keep_only(&HashSet::new());
    assert_eq!(stats.layers.total_bytes(), None);
}

fn pod(parent: &str) -> Pod {
    Pod {
        sandbox: record("sandbox", None, 6, parent),
        containers: vec![record("abc", Some("sandbox"), 7, parent)],
    }
}

#[tokio::test]
async fn pod_is_its_own_group_its_network_and_its_containers() {
    let node = Node::new(false);
    node.group("kubepods/pod1", V2);
    node.group("kubepods/pod1/abc", &[("cpu.stat", "usage_usec 2\n")]);
    node.process(6, "/kubepods/pod1/sandbox");
    node.write(
        "proc/6/net/dev",
        "Inter-| Receive\n face |bytes\n lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\nweave: 5 0 0 0 0 0 0 0 6 0 0 0 0 0 0 0\n eth0: 1 2 3 4 0 0 0 0 7 8 9 10 0 0 0 0\n",
    );
    let stats = node.stats();
    let shown = stats
        .pods(vec![pod("/kubepods/pod1")], Some(CgroupDriver::Cgroupfs))
        .await;
    let linux = shown[0].linux.as_ref().unwrap();
    assert_eq!(
        linux.cpu.as_ref().unwrap().usage_core_nano_seconds,
        number(5000)
    );
    assert_eq!(linux.process.as_ref().unwrap().process_count, number(3));
    let network = linux.network.as_ref().unwrap();
    let default = network.default_interface.as_ref().unwrap();
    assert_eq!(
        (default.name.as_str(), default.rx_bytes, default.tx_errors),
        ("eth0", number(1), number(9))
    );
    assert_eq!(network.interfaces.len(), 1);
    assert_eq!(network.interfaces[0].name, "weave");
    let container = linux.containers[0].cpu.as_ref().unwrap();
    assert_eq!(container.usage_core_nano_seconds, number(2000));

    let metrics = metrics::collect(
        &stats.kernel,
        &[pod("/kubepods/pod1")],
        Some(CgroupDriver::Cgroupfs),
        vec![None],
        None,
    );
    let received = metrics[0]
        .metrics
        .iter()
        .find(|m| m.name == "container_network_receive_bytes_total")
        .unwrap();
    assert_eq!(
        received.label_values[..2],
        ["POD", ""],
        "its own group is not there"
    );
    assert_eq!(
        metrics[0].container_metrics[0].metrics[0].label_values[1],
        "/kubepods/pod1/abc"
    );
}

#[tokio::test]
async fn pod_without_a_group_of_its_own_is_the_sum_of_its_members() {
    let node = Node::new(false);
    node.group("docker", &[("cpu.stat", "usage_usec 1000000\n")]);
    node.group(
        "docker/sandbox",
        &[("cpu.stat", "usage_usec 1\n"), ("pids.current", "1")],
    );
    node.group("docker/abc", V2);
    let stats = node.stats();
    let shown = stats
        .pods(vec![pod("")], Some(CgroupDriver::Cgroupfs))
        .await;
    let linux = shown[0].linux.as_ref().unwrap();
    assert_eq!(
        linux.cpu.as_ref().unwrap().usage_core_nano_seconds,
        number(6000)
    );
    assert_eq!(linux.process.as_ref().unwrap().process_count, number(4));
    assert_eq!(linux.network, None, "the process is out of sight");
}

#[tokio::test]
async fn two_hundred_containers_are_listed_with_their_figures() {
    let node = Node::new(true);
    // As long as the kernel's.
    let filler = "some_counter_or_other 123456\n".repeat(34);
    let stat = format!("{filler}total_rss 300\ntotal_inactive_file 400\n");
    let records: Vec<_> = (0..200)
        .map(|n| {
            let id = format!("{n:064}");
            node.group(&format!("kubepods/pod1/{id}"), V1);
            node.group(&format!("kubepods/pod1/{id}"), &[("memory.stat", &stat)]);
            record(&id, Some("s"), 7, "/kubepods/pod1")
        })
        .collect();
    let stats = node.stats();
    let shown = stats
        .containers(records, Some(CgroupDriver::Cgroupfs))
        .await;
    let sizes = shown.iter().map(|one| one.memory.as_ref().unwrap());
    assert_eq!(sizes.len(), 200);
    for size in sizes {
        assert_eq!(size.working_set_bytes, number(600));
    }
}
