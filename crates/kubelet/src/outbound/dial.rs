//! Connections to containers, and what to say when there is none: in the words of Go's dialler,
//! which users know from events.
//!
//! Differs (PROBE-10): an IPv6 address with a zone (`fe80::1%eth0`) is taken for a name, which nobody knows; upstream
//! connects to it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use kubelet_core::probes::http::authority;
use names::{LookupError, Names, Why};
use node_os::sockets::{self, Dialled};
use tokio::net::TcpStream;

use super::connection::{Connection, reason};

/// Nobody could be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The host's name says nothing to anybody.
    #[error("dial tcp: {0}")]
    Lookup(LookupError),
    /// The system's refusal.
    #[error("dial tcp {address}: connect: {reason}")]
    Refused {
        /// Who was asked for.
        address: String,
        /// Why not.
        reason: String,
    },
}

/// Connects. No time limit of its own. No host is this one, as for Go: pods on the node's network have
/// no address of their own here (TOP-05).
///
/// # Errors
/// See [`DialError`].
pub(crate) async fn connect(host: &str, port: u16) -> Result<Connection, DialError> {
    let address = if host.is_empty() {
        Ok(Ipv4Addr::LOCALHOST.into())
    } else {
        host.parse()
    };
    match address {
        Ok(ip) => open_worded(ip, port).await,
        // Seldom, and its state is large.
        Err(_) => Box::pin(by_name(&Names::default(), host, port)).await,
    }
}

async fn by_name(names: &Names, host: &str, port: u16) -> Result<Connection, DialError> {
    let addresses = names.lookup(host).await.map_err(DialError::Lookup)?;
    names::first_of(&addresses, |ip| open_worded(ip, port))
        .await
        .unwrap_or_else(|| {
            Err(DialError::Lookup(LookupError {
                name: host.to_owned(),
                server: None,
                why: Why::NoSuchHost,
            }))
        })
}

async fn open_worded(ip: IpAddr, port: u16) -> Result<Connection, DialError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_reached_at_any_of_its_addresses() {
        let directory = tempfile::tempdir().unwrap();
        let hosts = directory.path().join("hosts");
        std::fs::write(&hosts, "127.0.0.2 web\n127.0.0.3 web\n127.0.0.4 none\n").unwrap();
        let names = Names::new(hosts, directory.path().join("resolv.conf"), 0);
        let listener = std::net::TcpListener::bind(("127.0.0.3", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        by_name(&names, "web", port).await.unwrap();
        assert_eq!(
            by_name(&names, "none", port).await.unwrap_err().to_string(),
            format!("dial tcp 127.0.0.4:{port}: connect: connection refused")
        );
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
        assert_eq!(
            connect("no name", port).await.unwrap_err().to_string(),
            "dial tcp: lookup no name: no such host"
        );
    }
}
