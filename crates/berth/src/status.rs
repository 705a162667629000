//! `berth status`: the node on one screen (NODE-04), read from its health and read-only ports and from
//! its runtime's socket.

mod manifests;
mod pods;
mod runtime;

use std::{
    ffi::OsString,
    fmt::Write as _,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use daemon::{
    ErrorChain,
    pflag::{Flag, Kind},
};
use jiff::Timestamp;
use kubelet_config::Settings;

use crate::{
    http::{self, HttpError, Peer},
    output,
    tool::{HELP, Tool},
};
use manifests::{Broken, Manifests};
use pods::Pod;

/// `berth status`.
pub(crate) const TOOL: Tool = Tool {
    name: "status",
    about: "Usage: berth status [flags] [kubelet flags]

Shows the node and its pods. Exits with 0 when the node answers, else with 1.",
    flags: &[
        HELP,
        Flag::new(
            "wait-running",
            Kind::Duration,
            "0s",
            "wait that long for at least one pod, and for all of them to run; exit 1 if they don't",
        ),
    ],
    describes_node: true,
};

/// A node that does not answer within this time counts as not running.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Between two looks while waiting. The ports have no way to be told of a change, and this is a
/// client, not the node.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What the node's ports tell.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    health: Health,
    pods: Pods,
    manifests: Manifests,
}

#[derive(Debug, PartialEq, Eq)]
enum Health {
    /// The port is turned off.
    Off,
    /// It says so.
    Healthy,
    /// It says why not.
    Unhealthy(String),
    /// Nobody listens.
    Silent,
    /// Something else went wrong.
    Unknown(String),
}

#[derive(Debug, PartialEq, Eq)]
enum Pods {
    Off,
    Listed(Vec<Pod>),
    Unknown(String),
}

/// Runs the tool.
pub(crate) fn run(words: Vec<OsString>) -> ExitCode {
    let (parsed, settings) = match TOOL.begin(words) {
        Ok(begun) => begun,
        Err(code) => return code,
    };
    let patience = parsed.duration("wait-running").to_std_or_zero();
    let (seen, is_good) = if patience.is_zero() {
        let seen = look(&settings);
        let answers = answers(&seen);
        (seen, answers)
    } else {
        wait(&settings, patience)
    };
    let runtime = runtime::ask(&settings.runtime.endpoint);
    output::text(&screen(&settings, &seen, &runtime, Timestamp::now()));
    if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Looks until all pods run or time is up.
fn wait(settings: &Settings, patience: Duration) -> (Seen, bool) {
    let deadline = Instant::now() + patience;
    loop {
        let seen = look(settings);
        let running = matches!(&seen.pods, Pods::Listed(pods) if all_run(pods));
        if running || Instant::now() >= deadline {
            return (seen, running);
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// There is a pod, and each runs or is done.
fn all_run(pods: &[Pod]) -> bool {
    !pods.is_empty() && pods.iter().all(Pod::is_content)
}

/// The node is there, as far as its open ports tell.
fn answers(seen: &Seen) -> bool {
    let health = matches!(seen.health, Health::Healthy | Health::Off);
    let pods = matches!(seen.pods, Pods::Listed(_) | Pods::Off);
    health && pods && !(seen.health == Health::Off && seen.pods == Pods::Off)
}

fn look(settings: &Settings) -> Seen {
    let health = match settings.servers.health {
        None => Health::Off,
        Some(address) => match get(address, "/healthz") {
            Ok(answer) if answer.is_success() => Health::Healthy,
            Ok(answer) => Health::Unhealthy(first_line(&answer.body)),
            Err(HttpError::Connect(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Health::Silent
            }
            Err(error) => Health::Unknown(ErrorChain(&error).to_string()),
        },
    };
    let pods = match settings.servers.read_only {
        None => Pods::Off,
        Some(address) => match get(address, "/pods") {
            Ok(answer) if answer.is_success() => match pods::parse(&answer.body) {
                Ok(mut pods) => {
                    pods::add_leaving(&mut pods, running(address));
                    Pods::Listed(pods)
                }
                Err(error) => Pods::Unknown(format!("{address}/pods: {error}")),
            },
            Ok(answer) => Pods::Unknown(format!(
                "{address}/pods: {} {}",
                answer.status,
                first_line(&answer.body)
            )),
            Err(error) => Pods::Unknown(format!("{address}: {}", ErrorChain(&error))),
        },
    };
    // Other kubelets have no such path.
    let manifests = match settings.servers.read_only.map(|at| get(at, "/manifests")) {
        Some(Ok(answer)) if answer.is_success() => manifests::parse(&answer.body),
        _ => Ok(Manifests::default()),
    };
    Seen {
        health,
        pods,
        manifests: manifests.unwrap_or_default(),
    }
}

/// The pods that have containers. Other kubelets have no such path on this port.
fn running(address: SocketAddr) -> Vec<Pod> {
    let answer = get(address, "/runningpods/").ok();
    let answer = answer.filter(http::Answer::is_success);
    answer
        .and_then(|answer| pods::parse(&answer.body).ok())
        .unwrap_or_default()
}

fn get(address: SocketAddr, path: &str) -> Result<http::Answer, HttpError> {
    http::ask(&Peer::Tcp(reachable(address)), "GET", path, TIMEOUT)
}

/// Where a server that listens on all addresses is reached from here.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn first_line(body: &[u8]) -> String {
    String::from_utf8_lossy(body)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// All that is shown.
fn screen(settings: &Settings, seen: &Seen, runtime: &str, now: Timestamp) -> String {
    let listed = match &seen.pods {
        Pods::Listed(pods) => pods.as_slice(),
        Pods::Off | Pods::Unknown(_) => &[],
    };
    let Manifests { node, broken } = &seen.manifests;
    // A node that was started with --hostname-override tells it itself; another kubelet by its pods.
    let told = node.as_deref().or_else(|| pods::node_name(listed));
    let otherwise = || settings.node_name(&node_os::proc::hostname());
    let name = told.map(str::to_owned).or_else(otherwise);
    let name = name.unwrap_or_default();
    let port = |address: Option<SocketAddr>| {
        address.map_or("no port".to_owned(), |address| address.to_string())
    };
    let state = match &seen.health {
        Health::Healthy => "healthy".to_owned(),
        Health::Unhealthy(why) => format!("NOT healthy: {why}"),
        Health::Silent => format!(
            "NOT running: nobody listens on {} (start it, or name its configuration with --config)",
            port(settings.servers.health)
        ),
        Health::Unknown(why) => {
            format!(
                "does not answer well on {}: {why}",
                port(settings.servers.health)
            )
        }
        Health::Off => "health unknown: healthzPort is 0".to_owned(),
    };
    let mut rows = vec![
        vec!["node".to_owned(), format!("{name}  {state}")],
        vec![
            "runtime".to_owned(),
            format!("{}  {runtime}", settings.runtime.endpoint),
        ],
    ];
    if let Some(path) = &settings.sources.static_pod_path {
        rows.push(vec!["manifests".to_owned(), path.display().to_string()]);
    }
    let mut text = output::columns(&rows);
    match &seen.pods {
        Pods::Listed(pods) if pods.is_empty() => {
            text.push_str("pods     none: put a manifest into the directory above\n");
        }
        Pods::Listed(pods) => {
            text.push('\n');
            text.push_str(&pods::table(pods, broken, now));
        }
        Pods::Off => text.push_str(
            "pods     unknown: the read-only port is off (set readOnlyPort: 10255 and address: \
             127.0.0.1)\n",
        ),
        Pods::Unknown(_) if seen.health == Health::Silent => {}
        Pods::Unknown(why) => {
            let _ = writeln!(text, "pods     unknown: {why}");
        }
    }
    let is_shown = |file: &&Broken| listed.iter().any(|pod| pod.is_kept_by(file));
    let without_pod = broken.iter().filter(|file| !is_shown(file));
    text.push_str(&manifests::table(without_pod));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(words: &[&str]) -> Box<Settings> {
        crate::tool::node(words.iter().map(OsString::from).collect()).unwrap()
    }

    #[test]
    fn a_silent_node_is_told_in_one_line() {
        let settings = settings(&["--hostname-override=n1"]);
        let seen = Seen {
            health: Health::Silent,
            pods: Pods::Unknown("refused".to_owned()),
            manifests: Manifests::default(),
        };
        let text = screen(&settings, &seen, "ready", Timestamp::UNIX_EPOCH);
        assert!(
            text.starts_with("node     n1  NOT running: nobody listens on 127.0.0.1:10248"),
            "{text}"
        );
        assert!(!text.contains("refused"), "{text}");
        assert!(!answers(&seen));
    }

    #[test]
    fn a_node_without_pods_says_what_to_do() {
        let settings = settings(&["--hostname-override=n1", "--pod-manifest-path=/m"]);
        let seen = Seen {
            health: Health::Healthy,
            pods: Pods::Listed(Vec::new()),
            manifests: Manifests::default(),
        };
        let away = "NOT ready: docker is down";
        let text = screen(&settings, &seen, away, Timestamp::UNIX_EPOCH);
        assert!(text.contains("manifests  /m\n"), "{text}");
        let runtime = text.lines().find(|line| line.starts_with("runtime"));
        assert!(runtime.is_some_and(|line| line.ends_with(".sock  NOT ready: docker is down")));
        assert!(text.contains("put a manifest"), "{text}");
        assert!(answers(&seen));
        assert!(!all_run(&[]));
    }

    #[test]
    fn a_broken_manifest_without_pod_is_told_below() {
        let settings = settings(&["--hostname-override=n1", "--pod-manifest-path=/m"]);
        let files = br#"{"node":"n2","items":[{"path":"/m/a.yaml","errors":["kind: missing"]}]}"#;
        let seen = Seen {
            health: Health::Healthy,
            pods: Pods::Listed(Vec::new()),
            manifests: manifests::parse(files).unwrap(),
        };
        let text = screen(&settings, &seen, "ready", Timestamp::UNIX_EPOCH);
        assert!(
            text.ends_with("no pod  /m/a.yaml: kind: missing\n"),
            "{text}"
        );
        // It was started with other flags than this tool.
        assert!(text.starts_with("node       n2  healthy"), "{text}");
    }

    #[test]
    fn closed_ports_are_not_taken_for_a_running_node() {
        assert!(!answers(&Seen {
            health: Health::Off,
            pods: Pods::Off,
            manifests: Manifests::default(),
        }));
        assert!(answers(&Seen {
            health: Health::Healthy,
            pods: Pods::Off,
            manifests: Manifests::default(),
        }));
    }

    #[test]
    fn servers_on_all_addresses_are_asked_on_loopback() {
        let all: SocketAddr = "0.0.0.0:10255".parse().unwrap();
        assert_eq!(reachable(all).to_string(), "127.0.0.1:10255");
        let all: SocketAddr = "[::]:1".parse().unwrap();
        assert_eq!(reachable(all).to_string(), "[::1]:1");
    }
}
