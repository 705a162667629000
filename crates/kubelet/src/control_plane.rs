//! The one door to whatever runs above this node (DEC-03). Standalone there is nothing: pods come
//! from local sources, statuses stay here, events go to the log and are kept, and no object can be read.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kubelet_core::event_ring::Event;

use crate::{
    events::{EventSink, EventType, ObjectRef, keeper::EventStore},
    sources::SourceSet,
};

/// What the node asks of its control plane, and what it tells it.
pub(crate) trait ControlPlane: EventSink {
    /// Pods that the control plane wants here; `None` where it wants none ever.
    fn desired_pods(&self) -> Option<tokio::sync::watch::Receiver<SourceSet>>;
    /// Takes the newest status of a pod.
    fn publish_status(&self, pod: &Arc<Pod>, status: &PodStatus);
    /// The data of a ConfigMap; `None` when there is no such object here.
    fn config_map(&self, namespace: &str, name: &str) -> Option<BTreeMap<String, Vec<u8>>>;
    /// The data of a Secret; `None` when there is no such object here.
    fn secret(&self, namespace: &str, name: &str) -> Option<BTreeMap<String, Vec<u8>>>;
}

/// Nothing above this node.
#[derive(Debug, Default)]
pub(crate) struct Standalone {
    events: Arc<EventStore>,
}

impl Standalone {
    /// Events are kept there.
    pub(crate) fn new(events: Arc<EventStore>) -> Self {
        Self { events }
    }
}

impl EventSink for Standalone {
    /// A log line of upstream's shape (PROC-30).
    fn record(&self, object: &ObjectRef, kind: EventType, reason: &str, message: &str) {
        tracing::info!(
            object = %object.name,
            uid = %object.uid,
            fieldPath = object.field_path.as_deref().unwrap_or_default(),
            kind = object.kind,
            apiVersion = "v1",
            r#type = kind.as_str(),
            reason,
            message_ = message,
            "Event occurred"
        );
        let (namespace, name) = object.name.split_once('/').unwrap_or(("", &object.name));
        self.events.take(Event {
            kind: object.kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: object.uid.clone(),
            field_path: object.field_path.clone(),
            type_: kind.as_str().to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
        });
    }
}

impl ControlPlane for Standalone {
    fn desired_pods(&self) -> Option<tokio::sync::watch::Receiver<SourceSet>> {
        None
    }

    fn publish_status(&self, _pod: &Arc<Pod>, _status: &PodStatus) {}

    fn config_map(&self, _namespace: &str, _name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        None
    }

    fn secret(&self, _namespace: &str, _name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        None
    }
}
