//! The CNI networks that sandboxes are on, for a tool that takes a stopped node away: what the cached
//! results say, and their teardown (CNI-10). No daemon is needed for it.

use std::io;

use daemon::{ErrorChain, pflag::Parsed};

use crate::cli;
use crate::network::cni::{Cni, CniSettings, Pod};
use crate::network::namespace_of_sandbox;

/// See the module. Blocks: it brings its own runtime.
#[derive(Debug)]
pub struct Attachments {
    cni: Cni,
    runtime: tokio::runtime::Runtime,
}

/// A sandbox that was given a network, which nobody has taken back yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The sandbox's id.
    pub id: String,
    /// `namespace/name` of its pod, as far as known.
    pub pod: String,
    /// The id of the Docker Engine that it was on; empty when upstream's cri-dockerd made it.
    pub engine: String,
}

impl Attachments {
    /// By [`crate::CNI_BIN_DIR`] and [`crate::CNI_CACHE_DIR`]; nothing is looked at yet.
    ///
    /// # Errors
    /// Without threads.
    pub fn of(flags: &Parsed) -> io::Result<Self> {
        let settings = CniSettings {
            bin_dirs: cli::directories(flags.text(cli::CNI_BIN_DIR.name)),
            cache_dir: flags.text(cli::CNI_CACHE_DIR.name).into(),
            environment: std::env::vars_os().collect(),
            ..CniSettings::default()
        };
        Ok(Self {
            cni: Cni::new(settings),
            runtime: daemon::runtime(1, "cni")?,
        })
    }

    /// All that the cache knows. What can't be read is left out.
    pub fn list(&self) -> Vec<Attachment> {
        let remains = self.runtime.block_on(self.cni.remains());
        let attachments = remains.into_iter().map(|remains| Attachment {
            pod: format!("{}/{}", remains.namespace, remains.name),
            id: remains.id,
            engine: remains.engine,
        });
        attachments.collect()
    }

    /// Takes a sandbox off its networks. `pid` is that of its process while it runs, so that plugins
    /// see its namespace. Repeating it is fine.
    ///
    /// # Errors
    /// What the plugins said; the cache keeps the sandbox then.
    pub fn detach(&self, id: &str, pid: Option<i64>) -> Result<(), String> {
        let namespace = pid.and_then(|pid| namespace_of_sandbox(pid, id));
        let pod = Pod {
            id: id.to_owned(),
            ..Pod::default()
        };
        let path = namespace.unwrap_or_default();
        let path = path.to_string_lossy();
        let done = self.runtime.block_on(self.cni.tear_down(&pod, &path));
        done.map_err(|error| ErrorChain(&error).to_string())
    }
}
