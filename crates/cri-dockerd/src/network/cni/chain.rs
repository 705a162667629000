//! The plugins of one network, called one after the other (CNI-05..09).

use serde_json::{Map, Value};
use tokio::time::Instant;

use super::config::{NetworkList, PluginConfig};
use super::error::CniError;
use super::plugin::{Call, Plugins, Verb};
use super::result::CniResult;

/// The sandbox that plugins work on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    /// Its id.
    pub(super) container: &'a str,
    /// Path of its network namespace; empty when that is gone.
    pub(super) netns: &'a str,
    /// `CNI_ARGS`.
    pub(super) args: &'a [[String; 2]],
    /// Capability arguments.
    pub(super) capabilities: &'a Map<String, Value>,
}

impl<'a> Target<'a> {
    fn call(&self, verb: Verb) -> Call<'a> {
        Call {
            verb,
            container: self.container,
            netns: self.netns,
            args: self.args,
        }
    }
}

/// What a plugin reads: its configuration, the list's name and version, the result so far, and of
/// the capability arguments those that it declares (CNI-07).
pub(super) fn stdin(
    list: &NetworkList,
    plugin: &PluginConfig,
    previous: Option<&Map<String, Value>>,
    capabilities: &Map<String, Value>,
) -> Vec<u8> {
    let mut config = plugin.raw.clone();
    config.insert("name".to_owned(), list.name.clone().into());
    config.insert("cniVersion".to_owned(), list.version.clone().into());
    if let Some(previous) = previous {
        config.insert("prevResult".to_owned(), previous.clone().into());
    }
    let declared = capabilities.iter();
    let declared: Map<String, Value> = declared
        .filter(|(name, _)| plugin.capabilities.contains(*name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if !declared.is_empty() {
        config.insert("runtimeConfig".to_owned(), declared.into());
    }
    Value::Object(config).to_string().into_bytes()
}

/// Attaches a sandbox; answers the last plugin's result. A failure leaves the rest undone: the
/// caller tears down.
///
/// # Errors
/// The first failure, with the plugin's type.
pub(super) async fn add(
    plugins: &Plugins,
    list: &NetworkList,
    target: Target<'_>,
    deadline: Instant,
) -> Result<CniResult, CniError> {
    let mut result: Option<CniResult> = None;
    for plugin in &list.plugins {
        let previous = result.as_ref().map(CniResult::raw);
        let input = stdin(list, plugin, previous, target.capabilities);
        let call = target.call(Verb::Add);
        let output = plugins.run(&plugin.kind, call, &input, deadline).await;
        let output = output.map_err(|source| CniError::plugin(plugin, "add", source))?;
        let parsed = CniResult::parse(&output, list.effective_version());
        result = Some(parsed.map_err(|source| CniError::Result {
            plugin: plugin.kind.clone(),
            source,
        })?);
    }
    Ok(result.expect("a list has plugins"))
}

/// Detaches a sandbox: every plugin is called, last first, whatever the others say. Differs:
/// upstream stops at the first failure. `cached` is the result of ADD, as far as it is known.
pub(super) async fn delete(
    plugins: &Plugins,
    list: &NetworkList,
    target: Target<'_>,
    cached: Option<&Map<String, Value>>,
    deadline: Instant,
) -> Vec<CniError> {
    let previous = cached
        .filter(|_| list.is_at_least((0, 4, 0)))
        .and_then(|cached| previous_result(list, cached));
    let mut errors = Vec::new();
    for plugin in list.plugins.iter().rev() {
        let input = stdin(list, plugin, previous.as_ref(), target.capabilities);
        let call = target.call(Verb::Del);
        match plugins.run(&plugin.kind, call, &input, deadline).await {
            Ok(_) => {}
            Err(error) if error.says_gone() => {
                tracing::debug!(plugin = plugin.kind, %error, "nothing left to delete");
            }
            Err(source) => errors.push(CniError::plugin(plugin, "delete", source)),
        }
    }
    errors
}

/// The cached result in the list's version. One that can't be had is left out: a DEL without it
/// frees more than none.
fn previous_result(list: &NetworkList, cached: &Map<String, Value>) -> Option<Map<String, Value>> {
    let version = list.effective_version();
    let result = CniResult::from_object(cached.clone(), version);
    result
        .and_then(|result| result.in_version(version))
        .inspect_err(|error| {
            tracing::warn!(network = list.name, %error, "the cached CNI result can't be used");
        })
        .ok()
}
