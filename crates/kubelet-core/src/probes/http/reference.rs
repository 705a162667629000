//! A URL reference as Go's `net/url` reads it: what it takes, and its words for what it does not.

/// The parts, none of them unescaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference<'a> {
    /// In small letters.
    pub(super) scheme: Option<String>,
    /// What stands between `//` and the path.
    pub(super) authority: Option<Authority<'a>>,
    /// Path and query. After a scheme it may begin with no slash.
    pub(super) path: &'a str,
}

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Authority<'a> {
    /// `user:password`.
    pub(super) user: Option<&'a str>,
    /// Host and port as they stand there.
    pub(super) text: &'a str,
    /// Without brackets.
    pub(super) host: &'a str,
    /// Digits, or nothing after the colon.
    pub(super) port: Option<&'a str>,
}

/// Reads a reference.
///
/// # Errors
/// Go's words for what is wrong with it: `parse "http://a b/": invalid character " " in host name`.
pub(super) fn parse(text: &str) -> Result<Reference<'_>, String> {
    let (before_fragment, fragment) = text.split_once('#').unwrap_or((text, ""));
    let failed = |why: String| format!("parse {before_fragment:?}: {why}");
    let reference = parts(before_fragment).map_err(failed)?;
    check_escapes(fragment).map_err(|why| format!("parse {text:?}: {why}"))?;
    Ok(reference)
}

/// The first percent sign that begins no escape.
pub(super) fn check_escapes(text: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    for (at, _) in text.match_indices('%') {
        let digits = bytes.get(at + 1..at + 3);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            let escape = String::from_utf8_lossy(&bytes[at..bytes.len().min(at + 3)]);
            return Err(format!("invalid URL escape {escape:?}"));
        }
    }
    Ok(())
}

fn parts(text: &str) -> Result<Reference<'_>, String> {
    if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    let (scheme, rest) = split_scheme(text)?;
    let path_only = |path: &str| path.split('?').next().unwrap_or_default().to_owned();
    if !rest.starts_with('/') {
        let first = path_only(rest);
        let first = first.split('/').next().unwrap_or_default();
        if scheme.is_none() && first.contains(':') {
            return Err("first path segment in URL cannot contain colon".to_owned());
        }
    }
    let named = rest
        .strip_prefix("//")
        .filter(|_| scheme.is_some() || !rest.starts_with("///"));
    let (authority, path) = match named {
        Some(named) => {
            let (named, path) = named.split_at(named.find(['/', '?']).unwrap_or(named.len()));
            (Some(authority(named)?), path)
        }
        None => (None, rest),
    };
    check_escapes(&path_only(path))?;
    Ok(Reference {
        scheme,
        authority,
        path,
    })
}

fn split_scheme(text: &str) -> Result<(Option<String>, &str), String> {
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err("missing protocol scheme".to_owned()),
            b':' => return Ok((Some(text[..at].to_ascii_lowercase()), &text[at + 1..])),
            _ => break,
        }
    }
    Ok((None, text))
}

fn authority(named: &str) -> Result<Authority<'_>, String> {
    let (user, text) = match named.rsplit_once('@') {
        Some((user, text)) => (Some(user), text),
        None => (None, named),
    };
    let of_user = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte);
    if user.is_some_and(|user| !user.bytes().all(of_user)) {
        return Err("net/url: invalid userinfo".to_owned());
    }
    check_escapes(user.unwrap_or_default())?;
    let (host, after) = if text.starts_with('[') {
        let end = text.rfind(']').ok_or("missing ']' in host")?;
        (&text[1..end], &text[end + 1..])
    } else {
        text.split_at(text.rfind(':').unwrap_or(text.len()))
    };
    let port = after.strip_prefix(':');
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    if !(after.is_empty() || port.is_some_and(is_port)) {
        return Err(format!("invalid port {after:?} after host"));
    }
    let of_host = |one: &char| {
        !one.is_ascii() || one.is_ascii_alphanumeric() || "-_.~!$&'()*+,;=:[]<>\"%".contains(*one)
    };
    if let Some(other) = host.chars().find(|one| !of_host(one)) {
        return Err(format!(
            "invalid character {:?} in host name",
            other.to_string()
        ));
    }
    Ok(Authority {
        user,
        text,
        host,
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Go 1.24 says.
    #[test]
    fn what_is_no_url_is_told_in_gos_words() {
        for (text, why) in [
            ("http://[::1", "missing ']' in host"),
            ("/%zz", "invalid URL escape \"%zz\""),
            ("/a%2", "invalid URL escape \"%2\""),
            ("http://h:abc/x", "invalid port \":abc\" after host"),
            ("http://a b/", "invalid character \" \" in host name"),
            (":x", "missing protocol scheme"),
            ("1a:b/c", "first path segment in URL cannot contain colon"),
            ("http://a b@h/", "net/url: invalid userinfo"),
            ("/\u{1}", "net/url: invalid control character in URL"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(
                error.starts_with("parse \"") && error.ends_with(why),
                "{error}"
            );
        }
    }

    #[test]
    fn parts_are_found() {
        let whole = parse("HTTP://u:p@[fd00::1]:81/a?b#c").unwrap();
        let authority = whole.authority.unwrap();
        assert_eq!(whole.scheme.as_deref(), Some("http"));
        assert_eq!(whole.path, "/a?b");
        assert_eq!(authority.text, "[fd00::1]:81");
        let Authority {
            user, host, port, ..
        } = authority;
        assert_eq!((user, host, port), (Some("u:p"), "fd00::1", Some("81")));
        let opaque = parse("mailto:x").unwrap();
        assert_eq!((opaque.authority, opaque.path), (None, "x"));
        assert_eq!(parse("a/b:c").unwrap().path, "a/b:c");
        let port = parse("http://h:/x").unwrap().authority.unwrap().port;
        assert_eq!(port, Some(""));
    }
}
