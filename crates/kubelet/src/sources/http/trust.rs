//! Whom `https` trusts: the system's roots, found as Go finds them (`crypto/x509`, `loadSystemRoots`): the
//! first file of a list that can be read, and every file of the directories; `SSL_CERT_FILE` and
//! `SSL_CERT_DIR` name others.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use tokio_rustls::rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

/// Where distributions keep the roots in one file.
const FILES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// And where one by one.
const DIRECTORIES: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];

/// Files and directories with certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TrustStores {
    files: Vec<PathBuf>,
    directories: Vec<PathBuf>,
}

impl TrustStores {
    /// The system's, or what `SSL_CERT_FILE` and `SSL_CERT_DIR` (between colons) say in their place.
    pub(crate) fn new(file: Option<OsString>, directories: Option<OsString>) -> Self {
        let paths = |all: &[&str]| all.iter().map(PathBuf::from).collect();
        let set = |value: Option<OsString>| value.filter(|value| !value.is_empty());
        Self {
            files: set(file).map_or_else(|| paths(&FILES), |file| vec![file.into()]),
            directories: set(directories).map_or_else(
                || paths(&DIRECTORIES),
                |value| std::env::split_paths(&value).collect(),
            ),
        }
    }

    /// The certificates that are there now. Blocks.
    pub(super) fn roots(&self) -> RootCertStore {
        let mut found = BTreeSet::new();
        let mut take = |path: &Path| {
            let Ok(text) = fs::read(path) else {
                return false;
            };
            // One that cannot be read takes nothing from the others.
            let certificates = CertificateDer::pem_slice_iter(&text).filter_map(Result::ok);
            found.extend(certificates.map(|certificate| certificate.to_vec()));
            true
        };
        let _ = self.files.iter().any(|file| take(file));
        let entries = self
            .directories
            .iter()
            .filter_map(|path| fs::read_dir(path).ok());
        for entry in entries.flatten().flatten() {
            // Not a FIFO, which would keep us waiting.
            if entry.path().is_file() {
                take(&entry.path());
            }
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.into_iter().map(CertificateDer::from));
        roots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A self-signed certificate for tests; nobody has its key any more.
    const CERTIFICATE: &str = include_str!("trust/test-ca.pem");

    #[test]
    fn variables_take_the_place_of_the_systems_stores() {
        let named = TrustStores::new(Some("/f".into()), Some("/a:/b".into()));
        assert_eq!(named.files, [PathBuf::from("/f")]);
        assert_eq!(named.directories, [PathBuf::from("/a"), "/b".into()]);
        let system = TrustStores::new(Some("".into()), None);
        assert_eq!(system.files[0], Path::new(FILES[0]));
        assert_eq!(system.directories[0], Path::new(DIRECTORIES[0]));
    }

    #[test]
    fn certificates_of_files_and_directories_are_trusted_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let (file, certs) = (path.join("bundle"), path.join("certs"));
        fs::create_dir(&certs).unwrap();
        let count = || {
            TrustStores::new(Some(file.clone().into()), Some(certs.clone().into()))
                .roots()
                .len()
        };
        assert_eq!(count(), 0);
        fs::write(certs.join("mine.crt"), CERTIFICATE).unwrap();
        fs::write(certs.join("README"), "no certificate").unwrap();
        assert_eq!(count(), 1, "a directory's");
        fs::write(&file, CERTIFICATE).unwrap();
        assert_eq!(count(), 1, "the same one again");
        fs::remove_dir_all(&certs).unwrap();
        assert_eq!(count(), 1, "a file's");
    }
}
