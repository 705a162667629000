use std::sync::Arc;

use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::Pod;

use super::*;

#[derive(Debug)]
struct Health(Result<(), String>);

impl HealthChecks for Health {
    fn checks(&self) -> Vec<(&'static str, Result<(), String>)> {
        vec![("ping", Ok(())), ("syncloop", self.0.clone())]
    }
}

fn answers(health: Result<(), String>) -> Answers {
    let registry = daemon::metrics::Metrics::new();
    let metrics = Metrics::register(&registry).unwrap();
    Answers {
        probe_registry: daemon::metrics::Metrics::new(),
        statuses: Arc::new(StatusStore::default()),
        manifests: Vec::new(),
        events: Arc::default(),
        node_name: "node".to_owned(),
        registry,
        metrics,
        health: Arc::new(Health(health)),
    }
}

async fn ask(surface: Surface, answers: &Answers, path: &str) -> (u16, String) {
    let (path, query) = path
        .split_once('?')
        .map_or((path, None), |(path, query)| (path, Some(query)));
    let answer = route(surface, answers, &Method::GET, path, query);
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn the_health_port_answers_its_ping_and_nothing_else() {
    let answers = answers(Err("down".into()));
    assert_eq!(
        ask(Surface::Health, &answers, "/healthz").await,
        (200, "ok".into())
    );
    assert_eq!(ask(Surface::Health, &answers, "/pods").await.0, 404);
}

#[tokio::test]
async fn a_peer_that_hangs_up_is_no_failure() {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = HttpServer::bind(address, Surface::Health, answers(Ok(())))
        .await
        .unwrap();
    let address = server.listener.local_addr().unwrap();
    let (connections, shutdown) = (daemon::TaskGroup::new("test"), CancellationToken::new());
    let client = async {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut stream, request)
            .await
            .unwrap();
        let mut answer = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer)
            .await
            .unwrap();
        shutdown.cancel();
        answer
    };
    let (answer, ()) = tokio::join!(client, server.accept(&connections, &shutdown));
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
    connections.joined().await;
    connections.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn http20_a_failed_check_is_named_and_its_reason_withheld() {
    let bad = answers(Err("secret".into()));
    let (status, body) = ask(Surface::ReadOnly, &bad, "/healthz").await;
    assert_eq!(status, 500);
    assert!(body.contains("[-]syncloop failed: reason withheld") && !body.contains("secret"));
    assert_eq!(
        ask(Surface::ReadOnly, &bad, "/healthz/ping").await,
        (200, "ok".into())
    );
    assert_eq!(
        ask(Surface::ReadOnly, &bad, "/healthz?exclude=syncloop")
            .await
            .0,
        200
    );
    assert_eq!(ask(Surface::ReadOnly, &bad, "/healthz/other").await.0, 404);
    let good = answers(Ok(()));
    let (_, body) = ask(Surface::ReadOnly, &good, "/healthz?verbose").await;
    assert_eq!(body, "[+]ping ok\n[+]syncloop ok\nhealthz check passed\n");
}

#[tokio::test]
async fn http46_no_pods_are_null_and_items_carry_no_kind() {
    let answers = answers(Ok(()));
    let (_, body) = ask(Surface::ReadOnly, &answers, "/pods").await;
    assert_eq!(
        body,
        r#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":null}"#
    );
    let mut pod = Pod::default();
    pod.metadata.name = Some("a".into());
    answers.statuses.set_desired(&Arc::new(pod));
    let (_, body) = ask(Surface::ReadOnly, &answers, "/pods/").await;
    assert!(
        body.ends_with(r#""items":[{"metadata":{"name":"a"},"status":{}}]}"#),
        "{body}"
    );
}

#[tokio::test]
async fn http41_debugging_paths_are_refused_on_the_read_only_port() {
    let answers = answers(Ok(()));
    for path in [
        "/exec/a/b/c",
        "/run/a/b/c",
        "/attach/a/b/c",
        "/portForward/a/b",
        "/containerLogs/a/b/c",
    ] {
        let (status, body) = ask(Surface::ReadOnly, &answers, path).await;
        assert_eq!(
            (status, body.as_str()),
            (405, "Debug endpoints are disabled.\n"),
            "{path}"
        );
    }
    assert!(
        ask(Surface::ReadOnly, &answers, "/metrics")
            .await
            .1
            .contains("kubelet_running_pods 0")
    );
}

#[test]
fn what_can_only_be_read_says_so_to_those_who_write() {
    let answers = answers(Ok(()));
    for path in ["/pods", "/runningpods/", "/metrics", "/events"] {
        let answer = route(Surface::ReadOnly, &answers, &Method::POST, path, None);
        let header = |name| answer.headers().get(name).unwrap().to_str().unwrap();
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(header(ALLOW), "GET, HEAD");
        assert_eq!(header(X_CONTENT_TYPE_OPTIONS), "nosniff");
    }
}

#[tokio::test]
async fn events_are_a_list_of_the_api() {
    let answers = answers(Ok(()));
    answers.events.take(kubelet_core::event_ring::Event {
        kind: "Pod".to_owned(),
        namespace: "default".to_owned(),
        name: "a-node".to_owned(),
        uid: "1".to_owned(),
        field_path: Some("spec.containers{c}".to_owned()),
        type_: "Warning".to_owned(),
        reason: "BackOff".to_owned(),
        message: "x".to_owned(),
    });
    let (status, body) = ask(Surface::ReadOnly, &answers, "/events").await;
    assert_eq!(status, 200);
    let list: k8s_openapi::List<k8s_openapi::api::core::v1::Event> =
        serde_json::from_str(&body).unwrap();
    let event = &list.items[0];
    assert_eq!(event.reason.as_deref(), Some("BackOff"));
    assert_eq!(event.involved_object.name.as_deref(), Some("a-node"));
    assert_eq!(
        (event.count, event.type_.as_deref()),
        (Some(1), Some("Warning"))
    );
}

#[tokio::test]
async fn manifests_of_all_sources_are_shown() {
    let file = |path: &str, errors: &[&str]| ManifestFile {
        path: path.into(),
        pod: None,
        errors: errors.iter().map(ToString::to_string).collect(),
    };
    let of = |files: Vec<ManifestFile>| tokio::sync::watch::channel(files).1;
    let answers = Answers {
        manifests: vec![
            of(vec![file("/m/a.yaml", &[])]),
            of(vec![file("http://x/pods", &["http://x/pods: 500 X"])]),
        ],
        ..answers(Ok(()))
    };
    let (status, body) = ask(Surface::ReadOnly, &answers, "/manifests").await;
    assert_eq!(status, 200);
    let list: serde_json::Value = serde_json::from_str(&body).unwrap();
    let expected = serde_json::json!({"node": "node", "items": [
        {"path": "/m/a.yaml", "errors": []},
        {"path": "http://x/pods", "errors": ["http://x/pods: 500 X"]},
    ]});
    assert_eq!(list, expected);
}
