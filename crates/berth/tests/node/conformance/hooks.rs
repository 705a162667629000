//! A server for lifecycle hooks.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    time::Duration,
};

/// Answers 200 to every request and remembers what was asked.
pub(super) struct HookServer {
    listener: TcpListener,
    heard: RefCell<BTreeSet<String>>,
}

impl HookServer {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let heard = RefCell::default();
        Self { listener, heard }
    }

    pub(super) fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// Answers who has called since the last time.
    pub(super) fn serve(&self) {
        while let Ok((caller, _)) = self.listener.accept() {
            // One that hangs up has said nothing.
            if let Ok(path) = answer(caller) {
                self.heard.borrow_mut().insert(path);
            }
        }
    }

    /// The paths that were asked for.
    pub(super) fn heard(&self) -> BTreeSet<String> {
        self.heard.borrow().clone()
    }
}

fn answer(mut caller: TcpStream) -> std::io::Result<String> {
    caller.set_nonblocking(false)?;
    caller.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut request = [0; 4096];
    let length = caller.read(&mut request)?;
    caller.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    let request = String::from_utf8_lossy(&request[..length]).into_owned();
    let path = request.split(' ').nth(1).unwrap_or_default();
    Ok(path.to_owned())
}
