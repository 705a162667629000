//! Names of images: `nginx`, `registry.k8s.io/pause:3.9`, `host:5000/a/b@sha256:...`.
//!
//! Source of behaviour: `distribution/reference` (normalised names) and the kubelet's `applyDefaultImageTag`
//! (IMG-02). Error texts are upstream's: users see them in a container's waiting message.

use std::fmt;

const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DOMAIN: &str = "index.docker.io";
const OFFICIAL: &str = "library/";
const MAX_PATH: usize = 255;

/// A text that names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("couldn't parse image name {image:?}: {problem}")]
pub struct ImageNameError {
    /// The text.
    pub image: String,
    /// What is wrong with it.
    pub problem: ReferenceError,
}

/// What is wrong with a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Not `[domain/]path[:tag][@digest]`.
    #[error("invalid reference format")]
    Format,
    /// Capital letters in the path.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// An image id where a name belongs.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
    /// Path over 255 characters.
    #[error("repository name must not be more than {MAX_PATH} characters")]
    TooLong,
    /// Digest of no valid form.
    #[error("invalid checksum digest format")]
    DigestFormat,
    /// Digest of the wrong length for its algorithm.
    #[error("invalid checksum digest length")]
    DigestLength,
    /// Digest of an algorithm other than SHA-256, 384 or 512.
    #[error("unsupported digest algorithm")]
    DigestAlgorithm,
}

/// A normalised reference.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Registry, `docker.io` where none was given. Empty in the odd case of a first part such as `a_b.c`.
    pub domain: String,
    /// Repository in the registry, `library/nginx`.
    pub path: String,
    /// Tag, if given.
    pub tag: Option<String>,
    /// Digest with its algorithm, if given.
    pub digest: Option<String>,
}

impl Reference {
    /// Full name without tag and digest: `docker.io/library/nginx`.
    pub fn name(&self) -> String {
        match &*self.domain {
            "" => self.path.clone(),
            domain => format!("{domain}/{}", self.path),
        }
    }

    /// The name as Docker shows it: `nginx`, `user/app`, `quay.io/a/b`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        match self.path.strip_prefix(OFFICIAL) {
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The tag that counts: the given one, `latest` if there is neither tag nor digest.
    pub fn effective_tag(&self) -> Option<&str> {
        match (&self.tag, &self.digest) {
            (None, None) => Some("latest"),
            (tag, _) => tag.as_deref(),
        }
    }
}

/// The full form: `docker.io/library/nginx:1.25`.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Reads a name as Docker's command line does, normalised.
///
/// # Errors
/// [`ImageNameError`] with upstream's words.
pub fn parse(image: &str) -> Result<Reference, ImageNameError> {
    reference(image).map_err(|problem| ImageNameError {
        image: image.to_owned(),
        problem,
    })
}

/// The name with `:latest` behind it if it has neither tag nor digest; otherwise as it is, not normalised.
///
/// # Errors
/// [`ImageNameError`].
pub fn apply_default_tag(image: &str) -> Result<String, ImageNameError> {
    let reference = parse(image)?;
    Ok(match (reference.tag, reference.digest) {
        (None, None) => format!("{image}:latest"),
        _ => image.to_owned(),
    })
}

fn reference(image: &str) -> Result<Reference, ReferenceError> {
    if image.len() == 64 && image.bytes().all(is_lower_hex) {
        return Err(ReferenceError::Identifier(image.to_owned()));
    }
    let (domain, remainder) = split_domain(image);
    let remote = remainder.split(':').next().unwrap_or_default();
    if remote.chars().any(char::is_uppercase) {
        return Err(ReferenceError::Uppercase(remote.to_owned()));
    }
    let (rest, digest) = match remainder.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (&*remainder, None),
    };
    let tag_at = rest
        .rfind(':')
        .filter(|&colon| !rest[colon..].contains('/'));
    let (path, tag) = match tag_at {
        Some(colon) => (&rest[..colon], Some(&rest[colon + 1..])),
        None => (rest, None),
    };
    let domain_fits = is_domain(domain);
    let path = if domain_fits {
        path.to_owned()
    } else {
        format!("{domain}/{path}")
    };
    let fits = path.split('/').all(is_path_part)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(looks_like_digest);
    if !fits {
        return Err(ReferenceError::Format);
    }
    if path.len() > MAX_PATH {
        return Err(ReferenceError::TooLong);
    }
    digest.map_or(Ok(()), check_digest)?;
    Ok(Reference {
        domain: if domain_fits {
            domain.to_owned()
        } else {
            String::new()
        },
        path,
        tag: tag.map(str::to_owned),
        digest: digest.map(str::to_owned),
    })
}

fn split_domain(image: &str) -> (&str, String) {
    let Some((first, rest)) = image.split_once('/') else {
        return (DEFAULT_DOMAIN, format!("{OFFICIAL}{image}"));
    };
    let is_domain =
        first == "localhost" || first.contains(['.', ':']) || first.chars().any(char::is_uppercase);
    let (domain, remainder) = match first {
        LEGACY_DOMAIN => (DEFAULT_DOMAIN, rest),
        _ if is_domain => (first, rest),
        _ => (DEFAULT_DOMAIN, image),
    };
    if domain == DEFAULT_DOMAIN && !remainder.contains('/') {
        return (domain, format!("{OFFICIAL}{remainder}"));
    }
    (domain, remainder.to_owned())
}

/// Host name, IPv4 or bracketed IPv6 address, and perhaps a port.
fn is_domain(text: &str) -> bool {
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return false;
        };
        return !address.is_empty()
            && address
                .bytes()
                .all(|byte| byte.is_ascii_hexdigit() || byte == b':')
            && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    port.is_none_or(is_port)
        && host.split('.').all(|part| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !part.starts_with('-')
                && !part.ends_with('-')
        })
}

/// Lower-case letters and digits; between them `.`, `_`, `__` or dashes.
fn is_path_part(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends_fit = |byte: Option<&u8>| byte.is_some_and(|&byte| is_plain(byte));
    ends_fit(bytes.first())
        && ends_fit(bytes.last())
        && bytes.split(|&byte| is_plain(byte)).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__")
                || separator.iter().all(|&byte| byte == b'-')
        })
}

fn is_tag(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// The looser form that a reference asks for, before the algorithm is looked at.
fn looks_like_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else {
        return false;
    };
    hex.len() >= 32
        && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
        && algorithm.split(['-', '_', '+', '.']).all(|part| {
            part.starts_with(|c: char| c.is_ascii_alphabetic())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
}

fn check_digest(digest: &str) -> Result<(), ReferenceError> {
    let (algorithm, hex) = digest.split_once(':').unwrap_or((digest, ""));
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ if algorithm.chars().any(char::is_uppercase) => return Err(ReferenceError::DigestFormat),
        _ => return Err(ReferenceError::DigestAlgorithm),
    };
    match hex {
        _ if hex.len() != length => Err(ReferenceError::DigestLength),
        _ if hex.bytes().all(is_lower_hex) => Ok(()),
        _ => Err(ReferenceError::DigestFormat),
    }
}

fn is_lower_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

#[cfg(test)]
mod tests;
