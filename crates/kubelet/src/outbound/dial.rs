//! Connections to containers, and what to say when there is none: in the words of Go's dialler,
//! which users know from events.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use kubelet_core::{hosts::ETC_HOSTS, probes::http::authority};
use node_os::sockets::{self, Dialled};
use tokio::net::TcpStream;

use super::connection::{Connection, reason};

/// Nobody could be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The host's name says nothing to us.
    #[error("dial tcp: lookup {0}: no such host (names are looked up in {ETC_HOSTS} only)")]
    UnknownHost(String),
    /// The system's refusal.
    #[error("dial tcp {address}: connect: {reason}")]
    Refused {
        /// Who was asked for.
        address: String,
        /// Why not.
        reason: String,
    },
}

/// Connects. No time limit of its own.
///
/// # Errors
/// See [`DialError`].
pub(crate) async fn connect(host: &str, port: u16) -> Result<Connection, DialError> {
    let ip = resolve(host).await?;
    open(SocketAddr::new(ip, port))
        .await
        .map_err(|error| DialError::Refused {
            address: authority(&ip.to_string(), port),
            reason: reason(&error),
        })
}

async fn open(address: SocketAddr) -> io::Result<Connection> {
    let stream = match sockets::dial(address)? {
        Dialled::Connected(stream) => return Ok(Connection::new(stream, address)),
        Dialled::Underway(stream) => TcpStream::from_std(stream)?,
    };
    stream.writable().await?;
    match stream.take_error()? {
        Some(error) => Err(error),
        None => Ok(Connection::watched(stream, address)),
    }
}

/// No host is this one, as for Go: pods on the node's network have no address of their own here
/// (TOP-05).
async fn resolve(host: &str) -> Result<IpAddr, DialError> {
    if host.is_empty() {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    if let Ok(ip) = host.parse() {
        return Ok(ip);
    }
    let name = host.to_owned();
    let found = daemon::blocking(move || {
        let bytes = std::fs::read(ETC_HOSTS).unwrap_or_default();
        in_hosts_file(&String::from_utf8_lossy(&bytes), &name)
    })
    .await;
    match found {
        Some(ip) => Ok(ip),
        None if host.eq_ignore_ascii_case("localhost") => Ok(Ipv4Addr::LOCALHOST.into()),
        None => Err(DialError::UnknownHost(host.to_owned())),
    }
}

/// The first IPv4 address of a name, else its first address.
fn in_hosts_file(text: &str, name: &str) -> Option<IpAddr> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line
            .split('#')
            .next()
            .unwrap_or_default()
            .split_whitespace();
        let ip: IpAddr = words.next()?.parse().ok()?;
        words
            .any(|word| word.eq_ignore_ascii_case(name))
            .then_some(ip)
    });
    let all: Vec<IpAddr> = addresses.collect();
    let first = |ip: &&IpAddr| ip.is_ipv4();
    all.iter().find(first).or(all.first()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_hosts_file_ipv4_first() {
        let text = "127.0.0.1 localhost\n::1 localhost both # other\n10.1.2.3\tboth  web\n";
        let ip = |name: &str| in_hosts_file(text, name).map(|ip| ip.to_string());
        assert_eq!(ip("WEB").as_deref(), Some("10.1.2.3"));
        assert_eq!(ip("both").as_deref(), Some("10.1.2.3"));
        assert_eq!(ip("other"), None);
    }

    #[tokio::test]
    async fn a_closed_port_is_refused_in_the_words_of_go() {
        let port = {
            let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
            listener.local_addr().unwrap().port()
        };
        for host in ["127.0.0.1", "", "localhost"] {
            assert_eq!(
                connect(host, port).await.unwrap_err().to_string(),
                format!("dial tcp 127.0.0.1:{port}: connect: connection refused")
            );
        }
        let unknown = connect("nowhere.invalid", port)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            unknown.contains("lookup nowhere.invalid: no such host"),
            "{unknown}"
        );
    }
}
