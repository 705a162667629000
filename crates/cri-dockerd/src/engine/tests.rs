//! Decoding of recorded answers, and how failures are told apart.

use super::model::{ContainerInspect, CreateContainer, ImageInspect, ImageSummary};
use super::transport::connect_tcp;
use super::{Class, Engine, EngineConfig, EngineError};
use std::time::Duration;

fn engine(endpoint: &str) -> Result<Engine, EngineError> {
    Engine::new(&EngineConfig {
        endpoint: endpoint.to_owned(),
        request_timeout: Duration::from_secs(5),
    })
}

#[test]
fn endpoints_are_understood_or_refused_with_advice() {
    for good in [
        "unix:///run/d.sock",
        "/run/d.sock",
        "tcp://[::1]:2375",
        "http://h",
    ] {
        assert!(engine(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "unix://",
        "https://h:2376",
        "npipe://x",
        "docker.sock",
        "tcp://",
    ] {
        let error = engine(bad).unwrap_err();
        assert_eq!(error.class(), Class::Invalid, "{bad}");
        assert!(
            error.to_string().contains("write") || error.to_string().contains("use"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_engine_is_reached_by_its_hosts_name() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    for host in ["localhost", "127.0.0.1", ""] {
        let stream = connect_tcp(host, port).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap().port(), port, "{host}");
    }
    assert_eq!(
        connect_tcp("no name", port).await.unwrap_err().to_string(),
        "lookup no name: no such host"
    );
}

#[tokio::test]
async fn absent_socket_is_unavailable_in_dockers_words() {
    let error = engine("unix:///nonexistent/d.sock")
        .unwrap()
        .version()
        .await
        .unwrap_err();
    assert_eq!(error.class(), Class::Unavailable);
    assert!(
        error.to_string().contains("Is the docker daemon running?"),
        "{error}"
    );
}

#[test]
fn null_and_absent_mean_empty() {
    let summary: ImageSummary =
        serde_json::from_str(r#"{"Id":"sha256:1","RepoTags":null,"Labels":null}"#).unwrap();
    assert!(summary.repo_tags.is_empty());
    let inspect: ContainerInspect = serde_json::from_str(
        r#"{"Id":"1","Mounts":null,"State":{"Pid":7,"OOMKilled":true},
            "HostConfig":{"GroupAdd":null,"Memory":5},
            "NetworkSettings":{"Networks":{"bridge":{"IPAddress":"172.17.0.2"}}}}"#,
    )
    .unwrap();
    assert!(inspect.state.oom_killed);
    assert_eq!(inspect.host_config.memory, 5);
    assert_eq!(
        inspect.network_settings.networks["bridge"].ipv4,
        "172.17.0.2"
    );
}

#[test]
fn names_of_images_are_tags_and_digests_and_no_placeholders() {
    // Docker 20.10's of an image without names; Docker 29's of one that was pulled by digest, and tagged.
    let old = r#"{"RepoTags":["<none>:<none>"],"RepoDigests":["<none>@<none>"]}"#;
    let new = r#"{"RepoTags":["r.io/a@sha256:1","r.io/a:1"],"RepoDigests":["r.io/a@sha256:1"]}"#;
    for (text, tags, digests) in [
        (old, &[] as &[&str], &[] as &[&str]),
        (new, &["r.io/a:1"], &["r.io/a@sha256:1"]),
    ] {
        let listed: ImageSummary = serde_json::from_str(text).unwrap();
        let inspect: ImageInspect = serde_json::from_str(text).unwrap();
        assert_eq!(listed.repo_tags, tags);
        assert_eq!(inspect.repo_tags, tags);
        assert_eq!(listed.repo_digests, digests);
        assert_eq!(inspect.repo_digests, digests);
    }
}

#[test]
fn what_is_not_set_is_not_sent() {
    let body = CreateContainer {
        image: "i".into(),
        ..CreateContainer::default()
    };
    let text = serde_json::to_string(&body).unwrap();
    assert_eq!(
        text,
        r#"{"Image":"i","Labels":{},"HostConfig":{"ShmSize":0}}"#
    );
}
