//! What Go's `net/url` takes for a URL, and its words for what it does not.

use std::net::IpAddr;

use super::{
    ParseError, Url, User,
    escape::{self, Part, unescape},
};
use crate::quote::quote;

pub(super) fn parse(text: &str) -> Result<Url, ParseError> {
    let (before, fragment) = text.split_once('#').unwrap_or((text, ""));
    let failed = |text: &str, why| ParseError {
        text: text.to_owned(),
        why,
    };
    let mut url = read(before).map_err(|why| failed(before, why))?;
    url.fragment = escape::printed(fragment, Part::Fragment).map_err(|why| failed(text, why))?;
    Ok(url)
}

/// Digits, or nothing.
pub(super) fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// All but the fragment.
fn read(text: &str) -> Result<Url, String> {
    if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    let (scheme, rest) = split_scheme(text)?;
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, Some(query.to_owned())),
        None => (rest, None),
    };
    let mut url = Url {
        scheme: scheme.to_ascii_lowercase(),
        query,
        ..Url::default()
    };
    if !rest.starts_with('/') {
        if !scheme.is_empty() {
            rest.clone_into(&mut url.opaque);
            return Ok(url);
        }
        if rest.split('/').next().unwrap_or_default().contains(':') {
            return Err("first path segment in URL cannot contain colon".to_owned());
        }
    }
    let named = rest
        .strip_prefix("//")
        .filter(|_| !scheme.is_empty() || !rest.starts_with("///"));
    let path = if let Some(named) = named {
        let (authority, path) = named.split_at(named.find('/').unwrap_or(named.len()));
        (url.user, url.host) = read_authority(authority)?;
        path
    } else {
        url.omits_host = !scheme.is_empty();
        rest
    };
    url.path = escape::printed(path, Part::Path)?;
    Ok(url)
}

fn split_scheme(text: &str) -> Result<(&str, &str), String> {
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err("missing protocol scheme".to_owned()),
            b':' => return Ok((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

fn read_authority(text: &str) -> Result<(Option<User>, String), String> {
    let (user, host) = match text.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, text),
    };
    let host = read_host(host)?;
    let of_user = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte);
    if user.is_some_and(|user| !user.bytes().all(of_user)) {
        return Err("net/url: invalid userinfo".to_owned());
    }
    let Some(user) = user else {
        return Ok((None, host));
    };
    let (name, password) = match user.split_once(':') {
        Some((name, password)) => (name, Some(password)),
        None => (user, None),
    };
    let user = User {
        name: unescape(name, Part::User)?,
        password: password
            .map(|password| unescape(password, Part::User))
            .transpose()?,
    };
    Ok((Some(user), host))
}

fn read_host(text: &str) -> Result<String, String> {
    let Some(open) = text.rfind('[') else {
        if let Some(colon) = text.rfind(':') {
            check_port(&text[colon..])?;
        }
        return unescaped(text, Part::Host);
    };
    let close = text.rfind(']').ok_or("missing ']' in host")?;
    let port = &text[close + 1..];
    check_port(port)?;
    let address = text.get(open + 1..close).unwrap_or_default();
    let (address, zone) = address.split_at(address.find("%25").unwrap_or(address.len()));
    let address = unescaped(address, Part::Host)?;
    let zone = unescaped(zone, Part::Zone)?;
    match address.parse() {
        Ok(IpAddr::V4(_)) if zone.is_empty() => Err("invalid IP-literal".to_owned()),
        Ok(IpAddr::V6(_)) if zone != "%" => Ok(format!("[{address}{zone}]{port}")),
        _ => {
            let whole = quote(&format!("{address}{zone}"));
            Err(format!(
                "invalid host: ParseAddr({whole}): unable to parse IP"
            ))
        }
    }
}

fn check_port(text: &str) -> Result<(), String> {
    if text.is_empty() || text.strip_prefix(':').is_some_and(is_port) {
        return Ok(());
    }
    Err(format!("invalid port {} after host", quote(text)))
}

/// What is no text is replaced: nobody has such a name.
fn unescaped(text: &str, part: Part) -> Result<String, String> {
    let bytes = unescape(text, part)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
