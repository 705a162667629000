//! One plain HTTP exchange with a server of this machine: a port of the kubelet, or Docker's socket.
//! Standard library alone. Requests are HTTP/1.0, so an answer comes whole and its end is the
//! connection's: no chunks, nothing kept alive.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};

/// Longest answer taken, in bytes.
const MAX_ANSWER_BYTES: u64 = 64 * 1024 * 1024;

/// Whom to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A port.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The body, whole.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Whether the request succeeded.
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// No answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// Nobody listens, or we may not connect.
    #[error("connect")]
    Connect(#[source] io::Error),
    /// The exchange broke off or took too long.
    #[error("exchange")]
    Exchange(#[source] io::Error),
    /// What came is not HTTP, or not all of it.
    #[error("{0}")]
    Malformed(&'static str),
}

/// Sends one request without a body and reads the whole answer. `timeout` bounds connecting (TCP)
/// and each wait for the peer.
///
/// # Errors
/// [`HttpError`]; a status other than 2xx is an answer, not an error.
pub(crate) fn ask(
    peer: &Peer,
    method: &str,
    path: &str,
    timeout: Duration,
) -> Result<Answer, HttpError> {
    match peer {
        Peer::Tcp(address) => {
            let stream =
                TcpStream::connect_timeout(address, timeout).map_err(HttpError::Connect)?;
            stream
                .set_read_timeout(Some(timeout))
                .map_err(HttpError::Exchange)?;
            stream
                .set_write_timeout(Some(timeout))
                .map_err(HttpError::Exchange)?;
            exchange(stream, &address.to_string(), method, path)
        }
        Peer::Unix(socket) => {
            let stream = UnixStream::connect(socket).map_err(HttpError::Connect)?;
            stream
                .set_read_timeout(Some(timeout))
                .map_err(HttpError::Exchange)?;
            stream
                .set_write_timeout(Some(timeout))
                .map_err(HttpError::Exchange)?;
            exchange(stream, "localhost", method, path)
        }
    }
}

fn exchange(
    mut stream: impl Read + Write,
    host: &str,
    method: &str,
    path: &str,
) -> Result<Answer, HttpError> {
    let request = format!("{method} {path} HTTP/1.0\r\nHost: {host}\r\nAccept: */*\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .map_err(HttpError::Exchange)?;
    let mut bytes = Vec::new();
    stream
        .take(MAX_ANSWER_BYTES)
        .read_to_end(&mut bytes)
        .map_err(HttpError::Exchange)?;
    parse(&bytes)
}

/// Reads an answer that is there as a whole.
fn parse(bytes: &[u8]) -> Result<Answer, HttpError> {
    const END: &[u8] = b"\r\n\r\n";
    let end = bytes
        .windows(END.len())
        .position(|window| window == END)
        .ok_or(HttpError::Malformed("the answer is not HTTP"))?;
    let head = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = head.lines();
    let status = lines
        .next()
        .filter(|line| line.starts_with("HTTP/1."))
        .and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .ok_or(HttpError::Malformed("the answer is not HTTP"))?;
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok());
    let body = &bytes[end + END.len()..];
    match length {
        Some(length) if body.len() < length => {
            Err(HttpError::Malformed("the answer broke off before its end"))
        }
        _ => Ok(Answer {
            status,
            body: body.to_vec(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_status_and_body() {
        let answer = parse(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nOK").unwrap();
        assert_eq!(
            answer,
            Answer {
                status: 200,
                body: b"OK".to_vec()
            }
        );
        assert!(answer.is_success());
        let answer = parse(b"HTTP/1.1 404 Not Found\r\n\r\n").unwrap();
        assert_eq!((answer.status, answer.is_success()), (404, false));
    }

    #[test]
    fn half_an_answer_and_other_protocols_are_refused() {
        for bytes in [
            &b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nOK"[..],
            b"HTTP/1.0 200 OK\r\n",
            b"SSH-2.0-OpenSSH\r\n\r\n",
            b"",
        ] {
            assert!(matches!(parse(bytes), Err(HttpError::Malformed(_))));
        }
    }
}
