use std::fs;

use super::*;

#[test]
fn this_machine_answers_everything() {
    let proc = Proc::new();
    let memory = proc.meminfo().unwrap();
    assert!(memory.total_bytes > memory.available_bytes && memory.available_bytes > 0);
    assert!(proc.cpu_count().unwrap() >= 1);
    assert!(proc.boot_time_seconds().unwrap() > 1_000_000_000);
    assert_eq!(proc.boot_id().unwrap().len(), 36);
    assert!(proc.pid_limit().unwrap() > proc.pid_count().unwrap());
    assert!(!proc.os_release().unwrap().pretty_name.is_empty());
    assert!(!proc.sysctl("kernel.ostype").unwrap().is_empty());
    let own = proc.own_memory().unwrap();
    assert!(own.rss_bytes >= own.pss_bytes && own.pss_bytes > 0);
    let pid = std::process::id();
    let parent = proc.process(pid).unwrap().parent;
    assert!(proc.descendants(parent).unwrap().contains(&pid));
    assert!(!proc.cgroups(pid).unwrap().is_empty());
    proc.own_capabilities().unwrap();
    proc.swaps().unwrap();
}

#[test]
fn process_that_is_gone_is_told_apart() {
    assert!(Proc::new().process(4_194_305).unwrap_err().is_gone());
}

#[test]
fn files_of_another_root_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "proc/swaps",
        "Filename Type Size Used Priority\n/dev/sdb1 partition 1024 0 -2\n",
    );
    write(
        "proc/meminfo",
        "MemTotal: 10 kB\nMemAvailable: 4 kB\nHugePages_Total: 3\n",
    );
    write("etc/machine-id", "abc\n");
    let proc = Proc::at(dir.path());
    let swaps = proc.swaps().unwrap();
    assert_eq!(swaps[0].size_bytes, 1024 * 1024);
    assert_eq!(proc.meminfo().unwrap().available_bytes, 4096);
    assert_eq!(proc.machine_id().unwrap().as_deref(), Some("abc"));
    assert_eq!(proc.system_uuid(), None);
    write("proc/meminfo", "MemTotal: lots\n");
    let error = proc.meminfo().unwrap_err();
    assert!(error.to_string().contains("unexpected content"), "{error}");
}

#[test]
fn denied_limits_are_told_apart_from_wrong_ones() {
    let own = std::process::id();
    // Going up is always allowed.
    set_oom_score_adj(own, 100).unwrap();
    let wrong = set_oom_score_adj(own, 5000).unwrap_err();
    assert!(!wrong.is_denied(), "{wrong}");
    if !Proc::new()
        .own_capabilities()
        .unwrap()
        .has(Capability::SysResource)
    {
        assert!(set_oom_score_adj(own, -999).unwrap_err().is_denied());
    }
    assert!(raise_open_files(1).unwrap() >= 1);
}

#[test]
fn processors_that_tell_of_their_heat_are_found_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let cpus = dir.path().join("sys/devices/system/cpu");
    for name in [
        "cpu10/thermal_throttle",
        "cpu2/thermal_throttle",
        "cpu1",
        "cpufreq/thermal_throttle",
    ] {
        fs::create_dir_all(cpus.join(name)).unwrap();
    }
    assert_eq!(
        Proc::at(dir.path()).thermal_throttle(),
        [
            "/sys/devices/system/cpu/cpu2/thermal_throttle",
            "/sys/devices/system/cpu/cpu10/thermal_throttle"
        ]
    );
    assert!(page_bytes() >= 4096);
}
