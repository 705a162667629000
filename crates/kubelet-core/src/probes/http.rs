//! The request of an `httpGet`, of probes and of hooks (PROBE-10, PROBE-12, PROBE-13, CTR-45).
//!
//! Kubernetes, `httpprobe.NewRequestForHTTPGetAction` and `probe.ResolveContainerPort`.

mod reference;

use k8s_openapi::api::core::v1::{ContainerPort, HTTPGetAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use thiserror::Error;

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

    /// What the original's transport adds: that of probes keeps no connection, that of hooks has Go's
    /// defaults, and asks for compressed answers unless the manifest says how it wants them.
    fn transport_header(
        self,
        headers: &[(String, String)],
    ) -> Option<(&'static str, &'static str)> {
        let has = |wanted: &str| {
            let named = |(name, value): &(String, String)| {
                name.eq_ignore_ascii_case(wanted) && !value.is_empty()
            };
            headers.iter().any(named)
        };
        match self {
            Self::Probe => Some(("Connection", "close")),
            Self::Lifecycle if has("Accept-Encoding") || has("Range") => None,
            Self::Lifecycle => Some(("Accept-Encoding", "gzip")),
        }
    }
}

/// A request that cannot be made from the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RequestError {
    /// A port by a name that the container does not have. Upstream's words: it tries the name as a number
    /// last.
    #[error("strconv.Atoi: parsing {0:?}: invalid syntax")]
    NoSuchPort(String),
    /// A number that is no port. Upstream's words.
    #[error("invalid port number: {0}")]
    PortOutOfRange(i64),
}

/// Headers that are Go's own to send, or the question's to have: never taken from a manifest.
pub const NOT_SENT: [&str; 3] = ["Content-Length", "Transfer-Encoding", "Trailer"];

/// What to ask, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// Over TLS.
    pub https: bool,
    /// Name or address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query as they go over the wire.
    pub target: String,
    /// Header `Host`.
    pub host_header: String,
    /// The other headers, in their order. A name may come more than once.
    pub headers: Vec<(String, String)>,
    /// `user:password` of a redirect's URL, which counts where no header says who asks.
    pub user: Option<String>,
    /// The URL that led here, without its user.
    pub referer: Option<String>,
    /// Host and port as the URL has them.
    authority: String,
}

impl HttpRequest {
    /// The request of an action; `pod_ip` is asked where it names no host. `version` is the kubelet's
    /// (major and minor).
    ///
    /// # Errors
    /// When its port is none.
    pub fn new(
        action: &HTTPGetAction,
        ports: &[ContainerPort],
        pod_ip: &str,
        (purpose, version): (Purpose, &str),
    ) -> Result<Self, RequestError> {
        let user_agent = purpose.user_agent(version);
        let port = resolve_port(&action.port, ports)?;
        let host = action
            .host
            .as_deref()
            .filter(|host| !host.is_empty())
            .unwrap_or(pod_ip);
        let mut request = Self {
            https: action
                .scheme
                .as_deref()
                .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
            host: host.to_owned(),
            port,
            target: whole_target(action.path.as_deref().unwrap_or_default()),
            host_header: authority(host, port),
            headers: Vec::new(),
            user: None,
            referer: None,
            authority: authority(host, port),
        };
        let mut defaults = vec![("User-Agent", user_agent.as_str()), ("Accept", "*/*")];
        let mut hosts = 0;
        for header in action.http_headers.iter().flatten() {
            let (name, value) = (header.name.as_str(), header.value.as_str());
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            if is("Host") {
                hosts += 1;
                if hosts == 1 && !value.is_empty() {
                    // What can be no host is sent as none.
                    let value = if is_host_header(value) { value } else { "" };
                    value.clone_into(&mut request.host_header);
                }
                continue;
            }
            // Of several of these the first counts.
            let again = is("User-Agent") && !defaults.iter().any(|(known, _)| is(known));
            if again || NOT_SENT.into_iter().any(is) {
                continue;
            }
            // An empty value of these two takes the header away.
            let of_ours = ["User-Agent", "Accept"].into_iter().any(is);
            defaults.retain(|(known, _)| !is(known));
            if !(of_ours && value.is_empty()) {
                let value = value.trim_matches([' ', '\t']);
                request.headers.push((name.to_owned(), value.to_owned()));
            }
        }
        let added = purpose.transport_header(&request.headers);
        for (name, value) in defaults.into_iter().chain(added) {
            request.headers.push((name.to_owned(), value.to_owned()));
        }
        Ok(request)
    }

    /// The address to connect to, as text: `10.1.2.3:80`, `[fd00::1]:80`.
    pub fn authority(&self) -> String {
        authority(&self.host, self.port)
    }

    /// The URL, for messages.
    pub fn url(&self) -> String {
        format!("{}://{}{}", self.scheme(), self.authority, self.target)
    }

    fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    /// Where an answer's `Location` leads. `first` is the request that began the chase: its headers go along.
    /// Source of behaviour: Go's `http.Client`, Kubernetes `RedirectChecker(false)`.
    #[must_use]
    pub fn redirected(&self, location: &str, first: &Self) -> Redirect {
        if location.is_empty() {
            return Redirect::End;
        }
        let reference = match reference::parse(location) {
            Ok(reference) => reference,
            Err(error) => {
                return Redirect::Failed {
                    url: self.url(),
                    reason: format!("failed to parse Location header {location:?}: {error}"),
                };
            }
        };
        let mut next = Self {
            headers: first.headers.clone(),
            user: None,
            referer: Some(self.url()),
            ..self.clone()
        };
        let Some(authority) = reference.authority else {
            // What has a scheme names no host then: another one.
            if reference.scheme.is_some() {
                return Redirect::End;
            }
            next.user.clone_from(&self.user);
            next.target = join(&self.target, location);
            return Redirect::To(Box::new(next));
        };
        if authority.host != self.host {
            return Redirect::End;
        }
        authority.text.clone_into(&mut next.authority);
        let is_absolute = reference.scheme.is_some();
        if is_absolute || self.host_header == self.authority {
            authority.text.clone_into(&mut next.host_header);
        }
        next.user = authority.user.map(str::to_owned);
        next.target = target(reference.path);
        let scheme = reference.scheme.as_deref().unwrap_or(self.scheme());
        let failed = |reason: String| Redirect::Failed {
            url: format!("{scheme}://{}{}", authority.text, next.target),
            reason,
        };
        next.https = match scheme {
            "https" => true,
            "http" => false,
            other => return failed(format!("unsupported protocol scheme {other:?}")),
        };
        if self.https && !next.https {
            next.referer = None;
        }
        next.port = match authority.port.filter(|port| !port.is_empty()) {
            None if next.https => 443,
            None => 80,
            Some(text) => match text.parse() {
                Ok(port) => port,
                Err(_) => return failed(format!("dial tcp: address {text}: invalid port")),
            },
        };
        Redirect::To(Box::new(next))
    }
}

/// What follows an answer that names another place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redirect {
    /// That is asked next.
    To(Box<HttpRequest>),
    /// The answer at hand is the last: the place is another host's, or none.
    End,
    /// Nothing more can be asked.
    Failed {
        /// What could not be asked.
        url: String,
        /// Go's words.
        reason: String,
    },
}

/// Path and query of a reference that names no host, seen from those of `base` (RFC 3986, 5.2).
pub fn join(base: &str, reference: &str) -> String {
    let path = base.split(['?', '#']).next().unwrap_or_default();
    let directory = path.rfind('/').map_or("/", |end| &path[..=end]);
    match reference.chars().next() {
        None | Some('#') => base.to_owned(),
        Some('/') => target(&resolve_dots(reference)),
        Some('?') => target(&format!("{path}{reference}")),
        Some(_) => target(&resolve_dots(&format!("{directory}{reference}"))),
    }
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

/// Of what Go may send as `Host` (`httpguts.ValidHostHeader`).
fn is_host_header(value: &str) -> bool {
    let may = |byte: u8| byte.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=[]_~".contains(&byte);
    value.bytes().all(may)
}

/// The target of a manifest's path. One with a broken escape is no URL: then all of it is the path's own (Kubernetes
/// `formatURL`).
fn whole_target(path: &str) -> String {
    let own = path.split(['?', '#']).next().unwrap_or_default();
    if reference::check_escapes(own).is_ok() {
        return target(path);
    }
    target(
        &path
            .replace('%', "%25")
            .replace('?', "%3F")
            .replace('#', "%23"),
    )
}

/// Path and query as they can stand in a request line: what may not stand there is escaped, the
/// fragment stays here.
///
/// Differs (PROBE-10): a query is escaped too; upstream sends it as it stands, and Go's servers refuse a space
/// there. A path that looks like a URL (`//x/y`, `http://x/y`) is asked for as it stands; upstream asks for `/y`.
fn target(path: &str) -> String {
    let path = path.split('#').next().unwrap_or_default();
    let mut target = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        target.push('/');
    }
    for byte in path.bytes() {
        if byte.is_ascii_graphic() && !br#""<>\^`{|}"#.contains(&byte) {
            target.push(char::from(byte));
        } else {
            target.push('%');
            for digit in [byte >> 4, byte & 15] {
                let digit = char::from_digit(u32::from(digit), 16).unwrap_or('0');
                target.push(digit.to_ascii_uppercase());
            }
        }
    }
    target
}

/// `/a/./b/../c` as `/a/c`; a query is left as it is.
fn resolve_dots(path: &str) -> String {
    let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
    let mut kept: Vec<&str> = Vec::new();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    for (index, part) in parts.iter().enumerate() {
        match *part {
            "." | ".." => {
                if *part == ".." {
                    kept.pop();
                }
                if index + 1 == parts.len() {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    format!("/{}{query}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::HTTPHeader;

    use super::*;

    fn action(path: &str, headers: &[(&str, &str)]) -> HTTPGetAction {
        HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(8080),
            http_headers: Some(
                headers
                    .iter()
                    .map(|(name, value)| HTTPHeader {
                        name: (*name).to_owned(),
                        value: (*value).to_owned(),
                    })
                    .collect(),
            ),
            ..HTTPGetAction::default()
        }
    }

    fn request(action: &HTTPGetAction) -> HttpRequest {
        HttpRequest::new(action, &[], "10.1.2.3", (Purpose::Probe, "1.34")).unwrap()
    }

    fn header<'a>(request: &'a HttpRequest, name: &str) -> Vec<&'a str> {
        let found = request.headers.iter().filter(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).collect()
    }

    #[test]
    fn probe_10_the_pod_is_asked_with_the_headers_of_the_original() {
        let request = request(&action(
            "/healthz?full=1#top",
            &[("X-A", "1"), ("X-A", "2")],
        ));
        assert_eq!(request.url(), "http://10.1.2.3:8080/healthz?full=1");
        assert_eq!(request.host_header, "10.1.2.3:8080");
        assert_eq!(header(&request, "User-Agent"), ["kube-probe/1.34"]);
        assert_eq!(header(&request, "Accept"), ["*/*"]);
        assert_eq!(header(&request, "X-A"), ["1", "2"]);
        assert_eq!(header(&request, "Connection"), ["close"]);
        assert!(header(&request, "Accept-Encoding").is_empty());
    }

    #[test]
    fn ctr_45_hooks_are_asked_as_by_gos_default_transport() {
        let hook = |headers: &[(&str, &str)]| {
            let who = (Purpose::Lifecycle, "1.34");
            HttpRequest::new(&action("/", headers), &[], "10.1.2.3", who).unwrap()
        };
        let plain = hook(&[]);
        assert_eq!(header(&plain, "User-Agent"), ["kube-lifecycle/1.34"]);
        assert_eq!(header(&plain, "Accept-Encoding"), ["gzip"]);
        assert!(header(&plain, "Connection").is_empty());
        let own = hook(&[("Accept-Encoding", "br")]);
        assert_eq!(header(&own, "Accept-Encoding"), ["br"]);
        let part = hook(&[("range", "bytes=0-1")]);
        assert!(header(&part, "Accept-Encoding").is_empty());
    }

    #[test]
    fn probe_10_headers_of_the_manifest_win_and_empty_ones_take_away() {
        let headers = [
            ("host", "example.org"),
            ("ACCEPT", ""),
            ("User-Agent", "me"),
        ];
        let request = request(&action("", &headers));
        assert_eq!(request.host_header, "example.org");
        assert_eq!(
            request.headers,
            [("User-Agent", "me"), ("Connection", "close")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        assert_eq!(request.target, "/");
    }

    #[test]
    fn probe_10_headers_are_those_that_gos_client_would_send() {
        let request = request(&action(
            "/",
            &[
                ("Host", "a.b"),
                ("host", "c.d"),
                ("User-Agent", "one"),
                ("user-agent", "two"),
                ("Content-Length", "5"),
                ("transfer-encoding", "chunked"),
                ("Trailer", "X"),
                ("X-Padded", " \tvalue "),
            ],
        ));
        assert_eq!(request.host_header, "a.b");
        assert_eq!(header(&request, "User-Agent"), ["one"]);
        assert_eq!(header(&request, "X-Padded"), ["value"]);
        for name in NOT_SENT {
            assert!(header(&request, name).is_empty(), "{name}");
        }
    }

    #[test]
    fn probe_10_what_cannot_stand_in_a_request_line_is_escaped() {
        let request = request(&action("a b\"\r\nX: é", &[]));
        assert_eq!(request.target, "/a%20b%22%0D%0AX:%20%C3%A9");
    }

    #[test]
    fn probe_12_a_host_of_its_own_and_ipv6() {
        let mut action = action("/", &[]);
        action.host = Some("fd00::1".to_owned());
        action.scheme = Some("HTTPS".to_owned());
        assert_eq!(request(&action).url(), "https://[fd00::1]:8080/");
    }

    #[test]
    fn probe_13_ports_by_number_name_and_number_in_quotes() {
        let ports = [ContainerPort {
            name: Some("web".to_owned()),
            container_port: 80,
            ..ContainerPort::default()
        }];
        let text = |text: &str| resolve_port(&IntOrString::String(text.to_owned()), &ports);
        assert_eq!(text("web"), Ok(80));
        assert_eq!(text("81"), Ok(81));
        assert_eq!(
            text("other").unwrap_err().to_string(),
            "strconv.Atoi: parsing \"other\": invalid syntax"
        );
        assert_eq!(
            resolve_port(&IntOrString::Int(0), &ports)
                .unwrap_err()
                .to_string(),
            "invalid port number: 0"
        );
        assert_eq!(
            text("65536").unwrap_err().to_string(),
            "invalid port number: 65536"
        );
    }

    #[test]
    fn probe_10_redirects_to_the_same_host_only() {
        let request = request(&action("/a/b?q", &[]));
        let to = |location: &str| match request.redirected(location, &request) {
            Redirect::To(next) => next.url(),
            Redirect::End => "end".to_owned(),
            Redirect::Failed { url, reason } => format!("Get {url:?}: {reason}"),
        };
        for (location, url) in [
            ("/x?y", "http://10.1.2.3:8080/x?y"),
            ("c", "http://10.1.2.3:8080/a/c"),
            ("../c/./d/..", "http://10.1.2.3:8080/c/"),
            ("/x/../y?/..", "http://10.1.2.3:8080/y?/.."),
            ("?z", "http://10.1.2.3:8080/a/b?z"),
            ("https://10.1.2.3/s", "https://10.1.2.3/s"),
            ("//10.1.2.3:81", "http://10.1.2.3:81/"),
            ("http://10.1.2.3:/x", "http://10.1.2.3:/x"),
            ("", "end"),
            ("http://example.org/", "end"),
            ("mailto:x", "end"),
            ("http:/s400", "end"),
            (
                "ftp://10.1.2.3/",
                "Get \"ftp://10.1.2.3/\": unsupported protocol scheme \"ftp\"",
            ),
            (
                "http://10.1.2.3:99999/x",
                "Get \"http://10.1.2.3:99999/x\": dial tcp: address 99999: invalid port",
            ),
            (
                "/%zz",
                "Get \"http://10.1.2.3:8080/a/b?q\": failed to parse Location header \"/%zz\": parse \"/%zz\": \
                 invalid URL escape \"%zz\"",
            ),
        ] {
            assert_eq!(to(location), url, "{location}");
        }
    }

    #[test]
    fn probe_10_a_redirect_says_who_asks_and_where_it_comes_from() {
        let first = request(&action("/a", &[("Host", "example.org"), ("X-A", "1")]));
        let to = |from: &HttpRequest, location: &str| match from.redirected(location, &first) {
            Redirect::To(next) => *next,
            other => panic!("{other:?}"),
        };
        let next = to(&first, "http://u:p@10.1.2.3:81/b");
        assert_eq!(next.user.as_deref(), Some("u:p"));
        assert_eq!(next.host_header, "10.1.2.3:81");
        assert_eq!(next.referer.as_deref(), Some("http://10.1.2.3:8080/a"));
        assert_eq!(header(&next, "X-A"), ["1"]);
        let last = to(&next, "/c");
        assert_eq!(last.user.as_deref(), Some("u:p"));
        assert_eq!(last.referer.as_deref(), Some("http://10.1.2.3:81/b"));
        // A reference without a scheme keeps the manifest's own.
        assert_eq!(to(&first, "/b").host_header, "example.org");
        let plain = to(&to(&first, "https://10.1.2.3/"), "http://10.1.2.3/");
        assert_eq!(plain.referer, None);
    }

    #[test]
    fn probe_10_a_path_that_is_no_url_is_asked_for_as_it_stands() {
        assert_eq!(request(&action("/%zz%41?x", &[])).target, "/%25zz%2541%3Fx");
        assert_eq!(request(&action("/%41?%zz", &[])).target, "/%41?%zz");
        let odd = request(&action("/", &[("Host", "a b")]));
        assert_eq!(odd.host_header, "");
    }
}
