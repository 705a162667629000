//! How WebSocket connections end (RFC 6455, 5.5.1 and 7.4).

use std::{sync::atomic::Ordering, time::Duration};

use bytes::BytesMut;
use streaming::{
    Exec, PortForward, Request, Side,
    websocket::frame::{Decoder, Opcode, Received, encode},
};
use testkit::eventually_async;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{Harness, SOON, wanted};

const V5: &str = "v5.channel.k8s.io";
const CHANNELS: &str = "v4.channel.k8s.io";
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

fn exec(words: &[&str]) -> Request {
    Request::Exec(Exec {
        container: "c".to_owned(),
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        wanted: wanted("stdin stdout"),
    })
}

fn forward(ports: &[u16]) -> Request {
    Request::PortForward(PortForward {
        sandbox: "pod".to_owned(),
        ports: ports.to_vec(),
    })
}

/// A client's frame.
fn frame(opcode: Opcode, payload: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    encode(&mut out, opcode, Some([1, 2, 3, 4]), &[payload]);
    out
}

/// Reads to the server's end: the close frames, which nothing follows.
async fn closes(mut io: TcpStream, mut buffer: BytesMut) -> Vec<Option<u16>> {
    let mut decoder = Decoder::new(Side::Client);
    let mut closes = Vec::new();
    loop {
        match decoder.decode(&mut buffer).unwrap() {
            Some(Received::Close(status)) => closes.push(status),
            Some(other) => assert!(closes.is_empty(), "{other:?} behind the close"),
            None => {
                let read = tokio::time::timeout(SOON, io.read_buf(&mut buffer)).await;
                if read.expect("an end").unwrap() == 0 {
                    assert!(buffer.is_empty(), "half a frame");
                    return closes;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn close_is_answered_with_its_own_status() {
    let harness = Harness::start().await;
    let kinds = [
        (exec(&["sleep"]), V5),
        (forward(&[80]), CHANNELS),
        (forward(&[]), TUNNEL),
    ];
    for (request, protocol) in kinds {
        for (payload, status) in [
            (&b"\x03\xe8bye"[..], Some(1000)),
            (b"\x03\xe9", Some(1001)),
            (b"\x0b\xb8", Some(3000)),
            (b"", None),
        ] {
            let (mut io, buffer) = harness.websocket(request.clone(), protocol).await;
            io.write_all(&frame(Opcode::Close, payload)).await.unwrap();
            assert_eq!(closes(io, buffer).await, [status], "{protocol}");
        }
    }
}

/// Waits until "yes" can write no more: a frame is on its way.
async fn socket_is_full(harness: &Harness) {
    let before = &mut 0;
    eventually_async(SOON, || {
        let written = harness.seen.written.load(Ordering::SeqCst);
        let still = written > 0 && written == *before;
        *before = written;
        async move { still.then_some(()).ok_or(written.to_string()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answer_to_a_close_cuts_no_frame_in_two() {
    let harness = Harness::start().await;
    let (mut io, buffer) = harness.websocket(exec(&["yes"]), V5).await;
    socket_is_full(&harness).await;
    let close = frame(Opcode::Close, &1000_u16.to_be_bytes());
    io.write_all(&close).await.unwrap();
    assert_eq!(closes(io, buffer).await, [Some(1000)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_closes_and_reads_nothing_is_not_waited_for() {
    let harness = Harness::start().await;
    let (mut io, _) = harness.websocket(exec(&["yes"]), V5).await;
    socket_is_full(&harness).await;
    assert_eq!(harness.seen.running.load(Ordering::SeqCst), 1);
    io.write_all(&frame(Opcode::Close, b"")).await.unwrap();
    eventually_async(SOON, || {
        let running = harness.seen.running.load(Ordering::SeqCst);
        async move { (running == 0).then_some(()).ok_or(running.to_string()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_breaks_the_rules_is_told_so() {
    let harness = Harness::start().await;
    let mut bare = BytesMut::new();
    encode(&mut bare, Opcode::Binary, None, &[b"\0x"]);
    for (request, protocol, broken, status) in [
        (exec(&["sleep"]), V5, bare, 1002),
        // 1005 stands for none.
        (
            exec(&["sleep"]),
            V5,
            frame(Opcode::Close, b"\x03\xed"),
            1002,
        ),
        (
            forward(&[80]),
            CHANNELS,
            frame(Opcode::Pong, &[0; 126]),
            1002,
        ),
        (forward(&[]), TUNNEL, frame(Opcode::Text, b"x"), 1003),
    ] {
        let (mut io, buffer) = harness.websocket(request, protocol).await;
        io.write_all(&broken).await.unwrap();
        // Not looked at any more.
        io.write_all(&[0; 4096]).await.unwrap();
        assert_eq!(closes(io, buffer).await, [Some(status)], "{broken:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_is_done_closes_normally() {
    let harness = Harness::with(|config| config.idle = Some(Duration::from_millis(100))).await;
    for (request, protocol) in [
        (exec(&["exit", "0"]), V5),
        // Idle for too long.
        (exec(&["sleep"]), V5),
        (forward(&[80]), CHANNELS),
        (forward(&[]), TUNNEL),
    ] {
        let (io, buffer) = harness.websocket(request, protocol).await;
        assert_eq!(closes(io, buffer).await, [Some(1000)], "{protocol}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_ends_closes_normally() {
    for (request, protocol) in [
        (exec(&["sleep"]), V5),
        (forward(&[80]), CHANNELS),
        (forward(&[]), TUNNEL),
    ] {
        let harness = Harness::start().await;
        let (io, buffer) = harness.websocket(request, protocol).await;
        harness.tasks.token().cancel();
        assert_eq!(closes(io, buffer).await, [Some(1000)], "{protocol}");
    }
}

/// The words of its end don't go through, nor do those of the closing.
#[tokio::test(flavor = "multi_thread")]
async fn server_that_ends_does_not_wait_for_a_client_that_reads_nothing() {
    let harness = Harness::start().await;
    let (_io, _) = harness.websocket(exec(&["yes"]), V5).await;
    socket_is_full(&harness).await;
    harness.tasks.token().cancel();
    let ended = tokio::time::timeout(SOON, harness.tasks.joined()).await;
    assert!(ended.is_ok(), "{:?}", harness.tasks.running());
}
