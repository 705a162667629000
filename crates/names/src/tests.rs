use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use daemon::TaskGroup;
use futures_util::{StreamExt as _, stream};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
};

use super::*;

/// Type of a question for an IPv4 address.
const A: u16 = 1;
/// Bit of an answer that has no room in UDP.
const TRUNCATED: u8 = 2;

/// What a server says to a name.
#[derive(Debug, Clone)]
enum Says {
    Addresses(&'static [&'static str]),
    Code(u8),
    Nothing,
    /// The addresses over TCP only.
    Truncated(&'static [&'static str]),
}

const NO_SUCH_NAME: Says = Says::Code(3);
const SERVER_FAILURE: Says = Says::Code(2);

/// A name server over UDP and TCP.
struct Server {
    port: u16,
    /// Names in the order of their questions for IPv4.
    asked: Arc<Mutex<Vec<String>>>,
    _tasks: TaskGroup,
}

impl Server {
    /// Knows these names, and of others that there are none.
    async fn start(ip: &str, port: u16, names: &[(&str, Says)]) -> Self {
        let (port, udp, tcp) = loop {
            let udp = UdpSocket::bind((ip, port)).await.unwrap();
            let own = udp.local_addr().unwrap().port();
            match TcpListener::bind((ip, own)).await {
                Ok(tcp) => break (own, udp, tcp),
                // The kernel's choice for UDP is another's for TCP.
                Err(error) if port == 0 && error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => panic!("{error}"),
            }
        };
        let names: BTreeMap<String, Says> = names
            .iter()
            .map(|(name, says)| ((*name).to_owned(), says.clone()))
            .collect();
        let names = Arc::new(names);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let tasks = TaskGroup::new("name server");
        let (known, notes) = (names.clone(), asked.clone());
        tasks.spawn_job("udp", async move {
            let mut buffer = [0; 4096];
            while let Ok((length, peer)) = udp.recv_from(&mut buffer).await {
                let question = Question::parse(&buffer[..length]);
                if question.kind == A {
                    notes.lock().unwrap().push(question.name.clone());
                }
                if let Some(answer) = question.answer(&known, false) {
                    udp.send_to(&answer, peer).await.unwrap();
                }
            }
        });
        tasks.spawn_job("tcp", async move {
            let accepted = stream::unfold(tcp, async |tcp| {
                let (stream, _) = tcp.accept().await.ok()?;
                Some((stream, tcp))
            });
            let serve = async |mut stream: TcpStream| {
                while let Ok(length) = stream.read_u16().await {
                    let mut buffer = vec![0; length.into()];
                    stream.read_exact(&mut buffer).await.unwrap();
                    let question = Question::parse(&buffer);
                    if let Some(answer) = question.answer(&names, true) {
                        let length = u16::try_from(answer.len()).unwrap();
                        stream.write_u16(length).await.unwrap();
                        stream.write_all(&answer).await.unwrap();
                    }
                }
            };
            accepted.for_each_concurrent(None, serve).await;
        });
        Self {
            port,
            asked,
            _tasks: tasks,
        }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

struct Question {
    /// Id.
    id: [u8; 2],
    name: String,
    kind: u16,
    /// The name, type and class as they came.
    bytes: Vec<u8>,
}

impl Question {
    fn parse(message: &[u8]) -> Self {
        let (mut name, mut at) = (String::new(), 12);
        while message[at] != 0 {
            let end = at + 1 + usize::from(message[at]);
            name += &String::from_utf8_lossy(&message[at + 1..end]).to_lowercase();
            name.push('.');
            at = end;
        }
        Self {
            id: [message[0], message[1]],
            name,
            kind: u16::from_be_bytes([message[at + 1], message[at + 2]]),
            bytes: message[12..at + 5].to_vec(),
        }
    }

    fn answer(&self, names: &BTreeMap<String, Says>, over_tcp: bool) -> Option<Vec<u8>> {
        let says = names.get(&self.name).unwrap_or(&NO_SUCH_NAME);
        let (addresses, code, flags): (&[&str], u8, u8) = match says {
            Says::Nothing => return None,
            Says::Addresses(addresses) => (addresses, 0, 0),
            Says::Truncated(addresses) if over_tcp => (addresses, 0, 0),
            Says::Truncated(_) => (&[], 0, TRUNCATED),
            Says::Code(code) => (&[], *code, 0),
        };
        let data: Vec<Vec<u8>> = addresses
            .iter()
            .map(|address| match address.parse().unwrap() {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            })
            .filter(|data| (data.len() == 4) == (self.kind == A))
            .collect();
        let mut message = self.id.to_vec();
        message.extend([0x81 | flags, 0x80 | code, 0, 1, 0]);
        message.push(u8::try_from(data.len()).unwrap());
        message.extend([0; 4]);
        message.extend(&self.bytes);
        for data in data {
            // The name of the question, its type, the internet, a minute.
            message.extend([0xc0, 12]);
            message.extend(self.kind.to_be_bytes());
            message.extend([0, 1, 0, 0, 0, 60, 0]);
            message.push(u8::try_from(data.len()).unwrap());
            message.extend(data);
        }
        Some(message)
    }
}

/// Files with these texts.
fn names(hosts: &str, resolv_conf: &str, port: u16) -> (tempfile::TempDir, Names) {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let names = Names {
        hosts: file("hosts", hosts),
        resolv_conf: file("resolv.conf", resolv_conf),
        hostname: file("hostname", "node\n"),
        port,
    };
    (directory, names)
}

async fn ips(names: &Names, name: &str) -> Vec<String> {
    let ips = names.lookup(name).await.unwrap();
    ips.iter().map(ToString::to_string).collect()
}

async fn refusal(names: &Names, name: &str) -> String {
    names.lookup(name).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_name_server_knows_what_the_hosts_file_does_not() {
    let known = [
        (
            "web.example.org.",
            Says::Addresses(&["fd00::7", "10.9.8.7"]),
        ),
        ("six.example.org.", Says::Addresses(&["fd00::8"])),
        ("here.example.org.", Says::Addresses(&["10.0.0.1"])),
    ];
    let server = Server::start("127.0.0.1", 0, &known).await;
    let hosts = "10.1.1.1 here.example.org # \u{e9}\n";
    let (_files, names) = names(hosts, "nameserver 127.0.0.1\n", server.port);
    assert_eq!(ips(&names, "here.example.org").await, ["10.1.1.1"]);
    assert_eq!(ips(&names, "10.2.2.2").await, ["10.2.2.2"]);
    assert_eq!(ips(&names, "localhost").await, ["127.0.0.1"]);
    assert!(server.asked().is_empty());
    assert_eq!(
        ips(&names, "Web.example.org").await,
        ["10.9.8.7", "fd00::7"]
    );
    assert_eq!(ips(&names, "six.example.org.").await, ["fd00::8"]);
    fs::write(&names.hosts, "10.3.3.3 web.example.org\n").unwrap();
    assert_eq!(ips(&names, "web.example.org").await, ["10.3.3.3"]);
}

#[tokio::test]
async fn names_are_completed_and_refused_in_the_words_of_go() {
    let known = [("web.b.example.", Says::Addresses(&["10.9.8.7"]))];
    let server = Server::start("127.0.0.1", 0, &known).await;
    let config = "nameserver 127.0.0.1\nsearch a.example b.example\n";
    let (_files, names) = names("", config, server.port);
    assert_eq!(ips(&names, "web").await, ["10.9.8.7"]);
    assert_eq!(server.asked(), ["web.a.example.", "web.b.example."]);
    let port = server.port;
    assert_eq!(
        refusal(&names, "nowhere").await,
        format!("lookup nowhere on 127.0.0.1:{port}: no such host")
    );
    assert_eq!(server.asked().len(), 5);
    assert_eq!(refusal(&names, "a b").await, "lookup a b: no such host");
    assert_eq!(server.asked().len(), 5);
}

#[tokio::test]
async fn a_server_that_fails_is_followed_by_the_next_as_often_as_configured() {
    let failing = [
        ("web.example.", SERVER_FAILURE),
        ("down.example.", SERVER_FAILURE),
        ("slow.example.", Says::Nothing),
    ];
    let first = Server::start("127.0.0.1", 0, &failing).await;
    let known = [
        ("web.example.", Says::Addresses(&["10.9.8.7"])),
        ("down.example.", SERVER_FAILURE),
        ("slow.example.", Says::Addresses(&["10.9.8.6"])),
    ];
    let second = Server::start("127.0.0.2", first.port, &known).await;
    let config = "nameserver 127.0.0.1\nnameserver 127.0.0.2\noptions timeout:1\n";
    let (_files, names) = names("", config, first.port);
    assert_eq!(ips(&names, "web.example").await, ["10.9.8.7"]);
    assert_eq!(ips(&names, "slow.example").await, ["10.9.8.6"]);
    let before = (first.asked().len(), second.asked().len());
    let port = first.port;
    assert_eq!(
        refusal(&names, "down.example").await,
        format!("lookup down.example on 127.0.0.2:{port}: server misbehaving")
    );
    assert_eq!(first.asked().len() - before.0, 2);
    assert_eq!(second.asked().len() - before.1, 2);
}

#[tokio::test]
async fn a_server_that_says_nothing_is_not_waited_for_without_end() {
    let server = Server::start("127.0.0.1", 0, &[("web.", Says::Nothing)]).await;
    let config = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n";
    let (_files, names) = names("", config, server.port);
    let refusal = tokio::time::timeout(Duration::from_secs(20), refusal(&names, "web")).await;
    let port = server.port;
    assert_eq!(
        refusal.unwrap(),
        format!("lookup web on 127.0.0.1:{port}: i/o timeout")
    );
}

#[tokio::test]
async fn what_has_no_room_in_udp_comes_over_tcp() {
    let known = [("web.", Says::Truncated(&["10.9.8.7", "fd00::7"]))];
    let server = Server::start("127.0.0.1", 0, &known).await;
    let (_files, names) = names("", "nameserver 127.0.0.1\n", server.port);
    assert_eq!(ips(&names, "web").await, ["10.9.8.7", "fd00::7"]);
    let known = [("web.", Says::Addresses(&["10.9.8.7"]))];
    let server = Server::start("127.0.0.1", 0, &known).await;
    let config = "nameserver 127.0.0.1\noptions use-vc\n";
    let (_files, names) = self::names("", config, server.port);
    assert_eq!(ips(&names, "web").await, ["10.9.8.7"]);
    assert!(server.asked().is_empty());
}
