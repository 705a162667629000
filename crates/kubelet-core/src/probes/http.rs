//! The request of an `httpGet`, of probes and of hooks (PROBE-10, PROBE-12, PROBE-13, CTR-45).
//!
//! Kubernetes, `httpprobe.NewRequestForHTTPGetAction` and `probe.ResolveContainerPort`.

use k8s_openapi::api::core::v1::{ContainerPort, HTTPGetAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use thiserror::Error;

use crate::{
    quote::quote,
    request::{Request, Transport},
    url::{ParseError, Url},
};

/// Who asks: told by the `User-Agent`, and by what Go's transport adds (PROBE-10, CTR-45).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// `kube-probe/1.34`
    Probe,
    /// `kube-lifecycle/1.34`
    Lifecycle,
}

impl Purpose {
    /// The `User-Agent` of a kubelet of that version (major and minor).
    pub fn user_agent(self, version: &str) -> String {
        match self {
            Self::Probe => format!("kube-probe/{version}"),
            Self::Lifecycle => format!("kube-lifecycle/{version}"),
        }
    }

    /// The original's transport of probes keeps no connection, that of hooks has Go's defaults.
    fn transport(self) -> Transport {
        match self {
            Self::Probe => Transport::Closing,
            Self::Lifecycle => Transport::Default,
        }
    }
}

/// A request that cannot be made from the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RequestError {
    /// A port by a name that the container does not have. Upstream's words: it tries the name as a number
    /// last.
    #[error("strconv.Atoi: parsing {}: invalid syntax", quote(.0))]
    NoSuchPort(String),
    /// A number that is no port. Upstream's words.
    #[error("invalid port number: {0}")]
    PortOutOfRange(i64),
    /// A host that is none.
    #[error(transparent)]
    Url(#[from] ParseError),
}

/// The request of an action; `pod_ip` is asked where it names no host. `version` is the kubelet's
/// (major and minor).
///
/// # Errors
/// When its port or host is none.
pub fn request(
    action: &HTTPGetAction,
    ports: &[ContainerPort],
    pod_ip: &str,
    (purpose, version): (Purpose, &str),
) -> Result<Request, RequestError> {
    let port = resolve_port(&action.port, ports)?;
    let host = action
        .host
        .as_deref()
        .filter(|host| !host.is_empty())
        .unwrap_or(pod_ip);
    let scheme = action.scheme.as_deref().unwrap_or_default();
    let path = action.path.as_deref().unwrap_or_default();
    // One that is no URL is a path all the same, with all that stands in it (Kubernetes `formatURL`).
    let mut url = Url::parse(path).unwrap_or_else(|_| Url::of_path(path));
    url.scheme = match scheme {
        "" => "http".to_owned(),
        scheme => scheme.to_lowercase(),
    };
    url.host = authority(host, port);
    let headers = action.http_headers.iter().flatten();
    let mut request = Request {
        url: Url::parse(&url.to_string())?,
        host: String::new(),
        headers: headers
            .map(|header| (header.name.clone(), header.value.clone()))
            .collect(),
        transport: purpose.transport(),
    };
    request.host = request.header("Host").to_owned();
    if !request.has("User-Agent") {
        let agent = purpose.user_agent(version);
        request.headers.push(("User-Agent".to_owned(), agent));
    }
    if !request.has("Accept") {
        request
            .headers
            .push(("Accept".to_owned(), "*/*".to_owned()));
    } else if request.header("Accept").is_empty() {
        request.remove("Accept");
    }
    Ok(request)
}

/// A port by number, by name, or by a number in quotes (PROBE-13).
///
/// # Errors
/// When there is no such port.
pub fn resolve_port(port: &IntOrString, ports: &[ContainerPort]) -> Result<u16, RequestError> {
    let number = match port {
        IntOrString::Int(number) => i64::from(*number),
        IntOrString::String(name) => {
            let named = ports
                .iter()
                .find(|port| port.name.as_deref() == Some(name.as_str()));
            match named {
                Some(port) => i64::from(port.container_port),
                None => name
                    .parse::<i64>()
                    .map_err(|_| RequestError::NoSuchPort(name.clone()))?,
            }
        }
    };
    u16::try_from(number)
        .ok()
        .filter(|port| *port > 0)
        .ok_or(RequestError::PortOutOfRange(number))
}

/// `host:port`, with brackets where they are needed.
pub fn authority(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests;
