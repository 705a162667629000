//! Manifest files, read as the kubelet's file source reads them.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use kubelet_core::manifest::{FileName, LoadedPod, Origin, Refused, StaticSource, load_static};

/// Largest manifest, in bytes (SRC-03).
const MAX_BYTES: u64 = 10 * 1024 * 1024;
/// Why a file gives no pod.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// It can't be read.
    #[error("read")]
    Read(#[source] io::Error),
    /// It is larger than any manifest may be.
    #[error("larger than {MAX_BYTES} bytes, the limit of a manifest")]
    TooLarge,
    /// It is no pod that may run here.
    #[error(transparent)]
    Manifest(#[from] Refused),
}

impl LoadError {
    /// Everything that is wrong, each in a line.
    pub(crate) fn lines(&self) -> Vec<String> {
        match self {
            Self::Manifest(refused) => refused.error.lines(),
            other => vec![daemon::ErrorChain(other).to_string()],
        }
    }

    /// What was dropped of a manifest, which may be why it is refused.
    pub(crate) fn warnings(&self) -> &[String] {
        match self {
            Self::Manifest(refused) => &refused.warnings,
            Self::Read(_) | Self::TooLarge => &[],
        }
    }
}

/// The pod that a node of that name makes of the bytes.
///
/// # Errors
/// Everything that is wrong with them.
pub(crate) fn pod(bytes: &[u8], origin: &str, node_name: &str) -> Result<LoadedPod, LoadError> {
    let source = StaticSource {
        node_name: node_name.to_owned(),
        origin: Origin::File(origin.to_owned()),
        first_seen: Timestamp::now(),
    };
    Ok(load_static(bytes, &source)?)
}

/// All bytes of a manifest.
///
/// # Errors
/// When they can't be read, or are too many.
pub(crate) fn read(from: impl Read) -> Result<Vec<u8>, LoadError> {
    let mut bytes = Vec::new();
    from.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(LoadError::Read)?;
    if bytes.len() as u64 > MAX_BYTES {
        Err(LoadError::TooLarge)
    } else {
        Ok(bytes)
    }
}

/// The pod of a file.
///
/// # Errors
/// As [`read`] and [`pod`].
pub(crate) fn load(path: &Path, node_name: &str) -> Result<LoadedPod, LoadError> {
    let bytes = read(File::open(path).map_err(LoadError::Read)?)?;
    pod(&bytes, &path.to_string_lossy(), node_name)
}

/// The manifests at a path: a file, or the files of a directory that the kubelet reads, by name.
///
/// # Errors
/// When the path can't be looked at.
pub(crate) fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let wanted = FileName::of(&entry.file_name().to_string_lossy()) == FileName::Manifest;
        // Links count as what they point to; a dangling one is a problem to be shown.
        let is_file = fs::metadata(entry.path()).map_or(true, |metadata| metadata.is_file());
        if wanted && is_file {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_read_as_the_kubelet_reads_it() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.json", ".hidden", "c.yaml~", "4913", "#d#"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        fs::create_dir(directory.path().join("sub")).unwrap();
        let found = files(directory.path()).unwrap();
        let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap()).collect();
        assert_eq!(names, ["a.json", "b.yaml"]);
        let file = directory.path().join("c.yaml~");
        assert_eq!(
            files(&file).unwrap(),
            [file],
            "a file that is named is read"
        );
        assert!(files(&directory.path().join("none")).is_err());
    }

    #[test]
    fn every_wrong_field_has_a_line() {
        let text = "--- {apiVersion: v1, kind: Pod, metadata: {name: A}, spec: {containers: [{}]}}";
        let lines = pod(text.as_bytes(), "f", "n").unwrap_err().lines();
        assert!(lines.len() > 1, "{lines:?}");
        assert!(
            lines
                .iter()
                .any(|line| line.starts_with("spec.containers[0].name: "))
        );
        let lines = pod(b"[", "f", "n").unwrap_err().lines();
        assert!(lines[0].starts_with("couldn't parse as pod: "), "{lines:?}");
    }
}
