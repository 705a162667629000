//! Choosing the network: the first configuration whose plugins are all there and speak its version
//! (CNI-01, CNI-02).

use std::path::{Path, PathBuf};
use std::time::Duration;

use daemon::ErrorChain;
use futures_util::future::join_all;
use serde::Deserialize;
use tokio::time::Instant;

use super::config::{self, NetworkList};
use super::plugin::{Call, PluginError, Plugins, Verb};

/// How long a plugin may take to tell its versions.
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// The outcome of a look at the directory.
#[derive(Debug)]
pub(super) enum Loaded {
    /// This is the network.
    Network {
        /// The configuration.
        list: Box<NetworkList>,
        /// Its file.
        file: PathBuf,
    },
    /// There is no file.
    Empty(String),
    /// No file can be used; why, for each.
    Unusable(String),
}

/// Looks at the directory. A broken file yields to the next, as upstream has it.
pub(super) async fn load(directory: &Path, plugins: &Plugins) -> Loaded {
    let shown = directory.display();
    let dir = directory.to_owned();
    let files = match daemon::blocking(move || config::files(&dir)).await {
        Ok(files) if files.is_empty() => {
            return Loaded::Empty(format!("no networks found in {shown}"));
        }
        Ok(files) => files,
        Err(error) => return Loaded::Unusable(ErrorChain(&error).to_string()),
    };
    let mut problems = Vec::new();
    for file in files {
        let path = file.clone();
        let problem = match daemon::blocking(move || config::read(&path)).await {
            Err(error) => ErrorChain(&error).to_string(),
            Ok(list) => match validate(&list, plugins).await {
                Ok(()) => {
                    let list = Box::new(list);
                    return Loaded::Network { list, file };
                }
                Err(problem) => problem,
            },
        };
        problems.push(format!("{}: {problem}", file.display()));
    }
    let problems = problems.join("; ");
    Loaded::Unusable(format!("no valid networks found in {shown}: {problems}"))
}

/// Every plugin is installed and knows the list's version.
async fn validate(list: &NetworkList, plugins: &Plugins) -> Result<(), String> {
    let wanted = list.effective_version();
    let checks = list.plugins.iter().map(async |plugin| {
        let versions = versions(&plugin.kind, plugins).await;
        match versions.map_err(|error| ErrorChain(&error).to_string())? {
            Ok(known) if known.iter().any(|version| version == wanted) => Ok(()),
            Ok(_) => Err(format!(
                "plugin {} does not support config version {wanted:?}",
                plugin.kind
            )),
            Err(garbage) => Err(format!("plugin {}: {garbage}", plugin.kind)),
        }
    });
    let problems: Vec<String> = join_all(checks)
        .await
        .into_iter()
        .filter_map(Result::err)
        .collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems.join(", "))
    }
}

/// The versions that a plugin says it knows; the inner error is what is wrong with its answer.
async fn versions(
    kind: &str,
    plugins: &Plugins,
) -> Result<Result<Vec<String>, String>, PluginError> {
    let call = Call {
        verb: Verb::Version,
        container: "",
        netns: "",
        args: &[],
    };
    let deadline = Instant::now() + VERSION_LIMIT;
    let input = br#"{"cniVersion":"1.0.0"}"#;
    match plugins.run(kind, call, input, deadline).await {
        Ok(output) => Ok(decode_versions(&output)),
        // From before the command was invented.
        Err(PluginError::Failed { text, .. }) if text == "unknown CNI_COMMAND: VERSION" => {
            Ok(Ok(vec!["0.1.0".to_owned()]))
        }
        Err(error) => Err(error),
    }
}

fn decode_versions(output: &[u8]) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct Info {
        #[serde(default, rename = "cniVersion")]
        version: String,
        #[serde(default, rename = "supportedVersions")]
        supported: Vec<String>,
    }
    let info: Info = serde_json::from_slice(output)
        .map_err(|error| format!("decoding version info: {error}"))?;
    match (info.version.as_str(), info.supported) {
        ("", _) => Err("decoding version info: missing field cniVersion".to_owned()),
        ("0.2.0", none) if none.is_empty() => Ok(["0.1.0", "0.2.0"].map(str::to_owned).to_vec()),
        (_, none) if none.is_empty() => {
            Err("decoding version info: missing field supportedVersions".to_owned())
        }
        (_, supported) => Ok(supported),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_answers_are_read_as_the_library_reads_them() {
        let read = |text: &str| decode_versions(text.as_bytes());
        let new = read(r#"{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}"#);
        assert_eq!(new.unwrap(), ["0.4.0", "1.0.0"]);
        assert_eq!(
            read(r#"{"cniVersion":"0.2.0"}"#).unwrap(),
            ["0.1.0", "0.2.0"]
        );
        for text in ["", "{}", r#"{"cniVersion":"1.0.0"}"#, "[]"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
