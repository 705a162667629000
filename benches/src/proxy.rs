//! Stands between cri-dockerd and dockerd and takes down what is asked.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

/// No request line is longer; of what is not one, no more is kept.
const LONGEST_LINE: usize = 8192;
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "DELETE", "HEAD"];

/// The proxy. Whoever connected to it must have ended before it is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    listener: Arc<UnixListener>,
    socket: PathBuf,
    requests: Arc<Mutex<Vec<String>>>,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens on `socket` and hands everything on to `engine`.
    pub(crate) fn start(socket: &Path, engine: &Path) -> Self {
        let listener = Arc::new(UnixListener::bind(socket).expect("a socket can be made"));
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let acceptor = thread::spawn({
            let (listener, requests) = (Arc::clone(&listener), Arc::clone(&requests));
            let engine = engine.to_owned();
            move || {
                let connections: Vec<_> = listener
                    .incoming()
                    .map_while(io::Result::ok)
                    .flat_map(|client| carry(client, &engine, &requests))
                    .collect();
                for connection in connections {
                    let _ = connection.join();
                }
            }
        });
        Self {
            listener,
            socket: socket.to_owned(),
            requests,
            acceptor: Some(acceptor),
        }
    }

    /// The socket as `DOCKER_HOST` wants it.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// How many requests were seen up to now.
    pub(crate) fn count(&self) -> usize {
        lock(&self.requests).len()
    }

    /// The requests after the first `from`: how many of each kind.
    pub(crate) fn kinds(&self, from: usize) -> BTreeMap<String, usize> {
        let mut kinds = BTreeMap::new();
        for request in lock(&self.requests).iter().skip(from) {
            *kinds.entry(kind(request)).or_default() += 1;
        }
        kinds
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Ends the acceptor's wait.
        let _ = rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Both directions of one connection, each in a thread that ends with it.
fn carry(
    client: UnixStream,
    engine: &Path,
    requests: &Arc<Mutex<Vec<String>>>,
) -> Vec<JoinHandle<()>> {
    let pair = || -> io::Result<_> {
        let server = UnixStream::connect(engine)?;
        Ok((client.try_clone()?, server.try_clone()?, server))
    };
    // Without an engine the client sees its connection closed, as it would without the proxy.
    let Ok((answers, from_server, to_server)) = pair() else {
        return Vec::new();
    };
    let requests = Arc::clone(requests);
    let mut lines = RequestLines::default();
    vec![
        thread::spawn(move || {
            copy(client, to_server, |bytes| {
                for line in lines.take(bytes) {
                    lock(&requests).push(line);
                }
            });
        }),
        thread::spawn(move || copy(from_server, answers, |_| {})),
    ]
}

fn copy(mut from: UnixStream, mut to: UnixStream, mut see: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        see(&buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Finds the request lines of HTTP/1.1 in a stream of bytes.
#[derive(Debug, Default)]
struct RequestLines {
    /// The line that has not ended yet.
    open: Vec<u8>,
}

impl RequestLines {
    fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        self.open.extend_from_slice(bytes);
        let Some(end) = self.open.iter().rposition(|byte| *byte == b'\n') else {
            self.forget();
            return Vec::new();
        };
        let rest = self.open.split_off(end + 1);
        let lines = std::mem::replace(&mut self.open, rest);
        self.forget();
        lines
            .split(|byte| *byte == b'\n')
            .filter_map(request)
            .collect()
    }

    fn forget(&mut self) {
        let surplus = self.open.len().saturating_sub(LONGEST_LINE);
        self.open.drain(..surplus);
    }
}

/// `METHOD PATH` of a request line, which may follow the body before it without a line break.
fn request(line: &[u8]) -> Option<String> {
    let line = String::from_utf8_lossy(line);
    let (before, path) = line.strip_suffix(" HTTP/1.1\r")?.rsplit_once(' ')?;
    let method = METHODS.iter().find(|method| before.ends_with(**method))?;
    Some(format!("{method} {path}"))
}

/// A request without what differs from one to the next: version, ids and query.
fn kind(request: &str) -> String {
    let (method, path) = request.split_once(' ').unwrap_or(("", request));
    let path = path.split('?').next().unwrap_or_default();
    let parts = path
        .split('/')
        .filter(|part| !part.is_empty() && !part.starts_with("v1."));
    let parts: Vec<&str> = parts
        .map(|part| {
            let is_id = part.len() >= 12 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            if is_id { "ID" } else { part }
        })
        .collect();
    format!("{method} /{}", parts.join("/"))
}

fn lock(requests: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    requests.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_found_after_bodies_and_across_reads() {
        let mut lines = RequestLines::default();
        let first = b"POST /v1.41/containers/create?name=a HTTP/1.1\r\nhost: d\r\n\r\n{\"a\":1}GE";
        assert_eq!(lines.take(first), ["POST /v1.41/containers/create?name=a"]);
        assert_eq!(lines.take(b"T /_ping HTT"), Vec::<String>::new());
        assert_eq!(lines.take(b"P/1.1\r\nhost: d\r\n\r\n"), ["GET /_ping"]);
    }

    #[test]
    fn request_after_a_long_body_is_found() {
        let mut lines = RequestLines::default();
        lines.take(&vec![b'x'; 3 * LONGEST_LINE]);
        assert_eq!(lines.take(b"GET /info HTTP/1.1\r\n"), ["GET /info"]);
    }

    #[test]
    fn kind_has_no_id_version_or_query() {
        let id = "0123456789abcdef";
        let request = format!("POST /v1.41/containers/{id}/stop?t=30");
        assert_eq!(kind(&request), "POST /containers/ID/stop");
    }
}
