//! Verbosity by source file: `--vmodule=pattern=N,...` (kubelet PROC-52).

use std::str::FromStr;

/// Patterns with the verbosity of the files that match; the first match counts.
///
/// A pattern with a slash is matched against the file's whole path, one without against its name;
/// both without `.rs`. `*` stands for any characters, `?` for one. Upstream's users name Go files;
/// ours are called after the same parts where there is a counterpart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vmodule(Vec<(String, u32)>);

/// A `--vmodule` that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum VmoduleError {
    /// An item without `=`, or with nothing on one side.
    #[error("vmodule item {0:?}: expected pattern=N")]
    Syntax(String),
    /// The verbosity is not a number.
    #[error("vmodule item {0:?}: the level must be a number from 0 to 2147483647")]
    Level(String),
}

impl Vmodule {
    /// From pairs, as the configuration file has them.
    pub fn new(items: impl IntoIterator<Item = (String, u32)>) -> Self {
        Self(items.into_iter().collect())
    }

    pub(super) fn verbosity(&self, path: &str) -> Option<u32> {
        if self.0.is_empty() {
            return None;
        }
        let path = path.strip_suffix(".rs").unwrap_or(path);
        let name = super::file_name(path);
        self.0
            .iter()
            .find(|(pattern, _)| matches(pattern, if pattern.contains('/') { path } else { name }))
            .map(|(_, verbosity)| *verbosity)
    }

    pub(super) fn highest(&self) -> Option<u32> {
        self.0.iter().map(|(_, verbosity)| *verbosity).max()
    }
}

impl FromStr for Vmodule {
    type Err = VmoduleError;

    fn from_str(text: &str) -> Result<Self, VmoduleError> {
        text.split(',')
            .filter(|item| !item.is_empty())
            .map(|item| {
                let (pattern, level) = item
                    .split_once('=')
                    .filter(|(pattern, level)| !pattern.is_empty() && !level.is_empty())
                    .ok_or_else(|| VmoduleError::Syntax(item.to_owned()))?;
                let level = level
                    .parse::<i32>()
                    .ok()
                    .and_then(|level| u32::try_from(level).ok())
                    .ok_or_else(|| VmoduleError::Level(item.to_owned()))?;
                Ok((pattern.to_owned(), level))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// Whether a pattern of `*` and `?` covers the whole text, in time proportional to their product.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match &mut retry {
                Some((after_star, from)) => {
                    *from += 1;
                    (p, t) = (*after_star, *from);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_matching_pattern_gives_the_verbosity() {
        let vmodule: Vmodule = "pod_*=5,server=2,*/volumes/*=9".parse().unwrap();
        assert_eq!(
            vmodule.verbosity("crates/kubelet/src/pod_workers.rs"),
            Some(5)
        );
        assert_eq!(vmodule.verbosity("crates/kubelet/src/server.rs"), Some(2));
        assert_eq!(
            vmodule.verbosity("crates/kubelet/src/volumes/secret.rs"),
            Some(9)
        );
        assert_eq!(vmodule.verbosity("crates/kubelet/src/node.rs"), None);
        assert_eq!(vmodule.highest(), Some(9));
    }

    #[test]
    fn bad_items_are_named() {
        assert_eq!(
            "a".parse::<Vmodule>(),
            Err(VmoduleError::Syntax("a".into()))
        );
        assert_eq!(
            "a=x".parse::<Vmodule>(),
            Err(VmoduleError::Level("a=x".into()))
        );
        assert_eq!("".parse::<Vmodule>(), Ok(Vmodule::default()));
    }

    #[test]
    fn wildcards_cover_any_stretch() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcd", false),
            ("?", "", false),
            ("?b", "ab", true),
            ("*ab", "aab", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
