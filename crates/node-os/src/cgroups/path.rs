//! The name of a group.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// A group's path from the root of the hierarchies, such as `/kubepods/burstable`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CgroupPath(String);

/// A text that names no group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cgroup {0:?}: use an absolute path without \"..\", such as /kubepods")]
pub struct CgroupPathError(String);

impl CgroupPath {
    /// Takes an absolute path; doubled and trailing slashes are dropped.
    ///
    /// # Errors
    /// When it is relative, or has `.` or `..` or a control character in it.
    pub fn new(text: &str) -> Result<Self, CgroupPathError> {
        let bad = |name: &str| name == "." || name == ".." || name.contains(char::is_control);
        if !text.starts_with('/') || text.split('/').any(bad) {
            return Err(CgroupPathError(text.to_owned()));
        }
        let names: Vec<_> = text.split('/').filter(|name| !name.is_empty()).collect();
        Ok(Self(format!("/{}", names.join("/"))))
    }

    /// The root of the hierarchies.
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// The group called `name` below this one.
    ///
    /// # Errors
    /// When `name` is empty or has a slash or the like in it.
    pub fn child(&self, name: &str) -> Result<Self, CgroupPathError> {
        if name.is_empty() || name.contains('/') {
            return Err(CgroupPathError(name.to_owned()));
        }
        Self::new(&format!("{}/{name}", self.0))
    }

    /// The group above; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        match self.0.rsplit_once('/')? {
            (_, "") => None,
            ("", _) => Some(Self::root()),
            (parent, _) => Some(Self(parent.to_owned())),
        }
    }

    /// The group and all above it, the root first.
    pub fn lineage(&self) -> Vec<Self> {
        let mut all: Vec<_> = std::iter::successors(Some(self.clone()), Self::parent).collect();
        all.reverse();
        all
    }

    /// As text, beginning with a slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn below(&self, directory: &Path) -> PathBuf {
        directory.join(self.0.trim_start_matches('/'))
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_stay_below_the_root() {
        assert_eq!(CgroupPath::new("//a//b/").unwrap().as_str(), "/a/b");
        assert_eq!(CgroupPath::new("/").unwrap(), CgroupPath::root());
        for bad in ["", "a", "/a/../b", "/.", "/a\nb"] {
            assert!(CgroupPath::new(bad).is_err(), "{bad:?}");
        }
        assert!(CgroupPath::root().child("a/b").is_err());
    }

    #[test]
    fn lineage_leads_from_the_root_to_the_group() {
        let group = CgroupPath::root().child("a").unwrap().child("b").unwrap();
        let names: Vec<_> = group.lineage().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["/", "/a", "/a/b"]);
    }
}
