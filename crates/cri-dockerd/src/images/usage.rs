//! ImageFsInfo: how much room images take (STT-09..11, PRF-29).

use std::path::PathBuf;

use cri_api::{Code, RpcError, v1};
use daemon::ErrorChain;
use node_os::statfs;

use super::{Images, refuse};
use crate::{hub::Health, lock::lock};

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
        timestamp: crate::clock::now(),
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
