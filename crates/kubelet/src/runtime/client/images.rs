//! Images (CRI-19).

use cri_api::v1;

use super::{CriClient, CriError, present};

impl CriClient {
    /// One image, if it is there.
    pub(crate) async fn image_status(
        &self,
        image: v1::ImageSpec,
    ) -> Result<Option<v1::Image>, CriError> {
        const OPERATION: &str = "image_status";
        let mut client = self.images.clone();
        let request = v1::ImageStatusRequest {
            image: Some(image),
            verbose: false,
        };
        let image = self
            .call(
                OPERATION,
                Some(self.request_timeout),
                Box::pin(client.image_status(request)),
            )
            .await?
            .image;
        if let Some(image) = &image {
            present(OPERATION, "image.id", &image.id)?;
        }
        Ok(image)
    }

    /// Pulls an image and returns its reference. No limit: dropping the call ends the pull.
    pub(crate) async fn pull_image(
        &self,
        image: v1::ImageSpec,
        auth: Option<v1::AuthConfig>,
        sandbox_config: v1::PodSandboxConfig,
    ) -> Result<String, CriError> {
        const OPERATION: &str = "pull_image";
        let mut client = self.images.clone();
        let request = v1::PullImageRequest {
            image: Some(image),
            auth,
            sandbox_config: Some(sandbox_config),
        };
        let reference = self
            .call(OPERATION, None, Box::pin(client.pull_image(request)))
            .await?
            .image_ref;
        present(OPERATION, "image_ref", &reference)?;
        Ok(reference)
    }
}
