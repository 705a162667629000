//! The gRPC face of the image service.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc};

use cri_api::{
    Code, RpcError,
    v1::{self, image_service_server},
};
use futures_util::FutureExt as _;
use tonic::{Request, Response, Status};

use crate::{error::Error, runtime::Runtime, sandbox::runtime_of_handler};

/// The CRI's image service.
#[derive(Debug, Clone)]
pub(crate) struct ImageService(pub(crate) Arc<Runtime>);

type Answer<T> = Result<Response<T>, Status>;

/// Runs a call; a panic is this call's failure alone (DEC-46).
async fn answer<T>(
    name: &'static str,
    handler: impl Future<Output = Result<T, RpcError>>,
) -> Answer<T> {
    let error = match AssertUnwindSafe(handler).catch_unwind().await {
        Ok(Ok(answer)) => return Ok(Response::new(answer)),
        Ok(Err(error)) => error,
        Err(_) => {
            tracing::error!(call = name, "a call broke");
            RpcError::new(Code::Internal, format!("{name} panicked"))
        }
    };
    tracing::debug!(call = name, code = ?error.code, error = error.message, "call failed");
    Err(error.into())
}

impl ImageService {
    /// The image's name. Kubelets name the pod's handler with it.
    ///
    /// Differs: ImageStatus, PullImage and RemoveImage refuse an image with a runtime handler that Docker
    /// has not got, as RunPodSandbox does; upstream reads no handler there.
    async fn name(&self, image: Option<v1::ImageSpec>) -> Result<String, RpcError> {
        let image = image.unwrap_or_default();
        if !image.runtime_handler.is_empty() {
            let engine = self.0.hub.facts().await.map_err(Error::from)?;
            runtime_of_handler(&image.runtime_handler, &engine)?;
        }
        Ok(image.image)
    }
}

#[tonic::async_trait]
impl image_service_server::ImageService for ImageService {
    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Answer<v1::ListImagesResponse> {
        let filter = request.into_inner().filter;
        answer("ListImages", async {
            Ok(v1::ListImagesResponse {
                images: self.0.images.list(filter).await?,
            })
        })
        .await
    }

    async fn image_status(
        &self,
        request: Request<v1::ImageStatusRequest>,
    ) -> Answer<v1::ImageStatusResponse> {
        let request = request.into_inner();
        answer("ImageStatus", async {
            let image = self.name(request.image).await?;
            self.0.images.status(&image, request.verbose).await
        })
        .await
    }

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Answer<v1::PullImageResponse> {
        let request = request.into_inner();
        answer("PullImage", async {
            let image = self.name(request.image).await?;
            let image_ref = self.0.images.pull(&image, request.auth.as_ref()).await?;
            Ok(v1::PullImageResponse { image_ref })
        })
        .await
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Answer<v1::RemoveImageResponse> {
        let request = request.into_inner();
        // Runs to its end: half of the names gone would be a third state.
        let images = self.0.images.clone();
        answer("RemoveImage", async {
            let image = self.name(request.image).await?;
            let spawner = images.spawner().clone();
            let removal = spawner.run("remove image", async move { images.remove(&image).await });
            match removal.await {
                Ok(result) => result.map(|()| v1::RemoveImageResponse {}),
                Err(lost) => Err(RpcError::new(Code::Internal, lost.to_string())),
            }
        })
        .await
    }

    async fn image_fs_info(
        &self,
        _: Request<v1::ImageFsInfoRequest>,
    ) -> Answer<v1::ImageFsInfoResponse> {
        answer("ImageFsInfo", self.0.image_fs_info()).await
    }
}
