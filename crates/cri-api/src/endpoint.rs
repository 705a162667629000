//! Where a CRI server listens, and how to reach it.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Uri};

/// The address of a CRI server: a unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    path: PathBuf,
}

/// An address that is not a unix socket.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EndpointError {
    /// Nothing was given.
    #[error("endpoint is empty, expected unix:///path/to.sock")]
    Empty,
    /// A scheme other than `unix`.
    #[error("endpoint {0:?} has scheme {1:?}, only unix is supported: use unix:///path/to.sock")]
    Scheme(String, String),
    /// A relative path, whose meaning would depend on the working directory.
    #[error("endpoint {0:?} is not an absolute path: use unix:///path/to.sock")]
    Relative(String),
}

/// The server could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("connect to {endpoint}")]
pub struct ConnectError {
    endpoint: Endpoint,
    #[source]
    source: tonic::transport::Error,
}

impl Endpoint {
    /// Takes `unix:///path`, `unix:/path` or a bare absolute path (the latter deprecated upstream,
    /// kubelet PROC-11).
    ///
    /// # Errors
    /// When it is empty, relative, or of another scheme.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        if text.is_empty() {
            return Err(EndpointError::Empty);
        }
        let path = if let Some(rest) = text.strip_prefix("unix:") {
            rest.strip_prefix("//").unwrap_or(rest)
        } else if let Some((scheme, _)) = text.split_once("://") {
            return Err(EndpointError::Scheme(text.to_owned(), scheme.to_owned()));
        } else {
            text
        };
        if !path.starts_with('/') {
            return Err(EndpointError::Relative(text.to_owned()));
        }
        Ok(Self {
            path: PathBuf::from(path),
        })
    }

    /// The socket's path.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix://{}", self.path.display())
    }
}

/// Opens a channel. The connection is made anew by itself when the server goes away and comes
/// back; a call made meanwhile fails with `Unavailable`.
///
/// # Errors
/// When nothing accepts on the socket now.
pub async fn connect(endpoint: &Endpoint) -> Result<Channel, ConnectError> {
    let path = endpoint.path.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move {
            let stream = UnixStream::connect(&path).await;
            stream
                .map(TokioIo::new)
                .map_err(|error| in_gos_words(&path, &error))
        }
    });
    // The URI only fills the :authority header; the connector above decides where to go.
    tonic::transport::Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
        .map_err(|source| ConnectError {
            endpoint: endpoint.clone(),
            source,
        })
}

/// As gRPC's Go client tells that nobody answers, which is how users know it from events.
fn in_gos_words(path: &Path, error: &io::Error) -> io::Error {
    let text = error.to_string();
    let text = text
        .split_once(" (os error")
        .map_or(&*text, |(text, _)| text);
    let (path, text) = (path.display(), text.to_lowercase());
    let text = format!(
        "connection error: desc = \"transport: Error while dialing: dial unix {path}: connect: {text}\""
    );
    io::Error::new(error.kind(), text)
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[tokio::test]
    async fn that_nobody_listens_is_told_in_the_words_of_gos_client() {
        let endpoint = Endpoint::parse("/nowhere/x.sock").unwrap();
        let error = connect(&endpoint).await.unwrap_err();
        let told: Vec<_> = std::iter::successors(error.source(), |error| (*error).source())
            .map(ToString::to_string)
            .collect();
        let words = "connection error: desc = \"transport: Error while dialing: dial unix /nowhere/x.sock: connect: \
                     no such file or directory\"";
        assert!(told.iter().any(|text| text == words), "{told:?}");
    }

    #[test]
    fn unix_urls_and_bare_paths_name_the_same_socket() {
        for text in ["unix:///run/x.sock", "unix:/run/x.sock", "/run/x.sock"] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!(endpoint.to_string(), "unix:///run/x.sock", "{text}");
        }
    }

    #[test]
    fn other_addresses_are_refused_with_the_fix() {
        assert_eq!(Endpoint::parse(""), Err(EndpointError::Empty));
        let tcp = Endpoint::parse("tcp://1.2.3.4:1").unwrap_err();
        assert!(
            tcp.to_string().contains("use unix:///path/to.sock"),
            "{tcp}"
        );
        assert!(matches!(
            Endpoint::parse("x.sock"),
            Err(EndpointError::Relative(_))
        ));
    }
}
