//! Exec, attach and port-forward through the CRI, with a client of our own.

use std::sync::Arc;

use bytes::Bytes;
use cri_api::v1::{self, ContainerState};
use daemon::TaskGroup;
use streaming::{
    Input, Outcome, TerminalSize, Wanted,
    client::{self, Forwarder, RemoteCommand, Target, Transport},
    remote_command::Version,
};
use testkit::{DockerEngine, eventually_async};
use tokio::net::TcpStream;
use tonic::Code;

use crate::harness::{IMAGE, Pod, SOON, Server, engine_with_image, reaches, start};

const SPDY: Transport = Transport::Spdy(Version::V4);
const WEBSOCKET: Transport = Transport::WebSocket {
    version: Version::V5,
    base64: false,
};

/// A server, a pod and what moves the connections of clients.
struct Bench {
    server: Server,
    pod: Pod,
    tasks: TaskGroup,
    engine: Arc<DockerEngine>,
}

impl Bench {
    async fn start(name: &str) -> Self {
        let engine = engine_with_image(DockerEngine::shared()).await;
        let mut server = Server::start(&engine.host()).await;
        let pod = Pod::run(&mut server, Pod::config(name)).await;
        Self {
            server,
            pod,
            tasks: TaskGroup::new("clients"),
            engine,
        }
    }

    async fn container(&mut self, script: &str) -> String {
        let id = self.pod.create(&mut self.server, "main", script).await;
        start(&mut self.server, &id).await;
        id
    }

    /// Connects to a URL; the connection is moved by a task.
    async fn open(&self, url: &str, transport: Transport, wanted: Wanted) -> RemoteCommand {
        let target = Target::from_url(url).unwrap();
        let io = TcpStream::connect(&target.authority).await.unwrap();
        let (command, running) = client::remote_command(io, &target, transport, wanted)
            .await
            .unwrap();
        self.tasks.spawn_job("client", async move {
            let _ = running.await;
        });
        command
    }

    async fn exec(
        &mut self,
        container: &str,
        transport: Transport,
        script: &str,
        wanted: Wanted,
    ) -> RemoteCommand {
        let request = v1::ExecRequest {
            container_id: container.to_owned(),
            cmd: ["sh", "-c", script].map(str::to_owned).to_vec(),
            tty: wanted.tty,
            stdin: wanted.stdin,
            stdout: wanted.stdout,
            stderr: wanted.stderr,
        };
        let url = self.server.client.exec(request).await.unwrap();
        self.open(&url.into_inner().url, transport, wanted).await
    }

    async fn forwarder(&mut self, tunnelled: bool) -> Forwarder {
        let request = v1::PortForwardRequest {
            pod_sandbox_id: self.pod.id.clone(),
            port: Vec::new(),
        };
        let url = self.server.client.port_forward(request).await.unwrap();
        let target = Target::from_url(&url.into_inner().url).unwrap();
        let io = TcpStream::connect(&target.authority).await.unwrap();
        let (forwarder, running) = client::port_forward(io, &target, tunnelled).await.unwrap();
        self.tasks.spawn_job("client", async move {
            let _ = running.await;
        });
        forwarder
    }

    /// Processes of a container whose command line holds `text`.
    fn processes(&self, container: &str, text: &str) -> usize {
        let path = format!("/containers/{container}/top");
        let top = self.engine.json("GET", &path, &serde_json::Value::Null);
        let lines = top["Processes"].as_array().cloned().unwrap_or_default();
        lines
            .iter()
            .filter(|line| line.to_string().contains(text))
            .count()
    }

    async fn end(mut self) {
        self.pod.remove(&mut self.server).await;
    }
}

async fn read_all(input: Option<Input>) -> String {
    let mut all = Vec::new();
    if let Some(mut input) = input {
        while let Some(data) = input.next().await {
            all.extend_from_slice(&data);
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

async fn finish(mut command: RemoteCommand) -> (String, String, Outcome) {
    let (stdout, stderr) = (command.stdout.take(), command.stderr.take());
    let work = async { tokio::join!(read_all(stdout), read_all(stderr), command.outcome()) };
    tokio::time::timeout(SOON, work).await.unwrap()
}

const PLAIN: Wanted = Wanted {
    stdin: false,
    stdout: true,
    stderr: true,
    tty: false,
};

#[tokio::test(flavor = "multi_thread")]
async fn exec_carries_streams_codes_and_terminals() {
    let mut bench = Bench::start("exec").await;
    let id = bench.container("sleep 1000").await;
    for transport in [SPDY, WEBSOCKET] {
        let script = "echo out; echo err >&2; exit 7";
        let command = bench.exec(&id, transport, script, PLAIN).await;
        let expected = ("out\n".to_owned(), "err\n".to_owned(), Outcome::ExitCode(7));
        assert_eq!(finish(command).await, expected, "{transport:?}");

        // Ends because its input does.
        let wanted = Wanted {
            stdin: true,
            ..PLAIN
        };
        let mut command = bench.exec(&id, transport, "cat; echo end", wanted).await;
        let stdin = command.stdin.take().unwrap();
        let megabyte = Bytes::from("x".repeat(1 << 20));
        let send = async {
            stdin.write(megabyte).await.unwrap();
            stdin.finish().await.unwrap();
        };
        let ((), (stdout, _, outcome)) = tokio::join!(send, finish(command));
        assert_eq!(stdout.len(), (1 << 20) + "end\n".len());
        assert!(stdout.ends_with("xend\n"));
        assert_eq!(outcome, Outcome::Success);

        let wanted = Wanted {
            stdin: true,
            stderr: false,
            tty: true,
            ..PLAIN
        };
        // The size may come a moment after the start.
        let script =
            "while [ \"$(stty size 2>&1)\" != '43 132' ]; do sleep 0.1; done; tty; echo e >&2";
        let command = bench.exec(&id, transport, script, wanted).await;
        let size = TerminalSize {
            width: 132,
            height: 43,
        };
        command.resize(size).await.unwrap();
        let (stdout, _, outcome) = finish(command).await;
        assert_eq!(outcome, Outcome::Success);
        assert!(
            stdout.starts_with("/dev/pts/") && stdout.ends_with("e\r\n"),
            "{stdout:?}"
        );
    }
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn command_whose_client_is_gone_is_gone_too() {
    let mut bench = Bench::start("gone").await;
    let id = bench.container("sleep 1000").await;
    for (transport, tty) in [(SPDY, false), (WEBSOCKET, true)] {
        let wanted = Wanted {
            stdin: true,
            stderr: !tty,
            tty,
            ..PLAIN
        };
        let script = "sleep 4321 & sleep 4321";
        let command = bench.exec(&id, transport, script, wanted).await;
        eventually_async(SOON, || async {
            match bench.processes(&id, "sleep 4321") {
                // The shell becomes the second one.
                2 => Ok(()),
                other => Err(other.to_string()),
            }
        })
        .await;
        drop(command);
        bench.tasks = TaskGroup::new("clients");
        eventually_async(SOON, || async {
            match bench.processes(&id, "sleep 4321") {
                0 => Ok(()),
                other => Err(other.to_string()),
            }
        })
        .await;
    }
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attached_shell_ends_with_its_input() {
    let mut bench = Bench::start("attach").await;
    let config = v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: "shell".to_owned(),
            attempt: 0,
        }),
        image: Some(v1::ImageSpec {
            image: IMAGE.to_owned(),
            ..Default::default()
        }),
        command: vec!["sh".to_owned()],
        linux: Some(v1::LinuxContainerConfig::default()),
        stdin: true,
        stdin_once: true,
        ..Default::default()
    };
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: bench.pod.id.clone(),
        config: Some(config),
        sandbox_config: Some(bench.pod.config.clone()),
    };
    let created = bench.server.client.create_container(request).await;
    let id = created.unwrap().into_inner().container_id;
    start(&mut bench.server, &id).await;
    let wanted = Wanted {
        stdin: true,
        ..PLAIN
    };
    let request = v1::AttachRequest {
        container_id: id.clone(),
        stdin: true,
        tty: false,
        stdout: true,
        stderr: true,
    };
    let url = bench.server.client.attach(request).await.unwrap();
    let mut command = bench.open(&url.into_inner().url, SPDY, wanted).await;
    let stdin = command.stdin.take().unwrap();
    stdin
        .write(Bytes::from_static(b"echo hello\n"))
        .await
        .unwrap();
    stdin.finish().await.unwrap();
    let expected = ("hello\n".to_owned(), String::new(), Outcome::Success);
    assert_eq!(finish(command).await, expected);
    reaches(&bench.server, &id, ContainerState::ContainerExited).await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attaching_to_what_has_ended_since_the_url_was_given_out_fails_at_once() {
    let mut bench = Bench::start("ended").await;
    let id = bench.container("sleep 1000").await;
    let request = v1::AttachRequest {
        container_id: id.clone(),
        stdin: false,
        tty: false,
        stdout: true,
        stderr: true,
    };
    let url = bench.server.client.attach(request).await.unwrap();
    let request = v1::StopContainerRequest {
        container_id: id.clone(),
        timeout: 0,
    };
    bench.server.client.stop_container(request).await.unwrap();
    let command = bench.open(&url.into_inner().url, SPDY, PLAIN).await;
    let (_, _, outcome) = finish(command).await;
    let Outcome::Failed(why) = &outcome else {
        panic!("{outcome:?}");
    };
    assert!(why.contains("not running"), "{why}");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_of_the_pods_own_loopback_are_reached() {
    let mut bench = Bench::start("forward").await;
    let script = "mkdir /tmp/w; echo page > /tmp/w/page; httpd -f -p 127.0.0.1:8080 -h /tmp/w";
    bench.container(script).await;
    for tunnelled in [false, true] {
        let mut forwarder = bench.forwarder(tunnelled).await;
        // The server in the pod may need a moment.
        let answer = loop {
            let connection = forwarder.connect(8080).await.unwrap();
            let request = Bytes::from_static(b"GET /page HTTP/1.0\r\n\r\n");
            // A refusal may be faster.
            let _ = connection.data.output.write(request).await;
            let (answer, error) = tokio::join!(
                read_all(Some(connection.data.input)),
                read_all(Some(connection.error))
            );
            if error.is_empty() {
                break answer;
            }
            assert!(error.contains("Connection refused"), "{error}");
        };
        assert!(answer.ends_with("page\n"), "{answer}");
        let refused = forwarder.connect(9).await.unwrap();
        let text = read_all(Some(refused.error)).await;
        let start = format!("error forwarding port 9 to pod {}, uid : ", bench.pod.id);
        assert!(
            text.starts_with(&start) && text.contains("Connection refused"),
            "{text}"
        );
        forwarder.close().await;
    }
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_sense_are_refused_with_upstreams_words() {
    let mut bench = Bench::start("refused").await;
    let id = bench.container("true").await;
    reaches(&bench.server, &id, ContainerState::ContainerExited).await;
    let client = &mut bench.server.client;
    let exec = |id: &str, stdout, tty| v1::ExecRequest {
        container_id: id.to_owned(),
        stdout,
        stderr: tty,
        tty,
        ..Default::default()
    };
    for (request, code, text) in [
        (
            exec("", true, false),
            Code::InvalidArgument,
            "missing required container_id",
        ),
        (
            exec(&id, true, true),
            Code::InvalidArgument,
            "tty and stderr cannot both be true",
        ),
        (
            exec(&id, false, false),
            Code::InvalidArgument,
            "one of stdin, stdout, or stderr must be set",
        ),
        (
            exec("none", true, false),
            Code::NotFound,
            "No such container: none",
        ),
        (
            exec(&id, true, false),
            Code::FailedPrecondition,
            "container not running",
        ),
    ] {
        let refused = client.exec(request).await.unwrap_err();
        assert_eq!(refused.code(), code);
        assert!(refused.message().contains(text), "{}", refused.message());
    }
    let none = client.port_forward(v1::PortForwardRequest::default()).await;
    assert_eq!(
        none.unwrap_err().message(),
        "missing required pod_sandbox_id"
    );
    let none = client.attach(v1::AttachRequest::default()).await;
    assert_eq!(none.unwrap_err().code(), Code::InvalidArgument);
    bench.end().await;
}
