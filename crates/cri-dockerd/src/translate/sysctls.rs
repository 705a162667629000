//! A pod's sysctls that name its interface, `net.ipv4.conf.eth0.rp_filter`: they can be set only once it
//! is there. Pure.
//!
//! Source of behaviour: moby `handleSysctlBC` (`daemon/server/router/container`). Up to API 1.47 Docker sees to
//! them itself; requests of newer APIs are refused unless they have them in an option of the endpoint.

use std::collections::BTreeMap;

use crate::network::cni::INTERFACE;

/// The option of an endpoint that holds them.
pub(super) const ENDPOINT_OPTION: &str = "com.docker.network.endpoint.sysctls";

/// The parts of a sysctl `net.X.Y.eth0.Z`.
fn parts(name: &str) -> Option<[&str; 5]> {
    let parts: Vec<&str> = name.split('.').collect();
    let parts: [&str; 5] = parts.try_into().ok()?;
    let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
    let is_plain = |part: &&str| !part.is_empty() && part.bytes().all(plain);
    (parts[0] == "net" && parts[3] == INTERFACE && parts.iter().all(is_plain)).then_some(parts)
}

/// Splits sysctls into those of the pod's interface and all others.
pub(crate) fn split(
    sysctls: BTreeMap<String, String>,
) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    sysctls
        .into_iter()
        .partition(|(name, _)| parts(name).is_some())
}

/// Sysctls of the pod's interface as [`ENDPOINT_OPTION`] has them: Docker knows the interface's name.
pub(super) fn endpoint_option(of_interface: &BTreeMap<String, String>) -> String {
    let all: Vec<String> = of_interface
        .iter()
        .filter_map(|(name, value)| {
            let [net, protocol, kind, _, key] = parts(name)?;
            Some(format!("{net}.{protocol}.{kind}.IFNAME.{key}={value}"))
        })
        .collect();
    all.join(",")
}
