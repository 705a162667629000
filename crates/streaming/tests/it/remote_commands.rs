//! Exec and attach over every transport.

use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use streaming::{
    Attach, Exec, Outcome, Request, TerminalSize,
    client::{self, ClientError, Transport},
    remote_command::Version,
    websocket::frame::{self, Opcode},
};
use testkit::eventually_async;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{Harness, SOON, TRANSPORTS, finish, wanted};

const V4: Transport = Transport::Spdy(Version::V4);
const V5: Transport = Transport::WebSocket {
    version: Version::V5,
    base64: false,
};

#[tokio::test(flavor = "multi_thread")]
async fn outputs_and_end_arrive_over_every_transport() {
    let harness = Harness::start().await;
    for transport in TRANSPORTS {
        let command = harness.exec(transport, &["say"], wanted("stdout stderr"));
        let ended = finish(command.await.unwrap()).await;
        assert_eq!(
            ended,
            (b"out".to_vec(), b"err".to_vec(), Outcome::Success),
            "{transport:?}"
        );
    }
}

/// Clients do not wait for the greeting: their input may be there before the server looks.
#[tokio::test(flavor = "multi_thread")]
async fn input_that_comes_with_the_upgrade_is_not_lost() {
    let harness = Harness::start().await;
    for _ in 0..20 {
        let target = harness.target(Request::Exec(Exec {
            container: "c".to_owned(),
            command: vec!["cat".to_owned()],
            wanted: wanted("stdin stdout"),
        }));
        let head = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
             Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n",
            target.path, target.authority
        );
        let mut bytes = BytesMut::from(head.as_bytes());
        let input = [&b"\0"[..], b"early end\n"];
        frame::encode(&mut bytes, Opcode::Binary, Some([0; 4]), &input);
        let mut io = harness.connect().await;
        io.write_all(&bytes).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(SOON, io.read_to_end(&mut answer));
        read.await.expect("it ends by itself").unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.contains("early end\n"), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_and_failures_are_told_as_the_version_can() {
    let harness = Harness::start().await;
    for transport in TRANSPORTS {
        let run = async |words: &[&str]| {
            let command = harness.exec(transport, words, wanted("stdout"));
            finish(command.await.unwrap()).await.2
        };
        let (exited, failed) = (run(&["exit", "42"]).await, run(&["fail", "boom"]).await);
        let version = match transport {
            Transport::Spdy(version) | Transport::WebSocket { version, .. } => version,
        };
        if version >= Version::V4 {
            assert_eq!(exited, Outcome::ExitCode(42), "{transport:?}");
        } else {
            assert!(matches!(exited, Outcome::Failed(text) if text.ends_with(": 42")));
        }
        let expected = "Internal error occurred: error executing command in container: boom";
        assert_eq!(failed, Outcome::Failed(expected.to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn megabytes_of_input_come_back_unchanged() {
    let harness = Harness::start().await;
    let payload: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    for transport in TRANSPORTS {
        let command = harness.exec(transport, &["cat"], wanted("stdin stdout"));
        let mut command = command.await.unwrap();
        let stdin = command.stdin.take().unwrap();
        let input: Bytes = [&payload[..], b"end\n"].concat().into();
        let expected = input.clone();
        let send = async { stdin.write(input).await.unwrap() };
        let ((), (stdout, _, outcome)) = tokio::join!(send, finish(command));
        assert_eq!(outcome, Outcome::Success);
        assert!(stdout == expected, "{transport:?}: {} bytes", stdout.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn input_can_end_while_output_goes_on() {
    let harness = Harness::start().await;
    for transport in [V4, V5] {
        let command = harness.exec(transport, &["cat"], wanted("stdin stdout"));
        let mut command = command.await.unwrap();
        let stdin = command.stdin.take().unwrap();
        stdin
            .write(Bytes::from_static(b"last words"))
            .await
            .unwrap();
        stdin.finish().await.unwrap();
        let (stdout, _, outcome) = finish(command).await;
        assert_eq!(
            (&stdout[..], outcome),
            (&b"last words"[..], Outcome::Success)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn terminal_sizes_arrive() {
    let harness = Harness::start().await;
    for transport in [Transport::Spdy(Version::V3), V4, V5] {
        let command = harness.exec(transport, &["size"], wanted("stdin stdout tty"));
        let command = command.await.unwrap();
        let size = TerminalSize {
            width: 132,
            height: 43,
        };
        command.resize(size).await.unwrap();
        assert_eq!(finish(command).await.0, b"132x43", "{transport:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attachments_end_well_or_say_why() {
    let harness = Harness::start().await;
    let run = async |container: &str| {
        let streams = wanted("stdout");
        let request = Request::Attach(Attach {
            container: container.to_owned(),
            wanted: streams,
        });
        let target = harness.target(request);
        let io = harness.connect().await;
        let (command, running) = client::remote_command(io, &target, V4, streams)
            .await
            .unwrap();
        harness.tasks.spawn_job("client", async move {
            let _ = running.await;
        });
        finish(command).await
    };
    assert_eq!(run("c").await.0, b"attached");
    let Outcome::Failed(text) = run("gone").await.2 else {
        panic!();
    };
    assert_eq!(
        text,
        "Internal error occurred: error attaching to container: No such container: gone"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn token_is_good_for_one_connection_of_its_kind() {
    let harness = Harness::start().await;
    let streams = wanted("stdout");
    let attach = || {
        Request::Attach(Attach {
            container: "c".to_owned(),
            wanted: streams,
        })
    };
    let target = harness.target(attach());
    let again = target.clone();
    let mut other = harness.target(attach());
    other.path = other.path.replace("attach", "exec");
    let mut unknown = target.clone();
    unknown.path = "/cri/attach/AAAAAAAA".to_owned();
    let first = client::remote_command(harness.connect().await, &target, V4, streams).await;
    drop(first.unwrap());
    for target in [again, other, unknown] {
        let io = harness.connect().await;
        let refused = client::remote_command(io, &target, V4, streams).await;
        assert!(
            matches!(&refused, Err(ClientError::Refused { status, text })
                if status.as_u16() == 404 && text == "404 page not found"),
            "{:?}",
            refused.err()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn command_is_dropped_when_its_client_goes_away() {
    let harness = Harness::start().await;
    for transport in [V4, V5] {
        let request = Request::Exec(streaming::Exec {
            container: "c".to_owned(),
            command: vec!["sleep".to_owned()],
            wanted: wanted("stdin stdout"),
        });
        let target = harness.target(request);
        let io = harness.connect().await;
        let streams = wanted("stdin stdout");
        let (command, mut running) = client::remote_command(io, &target, transport, streams)
            .await
            .unwrap();
        let started = eventually_async(SOON, || async {
            match harness.seen.running.load(Ordering::SeqCst) {
                1 => Ok(()),
                other => Err(other.to_string()),
            }
        });
        tokio::select! {
            _ = &mut running => panic!("the connection ended"),
            () = started => {}
        }
        drop((command, running));
        eventually_async(SOON, || async {
            match harness.seen.running.load(Ordering::SeqCst) {
                0 => Ok(()),
                other => Err(other.to_string()),
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ending_server_tells_its_clients() {
    for transport in [V4, V5] {
        let harness = Harness::start().await;
        let command = harness.exec(transport, &["sleep"], wanted("stdout"));
        let command = command.await.unwrap();
        // On tasks of their own, unlike the server.
        let clients = daemon::TaskGroup::new("clients");
        let ended = clients.run("client", finish(command));
        harness.tasks.token().cancel();
        let (_, _, outcome) = ended.await.unwrap();
        assert!(
            matches!(&outcome, Outcome::Failed(text) if text.ends_with("shutting down")),
            "{outcome:?}"
        );
        harness.tasks.shutdown(SOON).await.unwrap();
    }
}
