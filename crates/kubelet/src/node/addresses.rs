//! The node's own addresses, as pods see them in `status.hostIP` (SPEC-31). Without API server
//! nobody else tells them, so they are found as for the node's status (CONN-04).
//!
//! Differs: of the node's name only `/etc/hosts` is asked, not DNS. A start without a name server
//! waits for nothing, and the interface of the default route gives the same answer nearly always.

use std::{
    fs,
    net::{IpAddr, Ipv6Addr},
};

use daemon::ErrorChain;
use node_os::netns::{self, InterfaceAddress, Scope};

/// Tells the addresses of this node as they are when it is asked: they may come late, and change.
#[derive(Debug)]
pub(crate) struct NodeAddresses {
    /// `--node-ip`.
    pub(crate) wanted: Vec<IpAddr>,
    /// The node's name.
    pub(crate) name: String,
}

impl NodeAddresses {
    /// The addresses, best first; none when the machine has no address to speak of.
    ///
    /// Reads files and asks the kernel: not for async code.
    pub(crate) fn find(&self) -> Vec<IpAddr> {
        let found = choose(&self.wanted, &self.name, &look());
        if found.is_empty() && self.wanted.iter().any(|ip| !ip.is_unspecified()) {
            tracing::warn!(wanted = ?self.wanted, "--node-ip names no address of this machine");
        }
        found
    }
}

/// What the choice is made from.
#[derive(Debug, Default)]
struct Host {
    /// `/etc/hosts`.
    names: String,
    /// Interfaces with a default route, IPv4 routes first, in the kernel's order.
    ways_out: Vec<String>,
    addresses: Vec<InterfaceAddress>,
}

fn look() -> Host {
    let text = |path: &str| {
        let bytes = fs::read(path).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let addresses = netns::addresses(&netns::of_process(std::process::id()))
        .inspect_err(|error| {
            tracing::warn!(error = %ErrorChain(error), "the node's addresses are not known");
        })
        .unwrap_or_default();
    let mut ways_out = default_routes_v4(&text("/proc/net/route"));
    ways_out.extend(default_routes_v6(&text("/proc/net/ipv6_route")));
    Host {
        names: text("/etc/hosts"),
        ways_out,
        addresses,
    }
}

/// `--node-ip`, which has to be the machine's own, else the name where it is an address, else the name's address in
/// `/etc/hosts`, else an address of the interface that leads out.
fn choose(wanted: &[IpAddr], name: &str, host: &Host) -> Vec<IpAddr> {
    let given: Vec<IpAddr> = wanted
        .iter()
        .copied()
        .filter(|ip| !ip.is_unspecified())
        .collect();
    let reachable = |ip: &IpAddr| {
        host.addresses
            .iter()
            .any(|own| own.address == *ip && own.scope == Scope::Global)
    };
    if !given.is_empty() {
        let all = given.iter().all(reachable);
        return if all { given } else { Vec::new() };
    }
    if let Ok(ip) = name.parse() {
        return vec![ip];
    }
    let prefers_v6 = wanted.contains(&IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let named = names::in_hosts_file(&host.names, name);
    let named = named.into_iter().filter(reachable);
    let leading_out = host.ways_out.iter().flat_map(|interface| {
        host.addresses
            .iter()
            .filter(move |own| own.interface == *interface && own.scope == Scope::Global)
            .map(|own| own.address)
    });
    let best = |ips: Vec<IpAddr>| {
        let preferred = ips.iter().find(|ip| ip.is_ipv6() == prefers_v6);
        preferred.or(ips.first()).copied()
    };
    best(named.collect())
        .or_else(|| best(leading_out.collect()))
        .into_iter()
        .collect()
}

/// Interface, destination, ... with a line of headings.
fn default_routes_v4(table: &str) -> Vec<String> {
    let is_default = |line: &str| {
        let mut words = line.split_whitespace();
        let interface = words.next()?;
        (words.next()? == "00000000").then(|| interface.to_owned())
    };
    table.lines().skip(1).filter_map(is_default).collect()
}

/// Destination, its prefix length, source, its prefix length, next hop, ..., interface last. The
/// kernel's own unreachable route is on `lo`.
fn default_routes_v6(table: &str) -> Vec<String> {
    let is_default = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (destination, length) = (words.first()?, words.get(1)?);
        let interface = *words.last()?;
        let everything = *length == "00" && destination.bytes().all(|digit| digit == b'0');
        (everything && interface != "lo").then(|| interface.to_owned())
    };
    table.lines().filter_map(is_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(interface: &str, address: &str, scope: Scope) -> InterfaceAddress {
        InterfaceAddress {
            interface: interface.to_owned(),
            address: address.parse().unwrap(),
            prefix_length: 24,
            scope,
        }
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_first_source_that_knows_an_address_wins() {
        let host = Host {
            names: "127.0.0.1 n localhost\n192.0.2.9 n # mine\n".into(),
            ways_out: vec!["eth0".into()],
            addresses: vec![
                own("docker0", "172.17.0.1", Scope::Global),
                own("eth0", "fd00::2", Scope::Global),
                own("eth0", "192.0.2.2", Scope::Global),
                own("eth1", "192.0.2.9", Scope::Global),
            ],
        };
        let pair = ips(&["172.17.0.1", "fd00::2"]);
        assert_eq!(choose(&pair, "n", &host), pair);
        // Kubernetes kubelet, `validateNodeIP`.
        let foreign = ips(&["172.17.0.1", "fd00::1"]);
        assert_eq!(choose(&foreign, "n", &host), ips(&[]));
        assert_eq!(choose(&[], "10.0.0.3", &host), ips(&["10.0.0.3"]));
        assert_eq!(choose(&[], "N", &host), ips(&["192.0.2.9"]));
        assert_eq!(choose(&[], "other", &host), ips(&["192.0.2.2"]));
        assert_eq!(choose(&ips(&["::"]), "other", &host), ips(&["fd00::2"]));
        assert_eq!(choose(&[], "other", &Host::default()), ips(&[]));
    }

    #[test]
    fn default_routes_are_read_from_the_tables_of_the_kernel() {
        let v4 = "Iface\tDestination\tGateway\neth0\t00000000\t010200C0\t0003\nbr0\t0000120A\t0\n";
        assert_eq!(default_routes_v4(v4), ["eth0"]);
        let zero = "00000000000000000000000000000000";
        let v6 = format!(
            "{zero} 00 {zero} 00 {zero} ffffffff 1 0 200200 lo\n{zero} 00 {zero} 00 {zero} 400 1 0 3 eth1\n"
        );
        assert_eq!(default_routes_v6(&v6), ["eth1"]);
    }
}
