//! The part of a checkpoint that its checksum covers.

use serde::{Deserialize, Serialize};

/// One port mapping of a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PortMapping {
    /// `tcp`, `udp` or `sctp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) protocol: Option<String>,
    /// Port in the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) container_port: Option<i32>,
    /// Port on the node; 0 for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host_port: Option<i32>,
    /// Address on the node; empty for all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) host_ip: String,
}

impl From<&cri_api::v1::PortMapping> for PortMapping {
    fn from(mapping: &cri_api::v1::PortMapping) -> Self {
        use cri_api::v1::Protocol;
        let protocol = match Protocol::try_from(mapping.protocol) {
            Ok(Protocol::Udp) => "udp",
            Ok(Protocol::Sctp) => "sctp",
            // Unknown protocols become TCP, as upstream does (CKP-05).
            Ok(Protocol::Tcp) | Err(_) => "tcp",
        };
        Self {
            protocol: Some(protocol.to_owned()),
            container_port: Some(mapping.container_port),
            host_port: Some(mapping.host_port),
            host_ip: mapping.host_ip.clone(),
        }
    }
}

/// The part that the checksum covers; a type of its own because it is an object of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Data {
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "crate::engine::model::null_default"
    )]
    pub(super) port_mappings: Vec<PortMapping>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) host_network: bool,
}
