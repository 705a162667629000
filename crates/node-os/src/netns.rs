//! Network namespaces of pods: their addresses and work inside them.

mod netlink;

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use crate::{namespace, read};

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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

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
