//! Events of pods and of the node: what they say and who takes them.

pub(crate) mod keeper;

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

/// Whether an event is news or a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventType {
    /// Something happened as it should.
    Normal,
    /// Something an operator may want to look at.
    Warning,
}

impl EventType {
    /// The API's word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// What an event is about.
#[derive(Debug, Clone)]
pub(crate) struct ObjectRef {
    /// `Pod` or `Node`.
    pub(crate) kind: &'static str,
    /// Namespace/name, or the node's name.
    pub(crate) name: String,
    /// The object's uid.
    pub(crate) uid: String,
    /// `spec.containers{name}` where one container is meant.
    pub(crate) field_path: Option<String>,
}

impl ObjectRef {
    /// The pod itself.
    pub(crate) fn pod(pod: &Pod) -> Self {
        Self {
            kind: "Pod",
            name: format!(
                "{}/{}",
                pod.metadata.namespace.as_deref().unwrap_or_default(),
                pod.metadata.name.as_deref().unwrap_or_default()
            ),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            field_path: None,
        }
    }

    /// A container of the pod (`fieldPath`). Of a pod that only the runtime knows all are regular ones,
    /// as for upstream (SRC-44).
    pub(crate) fn container(pod: &Pod, container: &str) -> Self {
        let init = pod
            .spec
            .iter()
            .flat_map(|spec| spec.init_containers.iter().flatten())
            .any(|init| init.name == container);
        let list = if init { "initContainers" } else { "containers" };
        Self {
            field_path: Some(format!("spec.{list}{{{container}}}")),
            ..Self::pod(pod)
        }
    }

    /// The node.
    pub(crate) fn node(name: &str) -> Self {
        Self {
            kind: "Node",
            name: name.to_owned(),
            uid: name.to_owned(),
            field_path: None,
        }
    }
}

/// Where events go (DEC-03: the control plane decides).
pub(crate) trait EventSink: std::fmt::Debug + Send + Sync {
    /// Takes one event. Never blocks.
    fn record(&self, object: &ObjectRef, kind: EventType, reason: &str, message: &str);
}

/// The sink that every part is handed.
pub(crate) type Events = Arc<dyn EventSink>;
