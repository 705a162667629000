//! Container calls.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::model::{ContainerInspect, ContainerSummary, CreateContainer, UpdateContainer};
use super::stream::ByteStream;
use super::transport::{Call, segment};
use super::{Engine, EngineError};

/// Beyond the grace period Docker needs time to kill and to clean up (CTR-23 BEAT).
const STOP_MARGIN: Duration = Duration::from_mins(1);

/// Which containers [`Engine::containers`] lists.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListContainers {
    /// Also those that don't run.
    pub(crate) all: bool,
    /// Labels that must be there: `key` or `key=value`.
    pub(crate) labels: Vec<String>,
    /// Only these, if any are named.
    pub(crate) ids: Vec<String>,
}

/// What [`Engine::logs`] reads.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogsQuery {
    /// Stay and deliver what comes.
    pub(crate) follow: bool,
    /// Put the RFC 3339 time with nanoseconds and a blank before each line.
    pub(crate) timestamps: bool,
    /// Only lines from this time on: `SECONDS.NANOSECONDS` since 1970, nine digits.
    pub(crate) since: Option<String>,
    /// Only the last so many lines of what is there.
    pub(crate) tail: Option<u64>,
}

impl Engine {
    /// `GET /containers/json`. An in-memory snapshot of Docker that waits for no container (DKR-16).
    ///
    /// # Errors
    /// As any call.
    pub(crate) async fn containers(
        &self,
        query: &ListContainers,
    ) -> Result<Vec<ContainerSummary>, EngineError> {
        let mut call = Call::get("/containers/json");
        if query.all {
            call = call.query("all", "1");
        }
        let filters = [("label", &query.labels), ("id", &query.ids)];
        let filters: BTreeMap<_, _> = filters.into_iter().filter(|(_, v)| !v.is_empty()).collect();
        if !filters.is_empty() {
            call = call.query("filters", &serde_json::json!(filters).to_string());
        }
        self.fetch(call, self.timeout).await
    }

    /// `GET /containers/{id}/json`. Waits while Docker works on the container (DKR-16).
    ///
    /// # Errors
    /// `NotFound`, or as any call.
    pub(crate) async fn inspect_container(
        &self,
        id: &str,
    ) -> Result<ContainerInspect, EngineError> {
        self.fetch(
            Call::get(format!("/containers/{}/json", segment(id))),
            self.timeout,
        )
        .await
    }

    /// As [`Engine::inspect_container`], all that Docker tells.
    ///
    /// # Errors
    /// `NotFound`, or as any call.
    pub(crate) async fn inspect_container_whole(
        &self,
        id: &str,
    ) -> Result<serde_json::Value, EngineError> {
        let call = Call::get(format!("/containers/{}/json", segment(id)));
        self.fetch(call, self.timeout).await
    }

    /// `POST /containers/create?name=`; answers the new id.
    ///
    /// # Errors
    /// `NotFound` without the image, `Conflict` when the name is taken, `Invalid` for bad settings.
    pub(crate) async fn create_container(
        &self,
        name: &str,
        config: &CreateContainer,
    ) -> Result<String, EngineError> {
        #[derive(Deserialize)]
        struct Created {
            #[serde(rename = "Id")]
            id: String,
        }
        let call = Call::post("/containers/create")
            .query("name", name)
            .json(config);
        let created: Created = self.fetch(call, self.timeout).await?;
        Ok(created.id)
    }

    /// `POST /networks/create`: a bridge of that name.
    ///
    /// # Errors
    /// `Conflict` when there is one, or as any call.
    pub(crate) async fn create_network(&self, name: &str) -> Result<(), EngineError> {
        let body = serde_json::json!({ "Name": name, "Driver": "bridge", "CheckDuplicate": true });
        self.run(Call::post("/networks/create").json(&body), self.timeout)
            .await
    }

    /// `POST /containers/{id}/start`. Succeeds when it runs already.
    ///
    /// # Errors
    /// `NotFound`; otherwise mostly the OCI runtime's text, and the container is then left created.
    pub(crate) async fn start_container(&self, id: &str) -> Result<(), EngineError> {
        self.run(
            Call::post(format!("/containers/{}/start", segment(id))),
            self.timeout,
        )
        .await
    }

    /// `POST /containers/{id}/stop?t=`. Succeeds when it is stopped already. Takes up to `grace`
    /// and a margin, however short the configured limit is.
    ///
    /// # Errors
    /// `NotFound`, or as any call.
    pub(crate) async fn stop_container(
        &self,
        id: &str,
        grace: Duration,
    ) -> Result<(), EngineError> {
        let call = Call::post(format!("/containers/{}/stop", segment(id)))
            .query("t", &grace.as_secs().to_string());
        let limit = self.timeout.max(grace.saturating_add(STOP_MARGIN));
        self.run(call, limit).await
    }

    /// `DELETE /containers/{id}?v=1`: with its anonymous volumes (DKR-18); `force` kills it first.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it runs and `force` is off or a removal is under way already.
    pub(crate) async fn remove_container(&self, id: &str, force: bool) -> Result<(), EngineError> {
        let mut call =
            Call::new(http::Method::DELETE, format!("/containers/{}", segment(id))).query("v", "1");
        if force {
            call = call.query("force", "1");
        }
        self.run(call, self.timeout).await
    }

    /// `POST /containers/{id}/update` (CTR-40).
    ///
    /// # Errors
    /// As any call.
    pub(crate) async fn update_container(
        &self,
        id: &str,
        update: &UpdateContainer,
    ) -> Result<(), EngineError> {
        let call = Call::post(format!("/containers/{}/update", segment(id))).json(update);
        self.run(call, self.timeout).await
    }

    /// `GET /containers/{id}/logs`. The bytes are framed unless the container has a TTY.
    ///
    /// # Errors
    /// `NotFound`; `Internal` for log drivers that can't be read. The limit covers the opening.
    pub(crate) async fn logs(
        &self,
        id: &str,
        query: &LogsQuery,
    ) -> Result<ByteStream, EngineError> {
        let flag = |on: bool| on.then_some("1");
        let tail = query.tail.map(|n| n.to_string());
        let call = Call::get(format!("/containers/{}/logs", segment(id)))
            .query("stdout", "1")
            .query("stderr", "1")
            .query_opt("follow", flag(query.follow))
            .query_opt("timestamps", flag(query.timestamps))
            .query_opt("since", query.since.as_deref())
            .query_opt("tail", tail.as_deref());
        let response = self.send(call, self.timeout).await?;
        Ok(ByteStream::new(
            "GET /containers/logs",
            response.into_body(),
        ))
    }
}
