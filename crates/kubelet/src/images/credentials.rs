//! The node's registry credentials: Docker's `config.json` and `.dockercfg` (IMG-30, IMG-31).
//! Source of behaviour: Kubernetes `pkg/credentialprovider`.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use kubelet_core::image_name::Reference;
use names::registry;
use serde::Deserialize;
use tokio::time::Instant;

/// How long a file that was read is taken for current (IMG-30).
const CACHED: Duration = Duration::from_mins(5);
/// Largest credentials file, in bytes.
const MAX_BYTES: u64 = 10 * 1024 * 1024;
/// The key of Docker Hub.
const DOCKER_HUB: &str = "index.docker.io";
/// Docker writes padding, other tools leave it out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Who to be at a registry.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credential {
    pub(super) username: String,
    pub(super) password: String,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}

/// Credentials by registry, as one file has them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Keyring {
    /// By `host[:port][/path]`; looked through backwards, so that a longer path comes first.
    by_key: BTreeMap<String, Vec<Credential>>,
}

/// A credentials file that cannot be used. Never says what is in it.
#[derive(Debug, thiserror::Error)]
pub(super) enum CredentialsError {
    #[error("read")]
    Read(#[source] io::Error),
    #[error("more than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("not JSON of the expected form (line {line}, column {column})")]
    Json { line: usize, column: usize },
    #[error("auth of {registry:?} is not base64 of username:password")]
    Auth { registry: String },
}

#[derive(Deserialize)]
struct ConfigJson {
    auths: Option<BTreeMap<String, Entry>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    username: Option<String>,
    password: Option<String>,
    auth: Option<String>,
}

impl Keyring {
    /// Reads `config.json`.
    fn from_config_json(text: &[u8]) -> Result<Self, CredentialsError> {
        let file: ConfigJson = serde_json::from_slice(text).map_err(|error| json_error(&error))?;
        Self::from_entries(file.auths.unwrap_or_default())
    }

    /// Reads the older `.dockercfg`, which is the inner map alone.
    fn from_dockercfg(text: &[u8]) -> Result<Self, CredentialsError> {
        Self::from_entries(serde_json::from_slice(text).map_err(|error| json_error(&error))?)
    }

    fn from_entries(entries: BTreeMap<String, Entry>) -> Result<Self, CredentialsError> {
        let mut by_key: BTreeMap<String, Vec<Credential>> = BTreeMap::new();
        for (registry, entry) in entries {
            let credential = match entry.auth.filter(|auth| !auth.is_empty()) {
                Some(auth) => match decode(&auth) {
                    Some(credential) => credential,
                    None => return Err(CredentialsError::Auth { registry }),
                },
                None => Credential {
                    username: entry.username.unwrap_or_default(),
                    password: entry.password.unwrap_or_default(),
                },
            };
            // Docker leaves empty entries for what a credential helper keeps.
            if !credential.username.is_empty() || !credential.password.is_empty() {
                by_key
                    .entry(registry::key(&registry))
                    .or_default()
                    .push(credential);
            }
        }
        Ok(Self { by_key })
    }

    /// The credentials to try for an image, in order; none: pull without.
    ///
    /// Differs (IMG-30): credentials of Docker Hub are tried for images of Docker Hub only; upstream takes
    /// `localhost/app` for one of them, too.
    pub(super) fn look_up(&self, image: &Reference) -> Vec<Credential> {
        let name = image.name();
        let found: Vec<Credential> = self
            .by_key
            .iter()
            .rev()
            .filter(|(key, _)| registry::covers(key, &name))
            .flat_map(|(_, credentials)| credentials.clone())
            .collect();
        if found.is_empty() && (image.domain == "docker.io" || image.domain == DOCKER_HUB) {
            return self.by_key.get(DOCKER_HUB).cloned().unwrap_or_default();
        }
        found
    }
}

fn json_error(error: &serde_json::Error) -> CredentialsError {
    // The error's own text may quote the file.
    CredentialsError::Json {
        line: error.line(),
        column: error.column(),
    }
}

fn decode(auth: &str) -> Option<Credential> {
    let compact: String = auth.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let text = String::from_utf8(BASE64.decode(compact.trim()).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    Some(Credential {
        username: username.to_owned(),
        password: password.to_owned(),
    })
}

/// Where credentials are looked for.
#[derive(Debug, Clone)]
pub(crate) struct CredentialPaths {
    /// The kubelet's root directory: first.
    pub(crate) root: PathBuf,
    /// The working directory.
    pub(crate) working: PathBuf,
    /// The user's home, if there is one.
    pub(crate) home: Option<PathBuf>,
}

impl CredentialPaths {
    /// Files in the order in which they are tried, the newer form before the older.
    fn files(&self) -> Vec<(PathBuf, Format)> {
        let home = self.home.as_deref();
        let places = |in_home: Option<PathBuf>, in_root: &str| {
            [
                Some(self.root.clone()),
                Some(self.working.clone()),
                in_home,
                Some(in_root.into()),
            ]
        };
        let newer = places(home.map(|home| home.join(".docker")), "/.docker")
            .into_iter()
            .flatten()
            .map(|place| (place.join("config.json"), Format::ConfigJson));
        let older = places(home.map(Path::to_owned), "/")
            .into_iter()
            .flatten()
            .map(|place| (place.join(".dockercfg"), Format::Dockercfg));
        newer.chain(older).collect()
    }

    /// The first file that is there and can be read.
    fn load(&self) -> Keyring {
        for (path, format) in self.files() {
            match read(&path, format) {
                Ok(None) => {}
                Ok(Some(keyring)) => {
                    tracing::debug!(path = %path.display(), "registry credentials read");
                    return keyring;
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), error = %daemon::ErrorChain(&error),
                        "registry credentials cannot be used, looking further");
                }
            }
        }
        Keyring::default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    ConfigJson,
    Dockercfg,
}

fn read(path: &Path, format: Format) -> Result<Option<Keyring>, CredentialsError> {
    use io::Read;
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(CredentialsError::Read(error)),
    };
    let mut text = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(CredentialsError::Read)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(CredentialsError::TooLarge);
    }
    match format {
        Format::ConfigJson => Keyring::from_config_json(&text),
        Format::Dockercfg => Keyring::from_dockercfg(&text),
    }
    .map(Some)
}

/// The node's credentials, read when an image is pulled and then kept for five minutes.
#[derive(Debug)]
pub(super) struct NodeKeyring {
    paths: CredentialPaths,
    cached: Mutex<Option<(Instant, Arc<Keyring>)>>,
}

impl NodeKeyring {
    /// Reads nothing yet.
    pub(super) fn new(paths: CredentialPaths) -> Self {
        Self {
            paths,
            cached: Mutex::new(None),
        }
    }

    /// What is in force now.
    pub(super) async fn current(&self) -> Arc<Keyring> {
        let now = Instant::now();
        let known = self
            .cached
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some((read_at, keyring)) = known
            && now.saturating_duration_since(read_at) < CACHED
        {
            return keyring;
        }
        let paths = self.paths.clone();
        let keyring = Arc::new(daemon::blocking(move || paths.load()).await);
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((now, Arc::clone(&keyring)));
        keyring
    }
}

#[cfg(test)]
mod tests {
    use kubelet_core::image_name;

    use super::*;

    fn users(keyring: &Keyring, image: &str) -> Vec<String> {
        let reference = image_name::parse(image).unwrap();
        keyring
            .look_up(&reference)
            .into_iter()
            .map(|credential| credential.username)
            .collect()
    }

    fn keyring(keys: &[&str]) -> Keyring {
        let auths: BTreeMap<&str, serde_json::Value> = keys
            .iter()
            .map(|key| (*key, serde_json::json!({"username": key, "password": "p"})))
            .collect();
        let text = serde_json::json!({ "auths": auths }).to_string();
        Keyring::from_config_json(text.as_bytes()).unwrap()
    }

    #[test]
    fn entries_are_read_in_each_of_their_forms() {
        // "user:pass:word", with and without padding.
        for auth in ["dXNlcjpwYXNzOndvcmQ=", "dXNlcjpwYXNzOndvcmQ"] {
            let text = format!(r#"{{"auths": {{"a.io": {{"auth": "{auth}", "email": "x"}}}}}}"#);
            let keyring = Keyring::from_config_json(text.as_bytes()).unwrap();
            let found = keyring.look_up(&image_name::parse("a.io/x").unwrap());
            assert_eq!(
                (&*found[0].username, &*found[0].password),
                ("user", "pass:word")
            );
        }
        let keyring =
            Keyring::from_dockercfg(br#"{"a.io": {"username": "u", "password": "p"}}"#).unwrap();
        assert_eq!(users(&keyring, "a.io/x"), ["u"]);
        let store = br#"{"credsStore": "pass", "auths": {"a.io": {}}}"#;
        assert_eq!(
            users(&Keyring::from_config_json(store).unwrap(), "a.io/x"),
            [""; 0]
        );
    }

    #[test]
    fn broken_files_are_refused_without_quoting_them() {
        let error = Keyring::from_config_json(br#"{"auths": {"a.io": {"auth": "c2VjcmV0"}}}"#);
        let text = error.unwrap_err().to_string();
        assert_eq!(text, "auth of \"a.io\" is not base64 of username:password");
        let error = Keyring::from_config_json(br#"{"auths": {"a.io": {"password": 12345}}}"#);
        let text = error.unwrap_err().to_string();
        assert!(
            text.starts_with("not JSON") && !text.contains("12345"),
            "{text}"
        );
    }

    #[test]
    fn image_takes_the_keys_that_cover_it_longest_path_first() {
        let ring = keyring(&["a.io", "a.io/team", "a.io/team/app", "b.io", "a.io:5000"]);
        assert_eq!(
            users(&ring, "a.io/team/app:1"),
            ["a.io/team/app", "a.io/team", "a.io"]
        );
        assert_eq!(users(&ring, "a.io/other"), ["a.io"]);
        assert_eq!(users(&ring, "a.io:5000/x"), ["a.io:5000"]);
        assert_eq!(users(&ring, "c.io/x"), [""; 0]);
    }

    #[test]
    fn wildcards_stand_for_part_of_one_label() {
        let ring = keyring(&["*.dkr.*.example.com"]);
        assert_eq!(users(&ring, "1.dkr.eu.example.com/x").len(), 1);
        assert_eq!(users(&ring, "1.2.dkr.eu.example.com/x").len(), 0);
    }

    #[test]
    fn docker_hub_has_one_key_for_all_its_names() {
        let ring = keyring(&["https://index.docker.io/v1/"]);
        for image in [
            "nginx",
            "library/nginx",
            "docker.io/team/app",
            "index.docker.io/team/app",
        ] {
            assert_eq!(users(&ring, image).len(), 1, "{image}");
        }
        assert_eq!(users(&ring, "a.io/nginx").len(), 0);
    }

    #[test]
    fn first_readable_file_wins_and_the_newer_form_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| dir.path().join(name);
        let paths = CredentialPaths {
            root: place("root"),
            working: place("working"),
            home: Some(place("home")),
        };
        for name in ["root", "working", "home/.docker"] {
            fs::create_dir_all(place(name)).unwrap();
        }
        let write = |file: &str, text: &str| fs::write(place(file), text).unwrap();
        write(
            "root/.dockercfg",
            r#"{"a.io": {"username": "old", "password": "p"}}"#,
        );
        assert_eq!(users(&paths.load(), "a.io/x"), ["old"]);
        write(
            "home/.docker/config.json",
            r#"{"auths": {"a.io": {"username": "home", "password": "p"}}}"#,
        );
        assert_eq!(users(&paths.load(), "a.io/x"), ["home"]);
        write("working/config.json", "broken");
        assert_eq!(users(&paths.load(), "a.io/x"), ["home"]);
    }

    #[tokio::test(start_paused = true)]
    async fn changed_file_is_seen_after_five_minutes() {
        let dir = tempfile::tempdir().unwrap();
        let paths = CredentialPaths {
            root: dir.path().to_owned(),
            working: dir.path().to_owned(),
            home: None,
        };
        let node = NodeKeyring::new(paths);
        let file = dir.path().join("config.json");
        fs::write(
            &file,
            r#"{"auths": {"a.io": {"username": "u", "password": "p"}}}"#,
        )
        .unwrap();
        assert_eq!(users(&*node.current().await, "a.io/x"), ["u"]);
        fs::write(&file, r#"{"auths": {}}"#).unwrap();
        assert_eq!(users(&*node.current().await, "a.io/x"), ["u"]);
        tokio::time::advance(CACHED).await;
        assert_eq!(users(&*node.current().await, "a.io/x"), [""; 0]);
    }

    #[test]
    fn credentials_do_not_show() {
        let credential = Credential {
            username: "u".to_owned(),
            password: "hush".to_owned(),
        };
        assert!(!format!("{credential:?}").contains("hush"));
    }
}
