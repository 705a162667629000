//! What `/proc` and `/sys` tell about the machine and its processes.
//!
//! [`Proc`] reads below a root of its own, so tests give it a temporary directory; the plain
//! functions ask the kernel directly.

mod held;
mod limits;
mod machine;
mod network;
mod process;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use crate::read::ReadError;
pub use held::{Identity, OpenFiles};
pub use limits::{LimitError, raise_open_files, set_oom_score_adj, write_sysctl};
pub use machine::{
    KernelVersion, Meminfo, OsRelease, SwapDevice, hostname, kernel_version, page_bytes,
};
pub use network::InterfaceCounters;
pub use process::{Capabilities, Capability, CgroupMembership, OwnMemory, ProcessStat};

/// Reads `/proc` and `/sys` below a root.
#[derive(Debug, Clone)]
pub struct Proc {
    root: PathBuf,
}

impl Default for Proc {
    fn default() -> Self {
        Self::new()
    }
}

impl Proc {
    /// This machine's.
    pub fn new() -> Self {
        Self::at(Path::new("/"))
    }

    /// Below another root: `proc/...`, `sys/...` and `etc/...` are looked for there.
    pub fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }
}
