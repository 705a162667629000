use k8s_openapi::api::core::v1::HTTPHeader;

use super::*;

fn action(path: &str, headers: &[(&str, &str)]) -> HTTPGetAction {
    let headers = headers.iter().map(|(name, value)| HTTPHeader {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    });
    HTTPGetAction {
        path: Some(path.to_owned()),
        port: IntOrString::Int(8080),
        http_headers: Some(headers.collect()),
        ..HTTPGetAction::default()
    }
}

fn probe(action: &HTTPGetAction) -> Request {
    request(action, &[], "10.1.2.3", (Purpose::Probe, "1.34")).unwrap()
}

fn header<'a>(request: &'a Request, name: &str) -> Vec<&'a str> {
    let sent = request.sent_headers().into_iter();
    let named = sent.filter(|(known, _)| *known == name);
    named.map(|(_, value)| value).collect()
}

#[test]
fn probe_10_the_pod_is_asked_with_the_headers_of_the_original() {
    let request = probe(&action(
        "/healthz?full=1#top",
        &[("X-A", "1"), ("X-A", "2")],
    ));
    let url = "http://10.1.2.3:8080/healthz?full=1#top";
    assert_eq!(request.url.to_string(), url);
    assert_eq!(request.url.target(), "/healthz?full=1");
    assert_eq!(request.host_header(), "10.1.2.3:8080");
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
        request(&action("/", headers), &[], "10.1.2.3", who).unwrap()
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
    let request = probe(&action("", &headers));
    assert_eq!(request.host_header(), "example.org");
    assert_eq!(
        request.sent_headers(),
        [("User-Agent", "me"), ("Connection", "close")]
    );
    assert_eq!(request.url.target(), "/");
    let closed = probe(&action("", &[("Connection", "Close")]));
    assert_eq!(header(&closed, "Connection"), ["Close"]);
}

/// What Go 1.24 asks for and how it names it in errors.
#[test]
fn probe_10_paths_are_read_and_printed_as_by_go() {
    for (path, target, url) in [
        ("", "/", "http://10.1.2.3:8080"),
        ("a", "/a", "http://10.1.2.3:8080/a"),
        ("/S%41x y", "/SAx%20y", "http://10.1.2.3:8080/SAx%20y"),
        ("/S%41x", "/S%41x", "http://10.1.2.3:8080/S%41x"),
        ("/a%2fb", "/a%2fb", "http://10.1.2.3:8080/a%2fb"),
        ("/é|", "/%C3%A9%7C", "http://10.1.2.3:8080/%C3%A9%7C"),
        ("/?", "/?", "http://10.1.2.3:8080/?"),
        ("/?é|", "/?é|", "http://10.1.2.3:8080/?é|"),
        // No URL: all of it is the path.
        (
            "/%zz%41?x",
            "/%25zz%2541%3Fx",
            "http://10.1.2.3:8080/%25zz%2541%3Fx",
        ),
        (
            "/\r\nX: 1#y",
            "/%0D%0AX:%201%23y",
            "http://10.1.2.3:8080/%0D%0AX:%201%23y",
        ),
        // Whole URLs: only scheme and host are the probe's.
        ("//x/y", "/y", "http://10.1.2.3:8080/y"),
        ("ftp://u:p@x/y", "/y", "http://u:p@10.1.2.3:8080/y"),
    ] {
        let request = probe(&action(path, &[]));
        assert_eq!(request.url.target(), target, "{path:?}");
        assert_eq!(request.url.to_string(), url, "{path:?}");
    }
    let nobody = probe(&action("mailto:x", &[]));
    assert_eq!(nobody.url.to_string(), "http:x");
    assert_eq!(
        nobody.place().unwrap_err().to_string(),
        "http: no Host in request URL"
    );
}

#[test]
fn probe_12_a_host_of_its_own_and_ipv6() {
    let mut action = action("/", &[]);
    action.host = Some("fd00::1".to_owned());
    action.scheme = Some("HTTPS".to_owned());
    let request = probe(&action);
    assert_eq!(request.url.to_string(), "https://[fd00::1]:8080/");
    let place = request.place().unwrap();
    assert_eq!(
        (place.https, &*place.host, place.port),
        (true, "fd00::1", 8080)
    );
    action.host = Some("a b".to_owned());
    let error = super::request(&action, &[], "", (Purpose::Probe, "1.34")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "parse \"https://a%20b:8080/\": invalid URL escape \"%20\""
    );
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
