//! The command line (FLG-01..25) and what it means.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ::streaming::TlsFiles;
use daemon::pflag::{Flag, FlagSet, Kind, Parsed, utf8_args};

use crate::engine::model::LogConfig;
use crate::network::cni::CniSettings;

/// Bad usage and failed starts end with upstream's code (FLG-21).
pub(crate) const EXIT_FAILED: u8 = 1;

/// Where Docker is, unless somebody says otherwise.
const DOCKER_SOCKET: &str = "unix:///var/run/docker.sock";
const CERTIFICATE: &str = "streaming-tls-cert-file";
const KEY: &str = "streaming-tls-private-key-file";
const CLIENT_CA: &str = "streaming-client-ca-file";

/// Where CNI's plugins are.
pub const CNI_BIN_DIR: Flag = Flag::new(
    "cni-bin-dir",
    Kind::String,
    "/opt/cni/bin",
    "A comma-separated list of full paths of directories in which to search for CNI plugin binaries.",
);
/// Where CNI's results are kept.
pub const CNI_CACHE_DIR: Flag = Flag::new(
    "cni-cache-dir",
    Kind::String,
    "/var/lib/cni/cache",
    "The full path of the directory in which CNI should store cache files.",
);

const FLAGS: &[Flag] = &[
    Flag::new(
        "container-runtime-endpoint",
        Kind::String,
        "unix:///var/run/cri-dockerd.sock",
        "The endpoint of the CRI service: unix://PATH, or fd:// for a socket handed over by systemd.",
    ),
    Flag::new(
        "docker-endpoint",
        Kind::String,
        DOCKER_SOCKET,
        "The docker endpoint to talk to. Empty: take DOCKER_HOST from the environment.",
    ),
    Flag::new(
        "cri-dockerd-root-directory",
        Kind::String,
        "/var/lib/cri-dockerd",
        "Path to the cri-dockerd root directory, where checkpoints are kept.",
    ),
    Flag::new(
        "pod-infra-container-image",
        Kind::String,
        "registry.k8s.io/pause:3.10",
        "The image whose network and ipc namespaces containers in each pod will use.",
    ),
    Flag::new(
        "image-pull-progress-deadline",
        Kind::Duration,
        "1m0s",
        "If no pulling progress is made before this deadline, the image pulling will be cancelled.",
    ),
    Flag::new(
        "runtime-request-timeout",
        Kind::Duration,
        "0s",
        "The timeout for all docker requests except long running ones; 0 is 1m59s.",
    ),
    Flag::new(
        "streaming-bind-addr",
        Kind::String,
        "",
        "The address to bind the streaming server to: IP or IP:port. Empty: 127.0.0.1, any port.",
    ),
    Flag::new(
        CERTIFICATE,
        Kind::String,
        "",
        "File with the streaming server's certificate, and those between it and the root, in PEM. Empty: no TLS.",
    ),
    Flag::new(
        KEY,
        Kind::String,
        "",
        "File with the private key of the streaming server's certificate, in PEM.",
    ),
    Flag::new(
        CLIENT_CA,
        Kind::String,
        "",
        "File with authorities in PEM, one of which must have signed the certificate of a streaming client. Empty: clients need none.",
    ),
    Flag::new(
        "network-plugin",
        Kind::String,
        "cni",
        "The network of pods: cni, or empty (no-op) for docker's own bridge.",
    ),
    Flag::new(
        "cni-fallback",
        Kind::String,
        "none",
        "What --network-plugin=cni does without a CNI configuration: none (pods wait) or bridge.",
    ),
    Flag::new(
        "bridge-network",
        Kind::String,
        "",
        "The docker network of pods without CNI. A user-defined one gives pods names: <pod> and <pod>.<namespace>.",
    ),
    Flag::new(
        "cni-conf-dir",
        Kind::String,
        "/etc/cni/net.d",
        "The full path of the directory in which to search for CNI config files.",
    ),
    CNI_BIN_DIR,
    CNI_CACHE_DIR,
    Flag::new(
        "pod-cidr",
        Kind::String,
        "",
        "The CIDR to use for pod IP addresses, only used in standalone mode: CNI's ipRanges. With two families: both, with a comma.",
    ),
    Flag::new(
        "ipv6-dual-stack",
        Kind::Bool,
        "false",
        "Accepted for compatibility: all addresses of a pod are always reported.",
    ),
    Flag::new(
        "hairpin-mode",
        Kind::String,
        "none",
        "promiscuous-bridge, hairpin-veth or none; without effect, as upstream without kubenet. With CNI see hairpinMode of the bridge plugin.",
    ),
    Flag::new(
        "network-plugin-mtu",
        Kind::Int32,
        "0",
        "Accepted for compatibility; upstream uses it with kubenet only.",
    ),
    Flag::new(
        "runtime-cgroups",
        Kind::String,
        "",
        "Accepted for compatibility: docker's own service manager places docker.",
    ),
    Flag::new(
        "log-level",
        Kind::String,
        "info",
        "The log level (panic, fatal, error, warn, info, debug, trace).",
    ),
    Flag::new(
        "version",
        Kind::Bool,
        "false",
        "Prints the version of cri-dockerd",
    ),
    Flag::new(
        "buildinfo",
        Kind::Bool,
        "false",
        "Prints the build information of cri-dockerd",
    ),
    Flag::new("help", Kind::Bool, "false", "Help for cri-dockerd").short('h'),
];

/// Upstream's limit of an ordinary call when none is given (FLG-06).
const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(119);

/// Where the CRI is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listen {
    /// A socket of our own.
    Path(PathBuf),
    /// One handed over by systemd (SYS-03).
    Inherited,
}

/// Which network pods get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plugin {
    /// Docker's bridge.
    Bridge,
    /// CNI; the flag says whether the bridge stands in where no configuration is.
    Cni {
        /// `--cni-fallback=bridge`.
        fall_back: bool,
    },
}

/// The settings of a run, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    pub(crate) listen: Listen,
    pub(crate) docker_endpoint: String,
    pub(crate) root: PathBuf,
    pub(crate) sandbox_image: String,
    pub(crate) pull_progress_deadline: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) streaming: SocketAddr,
    /// Its TLS.
    pub(crate) streaming_tls: Option<TlsFiles>,
    pub(crate) plugin: Plugin,
    /// `--bridge-network`.
    pub(crate) bridge_network: String,
    pub(crate) cni: CniSettings,
    /// `--v` that shows what the level shows.
    pub(crate) verbosity: u32,
    pub(crate) log_config: LogConfig,
}

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Command {
    /// Serve.
    Run(Box<Settings>),
    /// Print this on stdout and end well.
    Print(String),
}

/// A refused command line: text for stderr and exit code 1 (FLG-21).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Usage goes before the message.
    pub(crate) usage: bool,
    /// All that is wrong.
    pub(crate) problems: Vec<String>,
}

/// The flags, ready to parse.
pub(crate) fn flag_set() -> FlagSet {
    FlagSet::new(FLAGS)
}

/// The version of the original whose surface this is (NODE-11), set when it is built.
const COMPATIBLE_WITH: &str = match option_env!("CRI_DOCKERD_VERSION") {
    Some(version) => version,
    None => "0.3.21",
};

/// The usage text (FLG-22).
pub(crate) fn usage() -> String {
    format!(
        "Usage:\n  cri-dockerd [flags]\n\nFlags:\n{}",
        flag_set().usages()
    )
}

/// What Docker's own client reads from the environment; it counts where `--docker-endpoint` is empty.
#[derive(Debug, Clone, Default)]
pub(crate) struct DockerVariables {
    /// `DOCKER_HOST`.
    pub(crate) host: Option<String>,
    /// `DOCKER_CERT_PATH`: where it is set, that client speaks TLS.
    pub(crate) cert_path: Option<String>,
}

impl DockerVariables {
    /// The endpoint they name, by default the usual one.
    ///
    /// Differs: upstream speaks TLS where `DOCKER_CERT_PATH` is set (FLG-02); here it is refused, since
    /// Docker would be spoken to in the clear.
    fn endpoint(&self) -> Result<&str, String> {
        let given = |value| Option::as_deref(value).filter(|text: &&str| !text.is_empty());
        let host = given(&self.host).unwrap_or(DOCKER_SOCKET);
        if given(&self.cert_path).is_some() && !host.starts_with("unix://") {
            return Err(format!(
                "DOCKER_CERT_PATH: TLS to docker at {host} is not supported: unset it, and name an \
                 endpoint that needs none with --docker-endpoint"
            ));
        }
        Ok(host)
    }
}

/// Reads the arguments (without the program's name).
///
/// # Errors
/// [`Refused`] with every problem.
pub(crate) fn parse(args: Vec<OsString>, docker: &DockerVariables) -> Result<Command, Refused> {
    let refuse = |text: String| Refused {
        usage: true,
        problems: vec![text],
    };
    let args = utf8_args(args).map_err(|error| refuse(error.to_string()))?;
    let parsed = flag_set()
        .parse(args)
        .map_err(|failure| refuse(failure.to_string()))?;
    if let Some(word) = parsed.positional().first() {
        return Err(refuse(format!("Unknown command: {word}")));
    }
    if parsed.bool("help") {
        return Ok(Command::Print(format!(
            "CRI v1 in front of Docker Engine.\n\n{}",
            usage()
        )));
    }
    let version = COMPATIBLE_WITH.trim_start_matches('v');
    if parsed.bool("version") {
        return Ok(Command::Print(format!("cri-dockerd {version} (berth)\n")));
    }
    if parsed.bool("buildinfo") {
        return Ok(Command::Print(format!(
            "Program: cri-dockerd\nVersion: {version}\nGitCommit: berth\nGo version: none\n"
        )));
    }
    settings(&parsed, docker).map(|settings| Command::Run(Box::new(settings)))
}

fn settings(parsed: &Parsed, docker: &DockerVariables) -> Result<Settings, Refused> {
    let mut problems = Vec::new();
    let mut check = |result: Result<(), String>| problems.extend(result.err());

    let listen = listen(parsed.text("container-runtime-endpoint"));
    check(listen.as_ref().map(drop).map_err(Clone::clone));
    let streaming = streaming(parsed.text("streaming-bind-addr"));
    check(streaming.as_ref().map(drop).map_err(Clone::clone));
    let streaming_tls = streaming_tls([CERTIFICATE, KEY, CLIENT_CA].map(|name| parsed.text(name)));
    check(streaming_tls.as_ref().map(drop).map_err(Clone::clone));
    let plugin = plugin(parsed.text("network-plugin"), parsed.text("cni-fallback"));
    check(plugin.as_ref().map(drop).map_err(Clone::clone));
    check(hairpin_mode(parsed.text("hairpin-mode")));
    let bridge_network = bridge_network(parsed.text("bridge-network"));
    check(bridge_network.as_ref().map(drop).map_err(Clone::clone));
    let verbosity = verbosity(parsed.text("log-level"));
    check(verbosity.as_ref().map(drop).map_err(Clone::clone));
    let docker_endpoint = match parsed.text("docker-endpoint") {
        "" => docker.endpoint().map(str::to_owned),
        endpoint => Ok(endpoint.to_owned()),
    };
    check(docker_endpoint.as_ref().map(drop).map_err(Clone::clone));
    let (
        Ok(listen),
        Ok(streaming),
        Ok(streaming_tls),
        Ok(plugin),
        Ok(verbosity),
        Ok(bridge_network),
        Ok(docker_endpoint),
        true,
    ) = (
        listen,
        streaming,
        streaming_tls,
        plugin,
        verbosity,
        bridge_network,
        docker_endpoint,
        problems.is_empty(),
    )
    else {
        return Err(Refused {
            usage: false,
            problems,
        });
    };

    let text_or = |name: &str, default: &str| match parsed.text(name) {
        "" => default.to_owned(),
        text => text.to_owned(),
    };
    let duration = |name: &str| parsed.duration(name).to_std_or_zero();
    Ok(Settings {
        listen,
        docker_endpoint,
        root: parsed.text("cri-dockerd-root-directory").into(),
        sandbox_image: text_or("pod-infra-container-image", "registry.k8s.io/pause:3.10"),
        pull_progress_deadline: duration("image-pull-progress-deadline"),
        request_timeout: match duration("runtime-request-timeout") {
            Duration::ZERO => DEFAULT_REQUEST_TIMEOUT,
            timeout => timeout,
        },
        streaming,
        streaming_tls,
        plugin,
        bridge_network,
        cni: CniSettings {
            conf_dir: parsed.text("cni-conf-dir").into(),
            bin_dirs: directories(parsed.text(CNI_BIN_DIR.name)),
            cache_dir: parsed.text(CNI_CACHE_DIR.name).into(),
            pod_cidr: parsed.text("pod-cidr").to_owned(),
            environment: Vec::new(),
        },
        verbosity,
        log_config: LogConfig {
            kind: "json-file".to_owned(),
            config: [
                ("max-size", "16m"),
                ("max-file", "2"),
                ("compress", "false"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        },
    })
}

fn listen(endpoint: &str) -> Result<Listen, String> {
    let problem = |what: &str| Err(format!("--container-runtime-endpoint={endpoint}: {what}"));
    match endpoint.split_once("://") {
        Some(("unix", path)) if path.starts_with('/') => Ok(Listen::Path(path.into())),
        Some(("fd", "")) => Ok(Listen::Inherited),
        Some(("fd", _)) => problem("fd://NAME is not supported yet; write fd://"),
        // Differs: upstream crashes on a bare path (FLG-24).
        None if endpoint.starts_with('/') => Ok(Listen::Path(endpoint.into())),
        _ => problem("only support unix socket endpoint; write unix:///PATH or fd://"),
    }
}

fn streaming(text: &str) -> Result<SocketAddr, String> {
    if text.is_empty() {
        // Differs: upstream listens on all interfaces (CMP-12).
        return Ok(SocketAddr::from(([127, 0, 0, 1], 0)));
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|t| t.strip_suffix(']'))
        .unwrap_or(text);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, 0));
    }
    text.parse()
        .map_err(|_| format!("Could not parse the given streaming bind address: {text}"))
}

/// Differs: upstream's streaming has no TLS.
fn streaming_tls([certificate, key, client_ca]: [&str; 3]) -> Result<Option<TlsFiles>, String> {
    match (certificate, key) {
        ("", "") if client_ca.is_empty() => Ok(None),
        ("", _) | (_, "") => Err(format!("--{CERTIFICATE} and --{KEY} go together")),
        (certificate, key) => Ok(Some(TlsFiles {
            certificate: certificate.into(),
            key: key.into(),
            client_ca: Some(client_ca)
                .filter(|path| !path.is_empty())
                .map(Into::into),
        })),
    }
}

fn plugin(name: &str, fallback: &str) -> Result<Plugin, String> {
    let fall_back = match fallback {
        "none" => false,
        "bridge" => true,
        other => return Err(format!("--cni-fallback={other}: write none or bridge")),
    };
    match name {
        "" | "no-op" => Ok(Plugin::Bridge),
        "cni" => Ok(Plugin::Cni { fall_back }),
        "kubenet" => Err("--network-plugin=kubenet is not supported; use cni or \"\"".to_owned()),
        other => Err(format!("network plugin {other:?} not found")),
    }
}

/// Upstream's three words and its refusal (FLG-14).
fn hairpin_mode(mode: &str) -> Result<(), String> {
    match mode {
        "none" | "promiscuous-bridge" | "hairpin-veth" => Ok(()),
        other => Err(format!(
            "invalid argument {other:?} for \"--hairpin-mode\" flag: {other:?} is not a valid \
             hairpin-mode value, must be one of: [\"promiscuous-bridge\" \"hairpin-veth\" \"none\"]"
        )),
    }
}

/// A network whose pods are on it and nowhere else.
fn bridge_network(name: &str) -> Result<String, String> {
    if matches!(name, "host" | "none") || name.contains(':') {
        return Err(format!(
            "--bridge-network={name}: write the name of a docker network"
        ));
    }
    Ok(if matches!(name, "bridge" | "default") {
        String::new()
    } else {
        name.to_owned()
    })
}

/// Comma separated; empty elements are dropped (FLG-10).
pub(crate) fn directories(text: &str) -> Vec<PathBuf> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    parts.map(PathBuf::from).collect()
}

fn verbosity(level: &str) -> Result<u32, String> {
    match level {
        "panic" | "fatal" | "error" | "warn" | "warning" | "info" => Ok(2),
        "debug" => Ok(4),
        "trace" => Ok(6),
        other => Err(format!("Unknown log level: {other}")),
    }
}

#[cfg(test)]
mod tests;
