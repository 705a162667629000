//! Network namespaces of pods: their addresses, their counters, and work inside them.

mod netlink;

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use crate::{
    namespace,
    read::{self, ReadError},
};

/// Work in a network namespace failed.
#[derive(Debug, thiserror::Error)]
pub enum NetNsError {
    /// It could not be entered: gone, or not allowed.
    #[error("enter network namespace {0}")]
    Enter(PathBuf, #[source] io::Error),
    /// The kernel could not be asked for addresses.
    #[error("list addresses in network namespace {0}")]
    List(PathBuf, #[source] io::Error),
}

impl NetNsError {
    /// Whether the namespace is gone, as after its last process.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Enter(_, error) if read::is_gone(error))
    }
}

/// How far an address reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everywhere.
    Global,
    /// On one link, such as `fe80::/10`.
    Link,
    /// Inside the namespace, such as `127.0.0.1`.
    Host,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The interface's name.
    pub interface: String,
    /// The address.
    pub address: IpAddr,
    /// Length of the subnet's prefix in bits.
    pub prefix_length: u8,
    /// How far it reaches.
    pub scope: Scope,
}

/// The network namespace of a process, as a path.
pub fn of_process(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/net"))
}

/// Runs `work` inside a network namespace, on a thread made for it. Sockets made there stay in it
/// when they come back (DEC-22). A panic continues in the caller.
///
/// # Errors
/// When it cannot be entered.
pub fn run<T: Send>(namespace: &Path, work: impl FnOnce() -> T + Send) -> Result<T, NetNsError> {
    namespace::in_network(namespace, work)
        .map_err(|error| NetNsError::Enter(namespace.to_owned(), error))
}

/// All addresses in a network namespace, by interface in the kernel's order (DEC-21).
///
/// # Errors
/// When it cannot be entered or asked.
pub fn addresses(namespace: &Path) -> Result<Vec<InterfaceAddress>, NetNsError> {
    run(namespace, netlink::addresses)?
        .map_err(|error| NetNsError::List(namespace.to_owned(), error))
}

/// Counters of an interface since it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// The interface's name.
    pub name: String,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Errors while receiving.
    pub rx_errors: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Errors while sending.
    pub tx_errors: u64,
}

/// The counters of all interfaces that a process sees, loopback included.
///
/// # Errors
/// When the process is gone or the file unreadable.
pub fn counters(pid: u32) -> Result<Vec<InterfaceCounters>, ReadError> {
    let path = PathBuf::from(format!("/proc/{pid}/net/dev"));
    Ok(parse_counters(&read::text(&path)?))
}

fn parse_counters(text: &str) -> Vec<InterfaceCounters> {
    text.lines()
        .filter_map(|line| {
            let (name, numbers) = line.split_once(':')?;
            let numbers: Vec<u64> = numbers
                .split_whitespace()
                .map_while(|word| word.parse().ok())
                .collect();
            Some(InterfaceCounters {
                name: name.trim().to_owned(),
                rx_bytes: *numbers.first()?,
                rx_errors: *numbers.get(2)?,
                tx_bytes: *numbers.get(8)?,
                tx_errors: *numbers.get(10)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn counters_are_read_from_their_columns() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets errs\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
        let counters = parse_counters(text);
        assert_eq!(
            counters,
            [InterfaceCounters {
                name: "eth0".to_owned(),
                rx_bytes: 1,
                rx_errors: 3,
                tx_bytes: 9,
                tx_errors: 11
            }]
        );
        assert!(
            super::counters(std::process::id())
                .unwrap()
                .iter()
                .any(|c| c.name == "lo")
        );
    }

    #[test]
    fn own_namespace_has_the_loopback_address() {
        let outcome = addresses(&of_process(std::process::id()));
        let missing = outcome
            .as_ref()
            .err()
            .map(|error| format!("cannot enter: {error}"));
        if !testkit::prerequisite("root", missing) {
            return;
        }
        let found = outcome.unwrap();
        let loopback = found
            .iter()
            .find(|address| address.address == IpAddr::V4(Ipv4Addr::LOCALHOST))
            .expect("127.0.0.1");
        assert_eq!(loopback.interface, "lo");
        assert_eq!((loopback.prefix_length, loopback.scope), (8, Scope::Host));
    }

    #[test]
    fn namespace_that_is_gone_is_told_apart() {
        assert!(
            addresses(Path::new("/proc/4194305/ns/net"))
                .unwrap_err()
                .is_gone()
        );
    }
}
