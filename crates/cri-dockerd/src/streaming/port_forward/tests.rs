//! Forwarding to a listener of the test's own, over a real server and client.

use ::streaming::{
    Attach, Config, Exec, PortForward, Request, Runtime, Server, Streams,
    client::{self, Forwarder, Target},
    server::Failure,
};
use bytes::Bytes;
use daemon::TaskGroup;
use tokio::net::TcpListener;

use super::*;

const SOON: Duration = Duration::from_secs(20);
/// For [`LATE`]: a busy machine must not be taken for a client that sends nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// Forwards to this host.
struct Here;

impl Runtime for Here {
    async fn exec(&self, _: Exec, _: Streams) -> Result<i32, Failure> {
        Err(Failure(String::new()))
    }

    async fn attach(&self, _: Attach, _: Streams) -> Result<(), Failure> {
        Err(Failure(String::new()))
    }

    async fn port_forward(
        &self,
        _: &str,
        port: u16,
        input: Input,
        output: Output,
    ) -> Result<(), Failure> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .map_err(|error| Failure(error.to_string()))?;
        exchange(stream, port, input, output, PATIENCE)
            .await
            .map_err(|error| Failure(error.to_string()))
    }
}

async fn forwarder(tasks: &TaskGroup) -> Forwarder {
    let config = Config::new((Ipv4Addr::LOCALHOST, 0).into(), "/cri");
    let server = Server::bind(config, Here).await.unwrap();
    let request = Request::PortForward(PortForward {
        sandbox: "pod".to_owned(),
        ports: Vec::new(),
    });
    let target = Target::from_url(&server.urls().insert(request).unwrap()).unwrap();
    let address = server.address().unwrap();
    tasks.spawn("server", server.run(tasks.token().clone()));
    let io = TcpStream::connect(address).await.unwrap();
    let (forwarder, running) = client::port_forward(io, &target, false).await.unwrap();
    tasks.spawn_job("client", async move {
        let _ = running.await;
    });
    forwarder
}

/// All that the pod gets once it has ended its own direction.
async fn sink(listener: &TcpListener) -> Vec<u8> {
    let (mut pod, _) = listener.accept().await.unwrap();
    pod.shutdown().await.unwrap();
    let mut got = Vec::new();
    pod.read_to_end(&mut got).await.unwrap();
    got
}

#[tokio::test(flavor = "multi_thread")]
async fn pod_that_ended_first_is_sent_to_for_as_long_as_something_comes() {
    let tasks = TaskGroup::new("test");
    let mut forwarder = forwarder(&tasks).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();

    let mut connection = forwarder.connect(port).await.unwrap();
    let send = async {
        assert_eq!(connection.data.input.next().await, None);
        // Longer than one that sends nothing is waited for.
        let mut pace = tokio::time::interval(PATIENCE / 20);
        for _ in 0..30 {
            pace.tick().await;
            let piece = Bytes::from_static(b"1234");
            connection.data.output.write(piece).await.unwrap();
        }
        connection.data.output.finish().await.unwrap();
    };
    let both = async { tokio::join!(sink(&listener), send) };
    let (got, ()) = tokio::time::timeout(SOON, both).await.unwrap();
    assert_eq!(got.len(), 120);
    assert_eq!(connection.error.next().await, None);

    // Neither sends nor ends: as kubectl, which waits for the error stream.
    let mut connection = forwarder.connect(port).await.unwrap();
    let both = async { tokio::join!(sink(&listener), connection.error.next()) };
    let (got, told) = tokio::time::timeout(SOON, both).await.unwrap();
    assert_eq!((&got[..], told), (&b""[..], None));
}
