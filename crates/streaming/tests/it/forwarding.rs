//! Port-forward over SPDY, tunnelled and by channels.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::{Bytes, BytesMut};
use streaming::{
    PortForward, Request, Side,
    client::{self, Forwarder},
    websocket::frame::{Decoder, Opcode, Received, encode},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{Harness, SOON, read_all};

fn request(ports: &[u16]) -> Request {
    Request::PortForward(PortForward {
        sandbox: "pod".to_owned(),
        ports: ports.to_vec(),
    })
}

async fn forwarder(harness: &Harness, tunnelled: bool) -> Forwarder {
    let target = harness.target(request(&[]));
    let io = harness.connect().await;
    let (forwarder, running) = client::port_forward(io, &target, tunnelled).await.unwrap();
    harness.tasks.spawn_job("client", async move {
        let _ = running.await;
    });
    forwarder
}

#[tokio::test(flavor = "multi_thread")]
async fn many_connections_share_one_and_keep_their_own_ends() {
    for tunnelled in [false, true] {
        let harness = Harness::start().await;
        let mut forwarder = forwarder(&harness, tunnelled).await;
        let mut open = Vec::new();
        for port in 2..20_u16 {
            let connection = forwarder.connect(port).await.unwrap();
            let text = Bytes::from(format!("to {port}, "));
            connection.data.output.write(text).await.unwrap();
            open.push((port, connection));
        }
        for (port, connection) in open.into_iter().rev() {
            connection.data.output.finish().await.unwrap();
            let got = tokio::time::timeout(SOON, read_all(connection.data.input)).await;
            let expected = format!("to {port}, end of {port}");
            assert_eq!(String::from_utf8(got.unwrap()).unwrap(), expected);
            assert_eq!(read_all(connection.error).await, b"");
        }
        forwarder.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn megabytes_pass_in_both_directions() {
    for tunnelled in [false, true] {
        let harness = Harness::start().await;
        let mut forwarder = forwarder(&harness, tunnelled).await;
        let connection = forwarder.connect(80).await.unwrap();
        let payload = Bytes::from(vec![7; 5_000_000]);
        let output = connection.data.output;
        let send = async {
            output.write(payload.clone()).await.unwrap();
            output.finish().await.unwrap();
        };
        let ((), got) = tokio::join!(send, read_all(connection.data.input));
        assert_eq!(got.len(), payload.len() + "end of 80".len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failure_is_told_on_the_error_stream_and_the_next_connection_works() {
    for tunnelled in [false, true] {
        let harness = Harness::start().await;
        let mut forwarder = forwarder(&harness, tunnelled).await;
        let connection = forwarder.connect(1).await.unwrap();
        let text = read_all(connection.error).await;
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "error forwarding port 1 to pod pod, uid : pod: connection refused"
        );
        let connection = forwarder.connect(2).await.unwrap();
        connection.data.output.finish().await.unwrap();
        assert_eq!(read_all(connection.data.input).await, b"end of 2");
    }
}

/// The client has sent all, and so has the pod: what is on its way still belongs to the pod.
#[tokio::test(flavor = "multi_thread")]
async fn pod_that_ended_first_gets_all_that_the_client_sent() {
    for tunnelled in [false, true] {
        let harness = Harness::start().await;
        let mut forwarder = forwarder(&harness, tunnelled).await;
        let connection = forwarder.connect(98).await.unwrap();
        assert_eq!(read_all(connection.data.input).await, b"");
        for _ in 0..8 {
            let piece = Bytes::from_static(b"1234");
            connection.data.output.write(piece).await.unwrap();
        }
        connection.data.output.finish().await.unwrap();
        // The server reads in order: it has seen the end when this goes through.
        let other = forwarder.connect(99).await.unwrap();
        assert_eq!(read_all(other.data.input).await, b"bye");
        harness.seen.may_read.notify_one();
        let told = tokio::time::timeout(SOON, read_all(connection.error)).await;
        assert_eq!(told.as_deref(), Ok(&b""[..]));
        assert_eq!(harness.seen.read.load(Ordering::SeqCst), 32, "{tunnelled}");
    }
}

/// More forwarded connections than there may be streams at once: one that stays open is noticed.
const MANY: usize = 1100;

/// As kubectl ends each connection; it then waits for the end of the error stream.
#[tokio::test(flavor = "multi_thread")]
async fn error_stream_ends_when_the_client_resets_after_the_pods_end() {
    for tunnelled in [false, true] {
        let harness = Harness::start().await;
        let mut forwarder = forwarder(&harness, tunnelled).await;
        for number in 0..MANY {
            let connection = forwarder.connect(99).await.unwrap();
            assert_eq!(read_all(connection.data.input).await, b"bye");
            connection.data.output.reset().await;
            let told = tokio::time::timeout(SOON, read_all(connection.error)).await;
            assert_eq!(told.as_deref(), Ok(&b""[..]), "{tunnelled} {number}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn error_stream_ends_when_the_client_resets_in_mid_stream() {
    for tunnelled in [false, true] {
        let harness = Harness::start().await;
        let mut forwarder = forwarder(&harness, tunnelled).await;
        for number in 0..MANY {
            let mut connection = forwarder.connect(2).await.unwrap();
            let output = connection.data.output;
            output.write(Bytes::from_static(b"more")).await.unwrap();
            assert_eq!(connection.data.input.next().await.unwrap(), "more");
            output.reset().await;
            let told = tokio::time::timeout(SOON, read_all(connection.error)).await;
            assert_eq!(told.as_deref(), Ok(&b""[..]), "{tunnelled} {number}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn error_stream_without_a_data_stream_is_told_why_it_ends() {
    for tunnelled in [false, true] {
        let patience = Duration::from_millis(50);
        let harness = Harness::with(|config| config.stream_creation = patience).await;
        let mut forwarder = forwarder(&harness, tunnelled).await;
        let error = forwarder.begin(80).await.unwrap();
        let told = tokio::time::timeout(SOON, read_all(error.input))
            .await
            .unwrap();
        assert_eq!(
            String::from_utf8(told).unwrap(),
            "(request=0) timed out waiting for streams"
        );
    }
}

/// The old way: channels of a WebSocket, the port first on each.
#[tokio::test(flavor = "multi_thread")]
async fn channels_carry_the_ports_of_the_request() {
    let harness = Harness::start().await;
    let ports = request(&[513, 1]);
    let (mut io, mut buffer) = harness.websocket(ports, "v4.channel.k8s.io").await;
    let mut out = BytesMut::new();
    encode(&mut out, Opcode::Binary, Some([1, 2, 3, 4]), &[&[0], b"hi"]);
    io.write_all(&out).await.unwrap();
    let mut decoder = Decoder::new(Side::Client);
    let mut channels = [const { Vec::new() }; 4];
    let expected: [&[u8]; 4] = [
        &[1, 2, b'h', b'i'],
        &[1, 2],
        &[1, 0],
        b"\x01\0error forwarding port 1 to pod pod, uid : pod: connection refused",
    ];
    let mut channel = None;
    while channels
        .iter()
        .zip(expected)
        .any(|(got, all)| got.len() < all.len())
    {
        match decoder.decode(&mut buffer).unwrap() {
            Some(Received::Piece { last, mut data, .. }) => {
                let own = channel
                    .take()
                    .unwrap_or_else(|| usize::from(data.split_to(1)[0]));
                channels[own].extend_from_slice(&data);
                channel = (!last).then_some(own);
            }
            Some(_) => {}
            None => {
                let read = tokio::time::timeout(SOON, io.read_buf(&mut buffer)).await;
                assert_ne!(read.unwrap().unwrap(), 0, "{channels:?}");
            }
        }
    }
    assert_eq!(channels.each_ref().map(Vec::as_slice), expected);
}
