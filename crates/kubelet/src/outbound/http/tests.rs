use std::sync::Mutex;

use daemon::TaskGroup;
use k8s_openapi::{api::core::v1::HTTPGetAction, apimachinery::pkg::util::intstr::IntOrString};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

use kubelet_core::probes::http::{self, Purpose};

use super::*;

async fn get(request: &Request) -> Result<Reply, HttpError> {
    let answer = super::get(request, || std::future::ready(()), &Progress::default()).await;
    answer.map_err(|failed| match failed {
        Failed::Get { error, .. } => error,
        Failed::Body(why) => panic!("{why}"),
    })
}

/// Answers each connection with the next of these texts and notes what it was asked.
struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    _tasks: TaskGroup,
}

async fn server(answers: Vec<String>, tls: bool) -> Server {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    serve_on(listener, answers, tls)
}

fn serve_on(listener: TcpListener, answers: Vec<String>, tls: bool) -> Server {
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let tasks = TaskGroup::new("server");
    let notes = asked.clone();
    tasks.spawn_job("server", async move {
        for answer in answers {
            let (stream, _) = listener.accept().await.unwrap();
            let text = if tls {
                // A client that gives up is what some tests are about.
                let Ok(stream) = acceptor().accept(stream).await else {
                    continue;
                };
                serve(stream, &answer).await
            } else {
                serve(stream, &answer).await
            };
            notes.lock().unwrap().push(text);
        }
    });
    Server {
        port,
        asked,
        _tasks: tasks,
    }
}

/// With a certificate that ended long ago, of nobody.
fn acceptor() -> TlsAcceptor {
    let certificate = CertificateDer::from(&include_bytes!("../testdata/expired.der")[..]);
    let key = PrivatePkcs8KeyDer::from(&include_bytes!("../testdata/expired.key.der")[..]);
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(key))
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await.unwrap_or(0) == 0 {
            break;
        }
        request.push(byte[0]);
        // A greeting in TLS has no such end.
        if request[0] == 0x16 {
            let _ = stream.read(&mut [0; 4096]).await;
            break;
        }
    }
    // The client may have heard enough.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
    String::from_utf8_lossy(&request).into_owned()
}

fn request(port: u16, path: &str, scheme: &str) -> Request {
    let action = HTTPGetAction {
        path: Some(path.to_owned()),
        port: IntOrString::Int(port.into()),
        scheme: Some(scheme.to_owned()),
        ..HTTPGetAction::default()
    };
    http::request(&action, &[], "127.0.0.1", (Purpose::Probe, "1.34")).unwrap()
}

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn redirect(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
}

#[tokio::test]
async fn probe_10_the_request_is_that_of_the_original() {
    let server = server(vec![ok("fine")], false).await;
    let reply = get(&request(server.port, "/healthz?x=1", "HTTP"))
        .await
        .unwrap();
    assert_eq!((reply.status, reply.body.as_str()), (200, "fine"));
    let asked = server.asked.lock().unwrap().join("");
    let mut lines: Vec<&str> = asked.trim_end().split("\r\n").collect();
    assert_eq!(lines.remove(0), "GET /healthz?x=1 HTTP/1.1");
    lines.sort_unstable();
    let host = format!("Host: 127.0.0.1:{}", server.port);
    let expected = [
        "Accept: */*",
        "Connection: close",
        &host,
        "User-Agent: kube-probe/1.34",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn probe_10_redirects_to_the_same_host_are_followed_and_no_others() {
    let server = server(vec![redirect("/next"), ok("there")], false).await;
    let reply = get(&request(server.port, "/", "HTTP")).await.unwrap();
    assert_eq!((reply.status, reply.body.as_str()), (200, "there"));
    let asked = server.asked.lock().unwrap().join("");
    assert!(asked.contains("GET /next HTTP/1.1"), "{asked}");

    let server = self::server(vec![redirect("http://example.org/")], false).await;
    let reply = get(&request(server.port, "/", "HTTP")).await.unwrap();
    assert_eq!(reply.status, 302);
}

/// A URL without a path is asked for its root, and the one that led there is told whole, but for its user.
#[tokio::test]
async fn probe_10_a_redirect_without_a_path_is_sent_as_gos_client_sends_it() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let server = serve_on(
        listener,
        vec![redirect(&format!("http://u:p@{host}")), ok("there")],
        false,
    );
    let first = request(server.port, "/S%41x y#top", "HTTP");
    assert_eq!(get(&first).await.unwrap().body, "there");
    let asked = server.asked.lock().unwrap().clone();
    assert!(
        asked[0].starts_with("GET /SAx%20y HTTP/1.1\r\n"),
        "{}",
        asked[0]
    );
    assert!(asked[1].starts_with("GET / HTTP/1.1\r\n"), "{}", asked[1]);
    for line in [
        &format!("Referer: http://{host}/SAx%20y#top"),
        "Authorization: Basic dTpw",
    ] {
        assert!(asked[1].lines().any(|sent| sent == line), "{}", asked[1]);
    }
}

#[tokio::test]
async fn redirects_without_end_are_ended() {
    let server = server(vec![redirect("/"); 20], false).await;
    let error = get(&request(server.port, "/", "HTTP")).await.unwrap_err();
    assert_eq!(error.to_string(), "stopped after 10 redirects");
}

#[tokio::test]
async fn probe_10_a_long_body_is_read_up_to_the_limit() {
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(50_000));
    let server = server(vec![endless], false).await;
    let reply = get(&request(server.port, "/", "HTTP")).await.unwrap();
    assert_eq!(reply.body.len(), MAX_BODY_BYTES);
}

#[tokio::test]
async fn what_is_no_answer_is_an_error_in_known_words() {
    let server = server(vec![String::new(), "what?\r\n\r\n".to_owned()], false).await;
    let error = get(&request(server.port, "/", "HTTP")).await.unwrap_err();
    assert_eq!(error.to_string(), "EOF");
    let error = get(&request(server.port, "/", "HTTP")).await.unwrap_err();
    assert!(matches!(error, HttpError::Protocol(_)), "{error}");
}

#[tokio::test]
async fn probe_10_certificates_are_not_checked() {
    let server = server(vec![ok("secret")], true).await;
    let reply = get(&request(server.port, "/", "HTTPS")).await.unwrap();
    assert_eq!(reply.body, "secret");
}

#[tokio::test]
async fn ctr_45_http_where_tls_was_asked_for_is_told_apart() {
    let server = server(vec![ok("plain")], false).await;
    let error = get(&request(server.port, "/", "HTTPS")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "http: server gave HTTP response to HTTPS client"
    );
}

#[tokio::test]
async fn a_header_that_cannot_be_sent_is_told_before_anybody_is_asked() {
    let mut request = request(1, "/", "HTTP");
    let pair = ("X-Line".to_owned(), "a\nb".to_owned());
    request.headers.push(pair);
    assert_eq!(
        get(&request).await.unwrap_err().to_string(),
        "net/http: invalid header field value for \"X-Line\""
    );
}
