//! What pulling needs of the runtime.

use cri_api::v1;

use crate::runtime::client::{CriClient, CriError};

/// The two calls that are needed of the runtime.
pub(crate) trait ImageService: Send + Sync {
    /// The image, if it is there.
    fn status(
        &self,
        image: &str,
    ) -> impl Future<Output = Result<Option<v1::Image>, CriError>> + Send;

    /// Pulls it and returns its reference.
    fn pull(
        &self,
        image: &str,
        auth: Option<v1::AuthConfig>,
        sandbox: v1::PodSandboxConfig,
    ) -> impl Future<Output = Result<String, CriError>> + Send;
}

impl ImageService for CriClient {
    async fn status(&self, image: &str) -> Result<Option<v1::Image>, CriError> {
        self.image_status(image).await
    }

    async fn pull(
        &self,
        image: &str,
        auth: Option<v1::AuthConfig>,
        sandbox: v1::PodSandboxConfig,
    ) -> Result<String, CriError> {
        // Large: the request carries the whole sandbox configuration.
        Box::pin(self.pull_image(image, auth, sandbox)).await
    }
}
