use std::sync::{Arc, Mutex};

use cri_api::v1;
use daemon::TaskGroup;
use k8s_openapi::{
    api::core::v1::{SleepAction, TCPSocketAction},
    apimachinery::pkg::util::intstr::IntOrString,
};
use testkit::FakeCri;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::{events::EventSink, runtime::fixture};

/// Keeps what it is told.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<String>>);

impl EventSink for Told {
    fn record(&self, _object: &ObjectRef, _kind: EventType, reason: &str, message: &str) {
        let line = format!("{reason} {message}");
        self.0.lock().unwrap().push(line);
    }
}

struct World {
    cri: FakeCri,
    hooks: Hooks,
    told: Arc<Told>,
    pod: Pod,
    id: String,
}

async fn world() -> World {
    let cri = FakeCri::start();
    let (runtime, metrics) = fixture::client(&cri).await;
    let id = fixture::running_container(&cri, &runtime, "c").await;
    let told = Arc::new(Told::default());
    let hooks = Hooks {
        runtime,
        events: told.clone(),
        http_fallbacks: metrics.hook_http_fallbacks.clone(),
        sleeps_cut_short: metrics.hook_sleeps_cut_short.clone(),
        version: "1.34".to_owned(),
    };
    let mut pod = Pod::default();
    pod.metadata.name = Some("a".to_owned());
    pod.metadata.uid = Some("u".to_owned());
    World {
        cri,
        hooks,
        told,
        pod,
        id,
    }
}

impl World {
    async fn run(&self, handler: &LifecycleHandler, ip: Option<IpAddr>) -> Result<(), String> {
        let target = HookTarget {
            pod: &self.pod,
            name: "c",
            id: &self.id,
            ports: &[],
            ip,
        };
        let result = self.hooks.run(handler, target).await;
        result.map_err(|error| error.to_string())
    }
}

fn exec(words: &[&str]) -> LifecycleHandler {
    let command = words.iter().map(|word| (*word).to_owned()).collect();
    LifecycleHandler {
        exec: Some(ExecAction {
            command: Some(command),
        }),
        ..LifecycleHandler::default()
    }
}

fn http(port: u16, scheme: &str) -> LifecycleHandler {
    LifecycleHandler {
        http_get: Some(HTTPGetAction {
            path: Some("/hook".to_owned()),
            port: IntOrString::Int(port.into()),
            scheme: Some(scheme.to_owned()),
            ..HTTPGetAction::default()
        }),
        ..LifecycleHandler::default()
    }
}

#[tokio::test]
async fn ctr_45_a_command_that_fails_is_told_in_the_words_of_the_original() {
    let world = world().await;
    assert_eq!(world.run(&exec(&["ok"]), None).await, Ok(()));
    world.cri.on_exec(|_| v1::ExecSyncResponse {
        stdout: b"out\n".to_vec(),
        stderr: b"err\n".to_vec(),
        exit_code: 7,
    });
    assert_eq!(
        world
            .run(&exec(&["sh", "-c", "exit 7"]), None)
            .await
            .unwrap_err(),
        "Exec lifecycle hook ([sh -c exit 7]) for Container \"c\" in Pod \"a_default(u)\" failed - \
         error: command 'sh -c exit 7' exited with 7: err\n, message: \"out\\nerr\\n\""
    );
}

#[tokio::test]
async fn ctr_45_any_answer_over_http_is_a_good_one_and_none_is_not() {
    let world = world().await;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tasks = TaskGroup::new("server");
    tasks.spawn_job("server", async move {
        // The second is greeted by a client's TLS, and asked again without.
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let answer = b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(answer).await;
        }
    });
    let ip = Some(IpAddr::from([127, 0, 0, 1]));
    assert_eq!(world.run(&http(port, "HTTP"), ip).await, Ok(()));
    assert_eq!(world.run(&http(port, "HTTPS"), ip).await, Ok(()));
    assert_eq!(world.hooks.http_fallbacks.get(), 1);
    let told = world.told.0.lock().unwrap().join("");
    assert!(
        told.starts_with("LifecycleHTTPFallback request to HTTPS"),
        "{told}"
    );
    tasks.joined().await;

    let refused = world.run(&http(port, "HTTP"), ip).await.unwrap_err();
    assert_eq!(
        refused,
        format!(
            "HTTP lifecycle hook (/hook) for Container \"c\" in Pod \"a_default(u)\" failed - error: \
             Get \"http://127.0.0.1:{port}/hook\": dial tcp 127.0.0.1:{port}: connect: connection refused"
        )
    );
    let nowhere = world.run(&http(port, "HTTP"), None).await.unwrap_err();
    assert!(
        nowhere.ends_with("failed to find networking container"),
        "{nowhere}"
    );
}

#[tokio::test]
async fn ctr_45_a_sleep_that_is_cut_short_is_counted_and_tcp_is_not_known() {
    let world = world().await;
    let sleep = |seconds| LifecycleHandler {
        sleep: Some(SleepAction { seconds }),
        ..LifecycleHandler::default()
    };
    assert_eq!(world.run(&sleep(0), None).await, Ok(()));
    assert_eq!(world.hooks.sleeps_cut_short.get(), 0);
    let (long, grace) = (sleep(1000), Duration::from_millis(10));
    let cut = tokio::time::timeout(grace, world.run(&long, None)).await;
    assert!(cut.is_err());
    assert_eq!(world.hooks.sleeps_cut_short.get(), 1);
    let tcp = LifecycleHandler {
        tcp_socket: Some(TCPSocketAction::default()),
        ..LifecycleHandler::default()
    };
    let error = world.run(&tcp, None).await.unwrap_err();
    assert!(
        error.starts_with("Cannot run handler: invalid handler"),
        "{error}"
    );
}
