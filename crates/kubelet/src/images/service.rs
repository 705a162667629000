//! What pulling needs of the runtime.

use cri_api::v1;

use crate::runtime::client::{CriClient, CriError};

/// Of a pod.
pub(crate) type Annotations = std::collections::BTreeMap<String, String>;

/// The two calls that are needed of the runtime.
pub(crate) trait ImageService: Send + Sync {
    /// The image, if it is there, for a pod with these annotations, which some snapshotters read.
    fn status(
        &self,
        image: &str,
        annotations: &Annotations,
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
    async fn status(
        &self,
        image: &str,
        annotations: &Annotations,
    ) -> Result<Option<v1::Image>, CriError> {
        self.image_status(spec(image, annotations)).await
    }

    async fn pull(
        &self,
        image: &str,
        auth: Option<v1::AuthConfig>,
        sandbox: v1::PodSandboxConfig,
    ) -> Result<String, CriError> {
        // Large: the request carries the whole sandbox configuration.
        let image = spec(image, &sandbox.annotations);
        Box::pin(self.pull_image(image, auth, sandbox)).await
    }
}

fn spec(image: &str, annotations: &Annotations) -> v1::ImageSpec {
    v1::ImageSpec {
        image: image.to_owned(),
        annotations: annotations.clone(),
        ..v1::ImageSpec::default()
    }
}
