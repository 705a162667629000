use std::sync::Mutex;

use kubelet_core::proxies::Proxies;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::{control_plane::Standalone, events::keeper::EventStore};

const DEADLINE: Duration = Duration::from_secs(10);
const POD: &str =
    "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c, image: i}]}\n";

/// A web server that answers every request with the same.
struct Web {
    url: String,
    answer: Arc<Mutex<(u16, String)>>,
    location: Arc<Mutex<String>>,
    requests: Arc<Mutex<Vec<String>>>,
    _tasks: daemon::TaskGroup,
}

impl Web {
    async fn start(status: u16, body: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/pods", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new((status, body.to_owned())));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let tasks = daemon::TaskGroup::new("web");
        let location = Arc::new(Mutex::new(String::new()));
        let (now, seen, there) = (answer.clone(), requests.clone(), location.clone());
        tasks.spawn_job("web", async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = vec![0; 4096];
                let length = stream.read(&mut buffer).await.unwrap_or(0);
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                seen.lock().unwrap().push(text);
                let (status, body) = now.lock().unwrap().clone();
                let head = format!(
                    "HTTP/1.1 {status} X\r\n{}Content-Length: {}\r\n\r\n",
                    there.lock().unwrap(),
                    body.len()
                );
                let _ = stream.write_all((head + &body).as_bytes()).await;
            }
        });
        Self {
            url,
            answer,
            location,
            requests,
            _tasks: tasks,
        }
    }

    fn redirects_to(&self, url: &str) {
        *self.location.lock().unwrap() = format!("Location: {url}\r\n");
    }

    fn answers(&self, status: u16, body: &str) {
        *self.answer.lock().unwrap() = (status, body.to_owned());
    }
}

fn source(url: &str) -> (HttpSource, watch::Receiver<SourceSet>) {
    telling_source(url, Arc::default())
}

fn telling_source(url: &str, store: Arc<EventStore>) -> (HttpSource, watch::Receiver<SourceSet>) {
    let config = HttpSourceConfig {
        url: url.to_owned(),
        headers: [(
            "X-Token".to_owned(),
            vec!["one".to_owned(), "two".to_owned()],
        )]
        .into(),
        way: Way {
            trust: TrustStores::new(None, None),
            proxies: Proxies::new(|_| None),
        },
        check_frequency: Duration::from_millis(5),
        node_name: "node".to_owned(),
        events: Arc::new(Standalone::new(store)),
    };
    HttpSource::new(config, watch::Sender::default())
}

fn names(set: &SourceSet) -> Vec<String> {
    let pods = set.iter().flat_map(|pods| pods.iter());
    pods.map(|pod| pod.metadata.name.clone().unwrap()).collect()
}

#[tokio::test]
async fn src_10_a_pod_comes_from_the_url_with_every_header_value() {
    let web = Web::start(200, POD).await;
    let (mut source, sets) = source(&web.url);
    source.look().await.unwrap();
    assert_eq!(names(&sets.borrow()), ["a-node"]);
    let annotations = sets.borrow().as_ref().unwrap()[0]
        .metadata
        .annotations
        .clone();
    assert_eq!(annotations.unwrap()[manifest::CONFIG_SOURCE], "http");
    let request = web.requests.lock().unwrap()[0].to_lowercase();
    assert!(request.starts_with("get /pods http/1.1\r\n"), "{request}");
    assert!(request.contains("x-token: one\r\n") && request.contains("x-token: two\r\n"));
}

#[tokio::test]
async fn src_11_a_list_is_taken_whole_or_not_at_all() {
    let item = r#"{"metadata":{"name":"NAME"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#;
    let list = |second: &str| {
        let (a, b) = (item.replace("NAME", "a"), item.replace("NAME", second));
        format!(r#"{{"apiVersion":"v1","kind":"PodList","items":[{a},{b}]}}"#)
    };
    let web = Web::start(200, &list("b")).await;
    let store = Arc::<EventStore>::default();
    let (mut source, sets) = telling_source(&web.url, store.clone());
    source.look().await.unwrap();
    assert_eq!(names(&sets.borrow()), ["a-node", "b-node"]);
    web.answers(200, &list("NOT VALID"));
    let error = source.look().await.unwrap_err();
    assert!(
        ErrorChain(&error).to_string().contains("metadata.name"),
        "{error}"
    );
    assert_eq!(names(&sets.borrow()).len(), 2);
    assert!(store.events().is_empty());
    web.answers(200, &list("a"));
    source.look().await.unwrap();
    assert_eq!(names(&sets.borrow()), ["a-node"]);
    let told = &store.events()[0].event;
    let tail = "from http due to duplicate pod name \"a-node\", ignoring";
    assert_eq!(
        (told.type_.as_str(), told.reason.as_str()),
        ("Warning", "FailedValidation")
    );
    assert!(told.message.ends_with(tail), "{}", told.message);
}

#[tokio::test]
async fn src_11_an_empty_body_is_an_empty_set_and_an_error() {
    let web = Web::start(200, "").await;
    let (mut source, sets) = source(&web.url);
    assert!(matches!(
        source.look().await,
        Err(SourceError::Empty { .. })
    ));
    assert_eq!(sets.borrow().as_ref().map(|pods| pods.len()), Some(0));
}

#[tokio::test]
async fn src_12_a_failure_keeps_the_last_set_and_a_first_one_gives_none() {
    let web = Web::start(500, POD).await;
    let (mut source, sets) = source(&web.url);
    let error = source.look().await.unwrap_err().to_string();
    assert!(error.contains("500"), "{error}");
    assert!(sets.borrow().is_none());
    web.answers(200, POD);
    assert!(source.look().await.unwrap());
    web.answers(200, "kind: [");
    assert!(source.look().await.is_err());
    // The same bytes again are not looked at again, and are no success.
    assert!(!source.look().await.unwrap());
    web.answers(200, &"#".repeat(11 * 1024 * 1024));
    let error = source.look().await.unwrap_err().to_string();
    assert!(error.contains("more than 10485760 bytes"), "{error}");
    assert_eq!(names(&sets.borrow()), ["a-node"]);
}

/// Go's `http.Client` names what it could not get; a status and an empty answer are upstream's own words.
#[tokio::test]
async fn src_12_failures_are_told_in_the_words_of_gos_client() {
    let failure = async |url: &str| {
        let (mut source, _sets) = source(url);
        let error = source.look().await.unwrap_err();
        ErrorChain(&error).to_string()
    };
    let web = Web::start(500, "").await;
    let with_user = web.url.replace("http://", "http://user:word@");
    // Of a redirect's answer too the URL of the configuration is told.
    web.redirects_to("/elsewhere");
    assert_eq!(failure(&with_user).await, format!("{with_user}: 500 X"));
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    for (url, told) in [
        (
            format!("http://user:word@{closed}/a b"),
            format!(
                "Get \"http://user:***@{closed}/a%20b\": dial tcp {closed}: connect: connection refused"
            ),
        ),
        (
            "ftp://h/".to_owned(),
            "Get \"ftp://h/\": unsupported protocol scheme \"ftp\"".to_owned(),
        ),
        (
            "a/pods".to_owned(),
            "Get \"a/pods\": unsupported protocol scheme \"\"".to_owned(),
        ),
        (
            "http://a b/".to_owned(),
            "parse \"http://a b/\": invalid character \" \" in host name".to_owned(),
        ),
    ] {
        assert_eq!(failure(&url).await, told);
    }
    web.answers(302, "");
    web.redirects_to("pods2");
    let told = "Get \"pods2\": stopped after 10 redirects";
    assert_eq!(failure(&web.url).await, told);
}

#[tokio::test]
async fn a_password_of_the_url_is_not_shown_to_those_who_ask_for_manifests() {
    let web = Web::start(500, "").await;
    let url = web.url.replace("http://", "http://user:word@");
    let (mut source, _sets) = source(&url);
    let outcome = source.look().await;
    source.show(&outcome);
    let file = source.shown.borrow()[0].clone();
    let shown = web.url.replace("http://", "http://user:***@");
    assert_eq!(file.path.as_os_str(), &*shown);
    assert_eq!(file.errors, [format!("{shown}: 500 X")]);
    for (url, shown) in [
        ("http://h:80/a@b", "http://h:80/a@b"),
        ("http://user@h/", "http://user@h/"),
        ("http://u:p:q@r@h h/", "http://u:***@h h/"),
        ("u:p@h", "u:p@h"),
    ] {
        assert_eq!(without_password(url), shown);
    }
}

#[tokio::test(start_paused = true)]
async fn src_10_a_server_that_does_not_answer_is_waited_for_ten_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/pods", listener.local_addr().unwrap());
    let (mut source, _sets) = source(&url);
    let error = source.look().await.unwrap_err();
    assert_eq!(
        ErrorChain(&error).to_string(),
        format!(
            "Get \"{url}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        )
    );
}

#[tokio::test]
async fn what_the_url_is_good_for_is_shown() {
    let web = Web::start(200, "kind: [").await;
    let (mut source, _sets) = source(&web.url);
    let files = source.shown.subscribe();
    let mut shown = async || {
        let outcome = source.look().await;
        source.show(&outcome);
        let files = files.borrow().clone();
        assert!(files.iter().all(|file| file.path.as_os_str() == &*web.url));
        let name = |file: &ManifestFile| file.pod.as_ref()?.metadata.name.clone();
        let line = |file: &ManifestFile| file.errors.first().cloned().unwrap_or_default();
        files
            .iter()
            .map(|file| (name(file), line(file)))
            .collect::<Vec<_>>()
    };
    let first = shown().await;
    assert!(
        matches!(&first[..], [(None, line)] if line.starts_with("couldn't parse as pod: ")),
        "{first:?}"
    );
    // It is not looked at again, and wrong still.
    assert_eq!(shown().await, first);
    web.answers(200, POD);
    assert_eq!(shown().await, [(Some("a-node".to_owned()), String::new())]);
    web.answers(500, "");
    let failed = shown().await;
    assert!(
        matches!(&failed[..], [(Some(name), line)] if name == "a-node" && line.contains("500")),
        "{failed:?}"
    );
    web.answers(200, POD);
    assert_eq!(shown().await, [(Some("a-node".to_owned()), String::new())]);
    web.answers(200, &POD.replace("name: a", "name: ''"));
    let nameless = shown().await;
    let text = "invalid pod: name is needed for the pod";
    assert_eq!(nameless, [(Some("a-node".to_owned()), text.to_owned())]);
}

/// Upstream, `sourceURL.run`.
#[tokio::test]
async fn a_pod_that_may_not_run_is_told_in_upstreams_words() {
    let web = Web::start(200, &POD.replace("image: i", "image: ''")).await;
    let (mut source, _sets) = source(&web.url);
    let error = source.look().await.unwrap_err();
    assert_eq!(
        ErrorChain(&error).to_string(),
        "invalid pod: [spec.containers[0].image: Required value]"
    );
}

#[tokio::test]
async fn a_redirect_elsewhere_does_not_get_the_secret_headers() {
    let web = Web::start(200, POD).await;
    let moved = Web::start(302, "").await;
    // Another host by name, the same machine.
    let elsewhere = web.url.replace("127.0.0.1", "localhost");
    moved.redirects_to(&elsewhere);
    let (mut source, sets) = source(&moved.url);
    let secret = vec!["Bearer secret".to_owned()];
    source
        .config
        .headers
        .insert("Authorization".to_owned(), secret);
    source.look().await.unwrap();
    assert_eq!(names(&sets.borrow()), ["a-node"]);
    assert!(moved.requests.lock().unwrap()[0].contains("Bearer secret"));
    let passed_on = web.requests.lock().unwrap()[0].to_lowercase();
    assert!(!passed_on.contains("bearer"), "{passed_on}");
    assert!(passed_on.contains("x-token: one"), "{passed_on}");
    moved.redirects_to(&format!("{}/again", moved.url));
    assert!(source.look().await.is_err(), "without end");
    let again = moved.requests.lock().unwrap()[2].clone();
    assert!(again.contains("Bearer secret"), "the same host: {again}");
}

#[tokio::test]
async fn src_10_a_relative_redirect_is_followed_and_a_host_of_the_headers_is_not_sent() {
    let web = Web::start(302, "").await;
    web.redirects_to("pods2.yaml");
    let (mut source, _sets) = source(&web.url.replace("/pods", "/a/pods"));
    let host = vec!["elsewhere".to_owned()];
    source.config.headers.insert("Host".to_owned(), host);
    let error = source.look().await.unwrap_err().to_string();
    assert!(error.contains("stopped after 10 redirects"), "{error}");
    let requests = web.requests.lock().unwrap().clone();
    assert_eq!(requests.len(), 10);
    assert!(requests[1].starts_with("GET /a/pods2.yaml HTTP/1.1\r\n"));
    let authority = web.url.split('/').nth(2).unwrap();
    let hosts = requests[1]
        .lines()
        .filter(|line| line.starts_with("Host: "));
    assert_eq!(hosts.collect::<Vec<_>>(), [format!("Host: {authority}")]);
    let referer = format!("Referer: http://{authority}/a/pods");
    assert!(requests[1].lines().any(|line| line == referer));
}

#[tokio::test]
async fn src_10_a_proxy_of_the_environment_is_asked_in_the_hosts_place() {
    let web = Web::start(200, POD).await;
    let (mut source, sets) = source("http://manifests.example/pods");
    let proxy = web.url.trim_end_matches("/pods").to_owned();
    source.config.way.proxies = Proxies::new(|name| (name == "HTTP_PROXY").then(|| proxy.clone()));
    source.look().await.unwrap();
    assert_eq!(names(&sets.borrow()), ["a-node"]);
    let request = web.requests.lock().unwrap()[0].clone();
    let first = "GET http://manifests.example/pods HTTP/1.1\r\n";
    assert!(request.starts_with(first), "{request}");
    assert!(
        request.contains("\r\nHost: manifests.example\r\n"),
        "{request}"
    );
}

#[tokio::test]
async fn the_url_is_asked_again_and_a_pod_that_stays_keeps_its_first_sight() {
    let web = Web::start(200, POD).await;
    let (source, mut sets) = source(&web.url);
    let tasks = daemon::TaskGroup::new("source");
    tasks.spawn("source", source.run(tasks.token().clone()));
    sets.wait_for(Option::is_some).await.unwrap();
    let first = sets.borrow().clone().unwrap()[0].clone();
    web.answers(200, &format!("# a comment\n{POD}"));
    let asked = || web.requests.lock().unwrap().len();
    let before = asked();
    testkit::eventually_async(DEADLINE, || async {
        (asked() > before + 2).then_some(()).ok_or(asked())
    })
    .await;
    assert!(Arc::ptr_eq(&first, &sets.borrow().as_ref().unwrap()[0]));
    tasks.shutdown(DEADLINE).await.unwrap();
}
