//! Against a peer that plays the bus and systemd, and whose messages are written out by hand from
//! the specification, so that an error in our encoding does not hide in our decoding.

use std::{os::unix::net::UnixListener, thread};

use super::{message::SIGNAL, *};

#[test]
fn call_is_encoded_as_the_specification_says() {
    let mut body = Writer::default();
    body.text("x");
    let call = Call {
        member: "AddMatch",
        signature: "s",
        body: &body.0,
        ..Call::TO_BUS
    };
    let bytes = call.encode(7);
    let mut expected = b"l\x01\x00\x01\x06\x00\x00\x00\x07\x00\x00\x00".to_vec();
    let fields = [
        b"\x01\x01o\0\x15\x00\x00\x00/org/freedesktop/DBus\0\0\0".to_vec(),
        b"\x02\x01s\0\x14\x00\x00\x00org.freedesktop.DBus\0\0\0\0".to_vec(),
        b"\x03\x01s\0\x08\x00\x00\x00AddMatch\0\0\0\0\0\0\0\0".to_vec(),
        b"\x06\x01s\0\x14\x00\x00\x00org.freedesktop.DBus\0\0\0\0".to_vec(),
        b"\x08\x01g\0\x01s\0".to_vec(),
    ]
    .concat();
    expected.extend(u32::try_from(fields.len()).unwrap().to_le_bytes());
    expected.extend(fields);
    expected.extend(b"\0\x01\x00\x00\x00x\0");
    assert_eq!(bytes, expected);
}

#[test]
fn properties_are_aligned_to_eight_bytes() {
    let mut body = Writer::default();
    body.properties(&[
        ("A", Value::Number(1)),
        ("B", Value::Texts(vec!["y".to_owned()])),
    ]);
    let expected = [
        b"\x2e\x00\x00\x00\0\0\0\0".as_slice(),
        b"\x01\x00\x00\x00A\0\x01t\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0",
        b"\x01\x00\x00\x00B\0\x02as\0\0\0\x06\x00\x00\x00\x01\x00\x00\x00y\0",
    ]
    .concat();
    assert_eq!(body.0, expected);
}

/// Plays the other end: for each call it is given the answers to send, with `SERIAL` put in.
fn peer(answers: Vec<Vec<Vec<u8>>>) -> (tempfile::TempDir, thread::JoinHandle<Vec<Message>>) {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("bus")).unwrap();
    let handle = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut bus = Bus {
            stream: BufReader::new(stream),
            serial: 0,
        };
        let mut line = String::new();
        bus.stream.read_line(&mut line).unwrap();
        assert!(line.starts_with("\0AUTH EXTERNAL "), "{line:?}");
        bus.stream.get_mut().write_all(b"OK 1234\r\n").unwrap();
        line.clear();
        bus.stream.read_line(&mut line).unwrap();
        assert_eq!(line, "BEGIN\r\n");
        let mut calls = Vec::new();
        for messages in answers {
            calls.push(bus.receive().unwrap());
            for message in messages {
                bus.stream.get_mut().write_all(&message).unwrap();
            }
        }
        calls
    });
    (dir, handle)
}

/// A method return (2) or error (3) to the call of a serial, by hand.
fn reply(kind: u8, serial: u32, error: &str, signature: &str, body: &[u8]) -> Vec<u8> {
    let mut fields = Writer::default();
    fields.0.extend(b"\x05\x01u\0");
    fields.u32(serial);
    if !error.is_empty() {
        fields.align(8);
        fields.0.extend(b"\x04\x01s\0");
        fields.text(error);
    }
    if !signature.is_empty() {
        fields.align(8);
        fields.0.extend(b"\x08\x01g\0");
        fields.signature(signature);
    }
    whole(kind, &fields.0, body)
}

fn signal(member: &str, body: &[u8]) -> Vec<u8> {
    let mut fields = Writer::default();
    fields.0.extend(b"\x02\x01s\0");
    fields.text(MANAGER);
    fields.align(8);
    fields.0.extend(b"\x03\x01s\0");
    fields.text(member);
    whole(SIGNAL, &fields.0, body)
}

fn whole(kind: u8, fields: &[u8], body: &[u8]) -> Vec<u8> {
    let mut message = vec![b'l', kind, 0, 1];
    message.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
    message.extend(99u32.to_le_bytes());
    message.extend(u32::try_from(fields.len()).unwrap().to_le_bytes());
    message.extend(fields);
    message.resize(message.len().next_multiple_of(8), 0);
    message.extend(body);
    message
}

fn texts(number: Option<u32>, texts: &[&str]) -> Vec<u8> {
    let mut body = Writer::default();
    if let Some(number) = number {
        body.u32(number);
    }
    for text in texts {
        body.text(text);
    }
    body.0
}

#[test]
fn job_is_waited_for_even_when_it_ends_before_its_reply() {
    let removed =
        |job: &str, result: &str| signal("JobRemoved", &texts(Some(1), &[job, "x.slice", result]));
    let (dir, peer) = peer(vec![
        vec![reply(2, 1, "", "s", &texts(None, &[":1.7"]))],
        vec![reply(2, 2, "", "", &[])],
        vec![reply(2, 3, "", "", &[])],
        vec![
            removed("/job/other", "failed"),
            removed("/job/1", "done"),
            reply(2, 4, "", "o", &texts(None, &["/job/1"])),
        ],
        vec![reply(2, 5, "", "", &[])],
        vec![reply(2, 6, "", "", &[])],
        vec![
            reply(2, 7, "", "o", &texts(None, &["/job/2"])),
            removed("/job/other", "done"),
            removed("/job/2", "failed"),
        ],
    ]);
    let mut bus = Bus::connect(&dir.path().join("bus")).unwrap();
    assert_eq!(bus.start_transient_unit("x.slice", &[]).unwrap(), "done");
    assert_eq!(bus.stop_unit("x.slice").unwrap(), "failed");
    let members: Vec<_> = peer
        .join()
        .unwrap()
        .into_iter()
        .map(|call| call.member)
        .collect();
    assert_eq!(
        members,
        [
            "Hello",
            "AddMatch",
            "Subscribe",
            "StartTransientUnit",
            "AddMatch",
            "Subscribe",
            "StopUnit"
        ]
    );
}

#[test]
fn error_keeps_its_name_and_text() {
    let (dir, peer) = peer(vec![
        vec![reply(2, 1, "", "", &[])],
        vec![reply(
            3,
            2,
            "org.x.NoSuchUnit",
            "s",
            &texts(None, &["Unit not loaded."]),
        )],
    ]);
    let mut bus = Bus::connect(&dir.path().join("bus")).unwrap();
    let error = bus.set_unit_properties("x.slice", &[]).unwrap_err();
    assert!(error.is_named("org.x.NoSuchUnit"));
    assert_eq!(error.to_string(), "Unit not loaded.");
    peer.join().unwrap();
}

/// Our messages as the reference bus reads them: it takes our authentication, checks our calls as
/// the specification asks (it hangs up on a malformed one), and answers for a systemd that is not
/// there.
#[test]
#[expect(clippy::disallowed_methods, reason = "the bus is a program")]
fn reference_bus_understands_us() {
    use std::process::{Command, Stdio};

    let dir = tempfile::tempdir().unwrap();
    let (socket, config) = (dir.path().join("bus"), dir.path().join("config"));
    let text = format!(
        "<busconfig><type>session</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
         <policy context=\"default\"><allow send_destination=\"*\"/><allow receive_sender=\"*\"/><allow own=\"*\"/></policy>\
         </busconfig>",
        socket.display()
    );
    std::fs::write(&config, text).unwrap();
    let started = Command::new("dbus-daemon")
        .args(["--nofork", "--nopidfile", "--nosyslog", "--print-address=1"])
        .arg(format!("--config-file={}", config.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let missing = started
        .as_ref()
        .err()
        .map(|error| format!("dbus-daemon: {error}"));
    if !testkit::prerequisite("dbus", missing) {
        return;
    }
    let mut daemon = started.unwrap();
    let mut address = String::new();
    BufReader::new(daemon.stdout.take().unwrap())
        .read_line(&mut address)
        .unwrap();
    let outcome = Bus::connect(&socket).map(|mut bus| {
        let properties = [
            ("Description", Value::Text("x".to_owned())),
            ("CPUWeight", Value::Number(39)),
            ("Wants", Value::Texts(vec!["y.slice".to_owned()])),
            ("MemoryAccounting", Value::Bool(true)),
        ];
        let body = start_arguments("x.slice", &properties);
        let start = Call {
            member: "StartTransientUnit",
            signature: "ssa(sv)a(sa(sv))",
            body: &body.0,
            ..Call::TO_SYSTEMD
        };
        [
            bus.set_unit_properties("x.slice", &properties).unwrap_err(),
            bus.call(&start).unwrap_err(),
            // Gets past AddMatch, which the bus itself answers.
            bus.stop_unit("x.slice").unwrap_err(),
        ]
    });
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    for error in outcome.unwrap() {
        assert!(
            error.is_named("org.freedesktop.DBus.Error.ServiceUnknown"),
            "{error:?}"
        );
    }
}

#[test]
fn peer_that_hangs_up_is_an_error() {
    let (dir, peer) = peer(Vec::new());
    let error = Bus::connect(&dir.path().join("bus")).unwrap_err();
    assert!(
        matches!(error, BusError::Closed | BusError::Io(_)),
        "{error:?}"
    );
    peer.join().unwrap();
}

proptest::proptest! {
    #[test]
    fn no_answer_makes_the_reader_panic(start: [u8; 16], rest: Vec<u8>) {
        if let Ok(message) = Message::decode(&start, &rest) {
            drop(message.removed_job());
            drop(message.into_body());
        }
    }
}
