use super::*;

fn get(url: &str, headers: &[(&str, &str)]) -> Request {
    let headers = headers.iter();
    Request {
        url: Url::parse(url).unwrap(),
        host: String::new(),
        headers: headers
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        transport: Transport::Closing,
    }
}

/// Where a redirect from there leads: the URL, `end`, or what is said.
fn to(url: &str, follow: Follow, location: &str) -> String {
    let first = get(url, &[]);
    let mut chase = Chase::new(&first, follow);
    match chase.answered(302, Some(location)) {
        Ok(Next::Ask) => match chase.request().place() {
            Ok(_) => chase.request().url.to_string(),
            Err(error) => format!("{}: {error}", chase.request().url),
        },
        Ok(Next::Done) => "end".to_owned(),
        Err(astray) => format!("{}: {}", astray.url, astray.reason),
    }
}

#[test]
fn probe_10_redirects_to_the_same_host_only() {
    let to = |location| to("http://10.1.2.3:8080/a/b?q", Follow::SameHost, location);
    for (location, url) in [
        ("/x?y", "http://10.1.2.3:8080/x?y"),
        ("c", "http://10.1.2.3:8080/a/c"),
        ("../c/./d/..", "http://10.1.2.3:8080/c/"),
        ("/x/../y?/..", "http://10.1.2.3:8080/y?/.."),
        ("?z", "http://10.1.2.3:8080/a/b?z"),
        ("#f", "http://10.1.2.3:8080/a/b?q#f"),
        ("https://10.1.2.3/s", "https://10.1.2.3/s"),
        ("//10.1.2.3:81", "http://10.1.2.3:81"),
        ("http://10.1.2.3:/x", "http://10.1.2.3:/x"),
        ("/S%41x y", "http://10.1.2.3:8080/SAx%20y"),
        ("", "end"),
        ("http://example.org/", "end"),
        ("mailto:x", "end"),
        ("http:/s400", "end"),
        (
            "ftp://10.1.2.3/",
            "ftp://10.1.2.3/: unsupported protocol scheme \"ftp\"",
        ),
        (
            "http://10.1.2.3:99999/x",
            "http://10.1.2.3:99999/x: dial tcp: address 99999: invalid port",
        ),
        (
            "/%zz",
            "http://10.1.2.3:8080/a/b?q: failed to parse Location header \"/%zz\": parse \"/%zz\": \
             invalid URL escape \"%zz\"",
        ),
    ] {
        assert_eq!(to(location), url, "{location}");
    }
}

#[test]
fn src_10_redirects_lead_where_gos_client_goes() {
    let to = |location| to("https://user:word@h/a/pods?x=1", Follow::Anywhere, location);
    for (location, url) in [
        ("/elsewhere", "https://user:word@h/elsewhere"),
        ("pods2.yaml", "https://user:word@h/a/pods2.yaml"),
        ("//other:81/x", "https://other:81/x"),
        ("http://h:81", "http://h:81"),
        ("HTTP://h/", "http://h/"),
        ("ftp://h/", "ftp://h/: unsupported protocol scheme \"ftp\""),
        ("http:x", "http:x: http: no Host in request URL"),
        (
            ":x",
            "https://user:***@h/a/pods?x=1: failed to parse Location header \":x\": parse \":x\": \
             missing protocol scheme",
        ),
    ] {
        assert_eq!(to(location), url, "{location}");
    }
}

#[test]
fn statuses_that_are_no_redirects_are_the_last() {
    let first = get("http://h/", &[]);
    let mut chase = Chase::new(&first, Follow::Anywhere);
    for status in [200, 300, 304, 404] {
        assert_eq!(chase.answered(status, Some("/x")), Ok(Next::Done));
    }
    assert_eq!(chase.answered(302, None), Ok(Next::Done));
    let mut chase = Chase::new(&first, Follow::Anywhere);
    for _ in 1..MAX_REQUESTS {
        assert_eq!(chase.answered(308, Some("/x#y")), Ok(Next::Ask));
    }
    let astray = chase.answered(308, Some("/x#y")).unwrap_err();
    assert_eq!(
        (&*astray.url, &*astray.reason),
        ("/x#y", "stopped after 10 redirects")
    );
}

fn redirected(chase: &mut Chase<'_>, location: &str) -> Request {
    assert_eq!(chase.answered(302, Some(location)), Ok(Next::Ask));
    chase.request().clone()
}

#[test]
fn probe_10_a_redirect_says_who_asks_and_where_it_comes_from() {
    let mut first = get("http://h:8080/a", &[("X-A", "1")]);
    first.host = "example.org".to_owned();
    let mut chase = Chase::new(&first, Follow::SameHost);
    let next = redirected(&mut chase, "http://u:p@h:81");
    assert_eq!(next.credentials().unwrap(), b"u:p");
    assert_eq!(next.host_header(), "h:81");
    assert_eq!(next.header("Referer"), "http://h:8080/a");
    assert_eq!(next.header("X-A"), "1");
    let last = redirected(&mut chase, "c#top");
    assert_eq!(last.url.to_string(), "http://u:p@h:81/c#top");
    assert_eq!(last.header("Referer"), "http://h:81");
    let again = redirected(&mut chase, "/d");
    assert_eq!(again.header("Referer"), "http://h:81/c#top");
    // A reference without a scheme keeps the caller's own.
    let mut chase = Chase::new(&first, Follow::SameHost);
    assert_eq!(redirected(&mut chase, "/b").host_header(), "example.org");
    redirected(&mut chase, "https://h/");
    assert!(!redirected(&mut chase, "http://h/").has("Referer"));
}

#[test]
fn a_referer_of_the_callers_own_is_sent_everywhere() {
    let first = get("https://h/a", &[("Referer", "mine"), ("referer", "other")]);
    let mut chase = Chase::new(&first, Follow::Anywhere);
    let next = redirected(&mut chase, "/b");
    assert_eq!(next.values("Referer").collect::<Vec<_>>(), ["mine"]);
    let next = redirected(&mut chase, "http://h/b");
    assert_eq!(next.values("Referer").count(), 2);
}

#[test]
fn secrets_go_to_the_host_of_the_url_and_below_it_only() {
    for (host, first, same) in [
        ("h.org", "h.org", true),
        ("a.h.org", "h.org", true),
        ("evil-h.org", "h.org", false),
        ("org", "h.org", false),
        ("other", "h.org", false),
        ("fe80::1%.h.org", "h.org", false),
    ] {
        assert_eq!(is_same_or_below(host, first), same, "{host} {first}");
    }
    let first = get("http://h/", &[("cookie", "a"), ("X-A", "1")]);
    let mut chase = Chase::new(&first, Follow::Anywhere);
    assert!(redirected(&mut chase, "http://a.h:81/").has("Cookie"));
    let next = redirected(&mut chase, "http://other/");
    assert!(!next.has("Cookie") && next.has("X-A"));
    // Once lost, lost for good.
    assert!(!redirected(&mut chase, "http://h/").has("Cookie"));
}

#[test]
fn src_10_headers_are_those_of_gos_client() {
    let mut request = get(
        "http://user:word@h/pods",
        &[
            ("Host", "other"),
            ("User-Agent", "mine"),
            ("user-agent", "yours"),
            ("Authorization", "Bearer token"),
            ("Content-Length", "5"),
            ("transfer-encoding", "chunked"),
            ("Trailer", "X"),
            ("X-Both", " one\t"),
            ("X-Both", "two"),
        ],
    );
    let expected = [
        ("User-Agent", "mine"),
        ("Authorization", "Bearer token"),
        ("X-Both", "one"),
        ("X-Both", "two"),
        ("Connection", "close"),
    ];
    assert_eq!(request.sent_headers(), expected);
    assert_eq!(request.credentials(), None);
    assert_eq!(request.host_header(), "h");
    request.remove("Authorization");
    assert_eq!(request.credentials().unwrap(), b"user:word");
    let bare = get("http://us%40er@h:80/", &[("User-Agent", "")]);
    assert_eq!(bare.sent_headers(), [("Connection", "close")]);
    assert_eq!(bare.credentials().unwrap(), b"us@er:");
    assert_eq!(bare.host_header(), "h:80");
    let plain = get("http://h/", &[]);
    assert_eq!(plain.header("User-Agent"), "");
    assert_eq!(
        plain.sent_headers()[0],
        ("User-Agent", "Go-http-client/1.1")
    );
}

#[test]
fn a_host_header_is_one_or_empty() {
    let header = |host: &str| {
        let request = Request {
            host: host.to_owned(),
            ..get("http://[fe80::1%25eth0]:80/", &[])
        };
        request.host_header()
    };
    assert_eq!(header(""), "[fe80::1]:80");
    assert_eq!(header("example.org"), "example.org");
    assert_eq!(header("a b"), "");
}
