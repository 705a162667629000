//! The same over TLS.

use std::{fs, path::PathBuf, process::Command, sync::Arc};

use bytes::Bytes;
use streaming::{
    Exec, Outcome, Request, Tls, TlsError, TlsFiles,
    client::{self, Target, Transport},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    },
};

use crate::harness::{Harness, SOON, TRANSPORTS, finish, wanted};

/// A certificate that has signed itself, and its key.
struct Identity {
    certificate: PathBuf,
    key: PathBuf,
}

impl Identity {
    #[expect(clippy::disallowed_methods, reason = "tests may start programs")]
    fn make(directory: &TempDir, name: &str) -> Self {
        let at = |end: &str| directory.path().join(format!("{name}.{end}"));
        let config = format!(
            "[req]\ndistinguished_name=dn\nprompt=no\nx509_extensions=v3\n[dn]\nCN={name}\n\
             [v3]\nsubjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n"
        );
        fs::write(at("conf"), config).unwrap();
        let made = Command::new("openssl")
            .args(["req", "-x509", "-nodes", "-days", "2"])
            .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .arg("-config")
            .arg(at("conf"))
            .arg("-keyout")
            .arg(at("key"))
            .arg("-out")
            .arg(at("pem"))
            .output()
            .expect("openssl is missing: run .ci/install-engine");
        assert!(made.status.success(), "{made:?}");
        Self {
            certificate: at("pem"),
            key: at("key"),
        }
    }

    fn server(&self, client_ca: Option<&Self>) -> TlsFiles {
        TlsFiles {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            client_ca: client_ca.map(|ca| ca.certificate.clone()),
        }
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from_pem_file(&self.certificate).unwrap()]
    }
}

async fn harness(files: TlsFiles) -> Harness {
    let tls = Tls::load(&files).unwrap();
    Harness::with(|config| config.tls = Some(tls)).await
}

/// A connection that trusts `server`, with a certificate if the client has one.
async fn connect(
    harness: &Harness,
    server: &Identity,
    own: Option<&Identity>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(server.chain());
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let key = PrivateKeyDer::from_pem_file(&own.key).unwrap();
            builder.with_client_auth_cert(own.chain(), key).unwrap()
        }
    };
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let tcp = harness.connect().await;
    TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
}

fn target(harness: &Harness, command: &[&str]) -> Target {
    let request = Request::Exec(Exec {
        container: "c".to_owned(),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        wanted: wanted("stdin stdout"),
    });
    let url = harness.urls.insert(request).unwrap();
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    Target::from_url(&url).unwrap()
}

/// Sends a line and more than fits any buffer through `cat`.
async fn cat(harness: &Harness, io: TlsStream<TcpStream>, transport: Transport) {
    let target = target(harness, &["cat"]);
    let opened = client::remote_command(io, &target, transport, wanted("stdin stdout"));
    let (mut command, running) = opened.await.unwrap();
    harness.tasks.spawn_job("client", async move {
        let _ = running.await;
    });
    let stdin = command.stdin.take().unwrap();
    let large = Bytes::from(vec![b'x'; 300_000]);
    let send = async {
        stdin.write(large.clone()).await.unwrap();
        stdin.write(Bytes::from_static(b"end\n")).await.unwrap();
    };
    let ((), (out, _, outcome)) = tokio::join!(send, finish(command));
    assert_eq!(outcome, Outcome::Success, "{transport:?}");
    assert_eq!(out.len(), large.len() + 4, "{transport:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_transport_works_over_tls() {
    let directory = tempfile::tempdir().unwrap();
    let server = Identity::make(&directory, "server");
    let harness = harness(server.server(None)).await;
    for transport in TRANSPORTS {
        let io = connect(&harness, &server, None).await.unwrap();
        cat(&harness, io, transport).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_authority_only_its_clients_come_in() {
    let directory = tempfile::tempdir().unwrap();
    let [server, known, stranger] =
        ["server", "known", "stranger"].map(|name| Identity::make(&directory, name));
    let harness = harness(server.server(Some(&known))).await;
    let io = connect(&harness, &server, Some(&known)).await.unwrap();
    cat(&harness, io, TRANSPORTS[3]).await;
    for own in [None, Some(&stranger)] {
        // With TLS 1.3 the refusal comes behind the client's last word: the first read tells.
        let refused = match connect(&harness, &server, own).await {
            Err(_) => true,
            Ok(mut io) => {
                let mut byte = [0];
                let read = tokio::time::timeout(SOON, io.read(&mut byte));
                !matches!(read.await.unwrap(), Ok(1..))
            }
        };
        assert!(refused, "stranger: {}", own.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_without_tls_is_turned_away() {
    let directory = tempfile::tempdir().unwrap();
    let server = Identity::make(&directory, "server");
    let harness = harness(server.server(None)).await;
    let mut io = harness.connect().await;
    io.write_all(b"GET /cri/exec/abcdefgh HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(SOON, io.read_to_end(&mut answer));
    // An alert of TLS or a reset: nothing of HTTP.
    drop(read.await.unwrap());
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[test]
fn unusable_files_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(|name| Identity::make(&directory, name));
    let empty = directory.path().join("empty");
    fs::write(&empty, "no PEM\n").unwrap();
    let missing = directory.path().join("missing");
    let files = |certificate: &PathBuf, key: &PathBuf, client_ca: Option<&PathBuf>| TlsFiles {
        certificate: certificate.clone(),
        key: key.clone(),
        client_ca: client_ca.cloned(),
    };
    let (cert, key) = (&one.certificate, &one.key);
    let error = |files| Tls::load(&files).unwrap_err();
    assert!(
        matches!(error(files(&missing, key, None)), TlsError::Read { path, .. } if path == missing)
    );
    assert!(matches!(error(files(&empty, key, None)), TlsError::Empty(path) if path == empty));
    assert!(
        matches!(error(files(cert, &empty, None)), TlsError::Pem { path, .. } if path == empty)
    );
    assert!(matches!(
        error(files(cert, &other.key, None)),
        TlsError::Pair { .. }
    ));
    assert!(
        matches!(error(files(cert, key, Some(&empty))), TlsError::Empty(path) if path == empty)
    );
    Tls::load(&files(cert, key, Some(cert))).unwrap();
}
