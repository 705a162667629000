//! Names of things, as types: a pod's uid is never mistaken for a container's id.

use std::borrow::Borrow;
use std::fmt;

use k8s_openapi::api::core::v1::Pod;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Wraps the text as it is.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The text of the id.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether the id is the empty text, which names nothing.
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id!(
    /// A pod's `metadata.uid`: any text that is a valid path element (SRC-31).
    PodUid
);
text_id!(
    /// A container's name within its pod; init, regular and ephemeral names share one space.
    ContainerName
);
text_id!(
    /// The runtime's id of a pod sandbox.
    SandboxId
);
text_id!(
    /// The runtime's id of a container, without the `docker://` prefix of the API.
    ContainerId
);
text_id!(
    /// The node's name: trimmed and in lower case (PROC-31).
    NodeName
);

impl PodUid {
    /// The pod's own uid; empty when the pod has none yet.
    pub fn of(pod: &Pod) -> Self {
        Self(pod.metadata.uid.clone().unwrap_or_default())
    }
}

/// Namespace and name of a pod. Shown as `namespace/name`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PodKey {
    /// The namespace.
    pub namespace: String,
    /// The pod's name, suffix of the node included.
    pub name: String,
}

impl PodKey {
    /// A key from its two parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The pod's own key; a missing namespace is `default` (SRC-21).
    pub fn of(pod: &Pod) -> Self {
        Self {
            namespace: pod
                .metadata
                .namespace
                .clone()
                .unwrap_or_else(|| "default".to_owned()),
            name: pod.metadata.name.clone().unwrap_or_default(),
        }
    }

    /// `name_namespace`, upstream's full name: static pods that share it run one after the other
    /// (SRC-40).
    pub fn full_name(&self) -> String {
        format!("{}_{}", self.name, self.namespace)
    }
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// `name_namespace(uid)`, as upstream's messages name a pod (CTR-22).
pub fn pod_in_message(pod: &Pod) -> String {
    format!("{}({})", PodKey::of(pod).full_name(), PodUid::of(pod))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pod_is_named_in_messages_as_upstream_does() {
        let mut pod = Pod::default();
        pod.metadata.name = Some("web-node".to_owned());
        pod.metadata.uid = Some("1234".to_owned());
        assert_eq!(pod_in_message(&pod), "web-node_default(1234)");
        assert_eq!(PodKey::of(&pod).to_string(), "default/web-node");
        assert_eq!(PodUid::of(&pod), PodUid::from("1234"));
    }
}
