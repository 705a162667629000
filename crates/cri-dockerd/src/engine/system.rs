//! `/version` and `/info`.

use super::model::{SystemInfo, SystemVersion};
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

    /// `GET /info`. Dear to Docker: ask once per connection, never per request.
    ///
    /// # Errors
    /// As any call.
    pub(crate) async fn info(&self) -> Result<SystemInfo, EngineError> {
        self.fetch(Call::get("/info"), self.timeout).await
    }
}
