//! Everything that is done to the machine to bring an engine up.
#![expect(clippy::disallowed_methods, reason = "tests may start programs")]

use std::{
    collections::BTreeSet,
    fs::{self, File, Permissions},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::Pid;

use super::{EngineOptions, choice};

const KEEPER: &str = include_str!("keeper.sh");
const RESTRICTED_RUNC: &str = include_str!("runc-restricted.sh");
/// Bit of the capability sets in `/proc/self/status`.
const CAP_SYS_RESOURCE: u64 = 1 << 24;

/// Fails with the fix when no engine can run here.
pub(super) fn check_machine() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let root = status.lines().any(|line| line.starts_with("Uid:\t0\t0\t"));
    assert!(
        root,
        "tests with Docker start an engine of their own, which needs root"
    );
    assert!(
        choice::has_dockerd(),
        "Docker Engine is not installed: run .ci/install-engine"
    );
}

/// Makes the directory, the default bridge and the runtime's wrapper.
pub(super) fn prepare(directory: &Path) {
    fs::create_dir_all(directory).expect("a temporary directory can be made");
    fs::set_permissions(directory, Permissions::from_mode(0o711)).expect("it is ours");
    fs::write(directory.join("keeper.sh"), KEEPER).expect("it is ours");
    let wrapper = directory.join("runc-restricted");
    fs::write(&wrapper, RESTRICTED_RUNC).expect("it is ours");
    fs::set_permissions(&wrapper, Permissions::from_mode(0o755)).expect("it is ours");
    // Always one of our own: with `--bridge=none` dockerd removes docker0, be it another engine's.
    make_bridge(directory);
}

/// Starts the process that cleans up once nobody holds `lock`.
pub(super) fn start_keeper(directory: &Path, lock: &Path, linger: Duration) -> Child {
    Command::new("sh")
        .arg(directory.join("keeper.sh"))
        .args([directory, lock])
        .arg(linger.as_secs().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A Ctrl-C for the tests is not for the one who cleans up after them.
        .process_group(0)
        .current_dir("/")
        .spawn()
        .expect("sh can be started")
}

/// Starts dockerd, in the background and not as our child, since other test processes use it
/// after us.
pub(super) fn start_dockerd(directory: &Path, options: &EngineOptions) -> Pid {
    let path = |name: &str| directory.join(name).display().to_string();
    let name = directory
        .file_name()
        .expect("it has a name")
        .to_string_lossy();
    let mut arguments = vec![
        format!("--data-root={}", path("data")),
        format!("--exec-root={}", path("exec")),
        format!("--pidfile={}", path("docker.pid")),
        format!("--host=unix://{}", path("docker.sock")),
        format!("--cgroup-parent=/{name}"),
        // Keeps a configuration file of the machine's own engine out of it.
        format!("--config-file={}", path("daemon.json")),
        "--exec-opt=native.cgroupdriver=cgroupfs".to_owned(),
        "--iptables=false".to_owned(),
        "--ip6tables=false".to_owned(),
        "--ip-masq=false".to_owned(),
    ];
    let bridge = fs::read_to_string(directory.join("bridge")).expect("made by prepare");
    arguments.push(format!("--bridge={bridge}"));
    if let Ok(pool) = fs::read_to_string(directory.join("pool")) {
        arguments.push(format!("--default-address-pool=base={pool},size=28"));
    }
    if lacks_sys_resource() {
        arguments.push(format!(
            "--add-runtime=restricted={}",
            path("runc-restricted")
        ));
        arguments.push("--default-runtime=restricted".to_owned());
    }
    arguments.extend(options.arguments.iter().cloned());
    fs::write(directory.join("daemon.json"), choice::daemon_json()).expect("it is ours");
    // What a killed daemon left; its successor would refuse to start while another process
    // happens to have the number.
    drop(fs::remove_file(directory.join("docker.pid")));
    forget_dead_containerd(directory);
    let started = directory.join("started.pid");

    let log = File::options()
        .create(true)
        .append(true)
        .open(directory.join("log"))
        .expect("the log can be opened");
    let status = Command::new("setsid")
        .args(["sh", "-c", "\"$@\" & echo $! >\"$0\""])
        .arg(&started)
        .arg("dockerd")
        .args(&arguments)
        .env("PATH", choice::path())
        .env_remove("DOCKER_HOST")
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file can be shared"))
        .stderr(log)
        .current_dir("/")
        .status()
        .expect("setsid can be started");
    assert!(status.success(), "sh could not start dockerd: {status}");
    let pid = fs::read_to_string(&started).expect("sh has written it");
    pid.trim()
        .parse()
        .ok()
        .and_then(Pid::from_raw)
        .expect("sh writes a pid")
}

/// dockerd adopts the containerd of its predecessor when it lives, and takes a zombie for living;
/// on a machine whose init reaps nothing, a killed one stays a zombie.
fn forget_dead_containerd(directory: &Path) {
    let file = directory.join("exec/containerd/containerd.pid");
    let Ok(pid) = fs::read_to_string(&file) else {
        return;
    };
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    if matches!(state, None | Some('Z' | 'X')) {
        fs::remove_file(&file).expect("it is ours");
    }
}

pub(super) fn tail(path: &Path, lines: usize) -> String {
    let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn lacks_sys_resource() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let set = bounding.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    set.is_some_and(|set| set & CAP_SYS_RESOURCE == 0)
}

/// A bridge with a subnet that nothing on this machine uses yet; the subnet after it is the pool
/// for user-defined networks. Whoever makes the device of that name first has the subnet.
fn make_bridge(directory: &Path) {
    let used = used_second_bytes();
    let from = std::process::id() % 100;
    for step in 0..100 {
        let number = 100 + (from + step) % 100;
        if used.contains(&number) {
            continue;
        }
        let bridge = format!("brt-test{number}");
        if !ip(&["link", "add", &bridge, "type", "bridge"]) {
            continue;
        }
        fs::write(directory.join("bridge"), &bridge).expect("it is ours");
        fs::write(directory.join("pool"), format!("10.{number}.1.0/24")).expect("it is ours");
        assert!(ip(&[
            "address",
            "add",
            &format!("10.{number}.0.1/24"),
            "dev",
            &bridge
        ]));
        assert!(ip(&["link", "set", &bridge, "up"]));
        allow_forwarding(directory, &bridge);
        return;
    }
    panic!("no subnet 10.100.0.0/24 to 10.199.0.0/24 is free for a test bridge, or `ip` fails");
}

/// Second bytes of networks below 10.0.0.0/8 in the routing table.
fn used_second_bytes() -> BTreeSet<u32> {
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    routes
        .lines()
        .skip(1)
        .filter_map(|line| u32::from_str_radix(line.split_whitespace().nth(1)?, 16).ok())
        .map(u32::swap_bytes)
        .filter(|address| address >> 24 == 10)
        .map(|address| (address >> 16) & 0xff)
        .collect()
}

/// The machine's own engine may have set the policy of FORWARD to DROP, which also hits frames
/// between two ports of one bridge.
fn allow_forwarding(directory: &Path, bridge: &str) {
    let policy = Command::new("iptables")
        .args(["-w", "-S", "FORWARD"])
        .output();
    let drops = policy.is_ok_and(|output| output.stdout.starts_with(b"-P FORWARD DROP"));
    if drops {
        fs::write(directory.join("forward-rule"), "").expect("it is ours");
        let rule = [
            "-w", "-I", "FORWARD", "-i", bridge, "-o", bridge, "-j", "ACCEPT",
        ];
        let added = Command::new("iptables").args(rule).status();
        assert!(
            added.is_ok_and(|status| status.success()),
            "iptables refuses the bridge's rule"
        );
    }
}

fn ip(arguments: &[&str]) -> bool {
    Command::new("ip")
        .args(arguments)
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
