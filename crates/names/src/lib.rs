//! Addresses of hosts' names, as Go's resolver finds them (`net`, `goLookupIPCNAMEOrder`): first in
//! `/etc/hosts`, then from the name servers of `/etc/resolv.conf`. Both are read for each name, so
//! that a change counts at once; nothing is kept between names.
//!
//! Beside them, [`registry`]: names of registries as files of credentials have them.
//!
//! The C library's resolver cannot be linked statically and is never asked.
//!
//! Differs (SRC-10, PROBE-10): `/etc/nsswitch.conf` is not read: files come before DNS, and nothing after. IPv4
//! addresses come before all others, and `rotate` and `single-request` in `/etc/resolv.conf` change nothing.

mod dial;
mod dns;
mod domain;
mod hosts;
pub mod registry;
mod resolv_conf;

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

pub use dial::first_of;
pub use hosts::in_hosts_file;

use self::resolv_conf::ResolvConf;

/// Where name servers listen.
const PORT: u16 = 53;

/// A name without an address. In the words of Go's `DNSError`.
#[derive(Debug, thiserror::Error)]
#[error("lookup {name}{}: {why}", server.map(|server| format!(" on {server}")).unwrap_or_default())]
pub struct LookupError {
    /// The name as it was asked for.
    pub name: String,
    /// Who was asked last.
    pub server: Option<SocketAddr>,
    /// What it said.
    pub why: Why,
}

/// What a name server said, or did not say.
///
/// Differs (SRC-10, PROBE-10): what goes wrong on the way to a name server is told without the addresses of the
/// socket.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// There is no such name, or it has no address.
    #[error("no such host")]
    NoSuchHost,
    /// No answer in the time of `/etc/resolv.conf`.
    #[error("i/o timeout")]
    Timeout,
    /// An answer that is none.
    #[error("server misbehaving")]
    Misbehaving,
    /// The server was not reached.
    #[error("{0}")]
    Unreachable(String),
}

/// Where names are looked up.
#[derive(Debug, Clone)]
pub struct Names {
    hosts: PathBuf,
    resolv_conf: PathBuf,
    /// Its domain is searched where `/etc/resolv.conf` names none.
    hostname: PathBuf,
    port: u16,
}

impl Default for Names {
    /// The system's files.
    fn default() -> Self {
        Self {
            hosts: "/etc/hosts".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            hostname: "/proc/sys/kernel/hostname".into(),
            port: PORT,
        }
    }
}

impl Names {
    /// Other files, and name servers on a port of their own.
    pub fn new(hosts: PathBuf, resolv_conf: PathBuf, port: u16) -> Self {
        Self {
            hosts,
            resolv_conf,
            port,
            ..Self::default()
        }
    }

    /// The addresses of a name, IPv4 first; at least one. An address is its own.
    ///
    /// Takes no longer than `/etc/resolv.conf` has it, by default some 10 s for each name server and
    /// each way to complete the name. Cancel-safe.
    ///
    /// # Errors
    /// When nobody knows the name.
    pub async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, LookupError> {
        if let Ok(ip) = name.parse() {
            return Ok(vec![ip]);
        }
        let known = {
            let (files, name) = (self.clone(), name.to_owned());
            daemon::blocking(move || files.read(&name)).await
        };
        match known {
            Known::Here(addresses) => Ok(addresses),
            // Even where no file says so.
            Known::Ask(_) if name.eq_ignore_ascii_case("localhost") => {
                Ok(vec![Ipv4Addr::LOCALHOST.into()])
            }
            Known::Ask(_) if !domain::is_domain_name(name) => Err(LookupError {
                name: name.to_owned(),
                server: None,
                why: Why::NoSuchHost,
            }),
            Known::Ask(config) => dns::ask(&config, self.port, name).await,
        }
    }

    /// Blocks.
    fn read(&self, name: &str) -> Known {
        let text = |path| {
            let bytes: io::Result<Vec<u8>> = fs::read(path);
            bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        let addresses = in_hosts_file(&text(&self.hosts).unwrap_or_default(), name);
        if !addresses.is_empty() {
            return Known::Here(addresses);
        }
        let hostname = text(&self.hostname).unwrap_or_default();
        // Without the file there are defaults.
        let config = text(&self.resolv_conf).unwrap_or_default();
        Known::Ask(ResolvConf::parse(&config, hostname.trim()))
    }
}

/// What the files say.
enum Known {
    Here(Vec<IpAddr>),
    Ask(ResolvConf),
}

#[cfg(test)]
mod tests;
