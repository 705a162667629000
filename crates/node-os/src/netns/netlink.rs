//! The two questions we ask by rtnetlink(7): which interfaces, which addresses. Requests are
//! built and answers read as bytes; the kernel writes native byte order.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

use super::{InterfaceAddress, Scope};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
/// NLM_F_REQUEST | NLM_F_DUMP.
const DUMP: u16 = 0x301;
const IFLA_IFNAME: u16 = 3;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// The kernel's answers come in pieces no larger than this.
const BUFFER_BYTES: usize = 32 * 1024;
const HEADER_BYTES: usize = 16;

/// All addresses in the calling thread's network namespace.
pub(super) fn addresses() -> io::Result<Vec<InterfaceAddress>> {
    let mut names = HashMap::new();
    dump(RTM_GETLINK, 16, |kind, body| {
        if kind == RTM_NEWLINK
            && let Some((index, name)) = parse_link(body)
        {
            names.insert(index, name);
        }
    })?;
    let mut found = Vec::new();
    dump(RTM_GETADDR, 8, |kind, body| {
        if kind == RTM_NEWADDR {
            found.extend(parse_address(body, &names));
        }
    })?;
    Ok(found)
}

/// Asks for all objects of a kind and hands each answer over.
fn dump(question: u16, body_bytes: usize, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
    // Protocol 0 is NETLINK_ROUTE.
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // Family 0 in an otherwise empty body: all families.
    send(&socket, &request(question, body_bytes), SendFlags::empty())?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let (length, _) = recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())?;
        for message in messages(&buffer[..length]) {
            match message {
                (NLMSG_DONE, _) => return Ok(()),
                (NLMSG_ERROR, body) => return Err(error_from(body)),
                (kind, body) => each(kind, body),
            }
        }
    }
}

fn request(question: u16, body_bytes: usize) -> Vec<u8> {
    let length = u32::try_from(HEADER_BYTES + body_bytes).expect("a few bytes");
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body_bytes);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(question.to_ne_bytes());
    bytes.extend(DUMP.to_ne_bytes());
    bytes.resize(HEADER_BYTES + body_bytes, 0);
    bytes
}

/// The messages of one datagram as type and body. Stops at the first one that is cut short.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32::from_ne_bytes(take(bytes, 0)?)).ok()?;
        let kind = u16::from_ne_bytes(take(bytes, 4)?);
        let body = bytes.get(HEADER_BYTES..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// The attributes of a message as type and value.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(take(bytes, 0)?));
        // The two highest bits are flags.
        let kind = u16::from_ne_bytes(take(bytes, 2)?) & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn error_from(body: &[u8]) -> io::Error {
    // A negative errno.
    match take(body, 0).map(i32::from_ne_bytes) {
        Some(code) => io::Error::from_raw_os_error(code.saturating_neg()),
        None => io::ErrorKind::InvalidData.into(),
    }
}

/// An `ifinfomsg` with its attributes: index and name.
fn parse_link(body: &[u8]) -> Option<(u32, String)> {
    let index = u32::from_ne_bytes(take(body, 4)?);
    let (_, name) = attributes(body.get(16..)?).find(|(kind, _)| *kind == IFLA_IFNAME)?;
    let name = name.strip_suffix(&[0]).unwrap_or(name);
    Some((index, String::from_utf8_lossy(name).into_owned()))
}

/// An `ifaddrmsg` with its attributes.
fn parse_address(body: &[u8], names: &HashMap<u32, String>) -> Option<InterfaceAddress> {
    let [_, prefix_length, _, scope] = take(body, 0)?;
    let index = u32::from_ne_bytes(take(body, 4)?);
    let (mut address, mut local) = (None, None);
    for (kind, value) in attributes(body.get(8..)?) {
        match kind {
            IFA_ADDRESS => address = parse_ip(value),
            // On a point-to-point link IFA_ADDRESS is the other end.
            IFA_LOCAL => local = parse_ip(value),
            _ => {}
        }
    }
    Some(InterfaceAddress {
        interface: names.get(&index).cloned().unwrap_or_default(),
        address: local.or(address)?,
        prefix_length,
        scope: match scope {
            253 => Scope::Link,
            254 | 255 => Scope::Host,
            _ => Scope::Global,
        },
    })
}

fn parse_ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(Ipv4Addr::from(take::<4>(value, 0)?).into()),
        16 => Some(Ipv6Addr::from(take::<16>(value, 0)?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(4 + value.len())
            .unwrap()
            .to_ne_bytes()
            .to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(aligned(bytes.len()), 0);
        bytes
    }

    #[test]
    fn address_message_is_read() {
        let mut body = vec![2, 16, 0, 0];
        body.extend(7u32.to_ne_bytes());
        body.extend(attribute(IFA_ADDRESS, &[172, 17, 0, 1]));
        body.extend(attribute(IFA_LOCAL, &[172, 17, 0, 2]));
        let names = HashMap::from([(7, "eth0".to_owned())]);
        assert_eq!(
            parse_address(&body, &names),
            Some(InterfaceAddress {
                interface: "eth0".to_owned(),
                address: "172.17.0.2".parse().unwrap(),
                prefix_length: 16,
                scope: Scope::Global,
            })
        );
    }

    proptest::proptest! {
        #[test]
        fn no_answer_makes_the_reader_panic_or_hang(bytes: Vec<u8>) {
            for (_, body) in messages(&bytes) {
                drop(parse_link(body));
                drop(parse_address(body, &HashMap::new()));
                drop(error_from(body));
            }
        }
    }
}
