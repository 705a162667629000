//! Host ports that are taken, in words that name port and pod.

use cri_api::v1::PortMapping;

/// What Docker says when a host port of a pod can't be had, as far as it is known; `None` for other
/// failures. The port is `ADDRESS:PORT/PROTOCOL`, or `ADDRESS:PORT` where neither Docker nor the pod's
/// `mappings` tell which protocol's it is.
///
/// Recorded from Docker 20.10, 26.1, 28.5 and 29.7: the proxy's, the allocator's and the bridge driver's words.
pub(crate) fn host_port_conflict(text: &str, mappings: &[PortMapping]) -> Option<String> {
    if !text.contains("port is already allocated") && !text.contains("address already in use") {
        return None;
    }
    let protocol_of = |own: &PortMapping| own.protocol().as_str_name().to_ascii_lowercase();
    let Some(port) = named(text) else {
        // Docker 29 names only the protocol where it can bind a port but not listen on it.
        let (_, rest) = text.split_once("listen on ")?;
        let (protocol, _) = rest.split_once(" socket")?;
        let is_it = |own: &&PortMapping| own.host_port != 0 && protocol_of(own) == protocol;
        let own: Vec<_> = mappings.iter().filter(is_it).collect();
        let [own] = own[..] else { return None };
        let address = match own.host_ip.as_str() {
            "" => "0.0.0.0".to_owned(),
            v6 if v6.contains(':') => format!("[{v6}]"),
            v4 => v4.to_owned(),
        };
        return Some(format!("{address}:{}/{protocol}", own.host_port));
    };
    if port.contains('/') {
        return Some(port);
    }
    let number = port.rsplit_once(':').and_then(|(_, n)| n.parse().ok());
    let own = mappings.iter().filter(|own| Some(own.host_port) == number);
    let mut protocols: Vec<String> = own.map(protocol_of).collect();
    protocols.dedup();
    match &protocols[..] {
        [protocol] => Some(format!("{port}/{protocol}")),
        _ => Some(port),
    }
}

/// The port that Docker names.
fn named(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let after = |sought: &[&str]| {
        let at = words
            .windows(sought.len())
            .position(|seen| seen == sought)?;
        let word = |n: usize| words.get(at + sought.len() + n).copied();
        word(0).map(|first| (first.trim_end_matches(':'), word(1)))
    };
    if let Some((protocol, Some(address))) = after(&["listen"])
        && let protocol = protocol.trim_end_matches(['4', '6'])
        && ["tcp", "udp", "sctp"].contains(&protocol)
    {
        return Some(format!("{}/{protocol}", address.trim_end_matches(':')));
    }
    if let Some((ends, _)) = after(&["bind", "host", "port", "for"]) {
        return host_end(ends);
    }
    let places = [&["bind", "host", "port"][..], &["Bind", "for"]];
    let mut found = places.into_iter().filter_map(after);
    found.find_map(|(port, _)| port.contains(':').then(|| port.to_owned()))
}

/// `0.0.0.0:80/tcp` of `0.0.0.0:80:172.17.0.2:8080/tcp`, where a port and what it leads to stand together.
fn host_end(ends: &str) -> Option<String> {
    let (ends, protocol) = ends.rsplit_once('/')?;
    // The address may be IPv6, in brackets.
    let bracket = ends.find(']').filter(|_| ends.starts_with('['));
    let after = bracket.unwrap_or_default();
    let colon = after + ends[after..].find(':')?;
    let (address, rest) = (&ends[..colon], &ends[colon + 1..]);
    let port = rest.split(':').next()?;
    Some(format!("{address}:{port}/{protocol}"))
}

#[cfg(test)]
mod tests {
    use cri_api::v1::{PortMapping, Protocol};

    fn host_port_conflict(text: &str) -> Option<String> {
        super::host_port_conflict(text, &[])
    }

    #[test]
    fn protocol_that_docker_does_not_name_is_the_pods() {
        let text = "Bind for 0.0.0.0:53 failed: port is already allocated";
        let port = |protocol: Protocol, host_port| PortMapping {
            protocol: protocol.into(),
            host_port,
            ..Default::default()
        };
        let (udp, tcp) = (port(Protocol::Udp, 53), port(Protocol::Tcp, 80));
        let named = super::host_port_conflict(text, &[tcp, udp.clone()]);
        assert_eq!(named.as_deref(), Some("0.0.0.0:53/udp"));
        let either = super::host_port_conflict(text, &[port(Protocol::Tcp, 53), udp]);
        assert_eq!(either.as_deref(), Some("0.0.0.0:53"));
    }

    #[test]
    fn port_that_docker_does_not_name_is_the_only_one_it_can_be() {
        let text = "failed to listen on tcp socket: address already in use";
        assert_eq!(host_port_conflict(text), None);
        let port = |protocol: Protocol, host_port, host_ip: &str| PortMapping {
            protocol: protocol.into(),
            host_port,
            host_ip: host_ip.to_owned(),
            ..Default::default()
        };
        let (udp, none) = (port(Protocol::Udp, 53, ""), port(Protocol::Tcp, 0, ""));
        for (host_ip, named) in [
            ("", "0.0.0.0:80/tcp"),
            ("127.0.0.1", "127.0.0.1:80/tcp"),
            ("::1", "[::1]:80/tcp"),
        ] {
            let own = [udp.clone(), port(Protocol::Tcp, 80, host_ip), none.clone()];
            let found = super::host_port_conflict(text, &own);
            assert_eq!(found.as_deref(), Some(named));
        }
        let two = [port(Protocol::Tcp, 80, ""), port(Protocol::Tcp, 81, "")];
        assert_eq!(super::host_port_conflict(text, &two), None);
    }

    #[test]
    fn taken_ports_are_found_in_what_docker_says() {
        let allocated = "driver failed programming external connectivity on endpoint k8s_POD_web \
             (a1): Bind for 0.0.0.0:8080 failed: port is already allocated";
        assert_eq!(
            host_port_conflict(allocated).as_deref(),
            Some("0.0.0.0:8080")
        );
        let proxy = "driver failed programming external connectivity on endpoint x (b2): Error \
             starting userland proxy: listen tcp4 0.0.0.0:8080: bind: address already in use";
        assert_eq!(
            host_port_conflict(proxy).as_deref(),
            Some("0.0.0.0:8080/tcp")
        );
        let v6 =
            "Error starting userland proxy: listen udp6 [::1]:53: bind: address already in use";
        assert_eq!(host_port_conflict(v6).as_deref(), Some("[::1]:53/udp"));
        for (newer, port) in [
            (
                "failed to bind host port for 127.0.0.1:80:10.198.0.2:8000/tcp: address already in use",
                "127.0.0.1:80/tcp",
            ),
            (
                "failed to bind host port for [::1]:80:[fd00::2]:8000/udp: address already in use",
                "[::1]:80/udp",
            ),
            (
                "failed to bind host port 127.0.0.1:80/tcp: address already in use",
                "127.0.0.1:80/tcp",
            ),
            (
                "failed to bind host port [::1]:80/sctp: address already in use",
                "[::1]:80/sctp",
            ),
            ("Bind for :::80 failed: port is already allocated", ":::80"),
        ] {
            assert_eq!(host_port_conflict(newer).as_deref(), Some(port), "{newer}");
        }
        assert_eq!(host_port_conflict("no such image"), None);
    }
}
