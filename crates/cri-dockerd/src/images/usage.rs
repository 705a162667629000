//! How much room images take (STT-09..11, PRF-29).
//!
//! Layers are counted once, however many images have them. Docker tells the sizes of an image's
//! layers in its history, which never changes for an id, so each image is asked about once. A layer
//! is known by everything up to it in the history: that is how layers of one origin look alike.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::Path,
    sync::Arc,
};

use cri_api::v1;

use crate::engine::model::ImageHistory;

/// Sizes of layers by image.
#[derive(Debug, Default)]
pub(super) struct LayerSizes {
    by_image: HashMap<String, Arc<[(u64, u64)]>>,
}

impl LayerSizes {
    /// Whether an image's layers are known.
    pub(super) fn knows(&self, image: &str) -> bool {
        self.by_image.contains_key(image)
    }

    /// Takes an image's history, newest layer first.
    pub(super) fn learn(&mut self, image: &str, newest_first: &[ImageHistory]) {
        let mut origin = DefaultHasher::new();
        let layers = newest_first.iter().rev().filter_map(|layer| {
            (layer.created, &layer.created_by, layer.size).hash(&mut origin);
            let size = u64::try_from(layer.size).ok().filter(|size| *size > 0)?;
            Some((origin.finish(), size))
        });
        self.by_image.insert(image.to_owned(), layers.collect());
    }

    /// Forgets images that are gone.
    pub(super) fn keep_only<'a>(&mut self, images: impl Iterator<Item = &'a str>) {
        let there: HashSet<&str> = images.collect();
        self.by_image
            .retain(|image, _| there.contains(image.as_str()));
    }

    /// Bytes of all layers.
    pub(super) fn unique_bytes(&self) -> u64 {
        let mut seen = HashSet::new();
        let layers = self.by_image.values().flat_map(|layers| layers.iter());
        layers
            .filter(|(origin, _)| seen.insert(*origin))
            .map(|(_, size)| size)
            .sum()
    }
}

/// Inodes in use on the file system of a path. Blocks.
pub(super) fn file_system(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_files.saturating_sub(stat.f_ffree))
}

/// The answer: one file system, Docker's data directory on the engine's host (STT-11).
pub(super) fn response(
    root: &str,
    image_bytes: u64,
    writable_bytes: Option<u64>,
    inodes: u64,
) -> v1::ImageFsInfoResponse {
    let usage = |bytes: Option<u64>, inodes: Option<u64>| v1::FilesystemUsage {
        timestamp: crate::hub::now(),
        fs_id: Some(v1::FilesystemIdentifier {
            mountpoint: root.to_owned(),
        }),
        used_bytes: bytes.map(|value| v1::UInt64Value { value }),
        inodes_used: inodes.map(|value| v1::UInt64Value { value }),
    };
    v1::ImageFsInfoResponse {
        image_filesystems: vec![usage(Some(image_bytes), Some(inodes))],
        container_filesystems: vec![usage(Some(writable_bytes.unwrap_or(0)), None)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_that_images_share_are_counted_once() {
        let layer = |by: &str, size| ImageHistory {
            created_by: by.into(),
            size,
            ..ImageHistory::default()
        };
        let mut sizes = LayerSizes::default();
        sizes.learn("a", &[layer("CMD", 0), layer("base", 100)]);
        sizes.learn("b", &[layer("COPY", 7), layer("base", 100)]);
        sizes.learn("c", &[layer("base", 100), layer("other", 1)]);
        assert_eq!(sizes.unique_bytes(), 100 + 7 + 100 + 1);
        sizes.keep_only(["b"].into_iter());
        assert_eq!(sizes.unique_bytes(), 107);
        assert!(sizes.knows("b") && !sizes.knows("a"));
    }
}
