//! The few questions that the tools ask Docker Engine, over its unix socket. The daemons don't use
//! this: their client is cri-dockerd's.

use std::{collections::BTreeMap, io, path::PathBuf, time::Duration};

use serde::Deserialize;

use crate::http::{self, HttpError, Peer};

/// Default of cri-dockerd and of Docker's own client.
pub(crate) const DEFAULT_ENDPOINT: &str = "unix:///var/run/docker.sock";
/// Label by which cri-dockerd, ours and upstream's, marks its containers (LBL-01).
pub(crate) const TYPE_LABEL: &str = "io.kubernetes.docker.type";
/// `{"label":["io.kubernetes.docker.type"]}`, escaped.
const TYPE_FILTER: &str = "%7B%22label%22%3A%5B%22io.kubernetes.docker.type%22%5D%7D";
/// Wait for an answer that costs the engine nothing.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Wait for a list or a removal, which may take long on a busy disk.
const LONG_TIMEOUT: Duration = Duration::from_mins(1);

/// An engine.
#[derive(Debug, Clone)]
pub(crate) struct Docker {
    socket: PathBuf,
}

/// Why the engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DockerError {
    /// The tools speak to sockets of this machine alone.
    #[error("Docker endpoint {0:?}: only unix:///PATH is known here")]
    Endpoint(String),
    /// No answer.
    #[error("Docker at {socket}")]
    Http {
        /// Its socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: HttpError,
    },
    /// A refusal.
    #[error("Docker answers {status} to {request}: {message}")]
    Refused {
        /// The request.
        request: String,
        /// The status code.
        status: u16,
        /// Docker's words.
        message: String,
    },
    /// An answer of another form than documented.
    #[error("Docker's answer to {request}")]
    Form {
        /// The request.
        request: String,
        /// Where it differs.
        #[source]
        source: serde_json::Error,
    },
}

impl DockerError {
    /// The system's error when nobody could be connected to.
    pub(crate) fn connect_error(&self) -> Option<&io::Error> {
        match self {
            Self::Http {
                source: HttpError::Connect(error),
                ..
            } => Some(error),
            _ => None,
        }
    }
}

/// `GET /version`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Version {
    /// The engine's own.
    #[serde(default)]
    pub(crate) version: String,
    /// The newest API it speaks.
    #[serde(default)]
    pub(crate) api_version: String,
}

/// The parts of `GET /info` that matter here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Info {
    /// Which engine it is.
    #[serde(default, rename = "ID")]
    pub(crate) id: String,
    /// `cgroupfs` or `systemd`.
    #[serde(default)]
    pub(crate) cgroup_driver: String,
    /// Where it keeps images and containers.
    #[serde(default)]
    pub(crate) docker_root_dir: String,
}

/// A container in the list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Container {
    /// Its id.
    pub(crate) id: String,
    /// Its names, each with a slash before it.
    #[serde(default)]
    pub(crate) names: Vec<String>,
    /// Its labels.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
}

/// The part of `GET /containers/<id>/json` that matters here.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    state: ProcessState,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ProcessState {
    pid: i64,
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

impl Docker {
    /// The engine behind an endpoint in Docker's spelling; nothing is asked yet.
    ///
    /// # Errors
    /// When it is no unix socket.
    pub(crate) fn at(endpoint: &str) -> Result<Self, DockerError> {
        match endpoint.strip_prefix("unix://").unwrap_or(endpoint) {
            path if path.starts_with('/') => Ok(Self {
                socket: path.into(),
            }),
            _ => Err(DockerError::Endpoint(endpoint.to_owned())),
        }
    }

    /// Whether it lives.
    ///
    /// # Errors
    /// When it does not answer, or not well.
    pub(crate) fn ping(&self) -> Result<(), DockerError> {
        self.ask("GET", "/_ping", TIMEOUT).map(drop)
    }

    /// What it is.
    ///
    /// # Errors
    /// As [`Self::ping`].
    pub(crate) fn version(&self) -> Result<Version, DockerError> {
        self.get("/version", TIMEOUT)
    }

    /// How it is set up.
    ///
    /// # Errors
    /// As [`Self::ping`].
    pub(crate) fn info(&self) -> Result<Info, DockerError> {
        self.get("/info", LONG_TIMEOUT)
    }

    /// All containers that a CRI adapter made, running or not.
    ///
    /// # Errors
    /// As [`Self::ping`].
    pub(crate) fn cri_containers(&self) -> Result<Vec<Container>, DockerError> {
        self.get(
            &format!("/containers/json?all=1&filters={TYPE_FILTER}"),
            LONG_TIMEOUT,
        )
    }

    /// The process of a container that runs.
    ///
    /// # Errors
    /// As [`Self::ping`]; also when it is not there.
    pub(crate) fn pid(&self, id: &str) -> Result<Option<i64>, DockerError> {
        let seen: Inspected = self.get(&format!("/containers/{id}/json"), LONG_TIMEOUT)?;
        Ok(Some(seen.state.pid).filter(|pid| *pid > 0))
    }

    /// Kills a container and removes it with its anonymous volumes. One that is gone, or being
    /// removed already, is fine.
    ///
    /// # Errors
    /// When it stays.
    pub(crate) fn remove(&self, id: &str) -> Result<(), DockerError> {
        match self.ask(
            "DELETE",
            &format!("/containers/{id}?force=1&v=1"),
            LONG_TIMEOUT,
        ) {
            Ok(_)
            | Err(DockerError::Refused {
                status: 404 | 409, ..
            }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn get<T: for<'a> Deserialize<'a>>(
        &self,
        path: &str,
        timeout: Duration,
    ) -> Result<T, DockerError> {
        let body = self.ask("GET", path, timeout)?;
        serde_json::from_slice(&body).map_err(|source| DockerError::Form {
            request: format!("GET {path}"),
            source,
        })
    }

    fn ask(&self, method: &str, path: &str, timeout: Duration) -> Result<Vec<u8>, DockerError> {
        let peer = Peer::Unix(self.socket.clone());
        let answer =
            http::ask(&peer, method, path, timeout).map_err(|source| DockerError::Http {
                socket: self.socket.clone(),
                source,
            })?;
        if answer.is_success() {
            return Ok(answer.body);
        }
        let message = match serde_json::from_slice::<Refusal>(&answer.body) {
            Ok(refusal) => refusal.message,
            Err(_) => String::from_utf8_lossy(&answer.body).trim().to_owned(),
        };
        Err(DockerError::Refused {
            request: format!("{method} {path}"),
            status: answer.status,
            message,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_sockets_of_this_machine() {
        assert_eq!(
            Docker::at("unix:///run/d.sock").unwrap().socket,
            PathBuf::from("/run/d.sock")
        );
        assert_eq!(
            Docker::at("/run/d.sock").unwrap().socket,
            PathBuf::from("/run/d.sock")
        );
        assert!(Docker::at("tcp://127.0.0.1:2375").is_err());
    }

    #[test]
    fn answers_of_old_and_new_engines_are_read() {
        let version: Version =
            serde_json::from_str(r#"{"Version":"20.10.24","ApiVersion":"1.41","Os":"linux"}"#)
                .unwrap();
        assert_eq!(version.api_version, "1.41");
        let containers: Vec<Container> =
            serde_json::from_str(r#"[{"Id":"a","Names":["/x"],"Labels":{"k":"v"},"State":"x"}]"#)
                .unwrap();
        assert_eq!(containers[0].labels["k"], "v");
    }
}
