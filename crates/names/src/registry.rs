//! Registries as files of credentials name them. Source of behaviour: Kubernetes
//! `pkg/credentialprovider` (`BasicDockerKeyring.Add`, `URLsMatchStr`). Pure.

/// A registry as files name it, without scheme and API version: `host[:port][/path]`.
pub fn key(registry: &str) -> String {
    let bare = registry
        .strip_prefix("https://")
        .or_else(|| registry.strip_prefix("http://"))
        .unwrap_or(registry);
    let (host, path) = split_path(bare);
    let path = if path.starts_with("/v1/") || path.starts_with("/v2/") {
        &path[3..]
    } else {
        path
    };
    if path == "/" {
        host.to_owned()
    } else {
        format!("{host}{path}")
    }
}

/// Whether a key covers an image, which has its registry and neither tag nor digest: same port, host
/// label by label with `*` as a wildcard in each, and the path as a prefix.
pub fn covers(key: &str, image: &str) -> bool {
    let (key_host, key_path) = split_path(key);
    let (host, path) = split_path(image);
    let (key_host, key_port) = split_port(key_host);
    let (host, port) = split_port(host);
    let key_labels: Vec<&str> = key_host.split('.').collect();
    let labels: Vec<&str> = host.split('.').collect();
    key_port == port
        && key_labels.len() == labels.len()
        && path.starts_with(key_path)
        && key_labels
            .iter()
            .zip(&labels)
            .all(|(pattern, label)| wildcard(pattern, label))
}

fn split_path(text: &str) -> (&str, &str) {
    text.find('/')
        .map_or((text, ""), |slash| text.split_at(slash))
}

fn split_port(host: &str) -> (&str, &str) {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, port),
        _ => (host, ""),
    }
}

/// `*` stands for any text. Upstream's patterns (`filepath.Match`) know `?`, `[a-z]` and `\` too, but its keys are
/// hosts of URLs, and Go's parser (1.24.8, 1.25.2 and later) leaves no such character in a host.
fn wildcard(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let Some(last) = pieces.next_back() else {
        return rest.is_empty();
    };
    for piece in pieces {
        let Some(at) = rest.find(piece) else {
            return false;
        };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_lose_scheme_and_api_version() {
        for (registry, expected) in [
            ("https://index.docker.io/v1/", "index.docker.io"),
            ("http://a.io/v2/team", "a.io/team"),
            ("a.io:5000", "a.io:5000"),
            ("https://a.io/", "a.io"),
            ("a.io/team/", "a.io/team/"),
        ] {
            assert_eq!(key(registry), expected, "{registry}");
        }
    }

    #[test]
    fn key_covers_the_images_below_it() {
        for (key, image) in [
            ("a.io", "a.io/x"),
            ("a.io/team", "a.io/team/x"),
            ("a.io:5000", "a.io:5000/x"),
            ("*.a.io", "1.a.io/x"),
            ("1*-*.*.a.io", "12-eu-3.dkr.a.io/x"),
            ("*.*:5000", "a.io:5000/x"),
        ] {
            assert!(covers(key, image), "{key} {image}");
        }
        for (key, image) in [
            ("a.io", "b.io/x"),
            ("a.io/team", "a.io/x"),
            ("a.io", "a.io:5000/x"),
            ("a.io:*", "a.io:5000/x"),
            ("*.a.io", "a.io/x"),
            ("*.a.io", "1.2.a.io/x"),
            ("1*-*.*.a.io", "12.dkr.a.io/x"),
            ("*", "a.io/x"),
        ] {
            assert!(!covers(key, image), "{key} {image}");
        }
    }

    /// As the pattern is meant: each `*` tries every length.
    fn model(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|skip| model(rest, &text[skip..])),
            Some((byte, rest)) => text.first() == Some(byte) && model(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn wildcard_is_what_it_is_meant_to_be(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(
                wildcard(&pattern, &text),
                model(pattern.as_bytes(), text.as_bytes())
            );
        }

        #[test]
        fn any_texts_are_survived(registry in any::<String>(), image in any::<String>()) {
            let _ = covers(&key(&registry), &image);
        }

        #[test]
        fn key_without_wildcard_covers_itself(registry in "[a-z.:/]{0,20}") {
            let key = key(&registry);
            prop_assert!(covers(&key, &key), "{key}");
        }
    }
}
