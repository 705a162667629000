//! A URL as Go's `net/url` (1.24) reads it, prints it, and resolves one against another.
//!
//! Differs (SRC-10, PROBE-10): a host with letters beyond ASCII is looked up as it stands; upstream looks up its
//! Punycode. What is wrong with an address in brackets is told as `unable to parse IP`; upstream tells in which part of it.

mod escape;
mod parse;

use std::fmt;

use thiserror::Error;

use self::escape::{Part, escape};
use crate::quote::quote;

/// A URL, or a reference to one. What is the same in print is equal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Url {
    /// In small letters; empty in a reference.
    pub scheme: String,
    /// Host and port, the former in brackets where it is an IPv6 address; nothing of it is escaped.
    pub host: String,
    /// What follows the scheme where that is no slash.
    opaque: String,
    user: Option<User>,
    /// There is a scheme, and a path without a host.
    omits_host: bool,
    /// As it is printed.
    path: String,
    /// As it was read.
    query: Option<String>,
    /// As it is printed.
    fragment: String,
}

/// `name:password`, neither of them escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
struct User {
    name: Vec<u8>,
    password: Option<Vec<u8>>,
}

/// What is no URL, in Go's words: `parse "http://a b/": invalid character " " in host name`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("parse {}: {why}", quote(.text))]
pub struct ParseError {
    text: String,
    why: String,
}

impl Url {
    /// Reads one.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parse::parse(text)
    }

    /// What has this path, whatever stands in it.
    pub fn of_path(path: &str) -> Self {
        Self {
            path: escape(path.as_bytes(), Part::Path),
            ..Self::default()
        }
    }

    /// What a reference means that stands at this URL, which has a host (Go's `ResolveReference`).
    #[must_use]
    pub fn resolve(&self, reference: &Self) -> Self {
        let mut url = reference.clone();
        if url.scheme.is_empty() {
            url.scheme.clone_from(&self.scheme);
        }
        if !reference.scheme.is_empty() || !reference.host.is_empty() || reference.user.is_some() {
            url.path = resolve_path(&reference.path, "");
            return url;
        }
        if reference.path.is_empty() && reference.query.is_none() {
            url.query = self.query.clone().filter(|query| !query.is_empty());
            if reference.fragment.is_empty() {
                url.fragment.clone_from(&self.fragment);
            }
        }
        url.host.clone_from(&self.host);
        url.user.clone_from(&self.user);
        url.path = resolve_path(&self.path, &reference.path);
        url
    }

    /// The host without its port and brackets.
    pub fn hostname(&self) -> &str {
        let host = self.split_port().0;
        host.strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host)
    }

    /// Digits; none where there are none, whether after a colon or not.
    pub fn port(&self) -> Option<&str> {
        self.split_port().1.filter(|port| !port.is_empty())
    }

    fn split_port(&self) -> (&str, Option<&str>) {
        match self.host.rsplit_once(':') {
            Some((host, port)) if parse::is_port(port) => (host, Some(port)),
            _ => (&self.host, None),
        }
    }

    /// Takes a colon away that no port follows, as Go's `NewRequest` does.
    #[must_use]
    pub fn without_empty_port(mut self) -> Self {
        if self.host.ends_with(':') {
            self.host.pop();
        }
        self
    }

    /// Path and query as they go over the wire.
    ///
    /// Differs (SRC-10, PROBE-10): a space, a quotation mark, `<` and `>` in a query are escaped; upstream sends them
    /// as they stand, and Go's servers refuse a space there.
    pub fn target(&self) -> String {
        let mut target = if self.path.is_empty() {
            "/".to_owned()
        } else {
            self.path.clone()
        };
        if let Some(query) = &self.query {
            target.push('?');
            for c in query.chars() {
                match c {
                    ' ' => target.push_str("%20"),
                    '"' => target.push_str("%22"),
                    '<' => target.push_str("%3C"),
                    '>' => target.push_str("%3E"),
                    c => target.push(c),
                }
            }
        }
        target
    }

    /// `name:password` as they are meant; nothing where it names no user.
    pub fn credentials(&self) -> Option<Vec<u8>> {
        let user = self.user.as_ref()?;
        let password = user.password.as_deref().unwrap_or_default();
        Some([&user.name, &b":"[..], password].concat())
    }

    /// Without the user: what may be told to others.
    #[must_use]
    pub fn without_user(&self) -> Self {
        Self {
            user: None,
            ..self.clone()
        }
    }

    /// For messages: `***` stands for a password (Go's `stripPassword`).
    pub fn without_password(&self) -> String {
        match &self.user {
            Some(User {
                name,
                password: Some(_),
            }) => self.printed(&format!("{}:***@", String::from_utf8_lossy(name))),
            _ => self.to_string(),
        }
    }

    fn printed(&self, user: &str) -> String {
        let mut text = String::new();
        if !self.scheme.is_empty() {
            text.push_str(&self.scheme);
            text.push(':');
        }
        if self.opaque.is_empty() {
            let has_authority = !self.host.is_empty() || self.user.is_some();
            if has_authority
                || (!self.scheme.is_empty() && !self.omits_host && !self.path.is_empty())
            {
                text.push_str("//");
            }
            text.push_str(user);
            text.push_str(&escape(self.host.as_bytes(), Part::Host));
            if !self.path.is_empty() && !self.path.starts_with('/') && !self.host.is_empty() {
                text.push('/');
            }
            text.push_str(&self.path);
        } else {
            text.push_str(&self.opaque);
        }
        if let Some(query) = &self.query {
            text.push('?');
            text.push_str(query);
        }
        if !self.fragment.is_empty() {
            text.push('#');
            text.push_str(&self.fragment);
        }
        text
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.as_ref().map(|user| {
            let name = escape(&user.name, Part::User);
            match &user.password {
                Some(password) => format!("{name}:{}@", escape(password, Part::User)),
                None => format!("{name}@"),
            }
        });
        f.write_str(&self.printed(&user.unwrap_or_default()))
    }
}

/// `/a/./b/../c` as `/a/c`, the reference seen from the base (RFC 3986, 5.2). As in Go's `resolvePath` a slash after
/// `..` at the root is not kept.
fn resolve_path(base: &str, reference: &str) -> String {
    let directory = base.rfind('/').map_or("", |end| &base[..=end]);
    let whole = match reference.chars().next() {
        None => base.to_owned(),
        Some('/') => reference.to_owned(),
        Some(_) => format!("{directory}{reference}"),
    };
    if whole.is_empty() {
        return whole;
    }
    let mut kept = Vec::new();
    for part in whole.split('/') {
        match part {
            ".." => drop(kept.pop()),
            "." if kept.is_empty() => kept.push(""),
            "." => {}
            part => kept.push(part),
        }
    }
    let is_directory = whole.ends_with("/.") || whole.ends_with("/..");
    let end = if is_directory || matches!(&*whole, "." | "..") {
        "/"
    } else {
        ""
    };
    let path = format!("/{}{end}", kept.join("/"));
    match path.strip_prefix("//") {
        Some(rest) => format!("/{rest}"),
        None => path,
    }
}

#[cfg(test)]
mod tests;
