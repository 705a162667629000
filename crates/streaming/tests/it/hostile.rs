//! Peers that are slow, silent or broken.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::{Bytes, BytesMut};
use streaming::{
    Exec, Outcome, Request,
    client::Transport,
    remote_command::Version,
    spdy::{
        Headers,
        frame::{Decoder, Encoder, Frame},
    },
};
use testkit::eventually_async;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{Harness, SOON, finish, wanted};

/// More than the kernel's buffers and ours together hold for a peer that doesn't read.
const TOO_MUCH: usize = 32 << 20;

fn exec(command: &str) -> Request {
    Request::Exec(Exec {
        container: "c".to_owned(),
        command: vec![command.to_owned()],
        wanted: wanted("stdin stdout"),
    })
}

/// A connection that has been upgraded to SPDY by hand.
async fn upgraded(harness: &Harness, request: Request) -> TcpStream {
    let mut io = harness.connect().await;
    // Frame by frame, without the kernel's waiting for more.
    io.set_nodelay(true).unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
         X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\
         X-Stream-Protocol-Version: portforward.k8s.io\r\nContent-Length: 0\r\n\r\n",
        harness.target(request).path
    );
    io.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(io.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"));
    io
}

/// Opens a stream of a port-forward.
fn open(encoder: &mut Encoder, stream: u32, kind: &str, port: &str, request: &str) -> BytesMut {
    let headers = Headers::new()
        .with("streamtype", kind)
        .with("port", port)
        .with("requestid", request);
    let mut out = BytesMut::new();
    let frame = Frame::SynStream {
        stream,
        headers,
        fin: false,
    };
    encoder.encode(&frame, &mut out);
    out
}

fn forward() -> Request {
    Request::PortForward(streaming::PortForward {
        sandbox: "pod".to_owned(),
        ports: Vec::new(),
    })
}

/// Reads until the server closes.
async fn until_closed(io: &mut TcpStream) {
    let mut rest = Vec::new();
    // A reset is an end, too.
    let _ = tokio::time::timeout(SOON, io.read_to_end(&mut rest))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn output_waits_for_a_client_that_does_not_read() {
    let harness = Harness::start().await;
    for version in [Version::V4, Version::V5] {
        harness.seen.written.store(0, Ordering::SeqCst);
        let transport = match version {
            Version::V5 => Transport::WebSocket {
                version,
                base64: false,
            },
            version => Transport::Spdy(version),
        };
        let streams = wanted("stdout");
        let command = harness.exec(transport, &["yes"], streams).await.unwrap();
        let before = &mut 0;
        // It writes no more once all buffers are full.
        eventually_async(SOON, || {
            let written = harness.seen.written.load(Ordering::SeqCst);
            let still = written > 0 && written == *before;
            *before = written;
            async move {
                if still {
                    Ok(())
                } else {
                    Err(written.to_string())
                }
            }
        })
        .await;
        assert!(harness.seen.written.load(Ordering::SeqCst) < TOO_MUCH);
        drop(command);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn input_waits_for_a_command_that_does_not_read() {
    let harness = Harness::start().await;
    let streams = wanted("stdin stdout");
    let transport = Transport::Spdy(Version::V4);
    let mut command = harness.exec(transport, &["sleep"], streams).await.unwrap();
    let stdin = command.stdin.take().unwrap();
    let chunk = Bytes::from(vec![0; 1 << 20]);
    let flood = async {
        for _ in 0..TOO_MUCH >> 20 {
            stdin.write(chunk.clone()).await.unwrap();
        }
    };
    let stuck = tokio::time::timeout(Duration::from_secs(2), flood).await;
    assert!(stuck.is_err(), "{TOO_MUCH} bytes were taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_opens_no_streams_is_closed() {
    let harness = Harness::with(|config| config.stream_creation = Duration::from_millis(50)).await;
    let mut io = upgraded(&harness, exec("cat")).await;
    until_closed(&mut io).await;
    assert_eq!(harness.seen.running.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connection_is_closed_and_its_command_dropped() {
    let harness = Harness::with(|config| config.idle = Some(Duration::from_millis(100))).await;
    let streams = wanted("stdin stdout");
    let transport = Transport::Spdy(Version::V4);
    let command = harness.exec(transport, &["sleep"], streams).await.unwrap();
    // No status was sent.
    assert!(matches!(finish(command).await.2, Outcome::Failed(_)));
    assert_eq!(harness.seen.running.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_closes_its_connection_and_no_other() {
    let harness = Harness::start().await;
    let mut broken = upgraded(&harness, exec("cat")).await;
    broken.write_all(&[0xff; 4096]).await.unwrap();
    until_closed(&mut broken).await;
    let mut rude = harness.connect().await;
    rude.write_all(&vec![0; 100_000]).await.ok();
    until_closed(&mut rude).await;
    let transport = Transport::Spdy(Version::V4);
    let command = harness
        .exec(transport, &["say"], wanted("stdout"))
        .await
        .unwrap();
    assert_eq!(finish(command).await.0, b"out");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_beyond_the_limit_and_without_sense_are_refused() {
    let harness = Harness::start().await;
    let mut io = upgraded(&harness, forward()).await;
    let mut encoder = Encoder::new();
    // No such kind, then an even number, then more than may be open.
    let mut out = open(&mut encoder, 1, "stdin", "80", "1");
    out.extend_from_slice(&open(&mut encoder, 2, "data", "80", "2"));
    for stream in (3..).step_by(2).take(1025) {
        let request = stream.to_string();
        out.extend_from_slice(&open(&mut encoder, stream, "data", "80", &request));
    }
    let (mut reader, mut writer) = io.split();
    let mut decoder = Decoder::new();
    let mut buffer = BytesMut::new();
    let mut refused = Vec::new();
    let read = async {
        while refused.len() < 3 {
            match decoder.decode(&mut buffer).unwrap() {
                Some(Frame::Reset { stream, status }) => refused.push((stream, status)),
                Some(_) => {}
                None => assert_ne!(reader.read_buf(&mut buffer).await.unwrap(), 0),
            }
        }
        refused
    };
    let write = async { writer.write_all(&out).await.unwrap() };
    let (mut refused, ()) = tokio::time::timeout(SOON, async { tokio::join!(read, write) })
        .await
        .unwrap();
    refused.sort_unstable();
    assert_eq!(refused, [(1, 5), (2, 1), (2051, 3)]);
}

/// Waits until the server has ended these streams; none is reset.
async fn until_finished(
    io: &mut TcpStream,
    decoder: &mut Decoder,
    buffer: &mut BytesMut,
    streams: &[u32],
) {
    let mut left = streams.to_vec();
    while !left.is_empty() {
        match decoder.decode(buffer).unwrap() {
            Some(Frame::Data {
                stream, fin: true, ..
            }) => left.retain(|own| *own != stream),
            Some(Frame::Reset { stream, status }) => panic!("{stream} was reset: {status}"),
            Some(_) => {}
            None => {
                let read = tokio::time::timeout(SOON, io.read_buf(buffer)).await;
                assert_ne!(read.unwrap().unwrap(), 0);
            }
        }
    }
}

/// More forwarded connections, one after the other, than there may be streams at once.
#[tokio::test(flavor = "multi_thread")]
async fn streams_that_the_client_never_ends_are_gone_with_their_connection() {
    let harness = Harness::start().await;
    let mut io = upgraded(&harness, forward()).await;
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let mut buffer = BytesMut::new();
    for error in (1_u32..).step_by(4).take(1100) {
        let (data, request) = (error + 2, error.to_string());
        let mut out = open(&mut encoder, error, "error", "97", &request);
        out.extend_from_slice(&open(&mut encoder, data, "data", "97", &request));
        io.write_all(&out).await.unwrap();
        until_finished(&mut io, &mut decoder, &mut buffer, &[error, data]).await;
        // Nobody listens any more.
        out.clear();
        for stream in [error, data] {
            let late = Frame::Data {
                stream,
                data: Bytes::from_static(b"late"),
                fin: false,
            };
            encoder.encode(&late, &mut out);
        }
        io.write_all(&out).await.unwrap();
    }
}

/// Nobody reads it.
#[tokio::test(flavor = "multi_thread")]
async fn client_that_writes_to_the_error_stream_holds_nothing_up() {
    let harness = Harness::start().await;
    let mut io = upgraded(&harness, forward()).await;
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let mut out = open(&mut encoder, 1, "error", "80", "a");
    out.extend_from_slice(&open(&mut encoder, 3, "data", "80", "a"));
    for _ in 0..100 {
        let data = Bytes::from_static(b"hello?");
        let (stream, fin) = (1, false);
        encoder.encode(&Frame::Data { stream, data, fin }, &mut out);
    }
    let (stream, data, fin) = (3, Bytes::new(), true);
    encoder.encode(&Frame::Data { stream, data, fin }, &mut out);
    io.write_all(&out).await.unwrap();
    until_finished(&mut io, &mut decoder, &mut BytesMut::new(), &[1, 3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_a_pair_that_was_reset_is_forgotten() {
    let harness = Harness::start().await;
    let mut io = upgraded(&harness, forward()).await;
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let mut buffer = BytesMut::new();
    let out = open(&mut encoder, 1, "error", "97", "a");
    io.write_all(&out).await.unwrap();
    while decoder.decode(&mut buffer).unwrap().is_none() {
        // The server's acceptance.
        let read = tokio::time::timeout(SOON, io.read_buf(&mut buffer)).await;
        assert_ne!(read.unwrap().unwrap(), 0);
    }
    let mut out = BytesMut::new();
    let (stream, status) = (1, 5);
    encoder.encode(&Frame::Reset { stream, status }, &mut out);
    out.extend_from_slice(&open(&mut encoder, 3, "error", "97", "a"));
    out.extend_from_slice(&open(&mut encoder, 5, "data", "97", "a"));
    io.write_all(&out).await.unwrap();
    until_finished(&mut io, &mut decoder, &mut buffer, &[3, 5]).await;
}
