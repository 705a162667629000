//! `/etc/resolv.conf`, as Go reads it (`net`, `dnsReadConfig`).

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use crate::domain::MAX_NAME_BYTES;

/// More name servers are not asked.
const MAX_SERVERS: usize = 3;
/// So much may `ndots` be.
const MAX_DOTS: usize = 15;

/// Whom to ask, for which names, how long and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResolvConf {
    /// At least one.
    pub(crate) servers: Vec<IpAddr>,
    /// Suffixes, each with its last dot.
    pub(crate) search: Vec<String>,
    /// A name with so many dots is asked for as it stands first.
    pub(crate) ndots: usize,
    /// For one question to one server.
    pub(crate) timeout: Duration,
    /// How often each server is asked.
    pub(crate) attempts: usize,
    /// Over TCP only.
    pub(crate) use_tcp: bool,
}

impl ResolvConf {
    /// Of a file's text; `hostname` is the machine's. Lines that say nothing to us are passed over.
    ///
    /// Differs (SRC-10, PROBE-10): a name server with a zone (`fe80::1%eth0`) is not asked.
    pub(crate) fn parse(text: &str, hostname: &str) -> Self {
        let mut config = Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            use_tcp: false,
        };
        for line in text.lines() {
            if line.starts_with([';', '#']) {
                continue;
            }
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("nameserver"), Some(server)) => {
                    let room = config.servers.len() < MAX_SERVERS;
                    config
                        .servers
                        .extend(server.parse::<IpAddr>().ok().filter(|_| room));
                }
                (Some("domain"), Some(domain)) => config.search = vec![rooted(domain)],
                (Some("search"), first) => {
                    let domains = first.into_iter().chain(words).map(rooted);
                    config.search = domains.filter(|domain| domain != ".").collect();
                }
                (Some("options"), first) => {
                    first
                        .into_iter()
                        .chain(words)
                        .for_each(|word| config.option(word));
                }
                _ => {}
            }
        }
        if config.servers.is_empty() {
            config.servers = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        }
        if config.search.is_empty() {
            let domain = hostname.split_once('.').map(|(_, domain)| domain);
            let domain = domain.filter(|domain| !domain.is_empty());
            config.search.extend(domain.map(rooted));
        }
        config
    }

    fn option(&mut self, word: &str) {
        let (name, number) = word.split_once(':').unwrap_or((word, ""));
        // Digits at the beginning count, none are 0.
        let end = number.find(|c: char| !c.is_ascii_digit());
        let digits = &number[..end.unwrap_or(number.len())];
        let number: u32 = digits
            .parse()
            .unwrap_or(if digits.is_empty() { 0 } else { u32::MAX });
        match name {
            "ndots" => self.ndots = (number as usize).min(MAX_DOTS),
            "timeout" => self.timeout = Duration::from_secs(number.max(1).into()),
            "attempts" => self.attempts = number.max(1) as usize,
            "use-vc" | "usevc" | "tcp" => self.use_tcp = true,
            _ => {}
        }
    }

    /// The names to ask for in place of one, in their order, each with its last dot (Go, `nameList`).
    pub(crate) fn names(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let alone = rooted(name);
        let suffixed = self.search.iter().map(|domain| format!("{alone}{domain}"));
        let mut names: Vec<String> = suffixed
            .filter(|name| name.len() <= MAX_NAME_BYTES)
            .collect();
        let has_dots = name.matches('.').count() >= self.ndots;
        names.insert(if has_dots { 0 } else { names.len() }, alone);
        // RFC 7686: such names are nobody's to know.
        names.retain(|name| !name.to_ascii_lowercase().ends_with(".onion."));
        names
    }
}

fn rooted(name: &str) -> String {
    let dot = if name.ends_with('.') { "" } else { "." };
    format!("{name}{dot}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_reads_is_read() {
        let config = ResolvConf::parse(
            "# comment\n; comment\nnameserver 10.0.0.2\nnameserver not-an-address\nnameserver fd00::2\n\
             nameserver 10.0.0.3\nnameserver 10.0.0.4\ndomain gone.example\nsearch a.example b.example. .\n\
             options ndots:5 timeout:2x attempts:0 edns0 trust-ad use-vc\n",
            "node.other.example",
        );
        let expected = ResolvConf {
            servers: ["10.0.0.2", "fd00::2", "10.0.0.3"]
                .map(|ip| ip.parse().unwrap())
                .to_vec(),
            search: vec!["a.example.".to_owned(), "b.example.".to_owned()],
            ndots: 5,
            timeout: Duration::from_secs(2),
            attempts: 1,
            use_tcp: true,
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn without_a_file_this_machine_is_asked_and_its_domain_searched() {
        let config = ResolvConf::parse("", "node.example.org");
        assert_eq!(config.servers.len(), 2);
        assert!(config.servers.iter().all(IpAddr::is_loopback));
        assert_eq!(config.search, ["example.org."]);
        assert_eq!((config.ndots, config.attempts), (1, 2));
        assert_eq!(config.timeout, Duration::from_secs(5));
        assert!(ResolvConf::parse("", "node").search.is_empty());
        assert!(ResolvConf::parse("", "node.").search.is_empty());
    }

    #[test]
    fn names_are_completed_in_the_order_of_their_dots() {
        let config = ResolvConf::parse("search x.org y.org\noptions ndots:2\n", "");
        assert_eq!(config.names("a.b."), ["a.b."]);
        assert_eq!(
            config.names("a.b.c"),
            ["a.b.c.", "a.b.c.x.org.", "a.b.c.y.org."]
        );
        assert_eq!(config.names("a.b"), ["a.b.x.org.", "a.b.y.org.", "a.b."]);
        assert_eq!(
            config.names("a.onion"),
            ["a.onion.x.org.", "a.onion.y.org."]
        );
        let long = "a.".repeat(125);
        assert_eq!(config.names(&long[..249]), [&long[..250]]);
    }
}
