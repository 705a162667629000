//! A server over a runtime that needs no containers.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use daemon::TaskGroup;
use streaming::{
    Attach, Config, Exec, Input, Outcome, Output, Request, Runtime, Server, Streams, TerminalSize,
    Urls, Wanted,
    client::{self, ClientError, RemoteCommand, Target, Transport},
    remote_command::Version,
    server::Failure,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Longest wait for something that should happen at once.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Every transport of remote commands.
pub(crate) const TRANSPORTS: [Transport; 9] = [
    Transport::Spdy(Version::V1),
    Transport::Spdy(Version::V2),
    Transport::Spdy(Version::V3),
    Transport::Spdy(Version::V4),
    websocket(Version::V1, false),
    websocket(Version::V1, true),
    websocket(Version::V4, false),
    websocket(Version::V4, true),
    websocket(Version::V5, false),
];

const fn websocket(version: Version, base64: bool) -> Transport {
    Transport::WebSocket { version, base64 }
}

/// What the runtime saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Commands under way.
    pub(crate) running: AtomicUsize,
    /// Bytes of output that were taken.
    pub(crate) written: AtomicUsize,
    /// Lets port 98 read.
    pub(crate) may_read: tokio::sync::Notify,
    /// Bytes that it read.
    pub(crate) read: AtomicUsize,
}

/// The commands are made up: see [`Fake::exec`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Fake(pub(crate) Arc<Seen>);

struct Running(Arc<Seen>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Fake {
    fn enter(&self) -> Running {
        self.0.running.fetch_add(1, Ordering::SeqCst);
        Running(Arc::clone(&self.0))
    }
}

impl Runtime for Fake {
    async fn exec(&self, request: Exec, mut streams: Streams) -> Result<i32, Failure> {
        let _running = self.enter();
        let words: Vec<&str> = request.command.iter().map(String::as_str).collect();
        match words[..] {
            ["exit", code] => Ok(code.parse().unwrap()),
            ["fail", text] => Err(Failure(text.to_owned())),
            // Both outputs, and nothing else.
            ["say"] => {
                for (output, text) in [(&streams.stdout, "out"), (&streams.stderr, "err")] {
                    if let Some(output) = output {
                        output
                            .write(Bytes::from_static(text.as_bytes()))
                            .await
                            .unwrap();
                    }
                }
                Ok(0)
            }
            // Copies input until a line says "end", or input ends.
            ["cat"] => {
                let mut stdin = streams.stdin.take().unwrap();
                let stdout = streams.stdout.take().unwrap();
                let mut tail = Vec::new();
                while let Some(data) = stdin.next().await {
                    tail.extend_from_slice(&data);
                    stdout
                        .write(data)
                        .await
                        .map_err(|e| Failure(e.to_string()))?;
                    if tail.ends_with(b"end\n") {
                        break;
                    }
                    tail.drain(..tail.len().saturating_sub(8));
                }
                Ok(0)
            }
            // Says the terminal's size when it has one.
            ["size"] => {
                let known = streams.size.wait_for(Option::is_some).await;
                let TerminalSize { width, height } = known.unwrap().unwrap();
                let text = format!("{width}x{height}");
                streams.stdout.unwrap().write(text.into()).await.unwrap();
                Ok(0)
            }
            // Writes for ever.
            ["yes"] => {
                let stdout = streams.stdout.unwrap();
                let line = Bytes::from(vec![b'y'; 4096]);
                while stdout.write(line.clone()).await.is_ok() {
                    self.0.written.fetch_add(line.len(), Ordering::SeqCst);
                }
                std::future::pending().await
            }
            // Reads nothing and never ends, holding its input.
            ["sleep"] => std::future::pending().await,
            _ => panic!("{words:?}"),
        }
    }

    async fn attach(&self, request: Attach, streams: Streams) -> Result<(), Failure> {
        if request.container == "gone" {
            return Err(Failure("No such container: gone".to_owned()));
        }
        let output = streams.stdout.unwrap();
        output.write(Bytes::from_static(b"attached")).await.unwrap();
        Ok(())
    }

    /// Port 1 refuses, port 97 says "bye" and is done, port 98 ends its output and then reads when it
    /// may, port 99 says "bye" and no more, every other one sends back what comes, and its own number
    /// behind the end.
    async fn port_forward(
        &self,
        sandbox: &str,
        port: u16,
        mut input: Input,
        output: Output,
    ) -> Result<(), Failure> {
        let _running = self.enter();
        if port == 1 {
            return Err(Failure(format!("{sandbox}: connection refused")));
        }
        if port == 98 {
            output.finish().await.map_err(|e| Failure(e.to_string()))?;
            self.0.may_read.notified().await;
            while let Some(data) = input.next().await {
                self.0.read.fetch_add(data.len(), Ordering::SeqCst);
            }
            return Ok(());
        }
        if port == 97 || port == 99 {
            // Gone, here and below: nobody to tell.
            let _ = output.write(Bytes::from_static(b"bye")).await;
            if port == 97 {
                return Ok(());
            }
            let _ = output.finish().await;
            while input.next().await.is_some() {}
            return Ok(());
        }
        while let Some(data) = input.next().await {
            let _ = output.write(data).await;
        }
        let text = format!("end of {port}");
        let _ = output.write(text.into()).await;
        Ok(())
    }
}

/// A running server; ends with the value.
pub(crate) struct Harness {
    pub(crate) urls: Urls,
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    pub(crate) tasks: TaskGroup,
}

impl Harness {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(([127, 0, 0, 1], 0).into(), "/cri");
        change(&mut config);
        let fake = Fake::default();
        let seen = Arc::clone(&fake.0);
        let server = Server::bind(config, fake).await.unwrap();
        let urls = server.urls();
        let address = server.address().unwrap();
        let tasks = TaskGroup::new("test");
        tasks.spawn("server", server.run(tasks.token().clone()));
        Self {
            urls,
            address,
            seen,
            tasks,
        }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub(crate) fn target(&self, request: Request) -> Target {
        Target::from_url(&self.urls.insert(request).unwrap()).unwrap()
    }

    /// A connection that has been upgraded to WebSocket by hand, and what came behind the answer.
    pub(crate) async fn websocket(
        &self,
        request: Request,
        protocol: &str,
    ) -> (TcpStream, BytesMut) {
        let mut io = self.connect().await;
        let head = format!(
            "GET {} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\
             Sec-WebSocket-Protocol: {protocol}\r\n\r\n",
            self.target(request).path
        );
        io.write_all(head.as_bytes()).await.unwrap();
        let mut buffer = BytesMut::new();
        let end = loop {
            let read = tokio::time::timeout(SOON, io.read_buf(&mut buffer)).await;
            assert_ne!(read.expect("an answer").unwrap(), 0);
            if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break end;
            }
        };
        let answer = buffer.split_to(end + 4);
        let answer = String::from_utf8_lossy(&answer).to_lowercase();
        assert!(answer.starts_with("http/1.1 101"), "{answer}");
        let chosen = format!("sec-websocket-protocol: {}\r\n", protocol.to_lowercase());
        assert!(answer.contains(&chosen), "{answer}");
        (io, buffer)
    }

    /// Opens a command; the connection is moved by a task of the harness.
    pub(crate) async fn exec(
        &self,
        transport: Transport,
        command: &[&str],
        wanted: Wanted,
    ) -> Result<RemoteCommand, ClientError> {
        let request = Request::Exec(Exec {
            container: "c".to_owned(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            wanted,
        });
        let target = self.target(request);
        let io = self.connect().await;
        let (command, running) = client::remote_command(io, &target, transport, wanted).await?;
        self.tasks.spawn_job("client", async move {
            let _ = running.await;
        });
        Ok(command)
    }
}

/// All that comes.
pub(crate) async fn read_all(mut input: Input) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(data) = input.next().await {
        all.extend_from_slice(&data);
    }
    all
}

/// Output, error output and outcome of a command whose input is not used any more.
pub(crate) async fn finish(mut command: RemoteCommand) -> (Vec<u8>, Vec<u8>, Outcome) {
    let work = async {
        let (stdout, stderr) = (command.stdout.take(), command.stderr.take());
        let read = async |input: Option<Input>| match input {
            Some(input) => read_all(input).await,
            None => Vec::new(),
        };
        let (stdout, stderr, outcome) = tokio::join!(read(stdout), read(stderr), command.outcome());
        (stdout, stderr, outcome)
    };
    tokio::time::timeout(SOON, work).await.unwrap()
}

/// Streams by their names, and `tty`.
pub(crate) fn wanted(names: &str) -> Wanted {
    let has = |name| names.split(' ').any(|own| own == name);
    Wanted {
        stdin: has("stdin"),
        stdout: has("stdout"),
        stderr: has("stderr"),
        tty: has("tty"),
    }
}
