//! `GET /events`: the stream that keeps the state cache true (DKR-10, DKR-11).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::model::null_default;
use super::stream::{ByteStream, JsonStream};
use super::transport::Call;
use super::{Engine, EngineError};

/// What is listened to. The list keeps health checks and the first two of the three events of each
/// exec away, which on a node with many probes are most of all.
const ACTIONS: [&str; 19] = [
    "create", "start", "kill", "die", "oom", "pause", "unpause", "rename", "update", "destroy",
    "exec_die", "pull", "tag", "untag", "delete", "import", "load", "prune", "restart",
];

/// One event. Old fields (`id`, `status`, `from`) are gone in API 1.52 and not read.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Event {
    /// `container`, `image`, ...
    #[serde(rename = "Type")]
    pub(crate) kind: String,
    /// `create`, `start`, `die`, `exec_die`, `exec_create: ls -l`, ...
    #[serde(rename = "Action")]
    pub(crate) action: String,
    /// What it is about.
    #[serde(rename = "Actor")]
    pub(crate) actor: Actor,
    /// When, in nanoseconds since 1970.
    #[serde(rename = "timeNano")]
    pub(crate) time_nano: i64,
}

/// The object of an [`Event`].
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Actor {
    /// Container id, or image reference or id.
    #[serde(rename = "ID")]
    pub(crate) id: String,
    /// Labels plus facts of the action (`exitCode`, `execID`, `name`, `image`).
    #[serde(rename = "Attributes", deserialize_with = "null_default")]
    pub(crate) attributes: BTreeMap<String, String>,
}

/// An open event stream.
#[derive(Debug)]
pub(crate) struct EventStream(JsonStream);

impl EventStream {
    /// The next event; `None` when Docker closed the stream. Cancel-safe, waits without limit.
    pub(crate) async fn next(&mut self) -> Option<Result<Event, EngineError>> {
        self.0.next().await
    }
}

impl Engine {
    /// Opens the stream of container and image events. When it returns Docker is already
    /// recording: what happens from now on will be delivered.
    ///
    /// # Errors
    /// As any call; the limit covers the opening.
    pub(crate) async fn events(&self) -> Result<EventStream, EngineError> {
        // No label filter: it would hide image events, which carry the image's labels instead.
        let filters = serde_json::json!({ "type": ["container", "image"], "event": ACTIONS });
        let call = Call::get("/events").query("filters", &filters.to_string());
        let response = self.send(call, self.timeout).await?;
        let bytes = ByteStream::new("GET /events", response.into_body());
        Ok(EventStream(JsonStream::new(bytes)))
    }
}
