//! A GET as Go's `net/http` client (1.24) makes it, and where redirects lead it.
//!
//! Who asks (a probe, a hook, the source of manifests) brings a [`Request`], sends what a [`Chase`] names, and
//! tells it of the answer, until that is the last one.

use thiserror::Error;

use crate::{quote::quote, url::Url};

/// So many requests are made for one, redirects included.
const MAX_REQUESTS: usize = 10;
/// Headers that are the client's own to send: never taken from a caller.
const NOT_SENT: [&str; 4] = ["Host", "Content-Length", "Transfer-Encoding", "Trailer"];
/// Headers that only the host of the first URL gets, and those below it.
const SENSITIVE: [&str; 6] = [
    "Authorization",
    "Www-Authenticate",
    "Cookie",
    "Cookie2",
    "Proxy-Authorization",
    "Proxy-Authenticate",
];

/// What the transport adds to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// That no connection is kept.
    Closing,
    /// What Go's default one adds: that answers may be compressed, unless the caller says how it wants them.
    Default,
}

/// Where redirects may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// To the host of the first request only (Kubernetes `RedirectChecker(false)`).
    SameHost,
    /// Anywhere.
    Anywhere,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What is asked for.
    pub url: Url,
    /// What `Host` says; empty: the URL's.
    pub host: String,
    /// The caller's headers. A name may come more than once, in any letters.
    pub headers: Vec<(String, String)>,
    /// What comes to them.
    pub transport: Transport,
}

/// Whom to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Over TLS.
    pub https: bool,
    /// Name or address without brackets; empty: this machine.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// A URL that leads nowhere, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoPlace {
    /// Of another protocol.
    #[error("unsupported protocol scheme {}", quote(.0))]
    Scheme(String),
    /// Names no host.
    #[error("http: no Host in request URL")]
    Host,
    /// Too large a number.
    #[error("dial tcp: address {0}: invalid port")]
    Port(String),
}

impl Place {
    /// Of a URL.
    ///
    /// # Errors
    /// When it leads nowhere.
    pub fn of(url: &Url) -> Result<Self, NoPlace> {
        let https = match url.scheme.as_str() {
            "https" => true,
            "http" => false,
            other => return Err(NoPlace::Scheme(other.to_owned())),
        };
        if url.host.is_empty() {
            return Err(NoPlace::Host);
        }
        let port = match url.port() {
            None if https => 443,
            None => 80,
            Some(port) => port.parse().map_err(|_| NoPlace::Port(port.to_owned()))?,
        };
        let host = url.hostname().to_owned();
        Ok(Self { https, host, port })
    }
}

impl Request {
    /// Whether there is such a header.
    pub fn has(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }

    /// The first value of a header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        let mut values = self.values(name);
        values.next().unwrap_or_default()
    }

    fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let named = |(known, _): &&(String, String)| known.eq_ignore_ascii_case(name);
        let headers = self.headers.iter().filter(named);
        headers.map(|(_, value)| value.as_str())
    }

    /// Takes a header away.
    pub fn remove(&mut self, name: &str) {
        self.headers
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    }

    fn set(&mut self, name: &str, value: String) {
        self.remove(name);
        self.headers.push((name.to_owned(), value));
    }

    /// Whom to connect to.
    ///
    /// # Errors
    /// When that is nobody.
    pub fn place(&self) -> Result<Place, NoPlace> {
        Place::of(&self.url)
    }

    /// The header `Host`. What can be none is sent as none, and the zone of an address is nobody else's business.
    pub fn host_header(&self) -> String {
        let host = if self.host.is_empty() {
            &self.url.host
        } else {
            &self.host
        };
        if !is_host_header(host) {
            return String::new();
        }
        let zone = host.strip_prefix('[').and_then(|host| {
            let (address, port) = host.rsplit_once(']')?;
            let (address, _) = address.rsplit_once('%')?;
            Some(format!("[{address}]{port}"))
        });
        zone.unwrap_or_else(|| host.clone())
    }

    /// The other headers as they go over the wire, but for what [`Self::credentials`] become.
    pub fn sent_headers(&self) -> Vec<(&str, &str)> {
        // Of several the first counts, and an empty one takes the header away.
        let agent = self.values("User-Agent").next();
        let agent = agent.unwrap_or("Go-http-client/1.1");
        let agent = Some(("User-Agent", agent)).filter(|_| !agent.is_empty());
        let has_user = self.credentials().is_some();
        let given = self.headers.iter().filter(|(name, _)| {
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            let replaced = is("User-Agent") || has_user && is("Authorization");
            !replaced && !NOT_SENT.into_iter().any(is)
        });
        let given = given.map(|(name, value)| (name.as_str(), value.trim_matches([' ', '\t'])));
        agent.into_iter().chain(given).chain(self.added()).collect()
    }

    /// `name:password` of the URL, where no header says who asks: what `Authorization: Basic` is made of.
    pub fn credentials(&self) -> Option<Vec<u8>> {
        let user = self.url.credentials();
        user.filter(|_| self.header("Authorization").is_empty())
    }

    fn added(&self) -> Option<(&'static str, &'static str)> {
        let connection = |token: &str| {
            let tokens = self.header("Connection").split(',');
            tokens
                .map(str::trim)
                .any(|one| one.eq_ignore_ascii_case(token))
        };
        match self.transport {
            Transport::Closing => {
                (!connection("close") && !connection("upgrade")).then_some(("Connection", "close"))
            }
            Transport::Default => {
                let says_how = ["Accept-Encoding", "Range"]
                    .into_iter()
                    .any(|name| !self.header(name).is_empty());
                (!says_how).then_some(("Accept-Encoding", "gzip"))
            }
        }
    }

    /// What an answer to it leads to.
    ///
    /// # Errors
    /// Go's words for what is no URL.
    fn redirected(&self, location: &str) -> Result<Self, String> {
        let failed = |error| {
            format!(
                "failed to parse Location header {}: {error}",
                quote(location)
            )
        };
        let reference = Url::parse(location).map_err(failed)?;
        // A host of the caller's own stays where only the path is another.
        let keeps_host = reference.scheme.is_empty() && self.host != self.url.host;
        Ok(Self {
            url: self.url.resolve(&reference),
            host: if keeps_host {
                self.host.clone()
            } else {
                String::new()
            },
            headers: Vec::new(),
            transport: self.transport,
        })
    }
}

/// The requests that one leads to.
#[derive(Debug)]
pub struct Chase<'a> {
    first: &'a Request,
    redirected: Option<Request>,
    follow: Follow,
    answers: usize,
    strips_secrets: bool,
}

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It is the last one.
    Done,
    /// There is another request to be sent.
    Ask,
}

/// What led nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Astray {
    /// What could not be asked.
    pub url: String,
    /// Go's words.
    pub reason: String,
}

impl<'a> Chase<'a> {
    /// One that begins with this request.
    pub fn new(first: &'a Request, follow: Follow) -> Self {
        Self {
            first,
            redirected: None,
            follow,
            answers: 0,
            strips_secrets: false,
        }
    }

    /// What is to be asked now; that of the last answer where this was the last.
    pub fn request(&self) -> &Request {
        self.redirected.as_ref().unwrap_or(self.first)
    }

    /// Tells of the answer to it.
    ///
    /// # Errors
    /// When what it names cannot be asked for.
    pub fn answered(&mut self, status: u16, location: Option<&str>) -> Result<Next, Astray> {
        self.answers += 1;
        let location = location
            .filter(|location| !location.is_empty())
            .filter(|_| matches!(status, 301 | 302 | 303 | 307 | 308));
        let Some(location) = location else {
            return Ok(Next::Done);
        };
        let last = self.request();
        let mut next = last.redirected(location).map_err(|reason| Astray {
            url: last.url.without_password(),
            reason,
        })?;
        if self.follow == Follow::SameHost && next.url.hostname() != self.first.url.hostname() {
            return Ok(Next::Done);
        }
        if self.answers >= MAX_REQUESTS {
            return Err(Astray {
                url: location.to_owned(),
                reason: format!("stopped after {MAX_REQUESTS} redirects"),
            });
        }
        next.headers.clone_from(&self.first.headers);
        let first = &self.first.url;
        let strips_secrets = self.strips_secrets
            || next.url.host != first.host
                && !is_same_or_below(next.url.hostname(), first.hostname());
        if strips_secrets {
            for name in SENSITIVE {
                next.remove(name);
            }
        }
        // Whence it comes, unless the caller tells something else; never from https to http.
        if last.url.scheme != "https" || next.url.scheme != "http" {
            let own = next.header("Referer");
            let referer = if own.is_empty() {
                last.url.without_user().to_string()
            } else {
                own.to_owned()
            };
            next.set("Referer", referer);
        }
        self.strips_secrets = strips_secrets;
        self.redirected = Some(next);
        Ok(Next::Ask)
    }
}

/// Of what Go may send as `Host` (`httpguts.ValidHostHeader`).
fn is_host_header(value: &str) -> bool {
    let may = |byte: u8| byte.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=[]_~".contains(&byte);
    value.bytes().all(may)
}

/// `a.example.org` is below `example.org`.
fn is_same_or_below(host: &str, first: &str) -> bool {
    let below = |rest: &str| rest.ends_with('.') && !host.contains([':', '%']);
    host == first || host.strip_suffix(first).is_some_and(below)
}

#[cfg(test)]
mod tests;
