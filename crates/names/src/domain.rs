//! What can be a name at all.

/// Longest name in bytes, its last dot included.
pub(crate) const MAX_NAME_BYTES: usize = 254;
/// Longest part between dots.
const MAX_LABEL_BYTES: usize = 63;

/// Whether a name server may be asked for the name (Go, `isDomainName`): letters, digits, `_`, and `-`
/// inside of parts; not numbers alone.
pub(crate) fn is_domain_name(name: &str) -> bool {
    let labels = name.strip_suffix('.').unwrap_or(name);
    let part = |label: &str| {
        (1..=MAX_LABEL_BYTES).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    labels.len() < MAX_NAME_BYTES
        && labels.split('.').all(part)
        && labels
            .bytes()
            .any(|byte| !byte.is_ascii_digit() && byte != b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_go_asks_for() {
        let long = "a".repeat(64);
        for (name, is) in [
            ("example.org", true),
            ("example.org.", true),
            ("_srv.a-b", true),
            ("", false),
            (".", false),
            ("a..b", false),
            ("-a", false),
            ("a-.b", false),
            ("a b", false),
            ("é", false),
            ("1.2.3", false),
            (long.as_str(), false),
        ] {
            assert_eq!(is_domain_name(name), is, "{name}");
        }
        let mut most = vec!["a".repeat(63); 4].join(".");
        most.truncate(253);
        assert!(is_domain_name(&most) && is_domain_name(&format!("{most}.")));
        assert!(!is_domain_name(&format!("{most}a")));
    }
}
