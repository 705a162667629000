//! Pod networks.

mod bridge;
mod unconfigured;

use std::fmt::Debug;
use std::net::IpAddr;

use crate::state::{Record, SandboxFacts};

pub(crate) use bridge::Bridge;
pub(crate) use unconfigured::Unconfigured;

/// A way to give a pod its network. Calls are made for pods that don't use the host's.
pub(crate) trait Network: Debug + Send + Sync {
    /// The name that is recorded on sandboxes (DEC-20).
    fn name(&self) -> &'static str;

    /// Docker network mode of the sandbox (SBX-07).
    fn docker_mode(&self) -> &'static str;

    /// Why no pod can get a network now; the text of the NetworkReady condition (RTC-02).
    ///
    /// # Errors
    /// The reason.
    fn ready(&self) -> Result<(), String>;

    /// The pod's addresses, IPv4 first, from memory (PRF-24).
    fn addresses(&self, sandbox: &Record, facts: &SandboxFacts) -> Vec<IpAddr>;
}
