//! Image calls.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::model::{ImageHistory, ImageInspect, ImageRemoval, ImageSummary};
use super::stream::{ByteStream, JsonStream};
use super::transport::{Call, segment};
use super::{Engine, EngineError};

/// Credentials for one registry (IMG-08). Serialised into `X-Registry-Auth`; never logged.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize)]
pub(crate) struct RegistryAuth {
    /// User name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) username: String,
    /// Password.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) password: String,
    /// The registry they belong to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) serveraddress: String,
    /// OAuth refresh token.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) identitytoken: String,
    /// Ready bearer token.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) registrytoken: String,
}

impl std::fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryAuth")
            .field("serveraddress", &self.serveraddress)
            .finish_non_exhaustive()
    }
}

/// One message of a pull or load (DKR-19).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Progress {
    /// `Downloading`, `Extracting`, `Status: ...`.
    pub(crate) status: String,
    /// Layer.
    pub(crate) id: String,
    /// How far it is.
    #[serde(
        rename = "progressDetail",
        deserialize_with = "super::model::null_default"
    )]
    pub(crate) detail: ProgressDetail,
    /// Text that `docker load` prints (`Loaded image: ...`).
    pub(crate) stream: String,
    /// Failure text; deprecated in API 1.48 in favour of `errorDetail`.
    error: String,
    #[serde(rename = "errorDetail")]
    error_detail: Option<ErrorDetail>,
}

/// Bytes done and to do; 0 when unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct ProgressDetail {
    /// Bytes done.
    pub(crate) current: i64,
    /// Bytes in all.
    pub(crate) total: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct ErrorDetail {
    code: Option<i64>,
    message: String,
}

/// The messages of a pull or load; success only if it ends without an error. Dropping it cancels
/// the operation in Docker.
#[derive(Debug)]
pub(crate) struct ProgressStream(JsonStream);

/// A pull under way.
pub(crate) type PullStream = ProgressStream;
/// A load under way.
pub(crate) type LoadStream = ProgressStream;

impl ProgressStream {
    /// The next message, `None` at a successful end. An error object comes as
    /// [`EngineError::Progress`]. Cancel-safe; the caller sets the idle limit (IMG-09).
    pub(crate) async fn next(&mut self) -> Option<Result<Progress, EngineError>> {
        let progress: Progress = match self.0.next().await? {
            Ok(progress) => progress,
            Err(error) => return Some(Err(error)),
        };
        if let Some(ErrorDetail { code, message }) = progress.error_detail {
            return Some(Err(EngineError::Progress { code, message }));
        }
        if !progress.error.is_empty() {
            return Some(Err(EngineError::Progress {
                code: None,
                message: progress.error,
            }));
        }
        Some(Ok(progress))
    }
}

impl Engine {
    /// `GET /images/json`: top-level images, optionally those matching one `reference` (globs allowed).
    ///
    /// # Errors
    /// As any call.
    pub(crate) async fn images(
        &self,
        reference: Option<&str>,
    ) -> Result<Vec<ImageSummary>, EngineError> {
        let filters = reference.map(|r| serde_json::json!({ "reference": [r] }).to_string());
        let call = Call::get("/images/json").query_opt("filters", filters.as_deref());
        self.fetch(call, self.timeout).await
    }

    /// `GET /images/{ref}/json`; the reference may be a name, an id or an unambiguous short id.
    ///
    /// # Errors
    /// `NotFound`, or as any call.
    pub(crate) async fn inspect_image(&self, reference: &str) -> Result<ImageInspect, EngineError> {
        let call = Call::get(format!("/images/{}/json", segment(reference)));
        self.fetch(call, self.timeout).await
    }

    /// `GET /images/{ref}/history`, newest layer first.
    ///
    /// # Errors
    /// As [`Engine::inspect_image`].
    pub(crate) async fn image_history(
        &self,
        reference: &str,
    ) -> Result<Vec<ImageHistory>, EngineError> {
        let call = Call::get(format!("/images/{}/history", segment(reference)));
        self.fetch(call, self.timeout).await
    }

    /// `DELETE /images/{ref}`, pruning untagged parents, never forced (IMG-14).
    ///
    /// # Errors
    /// `NotFound`; `Conflict` while a container uses it or several tags name it.
    pub(crate) async fn remove_image(
        &self,
        reference: &str,
    ) -> Result<Vec<ImageRemoval>, EngineError> {
        let call = Call::new(
            http::Method::DELETE,
            format!("/images/{}", segment(reference)),
        );
        self.fetch(call, self.timeout).await
    }

    /// `POST /images/create?fromImage=&tag=`: starts a pull. `tag` is a tag or a digest. `opening`
    /// bounds the wait for the first answer, in which Docker resolves the name at the registry.
    ///
    /// # Errors
    /// As any call; registry failures come later through the stream.
    pub(crate) async fn pull_image(
        &self,
        from_image: &str,
        tag: &str,
        auth: &RegistryAuth,
        opening: Duration,
    ) -> Result<PullStream, EngineError> {
        // The header goes out for anonymous pulls too, as upstream does (IMG-18).
        let json = serde_json::to_vec(auth).expect("strings always serialize");
        let mut value = HeaderValue::try_from(URL_SAFE.encode(json)).expect("base64 is ASCII");
        value.set_sensitive(true);
        let call = Call::post("/images/create")
            .query("fromImage", from_image)
            .query("tag", tag)
            .header(HeaderName::from_static("x-registry-auth"), value);
        let response = self.send(call, opening).await?;
        let bytes = ByteStream::new("POST /images/create", response.into_body());
        Ok(ProgressStream(JsonStream::new(bytes)))
    }

    /// `POST /images/load` with a tar archive in memory; meant for the few KiB of the pause image.
    ///
    /// # Errors
    /// As any call; failures while loading come through the stream.
    pub(crate) async fn load_image(&self, tar: Bytes) -> Result<LoadStream, EngineError> {
        let call = Call::post("/images/load")
            .query("quiet", "1")
            .body("application/x-tar", tar);
        let response = self.send(call, self.timeout).await?;
        let bytes = ByteStream::new("POST /images/load", response.into_body());
        Ok(ProgressStream(JsonStream::new(bytes)))
    }
}
