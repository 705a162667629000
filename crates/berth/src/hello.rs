//! `berth hello`: the example pod's web server, of an image with nothing but the binary.

use std::{
    env,
    ffi::OsString,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::ExitCode,
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};

/// A peer that says nothing for this long is let go.
const PEER_TIMEOUT: Duration = Duration::from_secs(10);
/// Peers at once.
const WORKERS: usize = 4;
/// Longest request line and header block taken, in bytes.
const MAX_REQUEST_BYTES: u64 = 16 * 1024;

/// Serves on the port of the first word (8080 without one) until SIGTERM or SIGINT, which the kernel
/// keeps from a container's first process that does not ask for them.
#[expect(
    clippy::needless_pass_by_value,
    reason = "every program is started in this way"
)]
pub(crate) fn run(words: Vec<OsString>) -> ExitCode {
    let port = words
        .first()
        .map_or("8080".into(), |word| word.to_string_lossy());
    let listener = match port
        .parse::<u16>()
        .map_err(io::Error::other)
        .and_then(|port| TcpListener::bind(("0.0.0.0", port)))
    {
        Ok(listener) => listener,
        Err(error) => {
            let _ = writeln!(io::stderr(), "hello: port {port}: {error}");
            return ExitCode::FAILURE;
        }
    };
    // The workers end with the process: none has anything to lose.
    let listener = Arc::new(listener);
    for _ in 0..WORKERS {
        let listener = Arc::clone(&listener);
        thread::spawn(move || serve(&listener));
    }
    let ended = daemon::runtime(1, "hello").and_then(|runtime| {
        runtime.block_on(async {
            let (mut terminate, mut interrupt) = (
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
            );
            say(&format!("listening on port {port}"));
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            Ok(())
        })
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "hello: wait for a signal: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        if let Err(error) = answer(&stream) {
            say(&format!("a peer went away: {error}"));
        }
    }
}

fn answer(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PEER_TIMEOUT))?;
    stream.set_write_timeout(Some(PEER_TIMEOUT))?;
    let mut reader = BufReader::new(stream.take(MAX_REQUEST_BYTES));
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    say(request.trim_end());
    let body = format!(
        "Hello from pod {} on node {}.\n",
        variable("POD_NAME", "(unknown)"),
        variable("NODE_NAME", "(unknown)")
    );
    // In one piece: the peer is woken once.
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    (&mut &*stream).write_all(answer.as_bytes())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a program of its own: its environment is its input"
)]
fn variable(name: &str, otherwise: &str) -> String {
    env::var(name).unwrap_or_else(|_| otherwise.to_owned())
}

fn say(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}
