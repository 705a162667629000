//! Which proxy is asked for what, by the environment: as Go's `http.ProxyFromEnvironment`
//! (`golang.org/x/net/http/httpproxy`).

use std::net::IpAddr;

/// What `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    http: String,
    https: String,
    exceptions: Vec<Exception>,
}

/// An entry of `NO_PROXY`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Exception {
    /// `*`
    All,
    /// `10.0.0.0/8`: the network and the length of its prefix.
    Network(IpAddr, u32),
    /// `10.0.0.1:80`
    Address(IpAddr, Option<u16>),
    /// `example.org:80`, and what is below it; `.example.org` is what is below it alone.
    Domain {
        /// With a dot before it.
        suffix: String,
        itself: bool,
        port: Option<u16>,
    },
}

impl Proxies {
    /// As variables say that are looked up so, in upper case or, where that is empty, in lower case.
    pub fn new(variable: impl Fn(&str) -> Option<String>) -> Self {
        let either = |name: &str| {
            [name.to_owned(), name.to_lowercase()]
                .iter()
                .find_map(|name| variable(name).filter(|value| !value.is_empty()))
                .unwrap_or_default()
        };
        let entries = either("NO_PROXY").to_lowercase();
        Self {
            http: either("HTTP_PROXY"),
            https: either("HTTPS_PROXY"),
            exceptions: entries.split(',').filter_map(Exception::parse).collect(),
        }
    }

    /// The URL of the proxy for a host without brackets; `None` when the host itself is asked, as this
    /// machine always is.
    pub fn of(&self, https: bool, host: &str, port: u16) -> Option<String> {
        let proxy = if https { &self.https } else { &self.http };
        let host = host.to_lowercase();
        let ip: Option<IpAddr> = host.parse().ok();
        let is_here = host == "localhost" || ip.is_some_and(|ip| ip.is_loopback());
        let matches = |exception: &Exception| exception.matches(&host, ip, port);
        if proxy.is_empty() || is_here || self.exceptions.iter().any(matches) {
            return None;
        }
        let scheme = if proxy.contains("://") { "" } else { "http://" };
        Some(format!("{scheme}{proxy}"))
    }
}

impl Exception {
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.trim();
        if entry == "*" {
            return Some(Self::All);
        }
        if let Some((ip, length)) = entry.split_once('/')
            && let (Ok(ip), Ok(length)) = (ip.parse::<IpAddr>(), length.parse())
            && length <= bits(ip).1
        {
            return Some(Self::Network(ip, length));
        }
        let (host, port) = match entry.rsplit_once(':') {
            // An IPv6 address has a port only after brackets.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, Some(port.parse().ok()?))
            }
            _ => (entry, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = host.parse() {
            return Some(Self::Address(ip, port));
        }
        let domain = host.strip_prefix('*').filter(|rest| rest.starts_with('.'));
        let domain = domain.unwrap_or(host);
        if domain.is_empty() {
            return None;
        }
        let itself = !domain.starts_with('.');
        let dot = if itself { "." } else { "" };
        Some(Self::Domain {
            suffix: format!("{dot}{domain}"),
            itself,
            port,
        })
    }

    fn matches(&self, host: &str, ip: Option<IpAddr>, port: u16) -> bool {
        let is_port = |wanted: &Option<u16>| wanted.is_none_or(|wanted| wanted == port);
        match self {
            Self::All => true,
            Self::Network(network, length) => ip.is_some_and(|ip| is_in(ip, *network, *length)),
            Self::Address(address, port) => ip == Some(*address) && is_port(port),
            Self::Domain {
                suffix,
                itself,
                port,
            } => (host.ends_with(suffix) || *itself && host == &suffix[1..]) && is_port(port),
        }
    }
}

/// An address as a number, and how many bits it has.
fn bits(ip: IpAddr) -> (u128, u32) {
    match ip {
        IpAddr::V4(ip) => (u32::from(ip).into(), 32),
        IpAddr::V6(ip) => (ip.into(), 128),
    }
}

fn is_in(ip: IpAddr, network: IpAddr, length: u32) -> bool {
    let ((ip, all), (network, of_network)) = (bits(ip), bits(network));
    // A shift by all bits of an IPv6 address leaves nothing.
    let prefix = |address: u128| address.checked_shr(all - length).unwrap_or(0);
    all == of_network && prefix(ip) == prefix(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        Proxies::new(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn each_scheme_has_its_proxy_in_upper_or_lower_case() {
        let proxies = proxies(&[
            ("HTTP_PROXY", "http://user:word@plain:3128"),
            ("HTTPS_PROXY", ""),
            ("https_proxy", "secure:8080"),
        ]);
        let by = |https| proxies.of(https, "h", 80);
        assert_eq!(by(false).as_deref(), Some("http://user:word@plain:3128"));
        assert_eq!(by(true).as_deref(), Some("http://secure:8080"));
        for here in ["localhost", "127.0.0.2", "::1"] {
            assert_eq!(proxies.of(false, here, 80), None, "{here}");
        }
        assert_eq!(Proxies::default().of(false, "h", 80), None);
    }

    #[test]
    fn exceptions_are_those_of_gos_client() {
        let all = " near.org, .below.org,*.star.org,10.0.0.0/8,192.0.2.1:81,fd00::/16,[fd01::1]:81,\
                   web.org:81,fd02::2,,:80,0.0.0.0/33";
        let proxies = proxies(&[("http_proxy", "p"), ("no_proxy", all)]);
        let direct = |host: &str, port: u16| proxies.of(false, host, port).is_none();
        for (host, port, is_direct) in [
            ("near.org", 80, true),
            ("A.Near.org", 80, true),
            ("notnear.org", 80, false),
            ("below.org", 80, false),
            ("a.below.org", 80, true),
            ("star.org", 80, false),
            ("a.star.org", 80, true),
            ("10.1.2.3", 80, true),
            ("11.1.2.3", 80, false),
            ("192.0.2.1", 81, true),
            ("192.0.2.1", 80, false),
            ("fd00::7", 80, true),
            ("fd01::1", 81, true),
            ("fd01::1", 80, false),
            ("fd02::2", 80, true),
            ("web.org", 81, true),
            ("web.org", 80, false),
        ] {
            assert_eq!(direct(host, port), is_direct, "{host}:{port}");
        }
        let everything = self::proxies(&[("HTTP_PROXY", "p"), ("NO_PROXY", "*")]);
        assert_eq!(everything.of(false, "h", 80), None);
        let network = self::proxies(&[("HTTP_PROXY", "p"), ("NO_PROXY", "::/0")]);
        assert_eq!(network.of(false, "fd00::1", 80), None);
        assert!(network.of(false, "10.0.0.1", 80).is_some());
    }
}
