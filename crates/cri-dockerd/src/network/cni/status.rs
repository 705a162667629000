//! STATUS of CNI 1.1: a plugin says whether it could attach a pod now.

use std::sync::Mutex;
use std::time::Duration;

use daemon::ErrorChain;
use tokio::time::Instant;

use super::chain;
use super::config::NetworkList;
use super::plugin::{Call, Plugins, Verb};
use crate::lock::lock;

/// An answer holds for so long: the kubelet asks for the status each five seconds, and each answer
/// is a process per plugin.
const HOLDS: Duration = Duration::from_secs(15);
/// How long a plugin may think about it.
const LIMIT: Duration = Duration::from_secs(5);

/// The last answer.
#[derive(Debug, Default)]
pub(super) struct StatusCache {
    last: Mutex<Option<(Instant, Result<(), String>)>>,
}

impl StatusCache {
    /// The network changed.
    pub(super) fn forget(&self) {
        *lock(&self.last) = None;
    }

    /// The plugins' answer, or the last one. Networks before 1.1 have no such question.
    ///
    /// # Errors
    /// What the first plugin that is not ready says.
    pub(super) async fn ask(&self, plugins: &Plugins, list: &NetworkList) -> Result<(), String> {
        if !list.is_at_least((1, 1, 0)) {
            return Ok(());
        }
        if let Some((at, answer)) = &*lock(&self.last)
            && at.elapsed() < HOLDS
        {
            return answer.clone();
        }
        let answer = ask_all(plugins, list).await;
        *lock(&self.last) = Some((Instant::now(), answer.clone()));
        answer
    }
}

async fn ask_all(plugins: &Plugins, list: &NetworkList) -> Result<(), String> {
    let call = Call {
        verb: Verb::Status,
        container: "",
        netns: "",
        args: &[],
    };
    let deadline = Instant::now() + LIMIT;
    for plugin in &list.plugins {
        let input = chain::stdin(list, plugin, None, &serde_json::Map::new());
        let answer = plugins.run(&plugin.kind, call, &input, deadline).await;
        answer.map_err(|error| {
            let error = ErrorChain(&error);
            format!("plugin type={:?} failed (status): {error}", plugin.kind)
        })?;
    }
    Ok(())
}
