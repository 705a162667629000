//! Expected are the words of Go 1.24.

use proptest::prelude::*;

use super::*;

#[test]
fn what_is_no_url_is_told_in_gos_words() {
    for (text, why) in [
        ("http://[::1", "missing ']' in host"),
        ("/%zz", "invalid URL escape \"%zz\""),
        ("/a%2", "invalid URL escape \"%2\""),
        ("/a#%", "invalid URL escape \"%\""),
        ("http://h%41/", "invalid URL escape \"%41\""),
        ("http://h:abc/x", "invalid port \":abc\" after host"),
        ("http://a b/", "invalid character \" \" in host name"),
        ("http://[1.2.3.4]/", "invalid IP-literal"),
        (":x", "missing protocol scheme"),
        ("1a:b/c", "first path segment in URL cannot contain colon"),
        ("http://a b@h/", "net/url: invalid userinfo"),
        ("/\u{1}", "net/url: invalid control character in URL"),
    ] {
        let error = Url::parse(text).unwrap_err().to_string();
        assert_eq!(error, format!("parse {}: {why}", quote(text)));
    }
    // A fragment is named only where it is what is wrong.
    assert_eq!(
        Url::parse(":x#f").unwrap_err().to_string(),
        "parse \":x\": missing protocol scheme"
    );
}

#[test]
fn parts_are_found() {
    let whole = Url::parse("HTTP://u:p@[fd00::1]:81/a?b#c").unwrap();
    assert_eq!(whole.scheme, "http");
    assert_eq!(whole.target(), "/a?b");
    assert_eq!(whole.host, "[fd00::1]:81");
    assert_eq!((whole.hostname(), whole.port()), ("fd00::1", Some("81")));
    assert_eq!(whole.credentials().unwrap(), b"u:p");
    assert_eq!(Url::parse("a/b:c").unwrap().target(), "a/b:c");
    let zone = Url::parse("http://[fe80::1%25eth0]/").unwrap();
    assert_eq!(zone.hostname(), "fe80::1%eth0");
    let port = Url::parse("http://h:/x").unwrap();
    assert_eq!((port.hostname(), port.port()), ("h", None));
    assert_eq!(port.without_empty_port().host, "h");
}

#[test]
fn urls_are_printed_as_go_prints_them() {
    for (text, printed) in [
        ("http://h", "http://h"),
        ("HTTP://H?", "http://H?"),
        ("http://h?a b#c d", "http://h?a b#c%20d"),
        ("http://h/S%41x y", "http://h/SAx%20y"),
        ("http://h/S%41x", "http://h/S%41x"),
        ("http://h/a%2fb|", "http://h/a/b%7C"),
        ("http://h/#a%41", "http://h/#a%41"),
        ("http://h/#a%41^", "http://h/#aA%5E"),
        ("http://u%40:p%2f@h/", "http://u%40:p%2F@h/"),
        ("http://b\u{fc}cher/", "http://b%C3%BCcher/"),
        ("http://[fe80::1%25e%20]/", "http://[fe80::1%25e%20]/"),
        ("http:/x", "http:/x"),
        ("http:x?y", "http:x?y"),
        ("*", "*"),
    ] {
        assert_eq!(Url::parse(text).unwrap().to_string(), printed, "{text}");
    }
    let secret = Url::parse("http://us%40er:p%41ss@h/").unwrap();
    assert_eq!(secret.without_password(), "http://us@er:***@h/");
    assert_eq!(secret.without_user().to_string(), "http://h/");
    let user = Url::parse("http://user@h").unwrap();
    assert_eq!(user.without_password(), "http://user@h");
}

#[test]
fn references_are_resolved_as_by_go() {
    for (base, reference, url) in [
        ("http://h", "a", "http://h/a"),
        ("http://h", "", "http://h"),
        ("http://h/a/b?q#f", "", "http://h/a/b?q#f"),
        ("http://h/a/b?q#f", "#g", "http://h/a/b?q#g"),
        ("http://h/a/b?q#f", "?", "http://h/a/b?"),
        ("http://u:p@h/a", "b", "http://u:p@h/b"),
        ("http://u:p@h/a", "//h/b", "http://h/b"),
        ("http://h/a/b/", "../../../c/.", "http://h/c/"),
        ("http://h/a", "/..//b", "http://h/b"),
        ("http://h/a", "/b//../c", "http://h/b/c"),
        ("http://h/a", "///x", "http://h///x"),
        ("http://h/a%2fb/c", "d|", "http://h/a%2fb/d%7C"),
    ] {
        let resolved = Url::parse(base)
            .unwrap()
            .resolve(&Url::parse(reference).unwrap());
        assert_eq!(resolved.to_string(), url, "{base} {reference}");
    }
}

#[test]
fn what_a_request_line_cannot_hold_is_escaped_in_queries_too() {
    let url = Url::parse("http://h/?a b=\"<\u{e9}>\"&'%").unwrap();
    assert_eq!(url.target(), "/?a%20b=%22%3C\u{e9}%3E%22&'%");
}

proptest! {
    #[test]
    fn what_is_printed_is_read_as_the_same(text in "(http://)?[/:a1@?#%\\[\\] .é*]{0,12}") {
        if let Ok(url) = Url::parse(&text) && !url.host.is_empty() {
            let printed = url.to_string();
            prop_assert_eq!(Url::parse(&printed).unwrap().to_string(), printed);
        }
    }
}
