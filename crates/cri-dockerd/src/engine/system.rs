//! `/version` and `/info`.

use super::model::{DiskUsage, SystemInfo, SystemVersion};
use super::transport::Call;
use super::{Engine, EngineError};

impl Engine {
    /// `GET /version`.
    ///
    /// # Errors
    /// As any call.
    pub(crate) async fn version(&self) -> Result<SystemVersion, EngineError> {
        self.fetch(Call::get("/version"), self.timeout).await
    }

    /// `GET /system/df?type=image`: bytes of all images, what they share counted once. Dear to
    /// Docker, which walks over everything; for engines from API 1.42 on.
    ///
    /// # Errors
    /// As any call.
    pub(crate) async fn images_size(&self) -> Result<u64, EngineError> {
        let call = Call::get("/system/df").query("type", "image");
        let usage: DiskUsage = self.fetch(call, self.timeout).await?;
        let bytes = usage
            .image_usage
            .map_or(usage.layers_size, |images| images.total_size);
        Ok(u64::try_from(bytes).unwrap_or(0))
    }

    /// `GET /info`. Dear to Docker: ask once per connection, never per request.
    ///
    /// # Errors
    /// As any call.
    pub(crate) async fn info(&self) -> Result<SystemInfo, EngineError> {
        self.fetch(Call::get("/info"), self.timeout).await
    }
}
