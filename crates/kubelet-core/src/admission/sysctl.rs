//! Sysctls that pods may set (SPEC-60, ADM-07).

use thiserror::Error;

/// Sysctls that harm nobody else, with the kernel that first keeps them apart per namespace.
const SAFE: [(&str, (u32, u32)); 12] = [
    ("kernel.shm_rmid_forced", (0, 0)),
    ("net.ipv4.ip_local_port_range", (0, 0)),
    ("net.ipv4.tcp_syncookies", (0, 0)),
    ("net.ipv4.ping_group_range", (0, 0)),
    ("net.ipv4.ip_unprivileged_port_start", (0, 0)),
    ("net.ipv4.ip_local_reserved_ports", (3, 16)),
    ("net.ipv4.tcp_keepalive_time", (4, 5)),
    ("net.ipv4.tcp_fin_timeout", (4, 6)),
    ("net.ipv4.tcp_keepalive_intvl", (4, 5)),
    ("net.ipv4.tcp_keepalive_probes", (4, 5)),
    ("net.ipv4.tcp_rmem", (4, 15)),
    ("net.ipv4.tcp_wmem", (4, 15)),
];

/// Longest name or pattern, in bytes.
const MAX_BYTES: usize = 253;

/// Whether it may be a sysctl's name, `net.core.somaxconn` or with slashes (Kubernetes, `IsValidSysctlName`).
pub(crate) fn is_sysctl_name(text: &str) -> bool {
    let outer = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let inner = |byte: u8| outer(byte) || byte == b'-' || byte == b'_';
    let is_part = |part: &str| {
        part.bytes().all(inner)
            && part.bytes().next().is_some_and(outer)
            && part.bytes().last().is_some_and(outer)
    };
    text.len() <= MAX_BYTES && text.split(['.', '/']).all(is_part)
}

/// A name, or the beginning of one and a star (Kubernetes, `IsValidSysctlPattern`).
fn is_sysctl_pattern(text: &str) -> bool {
    text.strip_suffix('*').map_or_else(
        || is_sysctl_name(text),
        |begin| is_sysctl_name(&format!("{begin}0")),
    )
}

/// Names of the safe sysctls that a kernel of that version (major, minor) keeps apart.
pub fn safe_sysctls(kernel: (u32, u32)) -> Vec<String> {
    let known = SAFE.iter().filter(|(_, since)| kernel >= *since);
    known.map(|(name, _)| (*name).to_owned()).collect()
}

/// A pattern in `allowedUnsafeSysctls` that can't be allowed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SysctlPatternError {
    /// No name, and not the beginning of one and a star.
    #[error(
        "sysctl {0:?} must have at most {MAX_BYTES} characters and match regex \
         ([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*([a-z0-9][-_a-z0-9]*)?[a-z0-9*]"
    )]
    Malformed(String),
    /// The kernel has one value for all.
    #[error("the sysctls \"{0}\" are not known to be namespaced")]
    NotNamespaced(String),
}

/// The kind of namespace that a kernel setting belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SysctlNamespace {
    Ipc,
    Net,
}

impl SysctlNamespace {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ipc => "IPC",
            Self::Net => "Net",
        }
    }

    /// Of a normalised name or prefix.
    pub(crate) fn of(name: &str) -> Option<Self> {
        // `kernel.shm` and `kernel.msg` stand for the patterns `kernel.shm*` and `kernel.msg*`.
        const IPC: [&str; 10] = [
            "kernel.sem",
            "kernel.shmall",
            "kernel.shmmax",
            "kernel.shmmni",
            "kernel.shm_rmid_forced",
            "kernel.shm",
            "kernel.msgmax",
            "kernel.msgmnb",
            "kernel.msgmni",
            "kernel.msg",
        ];
        if IPC.contains(&name) || name.starts_with("fs.mqueue.") {
            Some(Self::Ipc)
        } else {
            name.starts_with("net.").then_some(Self::Net)
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    name: String,
    is_prefix: bool,
    namespace: SysctlNamespace,
}

/// The sysctls that pods may set: safe ones and those that the configuration adds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SysctlAllowList(Vec<Pattern>);

impl SysctlAllowList {
    /// A list of names and of patterns that end in `*`.
    ///
    /// # Errors
    /// For what is no name or pattern, and for a name that is not apart per namespace.
    pub fn new<'a>(
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, SysctlPatternError> {
        let pattern = |text: &str| {
            if !is_sysctl_pattern(text) {
                return Err(SysctlPatternError::Malformed(text.to_owned()));
            }
            let name = normal_sysctl(text);
            let (name, is_prefix) = match name.split_once('*') {
                Some((prefix, _)) => (prefix.to_owned(), true),
                None => (name, false),
            };
            let namespace = SysctlNamespace::of(&name)
                .ok_or_else(|| SysctlPatternError::NotNamespaced(name.clone()))?;
            Ok(Pattern {
                name,
                is_prefix,
                namespace,
            })
        };
        patterns
            .into_iter()
            .map(pattern)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether a pod may set it; else why not, in upstream's words.
    pub(super) fn check(
        &self,
        name: &str,
        host_network: bool,
        host_ipc: bool,
    ) -> Result<(), String> {
        let name = normal_sysctl(name);
        let exact = self
            .0
            .iter()
            .find(|pattern| !pattern.is_prefix && pattern.name == name);
        let by_prefix = || {
            self.0
                .iter()
                .find(|pattern| pattern.is_prefix && name.starts_with(&pattern.name))
        };
        let Some(pattern) = exact.or_else(by_prefix) else {
            return Err(format!("\"{name}\" not allowlisted"));
        };
        let shared = match pattern.namespace {
            SysctlNamespace::Ipc => host_ipc,
            SysctlNamespace::Net => host_network,
        };
        if shared {
            let namespace = pattern.namespace.as_str();
            return Err(format!(
                "\"{name}\" not allowed with host {namespace} enabled"
            ));
        }
        Ok(())
    }
}

/// A sysctl's name with dots between its parts (SPEC-51). Where the first separator is a slash,
/// dots belong to names: `net/ipv4/conf/eth0.1/rp_filter`.
pub fn normal_sysctl(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'/' => {
            let swap = |character| match character {
                '/' => '.',
                '.' => '/',
                other => other,
            };
            name.chars().map(swap).collect()
        }
        _ => name.to_owned(),
    }
}
