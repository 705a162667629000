//! The image service.

use cri_api::v1::{self, image_service_server::ImageService};
use tonic::{Request, Status};

use super::{Answer, Service};
use crate::fake_cri::script::Call;

fn name_of(image: Option<&v1::ImageSpec>) -> Result<String, Status> {
    let name = image.map(|image| image.image.clone()).unwrap_or_default();
    if name.is_empty() {
        Err(Status::invalid_argument("no image is named"))
    } else {
        Ok(name)
    }
}

#[tonic::async_trait]
impl ImageService for Service {
    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Answer<v1::ListImagesResponse> {
        let filter = request.into_inner().filter.and_then(|filter| filter.image);
        let wanted = filter
            .map(|image| image.image)
            .filter(|name| !name.is_empty());
        self.answer(Call::ListImages, "", |state| {
            let images = match &wanted {
                Some(name) => state.model.image(name).cloned().into_iter().collect(),
                None => state.model.images.values().cloned().collect(),
            };
            Ok(v1::ListImagesResponse { images })
        })
        .await
    }

    async fn image_status(
        &self,
        request: Request<v1::ImageStatusRequest>,
    ) -> Answer<v1::ImageStatusResponse> {
        let name = name_of(request.into_inner().image.as_ref())?;
        self.answer(Call::ImageStatus, &name, |state| {
            Ok(v1::ImageStatusResponse {
                image: state.model.image(&name).cloned(),
                ..v1::ImageStatusResponse::default()
            })
        })
        .await
    }

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Answer<v1::PullImageResponse> {
        let name = name_of(request.into_inner().image.as_ref())?;
        self.answer(Call::PullImage, &name, |state| {
            match state.script.pulls.get(&name) {
                Some((code, message)) => Err(Status::new(*code, message.clone())),
                None => Ok(v1::PullImageResponse {
                    image_ref: state.model.add_image(&name),
                }),
            }
        })
        .await
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Answer<v1::RemoveImageResponse> {
        let name = name_of(request.into_inner().image.as_ref())?;
        self.answer(Call::RemoveImage, &name, |state| {
            state.model.remove_image(&name);
            Ok(v1::RemoveImageResponse::default())
        })
        .await
    }

    async fn image_fs_info(
        &self,
        _: Request<v1::ImageFsInfoRequest>,
    ) -> Answer<v1::ImageFsInfoResponse> {
        self.answer(Call::ImageFsInfo, "", |state| {
            let usage = v1::FilesystemUsage {
                timestamp: state.model.now(),
                fs_id: Some(v1::FilesystemIdentifier {
                    mountpoint: "/".to_owned(),
                }),
                used_bytes: Some(v1::UInt64Value { value: 1 << 20 }),
                inodes_used: Some(v1::UInt64Value { value: 100 }),
            };
            Ok(v1::ImageFsInfoResponse {
                image_filesystems: vec![usage.clone()],
                container_filesystems: vec![usage],
            })
        })
        .await
    }
}
