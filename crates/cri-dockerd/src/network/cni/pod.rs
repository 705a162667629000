//! The pod that a network is for.

use std::collections::BTreeMap;

use cri_api::v1;

use crate::checkpoint::PortMapping;

/// The pod's interface.
pub(crate) const INTERFACE: &str = "eth0";

/// What plugins are told of a pod.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pod {
    /// The sandbox's id.
    pub(crate) id: String,
    /// The pod's name.
    pub(crate) name: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its uid; empty when unknown.
    pub(crate) uid: String,
    /// Its ports, as far as known.
    pub(crate) ports: Vec<PortMapping>,
    /// Its annotations; for set-up.
    pub(crate) annotations: BTreeMap<String, String>,
    /// Its DNS settings; for set-up.
    pub(crate) dns: Option<v1::DnsConfig>,
    /// Sysctls of its interface; for set-up.
    pub(crate) sysctls: BTreeMap<String, String>,
}
