//! Whether the container runtime is ready, asked as the kubelet asks it: by `Status` on its CRI socket.

use std::time::Duration;

use cri_api::{Endpoint, v1};
use daemon::ErrorChain;

/// The answer comes from memory; a runtime that takes longer is told as such.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The row of the screen: what it says of itself.
///
/// Blocks for at most [`TIMEOUT`].
pub(super) fn ask(endpoint: &str) -> String {
    let answer = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
        .and_then(|runtime| {
            let asked = async { tokio::time::timeout(TIMEOUT, status(endpoint)).await };
            match runtime.block_on(asked) {
                Ok(answer) => answer,
                Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
            }
        });
    match answer {
        Ok(conditions) => verdict(&conditions),
        Err(why) => format!("NOT reached: {why}"),
    }
}

async fn status(endpoint: &str) -> Result<Vec<v1::RuntimeCondition>, String> {
    let endpoint = Endpoint::parse(endpoint).map_err(|error| error.to_string())?;
    let channel = cri_api::connect(&endpoint).await;
    let channel = channel.map_err(|error| ErrorChain(&error).to_string())?;
    let mut client = v1::runtime_service_client::RuntimeServiceClient::new(channel);
    let answer = client.status(v1::StatusRequest { verbose: false }).await;
    let answer = answer.map_err(|status| status.message().to_owned())?;
    let status = answer.into_inner().status.unwrap_or_default();
    Ok(status.conditions)
}

/// What the two conditions that the kubelet looks at add up to (kubelet LIFE-05).
fn verdict(conditions: &[v1::RuntimeCondition]) -> String {
    for (kind, subject) in [("RuntimeReady", ""), ("NetworkReady", "network ")] {
        match conditions.iter().find(|found| found.r#type == kind) {
            Some(condition) if condition.status => {}
            Some(condition) => return format!("{subject}NOT ready: {}", condition.message),
            None => return format!("{subject}NOT ready: it does not say {kind}"),
        }
    }
    "ready".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(kind: &str, status: bool, message: &str) -> v1::RuntimeCondition {
        v1::RuntimeCondition {
            r#type: kind.to_owned(),
            status,
            message: message.to_owned(),
            ..v1::RuntimeCondition::default()
        }
    }

    #[test]
    fn a_runtime_is_ready_when_both_conditions_hold() {
        let good = [
            condition("RuntimeReady", true, ""),
            condition("NetworkReady", true, ""),
        ];
        assert_eq!(verdict(&good), "ready");
        let away = [
            condition("RuntimeReady", false, "docker is down"),
            condition("NetworkReady", false, "no network"),
        ];
        assert_eq!(verdict(&away), "NOT ready: docker is down");
        let alone = [
            condition("RuntimeReady", true, ""),
            condition("NetworkReady", false, "cni config uninitialized"),
        ];
        assert_eq!(
            verdict(&alone),
            "network NOT ready: cni config uninitialized"
        );
        assert!(verdict(&[]).starts_with("NOT ready"));
    }

    #[test]
    fn a_runtime_that_does_not_listen_is_told_with_the_reason() {
        let text = ask("unix:///nonexistent/cri.sock");
        assert!(text.starts_with("NOT reached: connect to unix:///nonexistent/cri.sock"));
        assert!(text.contains("no such file or directory"), "{text}");
        assert!(ask("tcp://1.2.3.4:1").contains("only unix is supported"));
    }
}
