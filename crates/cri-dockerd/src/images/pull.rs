//! What a pull's messages mean: progress, stalls, failures (IMG-08..12, IMG-18). Pure.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use cri_api::{Code, v1};

use crate::engine::{Class, EngineError, Progress, RegistryAuth};

/// Base64 with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// Layers that are remembered as being worked on; no image has as many.
const MAX_LAYERS: usize = 1024;

/// Whether a pull gets on.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Layers that Docker checks or unpacks: it may be silent for long then.
    busy: HashSet<String>,
    /// The last message about each layer.
    layers: HashMap<String, (String, i64)>,
}

/// Words about a layer that is still to come, in part or whole.
const AWAITED: [&str; 3] = ["Pulling fs layer", "Waiting", "Downloading"];

impl Watch {
    /// Takes one message; answers whether it tells of progress (CMP-09). One that repeats the last one
    /// does not: containerd's image store has Docker tell of each layer again and again.
    pub(super) fn see(&mut self, message: &Progress) -> bool {
        match message.status.as_str() {
            "Extracting" | "Verifying Checksum" if self.busy.len() < MAX_LAYERS => {
                self.busy.insert(message.id.clone());
            }
            "Download complete" | "Pull complete" | "Already exists" => {
                self.busy.remove(&message.id);
            }
            _ => {}
        }
        if self.layers.len() >= MAX_LAYERS && !self.layers.contains_key(&message.id) {
            return true;
        }
        let state = (message.status.clone(), message.detail.current);
        let before = self.layers.insert(message.id.clone(), state.clone());
        before != Some(state)
    }

    /// How long no progress is now normal; `None` for as long as it takes. Where everything has come it
    /// is being unpacked, of which containerd's image store says nothing.
    pub(super) fn limit(&self, deadline: Duration) -> Option<Duration> {
        let states = || self.layers.values().map(|(status, _)| status.as_str());
        let is_here = states().any(|status| status == "Download complete")
            && !states().any(|status| AWAITED.contains(&status));
        (self.busy.is_empty() && !is_here && !deadline.is_zero()).then_some(deadline)
    }
}

/// Credentials as Docker takes them. In the CRI's order: user and password, else `auth`, which is
/// both in base64 (BEAT: upstream ignores it); tokens beside either.
///
/// # Errors
/// What is wrong with `auth`.
pub(super) fn registry_auth(auth: Option<&v1::AuthConfig>) -> Result<RegistryAuth, String> {
    let Some(auth) = auth else {
        return Ok(RegistryAuth::default());
    };
    let mut result = RegistryAuth {
        username: auth.username.clone(),
        password: auth.password.clone(),
        serveraddress: auth.server_address.clone(),
        identitytoken: auth.identity_token.clone(),
        registrytoken: auth.registry_token.clone(),
    };
    let has_token = !auth.identity_token.is_empty() || !auth.registry_token.is_empty();
    if auth.username.is_empty() && auth.password.is_empty() && !auth.auth.is_empty() {
        match user_and_password(&auth.auth) {
            Some((user, password)) => (result.username, result.password) = (user, password),
            None if has_token => {}
            None => return Err("auth.auth: write base64 of \"user:password\"".to_owned()),
        }
    }
    Ok(result)
}

/// Decodes base64 of `user:password`.
pub(super) fn user_and_password(auth: &str) -> Option<(String, String)> {
    let text = String::from_utf8(BASE64.decode(auth.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    // Docker's own files pad passwords with zero bytes.
    Some((user.to_owned(), password.trim_matches('\0').to_owned()))
}

/// A failed pull for the caller: code and text (IMG-12). The text stays Docker's.
pub(super) fn refusal(error: &EngineError) -> (Code, String) {
    let text = daemon::ErrorChain(error).to_string();
    let code = match error {
        EngineError::Progress {
            code: Some(code), ..
        } => Some(*code),
        EngineError::Api { status, .. } => Some(i64::from(*status)),
        _ => None,
    };
    let from_registry = matches!(error, EngineError::Progress { .. });
    match code {
        // A 503 of Docker itself is not the registry's.
        Some(502..=504) if from_registry => return unavailable(&text),
        Some(401) => return (Code::Unauthenticated, text),
        _ => {}
    }
    if let Some(502..=504) = registry_status(&text) {
        return unavailable(&text);
    }
    let code = match by_text(&text) {
        Some(code) => code,
        None => match error.class() {
            Class::NotFound => Code::NotFound,
            Class::Invalid => Code::InvalidArgument,
            Class::Denied => Code::PermissionDenied,
            Class::Unavailable => Code::Unavailable,
            Class::Timeout => Code::DeadlineExceeded,
            Class::Conflict | Class::Internal => Code::Unknown,
        },
    };
    (code, text)
}

/// The registry can't answer now. Kubelets know the word in front (KLT-05), if it is in front: only
/// the code Unknown is not put before it (Kubernetes `cri-client`, `pullImageV1`).
fn unavailable(text: &str) -> (Code, String) {
    (Code::Unknown, format!("RegistryUnavailable: {text}"))
}

/// Docker mostly gives the registry's answer as text alone: the fallback, with recorded samples.
fn by_text(text: &str) -> Option<Code> {
    let has = |part: &str| text.contains(part);
    match registry_status(text) {
        Some(401) => return Some(Code::Unauthenticated),
        Some(403) => return Some(Code::PermissionDenied),
        Some(404) => return Some(Code::NotFound),
        _ => {}
    }
    if has("pull access denied") || has("denied: ") {
        Some(Code::PermissionDenied)
    } else if has("unauthorized: ") || has("no basic auth credentials") {
        Some(Code::Unauthenticated)
    } else if has("manifest unknown") || has("not found: does not exist") {
        Some(Code::NotFound)
    } else {
        None
    }
}

/// What the registry answered, as containerd tells it, whose image store gives Docker nothing else.
fn registry_status(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("unexpected status from ")?;
    let status = rest
        .rsplit(": ")
        .find_map(|part| part.get(..3)?.parse().ok());
    status.filter(|status| (400..600).contains(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_every_kind_are_understood() {
        let auth = |change: fn(&mut v1::AuthConfig)| {
            let mut auth = v1::AuthConfig::default();
            change(&mut auth);
            registry_auth(Some(&auth))
        };
        let pair = |a: Result<RegistryAuth, String>| a.map(|a| (a.username, a.password)).unwrap();
        let expected = ("me".to_owned(), "a:b".to_owned());
        assert_eq!(registry_auth(None), Ok(RegistryAuth::default()));
        assert_eq!(
            pair(auth(
                |a| (a.username, a.password) = ("me".into(), "a:b".into())
            )),
            expected
        );
        // With and without padding, and with Docker's zero bytes.
        for encoded in ["bWU6YTpi", "bWU6YTpiAAA=", "bWU6YTpiAAA"] {
            assert_eq!(
                user_and_password(encoded),
                Some(expected.clone()),
                "{encoded}"
            );
        }
        assert_eq!(pair(auth(|a| a.auth = "bWU6YTpi".into())), expected);
        assert!(
            auth(|a| a.auth = "!".into())
                .unwrap_err()
                .contains("auth.auth")
        );
        assert_eq!(
            auth(|a| a.identity_token = "t".into())
                .unwrap()
                .identitytoken,
            "t"
        );
        assert_eq!(
            auth(|a| a.registry_token = "t".into())
                .unwrap()
                .registrytoken,
            "t"
        );
    }

    #[test]
    fn silence_is_allowed_while_a_layer_is_unpacked() {
        let limit = Duration::from_mins(1);
        let mut watch = Watch::default();
        let mut see = |status: &str, id: &str| {
            let mut message = Progress::default();
            (message.status, message.id) = (status.into(), id.into());
            watch.see(&message);
            watch.limit(limit)
        };
        assert_eq!(see("Downloading", "a"), Some(limit));
        assert_eq!(see("Extracting", "a"), None);
        assert_eq!(see("Downloading", "b"), None);
        assert_eq!(see("Pull complete", "a"), Some(limit));
        assert_eq!(see("Verifying Checksum", "b"), None);
        assert_eq!(see("Download complete", "b"), None);
        assert_eq!(see("Downloading", "c"), Some(limit));
        assert_eq!(Watch::default().limit(Duration::ZERO), None);
    }

    #[test]
    fn message_that_repeats_the_last_one_is_no_progress() {
        let mut watch = Watch::default();
        let mut see = |id: &str, current| {
            let mut message = Progress::default();
            (message.status, message.id) = ("Downloading".into(), id.into());
            message.detail.current = current;
            watch.see(&message)
        };
        assert!(see("a", 0) && see("b", 0) && see("a", 7));
        assert!(!see("a", 7) && !see("b", 0));
        assert!(see("b", 1));
    }

    #[test]
    fn failures_have_the_code_that_fits_and_dockers_words() {
        let stream = |code, message: &str| EngineError::Progress {
            code,
            message: message.into(),
        };
        let api = |status, message: &str| EngineError::Api {
            call: "POST /images/create".into(),
            status,
            message: message.into(),
        };
        // Texts of Docker 20.10 and 26.1.
        for (error, code, text) in [
            (
                stream(
                    Some(503),
                    "received unexpected HTTP status: 503 Service Unavailable",
                ),
                Code::Unknown,
                "RegistryUnavailable: received unexpected HTTP status: 503 Service Unavailable",
            ),
            (
                api(
                    404,
                    "pull access denied for x, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
                ),
                Code::PermissionDenied,
                "Error response from daemon: pull access denied for x, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
            ),
            (
                stream(
                    None,
                    "manifest for registry.k8s.io/x:1 not found: manifest unknown: manifest unknown",
                ),
                Code::NotFound,
                "manifest for registry.k8s.io/x:1 not found: manifest unknown: manifest unknown",
            ),
            (
                api(
                    500,
                    "Head \"https://r/v2/x\": unauthorized: incorrect username or password",
                ),
                Code::Unauthenticated,
                "Error response from daemon: Head \"https://r/v2/x\": unauthorized: incorrect username or password",
            ),
            (
                api(
                    500,
                    "failed to resolve reference \"r:5000/x:1\": unexpected status from HEAD request to https://r:5000/v2/x/manifests/1: 401 Unauthorized",
                ),
                Code::Unauthenticated,
                "Error response from daemon: failed to resolve reference \"r:5000/x:1\": unexpected status from HEAD request to https://r:5000/v2/x/manifests/1: 401 Unauthorized",
            ),
            (
                api(
                    500,
                    "unexpected status from GET request to https://r/v2/x/blobs/sha256:1: 503 Service Unavailable",
                ),
                Code::Unknown,
                "RegistryUnavailable: Error response from daemon: unexpected status from GET request to https://r/v2/x/blobs/sha256:1: 503 Service Unavailable",
            ),
            (
                api(503, "shutting down"),
                Code::Unavailable,
                "Error response from daemon: shutting down",
            ),
            (
                api(400, "invalid reference format"),
                Code::InvalidArgument,
                "Error response from daemon: invalid reference format",
            ),
        ] {
            assert_eq!(refusal(&error), (code, text.to_owned()));
        }
    }
}
