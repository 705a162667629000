//! The node's own registry credentials, for pulls of the sandbox image that no kubelet gives
//! credentials for (SBX-02). Source of behaviour: the Kubernetes credential keyring. Credential
//! helpers are not run.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use names::registry;
use serde::Deserialize;

use super::{pull::user_and_password, reference::Reference};
use crate::engine::RegistryAuth;

/// Docker Hub under the name it has in credential files.
const HUB: &str = "index.docker.io";
/// Larger files are not read.
const MAX_FILE_BYTES: u64 = 1 << 20;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default, deserialize_with = "crate::engine::model::null_default")]
    auths: BTreeMap<String, Entry>,
}

/// Credentials by registry, the most specific first.
#[derive(Debug, Default)]
pub(super) struct Keyring(Vec<(String, RegistryAuth)>);

impl Keyring {
    /// Reads the first credential file that can be read: `config.json` in the working directory,
    /// `<home>/.docker` and `/.docker`, then `.dockercfg` in the working directory, `<home>` and
    /// `/`. None, or none that makes sense: an empty keyring. Blocks.
    pub(super) fn load(home: Option<&Path>) -> Self {
        let places = |name: &str, below: &str| -> Vec<PathBuf> {
            let home = home.map(|home| home.join(below).join(name));
            [
                Some(Path::new(name).to_owned()),
                home,
                Some(Path::new("/").join(below).join(name)),
            ]
            .into_iter()
            .flatten()
            .collect()
        };
        let read = |path: &Path| {
            let small = fs::metadata(path).is_ok_and(|file| file.len() <= MAX_FILE_BYTES);
            small.then(|| fs::read(path).ok()).flatten()
        };
        for path in places("config.json", ".docker") {
            if let Some(keyring) = read(&path).and_then(|bytes| Self::parse(&bytes)) {
                return keyring;
            }
        }
        for path in places(".dockercfg", "") {
            if let Some(keyring) = read(&path).and_then(|bytes| Self::parse_old(&bytes)) {
                return keyring;
            }
        }
        Self::default()
    }

    /// Reads `config.json`.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let config: Config = serde_json::from_slice(bytes).ok()?;
        Some(Self::new(config.auths))
    }

    /// Reads `.dockercfg`.
    pub(super) fn parse_old(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().map(Self::new)
    }

    fn new(entries: BTreeMap<String, Entry>) -> Self {
        let mut all: Vec<_> = entries
            .into_iter()
            .map(|(server, entry)| {
                let decoded = user_and_password(&entry.auth);
                let (username, password) = decoded.unwrap_or((entry.username, entry.password));
                let auth = RegistryAuth {
                    username,
                    password,
                    identitytoken: entry.identitytoken,
                    // No `serveraddress`, as upstream: an entry may be a pattern, and containerd's
                    // image store keeps credentials from all hosts but the one that it names.
                    ..RegistryAuth::default()
                };
                (registry::key(&server), auth)
            })
            .collect();
        // Longer paths of one registry come first this way round.
        all.sort_by(|(a, _), (b, _)| b.cmp(a));
        Self(all)
    }

    /// All credentials for an image, to be tried in turn.
    pub(super) fn lookup(&self, image: &Reference) -> Vec<RegistryAuth> {
        let name = format!("{}/{}", image.domain, image.path);
        let all = |is_for: &dyn Fn(&str) -> bool| -> Vec<RegistryAuth> {
            let found = self.0.iter().filter(|(key, _)| is_for(key));
            found.map(|(_, auth)| auth.clone()).collect()
        };
        let found = all(&|key| registry::covers(key, &name));
        if found.is_empty() && image.domain == "docker.io" {
            return all(&|key| key == HUB);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(keyring: &Keyring, image: &str) -> Vec<String> {
        let found = keyring.lookup(&Reference::parse(image).unwrap());
        found.into_iter().map(|auth| auth.username).collect()
    }

    #[test]
    fn matching_credentials_come_the_most_specific_first() {
        let keyring = Keyring::parse(
            br#"{"auths":{
                "https://index.docker.io/v1/":{"auth":"aHViOng="},
                "r.io":{"username":"all","password":"x"},
                "r.io/team":{"username":"team","password":"x"},
                "*.gcr.io":{"username":"any","password":"x"},
                "*-docker.pkg.*":{"username":"part","password":"x"},
                "*.dkr.*-*.example.com":{"username":"parts","password":"x"},
                "r.io:5000":{"identitytoken":"t"}
            },"credsStore":"ignored"}"#,
        )
        .unwrap();
        assert_eq!(users(&keyring, "nginx"), ["hub"]);
        assert_eq!(users(&keyring, "r.io/team/pause:3"), ["team", "all"]);
        assert_eq!(users(&keyring, "r.io/other"), ["all"]);
        assert_eq!(users(&keyring, "eu.gcr.io/pause"), ["any"]);
        assert_eq!(users(&keyring, "gcr.io/pause"), [""; 0]);
        let image = "1.dkr.eu-west-1.example.com/pause";
        assert_eq!(users(&keyring, image), ["parts"]);
        assert_eq!(users(&keyring, "eu-docker.pkg.dev/pause"), ["part"]);
        assert_eq!(users(&keyring, "r.io:5000/pause"), [""]);
    }

    #[test]
    fn credentials_are_for_the_registry_of_the_image_whatever_the_entry_is_called() {
        let file = br#"{"auths":{"*.gcr.io":{"username":"any"},"r.io/team":{"username":"team"}}}"#;
        let keyring = Keyring::parse(file).unwrap();
        for image in ["eu.gcr.io/pause", "r.io/team/pause"] {
            let found = keyring.lookup(&Reference::parse(image).unwrap());
            assert_eq!(found.len(), 1, "{image}");
            assert_eq!(found[0].serveraddress, "", "{image}");
        }
    }

    #[test]
    fn first_readable_file_wins_and_old_files_are_read() {
        let home = tempfile::tempdir().unwrap();
        assert!(Keyring::load(Some(home.path())).0.len() <= 1);
        fs::write(
            home.path().join(".dockercfg"),
            r#"{"r.io":{"auth":"b2xkOng="}}"#,
        )
        .unwrap();
        assert_eq!(users(&Keyring::load(Some(home.path())), "r.io/a"), ["old"]);
        fs::create_dir(home.path().join(".docker")).unwrap();
        fs::write(
            home.path().join(".docker/config.json"),
            r#"{"auths":{"r.io":{"auth":"bmV3Ong="}}}"#,
        )
        .unwrap();
        assert_eq!(users(&Keyring::load(Some(home.path())), "r.io/a"), ["new"]);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic(bytes: Vec<u8>) {
            let _ = (Keyring::parse(&bytes), Keyring::parse_old(&bytes));
        }
    }
}
