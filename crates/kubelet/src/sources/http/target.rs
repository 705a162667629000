//! Where the manifest URL leads, and what is asked there: the request of Go's client.

use std::collections::BTreeMap;

use http_body_util::Empty;
use hyper::{
    Request, Uri,
    body::Bytes,
    header::{self, HeaderName, HeaderValue},
};
use kubelet_core::probes::http::{NOT_SENT, authority, join};

use crate::outbound::http::basic;

/// Headers that only the host of the URL gets, and those below it, as Go's client has it.
const SENSITIVE: [&str; 6] = [
    "authorization",
    "www-authenticate",
    "cookie",
    "cookie2",
    "proxy-authorization",
    "proxy-authenticate",
];

/// `staticPodURLHeader`; a header may have several values.
pub(super) type Headers = BTreeMap<String, Vec<String>>;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) url: String,
    pub(super) https: bool,
    /// Without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// With its query.
    path: String,
    /// `user:password` before the host, as it stands in the URL.
    user: Option<String>,
}

impl Target {
    /// `None` when it is not a URL of http or https with a host.
    pub(super) fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return None,
        };
        let host = uri.host()?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = uri.authority().map(http::uri::Authority::as_str);
        Some(Self {
            url: url.to_owned(),
            https,
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(if https { 443 } else { 80 }),
            path: path.to_owned(),
            user: authority
                .and_then(|authority| authority.rsplit_once('@'))
                .map(|(user, _)| user.to_owned()),
        })
    }

    /// Host and port, where it is not that of the scheme.
    fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        match (self.https, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// Host and port, always both.
    pub(super) fn host_and_port(&self) -> String {
        authority(&self.host, self.port)
    }

    /// User and password of the URL as a header.
    pub(super) fn basic(&self) -> Option<String> {
        self.user.as_deref().map(basic)
    }

    fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    /// The URL without user and password.
    pub(super) fn plain_url(&self) -> String {
        format!("{}://{}{}", self.scheme(), self.authority(), self.path)
    }

    /// Where a redirect leads; `None` when nowhere. User and password go along to the same host only,
    /// when the redirect does not name it.
    pub(super) fn redirected(&self, location: &str) -> Option<Self> {
        if location.starts_with("//") {
            return Self::parse(&format!("{}:{location}", self.scheme()));
        }
        let scheme = location.split(['/', '?', '#']).next().unwrap_or_default();
        if scheme.contains(':') {
            return Self::parse(location);
        }
        let path = join(&self.path, location);
        let mut next = Self::parse(&format!("{}://{}{path}", self.scheme(), self.authority()))?;
        next.user.clone_from(&self.user);
        Some(next)
    }

    /// The request of Go's client, to the target itself. Headers that are the client's own to
    /// send are taken from nowhere else, one `User-Agent` is sent at most, and the URL's user counts where no
    /// `Authorization` is given.
    ///
    /// Differs (SRC-10): the answer is not asked for in compressed form, and the connection is not kept.
    ///
    /// # Errors
    /// When a header cannot be sent.
    pub(super) fn request(
        &self,
        headers: &Headers,
        referer: Option<&str>,
    ) -> Result<Request<Empty<Bytes>>, http::Error> {
        let mut request = Request::get(self.path.as_str())
            .header(header::HOST, self.authority())
            .body(Empty::new())?;
        let sent = request.headers_mut();
        for (name, values) in headers {
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            if is("Host") || NOT_SENT.into_iter().any(is) {
                continue;
            }
            let name: HeaderName = name.parse().map_err(http::Error::from)?;
            for value in values {
                let value = HeaderValue::from_bytes(value.trim_matches([' ', '\t']).as_bytes())?;
                sent.append(name.clone(), value);
            }
        }
        // Of several the first counts, and an empty one takes the header away.
        let agent = sent
            .remove(header::USER_AGENT)
            .unwrap_or(HeaderValue::from_static("Go-http-client/1.1"));
        if !agent.is_empty() {
            sent.insert(header::USER_AGENT, agent);
        }
        sent.entry(header::CONNECTION)
            .or_insert(HeaderValue::from_static("close"));
        let authorized = |value: &HeaderValue| !value.is_empty();
        if let Some(basic) = self.basic()
            && !sent.get(header::AUTHORIZATION).is_some_and(authorized)
        {
            sent.insert(header::AUTHORIZATION, HeaderValue::from_str(&basic)?);
        }
        if let Some(referer) = referer {
            sent.insert(header::REFERER, HeaderValue::from_str(referer)?);
        }
        Ok(request)
    }

    /// What the next request tells of this one, unless the manifest's headers tell something else:
    /// never from https to http.
    pub(super) fn as_referer(&self, next: &Self, headers: &Headers) -> Option<String> {
        let given = headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("Referer"))
            .and_then(|(_, values)| values.first())
            .filter(|value| !value.is_empty());
        let told = !self.https || next.https;
        told.then(|| given.cloned().unwrap_or_else(|| self.plain_url()))
    }
}

/// Takes away what another host may not hear.
pub(super) fn strip_secrets(headers: &mut Headers, host: &str, first: &str) {
    if !is_same_or_below(host, first) {
        headers.retain(|name, _| !SENSITIVE.contains(&name.to_lowercase().as_str()));
    }
}

/// `a.example.org` is below `example.org`.
fn is_same_or_below(host: &str, first: &str) -> bool {
    let below = |rest: &str| rest.ends_with('.') && !first.contains(':');
    host == first || host.strip_suffix(first).is_some_and(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_to_the_host_of_the_url_and_below_it_only() {
        for (host, first, same) in [
            ("h.org", "h.org", true),
            ("a.h.org", "h.org", true),
            ("evil-h.org", "h.org", false),
            ("org", "h.org", false),
            ("other", "h.org", false),
        ] {
            assert_eq!(is_same_or_below(host, first), same, "{host} {first}");
        }
    }

    #[test]
    fn urls_are_taken_apart() {
        let target = Target::parse("https://user:word@[::1]/pods?x=1").unwrap();
        assert_eq!(
            (target.https, target.host.as_str(), target.port),
            (true, "::1", 443)
        );
        assert_eq!(target.path, "/pods?x=1");
        assert_eq!(target.user.as_deref(), Some("user:word"));
        assert_eq!(target.authority(), "[::1]");
        for wrong in ["", "/pods", "ftp://h/x", "http://"] {
            assert!(Target::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn src_10_redirects_lead_where_gos_client_goes() {
        let target = Target::parse("https://user:word@h/a/pods?x=1").unwrap();
        let to = |location: &str| target.redirected(location).map(|next| next.url);
        for (location, url) in [
            ("/elsewhere", "https://h/elsewhere"),
            ("pods2.yaml", "https://h/a/pods2.yaml"),
            ("../b/./pods", "https://h/b/pods"),
            ("?x=2", "https://h/a/pods?x=2"),
            ("//other:81/x", "https://other:81/x"),
            ("http://h:81/", "http://h:81/"),
            ("HTTP://h/", "HTTP://h/"),
        ] {
            assert_eq!(to(location).as_deref(), Some(url), "{location}");
        }
        assert_eq!(to("ftp://h/"), None);
        let user = |location: &str| target.redirected(location).unwrap().user;
        assert_eq!(user("pods2.yaml").as_deref(), Some("user:word"));
        assert_eq!(user("https://h/pods2.yaml"), None);
    }

    fn sent(url: &str, headers: &[(&str, &[&str])]) -> Vec<String> {
        let headers = headers.iter().map(|(name, values)| {
            let values = values.iter().map(ToString::to_string).collect();
            ((*name).to_owned(), values)
        });
        let target = Target::parse(url).unwrap();
        let request = target.request(&headers.collect(), None).unwrap();
        let sent = request.headers().iter();
        let mut lines: Vec<String> = sent
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        lines
    }

    #[test]
    fn src_10_headers_are_those_of_gos_client() {
        let lines = sent(
            "http://user:word@h/pods",
            &[
                ("Host", &["other"]),
                ("User-Agent", &["mine", "yours"]),
                ("Authorization", &["Bearer token"]),
                ("Content-Length", &["5"]),
                ("transfer-encoding", &["chunked"]),
                ("X-Both", &[" one\t", "two"]),
            ],
        );
        let expected = [
            "authorization: Bearer token",
            "connection: close",
            "host: h",
            "user-agent: mine",
            "x-both: one",
            "x-both: two",
        ];
        assert_eq!(lines, expected);
        // `us@er:`
        let lines = sent("http://us%40er@h:81/", &[("User-Agent", &[""])]);
        let expected = [
            "authorization: Basic dXNAZXI6",
            "connection: close",
            "host: h:81",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_redirect_tells_whence_it_came_but_no_secret() {
        let first = Target::parse("https://user:word@h/a").unwrap();
        let mut headers = Headers::new();
        let to =
            |url: &str, headers: &Headers| first.as_referer(&Target::parse(url).unwrap(), headers);
        assert_eq!(to("https://h/b", &headers).as_deref(), Some("https://h/a"));
        assert_eq!(to("http://h/b", &headers), None);
        headers.insert("Referer".to_owned(), vec!["mine".to_owned()]);
        assert_eq!(to("https://h/b", &headers).as_deref(), Some("mine"));
    }
}
