//! Holds `COMPATIBILITY.md` to the code. Its tables of flags, fields, options and CRI calls stand
//! between markers and are made here, from the tables that the programs work with and from what
//! the binary answers.
//!
//! `BLESS=1 cargo test -p berth --test compatibility` writes them anew.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use cri_api::Endpoint;
use futures_util::future::join_all;
use http::uri::PathAndQuery;
use tonic::{Code, Request, client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;

const PROTOCOL: &str = include_str!("../../cri-api/proto/runtime.proto");

/// Flags of cri-dockerd that are not simply upstream's.
const CRI_DOCKERD_NOTES: &[(&str, &str)] = &[
    (
        "bridge-network",
        "ours: a user-defined network, made where it is missing; Docker's resolver answers there",
    ),
    (
        "cni-bin-dir",
        "supported; changes are noticed; `loopback` is not required",
    ),
    (
        "cni-cache-dir",
        "supported; files of upstream and of CNI's library are read and written",
    ),
    (
        "cni-conf-dir",
        "supported; changes are noticed by inotify, SIGHUP looks again",
    ),
    (
        "cni-fallback",
        "ours (DEC-20): `bridge` where the directory has no configuration at all",
    ),
    (
        "container-runtime-endpoint",
        "supported; a bare path too; `fd://NAME` is refused",
    ),
    (
        "hairpin-mode",
        "checked; without effect (kubenet only upstream)",
    ),
    (
        "ipv6-dual-stack",
        "read, without effect: always both families",
    ),
    (
        "network-plugin",
        "`cni`, and empty or `no-op` for Docker's bridge; kubenet is refused",
    ),
    (
        "network-plugin-mtu",
        "read, without effect (kubenet only upstream)",
    ),
    (
        "pod-cidr",
        "supported, as UpdateRuntimeConfig: `ipRanges` of CNI; both families with a comma",
    ),
    ("runtime-cgroups", "read, without effect"),
    (
        "streaming-bind-addr",
        "supported; empty is 127.0.0.1 and any port (upstream: all interfaces)",
    ),
    (
        "streaming-client-ca-file",
        "ours: only clients with a certificate that it signed may use streaming URLs",
    ),
    (
        "streaming-tls-cert-file",
        "ours: streaming over TLS, URLs of `https`; upstream has none",
    ),
    (
        "streaming-tls-private-key-file",
        "ours: goes with the certificate",
    ),
    ("version", "supported; the text is our own version"),
];

#[test]
fn tables_say_what_the_code_does() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let sections = [
        (
            "manifest fields",
            kubelet_core::manifest::manifest_fields_markdown(),
        ),
        ("kubelet flags", kubelet_config::flags_markdown()),
        ("kubelet fields", kubelet_config::fields_markdown()),
        ("cri-dockerd flags", cri_dockerd_flags()),
        ("concurrently options", concurrently_options()),
        ("CRI calls", runtime.block_on(cri_calls())),
        ("differences", differences()),
    ];
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../COMPATIBILITY.md");
    let old = fs::read_to_string(&path).unwrap();
    let new = sections
        .iter()
        .fold(old.clone(), |text, (name, table)| fill(&text, name, table));
    #[expect(clippy::disallowed_methods, reason = "how generated files are blessed")]
    if std::env::var("BLESS").is_ok() {
        fs::write(&path, new).unwrap();
        return;
    }
    for (number, (was, is)) in old.lines().zip(new.lines()).enumerate() {
        assert_eq!(
            was,
            is,
            "COMPATIBILITY.md:{}: run this test with BLESS=1",
            number + 1
        );
    }
    assert_eq!(
        old.len(),
        new.len(),
        "COMPATIBILITY.md: run this test with BLESS=1"
    );
}

/// Headings of the troubleshooting page quote messages; `…` in them stands for what varies.
#[test]
fn troubleshooting_quotes_messages_that_the_code_has() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    for entry in fs::read_dir(root.join("crates")).unwrap() {
        sources(&entry.unwrap().path().join("src"), &mut files);
    }
    let code: String = files
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    // A backslash at the end of a line joins a text to its next line.
    let code = code.split("\\\n").map(str::trim_start).collect::<String>();
    let page = fs::read_to_string(root.join("docs/TROUBLESHOOTING.md")).unwrap();
    let quotes = page
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .flat_map(|heading| heading.split('`').skip(1).step_by(2));
    for part in quotes.flat_map(|quote| quote.split('…')).map(str::trim) {
        assert!(code.contains(part), "no source has the message {part:?}");
    }
}

/// What answers a complaint is tested, and the test is named.
#[test]
fn complaints_name_tests_that_exist() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    for entry in fs::read_dir(root.join("crates")).unwrap() {
        for part in ["src", "tests"] {
            rust_files(&entry.as_ref().unwrap().path().join(part), &mut files);
        }
    }
    let code: String = files
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    let page = fs::read_to_string(root.join("docs/COMPLAINTS.md")).unwrap();
    let rows: Vec<_> = page
        .lines()
        .filter(|line| line.starts_with("| CMP-"))
        .collect();
    assert_eq!(rows.len(), 23);
    let tests = rows
        .iter()
        .flat_map(|row| {
            row.rsplit('|')
                .nth(1)
                .unwrap()
                .split('`')
                .skip(1)
                .step_by(2)
        })
        .filter(|name| name.contains('_'));
    for test in tests {
        assert!(
            code.contains(&format!("fn {test}(")),
            "there is no test {test}"
        );
    }
}

/// Puts a table between its markers.
fn fill(text: &str, name: &str, table: &str) -> String {
    let start = format!("<!-- generated: {name} -->\n");
    let end = "<!-- end -->\n";
    let (head, rest) = text
        .split_once(&start)
        .unwrap_or_else(|| panic!("COMPATIBILITY.md has no line {start:?}"));
    let (_, tail) = rest
        .split_once(end)
        .unwrap_or_else(|| panic!("{name}: no line {end:?}"));
    format!("{head}{start}{table}{end}{tail}")
}

fn cri_dockerd_flags() -> String {
    let mut notes: BTreeMap<&str, &str> = CRI_DOCKERD_NOTES.iter().copied().collect();
    let mut out = String::from("| flag | default | status |\n|---|---|---|\n");
    for flag in cri_dockerd::command_line().flags() {
        let note = notes.remove(flag.name).unwrap_or("supported");
        writeln!(
            out,
            "| `--{}` | {} | {note} |",
            flag.name,
            code(flag.default)
        )
        .unwrap();
    }
    assert!(notes.is_empty(), "notes for flags that are gone: {notes:?}");
    out
}

fn concurrently_options() -> String {
    use concurrently::{FLAGS, ValueKind};
    let mut out = String::from("| option | value | what it does |\n|---|---|---|\n");
    for flag in FLAGS {
        let letters = flag.letters.iter().map(|letter| format!("`-{letter}`"));
        let names = std::iter::once(flag.name).chain(flag.aliases.iter().copied());
        let spellings: Vec<String> = letters
            .chain(names.map(|name| format!("`--{name}`")))
            .collect();
        let value = match flag.value {
            ValueKind::Switch => "",
            ValueKind::One(hint) => hint,
            ValueKind::Each(hint) => &format!("{hint}, repeatable"),
            ValueKind::Colour => "with `=` only",
        };
        writeln!(
            out,
            "| {} | {value} | {} |",
            spellings.join(", "),
            escape(flag.text)
        )
        .unwrap();
    }
    out
}

/// Every comment of the sources that starts with "Differs" (style 2.9), by crate.
fn differences() -> String {
    let crates = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for entry in fs::read_dir(&crates).unwrap() {
        sources(&entry.unwrap().path().join("src"), &mut files);
    }
    files.sort();
    let mut out = String::from("| where | what differs |\n|---|---|\n");
    for file in files {
        let place = file.strip_prefix(&crates).unwrap().display().to_string();
        let place = place.replace("/src/", ": ").replace(".rs", "");
        for text in differences_in(&fs::read_to_string(&file).unwrap()) {
            writeln!(out, "| {place} | {} |", text.replace('|', "\\|")).unwrap();
        }
    }
    out
}

/// The Rust files below a directory, without the modules that are tests.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    let mut all = Vec::new();
    rust_files(directory, &mut all);
    let is_test = |path: &Path| {
        let below = path.strip_prefix(directory).unwrap();
        below.ends_with("tests.rs") || below.iter().any(|part| part == "tests")
    };
    found.extend(all.into_iter().filter(|path| !is_test(path)));
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// What follows "Differs" in a comment, up to the end of its paragraph or the next "Differs"; before
/// it the sentence that it belongs to.
fn differences_in(source: &str) -> Vec<String> {
    let mut differences = Vec::new();
    for paragraph in paragraphs(source) {
        // The word in quotes is somebody talking about this rule.
        let parts: Vec<&str> = paragraph.split("Differs").collect();
        for pair in parts.windows(2).filter(|pair| !pair[0].ends_with('"')) {
            let is_first = std::ptr::eq(pair[0], parts[0]);
            let context = pair[0].trim_end_matches([' ', '(', ';']).trim_end();
            let sentence = context
                .trim_end_matches('.')
                .rsplit(". ")
                .next()
                .unwrap_or_default();
            let text = pair[1].trim_start_matches([':', ',', ' ']).trim_end();
            differences.push(if is_first && !sentence.is_empty() {
                format!("{sentence}. **Differs:** {text}")
            } else {
                format!("**Differs:** {text}")
            });
        }
    }
    differences
        .iter()
        .map(|text| text.replace(['[', ']'], ""))
        .collect()
}

/// The paragraphs and list items of a source's comments.
fn paragraphs(source: &str) -> Vec<String> {
    let mut paragraphs = vec![String::new()];
    for line in source.lines() {
        let comment = line.trim_start().strip_prefix("//");
        let text = comment.map_or("", |text| text.trim_start_matches(['/', '!']).trim());
        if text.is_empty() || text.starts_with("```") || text.starts_with("- ") {
            paragraphs.push(String::new());
        }
        if let Some(paragraph) = paragraphs.last_mut().filter(|_| !text.is_empty()) {
            if !paragraph.is_empty() {
                paragraph.push(' ');
            }
            paragraph.push_str(text.trim_start_matches("- "));
        }
    }
    paragraphs
}

/// Calls everything that the protocol has, empty-handed, on a cri-dockerd without Docker: what is
/// not there answers Unimplemented, the rest anything else or nothing for a while.
async fn cri_calls() -> String {
    let server = CriDockerd::start();
    let channel = server.connect().await;
    let calls = calls().into_iter().map(|(service, call)| {
        let channel = channel.clone();
        async move {
            let limit = Duration::from_secs(5);
            let asked = tokio::time::timeout(limit, ask(channel, service, call)).await;
            let status = match asked {
                Ok(Err(status)) if status.code() == Code::Unimplemented => match status.message() {
                    "" => "Unimplemented: the service is not there yet".to_owned(),
                    why => format!("Unimplemented: {}", escape(why)),
                },
                _ => "supported".to_owned(),
            };
            format!("| {service} | {call} | {status} |\n")
        }
    });
    let rows = join_all(calls).await.concat();
    format!("| service | call | status |\n|---|---|---|\n{rows}")
}

/// Service and name of every call, in the order of the protocol.
fn calls() -> Vec<(&'static str, &'static str)> {
    let mut service = "";
    let mut calls = Vec::new();
    for line in PROTOCOL.lines().map(str::trim) {
        let name = |rest: &'static str| rest.split([' ', '(', '{']).next().unwrap_or_default();
        if let Some(rest) = line.strip_prefix("service ") {
            service = name(rest);
        } else if let Some(rest) = line.strip_prefix("rpc ") {
            calls.push((service, name(rest)));
        }
    }
    assert_eq!(calls.len(), 35, "CRI v1 of Kubernetes 1.34 has 35 calls");
    calls
}

/// The answer up to its first byte; an empty message is a valid one of every type.
async fn ask(channel: Channel, service: &str, call: &str) -> Result<(), tonic::Status> {
    let mut client = Grpc::new(channel);
    client
        .ready()
        .await
        .map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::try_from(format!("/runtime.v1.{service}/{call}")).unwrap();
    let codec = ProstCodec::<(), ()>::default();
    client
        .server_streaming(Request::new(()), path, codec)
        .await
        .map(drop)
}

/// The program, with a directory of its own and no Docker.
struct CriDockerd {
    process: Child,
    directory: tempfile::TempDir,
}

impl CriDockerd {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        #[expect(clippy::disallowed_methods, reason = "a test runs the program")]
        let process = Command::new(env!("CARGO_BIN_EXE_berth"))
            .args(["cri-dockerd", "--network-plugin="])
            .arg(format!(
                "--container-runtime-endpoint=unix://{}",
                path("cri.sock")
            ))
            .arg(format!(
                "--docker-endpoint=unix://{}",
                path("no-docker.sock")
            ))
            .arg(format!("--cri-dockerd-root-directory={}", path("root")))
            .stdin(Stdio::null())
            .stderr(fs::File::create(path("log")).unwrap())
            .spawn()
            .unwrap();
        Self { process, directory }
    }

    async fn connect(&self) -> Channel {
        let socket = self.directory.path().join("cri.sock");
        let endpoint = Endpoint::parse(&socket.display().to_string()).unwrap();
        let log = self.directory.path().join("log");
        testkit::eventually_async(Duration::from_secs(20), async || {
            cri_api::connect(&endpoint).await.map_err(|error| {
                format!("{error}; {}", fs::read_to_string(&log).unwrap_or_default())
            })
        })
        .await
    }
}

impl Drop for CriDockerd {
    fn drop(&mut self) {
        // Gone already: as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn code(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!("`{text}`")
    }
}

/// Text for a cell.
fn escape(text: &str) -> String {
    text.replace('|', "\\|")
        .replace('<', "&lt;")
        .replace('*', "\\*")
}
