//! Who listens where: `/proc/net/tcp` and `tcp6` as proc(5) has them. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The state LISTEN.
const LISTEN: &str = "0A";

/// A listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listener {
    /// Where.
    pub(super) address: SocketAddr,
    /// Its inode, by which its holder is found.
    pub(super) inode: u64,
}

/// The listeners of one table; lines of other forms are passed over.
pub(super) fn listeners(table: &str) -> Vec<Listener> {
    table.lines().skip(1).filter_map(listener).collect()
}

fn listener(line: &str) -> Option<Listener> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    if *fields.get(3)? != LISTEN {
        return None;
    }
    let (ip, port) = fields.get(1)?.split_once(':')?;
    let address = SocketAddr::new(address(ip)?, u16::from_str_radix(port, 16).ok()?);
    Some(Listener {
        address,
        inode: fields.get(9)?.parse().ok()?,
    })
}

/// The kernel prints addresses as words of 32 bits in the machine's order.
fn address(hexadecimal: &str) -> Option<IpAddr> {
    let words: Option<Vec<u32>> = hexadecimal
        .as_bytes()
        .chunks(8)
        .map(|word| u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok())
        .collect();
    let bytes: Vec<u8> = words?.into_iter().flat_map(u32::to_ne_bytes).collect();
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes)
            .ok()
            .map(|bytes| Ipv4Addr::from(bytes).into()),
        16 => <[u8; 16]>::try_from(bytes)
            .ok()
            .map(|bytes| Ipv6Addr::from(bytes).into()),
        _ => None,
    }
}

/// Whether a listener stands in the way of one more on `wanted`.
pub(super) fn clash(wanted: SocketAddr, there: SocketAddr) -> bool {
    // A v6 socket on :: usually takes v4 too.
    let everywhere = |ip: IpAddr| ip.is_unspecified();
    let same = wanted.ip().to_canonical() == there.ip().to_canonical();
    wanted.port() == there.port() && (same || everywhere(wanted.ip()) || everywhere(there.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    // As a little-endian machine prints it.
    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2808 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0
   1: 0100007F:2808 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0
   2: 00000000:07E8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 99 1 0
";

    #[test]
    #[cfg(target_endian = "little")]
    fn listeners_are_found_among_connections() {
        let found = listeners(TABLE);
        assert_eq!(
            found,
            [
                Listener {
                    address: "127.0.0.1:10248".parse().unwrap(),
                    inode: 4711
                },
                Listener {
                    address: "0.0.0.0:2024".parse().unwrap(),
                    inode: 99
                },
            ]
        );
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn v6_addresses_are_read() {
        let line = "0: 00000000000000000000000001000000:0050 0:0 0A 0 0 0 0 0 7 1";
        assert_eq!(listener(line).unwrap().address, "[::1]:80".parse().unwrap());
    }

    #[test]
    fn clashes_follow_the_kernels_rule() {
        for (wanted, there, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:1", "0.0.0.0:1", true),
            ("0.0.0.0:1", "10.0.0.1:1", true),
            ("127.0.0.1:1", "[::]:1", true),
            ("127.0.0.1:1", "[::ffff:127.0.0.1]:1", true),
            ("127.0.0.1:1", "10.0.0.1:1", false),
        ] {
            let clash = clash(wanted.parse().unwrap(), there.parse().unwrap());
            assert_eq!(clash, expected, "{wanted} {there}");
        }
    }
}
