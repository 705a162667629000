//! How much room images take (STT-09..11, PRF-29).
//!
//! Layers are counted once, however many images have them. Docker tells the sizes of an image's
//! layers in its history, which never changes for an id, so each image is asked about once. A layer
//! is known by everything up to it in the history: that is how layers of one origin look alike.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
    sync::Arc,
};

use cri_api::{Code, RpcError, v1};
use daemon::ErrorChain;
use node_os::statfs;

use super::{Images, refuse};
use crate::{
    engine::model::ImageHistory,
    hub::{Health, lock},
};

/// Sizes of layers by image.
#[derive(Debug, Default)]
pub(super) struct LayerSizes {
    by_image: HashMap<String, Arc<[(u64, u64)]>>,
    /// Bytes of all images where Docker tells only that.
    whole_store: Option<u64>,
    /// The state of images that all this was learned in.
    learned: Option<(u64, u64)>,
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

impl Images {
    /// ImageFsInfo. `root` is where images and layers are kept, on the engine's host;
    /// `writable_bytes` is what containers wrote, as far as it is known.
    ///
    /// Nothing is asked of Docker unless images changed since the last call.
    ///
    /// # Errors
    /// Docker's; when the directory can't be looked at.
    pub(crate) async fn fs_info(
        &self,
        root: Option<PathBuf>,
        writable_bytes: Option<u64>,
    ) -> Result<v1::ImageFsInfoResponse, RpcError> {
        let image_bytes = self.unique_bytes().await?;
        let unknown = |text: String| RpcError::new(Code::Unknown, text);
        let root = root.ok_or_else(|| unknown("docker has not been reached yet".to_owned()))?;
        let shown = root.display();
        let ours = self.0.paths.from_host(&root).ok_or_else(|| {
            unknown(format!(
                "docker's data directory {shown} cannot be seen from this container: mount it at \
                 the same path"
            ))
        })?;
        let usage = daemon::blocking(move || statfs::usage(&ours))
            .await
            .map_err(|error| {
                let error = ErrorChain(&error);
                unknown(format!("look at docker's data directory {shown}: {error}"))
            })?;
        Ok(response(
            &root.to_string_lossy(),
            image_bytes,
            writable_bytes.unwrap_or(0),
            usage.inodes.saturating_sub(usage.inodes_free),
        ))
    }

    /// Bytes of all images, what they share counted once.
    async fn unique_bytes(&self) -> Result<u64, RpcError> {
        let generation = self.generation();
        let fresh = self.0.hub.health() == Health::Fresh;
        if fresh && lock(&self.0.layers).learned == Some(generation) {
            return Ok(lock(&self.0.layers).unique_bytes());
        }
        let facts = self.0.hub.known_facts();
        if facts.is_some_and(|facts| facts.info.has_containerd_store()) {
            // The history knows layers as unpacked; this store keeps them packed, too.
            let bytes = self.0.engine.images_size().await.map_err(|e| refuse(&e))?;
            let mut layers = lock(&self.0.layers);
            layers.learned = (fresh && self.generation() == generation).then_some(generation);
            layers.whole_store = Some(bytes);
            return Ok(bytes);
        }
        let images = self.0.engine.images(None).await.map_err(|e| refuse(&e))?;
        lock(&self.0.layers).keep_only(images.iter().map(|image| image.id.as_str()));
        for image in &images {
            if lock(&self.0.layers).knows(&image.id) {
                continue;
            }
            match self.0.engine.image_history(&image.id).await {
                Ok(history) => lock(&self.0.layers).learn(&image.id, &history),
                // Removed meanwhile.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(refuse(&error)),
            }
        }
        let mut layers = lock(&self.0.layers);
        layers.learned = (fresh && self.generation() == generation).then_some(generation);
        layers.whole_store = None;
        Ok(layers.unique_bytes())
    }
}

/// The answer: images and containers are kept in one directory (STT-11).
fn response(
    root: &str,
    image_bytes: u64,
    writable_bytes: u64,
    inodes: u64,
) -> v1::ImageFsInfoResponse {
    let value = |value| Some(v1::UInt64Value { value });
    let usage = |bytes, inodes_used| v1::FilesystemUsage {
        timestamp: crate::hub::now(),
        fs_id: Some(v1::FilesystemIdentifier {
            mountpoint: root.to_owned(),
        }),
        used_bytes: value(bytes),
        inodes_used,
    };
    v1::ImageFsInfoResponse {
        image_filesystems: vec![usage(image_bytes, value(inodes))],
        container_filesystems: vec![usage(writable_bytes, value(inodes))],
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
