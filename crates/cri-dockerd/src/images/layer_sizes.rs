//! How large the layers of images are (PRF-29). Pure.
//!
//! Layers are counted once, however many images have them. Docker tells the sizes of an image's
//! layers in its history, which never changes for an id, so each image is asked about once. A layer
//! is known by everything up to it in the history: that is how layers of one origin look alike.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use crate::engine::model::ImageHistory;

/// Sizes of layers by image.
#[derive(Debug, Default)]
pub(super) struct LayerSizes {
    by_image: HashMap<String, Arc<[(u64, u64)]>>,
    /// Bytes of all images where Docker tells only that.
    pub(super) whole_store: Option<u64>,
    /// The state of images that all this was learned in.
    pub(super) learned: Option<(u64, u64)>,
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
        if let Some(bytes) = self.whole_store {
            return bytes;
        }
        let mut seen = HashSet::new();
        let layers = self.by_image.values().flat_map(|layers| layers.iter());
        layers
            .filter(|(origin, _)| seen.insert(*origin))
            .map(|(_, size)| size)
            .sum()
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
