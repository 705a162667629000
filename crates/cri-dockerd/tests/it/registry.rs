//! A registry of our own: Debian's `docker-registry` with TLS and one user, on the address of the
//! engine's bridge. (Docker takes loopback for insecure: it would try again without TLS, and show the
//! failure of that.) Docker is told of the certificate by a file of this address and port alone.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use serde_json::json;
use testkit::{DockerEngine, eventually};

use crate::harness::SOON;

/// The user `user` with the password `right`, as bcrypt.
const HTPASSWD: &str = "user:$2y$05$abcdefghijklmnopqrstuu8xaCxxL82bnl.UY74PMksDxIJShppPC\n";
pub(crate) const USER: &str = "user";
pub(crate) const PASSWORD: &str = "right";

pub(crate) struct Registry {
    directory: tempfile::TempDir,
    process: Child,
    address: SocketAddr,
    /// Where Docker looks for certificates of registries, by their address.
    trusted: Vec<PathBuf>,
}

/// An address of the engine's bridge whose port was free a moment ago.
fn free_address(engine: &DockerEngine) -> SocketAddr {
    let bridge = engine.json("GET", "/networks/bridge", &serde_json::Value::Null);
    let gateway = bridge["IPAM"]["Config"][0]["Gateway"].as_str().unwrap();
    let listener = TcpListener::bind((gateway, 0)).unwrap();
    listener.local_addr().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "programs that the test needs")]
fn command(program: &str) -> Command {
    Command::new(program)
}

impl Registry {
    pub(crate) fn start(engine: &DockerEngine) -> Self {
        let address = free_address(engine);
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        let made = command("openssl")
            .args([
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            ])
            .args([
                "-subj",
                "/CN=registry",
                "-addext",
                &format!("subjectAltName=IP:{}", address.ip()),
            ])
            .args(["-keyout", &at("key.pem"), "-out", &at("cert.pem")])
            .stderr(Stdio::null())
            .status();
        let made = made.expect("openssl is missing: run .ci/install-engine");
        assert!(made.success());
        std::fs::write(at("htpasswd"), HTPASSWD).unwrap();
        let config = format!(
            "version: 0.1\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp:\n  addr: {address}\n  \
             tls: {{certificate: {}, key: {}}}\nauth:\n  htpasswd: {{realm: test, path: {}}}\n",
            at("data"),
            at("cert.pem"),
            at("key.pem"),
            at("htpasswd"),
        );
        std::fs::write(at("config.yml"), config).unwrap();
        let log = std::fs::File::create(at("log")).unwrap();
        let process = command("docker-registry")
            .args(["serve", &at("config.yml")])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("docker-registry is missing: run .ci/install-engine");
        eventually(SOON, || {
            TcpStream::connect(address).map_err(|error| {
                let log = std::fs::read_to_string(at("log")).unwrap_or_default();
                format!("{error}\n{log}")
            })
        });
        let mut registry = Self {
            directory,
            process,
            address,
            trusted: Vec::new(),
        };
        registry.trust(address);
        registry
    }

    /// Has Docker take the registry's certificate from this address.
    fn trust(&mut self, address: SocketAddr) {
        let directory = Path::new("/etc/docker/certs.d").join(address.to_string());
        std::fs::create_dir_all(&directory).unwrap();
        let certificate = self.directory.path().join("cert.pem");
        std::fs::copy(certificate, directory.join("ca.crt")).unwrap();
        self.trusted.push(directory);
    }

    /// Its address as part of an image's name.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// Makes an image with one layer of `bytes` bytes that don't compress, pushes it and removes it
    /// from the engine. Answers its name on `host`.
    pub(crate) fn publish(
        &self,
        engine: &DockerEngine,
        host: &str,
        name: &str,
        bytes: usize,
    ) -> String {
        let mut content = vec![0; bytes];
        std::fs::File::open("/dev/urandom")
            .unwrap()
            .read_exact(&mut content)
            .unwrap();
        let repository = format!("{}/{name}", self.host());
        let import = format!("/images/create?fromSrc=-&repo={repository}&tag=1");
        let tar = tar_of("content", &content);
        engine
            .request("POST", &import, Some(("application/x-tar", &tar)))
            .expect_success("import");
        // The client of the tests sends no headers: Docker's own does it.
        let socket = engine.host();
        let config = self.directory.path().join("docker");
        std::fs::create_dir_all(&config).unwrap();
        let plain = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
        let auths = json!({ "auths": { self.host(): { "auth": plain } } });
        std::fs::write(config.join("config.json"), auths.to_string()).unwrap();
        let pushed = command("docker")
            .args([
                "--config",
                config.to_str().unwrap(),
                "-H",
                &socket,
                "push",
                "-q",
                &format!("{repository}:1"),
            ])
            .output()
            .expect("docker's client is missing: run .ci/install-engine");
        assert!(pushed.status.success(), "{pushed:?}");
        engine
            .request("DELETE", &format!("/images/{repository}:1?force=1"), None)
            .expect_success("remove");
        format!("{host}/{name}:1")
    }

    /// Ends it where it stands.
    pub(crate) fn vanish(&mut self) {
        // It may be gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.vanish();
        for directory in &self.trusted {
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}

fn tar_of(name: &str, content: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(u64::try_from(content.len()).unwrap());
    header.set_mode(0o644);
    tar.append_data(&mut header, name, content).unwrap();
    tar.into_inner().unwrap()
}

/// Passes connections on to the registry, and no more than so many bytes from it in all.
pub(crate) struct Throttle {
    pub(crate) host: String,
    left: Arc<AtomicU64>,
}

impl Throttle {
    /// Passes `bytes` bytes of answers and then nothing, keeping the connections open.
    pub(crate) fn start(registry: &mut Registry, bytes: u64) -> Self {
        let listener = TcpListener::bind((registry.address.ip(), 0)).unwrap();
        let address = listener.local_addr().unwrap();
        registry.trust(address);
        let host = address.to_string();
        let left = Arc::new(AtomicU64::new(bytes));
        let (to, count) = (registry.host(), Arc::clone(&left));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&to) else {
                    continue;
                };
                let (mut from, mut into) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut into);
                    let _ = into.shutdown(Shutdown::Write);
                });
                let (mut from, mut into, left) = (server, client, Arc::clone(&count));
                std::thread::spawn(move || {
                    let mut buffer = [0; 16 * 1024];
                    while let Ok(size @ 1..) = from.read(&mut buffer) {
                        let wanted = u64::try_from(size).unwrap();
                        let taken = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                            left.checked_sub(wanted)
                        });
                        if taken.is_err() {
                            // Silent, and open for as long as the other side wants.
                            let _ = std::io::copy(&mut from, &mut std::io::sink());
                            return;
                        }
                        if into.write_all(&buffer[..size]).is_err() {
                            return;
                        }
                    }
                    let _ = into.shutdown(Shutdown::Write);
                });
            }
        });
        Self { host, left }
    }

    /// Lets all pass from now on, on new connections.
    pub(crate) fn open(&self) {
        self.left.store(u64::MAX, Ordering::SeqCst);
    }
}
