//! `/etc/hosts`.

use std::net::IpAddr;

/// The addresses of a name in the text of a hosts file, IPv4 first, else in its order. Upper and lower
/// case are one.
///
/// Differs (SRC-10, PROBE-10): an address with a zone (`fe80::1%eth0`) does not count.
pub fn in_hosts_file(text: &str, name: &str) -> Vec<IpAddr> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let named = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let ip: IpAddr = words.next()?.parse().ok()?;
        words
            .map(|word| word.strip_suffix('.').unwrap_or(word))
            .any(|word| word.eq_ignore_ascii_case(name))
            .then_some(ip)
    };
    let mut addresses: Vec<IpAddr> = text.lines().filter_map(named).collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_hosts_file_ipv4_first() {
        let text = "127.0.0.1 localhost\n::1 localhost both # other\n10.1.2.3\tboth  web\n\
                    10.1.2.4 web. \n";
        let ips = |name: &str| {
            let ips = in_hosts_file(text, name);
            ips.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(ips("WEB"), ["10.1.2.3", "10.1.2.4"]);
        assert_eq!(ips("web."), ["10.1.2.3", "10.1.2.4"]);
        assert_eq!(ips("both"), ["10.1.2.3", "::1"]);
        assert!(ips("other").is_empty());
    }
}
