//! The driver on temporary directories that mimic each layout, and, as root, on this machine's own
//! hierarchies.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use super::*;

fn group(text: &str) -> CgroupPath {
    CgroupPath::new(text).unwrap()
}

fn limits() -> Resources {
    Resources {
        cpu_shares: Some(1024),
        cpu_quota: Some(CpuQuota {
            quota_micros: Limit::At(50_000),
            period_micros: 100_000,
        }),
        memory_max_bytes: Some(Limit::At(64 << 20)),
        pids_max: Some(Limit::At(100)),
        ..Resources::default()
    }
}

/// Makes the files that the kernel would make for a group.
fn populate(directory: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(directory).unwrap();
    for (name, text) in files {
        fs::write(directory.join(name), text).unwrap();
    }
}

const V2_FILES: [(&str, &str); 9] = [
    ("cgroup.controllers", "cpuset cpu memory pids\n"),
    ("cgroup.subtree_control", ""),
    ("cgroup.procs", ""),
    ("cpu.weight", "100\n"),
    ("cpu.max", "max 100000\n"),
    ("memory.max", "max\n"),
    ("memory.current", "4096\n"),
    ("memory.oom.group", "0\n"),
    ("pids.max", "max\n"),
];

#[test]
fn version_2_limits_are_written_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    populate(dir.path(), &V2_FILES);
    populate(&dir.path().join("kubepods"), &V2_FILES);
    let cgroups = CgroupFs::new(Hierarchies::v2(dir.path().to_owned()));
    let group = group("/kubepods");
    let wanted = Resources {
        memory_oom_group: Some(true),
        hugetlb_max_bytes: BTreeMap::from([("2MB".to_owned(), 0)]),
        ..limits()
    };
    assert_eq!(
        cgroups.create(&group, &wanted).unwrap(),
        ["hugetlb"],
        "the one that is missing"
    );
    let text = |file: &str| fs::read_to_string(dir.path().join("kubepods").join(file)).unwrap();
    assert_eq!(text("cpu.max"), "50000 100000");
    assert_eq!(text("memory.max"), "67108864");
    assert_eq!(text("memory.oom.group"), "1");
    let root = |file: &str| fs::read_to_string(dir.path().join(file)).unwrap();
    // A regular file keeps the last write; the kernel would have taken each of them.
    assert_eq!(root("cgroup.subtree_control"), "+pids");
    let read = cgroups.read(&group).unwrap();
    assert_eq!(read.memory_max_bytes, Some(Limit::At(64 << 20)));
    assert_eq!(read.cpu_shares.map(weight_from_shares), Some(39));
    assert_eq!(
        cgroups.stats(&group).unwrap().memory_usage_bytes,
        Some(4096)
    );
}

#[test]
fn missing_memory_controller_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    for directory in [dir.path().to_owned(), dir.path().join("kubepods")] {
        populate(&directory, &V2_FILES);
        fs::write(directory.join("cgroup.controllers"), "cpu pids\n").unwrap();
    }
    let cgroups = CgroupFs::new(Hierarchies::v2(dir.path().to_owned()));
    let error = cgroups.create(&group("/kubepods"), &limits()).unwrap_err();
    assert!(
        matches!(
            error,
            CgroupError::NoController {
                controller: "memory",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn version_1_groups_are_made_in_every_hierarchy_with_their_cpuset() {
    let dir = tempfile::tempdir().unwrap();
    let root = |name: &str| dir.path().join(name);
    let cgroups = CgroupFs::new(Hierarchies::v1(
        ["cpu", "cpuacct", "cpuset", "memory", "pids", "name=systemd"]
            .map(|name| (name.to_owned(), root(name))),
    ));
    populate(
        &root("cpuset"),
        &[("cpuset.cpus", "0-1\n"), ("cpuset.mems", "0\n")],
    );
    populate(
        &root("cpuset").join("kubepods"),
        &[("cpuset.cpus", "\n"), ("cpuset.mems", "\n")],
    );
    let cpu = [
        ("cpu.shares", "1024\n"),
        ("cpu.cfs_period_us", ""),
        ("cpu.cfs_quota_us", ""),
    ];
    populate(&root("cpu").join("kubepods"), &cpu);
    populate(
        &root("memory").join("kubepods"),
        &[("memory.limit_in_bytes", "")],
    );
    populate(&root("pids").join("kubepods"), &[("pids.max", "max\n")]);
    let group = group("/kubepods");
    cgroups.create(&group, &limits()).unwrap();
    assert!(cgroups.exists(&group));
    assert!(root("name=systemd").join("kubepods").is_dir());
    let text = |controller: &str, file: &str| {
        fs::read_to_string(root(controller).join("kubepods").join(file)).unwrap()
    };
    assert_eq!(text("cpuset", "cpuset.cpus"), "0-1");
    assert_eq!(text("cpu", "cpu.cfs_quota_us"), "50000");
    assert_eq!(text("memory", "memory.limit_in_bytes"), "67108864");
    assert_eq!(cgroups.children(&CgroupPath::root()).unwrap(), ["kubepods"]);
}

#[test]
fn group_that_is_gone_is_not_found_and_removing_it_is_fine() {
    let dir = tempfile::tempdir().unwrap();
    let cgroups = CgroupFs::new(Hierarchies::v2(dir.path().to_owned()));
    let gone = group("/kubepods/pod1");
    assert!(matches!(
        cgroups.apply(&gone, &limits()),
        Err(CgroupError::NotFound(_))
    ));
    assert!(matches!(cgroups.read(&gone), Err(CgroupError::NotFound(_))));
    assert_eq!(cgroups.children(&gone).unwrap(), Vec::<String>::new());
    cgroups.remove(&gone).unwrap();
}

/// This machine's cgroups and a group of our own in them, or the reason that there are none.
fn real(name: &str) -> Option<(CgroupFs, CgroupPath)> {
    let group = group(&format!("/berth-test-{name}-{}", std::process::id()));
    let opened = CgroupFs::open().and_then(|cgroups| {
        cgroups.create(&group, &Resources::default())?;
        Ok(cgroups)
    });
    let missing = opened
        .as_ref()
        .err()
        .map(|error| format!("no cgroups to write to: {error}"));
    testkit::prerequisite("root", missing).then(|| (opened.unwrap(), group))
}

#[test]
fn kernel_takes_and_shows_the_limits() {
    let Some((cgroups, parent)) = real("limits") else {
        return;
    };
    let pod = parent.child("pod").unwrap();
    let given_up = cgroups.create(&pod, &limits()).unwrap();
    let read = cgroups.read(&pod).unwrap();
    assert_eq!(read.cpu_quota, limits().cpu_quota);
    assert_eq!(read.memory_max_bytes, limits().memory_max_bytes);
    assert_eq!(read.cpu_shares.map(weight_from_shares), Some(39));
    assert_eq!(
        read.pids_max,
        limits().pids_max.filter(|_| !given_up.contains(&"pids"))
    );
    let relaxed = Resources {
        cpu_quota: Some(CpuQuota {
            quota_micros: Limit::Max,
            period_micros: 20_000,
        }),
        memory_max_bytes: Some(Limit::Max),
        ..Resources::default()
    };
    cgroups.apply(&pod, &relaxed).unwrap();
    let read = cgroups.read(&pod).unwrap();
    assert_eq!(read.cpu_quota, relaxed.cpu_quota);
    assert_eq!(read.memory_max_bytes, Some(Limit::Max));
    assert!(cgroups.stats(&pod).unwrap().cpu_usage_nanos.is_some());
    assert_eq!(cgroups.children(&parent).unwrap(), ["pod"]);
    cgroups.remove(&parent).unwrap();
    assert!(!cgroups.exists(&parent));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a process to be killed")]
fn left_over_processes_are_killed_with_their_group() {
    let Some((cgroups, parent)) = real("kill") else {
        return;
    };
    let pod = parent.child("pod").unwrap();
    cgroups.create(&pod, &Resources::default()).unwrap();
    let mut child = Command::new("sleep")
        .arg("1000")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let procs = cgroups.directory("cpu", &pod).unwrap().join("cgroup.procs");
    fs::write(procs, child.id().to_string()).unwrap();
    assert_eq!(cgroups.pids(&parent).unwrap(), [child.id()]);
    cgroups.remove(&parent).unwrap();
    assert!(!cgroups.exists(&pod));
    assert!(!child.wait().unwrap().success());
}

/// Version 2 beside version 1 has no controllers left, but all that the kernel measures by itself.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "processes to wait for one another"
)]
fn pressure_is_what_the_kernel_says_of_processes_that_wait() {
    let mounts = crate::mountinfo::read_own().unwrap();
    let unified = mounts.iter().find(|mount| mount.fs_type == "cgroup2");
    let group = group(&format!("/berth-test-pressure-{}", std::process::id()));
    let made = match unified {
        None => Err("no cgroup2 is mounted".to_owned()),
        Some(_) if fs::read("/proc/pressure/cpu").is_err() => Err("no pressure figures".to_owned()),
        Some(mount) => fs::create_dir(group.below(&mount.mount_point))
            .map_err(|error| format!("no cgroups to write to: {error}")),
    };
    if !testkit::prerequisite("pressure", made.err()) {
        return;
    }
    let root = unified.unwrap().mount_point.clone();
    let cgroups = CgroupFs::new(Hierarchies::v2(root.clone()));
    let directory = group.below(&root);
    let processors = std::thread::available_parallelism().unwrap().get();
    let mut busy: Vec<_> = (0..=processors)
        .map(|_| {
            let child = Command::new("sh")
                // Whatever happens here, it ends.
                .args(["-c", "ulimit -t 60; while :; do :; done"])
                .stdin(Stdio::null())
                .spawn()
                .unwrap();
            fs::write(directory.join("cgroup.procs"), child.id().to_string()).unwrap();
            child
        })
        .collect();
    let stats = testkit::eventually(Duration::from_secs(20), || {
        let stats = cgroups.usage(&group).unwrap();
        let waited = stats.cpu_pressure.is_some_and(|cpu| {
            cpu.some.total_micros > 0 && cpu.some.average_10 > 0 && cpu.some.average_10 <= 10_000
        });
        if waited {
            Ok(stats)
        } else {
            Err(format!("{:?}", stats.cpu_pressure))
        }
    });
    for child in &mut busy {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    fs::remove_dir(&directory).unwrap();
    assert!(stats.cpu_usage_nanos.is_some_and(|used| used > 0));
    assert!(stats.memory_pressure.is_some() && stats.io_pressure.is_some());
}
