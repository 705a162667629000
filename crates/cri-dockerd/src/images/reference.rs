//! Names of images: `nginx`, `registry.k8s.io/pause:3.9`, `host:5000/a/b@sha256:...`, ids.
//!
//! Pure. Only as much of Docker's reference rules as is needed to ask Docker and to compare; what
//! is not a good name is for Docker to refuse, in its words.

use std::fmt;

const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DOMAIN: &str = "index.docker.io";
const OFFICIAL: &str = "library/";

/// A name with its defaults filled in: two texts name one image if their references are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Reference {
    /// Registry.
    pub(crate) domain: String,
    /// Repository in it.
    pub(crate) path: String,
    /// Tag; `latest` where neither tag nor digest was given, and not kept beside a digest.
    pub(crate) tag: Option<String>,
    /// Digest with its algorithm.
    pub(crate) digest: Option<String>,
}

impl Reference {
    /// Reads a name. `None` for ids and for what can't be a name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if id(text).is_some() {
            return None;
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        let is_domain = |part: &str| {
            part.contains(['.', ':']) || part == "localhost" || part.contains(char::is_uppercase)
        };
        let (domain, path) = match name.split_once('/') {
            Some((domain, path)) if is_domain(domain) => (domain, path),
            _ => (DEFAULT_DOMAIN, name),
        };
        let domain = if domain == LEGACY_DOMAIN {
            DEFAULT_DOMAIN
        } else {
            domain
        };
        let path = if domain == DEFAULT_DOMAIN && !path.contains('/') {
            format!("{OFFICIAL}{path}")
        } else {
            path.to_owned()
        };
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/".contains(c);
        let last = path.rsplit('/').next().unwrap_or_default();
        if last.is_empty()
            || !path.chars().all(good)
            || tag.is_some_and(str::is_empty)
            || digest.is_some_and(|digest| !digest.contains(':'))
        {
            return None;
        }
        let tag = match (tag, digest) {
            (_, Some(_)) => None,
            (tag, None) => Some(tag.unwrap_or("latest").to_owned()),
        };
        Some(Self {
            domain: domain.to_owned(),
            path,
            tag,
            digest: digest.map(ToOwned::to_owned),
        })
    }

    /// The repository as Docker shows it: `nginx`, `user/app`, `quay.io/a/b`.
    pub(crate) fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return format!("{}/{}", self.domain, self.path);
        }
        match self.path.strip_prefix(OFFICIAL) {
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// Tag or digest, as Docker's pull takes it.
    pub(crate) fn version(&self) -> &str {
        self.digest
            .as_deref()
            .or(self.tag.as_deref())
            .unwrap_or("latest")
    }
}

/// The full form.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.digest.is_some() { '@' } else { ':' };
        write!(
            f,
            "{}/{}{separator}{}",
            self.domain,
            self.path,
            self.version()
        )
    }
}

/// The hexadecimal part of a full image id, with or without `sha256:`.
fn id(text: &str) -> Option<&str> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let is_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    (hex.len() == 64 && hex.bytes().all(is_hex)).then_some(hex)
}

/// Whether `wanted`, a name or an id, names the image with this id, these tags and digests.
pub(crate) fn names(wanted: &str, image_id: &str, tags: &[String], digests: &[String]) -> bool {
    if let Some(wanted) = id(wanted) {
        return id(image_id) == Some(wanted);
    }
    let Some(wanted) = Reference::parse(wanted) else {
        return false;
    };
    let candidates = if wanted.digest.is_some() {
        digests
    } else {
        tags
    };
    candidates
        .iter()
        .any(|text| Reference::parse(text).as_ref() == Some(&wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "9700f9a2f5bf2c45f2f605a0bd3bce7cf37420ec9d3ed50ac2758413308766bf";

    #[test]
    fn names_are_completed_as_docker_does() {
        let digest = format!("gcr.io/a/b:1@sha256:{HEX}");
        let without_tag = format!("gcr.io/a/b@sha256:{HEX}");
        for (text, full, familiar) in [
            ("nginx", "docker.io/library/nginx:latest", "nginx"),
            ("user/app:1.2", "docker.io/user/app:1.2", "user/app"),
            (
                "index.docker.io/library/nginx",
                "docker.io/library/nginx:latest",
                "nginx",
            ),
            ("localhost/a", "localhost/a:latest", "localhost/a"),
            ("host:5000/a/b:t", "host:5000/a/b:t", "host:5000/a/b"),
            (
                "registry.k8s.io/pause:3.9",
                "registry.k8s.io/pause:3.9",
                "registry.k8s.io/pause",
            ),
            (digest.as_str(), without_tag.as_str(), "gcr.io/a/b"),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(reference.to_string(), full);
            assert_eq!(reference.familiar_name(), familiar);
        }
    }

    #[test]
    fn ids_and_bad_names_are_no_references() {
        let id = format!("sha256:{HEX}");
        for text in ["", HEX, &id, "Capital", "a b", "a:", "a@b", "/", "gcr.io/"] {
            assert_eq!(Reference::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn image_is_recognised_by_any_of_its_names() {
        let id = format!("sha256:{HEX}");
        let tags = ["pause:3.9".to_owned()];
        let digests = [format!("registry.k8s.io/pause@sha256:{HEX}")];
        let named = |wanted: &str| names(wanted, &id, &tags, &digests);
        assert!(named("docker.io/library/pause:3.9"));
        assert!(named(HEX) && named(&id) && named(&digests[0]));
        assert!(named(&format!("registry.k8s.io/pause:3.9@sha256:{HEX}")));
        assert!(!named("pause") && !named("registry.k8s.io/pause:3.9") && !named(""));
    }

    proptest::proptest! {
        #[test]
        fn full_form_is_stable(text in "[a-zA-Z0-9./:@_-]{0,30}") {
            if let Some(reference) = Reference::parse(&text) {
                proptest::prop_assert_eq!(Reference::parse(&reference.to_string()), Some(reference));
            }
        }
    }
}
