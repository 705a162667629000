//! CNI is asked for and has no configuration: pods wait (CNI-04, DEC-20).

use std::net::IpAddr;

use super::Network;
use crate::state::{Record, SandboxFacts};

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Unconfigured;

impl Network for Unconfigured {
    fn name(&self) -> &'static str {
        "cni"
    }

    fn docker_mode(&self) -> &'static str {
        "none"
    }

    fn ready(&self) -> Result<(), String> {
        Err("cni config uninitialized".to_owned())
    }

    fn addresses(&self, _: &Record, facts: &SandboxFacts) -> Vec<IpAddr> {
        facts.ips.clone()
    }
}
