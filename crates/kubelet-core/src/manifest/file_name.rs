//! Which files of a manifest directory are manifests, by their names.

/// Endings of what editors and package tools leave behind.
const LEFT_BEHIND: [&str; 15] = [
    "~",
    ".swp",
    ".swo",
    ".swx",
    ".bak",
    ".orig",
    ".rej",
    ".tmp",
    ".part",
    ".dpkg-old",
    ".dpkg-new",
    ".dpkg-dist",
    ".rpmsave",
    ".rpmnew",
    ".rpmorig",
];

/// What a file name says.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum FileName {
    /// Starts with a dot: not ours, never mentioned (SRC-03).
    Hidden,
    /// A back-up or half-written file. Differs: upstream reads it.
    LeftBehind,
    /// To be read.
    Manifest,
}

impl FileName {
    /// Of a name without directories.
    pub fn of(name: &str) -> Self {
        if name.starts_with('.') {
            Self::Hidden
        } else if LEFT_BEHIND.iter().any(|end| name.ends_with(end))
            || (name.len() > 1 && name.starts_with('#') && name.ends_with('#'))
            // What vim writes to see whether it may.
            || name == "4913"
        {
            Self::LeftBehind
        } else {
            Self::Manifest
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_manifests_from_what_was_left_behind() {
        for name in ["pod.yaml", "pod.json", "pod", "#", "a#", "14913"] {
            assert_eq!(FileName::of(name), FileName::Manifest, "{name}");
        }
        for name in [
            "pod.yaml~",
            "pod.yaml.swp",
            "#pod.yaml#",
            "4913",
            "x.rpmnew",
        ] {
            assert_eq!(FileName::of(name), FileName::LeftBehind, "{name}");
        }
        for name in [".pod.yaml", ".pod.yaml.swp", "."] {
            assert_eq!(FileName::of(name), FileName::Hidden, "{name}");
        }
    }
}
