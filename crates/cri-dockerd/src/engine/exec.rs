//! Execs and attaching: calls that take the connection over (DKR-06).

use std::time::Duration;

use http::StatusCode;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::Deserialize;

use super::model::{ExecCreate, ExecInspect};
use super::transport::{Call, segment};
use super::{Engine, EngineError};

/// A connection taken over from HTTP: read is the output (see [`super::FrameDecoder`]), write is
/// stdin; shutting the write side down is end of input. Dropping it detaches.
pub(crate) type Hijacked = TokioIo<Upgraded>;

/// Keys that nobody types one after the other. Docker's own are ctrl-p ctrl-q, for which it holds
/// every ctrl-p back.
pub(crate) const NO_DETACH: &str = "ctrl-@,ctrl-_,ctrl-@,ctrl-_,ctrl-@,ctrl-_";

impl Engine {
    /// `POST /containers/{id}/exec`; answers the exec's id.
    ///
    /// # Errors
    /// `NotFound` without such a container, `Conflict` when it is paused or not running.
    pub(crate) async fn exec_create(
        &self,
        container: &str,
        exec: &ExecCreate,
    ) -> Result<String, EngineError> {
        #[derive(Deserialize)]
        struct Created {
            #[serde(rename = "Id")]
            id: String,
        }
        let call = Call::post(format!("/containers/{}/exec", segment(container))).json(exec);
        let created: Created = self.fetch(call, self.timeout).await?;
        Ok(created.id)
    }

    /// `POST /exec/{id}/start`, attached as the exec was created to be.
    ///
    /// # Errors
    /// Docker's text when the process could not be started; some versions report that inside the
    /// output and through exit code 126 or 127 instead (EXE-06).
    pub(crate) async fn exec_start(&self, exec: &str, tty: bool) -> Result<Hijacked, EngineError> {
        let body = serde_json::json!({ "Detach": false, "Tty": tty });
        let call = Call::post(format!("/exec/{}/start", segment(exec)))
            .upgrade()
            .json(&body);
        self.hijack("POST /exec/start", call).await
    }

    /// `GET /exec/{id}/json`.
    ///
    /// # Errors
    /// `NotFound` when Docker forgot the exec (some minutes after its end).
    pub(crate) async fn exec_inspect(&self, exec: &str) -> Result<ExecInspect, EngineError> {
        self.fetch(
            Call::get(format!("/exec/{}/json", segment(exec))),
            self.timeout,
        )
        .await
    }

    /// `POST /exec/{id}/resize`, only after start (EXE-11).
    ///
    /// # Errors
    /// As any call.
    pub(crate) async fn exec_resize(
        &self,
        exec: &str,
        width: u16,
        height: u16,
    ) -> Result<(), EngineError> {
        let call = Call::post(format!("/exec/{}/resize", segment(exec)))
            .query("h", &height.to_string())
            .query("w", &width.to_string());
        self.run(call, self.timeout).await
    }

    /// `POST /containers/{id}/attach`; no replay of older output. No keys detach.
    ///
    /// # Errors
    /// As any call.
    pub(crate) async fn attach(
        &self,
        container: &str,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    ) -> Result<Hijacked, EngineError> {
        let flag = |on: bool| if on { "1" } else { "0" };
        let call = Call::post(format!("/containers/{}/attach", segment(container)))
            .query("stream", "1")
            .query("stdin", flag(stdin))
            .query("stdout", flag(stdout))
            .query("stderr", flag(stderr))
            .query("detachKeys", NO_DETACH)
            .upgrade();
        self.hijack("POST /containers/attach", call).await
    }

    /// `POST /containers/{id}/resize`.
    ///
    /// # Errors
    /// As any call.
    pub(crate) async fn container_resize(
        &self,
        container: &str,
        width: u16,
        height: u16,
    ) -> Result<(), EngineError> {
        let call = Call::post(format!("/containers/{}/resize", segment(container)))
            .query("h", &height.to_string())
            .query("w", &width.to_string());
        self.run(call, self.timeout).await
    }

    async fn hijack(&self, name: &'static str, call: Call) -> Result<Hijacked, EngineError> {
        // Starting a process may take as long as any start.
        let limit = self.timeout.max(Duration::from_secs(1));
        let response = self.send(call, limit).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(EngineError::Progress {
                code: Some(i64::from(response.status().as_u16())),
                message: format!("{name}: docker did not hand the connection over"),
            });
        }
        match hyper::upgrade::on(response).await {
            Ok(upgraded) => Ok(TokioIo::new(upgraded)),
            Err(source) => Err(EngineError::Http {
                call: name.to_owned(),
                source: source.into(),
            }),
        }
    }
}
