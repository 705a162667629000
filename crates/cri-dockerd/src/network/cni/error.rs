//! Why a pod's network can't be set up or torn down.

use daemon::ErrorChain;

use super::args::ArgsError;
use super::cache::CacheError;
use super::config::PluginConfig;
use super::plugin::PluginError;
use super::result::ResultError;

/// A pod's network can't be set up or torn down.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CniError {
    /// There is no network now.
    #[error("{0}")]
    NotReady(String),
    /// A plugin failed.
    #[error("plugin type={kind:?}{name} failed ({action})")]
    Plugin {
        /// Its type.
        kind: String,
        /// Its name in the list, if it has one, after a blank.
        name: String,
        /// `add` or `delete`.
        action: &'static str,
        /// What happened.
        #[source]
        source: Box<PluginError>,
    },
    /// A plugin answered what is no result.
    #[error("plugin type={plugin:?} failed (add)")]
    Result {
        /// Its type.
        plugin: String,
        /// What is wrong with the answer.
        #[source]
        source: ResultError,
    },
    /// The pod asks for what can't be passed on.
    #[error(transparent)]
    Args(#[from] ArgsError),
    /// The result can't be kept, so a teardown could not be told.
    #[error("failed to set network {network:?} cached result")]
    Cache {
        /// The network.
        network: String,
        /// Why.
        #[source]
        source: CacheError,
    },
    /// A sysctl of the pod's interface can't be set.
    #[error("set sysctl {name}")]
    Sysctl {
        /// Its name.
        name: String,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// The pod's network namespace can't be worked in.
    #[error(transparent)]
    Namespace(node_os::netns::NetNsError),
    /// Several of them.
    #[error("[{}]", .0.iter().map(|e| ErrorChain(e).to_string()).collect::<Vec<_>>().join(", "))]
    Several(Vec<CniError>),
}

impl CniError {
    pub(super) fn plugin(plugin: &PluginConfig, action: &'static str, source: PluginError) -> Self {
        let name = match plugin.name.as_str() {
            "" => String::new(),
            name => format!(" name={name:?}"),
        };
        Self::Plugin {
            kind: plugin.kind.clone(),
            name,
            action,
            source: Box::new(source),
        }
    }

    pub(super) fn several(mut errors: Vec<Self>) -> Result<(), Self> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Several(errors)),
        }
    }

    /// The plugin is not installed.
    pub(super) fn lacks_plugin(&self) -> bool {
        matches!(self, Self::Plugin { source, .. } if matches!(**source, PluginError::NotFound { .. }))
    }
}
