//! `berth probe URL`: exit 0 when a plain HTTP GET answers 200. The image's health check, where no
//! other HTTP client can be counted on.

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

use crate::tool::EXIT_USAGE;

const TIMEOUT: Duration = Duration::from_secs(3);

/// Asks the URL of the first word.
#[expect(
    clippy::needless_pass_by_value,
    reason = "every program is started in this way"
)]
pub(crate) fn run(words: Vec<OsString>) -> ExitCode {
    let url = words
        .first()
        .map(|word| word.to_string_lossy().into_owned())
        .unwrap_or_default();
    let Some((address, path)) = split(&url) else {
        let _ = writeln!(io::stderr(), "probe: {url:?}: expected http://IP:PORT/PATH");
        return ExitCode::from(EXIT_USAGE);
    };
    match get(address, path) {
        Ok(status) if status.split(' ').nth(1) == Some("200") => ExitCode::SUCCESS,
        Ok(status) => {
            let _ = writeln!(io::stderr(), "probe: {url}: {status}");
            ExitCode::FAILURE
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "probe: {url}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn split(url: &str) -> Option<(SocketAddr, &str)> {
    let rest = url.strip_prefix("http://")?;
    let end = rest.find('/').unwrap_or(rest.len());
    let path = if end == rest.len() { "/" } else { &rest[end..] };
    Some((rest[..end].parse().ok()?, path))
}

/// The status line of the answer.
fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.take(512).read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_split_into_address_and_path() {
        let address: SocketAddr = "127.0.0.1:10248".parse().unwrap();
        assert_eq!(
            split("http://127.0.0.1:10248/healthz"),
            Some((address, "/healthz"))
        );
        assert_eq!(split("http://127.0.0.1:10248"), Some((address, "/")));
        assert_eq!(split("https://127.0.0.1:10248/"), None);
        assert_eq!(split("http://localhost/"), None);
    }
}
