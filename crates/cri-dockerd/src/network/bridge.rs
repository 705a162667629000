//! Docker's default bridge: upstream's no-op plugin (NET-04, NET-05). Docker does the work at start
//! and stop, addresses come with the inspect.

use std::net::IpAddr;

use super::Network;
use crate::state::{Record, SandboxFacts};

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bridge;

impl Network for Bridge {
    fn name(&self) -> &'static str {
        "bridge"
    }

    fn docker_mode(&self) -> &'static str {
        "default"
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    fn addresses(&self, _: &Record, facts: &SandboxFacts) -> Vec<IpAddr> {
        facts.ips.clone()
    }
}
