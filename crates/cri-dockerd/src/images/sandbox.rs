//! The sandbox image: there, loaded from this program, or pulled.

use cri_api::{Code, RpcError};

use super::{Images, keyring::Keyring, reference::Reference, refuse, stepped};
use crate::engine::{EngineError, RegistryAuth};

impl Images {
    /// Makes sure that the sandbox image is there (SBX-02, NODE-31, DEC-44): one that is there is
    /// taken as it is; a missing one is loaded from this program; one that is asked for by digest
    /// can't be ours and is pulled, with the node's own credentials.
    ///
    /// # Errors
    /// Docker's or the registry's, with the step before it in upstream's words.
    pub(crate) async fn ensure_sandbox_image(&self) -> Result<(), RpcError> {
        let image = self.0.settings.sandbox_image.as_str();
        let inspect = async || {
            self.inspect(image).await.map_err(|error| {
                let text = format!("failed to inspect sandbox image {image:?}");
                stepped(&text, &refuse(&error))
            })
        };
        if inspect().await?.is_some() {
            return Ok(());
        }
        let _one = self.0.sandbox.lock().await;
        if inspect().await?.is_some() {
            return Ok(());
        }
        let failed = |error: &RpcError| stepped(&format!("failed pulling image {image:?}"), error);
        match Reference::parse(image) {
            Some(reference) if reference.digest.is_none() => {
                tracing::info!(image, "loading the built-in sandbox image");
                self.load_pause(&reference)
                    .await
                    .map_err(|error| failed(&refuse(&error)))
            }
            Some(reference) => self
                .pull_sandbox(&reference)
                .await
                .map_err(|error| failed(&error)),
            None => {
                let problem = "no such image, and an id can't be pulled: name it with a tag";
                Err(failed(&RpcError::new(Code::NotFound, problem)))
            }
        }
    }

    async fn load_pause(&self, reference: &Reference) -> Result<(), EngineError> {
        let name = format!("{}:{}", reference.familiar_name(), reference.version());
        let mut stream = self
            .0
            .engine
            .load_image(pause::image_tar(&name).into())
            .await?;
        while let Some(message) = stream.next().await {
            message?;
        }
        self.changed();
        Ok(())
    }

    async fn pull_sandbox(&self, reference: &Reference) -> Result<(), RpcError> {
        let home = self.0.settings.home.clone();
        let keyring = daemon::blocking(move || Keyring::load(home.as_deref())).await;
        let mut credentials = keyring.lookup(reference);
        if credentials.is_empty() {
            credentials.push(RegistryAuth::default());
        }
        let mut result = Ok(());
        for auth in credentials {
            result = self.join(reference.clone(), auth).await.map(drop);
            if result.is_ok() {
                break;
            }
        }
        result
    }
}
